// The page of an entity sync's settings: lines are added without a reload, a value is asked for only where one is compared,
// and the effect that was shown comes into view.
(() => {
    const NO_VALUE = ["filled", "empty", "zero"];
    const value = (line) => {
        const op = line.querySelector('select[name$="-op"]');
        const field = line.querySelector('input[name$="-value"]');
        if (op && field) field.disabled = NO_VALUE.includes(op.value);
    };
    for (const box of document.querySelectorAll("[data-lines]")) {
        const total = box.querySelector('input[name$="-TOTAL_FORMS"]');
        const most = Number(box.querySelector('input[name$="-MAX_NUM_FORMS"]').value);
        const add = box.querySelector("[data-add]");
        if (add) {
            add.hidden = false;
            add.addEventListener("click", () => {
                const number = Number(total.value);
                if (number >= most) return;
                const copy = box.querySelector("template").content.cloneNode(true);
                for (const one of copy.querySelectorAll("*")) {
                    for (const name of ["name", "id", "for"]) {
                        if (one.hasAttribute(name)) one.setAttribute(name, one.getAttribute(name).replace("__prefix__", number));
                    }
                }
                add.parentElement.before(copy);
                total.value = number + 1;
                const lines = box.querySelectorAll("[data-line]");
                lines[lines.length - 1].querySelector("select").focus();
            });
        }
        box.addEventListener("change", (event) => {
            const line = event.target.closest("[data-line]");
            if (line) value(line);
        });
        for (const line of box.querySelectorAll("[data-line]")) {
            value(line);
            // Without scripts there is one empty line to fill in; with them the button makes one where it is wanted.
            const empty = [...line.querySelectorAll("select, input[type=text]")].every((one) => !one.value);
            line.hidden = Boolean(add) && empty && !line.querySelector(".sl-errors");
        }
    }
    const effect = document.getElementById("effect");
    if (effect) effect.focus({ preventScroll: false });
})();
