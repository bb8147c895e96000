// <input type="checkbox" data-ticks-page="name"> ticks all boxes of that name on the page, also those outside its form.
// <button data-copy="/address/"> copies what that address answers.
(() => {
    document.addEventListener("change", (event) => {
        const name = event.target.dataset?.ticksPage;
        if (!name) return;
        for (const box of document.querySelectorAll(`input[type=checkbox][name="${name}"]`)) box.checked = event.target.checked;
    });

    document.addEventListener("click", async (event) => {
        const button = event.target.closest?.("[data-copy]");
        if (!button) return;
        const usual = button.textContent;
        try {
            const answer = await fetch(button.dataset.copy, { credentials: "same-origin" });
            if (!answer.ok) throw new Error(String(answer.status));
            await navigator.clipboard.writeText(await answer.text());
            button.textContent = "Copied";
        } catch {
            button.textContent = "Not copied: download it instead";
        }
        setTimeout(() => { button.textContent = usual; }, 4000);
    });
})();
