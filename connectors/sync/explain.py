"""Why is this record as it is?  Both sides, the base, each field's rule, the one reason, changes, calls, people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from connectors.models import EntitySync, Event, Integration, RecordChange, RecordLink
from connectors.sync.plan import Life
from connectors.sync.values import decode

REASONS = {
    "": "Both sides agree.",
    "changed": "A side has changed; the next run plans it.",
    "planned": "A write is planned or under way.",
    "waits for link": "It refers to a record that has no partner yet; it follows as soon as that one is linked.",
    "waits for approval": "It was deleted on one side. Deletes wait until a person approves them.",
    "waits for promotion": "Records of this kind flow only on request. Promote it.",
    "waits for listing": "The other side has not been read to its end yet, so it may have a partner there.",
    "changed meanwhile": "It changed while it was being written, twice. The next run looks again.",
    "outside": "A filter, window or direction leaves it out. Nothing is written and nothing deleted.",
    "prevented": "The settings forbid what it needs, or a field was changed where it can't flow from.",
    "conflict": "Both sides changed and the policy is to ask. A person decides.",
    "ambiguous": "Several records could be its partner. A person decides.",
    "parked": "The other system refused it. It is tried again when the record, its mapping or the other side changes, or on request.",
    "held": "A person holds it.",
    "deleted": "Its partner was deleted. By the settings this record stays as it is.",
    "merged": "It was merged into another record on one side. A person decides.",
    "lossy": "The change comes from a side that holds a shortened value; writing it back would lose text.",
}


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
    """Return the newest link of a record, given by its entity (of either side, or an entity sync's name) and id."""
    links = RecordLink.objects.filter(integration=integration).select_related("entity_sync").order_by("ended", "-id")
    syncs = list(EntitySync.objects.filter(integration=integration))
    names = {name for sync in syncs for name in (sync.name, sync.left_entity, sync.right_entity)}
    if entity not in names:
        raise NotKnown(f"{integration} has no entity {entity!r}. It has: {', '.join(sorted(names))}.")
    for side in ("left", "right"):
        named = {
            getattr(sync, f"{side}_entity") for sync in syncs if entity in (sync.name, getattr(sync, f"{side}_entity"))
        }
        link = links.filter(**{f"{side}_entity__in": named, f"{side}_id": record_id}).first()
        if link is not None:
            return link
    raise NotKnown(
        f"No run has met {entity} {record_id} yet. If it exists, a comprehensive sync finds it; a filter does not hide it from here."
    )


def explain(link: RecordLink) -> Explanation:
    """Explain one link."""
    args = decode(link.args)
    found = Explanation(link, link.reason, _sentence(link, args), args)
    base, rules = decode(link.base), _rules(link)
    now = {}
    for side in ("left", "right"):
        staged, quirk = getattr(link, f"{side}_staged"), decode(getattr(link, f"{side}_quirk"))
        there = getattr(link, f"{side}_id") is not None
        now[side] = decode(staged) if staged is not None else ({**base, **quirk} if there and link.base else {})
    for name in sorted({*base, *now["left"], *now["right"]}):
        left, right = now["left"].get(name), now["right"].get(name)
        found.fields.append(
            {
                "field": name,
                "left": left,
                "base": base.get(name),
                "right": right,
                "agreed": name in base and left == right,
                "rule": rules.get(name, ""),
            }  # fmt: skip
        )
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


def _sentence(link: RecordLink, args: Mapping[str, object]) -> str:
    if link.ended:
        return "The link is over: one of the records was deleted."
    sentence = REASONS.get(link.reason, link.reason)
    if args.get("message"):
        return f"{sentence} It said: {args['message']}"
    if link.reason == "outside" and args.get("why"):
        return f"{sentence} Here: {args['why']}."
    if args.get("fields"):
        return f"{sentence} Fields: {', '.join(str(name) for name in args['fields'])}."  # type: ignore[attr-defined]
    return sentence


def _rules(link: RecordLink) -> dict[str, str]:
    """The last rule that decided each field."""
    rules: dict[str, str] = {}
    for (text,) in RecordChange.objects.filter(link=link).exclude(rule="").order_by("id").values_list("rule"):
        rules.update(json.loads(text))
    return rules
