"""An integration says in one sentence what it does, and each setting what it means."""

from dataclasses import dataclass, field

from connectors.sync import sentences
from connectors.sync.sentences import Names

NAMES = Names("QuickBooks (Acme)", "Dynamics 365 (Acme CRM)", {("left", "CompanyName"): "Company"})


@dataclass
class Sync:
    name: str
    direction: str = "both"
    policy: str = "last_updated"
    on_delete: str = "ask"
    enabled: bool = True
    push: dict[str, object] = field(default_factory=dict)


def told(*syncs: Sync, schedules: tuple[str, ...] = (), enabled: bool = True) -> str:
    return sentences.integration_sentence(NAMES, syncs, schedules, enabled=enabled)


def test_what_an_integration_does_is_one_sentence():
    assert told(
        Sync("customer"), Sync("contact"), Sync("item"), Sync("invoice history", "to_right"),
        Sync("quote", "to_left", push={"left": "on_request"}),
        schedules=("Every 30 minutes, 08:00 to 17:00, every day, Europe/Paris",),
    ) == (
        "Keeps customers, contacts and items of QuickBooks (Acme) and Dynamics 365 (Acme CRM) in agreement; invoice history flows "
        "from QuickBooks (Acme) to Dynamics 365 (Acme CRM); quotes flow from Dynamics 365 (Acme CRM) to QuickBooks (Acme) on "
        "request; every 30 minutes, 08:00 to 17:00, every day, Europe/Paris; where both sides changed the same field the last "
        "edit wins; deletes wait for approval."
    )  # fmt: skip


def test_what_differs_from_the_most_is_said_of_whom():
    said = told(Sync("customer"), Sync("item"), Sync("person", policy="left", on_delete="ignore"))
    assert "the last edit wins, for people QuickBooks (Acme) wins" in said
    assert "deletes wait for approval, for people deletes change nothing on the other side" in said


def test_what_is_off_is_not_told_and_nothing_is_said_so():
    assert "item" not in told(Sync("customer"), Sync("item", enabled=False))
    assert told(Sync("customer", enabled=False)) == (
        "Keeps nothing of QuickBooks (Acme) and Dynamics 365 (Acme CRM) in agreement: every entity sync is switched off."
    )
    assert told(Sync("customer"), enabled=False).startswith("Switched off at present. When on: Keeps customers")
    assert "only when somebody presses Sync now" in told(Sync("customer"))


def test_many_are_counted():
    many = [Sync(name) for name in ("customer", "contact", "item", "invoice", "bill", "quote")]
    assert "customers, contacts, items and 3 more" in told(*many)


def test_plurals():
    assert [sentences.plural(word) for word in ("company", "person", "key", "sales", "credit memo history")] == [
        "companies", "people", "keys", "sales", "credit memo history",
    ]  # fmt: skip


def test_each_setting_has_words():
    words = {
        "filters": [{"side": "left", "field": "CompanyName", "op": "filled"}, {"side": "right", "field": "x", "op": "in", "value": [1, 2]}],
        "prevents": ["left.create", "right.update", "right.delete"],
        "window": {"field": "TxnDate", "past": 30, "future": 365},
        "match": [["Email>email"], ["First>first", "Last>last"]],
        "push": {"left": "on_request"},
        "match_tolerance": 88,
        "route": {"side": "right", "fields": {"account": "company"}, "value": "North"},
        "policy": "right",
        "constant": None,
    }  # fmt: skip
    assert {name: sentences.setting_words(name, value, NAMES) for name, value in words.items()} == {
        "filters": "QuickBooks (Acme) Company is filled; Dynamics 365 (Acme CRM) x is one of 1, 2",
        "prevents": "create in QuickBooks (Acme); update and delete in Dynamics 365 (Acme CRM)",
        "window": "TxnDate: 30 days back and 365 days ahead",
        "match": "Email = email, else First = first and Last = last",
        "push": "only promoted records go to QuickBooks (Acme)",
        "match_tolerance": "asked from 88 % of similarity",
        "route": "those of Dynamics 365 (Acme CRM) with company = North",
        "policy": "Dynamics 365 (Acme CRM) wins",
        "constant": "none",
    }


def test_of_several_filters_it_is_told_which_come_and_go():
    one, two, three = ({"side": "left", "field": name, "op": "filled"} for name in "abc")
    assert sentences.differences({"filters": [one, two]}, {"filters": [two, three]}, NAMES) == [
        "Filters: no longer QuickBooks (Acme) a is filled; now also QuickBooks (Acme) c is filled"
    ]
    assert sentences.differences({"filters": []}, {"filters": [one]}, NAMES) == [
        "Filters: none → QuickBooks (Acme) a is filled"
    ]
