// The mappings editor: lists of fields by the schema, rows that come, go and move, and the test with a record while one types.
(() => {
    const told = (id) => JSON.parse(document.getElementById(id)?.textContent || "{}");
    const form = document.getElementById("sl-mappings");

    // Pairs of options: a row more, a row less.
    document.addEventListener("click", (event) => {
        const table = event.target.closest("form")?.querySelector(".sl-pairs tbody");
        if (!table) return;
        if (event.target.matches("[data-drop]")) {
            const row = event.target.closest("tr");
            if (table.querySelectorAll("[data-blank]").length === 1 && row.matches("[data-blank]")) {
                for (const field of row.querySelectorAll("select, input")) field.value = "";
            } else row.remove();
        } else if (event.target.matches("[data-more]")) {
            const row = table.querySelector("[data-blank]").cloneNode(true);
            for (const field of row.querySelectorAll("select, input")) field.value = "";
            table.append(row);
            row.querySelector("select, input").focus();
        }
    });
    if (!form) return;

    const fields = told("sl-fields");
    const apart = told("sl-pairings"); // kind -> kinds that don't fit it, with the reason
    const list = form.querySelector("[data-rows]");
    const rows = () => [...list.querySelectorAll("[data-row]")];
    const standing = () => rows().filter((row) => !row.classList.contains("sl-map-gone"));
    const part = (row, name) => row.querySelector(`[name$="-${name}"]`);
    const field = (side, name) => (fields[side] || []).find((one) => one.name === name);
    const writable = (one, to) => !one || !(one.write === "never" && to);

    // Why a field can't stand beside another one; "" when it can.
    const unfit = (one, other, transform) => {
        if (!one || !other) return "";
        if (one.kind === "~archived" || other.kind === "~archived") return one.kind === other.kind ? "" : "“Inactive” agrees with “Inactive” only.";
        if (transform) return "";
        if (!writable(one, true) && !writable(other, true)) return "Neither of the two can be written.";
        return (apart[one.kind] || {})[other.kind] || "";
    };

    const option = (value, text) => {
        const made = document.createElement("option");
        made.value = value;
        made.textContent = text;
        return made;
    };

    // Fill the list of one side: what does not fit the other side's field is grey and says why.
    const fill = (row, side) => {
        const select = part(row, side);
        if (!select || !fields[side]?.length) return;
        const chosen = select.value;
        const shown = select.selectedOptions[0]?.textContent || chosen;
        const other = field(side === "left" ? "right" : "left", part(row, side === "left" ? "right" : "left").value);
        const transform = part(row, "transform").value;
        const made = [option("", "– none –")];
        if (chosen && !field(side, chosen)) made.push(option(chosen, `${shown} (missing)`));
        for (const one of fields[side]) {
            const why = one.name === chosen ? "" : unfit(one, other, transform);
            const entry = option(one.name, `${one.label}${one.label === one.name ? "" : ` (${one.name})`}${one.new ? " – new" : ""}${why ? ` – ${why}` : ""}`);
            entry.disabled = Boolean(why);
            entry.title = why || one.type;
            made.push(entry);
        }
        select.replaceChildren(...made);
        select.value = chosen;
        row.querySelector(`[data-type="${side}"]`).textContent = field(side, chosen)?.type || "";
    };
    const fillBoth = (row) => ["left", "right"].forEach((side) => fill(row, side));

    const number = () => standing().forEach((row, place) => { part(row, "position").value = place; });

    // Before anybody leaves with something that is not saved.
    let dirty = form.hasAttribute("data-unsaved"), sent = false;
    window.addEventListener("beforeunload", (event) => { if (dirty && !sent) event.preventDefault(); });
    form.addEventListener("submit", () => { sent = true; number(); });

    // Test with a record
    const state = form.querySelector("[data-test-state]");
    const say = (text) => { if (state) state.textContent = text; };
    let timer = 0, asked = 0, asking = new AbortController();
    const answer = async () => {
        const mine = ++asked;
        asking.abort(); // what was asked before is answered by this
        asking = new AbortController();
        if (sent) return;
        number();
        const record = form.querySelector("[data-record]")?.value;
        if (record) say("Testing …");
        try {
            const got = await fetch(form.dataset.try, { method: "POST", body: new FormData(form), credentials: "same-origin", signal: asking.signal, headers: { "X-Requested-With": "XMLHttpRequest" } });
            if (!got.ok || got.redirected) throw new Error(String(got.status));
            const page = new DOMParser().parseFromString(await got.text(), "text/html");
            if (mine !== asked) return; // a younger question is under way
            const whole = page.querySelector("[data-answer]");
            for (const row of standing()) {
                const id = part(row, "left").name.split("-")[1];
                const one = page.querySelector(`[data-number="${id}"]`);
                if (!one) continue;
                row.querySelector("[data-badge]").replaceChildren(...one.querySelector("[data-badge]").childNodes);
                const tried = [...one.querySelector("[data-tried]").children];
                row.querySelector("[data-tried]").replaceChildren(...tried);
            }
            say(whole.dataset.error || (whole.dataset.record ? "Tested; nothing is saved." : ""));
        } catch (error) {
            if (mine === asked) say(`The test could not be made (${error.message}).`);
        }
    };
    const soon = (wait = 350) => { clearTimeout(timer); timer = setTimeout(answer, wait); };

    const find = form.querySelector("[data-find]");
    let finding = 0;
    find?.addEventListener("input", (event) => {
        event.stopPropagation();
        clearTimeout(finding);
        finding = setTimeout(async () => {
            const got = await fetch(`${form.dataset.records}?q=${encodeURIComponent(find.value)}`, { credentials: "same-origin" });
            if (!got.ok || got.redirected) return;
            const page = new DOMParser().parseFromString(await got.text(), "text/html");
            const record = form.querySelector("[data-record]");
            record.replaceChildren(...page.querySelector("select").children);
            const found = record.options.length - 1;
            say(found ? `${found} found.` : "No record found.");
            if (found && find.value) { record.selectedIndex = 1; soon(0); }
        }, 300);
    });
    find?.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });

    form.addEventListener("change", (event) => {
        const row = event.target.closest("[data-row]");
        if (row) {
            dirty = true;
            if (event.target.matches("[data-side], [name$='-transform']")) fillBoth(row);
        }
        if (row || event.target.matches("[data-record]")) soon(0);
    });
    form.addEventListener("input", (event) => {
        if (event.target.closest("[data-row]") && event.target.matches("input[type=text]")) { dirty = true; soon(); }
    });
    form.addEventListener("keydown", (event) => {
        // Enter in a field tests; only the buttons send the form.
        if (event.key === "Enter" && event.target.matches("[data-row] input[type=text]")) { event.preventDefault(); soon(0); }
    });

    form.addEventListener("click", (event) => {
        const button = event.target.closest("button");
        const row = event.target.closest("[data-row]");
        if (!button) return;
        if (button.matches("[data-remove]")) {
            if (part(row, "id").value) {
                part(row, "removed").value = "1";
                row.classList.add("sl-map-gone");
            } else row.remove();
            dirty = true;
            soon(0);
        } else if (button.matches("[data-move]")) {
            const all = standing(), to = all[all.indexOf(row) + Number(button.dataset.move)];
            if (!to) return;
            if (button.dataset.move === "1") to.after(row);
            else to.before(row);
            dirty = true;
            number();
            button.focus();
        } else if (button.matches("[data-add]")) {
            add(button.dataset.left || "", button.dataset.right || "");
        }
    });

    const add = (left, right) => {
        const made = document.getElementById("sl-blank").content.firstElementChild.cloneNode(true);
        const next = 1 + Math.max(-1, ...rows().map((row) => Number(part(row, "left").name.split("-")[1])));
        for (const each of made.querySelectorAll("[name], [id], [for]")) {
            for (const name of ["name", "id", "for"]) {
                if (each.hasAttribute(name)) each.setAttribute(name, each.getAttribute(name).replace("rows-0-", `rows-${next}-`));
            }
        }
        list.append(made);
        fillBoth(made);
        if (left) part(made, "left").value = left;
        if (right) part(made, "right").value = right;
        fillBoth(made);
        number();
        dirty = true;
        part(made, left ? "right" : "left").focus();
        soon(0);
    };

    rows().forEach(fillBoth);
    number();
})();
