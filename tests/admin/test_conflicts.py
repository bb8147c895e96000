"""Can a person see and decide conflicts, one by one or many at once, and is what is stale or not allowed refused?"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext

from connectors.models import Event, RecordLink
from connectors.sync import decisions
from connectors.sync.conflicts import seen_of
from connectors.sync.values import decode
from jobs import clock
from jobs.models import Job
from tests.sync.hard_world import Hard

LIST = "/admin/conflicts/"
BULK = "/admin/conflicts/bulk/"


@pytest.fixture
def hard(db: None) -> Hard:
    return Hard(policy="ask", edit_v_delete="ask", on_delete="ask")


def conflict(world: Hard, *fields: str) -> RecordLink:
    left, right = world.pair_up(city="Paris", email="old@ada.example")
    world.settle()
    for field in fields or ("city", "email"):
        world.left.put("person", left, {field: f"left {field}"})
        world.right.put("person", right, {field: f"right {field}"})
    world.run()
    return world.link(left=left)


def deleted(world: Hard) -> RecordLink:
    left, right = world.pair_up(city="Paris")
    world.settle()
    world.left.delete("person", left)
    world.right.put("person", right, {"city": "Oslo"})
    world.run()
    return world.link(right=right)


def alike(world: Hard) -> RecordLink:
    left = world.left.create("person", {"name": "Twin"})
    for city in ("Rome", "Bern"):
        world.right.create("person", {"name": "Twin", "city": city})
    world.run()
    return world.link(left=left)


def one(link: RecordLink) -> str:
    return f"/admin/conflicts/{link.pk}/"


def shown(client: Client, link: RecordLink) -> str:
    """Return the hidden value with which the page keeps what it shows."""
    page = client.get(one(link))
    return str(page.context["card"].seen)


def text_of(answer: Any) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


# The list


def test_the_list_shows_each_kind_and_filters_by_kind_and_place(boss: Client, hard: Hard) -> None:
    fields, gone, twin = conflict(hard), deleted(hard), alike(hard)
    page = boss.get(LIST)
    assert {card.link.pk for card in page.context["cards"]} >= {fields.pk, gone.pk, twin.pk}
    text = text_of(page)
    assert "left city" in text and "right city" in text and "Paris" in text
    assert "Make it again in left" in text and "Delete it in right, too" in text
    for kind, link in (("fields", fields), ("deleted", gone)):
        cards = boss.get(f"{LIST}?kind={kind}").context["cards"]
        assert [card.link.pk for card in cards] == [link.pk]
    assert {c.kind for c in boss.get(f"{LIST}?kind=ambiguous").context["cards"]} == {"ambiguous"}
    assert boss.get(f"{LIST}?where=i{hard.integration.pk}").context["total"] == 5
    assert boss.get(f"{LIST}?where=s{hard.sync.pk + 1}").context["cards"] == []
    assert boss.get(f"{LIST}?where=s{'9' * 40}&kind=x&after=9-y").status_code == 200


def test_the_navigation_says_how_many(boss: Client, hard: Hard) -> None:
    assert "Conflicts" in text_of(boss.get("/admin/"))
    conflict(hard)
    deleted(hard)
    page = text_of(boss.get("/admin/connectors/run/"))
    assert re.search(r"Conflicts.{0,400}?> 2 <", page)


def test_pages_follow_each_other_without_a_gap(boss: Client, hard: Hard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.admin.conflicts.PER_PAGE", 2)
    links = {conflict(hard, "city").pk for _ in range(5)}
    seen: list[int] = []
    address = LIST
    while address:
        page = boss.get(address)
        seen += [card.link.pk for card in page.context["cards"]]
        address = f"{LIST}?after={page.context['next']}" if page.context["next"] else ""
    assert (len(seen), set(seen)) == (5, links)


def test_the_list_costs_the_same_with_10_and_with_1000(boss: Client, hard: Hard) -> None:
    model = conflict(hard)

    def more(count: int) -> None:
        rows = [RecordLink.objects.get(pk=model.pk) for _ in range(count)]
        for number, row in enumerate(rows):
            row.pk, row.key = None, f"{count}-{number}"
            row.left_id, row.right_id = f"l{count}-{number}", f"r{count}-{number}"
        RecordLink.objects.bulk_create(rows)

    def queries(address: str) -> int:
        with CaptureQueriesContext(
            database,
        ) as caught:
            assert boss.get(address).status_code == 200
        return len(caught)

    more(9)
    boss.get(LIST)
    few = [queries(LIST), queries(one(model))]
    more(990)
    assert [queries(LIST), queries(one(model))] == few
    assert few[0] < 20


# One by one


def test_a_conflict_is_decided_field_by_field_and_one_sync_is_asked_for(boss: Client, hard: Hard) -> None:
    link = conflict(hard)
    told = {
        "choice": "fields",
        "side:city>city": "left",
        "side:email>email": "right",
        "sync": "1",
        "seen": shown(boss, link),
    }
    page = boss.post(one(link), told, follow=True)
    job = Job.objects.get()
    assert f"job {job.pk}" in text_of(page)
    link.refresh_from_db()
    assert decode(link.args) == {"resolution": {"city>city": "left", "email>email": "right"}}
    hard.settle()
    assert hard.value("right", str(link.right_id), "city") == "left city"
    assert hard.value("left", str(link.left_id), "email") == "right email"
    entry = LogEntry.objects.get(object_id=str(link.pk))
    assert entry.user.username == "ada" and "Conflict decided" in entry.change_message
    assert "reason: conflict → changed" in entry.change_message


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_side_is_taken_in_every_field(boss: Client, hard: Hard, side: str) -> None:
    link = conflict(hard)
    page = boss.post(one(link), {"choice": side, "seen": shown(boss, link)}, follow=True)
    assert "The next sync carries it out" in text_of(page)
    assert not Job.objects.exists(), "nobody asked for a sync"
    hard.settle()
    assert (
        hard.value("left", str(link.left_id), "city")
        == hard.value("right", str(link.right_id), "city")
        == f"{side} city"
    )


def test_a_field_without_a_side_is_told_at_the_field_and_the_choice_is_kept(boss: Client, hard: Hard) -> None:
    link = conflict(hard)
    told = {"choice": "fields", "side:city>city": "left", "seen": shown(boss, link)}
    page = boss.post(one(link), told)
    assert page.status_code == 200
    rows = {row.name: row for row in page.context["card"].rows}
    assert (rows["city>city"].chosen, rows["city>city"].error) == ("left", "")
    assert rows["email>email"].error == "Choose left or right."
    link.refresh_from_db()
    assert link.reason == "conflict"


def test_a_page_that_is_older_than_the_values_is_refused_with_what_changed(boss: Client, hard: Hard) -> None:
    link = conflict(hard)
    seen = shown(boss, link)
    hard.right.put("person", str(link.right_id), {"city": "Bergen"})
    hard.run()
    page = boss.post(one(link), {"choice": "left", "seen": seen})
    assert "city = city: the right now holds Bergen" in text_of(page)
    link.refresh_from_db()
    assert link.reason == "conflict"
    boss.post(one(link), {"choice": "left", "seen": page.context["card"].seen})
    link.refresh_from_db()
    assert link.reason == "changed"


def test_a_form_without_what_was_seen_decides_nothing(boss: Client, hard: Hard) -> None:
    link = conflict(hard)
    for told in (
        {"choice": "left"},
        {"choice": "left", "seen": "{"},
        {"seen": shown(boss, link)},
        {"choice": "everything"},
    ):
        boss.post(one(link), told)
        link.refresh_from_db()
        assert link.reason == "conflict"


def test_the_same_decision_twice_is_one_decision_and_one_job(boss: Client, hard: Hard) -> None:
    link = conflict(hard)
    told = {"choice": "left", "sync": "1", "seen": shown(boss, link)}
    boss.post(one(link), told)
    again = boss.post(one(link), told, follow=True)
    assert "not in conflict any more" in text_of(again)
    assert "by ada" in text_of(again)
    assert Event.objects.filter(code="resolved").count() == Job.objects.count() == 1


@pytest.mark.parametrize(("choice", "left", "right"), [("again", 1, 1), ("delete", 0, 0)])
def test_a_deleted_and_edited_record_is_made_again_or_deleted(
    boss: Client, hard: Hard, choice: str, left: int, right: int
) -> None:
    link = deleted(hard)
    boss.post(one(link), {"choice": choice, "seen": shown(boss, link)})
    hard.settle()
    assert (len(hard.left.ids("person")), len(hard.right.ids("person"))) == (left, right)


def test_holding_leaves_both_as_they_are(boss: Client, hard: Hard) -> None:
    link = deleted(hard)
    page = boss.post(one(link), {"choice": "hold", "seen": shown(boss, link), "sync": "1"}, follow=True)
    assert "until they are released" in text_of(page)
    assert not Job.objects.exists()
    link.refresh_from_db()
    assert link.state == RecordLink.State.HELD


def test_a_switched_off_integration_is_decided_and_says_that_nothing_runs(boss: Client, hard: Hard) -> None:
    link = conflict(hard)
    type(hard.integration).objects.update(enabled=False)
    page = boss.post(one(link), {"choice": "left", "seen": shown(boss, link), "sync": "1"}, follow=True)
    assert "is switched off" in text_of(page)
    link.refresh_from_db()
    assert link.reason == "changed"


def test_a_record_that_is_not_in_conflict_leads_to_its_own_page(boss: Client, hard: Hard) -> None:
    left, _ = hard.pair_up()
    link = hard.link(left=left)
    assert boss.get(one(link))["Location"] == f"/admin/connectors/recordlink/{link.pk}/change/"
    assert boss.get("/admin/conflicts/999999/").status_code == 404


# Many


def ask(client: Client, choice: str = "left", **told: object) -> Any:
    return client.post(BULK, {"choice": choice, **told})


def confirm(client: Client, page: Any, **more: object) -> Any:
    """Send the form of the page that asks once more."""
    context = page.context
    told: dict[str, object] = {name: context[name] for name in ("choice", "where", "kind", "print")}
    told |= {"count": context["total"], "next": context["here"], **more}
    told |= {"all": "1"} if context["ids"] is None else {"link": context["ids"]}
    return client.post(BULK, told, follow=True)


def test_all_of_the_filter_is_asked_about_once_more_and_then_decided(
    boss: Client, hard: Hard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.admin.conflicts.SHOWN", 4)
    links = [conflict(hard, "city") for _ in range(6)]
    gone = deleted(hard)
    page = ask(boss, all="1")
    text = text_of(page)
    assert page.context["total"] == 7 and len(page.context["links"]) == 4
    assert "The left wins: 6 records?" in text and "… and 2 more" in text
    assert "1 stays as it is" in text and "make it again, or delete the other, too" in text
    assert RecordLink.objects.filter(reason="conflict").count() == 7, "nothing is decided before it is confirmed"
    page = confirm(boss, page, sync="1")
    text = text_of(page)
    assert "6 records decided" in text and "one record was deleted and the other edited" in text
    assert Job.objects.count() == 1
    assert LogEntry.objects.filter(change_message__startswith="Conflict decided").count() == 6
    gone.refresh_from_db()
    assert gone.reason == "conflict"
    hard.settle()
    assert {hard.value("right", str(link.right_id), "city") for link in links} == {"left city"}


def test_only_the_ticked_are_decided(boss: Client, hard: Hard) -> None:
    links = [conflict(hard, "city") for _ in range(3)]
    confirm(boss, ask(boss, "right", link=[links[0].pk, links[2].pk]))
    assert [RecordLink.objects.get(pk=link.pk).reason for link in links] == ["changed", "conflict", "changed"]


@pytest.mark.parametrize("meanwhile", ["another", "edited", "decided"])
def test_a_selection_that_has_changed_is_shown_again_instead_of_decided(
    boss: Client, hard: Hard, meanwhile: str
) -> None:
    first, _ = conflict(hard, "city"), conflict(hard, "city")
    page = ask(boss, all="1")
    if meanwhile == "another":
        conflict(hard, "city")
    elif meanwhile == "edited":
        hard.left.put("person", str(first.left_id), {"city": "Oslo"})
        hard.run()
    else:
        decisions.resolve(RecordLink.objects.get(pk=first.pk), "right", now=clock.now())
    before = Event.objects.filter(code="resolved").count()
    again = confirm(boss, page)
    assert "has changed meanwhile" in text_of(again)
    assert Event.objects.filter(code="resolved").count() == before
    assert "decided" in text_of(confirm(boss, again))


def test_confirming_twice_decides_once(boss: Client, hard: Hard) -> None:
    conflict(hard), conflict(hard)
    page = ask(boss, all="1")
    confirm(boss, page, sync="1")
    confirm(boss, page, sync="1")
    assert Event.objects.filter(code="resolved").count() == 2
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    "told", [{"choice": "left"}, {"choice": "x", "all": "1"}, {"choice": "left", "link": ["x", "9" * 30]}]
)
def test_a_bulk_decision_about_nothing_is_told(boss: Client, hard: Hard, told: dict[str, object]) -> None:
    conflict(hard)
    page = boss.post(BULK, told, follow=True)
    assert page.status_code == 200
    assert re.search("Tick the records first|Choose what is to become", text_of(page))
    assert not Event.objects.filter(code="resolved").exists()


# Who may


def test_a_viewer_sees_everything_and_decides_nothing(viewer: Client, hard: Hard) -> None:
    link = conflict(hard)
    for address in (LIST, one(link)):
        page = viewer.get(address)
        assert page.status_code == 200 and "left city" in text_of(page)
        assert "Take all left" not in text_of(page) and 'type="radio"' not in text_of(page)
    assert viewer.post(one(link), {"choice": "left", "seen": seen_of(link)}).status_code == 403
    assert viewer.post(BULK, {"choice": "left", "all": "1"}).status_code == 403
    link.refresh_from_db()
    assert link.reason == "conflict"


def test_nobody_who_may_not_see_records_sees_conflicts(client: Client, person: Callable[..., User], hard: Hard) -> None:
    link = conflict(hard)
    client.force_login(person("view_run"))
    assert [client.get(address).status_code for address in (LIST, one(link))] == [403, 403]
    assert client.post(BULK, {"choice": "left", "all": "1"}).status_code == 403


def test_who_may_not_sync_decides_and_no_sync_is_asked_for(
    client: Client, person: Callable[..., User], hard: Hard
) -> None:
    link = conflict(hard)
    client.force_login(person("view_recordlink", "change_recordlink"))
    page = client.post(one(link), {"choice": "left", "seen": shown(client, link), "sync": "1"})
    assert page.status_code == 302
    assert not Job.objects.exists()
    link.refresh_from_db()
    assert link.reason == "changed"
