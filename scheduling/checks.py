"""What of an integration's preparation is not as it should be?  Each check is a pure function of what was seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from math import ceil

from connectors.contract import Kind, Removal, Verb, Write
from connectors.models import Connection, EntitySync
from connectors.sync.rules import ARCHIVED, OTHER, Side
from scheduling.checks_of_lists import currencies, labels, references
from scheduling.findings import (
    BLOCKING,
    OK,
    WARNING,
    Check,
    Found,
    Level,
    Line,
    at_connection,
    at_integration,
    at_services,
    at_sync,
    count,
    either,
    named,
    page,
    reached,
)
from scheduling.seen import SIDES, End, Map, Missing, Seen, Spent, Sync

SOON = timedelta(days=14)  # before credentials end
LOW = 4  # a quarter of a limit is left
STATES = {Connection.State.PAUSED.value: "is paused", Connection.State.WRONG_INSTANCE.value: "leads to another company"}
# quickbooks sheet, section 10: the company's subscription, not the credentials, is what must be mended.
SUBSCRIPTION = {
    "6190": "Its QuickBooks subscription has ended. Renew it in QuickBooks, then check the connection.",
    "120": "The user lost rights in QuickBooks, or its subscription does not cover the app. Mend that there, then reconnect.",
}


# Connections and permissions


def connections(seen: Seen) -> Found:
    """Both systems answer, as the companies that they were, and their credentials do not end soon."""
    for end in (seen.ends[side] for side in SIDES):
        if not end.reached:
            state = STATES.get(end.state)
            why = f"{end.name} {state}: {end.failure}" if state else f"{end.name} is not reachable: {end.failure}"
            hint = SUBSCRIPTION.get(end.code, "") if end.title.startswith("QuickBooks") else ""
            yield Line("connections", BLOCKING, f"{why} {hint}".strip(), **at_connection(end))
            continue
        account = end.identity.account or end.identity.instance if end.identity else ""
        yield Line("connections", OK, f"{end.name} answers as {account or end.title}.")
        if end.expires_at is not None and end.expires_at - seen.now <= SOON:
            level, message = _expiry(end, end.expires_at, seen.now)
            yield Line("connections", level, message, **at_connection(end))


def _expiry(end: End, at: datetime, now: datetime) -> tuple[Level, str]:
    if at <= now:
        return BLOCKING, f"The login of {end.name} ended on {at:%Y-%m-%d}. Enter its credentials again."
    days = max(1, (at - now).days)
    return (
        WARNING,
        f"The login of {end.name} ends in {count(days, 'day')}, on {at:%Y-%m-%d}. Renew its credentials before.",
    )


def permissions(seen: Seen) -> Found:
    """Both credentials may do what directions, prevented operations and promotions ask of them."""
    for end in reached(seen):
        may = end.identity.may if end.identity else {}
        lines: list[Line] = []
        for sync in seen.syncs:
            name = sync.entities[end.side]
            if name not in end.entities:
                continue  # told with the mappings
            label = f"{end.entities[name].label or name} in {end.name}"
            if name not in may:
                message = f"{sync.name}: these credentials may not read {label}. Give their user the right to read it."
                lines.append(Line("permissions", BLOCKING, message, **at_connection(end)))
                continue
            for level, verbs in _needed(sync, end):
                lacking = sorted(verb.value for verb in verbs & end.entities[name].verbs - may[name])
                if lacking:
                    message = (
                        f"{sync.name}: these credentials may not {either(lacking)} {label}. Give their user that right, or "
                        "prevent the operation in the entity sync."
                    )
                    lines.append(Line("permissions", level, message, **at_connection(end)))
        yield from lines
        if not lines:
            yield Line("permissions", OK, f"The credentials of {end.name} may do all that the entity syncs ask for.")


def _needed(sync: Sync, end: End) -> list[tuple[Level, frozenset[Verb]]]:
    """Return what is written to one side; what only happens to deleted records is no reason to block."""
    side, entity = end.side, end.entities[sync.entities[end.side]]
    answers = {Verb.UPDATE} if sync.flagged == side else set()  # what became of a promotion is told in the record
    if not sync.flows(side):
        return [(BLOCKING, frozenset(answers))]
    needed = answers | ({Verb.CREATE} if sync.creates(side) else set())
    if f"{side}.update" not in sync.prevents:
        needed.add(Verb.UPDATE)
        if any(mapping.fields[side] == ARCHIVED and sync.towards(mapping, side) for mapping in sync.maps):
            needed |= {Verb.ARCHIVE, Verb.RESTORE}
    removal: set[Verb] = set()
    if sync.on_delete != "ignore" and f"{side}.delete" not in sync.prevents:
        deletes = sync.on_delete != "archive" and entity.removal is Removal.DELETE and Verb.DELETE in entity.verbs
        removal = {Verb.DELETE if deletes else Verb.ARCHIVE} - needed
    at_removal: Level = WARNING if sync.on_delete == "ask" else BLOCKING
    return [(BLOCKING, frozenset(needed)), (at_removal, frozenset(removal))]


# Preferences


def preferences(seen: Seen) -> Found:
    """Directions, policies, match fields and promotions fit each other, and the first run has been thought of."""
    lines = [*_switches(seen), *_services(seen)]
    for sync in seen.syncs:
        lines += [
            Line("preferences", WARNING, f"{sync.name}: {told}", **at_sync(sync))
            for told in _contradictions(seen, sync)
        ]
    yield from lines
    if not any(line.level != OK for line in lines):
        yield Line(
            "preferences",
            OK,
            f"The preferences of {count(len(seen.syncs), 'entity sync')} fit each other.",
        )


def _switches(seen: Seen) -> Found:
    if seen.switched_off:
        message = f"No run starts: {seen.switched_off} Switch it on."
        yield Line("preferences", BLOCKING, message, **at_integration(seen))
    if not seen.syncs:
        message = "No entity sync is switched on, so there is nothing to keep in agreement. Switch one on."
        yield Line("preferences", BLOCKING, message, **at_integration(seen))
    if seen.preview_first:
        message = (
            "The first run is still to come and becomes a preview: nothing is written before somebody has approved it. "
            "Press Preview and look at it before services start."
        )
        yield Line("preferences", WARNING, message, **at_integration(seen))


def _services(seen: Seen) -> Found:
    names = {sync.name for sync in seen.syncs}
    for service in seen.services:
        unknown = sorted(set(service.entities) - names)
        if unknown:
            message = f"The service {service.name} names {named(unknown)}, which no entity sync that is switched on is called."
            yield Line("preferences", BLOCKING, message, **at_services(seen))
    bulk = [service for service in seen.services if service.work == "promoted"]
    for sync in seen.syncs:
        covered = any(not service.entities or sync.name in service.entities for service in bulk)
        if sync.on_request and not covered:
            message = (
                f"{sync.name}: records flow on request, and no service carries out what is promoted in bulk: those would stay "
                "queued. Single promotions run at once."
            )
            yield Line("preferences", WARNING, message, **at_services(seen))


def _contradictions(seen: Seen, sync: Sync) -> Iterator[str]:
    direction = EntitySync.Direction(sync.direction).label.lower()
    for side in SIDES:
        if sync.policy == side and not sync.flows(OTHER[side]):
            yield f"it flows {direction} only, so the policy that the {side} wins never writes anything. Choose another policy."
        if side in sync.on_request and not sync.flows(side):
            yield f"it flows {direction} only, so nothing can be promoted to the {side}. Change the direction, or the push."
    writing = [s for s in SIDES if sync.flows(s) and not {f"{s}.create", f"{s}.update"} <= sync.prevents]
    if not writing:
        yield "creating and updating are both prevented wherever it flows, so it never writes anything. Allow one of them."
    for mapping in sync.maps:
        if "both" not in (sync.direction, mapping.direction) and sync.direction != mapping.direction:
            yield f"the mapping {mapping.name} flows against the direction of the entity sync, so it does nothing. Remove or turn it."
    # A side that takes only promoted records gets no partner for each record, so nothing is doubled there unseen.
    if sync.direction == "both" and not sync.match:
        yield "no match fields are set, so records that are on both sides already would be made twice. Choose match fields."
    yield from _unfindable(seen, sync)


def _unfindable(seen: Seen, sync: Sync) -> Iterator[str]:
    """A promoted record is looked for by a match field before it is made: one of them must be findable there."""
    by_name = {mapping.name: mapping for mapping in sync.maps}
    for side in SIDES:
        end, fields = seen.ends[side], []
        if side not in sync.on_request or not sync.match or sync.entities[side] not in end.entities:
            continue
        for name in (name for alternative in sync.match for name in alternative if name in by_name):
            fields.append(end.field(sync.entities[side], by_name[name].fields[side]))
        if not any(found is not None and found.findable for found in fields):
            yield (
                f"none of its match fields can be searched in {end.name}, so a promoted record could be made twice. Choose a "
                "match field that can be searched."
            )


# Mappings and required fields


def mappings(seen: Seen) -> Found:
    """Every mapping fits what both systems describe; what an administrator must add there is listed."""
    lines: list[Line] = []
    for end in reached(seen):
        lines += [Line("mappings", BLOCKING, _to_add(end, missing), **at_connection(end)) for missing in end.missing]
    by_name = {sync.name: sync for sync in seen.syncs}
    for problem in seen.problems:
        sync = by_name.get(problem.partition(":")[0])
        where = at_sync(sync) if sync else at_integration(seen)
        lines.append(Line("mappings", BLOCKING, problem, **where))
    yield from lines
    if lines:
        return
    away = [seen.ends[side].name for side in SIDES if not seen.ends[side].reached]
    if len(away) == len(SIDES):
        return
    total = sum(len(sync.maps) for sync in seen.syncs)
    fit = f"{count(total, 'mapping')} of {count(len(seen.syncs), 'entity sync')} fit what both systems have."
    if away:
        fit = f"{count(total, 'mapping')} fit what {reached(seen)[0].name} has; {away[0]} could not be asked."
    yield Line("mappings", OK, fit)


def _to_add(end: End, missing: Missing) -> str:
    table, columns = missing.table, "; ".join(missing.columns)
    what = f"has no table {table}. Add it with: {columns}." if missing.whole else f"lacks on {table}: {columns}."
    return f"{end.name} {what} Add them there, or run: manage.py dynamics365_columns {_quoted(end.name)} --create"


def _quoted(name: str) -> str:
    return f'"{name}"' if " " in name else name


def required(seen: Seen) -> Found:
    """Where records are made, each required field gets a value from a mapping or a constant."""
    for end in reached(seen):
        lines: list[Line] = []
        for sync in seen.syncs:
            entity = end.entities.get(sync.entities[end.side])
            if entity is None or not sync.creates(end.side) or Verb.CREATE not in entity.verbs:
                continue
            filled = {mapping.fields[end.side] for mapping in sync.maps if _fills(sync, mapping, end.side)}
            filled |= set(sync.columns.get(end.side, ()))
            for own in entity.fields:
                # A yes/no field has a value from the start, whatever is sent.
                if not own.required or own.write is Write.NEVER or own.kind is Kind.BOOLEAN or own.name in filled:
                    continue
                message = (
                    f"{sync.name}: {own.label or own.name} ({own.name}) is required on {entity.label or entity.name} in "
                    f"{end.name}, and no mapping fills it when a record is made. Map it, or give it a constant."
                )
                lines.append(Line("required fields", BLOCKING, message, **at_sync(sync)))
        yield from lines
        if not lines:
            yield Line("required fields", OK, f"All required fields of {end.name} are filled where records are made.")


def _fills(sync: Sync, mapping: Map, side: Side) -> bool:
    if not mapping.fields[side]:
        return False
    if mapping.constant is not None:
        return True
    return sync.towards(mapping, side) and bool(mapping.fields[OTHER[side]]) and mapping.when in ("always", "create")


# Quota, worker and mail


def quota(seen: Seen) -> Found:
    """Both systems still take calls."""
    for end in reached(seen):
        lines = [line for spent in end.budgets if (line := _budget(end, spent, seen.now)) is not None]
        yield from lines
        if not lines:
            left = ", ".join(f"{spent.limit} {spent.left:,} of {spent.amount:,}" for spent in end.budgets)
            told = f"{end.name} has calls left: {left}." if left else f"{end.name} counts no calls."
            yield Line("quota", OK, told)
        if end.records:
            yield Line("quota", OK, _reading(end))


def _budget(end: End, spent: Spent, now: datetime) -> Line | None:
    per = f"{spent.amount:,} {spent.limit} calls for each {_length(spent.per)}"
    if spent.hold_until is not None and spent.hold_until > now:
        message = f"{end.name} asked for no calls before {spent.hold_until:%Y-%m-%d %H:%M} UTC. Look again after that."
        return Line("quota", BLOCKING, message, **at_connection(end))
    if spent.left <= 0:
        message = f"None of {end.name}'s {per} are left. Look again when the time is over, or raise the limit."
        return Line("quota", BLOCKING, message, **at_connection(end))
    if spent.left * LOW < spent.amount:
        message = f"Only {spent.left:,} of {end.name}'s {per} are left: runs wait when they are used up."
        return Line("quota", WARNING, message, **at_connection(end))
    return None


def _reading(end: End) -> str:
    """Say how many calls it takes to read everything; what a run writes can't be known before."""
    pages = {
        name: ceil(number / end.entities[name].page) for name, number in end.records.items() if name in end.entities
    }
    known = sum(end.records[name] for name in pages)
    return (
        f"To read all {known:,} known records of {end.name} again takes at least {count(sum(pages.values()), 'call')}; what is "
        "written comes on top."
    )


