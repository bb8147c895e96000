"""Can a setting of a connection be so?  The admin's form, the API, an import and every use of a connection ask here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from connectors.transport.addresses import AddressRefused, check_literal
from connectors.transport.types import Setting


def problem_of(setting: Setting, value: object) -> str:
    """Return what is wrong with a value that a person enters, as a sentence, or "".  An empty one leaves the default."""
    text = str(value).strip()
    if not text:
        return ""
    if setting.is_url:
        try:
            check_literal(text)
        except AddressRefused as error:
            return str(error)
        return ""
    return misfit(setting, text)


def misfit(setting: Setting, text: str) -> str:
    """Return why a text is not of the kind that a setting is of, or "".  Addresses are judged by who calls them."""
    if setting.choices and text not in dict(setting.choices):
        return f"It is one of: {', '.join(value for value, _ in setting.choices)}."
    if setting.between is not None:
        least, most = setting.between
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
            return f"It is a whole number from {least} to {most}."
    return ""


def known(declared: Iterable[Setting], given: Mapping[str, object]) -> list[Setting]:
    """Return what is declared, and the limits that a person gives of his own ("limit.request"; see `budget.amounts`)."""
    limits = [name for name in given if name.startswith("limit.")]
    return [*declared, *(Setting(name, "Calls at most", between=(0, 99_999_999)) for name in limits)]


def problems(declared: Iterable[Setting], given: Mapping[str, object], before: Mapping[str, object]) -> dict[str, str]:
    """Return a sentence by name for each setting that was changed to what it can't be."""
    changed = [one for one in known(declared, given) if given.get(one.name) != before.get(one.name)]
    found = {one.name: problem_of(one, "" if (value := given.get(one.name)) is None else value) for one in changed}
    return {name: problem for name, problem in found.items() if problem}
