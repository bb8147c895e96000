// What pages of ours do in the browser besides the theme: no page has a script of its own inside, the content policy forbids it.
(() => {
    if (window.htmx) window.htmx.config.includeIndicatorStyles = false; // it would write a style element into the page

    // <form data-confirm="..."> asks before it is sent.
    document.addEventListener("submit", (event) => {
        const question = event.target.dataset.confirm;
        if (question && !window.confirm(question)) event.preventDefault();
    }, true);

    // <input type="checkbox" data-ticks="name"> ticks all boxes of that name in its table.
    document.addEventListener("change", (event) => {
        const name = event.target.dataset?.ticks;
        if (!name) return;
        for (const box of event.target.closest("table").querySelectorAll(`input[name="${name}"]`)) box.checked = event.target.checked;
    });

    // A second click does nothing: the buttons of a form that was sent wait for the answer.  What is no page (a file to keep)
    // leaves this one as it is, so they come back after a while, and when somebody goes back to the page.
    const WAIT = 8000;
    const buttons = (form) => [...form.elements].filter((one) => one.type === "submit");
    const release = (form) => {
        delete form.dataset.sent;
        for (const one of buttons(form)) {
            if (one.dataset.held) one.disabled = false;
            delete one.dataset.held;
        }
    };
    document.addEventListener("submit", (event) => {
        const form = event.target;
        const method = event.submitter?.formMethod || form.getAttribute("method") || "get"; // form.method may be a field of that name
        if (event.defaultPrevented || method.toLowerCase() !== "post") return;
        if (form.dataset.sent) {
            event.preventDefault();
            return;
        }
        form.dataset.sent = "1";
        setTimeout(() => { // not at once: a disabled button would not be sent along
            for (const one of buttons(form)) {
                if (one.disabled) continue;
                one.disabled = true;
                one.dataset.held = "1";
            }
        });
        setTimeout(() => release(form), WAIT);
    });
    window.addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach(release));

    // On a narrow screen a row of a table is a card (admin.css): each of its cells says which column it is.
    const label = (table) => {
        const titles = [...table.querySelectorAll(":scope > thead th")].map((title) => title.textContent.trim());
        for (const row of table.querySelectorAll(":scope > :is(tbody, tfoot) > tr")) {
            let column = 0;
            for (const cell of row.cells) {
                if (cell.tagName === "TD" && cell.colSpan === 1 && titles[column]) cell.dataset.column = titles[column];
                column += cell.colSpan;
            }
        }
    };
    const labels = () => document.querySelectorAll(".sl-stack").forEach(label);
    document.addEventListener("DOMContentLoaded", () => {
        labels();
        new MutationObserver(labels).observe(document.body, { childList: true, subtree: true }); // parts that live.js fills anew
    });
})();
