// The theme's controls that are only a picture, or stand in a table, get words for those who can't see where they are.
(() => {
    const PICTURES = { add: "Add", close: "Close", delete: "Remove", edit: "Edit", more_horiz: "More", search: "Search", visibility: "Look at it" };
    const name = (element, words) => {
        const labelled = [...(element.labels || [])].some((label) => label.textContent.trim());
        if (words && !labelled && !element.title && !element.hasAttribute("aria-label")) element.setAttribute("aria-label", words);
    };
    const nameAll = () => {
        for (const control of document.querySelectorAll("a[href], button")) {
            const picture = control.querySelector(".material-symbols-outlined")?.textContent.trim();
            if (picture && control.textContent.trim() === picture) name(control, PICTURES[picture] || picture.replaceAll("_", " "));
        }
        const search = document.getElementById("searchbar");
        if (search) name(search, search.placeholder || "Search");
        for (const cell of document.querySelectorAll("td[data-label]")) { // a column's title is the name of its fields
            for (const field of cell.querySelectorAll("input:not([type=hidden]), select, textarea")) name(field, cell.dataset.label);
        }
        for (const [kind, words] of [[".selector-filter input", "Narrow the list"], [".vDateField", "Date"], [".vTimeField", "Time"]]) {
            document.querySelectorAll(kind).forEach((field) => name(field, words));
        }
        // A title that does not fit says all of it when it is pointed at.
        for (const part of document.querySelectorAll("h1.text-important > *")) part.title ||= part.textContent.trim();
    };
    document.addEventListener("DOMContentLoaded", nameAll);
    window.addEventListener("load", () => setTimeout(nameAll)); // again: some are made by scripts
})();
