"""Which column of a record asks for its promotion, and where is shown what became of it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from connectors.contract import Entity, Verb, Write

FLAG = "flag"  # the word in EntitySync.push
NEEDED = ("field", "queued", "success", "error")


@dataclass(frozen=True, slots=True)
class Flag:
    """`field` says "queued" when somebody wants the record, and afterwards "success" or "error", with a `message`."""

    field: str
    queued: str
    success: str
    error: str
    message: str = ""

    @property
    def columns(self) -> frozenset[str]:
        """The columns that it needs."""
        return frozenset(name for name in (self.field, self.message) if name)


def flag_of(push: Mapping[str, object]) -> Flag | None:
    """Return the flag that an entity sync's `push` names, where it names one."""
    told = push.get(FLAG)
    return Flag(**{name: str(value) for name, value in told.items()}) if isinstance(told, dict) else None


def flag_problems(sync: str, push: Mapping[str, object], entities: Mapping[str, Entity]) -> list[str]:
    """Say what is wrong with the flag of an entity sync; `entities` are those of both sides."""
    if FLAG not in push:
        return []
    told = push[FLAG]
    asked = next((side for side in ("left", "right") if push.get(side) == "on_request"), None)
    if asked is None:
        return [
            f"{sync}: a flag is only read where a side takes records on request. Set push left or right to on_request."
        ]
    known = {*NEEDED, "message"}
    if not isinstance(told, dict) or not set(NEEDED) <= set(told) <= known or not all(told[name] for name in NEEDED):
        return [f"{sync}: the flag {told!r} must name {', '.join(NEEDED)}, and may name message."]
    flag = Flag(**{name: str(value) for name, value in told.items()})
    if len({flag.queued, flag.success, flag.error}) < 3:
        return [f"{sync}: the flag's values for queued, success and error must differ."]
    entity = entities["right" if asked == "left" else "left"]
    problems = [
        f"{sync}: {entity.label or entity.name} has no column {name!r} for the flag. Add it there, or take the flag out of push."
        for name in sorted(flag.columns)
        if entity.field(name) is None
    ]
    for name in sorted(flag.columns):
        column = entity.field(name)
        if column is not None and column.write is not Write.ALWAYS:
            problems.append(
                f"{sync}: the flag's column {name!r} can't be written, so nobody would see what became of it."
            )
    column = entity.field(flag.field)
    if column is not None and not column.findable:
        problems.append(f"{sync}: the flag's column {flag.field!r} can't be searched. Choose one that can.")
    if Verb.UPDATE not in entity.verbs:
        problems.append(f"{sync}: {entity.label or entity.name} can't be changed, so its flag can't be answered.")
    return problems
