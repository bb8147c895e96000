// Ticks of a preview are kept at once, one after the other; what else could be approved by then is fetched with the answer.
(() => {
    const form = document.querySelector("[data-ticking]");
    const bar = document.getElementById("pv-approve");
    if (!form || !bar) return;
    form.querySelectorAll("[data-without-script]").forEach((part) => { part.hidden = true; });
    const refused = form.querySelector(".pv-refused");
    let queue = Promise.resolve();

    const told = (message) => {
        refused.textContent = message;
        refused.hidden = !message;
        if (message) refused.scrollIntoView({ block: "nearest" });
    };

    // The answer is the part with the button, made anew; all forms carry on what it says that was seen.
    const renew = (text) => {
        const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("pv-approve");
        const warned = () => bar.querySelector(".pv-guard")?.textContent;
        const before = warned();
        const meant = bar.querySelector("[name=accept_guard]")?.checked;
        bar.replaceChildren(...fresh.childNodes);
        const box = bar.querySelector("[name=accept_guard]");
        if (box && meant && warned() === before) box.checked = true; // it was meant of these very sentences
        document.querySelectorAll("input[name=seen]").forEach((field) => { field.value = fresh.dataset.seen; });
    };

    const show = (one, on) => {
        const removal = one.classList.contains("pv-removal");
        one.classList.toggle("pv-off", !on && !removal);
        one.querySelectorAll("input[name=field]").forEach((box) => { box.disabled = !on; });
        const badge = one.querySelector(".pv-state .sl-badge");
        if (!badge) return;
        badge.textContent = on ? "Proposed" : removal ? "Not ticked" : "Left out";
        badge.title = on ? "It would be written." : removal ? "A removal is written only where a person ticks it." : "It is left out of this run.";
        badge.classList.toggle("sl-warn", on);
        badge.classList.toggle("sl-calm", !on);
    };

    const send = async (box, one) => {
        const body = new FormData();
        for (const name of ["csrfmiddlewaretoken", "seen"]) body.set(name, form.querySelector(`[name=${name}]`).value);
        body.set("change", one.dataset.change);
        body.set("decision", box.checked ? "tick" : "untick");
        if (box.dataset.field) body.set("field", box.dataset.field);
        bar.classList.add("pv-asking");
        try {
            const answer = await fetch(form.action, { method: "POST", body, credentials: "same-origin", headers: { "X-Requested-With": "XMLHttpRequest" } });
            const text = await answer.text();
            if (answer.ok && !answer.redirected) {
                told("");
                renew(text);
                if (box.dataset.field) {
                    box.closest("tr").classList.toggle("pv-out", !box.checked);
                    // Without its last field a record is left out as a whole.
                    const boxes = [...one.querySelectorAll("input[name=field]")];
                    if (!one.querySelector(".pv-diff input:checked") && boxes.length) {
                        one.querySelector("input[name=change]").checked = false;
                        boxes.forEach((each) => { each.checked = true; each.closest("tr").classList.remove("pv-out"); });
                        show(one, false);
                    }
                } else show(one, box.checked);
                return;
            }
            box.checked = !box.checked;
            told(answer.status === 409 ? JSON.parse(text).message : `The hub did not keep the tick (${answer.status}). Load the page again.`);
        } catch {
            box.checked = !box.checked;
            told("The hub can't be reached, so the tick was not kept.");
        } finally {
            bar.classList.remove("pv-asking");
        }
    };

    form.addEventListener("change", (event) => {
        const box = event.target;
        if (!["change", "field"].includes(box.name)) return;
        queue = queue.then(() => send(box, box.closest("[data-change]")));
    });
    // Nobody approves while a tick is on its way.
    document.addEventListener("submit", (event) => {
        if (!bar.contains(event.target) || !bar.classList.contains("pv-asking")) return;
        event.preventDefault();
        queue.then(() => bar.querySelector("form")?.requestSubmit());
    });
})();
