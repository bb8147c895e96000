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
})();
