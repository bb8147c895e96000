"""For which cause do records stand still, since when, and what helps?  Groups of them, kept as the engine meets them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, F, IntegerField, OuterRef, QuerySet, Subquery

from connectors.contract import Connector, Option
from connectors.models import (
    Connection,
    EntitySync,
    Event,
    FieldMapping,
    Integration,
    PicklistMapping,
    ProblemGroup,
    RecordLink,
    changing,
    keep_state,
)
from connectors.registry import UnknownSystem, connector_class
from connectors.sync import store
from connectors.sync.plan import Pending
from connectors.sync.rules import LEFT, OTHER, RIGHT, Side
from connectors.sync.values import decode

HANDS = (int(Pending.CONFLICT), int(Pending.PARKED))
LENGTH = 40  # of a key, as RecordLink.problem
MOST_COUNTED = 10_000
BLOCK = 500  # links that are looked at by one query
NO_OPTION = "no option"
DELETED = "deleted and edited"

# Codes of what the hub itself finds before it writes: the other system was never asked.
OWN = frozenset({NO_OPTION, "required", "too long", "no stand-in", "wrong kind"})
# What helps, by reason or code of the engine's own; the connectors know those of their systems (`hints`).
HINTS = {
    NO_OPTION: "Say which option of the other side it is. All records of this group are then read and written again.",
    "required": "Fill the field in the other system, or give the mapping a default. Then read again and plan again.",
    "too long": "Shorten the text, or let the mapping cut it (transform: truncate). Then plan with today's mapping.",
    "outcome unknown": "Look in the other system whether the record is there. If it is, join the two; if not, read again and plan again.",
    "exists": "A record of that name is there already. Open both: join them, or rename one. Then read again and plan again.",
    "conflict": "Both sides changed the same fields. Open each record and choose a side, or set a policy that decides.",
    f"conflict {DELETED}": "Deleted on one side, edited on the other. Approve the delete, or let the living side win.",
    "ambiguous": "Another record could be the partner. Open each one: join the two, or say that they are not the same.",
    "merged": "Two records were merged into one on one side. Merge them on the other side too, or hold the record.",
    "lossy": "One side holds a shortened value; writing it back would lose text. Let the mapping overwrite it, or lengthen the field.",
}
USUAL = "Read the system's own words, mend the record or the mapping, then read again and plan again."


class CountedRows(Subquery):
    """How many rows a subquery has, counted to a limit that its slice sets."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) counted)"
    output_field = IntegerField()


class NotMended(Exception):
    """The problem cannot be mended so; the sentence says why and what to do."""


class Stale(NotMended):
    """The page was older than what it shows."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a record stands still."""

    key: str
    entity_sync: int
    reason: str
    code: str = ""
    field: str = ""
    side: str = ""
    option: str = ""
    message: str = ""


# Keeping


