"""What does a simulated system show to a person who is asked for consent?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ background: #eef1f4; color: #222; font: 16px/1.5 system-ui, sans-serif; margin: 0; padding: 10vh 1rem }}
main {{ background: #fff; border-radius: 10px; box-shadow: 0 2px 12px #0002; margin: auto; max-width: 26rem; padding: 2rem }}
h1 {{ font-size: 1.3rem; margin: 0 0 .5rem }} small {{ color: #666 }}
button {{ border: 1px solid #bbb; border-radius: 6px; background: #fff; font: inherit; margin: 1rem .5rem 0 0; padding: .5rem 1.2rem }}
button:first-of-type {{ background: #2f6f4f; border-color: #2f6f4f; color: #fff }}
</style><main><small>Simulated system: nothing leaves this machine</small><h1>{title}</h1><p>{words}</p>
<form method="{method}">{fields}{buttons}</form></main></html>"""


def consent_page(
    title: str, words: str, buttons: Mapping[str, str], method: str, kept: Iterable[tuple[str, str]] = ()
) -> str:
    """Return a page with one button for each decision; `kept` goes along with it."""
    fields = "".join(f'<input type="hidden" name="{escape(key)}" value="{escape(value)}">' for key, value in kept)
    made = "".join(
        f'<button name="decision" value="{escape(value)}">{escape(label)}</button>' for value, label in buttons.items()
    )
    return _PAGE.format(title=escape(title), words=escape(words), method=method, fields=fields, buttons=made)
