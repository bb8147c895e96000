// The page "Service scheduling": says what the times in the form mean while somebody edits them.  All words come from the hub.
(() => {
    const form = document.getElementById("schedules");
    if (!form) return;
    const empty = document.getElementById("sched-window");
    const asked = new Map(); // card -> what stops its last question
    let unsaved = form.querySelector(".sched-unsaved") !== null;

    const look = async (card) => {
        asked.get(card)?.abort();
        const control = new AbortController();
        asked.set(card, control);
        const place = card.querySelector(".sched-outlook");
        try {
            const answer = await fetch(card.dataset.preview, { method: "POST", body: new FormData(form), signal: control.signal });
            if (!answer.ok) throw new Error(String(answer.status));
            place.innerHTML = (await answer.json()).html; // rendered and escaped by the hub
        } catch (error) {
            if (error.name === "AbortError") return;
            place.textContent = "What these times mean can't be shown at present: the hub does not answer. Save still judges them.";
        }
    };

    const waits = new Map();
    const edited = (card) => {
        unsaved = true;
        card.classList.add("sched-unsaved");
        clearTimeout(waits.get(card));
        waits.set(card, setTimeout(look, 200, card));
    };

    form.addEventListener("input", (event) => {
        if (event.target.closest(".sched-times")) edited(event.target.closest(".sched-card"));
    });

    form.addEventListener("click", (event) => {
        if (!event.target.matches(".sched-add")) return;
        const card = event.target.closest(".sched-card");
        const total = card.querySelector("input[name$='-TOTAL_FORMS']");
        const holder = document.createElement("div");
        holder.innerHTML = empty.innerHTML.replaceAll("__form__-__prefix__", `${card.id}-${total.value}`);
        card.querySelector(".sched-windows").append(...holder.children);
        total.value = Number(total.value) + 1;
        edited(card);
    });

    let sent = -Infinity;
    form.addEventListener("submit", (event) => {
        // The second half of a double click would show the answer to a save of what has just been saved.
        if (event.timeStamp - sent < 1500) {
            event.preventDefault();
            return;
        }
        sent = event.timeStamp;
        if (!event.submitter?.hasAttribute("formaction")) unsaved = false; // this saves
    });
    window.addEventListener("beforeunload", (event) => {
        if (unsaved) event.preventDefault();
    });
})();
