"""Which pages has the admin, and what would a customer not be shown on them?  New pages are found by themselves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urljoin, urlsplit

from django.contrib import admin
from django.urls import Resolver404, resolve, reverse
from playwright.sync_api import Error

from tests.config.addresses import admin_addresses

if TYPE_CHECKING:
    from playwright.sync_api import Page, Response

CHECKS = (Path(__file__).parent / "looking.js").read_text()
WIDTHS, THEMES = (1440, 390), ("light", "dark")
SWITCH = """async dark => {
    document.documentElement.classList.toggle("dark", dark);
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const ends = document.getAnimations().filter(one => one.effect.getComputedTiming().endTime !== Infinity);
    await Promise.all(ends.map(one => one.finished.catch(() => null)));
}"""
# Nothing to look at: they end the session, or answer something else than a page.
NO_PAGES = {"admin:logout", "admin:jsi18n", "admin:overview_live", "admin:autocomplete", "admin:view_on_site"}
VARIANTS = 2  # of one page with other words in its query
ALIKE = ("history", "delete")  # the same page for every table: some of them will do
SAMPLES_ALIKE = 6
SAMPLES = 1  # rows of each table, besides the newest


@dataclass
class Walk:
    """What was visited, and what was found."""

    address: str
    page: Page
    widths: tuple[int, ...] = WIDTHS
    themes: tuple[str, ...] = THEMES
    look: Callable[[str, int, str], None] | None = None  # called in each state: a picture can be taken
    visited: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _keys: set[tuple[str, frozenset[str]]] = field(default_factory=set)
    _noise: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Listen to what the browser complains of."""
        self.page.on("console", lambda told: self._told(told.type, told.text))
        self.page.on("response", self._answered)
        self.page.on("pageerror", lambda error: self._noise.append(f"script: {error}"))
        self.page.on("request", lambda asked: self._asked(asked.url))

    def _told(self, kind: str, text: str) -> None:
        if kind == "error" and not text.startswith("Failed to load resource"):  # _answered says which
            self._noise.append(f"console: {text}")

    def _answered(self, answer: Response) -> None:
        if answer.status >= 400 and answer.request.resource_type != "document" and "/favicon.ico" not in answer.url:
            self._noise.append(f"{answer.url} answers {answer.status}")

    def _asked(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self._noise.append(f"asks another host: {url}")

    def everything(self) -> None:
        """Visit every page that there is, and what they link to."""
        waiting = pages()
        guessed = frozenset(waiting)
        met = set(waiting)
        self._keys |= {kind for url in waiting if (kind := self._kind(url))}
        self._keys |= {(each.name, frozenset()) for each in admin_addresses() if each.name.endswith(ALIKE)}
        while waiting:
            url = waiting.pop(0)
            for link in self.visit(url, guessed=url in guessed):
                if link not in met and self._is_new(link):
                    met.add(link)
                    waiting.append(link)

    def visit(self, url: str, *, guessed: bool = False, expect: int = 200) -> list[str]:
        """Look at one page in each theme and width.  Returns where it links to."""
        self._noise.clear()
        self.page.set_viewport_size({"width": self.widths[0], "height": 900})
        if not self._open(url, guessed, expect):
            return []
        self.page.wait_for_function("window.Alpine === undefined || document.querySelector('[x-cloak]') === null")
        self.visited.append(url)
        found: dict[str, list[str]] = {}
        for width in self.widths:
            self.page.set_viewport_size({"width": width, "height": 900})
            for theme in self.themes:
                # As the frame's own switch does it; the switch itself would ask for a reload.
                self.page.evaluate(SWITCH, theme == "dark")
                for sentence in self.page.evaluate(CHECKS, theme == self.themes[0]):
                    found.setdefault(sentence, []).append(f"{width} {theme}")
                if self.look is not None:
                    self.look(url, width, theme)
        self.wrong += grouped(url, found)
        self.wrong += [f"{url} {sentence}" for sentence in dict.fromkeys(self._noise)]
        return [*self._links()]

    def _open(self, url: str, guessed: bool, expect: int) -> bool:
        """Go there.  False: there is no page to look at."""
        try:
            answer = self.page.goto(self.address + url)
            status, kind = (answer.status, answer.headers.get("content-type", "")) if answer else (0, "")
        except Error:  # an answer without a body, or a download
            bare = self.page.request.get(self.address + url)
            status, kind = bare.status, "none"
        if status == 404 and guessed and (kind_of := self._kind(url)):
            self._keys.discard(kind_of)  # a link to one that there is will be followed
        if status in (403, 405) or (status == 404 and guessed):
            return False  # nobody may (a superuser looks), a button's address, or a sample that there is not
        if status != expect:
            self.wrong.append(f"{url} answers {status}")
            return False
        arrived = urlsplit(self.page.url)
        whole = "text/html" in kind and self.page.evaluate("document.doctype !== null")  # not the fragment of a page
        return whole and (arrived.path == urlsplit(url).path or self._is_new(f"{arrived.path}?{arrived.query}"))

    def _links(self) -> Iterator[str]:
        hrefs = self.page.eval_on_selector_all("a[href]", "all => all.map(a => a.getAttribute('href'))")
        for href in dict.fromkeys(hrefs):
            whole = urlsplit(urljoin(self.page.url, href))
            if f"{whole.scheme}://{whole.netloc}" == self.address and whole.path.startswith("/admin/"):
                yield f"{whole.path}?{whole.query}" if whole.query else whole.path

    def _kind(self, url: str) -> tuple[str, frozenset[str]] | None:
        parts = urlsplit(url)
        try:
            match = resolve(parts.path)
        except Resolver404:
            return None
        return (match.view_name, frozenset(f"{key}" for key, _ in parse_qsl(parts.query)))

    def _is_new(self, url: str) -> bool:
        """Is it another kind of page than those that were visited: another view, or other words in its query?"""
        kind = self._kind(url)
        if kind is None or kind[0] in NO_PAGES or kind in self._keys or any(key.startswith("_") for key in kind[1]):
            return False  # "_": the same page in a window of its own, or on the way back to a list
        if sum(view == kind[0] for view, _ in self._keys) > VARIANTS:
            return False
        self._keys.add(kind)
        return True


def grouped(url: str, found: dict[str, list[str]]) -> list[str]:
    """Say once what is wrong with many of a kind: a row's cell is as wrong as that of the next row."""
    kinds: dict[str, list[str]] = {}
    for sentence in found:
        kinds.setdefault(re.sub(r'"[^"]*".*', "", sentence), []).append(sentence)
    return [
        f"{url} [{', '.join(dict.fromkeys(found[of[0]]))}] {of[0]}" + (f" and {len(of) - 1} like it" if of[1:] else "")
        for of in kinds.values()
    ]


def pages() -> list[str]:
    """Every address of the admin once, some more rows of each table, and each list where nothing is found."""
    found = []
    alike: Counter[str] = Counter()
    for each in admin_addresses():
        kind = each.name.rpartition("_")[2]
        alike[kind] += 1
        if each.name in NO_PAGES or "/do/" in each.url or (kind in ALIKE and alike[kind] > SAMPLES_ALIKE):
            continue
        found.append(each.url)
    for model, model_admin in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        if model_admin.search_fields:
            found.append(reverse(f"{name}_changelist") + "?q=nothing-is-called-this")
        rows = model._default_manager.order_by("pk").values_list("pk", flat=True)
        found += [reverse(f"{name}_change", args=[key]) for key in rows[:SAMPLES]]
    return list(dict.fromkeys(found))