def key_of(*parts: object) -> str:
    """Return what the links of one cause have in common; of a long one the end is a hash, so that no two fall together."""
    text = ".".join(str(part) for part in parts if part != "")
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 13]}.{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def cause_of(entity_sync: int, reason: str, args: str) -> Cause:
    """Return the cause of a link that is parked or in conflict."""
    told = {name: str(value) for name, value in decode(args).items() if isinstance(value, str)}
    if print_ := told.get("fingerprint"):
        return Cause(
            print_[:LENGTH], entity_sync, reason, told.get("code", ""), told.get("field", ""), told.get("side", ""),
            told.get("option", ""), told.get("message", ""),
        )  # fmt: skip
    code = DELETED if told.get("why") == DELETED else ""
    return Cause(key_of(entity_sync, reason, "deleted" if code else ""), entity_sync, reason, code)


def see(rows: QuerySet[RecordLink], now: datetime, noted: set[str] | None = None) -> None:
    """Put those of these links that are parked or in conflict under their causes, in the caller's transaction.

    `noted`: causes that this run has noted already.
    """
    standing = rows.filter(pending__in=HANDS).values_list("id", "integration", "entity_sync", "reason", "args")
    found: dict[str, tuple[int, Cause, list[int]]] = {}
    for link_id, integration, entity_sync, reason, args in standing:
        cause = cause_of(entity_sync, reason, args)
        found.setdefault(cause.key, (integration, cause, []))[2].append(link_id)
    for key, (integration, cause, ids) in found.items():
        RecordLink.objects.filter(pk__in=ids).update(problem=key)
        if noted is None or key not in noted:
            note(integration, cause, now)
            if noted is not None:
                noted.add(key)


def see_all(ids: Sequence[int], keys: Sequence[str], now: datetime, noted: set[str]) -> None:
    """Look so at links given by id and by key, block by block."""
    for column, values in (("pk", ids), ("key", keys)):
        for block in store.blocks(values, BLOCK):
            see(RecordLink.objects.filter(**{f"{column}__in": block}), now, noted)


def note(integration: int, cause: Cause, now: datetime) -> None:
    """Remember that a cause was met; one that had been resolved is open again."""
    told = {"reason": cause.reason, "code": cause.code[:100], "field": cause.field[:100], "side": cause.side,
            "option": cause.option[:200], "message": cause.message[:1000], "last_seen": now}  # fmt: skip
    row, made = ProblemGroup.objects.get_or_create(
        key=cause.key,
        defaults={**told, "integration_id": integration, "entity_sync_id": cause.entity_sync, "first_seen": now},
    )
    if made:
        return
    if row.resolved_at is not None:
        told |= {"resolved_at": None, "resolved_by": "", "reopened_at": now}
    ProblemGroup.objects.filter(pk=row.pk).update(**told)


def clear(integration: int, now: datetime) -> int:
    """Mark as resolved what no record stands still for any more.  Returns how many groups."""
    there = RecordLink.objects.filter(problem=OuterRef("key"), pending__in=HANDS)
    rows = ProblemGroup.objects.filter(integration=integration, kind=ProblemGroup.Kind.RECORDS, resolved_at=None)
    return rows.filter(~Exists(there)).update(resolved_at=now, resolved_by="")


# Looking


def links_of(group: ProblemGroup) -> QuerySet[RecordLink]:
    """Return the records that stand still for this cause."""
    return RecordLink.objects.filter(problem=group.key, pending__in=HANDS)


def counted(groups: QuerySet[ProblemGroup]) -> QuerySet[ProblemGroup]:
    """Add to each group how many records stand still for it: `records`, counted to 10,001 by the index."""
    rows = RecordLink.objects.filter(problem=OuterRef("key"), pending__in=HANDS)
    return groups.annotate(records=CountedRows(rows.values("pk")[: MOST_COUNTED + 1]))


def title_of(group: ProblemGroup) -> str:
    """Return the cause in a few words."""
    if group.kind == ProblemGroup.Kind.JOBS:
        return f"{group.job_type.replace('_', ' ').capitalize()} failed: {group.message or group.code}"[:200]
    if group.reason == "conflict":
        return "Deleted on one side, edited on the other" if group.code == DELETED else "Changed on both sides"
    words = {"ambiguous": "Could be the same as another record", "merged": "Merged into another record",
             "lossy": "Would lose text"}  # fmt: skip
    return (words.get(group.reason) or group.message.partition(". ")[0] or "Refused without saying why")[:200]


def is_own(group: ProblemGroup) -> bool:
    """Say whether the hub itself held the records back: no system has refused them."""
    return group.reason == "parked" and group.code in OWN


def hint_of(group: ProblemGroup) -> str:
    """Return what to do about it, by code: the system's own table first, then the engine's."""
    if group.reason == "parked" and group.integration is not None and group.side:
        connection = group.integration.left if group.side == LEFT else group.integration.right
        own = hints_of(connection).get(group.code)
        if own:
            return own
    reason = f"conflict {DELETED}" if group.code == DELETED else group.reason
    return HINTS.get(group.code) or HINTS.get(reason) or USUAL


def hints_of(connection: Connection) -> Mapping[str, str]:
    """Return what a system's connector says about its codes."""
    try:
        found: Mapping[str, str] = getattr(connector_class(connection.system), "hints", {})
    except UnknownSystem:
        return {}
    return found


# Deciding


def resolve(group: ProblemGroup, *, now: datetime, by: str) -> None:
    """Put a group aside: it is shown again when its cause is met again.  Raises Stale."""
    rows = ProblemGroup.objects.filter(pk=group.pk, last_seen=group.last_seen, resolved_at=None)
    with transaction.atomic():
        if not rows.update(resolved_at=now, resolved_by=by[:150]):
            raise Stale("It was met again, or somebody else resolved it. Look at it once more.")
        tell(group, now, by, "problem resolved", f"Resolved: {title_of(group)}")


def reopen(group: ProblemGroup, *, now: datetime, by: str) -> None:
    """Take back a resolve.  Raises Stale."""
    with transaction.atomic():
        rows = ProblemGroup.objects.filter(pk=group.pk, resolved_at__isnull=False)
        if not rows.update(resolved_at=None, resolved_by="", reopened_at=now):
            raise Stale("It is open already.")
        tell(group, now, by, "problem reopened", f"Opened again: {title_of(group)}")


def tell(group: ProblemGroup, now: datetime, by: str, code: str, message: str) -> None:
    """Write into the integration's log what a person did."""
    if group.integration_id is not None:
        Event.objects.create(
            integration_id=group.integration_id, code=code, message=message[:1000], actor=by[:150], at=now,
            args={"problem": group.pk},
        )  # fmt: skip


# An option without partner


@dataclass(frozen=True)
class Missing:
    """An option that has no partner, and what it may become."""

    mapping: FieldMapping
    side: Side  # where it is
    key: str
    label: str
    choices: list[Option]  # of the other side
    problem: str = ""  # why the choices may not be all


def mapping_of(group: ProblemGroup) -> FieldMapping | None:
    """Return the mapping whose picklist lacks an option, where it can be mended in place."""
    if group.code != NO_OPTION or not group.option or group.entity_sync_id is None or group.side not in (LEFT, RIGHT):
        return None
    found = FieldMapping.objects.filter(entity_sync=group.entity_sync_id, **{group.side: group.field})
    return found.exclude(left="").exclude(right="").select_related("entity_sync__integration").first()


def missing(group: ProblemGroup, connectors: Callable[[Side], Sequence[Option]]) -> Missing | None:
    """Say which option has no partner.  `connectors(side)` asks a side for its options and may raise ConnectorError."""
    mapping = mapping_of(group)
    if mapping is None:
        return None
    target: Side = LEFT if group.side == LEFT else RIGHT
    source = OTHER[target]
    label = next((o.label for o in connectors(source) if o.key == group.option), group.option)
    return Missing(mapping, source, group.option, label, [o for o in connectors(target) if o.active])


def options_of(mapping: FieldMapping, side: Side, connector: Connector) -> list[Option]:
    """Ask a system for the options of one side of a mapping."""
    sync = mapping.entity_sync
    return list(connector.options(getattr(sync, f"{side}_entity"), getattr(mapping, side)))


def map_option(found: Missing, chosen: str, *, now: datetime, by: str) -> PicklistMapping:
    """Let an option mean one of the other side.  Queued writes stop, and what the option was in is read again.

    Raises NotMended where the choice does not exist or somebody else mapped the option meanwhile.
    """
    target = OTHER[found.side]
    other = next((option for option in found.choices if option.key == chosen), None)
    if other is None:
        raise NotMended("Choose one of the options.")
    own = Option(found.key, found.label)
    left, right = (own, other) if found.side == LEFT else (other, own)
    sync = found.mapping.entity_sync
    with changing("Missing option mapped"), transaction.atomic():
        # Under the integration's row, as every change of settings: a run marks its writes under it, too.
        Integration.objects.select_for_update().get(pk=sync.integration_id)
        there = PicklistMapping.objects.filter(field_mapping=found.mapping)
        if there.filter(**{f"{found.side}_key": found.key, f"writes_{target}": True}).exists():
            raise NotMended(f"{found.label} has been mapped meanwhile. Press one of the three buttons instead.")
        # Several options may share one: of them the first is written back.
        shared = there.filter(**{f"{target}_key": other.key, f"writes_{found.side}": True}).first()
        made = PicklistMapping.objects.create(
            field_mapping=found.mapping, left_key=left.key, left_label=left.label, right_key=right.key,
            right_label=right.label, token=shared.token if shared else right.key,
            **{f"writes_{found.side}": shared is None, f"writes_{target}": True},
        )  # fmt: skip
        Integration.objects.filter(pk=sync.integration_id).update(revision=F("revision") + 1)
        EntitySync.objects.filter(pk=sync.pk).update(revision=F("revision") + 1)
        keep_state(Integration.objects.get(pk=sync.integration_id))
        Event.objects.create(
            integration_id=sync.integration_id, code="option mapped", actor=by[:150], at=now,
            message=f"{sync.name}: {found.mapping.name}: {left.label} means {right.label}."[:1000],
        )  # fmt: skip
    return made
