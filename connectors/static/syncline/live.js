// Parts of a page that keep themselves fresh without a reload.
//
// <div id="x" data-live="/address/" data-every="10">   is filled anew from that address each 10 seconds.
// <div id="x" data-live="" data-every="2">             is taken from the page itself, until it comes without data-live.
// <span hidden data-live-of="#list" data-every="10">   keeps another element fresh so, until this mark is gone.
//
// Nothing is asked while the tab is hidden or the page's "Live" box is off, and nothing is replaced under a person's hands.
(() => {
    const MOST = 120; // seconds between two tries of a hub that does not answer
    const KEPT = "syncline-live"; // "off" in the browser's storage: the person does not want it

    const edited = (field) => {
        if (field.type === "hidden") return false;
        if (field.tagName === "SELECT") {
            const usual = Math.max(0, [...field.options].findIndex((option) => option.defaultSelected));
            return field.selectedIndex !== usual;
        }
        return ["checkbox", "radio"].includes(field.type) ? field.checked !== field.defaultChecked : field.value !== field.defaultValue;
    };

    const inUse = (part) => {
        const at = document.activeElement;
        if (part.contains(at) && at.matches("input:not([type=hidden]), select, textarea")) return true;
        if ([...part.querySelectorAll("input, select, textarea")].some(edited)) return true;
        const chosen = window.getSelection();
        return Boolean(chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode));
    };

    const fetched = async (address) => {
        const answer = await fetch(address, { credentials: "same-origin", headers: { "X-Requested-With": "XMLHttpRequest" } });
        if (answer.redirected || !answer.ok) throw new Error(`the hub answered ${answer.status}`);
        return new DOMParser().parseFromString(await answer.text(), "text/html");
    };

    // What a person had opened or reached with the keyboard is open and reached again.
    const replace = (part, fresh) => {
        const opened = [...part.querySelectorAll("details")].map((one) => one.open);
        const at = [...part.querySelectorAll("a, button, summary")].indexOf(document.activeElement);
        part.replaceChildren(...fresh.childNodes);
        part.querySelectorAll("details").forEach((one, place) => { if (opened[place]) one.open = true; });
        if (at >= 0) part.querySelectorAll("a, button, summary")[at]?.focus({ preventScroll: true });
    };

    const wanted = () => window.localStorage.getItem(KEPT) !== "off";

    const watch = (part, { address, every, find, goesOn }) => {
        const usual = Math.max(1, Number(every) || 10);
        let wait = usual, timer = 0, over = false, asking = false;
        const plan = () => {
            clearTimeout(timer);
            if (!over && !document.hidden && part.isConnected && wanted()) timer = setTimeout(turn, wait * 1000);
        };
        const turn = async () => {
            if (asking || over || document.hidden || !wanted()) return;
            asking = true;
            try {
                const page = await fetched(address || window.location.href);
                const fresh = find(page);
                if (!fresh) over = true;
                else if (!inUse(part)) {
                    over = !goesOn(page);
                    replace(part, fresh);
                }
                wait = usual;
                part.classList.remove("sl-stale");
            } catch {
                wait = Math.min(MOST, wait * 2);
                part.classList.add("sl-stale");
            }
            asking = false;
            plan();
        };
        document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : turn()));
        document.addEventListener("syncline:live", () => (wanted() ? turn() : clearTimeout(timer)));
        plan();
    };

    const start = () => {
        for (const part of document.querySelectorAll("[data-live]")) {
            const address = part.dataset.live;
            watch(part, {
                address, every: part.dataset.every,
                find: (page) => (address ? page.body : page.getElementById(part.id)),
                goesOn: (page) => Boolean(address) || page.getElementById(part.id).hasAttribute("data-live"),
            });
        }
        for (const mark of document.querySelectorAll("[data-live-of]")) {
            const place = mark.dataset.liveOf;
            const part = document.querySelector(place);
            if (!part) continue;
            const find = (page) => page.querySelector(place);
            watch(part, { every: mark.dataset.every, find, goesOn: (page) => page.querySelector("[data-live-of]") !== null });
        }
        for (const box of document.querySelectorAll("[data-live-switch]")) {
            box.checked = wanted();
            box.addEventListener("change", () => {
                if (box.checked) window.localStorage.removeItem(KEPT);
                else window.localStorage.setItem(KEPT, "off");
                document.dispatchEvent(new Event("syncline:live"));
            });
        }
    };
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
    else start();
})();