def _length(per: timedelta) -> str:
    seconds = int(per.total_seconds())
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            return unit if seconds == size else f"{seconds // size} {unit}s"
    return count(seconds, "second")


def worker(seen: Seen) -> Found:
    """Somebody is there to run what services start."""
    if seen.worker:
        yield Line("worker", OK, "A worker is running.")
    else:
        where = {"fix": page("jobs_workerheartbeat_changelist"), "fix_label": "Open the workers"}
        message = "No worker is running: services are not started before one is. Start it: python manage.py worker"
        yield Line("worker", WARNING, message, **where)


def mail(seen: Seen) -> Found:
    """Requesters can be told that their services were provisioned."""
    if not seen.asks:
        yield Line("mail", OK, "Services are provisioned as soon as they are saved; no mail is needed.")
    elif seen.mail_sent:
        yield Line("mail", OK, "A mail server is set up: requesters are told by e-mail.")
    else:
        message = (
            "No mail server is set up, so requesters are not told by e-mail. Set EMAIL_URL, for example smtp://host:587"
        )
        yield Line("mail", WARNING, message)


CHECKS: Mapping[str, Check] = {  # by the word on their lines, in the order of the page
    "connections": connections,
    "permissions": permissions,
    "preferences": preferences,
    "mappings": mappings,
    "required fields": required,
    "picklist labels": labels,
    "currencies": currencies,
    "inactive references": references,
    "quota": quota,
    "worker": worker,
    "mail": mail,
}


def judge(seen: Seen) -> list[Line]:
    """Go through all checks."""
    return [line for check in CHECKS.values() for line in check(seen)]
