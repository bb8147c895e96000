"""Why is this record as it is?  Both sides, the base, each field's rule, the one reason, changes, calls, people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from connectors.models import (
    EntitySync,
    Event,
    FieldMapping,
    Integration,
    PicklistMapping,
    Promotion,
    RecordChange,
    RecordLink,
)
from connectors.registry import UnknownSystem, connector_class
from connectors.sync.plan import DELETED, MARKS, SHOWN, Life, Pending
from connectors.sync.rules import LEFT, OTHER, RIGHT, Side, field_title
from connectors.sync.values import CanonicalValues, decode

REASONS = {
    "": "Both sides agree.",
    "changed": "A side has changed; the next run plans it.",
    "planned": "A write is planned or under way.",
    "waits for link": "It refers to a record that has no partner yet; it follows as soon as that one is linked.",
    "waits for approval": "It waits until a person approves: a delete of one side, or what a reconciliation found.",
    "waits for promotion": "Records of this kind flow only on request, and nobody has promoted this one yet.",
    "waits for listing": "The other side has not been read to its end yet, so it may have a partner there.",
    "changed meanwhile": "It changed while it was being written, twice. The next run looks again.",
    "outside": "A filter, window or direction leaves it out. Nothing is written and nothing deleted.",
    "prevented": "The settings forbid what it needs, or a field was changed where it can't flow from.",
    "conflict": "Both sides changed and the policy is to ask. A person decides.",
    "ambiguous": "Another record could be its partner. A person joins them, or says that they are not the same.",
    "parked": "The other system refused it. It is tried again when the record, its mapping or the other side changes, or on request.",
    "held": "A person holds it.",
    "undone": "What a run wrote here was undone. Nothing is written until a person releases the record.",
    "unlinked": "A person took the two records apart. Both stay as they are, and nothing flows between them.",
    "deleted": "Its partner was deleted. By the settings this record stays as it is.",
    "merged": "It was merged into another record on one side. A person decides.",
    "lossy": "The change comes from a side that holds a shortened value; writing it back would lose text.",
}

# Why a record is left out, and what ends that: "Customer 6 <first>, so this waits until it <second>".
LEFT_OUT = {
    "inactive": ("is inactive and left out", "is active or promoted"),
    "filter": ("does not meet the filter and is left out", "does"),
    "window": ("lies outside the window of dates and is left out", "lies inside the window"),
    "route": ("belongs to another pair of entities by now and is left out", "is moved there by a person"),
    "family": ("has its partner by another kind of record and is left out", "has none there"),
    "company": ("belongs to another company and is left out", "belongs to this one"),
    "direction": ("is left out, because nothing flows that way", "may flow by the settings"),
}
VERBS = {
    "create": "create", "update": "update", "delete": "delete", "archive": "make inactive", "restore": "make active",
}  # fmt: skip
NAME_WORDS = ("name", "docnumber", "subject", "title", "externalid", "email")
MOST_NAMES = 1000  # records whose names one page or one listing looks up


@dataclass
class Explanation:
    """All that is known of one record."""

    link: RecordLink
    reason: str
    sentence: str
    args: Mapping[str, object]
    fields: list[dict[str, object]] = field(default_factory=list)
    changes: list[dict[str, object]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def _side(self, side: str) -> dict[str, object]:
        named = {name: getattr(self.link, f"{side}_{name}") for name in ("entity", "id", "version")}
        return {**named, "life": str(Life(getattr(self.link, f"{side}_life")).name.lower())}

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        link = self.link
        return {
            "key": link.key,
            "title": title_of(link),
            "entity_sync": link.entity_sync.name,
            **{side: self._side(side) for side in ("left", "right")},
            "reason": self.reason or "agreed",
            "sentence": self.sentence,
            "details": dict(self.args),
            "fields": self.fields,
            "changes": self.changes,
            "events": self.events,
        }  # fmt: skip


class NotKnown(LookupError):
    """No link has this record."""


def find_link(integration: Integration, entity: str, record_id: str) -> RecordLink:
    """Return the newest link of a record, given by its entity (of either side, or an entity sync's name) and id.

    `link:766` is the link with the number that `links list` shows.  Raises NotKnown.
    """
    links = RecordLink.objects.filter(integration=integration).select_related("entity_sync")
    syncs = list(EntitySync.objects.filter(integration=integration))
    names = {name for sync in syncs for name in (sync.name, sync.left_entity, sync.right_entity)}
    if entity not in names:
        raise NotKnown(f"{integration} has no entity {entity!r}. It has: {', '.join(sorted(names))}.")
    if record_id.startswith("link:"):
        number = record_id.removeprefix("link:")
        link = links.filter(pk=int(number)).first() if number.isdecimal() else None
        if link is None:
            raise NotKnown(f"{integration} has no {record_id}. `links list` shows those that are not in agreement.")
        return link
    # Of several families that hold a record the first one is meant, as references mean it; an entity sync's name says which.
    links = links.order_by("ended", "entity_sync__position", "-id")
    families = {sync.family for sync in syncs if sync.name == entity}
    if families:
        links = links.filter(family__in=families)
    for side in ("left", "right"):
        named = {
            getattr(sync, f"{side}_entity") for sync in syncs if entity in (sync.name, getattr(sync, f"{side}_entity"))
        }
        link = links.filter(**{f"{side}_entity__in": named, f"{side}_id": record_id}).first()
        if link is not None:
            return link
    raise NotKnown(
        f"No run has met {entity} {record_id} yet. If it exists, a comprehensive sync finds it; a filter does not hide it from here. "
        "The number that `links list` shows is given as link:766."
    )


def explain(link: RecordLink) -> Explanation:
    """Explain one link."""
    waited = linked_by([link.waits_on]) if link.waits_on else {}
    sentence = sentence_of(link, waited, queued_of([link]).get(link.pk))
    found = Explanation(link, link.reason, sentence, decode(link.args), _fields(link))
    for change in RecordChange.objects.filter(link=link).select_related("run", "decided_by").order_by("-id")[:50]:
        found.changes.append(
            {
                "at": change.at.isoformat(),
                "run": change.run_id,
                "side": change.side,
                "verb": change.verb,
                "status": change.status,
                "before": decode(change.before),
                "after": decode(change.after),
                "lost": decode(change.lost),
                "rule": decode(change.rule),
                "code": change.code,
                "message": change.message,
                "by": change.decided_by.get_username() if change.decided_by else "",
            }  # fmt: skip
        )
    found.events = [
        f"{event.at.isoformat()} {event.message}" for event in Event.objects.filter(link=link).order_by("-at")[:20]
    ]
    return found


def now_of(link: RecordLink, side: Side) -> CanonicalValues:
    """Return what one side of a record holds; nothing where it has no record."""
    if not _lives(link, side):
        return {}
    staged = getattr(link, f"{side}_staged")
    if staged is not None:
        return decode(staged)
    return {**decode(link.base), **decode(getattr(link, f"{side}_quirk"))} if link.base else {}


def _lives(link: RecordLink, side: Side) -> bool:
    return getattr(link, f"{side}_life") != Life.GONE and getattr(link, f"{side}_id") is not None


def _fields(link: RecordLink) -> list[dict[str, object]]:
    """Each field on both sides and in the base.  What takes part only at creation has nothing to agree on later."""
    base, rules = decode(link.base), _rules(link)
    once = {m.name for m in FieldMapping.objects.filter(entity_sync=link.entity_sync_id, when="create")}
    held = {side: {**base, **decode(getattr(link, f"{side}_quirk"))} for side in (LEFT, RIGHT)}
    now = {side: now_of(link, side) for side in (LEFT, RIGHT)}
    living: list[Side] = [side for side in (LEFT, RIGHT) if _lives(link, side)]
    gone = Life.GONE in (link.left_life, link.right_life)
    found: list[dict[str, object]] = []
    for name in sorted({*base, *now[LEFT], *now[RIGHT]} - MARKS):
        left, right = now[LEFT].get(name), now[RIGHT].get(name)
        # A side may hold the agreed value in a form of its own (cut, rounded): it agrees while that has not changed.
        unchanged = all(now[side].get(name) == held[side].get(name) for side in living)
        agreed = name in once or (name in base and (unchanged or (left == right and not gone)))
        found.append(
            {"field": name, "left": left, "base": base.get(name), "right": right, "agreed": agreed,
             "winner": rules.get(name, ("", ""))[1], "rule": rules.get(name, ("", ""))[0]}
        )  # fmt: skip
    return found


# Sentences


def name_of(base: str, *staged: str | None) -> str:
    """Return what a person would call the record, from its own values."""
    for text in (base, *staged):
        values = decode(text)
        names = [n for n in values if isinstance(values[n], str) and not str(values[n]).startswith(("@", "?", "!"))]
        for word in NAME_WORDS:
            found = next((str(values[n]) for n in sorted(names, key=len) if word in n.lower().replace("_", "")), "")
            if found:
                return found[:80]
    return ""


def title_of(link: RecordLink) -> str:
    """Return both records, or the one that is there: "Invoice 377, no partner yet"."""
    sides = [f"{getattr(link, f'{side}_entity')} {i}" for side in (LEFT, RIGHT) if (i := getattr(link, f"{side}_id"))]
    if len(sides) == 1:
        return f"{sides[0]}, no partner yet" if not link.ended else sides[0]
    return " = ".join(sides) or f"record {link.pk}"


def short_title(link: RecordLink) -> str:
    """Return one record with its name: Customer 172 (Ada Lovelace)."""
    side = LEFT if link.left_id else RIGHT
    name = name_of(link.base, link.left_staged, link.right_staged)
    record_id = getattr(link, f"{side}_id")
    if not record_id:
        return name or f"record {link.pk}"
    return f"{getattr(link, f'{side}_entity')} {record_id}" + (f" ({name})" if name and name != record_id else "")


def left_out(link: RecordLink) -> str:
    """Return why a record that others refer to has no partner, to go after "which"; '' when it is not left out."""
    if link.ended or link.pending != Pending.SKIPPED or link.reason != "outside":
        return ""
    return LEFT_OUT.get(str(decode(link.args).get("why")), ("is left out", ""))[0]


def reason_word(link: RecordLink) -> str:
    """Return the reason in a word or two."""
    if link.reason == "outside" and decode(link.args).get("why") == "inactive":
        return "inactive"
    return link.reason or "agreed"


def linked_by(keys: Iterable[str]) -> dict[str, RecordLink]:
    """Look up the links that others refer to or wait for, by key: one query."""
    wanted = sorted({key for key in keys if key})[:MOST_NAMES]
    return {link.key: link for link in RecordLink.objects.filter(key__in=wanted)} if wanted else {}


def queued_of(links: Iterable[RecordLink]) -> dict[int, Promotion]:
    """Return the open request for each of these records that flows only on request, by link: one query."""
    waiting: dict[tuple[int, str, str], int] = {
        (link.entity_sync_id, side, str(getattr(link, f"{side}_id"))): link.pk
        for link in links
        if link.reason == "waits for promotion"
        for side in [LEFT if decode(link.args).get("side") == LEFT else RIGHT]
    }
    if not waiting:
        return {}
    rows = Promotion.objects.filter(
        status=Promotion.Status.QUEUED,
        entity_sync__in={sync for sync, _, _ in waiting},
        external_id__in={record_id for _, _, record_id in waiting},
    )
    places = ((waiting.get((row.entity_sync_id, row.side, row.external_id)), row) for row in rows)
    return {link_id: row for link_id, row in places if link_id is not None}


QUEUED = "It is promoted, and queued for the bulk service, which writes it at its next run. Promote it now to write it at once."


def sentence_of(
    link: RecordLink, waited: Mapping[str, RecordLink] | None = None, queued: Promotion | None = None
) -> str:
    """Return the sentence that says why the record is as it is.

    `waited`: links that it may wait for, by key.  `queued`: the open request for it, where it flows only on request.
    """
    args = decode(link.args)
    if queued is not None and link.reason == "waits for promotion":
        return QUEUED if queued.waits else "It is promoted: the next run writes it."
    if link.ended:
        return "The link is over: one of the records was deleted."
    if link.reason == "waits for link" and (target := (waited or {}).get(link.waits_on or "")):
        return _waits(target)
    if link.reason in ("waits for approval", "deleted") or args.get("why") == "deleted and edited":
        return _deleted(link, args)
    sentence = REASONS.get(link.reason, link.reason)
    if args.get("message"):
        return f"{sentence} It said: {args['message']}"
    if isinstance(args.get("candidates"), list):
        return _alike(args["candidates"])
    if link.reason in ("held", "unlinked") and (args.get("by") or args.get("why")):
        by, why = (str(args.get(word) or "") for word in ("by", "why"))
        return " ".join([sentence, *([f"By {by}."] if by else []), *([f"Why: {why}"] if why else [])])
    if link.reason == "undone":
        by = f" by {args['by']}" if args.get("by") else ""
        return f"What run {args.get('run')} wrote here was undone{by}. Nothing is written until a person releases the record."
    if args.get("why") == "company" and not args.get("value"):
        return f"It belongs to no company ({args.get('field')} is empty) and is left out. Nothing is written and nothing deleted."
    if link.reason == "outside" and args.get("why"):
        clause, until = LEFT_OUT.get(str(args["why"]), ("is left out", ""))
        return f"It {clause}" + (f" until it {until}." if until else ".") + " Nothing is written and nothing deleted."
    if isinstance(args.get("fields"), list):
        return f"{sentence} Fields: {', '.join(field_title(str(name)) for name in args['fields'])}."  # type: ignore[union-attr]
    return sentence


def _alike(candidates: object) -> str:
    """Some records of the other side are alike: which, and how much."""
    named = [
        f"{c.get('name') or 'a record'} ({c.get('similarity')} %)"
        for c in (candidates if isinstance(candidates, list) else [])
        if isinstance(c, dict)
    ]
    return f"It is like {', '.join(named)} on the other side. A person joins them, or says that they are not the same."


def _waits(target: RecordLink) -> str:
    title = short_title(target)
    if target.reason == "unlinked":
        return f"{title} was unlinked by a person, so this waits until it is linked again."
    if target.reason == "undone":
        return f"{title} was undone and is held, so this waits until it is released."
    if target.state == RecordLink.State.HELD:
        return f"{title} is held by a person, so this waits until it is released."
    if target.pending == Pending.SKIPPED:
        why = str(decode(target.args).get("why")) if target.reason == "outside" else ""
        clause, until = LEFT_OUT.get(why, ("is itself left out by the settings", "may flow"))
        return f"{title} {clause}, so this waits until it {until}."
    if target.pending == Pending.PARKED:
        return f"{title} was itself refused, so this waits until that is mended."
    if target.pending == Pending.CONFLICT:
        return f"{title} itself waits for a person's decision, so this waits, too."
    if target.pending == Pending.WAITING:
        return f"{title} has no partner yet and itself waits ({target.reason}); this follows as soon as it is linked."
    return f"It refers to {title}, which has no partner yet; it follows as soon as that one is linked."


def system_of(link: RecordLink, side: Side) -> str:
    """Return what people call the system of one side."""
    ends = {s: getattr(link.integration, s) for s in (LEFT, RIGHT)}
    if ends[LEFT].system == ends[RIGHT].system:
        return str(ends[side].name)
    try:
        return connector_class(ends[side].system).title
    except UnknownSystem:
        return str(ends[side].system)


def url_of(link: RecordLink, side: Side) -> str:
    """Return where a person sees one side's record in its own system, "" where nobody knows."""
    record_id, connection = getattr(link, f"{side}_id"), getattr(link.integration, side)
    if not record_id or getattr(link, f"{side}_life") == Life.GONE:
        return ""
    try:
        found = getattr(connector_class(connection.system), "record_url", None)
    except UnknownSystem:
        return ""
    return str(found(connection.settings, getattr(link, f"{side}_entity"), record_id)) if found is not None else ""


def _deleted(link: RecordLink, args: Mapping[str, object]) -> str:
    """One side was deleted: which one, what became of the other, and what Approve will do."""
    gone: Side = LEFT if link.left_life == Life.GONE else RIGHT
    alive = OTHER[gone]
    one, other = (f"{getattr(link, f'{s}_entity')} {getattr(link, f'{s}_id')}" for s in (gone, alive))
    there, here = system_of(link, gone), system_of(link, alive)
    if link.reason == "waits for approval":
        does = f"makes {other} inactive in" if args.get("verb") == "archive" else f"deletes {other} in"
        return f"{one} was deleted in {there}. Approve {does} {here}; until then nothing is written."
    if link.reason == "conflict":
        return (
            f"{one} was deleted in {there}, and {other} was edited in {here}. A person decides: approve the delete, "
            f"or let the {alive} win, which makes the record again in {there}."
        )
    if DELETED in decode(link.base):
        return f"{other} was made inactive in {here}, because its partner was deleted in {there}."
    if getattr(link, f"{alive}_life") == Life.ARCHIVED:
        return f"{one} was deleted in {there}. {other} is inactive in {here} already, so nothing is left to do."
    return f"{one} was deleted in {there}. By the settings {other} stays as it is in {here}."


# Values as text


def keys_in(value: object) -> list[str]:
    """Return the keys of the links that a value refers to."""
    if isinstance(value, str):
        return [value[1:]] if value.startswith("@") else []
    if isinstance(value, dict):
        return [key for each in value.values() for key in keys_in(each)]
    if isinstance(value, list):
        return [key for each in value for key in keys_in(each)]
    return []


class Labels(dict[tuple[str, str], str]):
    """(mapping, token) -> label; of options that share a partner the label of the one that is written.

    `own`: (mapping, side, key) -> (token, label) of every option.
    """

    def __init__(self, options: Iterable[PicklistMapping]) -> None:
        super().__init__()
        self.own: dict[tuple[str, str, str], tuple[str, str]] = {}
        for o in sorted(options, key=lambda o: (not o.writes_left, not o.writes_right)):
            name = o.field_mapping.name
            self.setdefault((name, o.token), o.left_label or o.right_label or o.token)
            for side, key, label in ((LEFT, o.left_key, o.left_label), (RIGHT, o.right_key, o.right_label)):
                self.own[name, side, key] = (o.token, label or key)

    def held(self, link: RecordLink, side: Side, name: str, value: object) -> str:
        """Return the label of the very option that a side holds, where its canonical value does not tell; else ""."""
        shown = decode(getattr(link, f"{side}_quirk")).get(SHOWN)
        for held in shown if isinstance(shown, list) else ():
            token, label = self.own.get((name, side, held[1]), ("", "")) if held[0] == name else ("", "")  # type: ignore[index]
            if label and token == value:
                return label
        return ""


def labels_of(syncs: Iterable[int]) -> Labels:
    """Return the labels of the options of these entity syncs: one query."""
    rows = PicklistMapping.objects.filter(field_mapping__entity_sync__in=list(syncs)).select_related("field_mapping")
    return Labels(rows[:5000])


@dataclass
class Teller:
    """Says canonical values in plain text: references by the other record, options by label."""

    links: Mapping[str, RecordLink]
    labels: Labels

    @classmethod
    def of(cls, found: Explanation) -> Teller:
        """Look up what an explanation mentions: two queries."""
        keys = {key for line in found.fields for side in ("left", "base", "right") for key in keys_in(line[side])}
        return cls(linked_by(keys), labels_of([found.link.entity_sync_id]))

    def held(self, link: RecordLink, side: Side, name: str, value: object) -> str:
        """Return the value that one side of a record holds: of options that share a partner the very one."""
        return self.labels.held(link, side, name, value) or self.text(name, value)

    def text(self, name: str, value: object) -> str:
        """Return one value."""
        if value is None or value == "":
            return "empty"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, list):
            rows = "; ".join(self.text(name, row) for row in value)
            return f"{len(value)} line{'' if len(value) == 1 else 's'} ({rows})"
        if isinstance(value, dict):
            return ", ".join(f"{k} {self.text(f'{name}.{k}', v)}" for k, v in value.items() if v not in (None, ""))
        text = str(value)
        if text.startswith("@") and (link := self.links.get(text[1:])):
            clause = left_out(link)
            return short_title(link) + (f", which {clause}" if clause else "")
        if text.startswith("?"):
            place, _, record_id = text[1:].partition(":")
            return f"{place.rpartition('/')[2]} {record_id} (not linked yet)"
        if text.startswith("!"):
            return f"{text[1:]} (option without partner)"
        return self.labels.get((name, text), text)


def _rules(link: RecordLink) -> dict[str, tuple[str, str]]:
    """The last rule that decided each field, and the side whose value it took ("" where nobody lost)."""
    rules: dict[str, tuple[str, str]] = {}
    rows = RecordChange.objects.filter(link=link).exclude(rule="").order_by("id").values_list("rule", "side")
    for text, side in rows:
        rules.update({name: (why, OTHER[LEFT if side == LEFT else RIGHT]) for name, why in json.loads(text).items()})
    return rules
