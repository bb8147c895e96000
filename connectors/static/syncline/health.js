// The test of a connection shows each step as it ends, and texts can be copied.
(() => {
    // <form data-steps="list"> posts one step after another and fills the list's lines with the answers; it stops at a failure.
    document.addEventListener("submit", async (event) => {
        const form = event.target;
        const list = form.dataset.steps && document.getElementById(form.dataset.steps);
        if (!list) return;
        event.preventDefault();
        const button = form.querySelector("button");
        if (button.disabled) return;
        button.disabled = true;
        const lines = [...list.querySelectorAll("[data-step]")];
        for (const line of lines) {
            line.querySelector(".sl-step-word").textContent = "";
            for (const old of line.querySelectorAll(".sl-quiet, .sl-errors")) old.remove();
        }
        for (const line of lines) {
            line.querySelector(".sl-step-word").textContent = "…";
            const asked = new FormData(form);
            asked.set("step", line.dataset.step);
            try {
                const answer = await fetch(form.action, { method: "POST", body: asked, credentials: "same-origin" });
                if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
                const found = new DOMParser().parseFromString(await answer.text(), "text/html");
                line.replaceChildren(...found.body.childNodes);
            } catch {
                form.removeAttribute("data-steps");
                form.submit(); // the hub shows its own answer: a new login, or what went wrong
                return;
            }
            if (line.querySelector(".sl-errors")) break;
        }
        button.disabled = false;
    });

    // <button data-copy="id"> copies the text of that element.
    document.addEventListener("click", async (event) => {
        const button = event.target.closest("[data-copy]");
        if (!button) return;
        const text = document.getElementById(button.dataset.copy).textContent;
        const word = button.textContent;
        try {
            await navigator.clipboard.writeText(text);
            button.textContent = "Copied";
        } catch {
            window.getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
            button.textContent = "Selected: press Ctrl+C";
        }
        setTimeout(() => { button.textContent = word; }, 2000);
    });
})();
