// What would a customer not be shown on this page?  Returns sentences; [] where there is nothing to say.  See looking.py.
// `layout`: also widths, names and words, which are the same in the dark.
(layout) => {
    const said = [];
    const styles = new Map(); // getComputedStyle is dear when each text asks it of all its ancestors
    const styleOf = (element) => { if (!styles.has(element)) styles.set(element, getComputedStyle(element)); return styles.get(element); };
    const say = (what, element, more) => {
        const path = [];
        for (let at = element; at && at !== document.body && path.length < 4; at = at.parentElement) {
            const classes = [...at.classList].filter((name) => !/[:[\]/!]/.test(name)).slice(0, 3);
            path.unshift(at.tagName.toLowerCase() + (at.id && !/\d/.test(at.id) ? `#${at.id}` : "") + classes.map((name) => `.${name}`).join(""));
        }
        const text = (element ? element.innerText || element.value || "" : "").trim().replace(/\s+/g, " ").slice(0, 60);
        said.push(`${what}: ${element ? `${path.join(" > ")} "${text}"` : ""} ${more || ""}`.trim());
    };
    const shown = (element) => {
        if (!element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) return false;
        const box = element.getBoundingClientRect();
        return box.width > 1 && box.height > 1;
    };
    // What opens at a click is looked at, too, and closed again at the end.
    const closed = layout ? [...document.querySelectorAll("details:not([open])")] : [];
    closed.forEach((element) => { element.open = true; });
    const scrolls = (element) => /auto|scroll/.test(styleOf(element).overflowX);
    const inside = (element, test) => { for (let at = element; at; at = at.parentElement) if (test(at)) return at; return null; };
    const told = (element) => inside(element, (at) => at.title || at.getAttribute?.("aria-label"));

    // Width
    const window_ = document.documentElement.clientWidth;
    if (layout && document.documentElement.scrollWidth > window_) {
        let worst = null, most = window_;
        for (const element of document.body.querySelectorAll("*")) {
            const right = element.getBoundingClientRect().right;
            if (right > most && shown(element) && !inside(element.parentElement, scrolls)) [worst, most] = [element, right];
        }
        say("wider than the window", worst, `${document.documentElement.scrollWidth} > ${window_}`);
    }

    for (const element of layout ? document.body.querySelectorAll("*") : []) {
        const both = element.matches("nav") && scrolls(element) && /auto|scroll/.test(styleOf(element).overflowY);
        if (both && element.scrollHeight > element.clientHeight && shown(element)) say("scrolls up and down", element);
        if (!scrolls(element) || element.scrollWidth <= element.clientWidth + 1 || !shown(element)) continue;
        if (!element.matches("pre, textarea, nav")) say("scrolls sideways", element, `${element.scrollWidth} > ${element.clientWidth}`);
    }

    // Colours, as the screen shows them: whatever notation they are written in
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    const known = new Map();
    const rgba = (colour) => {
        if (!known.has(colour)) {
            pen.clearRect(0, 0, 1, 1);
            pen.fillStyle = colour;
            pen.fillRect(0, 0, 1, 1);
            const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
            known.set(colour, [r, g, b, a / 255]);
        }
        return known.get(colour);
    };
    const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
    const grounds = new Map([[null, [255, 255, 255]]]), shares = new Map([[null, 1]]);
    const ground = (element) => { // what is seen behind its text
        if (!grounds.has(element)) {
            const colour = rgba(styleOf(element).backgroundColor);
            grounds.set(element, colour[3] === 1 ? colour : over(colour, ground(element.parentElement)));
        }
        return grounds.get(element);
    };
    const opacity = (element) => {
        if (!shares.has(element)) shares.set(element, +styleOf(element).opacity * opacity(element.parentElement));
        return shares.get(element);
    };
    const light = (colour) => {
        const [r, g, b] = colour.slice(0, 3).map((part) => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };

    // Text
    const seen = new Set(), walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement;
        if (!node.data.trim() || /^(SCRIPT|STYLE|TEMPLATE|NOSCRIPT|OPTION|TEXTAREA|DATALIST)$/.test(element.tagName)) continue;
        if (element.closest(".material-symbols-outlined, svg, [inert]") || !shown(element)) continue;
        const style = styleOf(element);
        // Contrast
        if (!seen.has(element) && !element.closest(":disabled, [aria-disabled=true]")) {
            seen.add(element);
            const under = ground(element), colour = rgba(style.color);
            const front = over([...colour.slice(0, 3), colour[3] * opacity(element)], under);
            const [more, less] = [light(front), light(under)].sort((a, b) => b - a);
            const ratio = (more + 0.05) / (less + 0.05), size = parseFloat(style.fontSize);
            const large = size >= 24 || (size >= 18.6 && +style.fontWeight >= 700);
            if (ratio < (large ? 3 : 4.5) - 0.02) say("too little contrast", element, ratio.toFixed(2));
        }
        if (!layout) continue;
        // Cut off, or spilt over the edge of what holds it
        const range = document.createRange();
        range.selectNodeContents(node);
        const boxes = [...range.getClientRects()].filter((box) => box.width > 0);
        const right = Math.max(...boxes.map((box) => box.right), 0), bottom = Math.max(...boxes.map((box) => box.bottom), 0);
        for (let at = element; at && at !== document.body; at = at.parentElement) {
            const flow = styleOf(at), box = at.getBoundingClientRect();
            if (/auto|scroll/.test(flow.overflowX + flow.overflowY)) break;
            if (flow.display === "inline" || flow.display === "contents") continue;
            if (/hidden|clip/.test(flow.overflowY) && bottom > box.bottom + 4 && box.height > 1 && !told(element)) {
                say("text is cut off below", element, `by ${Math.round(bottom - box.bottom)} px of ${at.tagName.toLowerCase()}.${[...at.classList].slice(0, 2).join(".")}`);
                break;
            }
            if (right > box.right + 1.5 && box.width > 1) {
                const cut = /hidden|clip/.test(flow.overflowX);
                if (cut && told(element)) break;
                if (cut || at.matches("td, th, li, button, a, .sl-card, .sl-badge, main, section, dd, p")) {
                    say(cut ? "text is cut off" : "text spills over", element, `by ${Math.round(right - box.right)} px of ${at.tagName.toLowerCase()}.${[...at.classList].slice(0, 2).join(".")}`);
                    break;
                }
            }
        }
    }

    if (!layout) return said;

    // Fields that nobody would find
    const edged = (element) => {
        const style = styleOf(element);
        return parseFloat(style.borderBottomWidth) > 0 || style.boxShadow !== "none" || rgba(style.backgroundColor)[3] > 0 && String(ground(element)) !== String(ground(element.parentElement));
    };
    for (const field of document.querySelectorAll("input, select, textarea")) {
        if (/^(hidden|checkbox|radio|file|range|color|submit|button|reset)$/.test(field.type) || !shown(field) || field.closest(".selector")) continue;
        const high = field.getBoundingClientRect().height;
        const frame = inside(field, (at) => edged(at) && at.getBoundingClientRect().height < high + 24);
        if (!frame) say("a field without an edge", field, field.name);
    }

    // Names
    for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a[href], summary")) {
        if (!shown(field) && !(field.type === "checkbox" || field.type === "radio")) continue;
        if (!field.checkVisibility({ checkVisibilityCSS: true }) || field.closest("[aria-hidden=true], [inert]")) continue;
        const words = [field.getAttribute("aria-label"), field.title, field.getAttribute("aria-labelledby") && "by another"];
        if (/^(INPUT|SELECT|TEXTAREA)$/.test(field.tagName)) {
            words.push(...[...(field.labels || [])].map((label) => label.textContent.trim()));
            if (/^(submit|button|reset)$/.test(field.type)) words.push(field.value);
        } else {
            const copy = field.cloneNode(true);
            copy.querySelectorAll(".material-symbols-outlined").forEach((icon) => icon.remove());
            words.push(copy.textContent.trim(), ...[...copy.querySelectorAll("[alt], [aria-label], [title]")].map((e) => e.getAttribute("alt") || e.getAttribute("aria-label") || e.title));
        }
        if (!words.some(Boolean)) say("nothing says what it is", field, field.name || field.getAttribute("href") || "");
    }
    const ids = new Set();
    for (const element of document.querySelectorAll("[id]")) {
        if (ids.has(element.id)) say("an id stands twice", null, element.id);
        ids.add(element.id);
    }

    // Titles and words
    const titles = [...document.querySelectorAll("h1")].filter(shown);
    if (titles.length !== 1) say(`${titles.length} headings of the first order`, titles[1] || null);
    if (/^\s*\||None|object \(\d+\)/.test(document.title) || !document.title.includes("Syncline")) say("an odd title", null, document.title);
    const text = (document.querySelector("#main") || document.body).innerText;
    for (const odd of [/\bNone\b/, /\{\}/, /\[\]/, /\bobject \(\d+\)/, /<(class|QuerySet|function|bound) /, /\bdatetime\./, /Traceback/, /\bundefined\b/, /\bNaN\b/, /\bDecimal\(/, /&(amp|lt|gt|quot|#\d+);/, /\[?'[a-z_]+': /]) {
        const found = text.match(odd);
        if (found) say("raw words", null, `"${text.slice(Math.max(0, found.index - 40), found.index + 40).replace(/\s+/g, " ")}"`);
    }
    closed.forEach((element) => { element.open = false; });
    return said;
}
