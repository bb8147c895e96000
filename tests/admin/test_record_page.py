"""Does a record's page say how it stands, why, and what happened, and can a person do there what there is to do?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from config.access import OPERATOR
from connectors.models import ApiCall, Event, Promotion, RecordChange, RecordLink, Run
from connectors.sync.matching import ELSEWHERE
from jobs.models import Job, Pause
from jobs.worker import run_in_process
from tests.sync.hard_world import Hard

EMAIL = "ada.lovelace@analytical.example"


@pytest.fixture
def hard(db: None) -> Hard:
    return Hard(policy="ask")


def url(link: RecordLink, button: str = "") -> str:
    return f"/admin/connectors/recordlink/{link.pk}/{f'do/{button}' if button else 'change'}/"


def text_of(answer: Any) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


def paired(world: Hard, **values: object) -> RecordLink:
    left, _ = world.pair_up(**{"city": "Paris", "email": EMAIL, **values})
    world.settle()
    return world.link(left=left)


def parked(world: Hard) -> RecordLink:
    """A record that stands still."""
    link = paired(world)
    RecordLink.objects.filter(pk=link.pk).update(
        pending=RecordLink.Pending.PARKED, reason="parked", args='{"code":"x","message":"No such town."}', revision=9
    )
    return RecordLink.objects.get(pk=link.pk)


def gates(page: Any) -> dict[str, str]:
    return {gate["title"]: gate["tone"] for gate in page.context["gates"]}


# What it says


def test_it_shows_both_records_the_fields_with_their_winner_and_all_gates_passed(boss: Client, hard: Hard) -> None:
    link = paired(hard)
    hard.left.put("person", str(link.left_id), {"city": "Rome"})
    hard.run()
    page = boss.get(url(link))
    text = text_of(page)
    assert str(link.left_id) in text and str(link.right_id) in text and "Both sides agree." in text
    [city] = [line for line in page.context["lines"] if "city" in str(line["field"])]
    assert (city["winner"], city["rule"]) == ("left", "changed on the left")
    assert set(gates(page).values()) == {"yes"}


def test_it_stops_at_the_gate_that_holds_it_and_says_why(boss: Client, hard: Hard) -> None:
    link = paired(hard)
    hard.left.put("person", str(link.left_id), {"city": "Rome"})
    hard.right.put("person", str(link.right_id), {"city": "Oslo"})
    hard.run()
    page = boss.get(url(link))
    found = gates(page)
    assert found["Not both sides changed the same field, or somebody decided"] == "no"
    assert found["It is planned and written"] == "later"
    assert list(found.values()).count("no") == 1
    assert "Take all left" in text_of(page), "it is decided here, too"


def test_what_holds_back_the_whole_hub_stands_first(boss: Client, hard: Hard) -> None:
    link = paired(hard)
    Pause.objects.create(kind=Pause.Kind.HUB, reason="We move house")
    page = boss.get(url(link))
    assert gates(page)["The integration runs"] == "no"
    assert "We move house" in text_of(page)


@pytest.mark.parametrize(
    ("pending", "reason", "args", "tone", "title"),
    [
        (2, "waits for link", "{}", "waits", "What it refers to has its partner"),
        (3, "outside", '{"why":"filter","side":"left"}', "no", "Filter, dates, company and direction let it in"),
        (3, "prevented", "{}", "no", "The settings allow what it needs"),
        (5, "parked", '{"message":"No."}', "no", "The other system takes it"),
        (1, "changed", '{"resolution":"left"}', "waits", "It is planned and written"),
        (6, "planned", "", "waits", "It is planned and written"),
    ],
)
def test_each_reason_has_its_gate(
    boss: Client, hard: Hard, pending: int, reason: str, args: str, tone: str, title: str
) -> None:
    link = paired(hard)
    RecordLink.objects.filter(pk=link.pk).update(pending=pending, reason=reason, args=args)
    assert gates(boss.get(url(link)))[title] == tone


def test_a_record_queued_for_bulk_says_so(boss: Client, hard: Hard) -> None:
    hard.change(push={"right": "on_request"})
    left = hard.left.create("person", {"name": "Ada"})
    hard.run()
    link = hard.link(left=left)
    assert "nobody has promoted this one yet" in text_of(boss.get(url(link)))
    Promotion.objects.create(entity_sync=hard.sync, side="left", external_id=left, at=timezone.now(), waits=True)
    text = text_of(boss.get(url(link)))
    assert "queued for the bulk service" in text and "nobody has promoted" not in text
    assert "/do/promote/" in text, "it may go at once all the same"


# The timeline


def test_the_timeline_is_newest_first_by_day_and_filters_by_kind(boss: Client, hard: Hard) -> None:
    link = paired(hard)
    boss.post(url(link, "hold"), {"why": "moving"})
    Event.objects.create(integration=hard.integration, link=link, code="x", message="Odd.", at=timezone.now())
    change = RecordChange.objects.filter(link=link).latest("id")
    ApiCall.objects.create(
        connection=hard.integration.right,
        at=timezone.now(),
        method="POST",
        path="/batch",
        status=200,
        run_id=change.run_id,
    )
    page = boss.get(url(link))
    kinds = [item["kind"] for _, items in page.context["days"] for item in items]
    assert kinds == ["event", "person", "change"]
    assert "Held: moving" in text_of(page)
    for show, wanted in (("change", "change"), ("person", "person"), ("event", "event"), ("call", "call")):
        page = boss.get(f"{url(link)}?show={show}")
        assert {item["kind"] for _, items in page.context["days"] for item in items} == {wanted}


def test_requests_are_for_those_who_may_see_requests(person: Callable[..., User], client: Client, hard: Hard) -> None:
    link = paired(hard)
    run = RecordChange.objects.filter(link=link).latest("id").run_id
    ApiCall.objects.create(
        connection=hard.integration.right, at=timezone.now(), method="POST", path="/batch", status=200, run_id=run
    )
    user = person("view_recordlink")
    client.force_login(user)
    page = client.get(f"{url(link)}?show=call")
    assert {item["kind"] for _, items in page.context["days"] for item in items} == {"change"}
    assert "call" not in dict(page.context["kinds"])
    address = f"/api/v1/links/{link.pk}/timeline/"
    assert client.get(address).status_code == 200
    assert client.get(address, {"kind": "call"}).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_apicall"))
    assert len(client.get(address, {"kind": "call"}).json()["results"]) == 1
    assert "/batch" in client.get(f"{url(link)}?show=call").content.decode()


def test_older_pages_follow_without_gap_or_repetition(boss: Client, hard: Hard) -> None:
    link = paired(hard)
    at = timezone.now()
    Event.objects.bulk_create(
        Event(
            integration=hard.integration, link=link, code="x", message=f"Event {n}", at=at, actor="ada" if n % 2 else ""
        )
        for n in range(70)
    )
    seen: list[tuple[str, int]] = []
    address = url(link)
    for _ in range(10):
        page = boss.get(address)
        seen += [(item["kind"], item["row"].pk) for _, items in page.context["days"] for item in items]
        if not page.context["older"]:
            break
        address = f"{url(link)}?before={page.context['older'].replace('+', '%2B')}"
    assert len(seen) == len(set(seen)) == 70 + RecordChange.objects.filter(link=link).count()


@pytest.mark.parametrize("before", ["x", "2026-01-01~change~1", "2026-01-01T00:00:00+00:00~change~-1", "2026~~"])
def test_a_made_up_place_in_the_timeline_is_not_found(boss: Client, hard: Hard, before: str) -> None:
    assert boss.get(url(paired(hard)), {"before": before}).status_code == 404


def test_the_page_costs_the_same_however_long_the_history_is(boss: Client, hard: Hard) -> None:
    link = paired(hard)
    run = Run.objects.latest("id")

    def more(count: int) -> None:
        at = timezone.now()
        RecordChange.objects.bulk_create(
            RecordChange(
                run=run, link=link, entity_sync=hard.sync, side="right", verb="update", status="written",
                key=f"{count}-{n}", after='{"city>city":"Rome"}', at=at,
            )
            for n in range(count)
        )  # fmt: skip
        Event.objects.bulk_create(
            Event(integration=hard.integration, link=link, code="x", message="x", at=at) for _ in range(count)
        )

    def queries(address: str) -> int:
        with CaptureQueriesContext(database) as caught:
            assert boss.get(address).status_code == 200
        return len(caught)

    addresses = [url(link), f"{url(link)}?show=call"]
    more(10)
    boss.get(url(link))
    few = [queries(address) for address in addresses]
    more(990)
    assert [queries(address) for address in addresses] == few


# What can be done


@pytest.mark.parametrize("how", ["reread", "plan", "same"])
def test_a_parked_record_has_the_three_retries(boss: Client, hard: Hard, how: str) -> None:
    link = parked(hard)
    assert f"/do/again_{how}/" in text_of(boss.get(url(link)))
    page = boss.post(url(link, f"again_{how}"), follow=True)
    job = Job.objects.get()
    assert f"job {job.pk}" in text_of(page)
    assert job.params["retry"] == {"links": [link.pk], "how": how}
    boss.post(url(link, f"again_{how}"))
    assert Job.objects.count() == 1
    assert Event.objects.filter(link=link, code="asked again").count() == 1


def test_a_resync_reads_both_records_again_and_plans_this_one_alone(boss: Client, hard: Hard) -> None:
    link, other = parked(hard), paired(hard)
    hard.left.tables["person"][str(link.left_id)].values["city"] = "Secret town"  # changed without telling the feed
    boss.post(url(link, "again_reread"))
    job = run_in_process(Job.objects.get())
    assert Run.objects.get(pk=job.run_id).progress["retry"]["count"] == 1
    link.refresh_from_db()
    assert link.pending is None
    assert hard.value("right", str(link.right_id), "city") == "Secret town"
    assert RecordLink.objects.get(pk=other.pk).revision == other.revision


def test_resync_of_a_record_in_agreement_finds_what_no_feed_told(boss: Client, hard: Hard) -> None:
    link = paired(hard)
    hard.left.tables["person"][str(link.left_id)].values["city"] = "Secret town"
    boss.post(url(link, "resync"))
    run_in_process(Job.objects.get())
    assert hard.value("right", str(link.right_id), "city") == "Secret town"


@pytest.mark.parametrize("how", ["resync", "again_plan"])
def test_a_held_record_is_not_tried_again(boss: Client, hard: Hard, how: str) -> None:
    link = paired(hard)
    boss.post(url(link, "hold"), {"why": "we talk to them"})
    text = text_of(boss.get(url(link)))
    assert "/do/resync/" not in text and "Why: we talk to them" in text
    boss.post(url(link, how))
    assert not Job.objects.exists()
    boss.post(url(link, "release"))
    link.refresh_from_db()
    assert link.reason == "changed"


def test_the_last_change_is_undone_through_a_preview_and_nothing_else_of_its_run(boss: Client, hard: Hard) -> None:
    links = [paired(hard), paired(hard)]
    for link in links:
        hard.left.put("person", str(link.left_id), {"city": "Rome"})
    hard.run()
    page = boss.post(url(links[0], "undo_last"), follow=True)
    assert "Nothing is written before you approve it" in text_of(page)
    run_in_process(Job.objects.get())
    undo = Run.objects.get(purpose="undo")
    [proposal] = RecordChange.objects.filter(run=undo)
    assert (proposal.link_id, proposal.status, proposal.after) == (links[0].pk, "proposed", '{"city>city":"Paris"}')
    assert hard.value("right", str(links[0].right_id), "city") == "Rome", "nothing is written yet"


def test_the_support_bundle_tells_the_story_without_personal_values(boss: Client, hard: Hard) -> None:
    link = paired(hard)
    hard.right.put("person", str(link.right_id), {"email": "other@some.example", "credit": 7})
    hard.run()
    Event.objects.create(
        integration=hard.integration, link=link, code="x", message=f"Wrote to {EMAIL} in Paris", at=timezone.now()
    )
    answer = boss.get(f"/admin/connectors/recordlink/{link.pk}/support/")
    assert "attachment" in answer["Content-Disposition"]
    told = answer.content.decode()
    for personal in (EMAIL, "other@some.example", "Paris", "Ada 0"):
        assert personal not in told
    content = json.loads(told)
    assert content["record"]["left"]["id"] == link.left_id
    assert {entry["kind"] for entry in content["history"]} >= {"change", "event"}
    fields = {line["field"]: line for line in content["fields"]}
    assert fields["email>email"]["left"] == fields["email>email"]["right"], "what is equal can be seen to be equal"
    assert fields["credit>credit"]["base"] == "7.00"
    assert content["gates"] and content["entity_sync"]["policy"] == "ask"


# Who may


def test_personal_values_are_erased_by_administrators_alone(
    client: Client, person: Callable[..., User], hard: Hard
) -> None:
    link = paired(hard)
    operator = person()
    operator.groups.add(Group.objects.get(name=OPERATOR))
    client.force_login(operator)
    assert "/do/erase/" not in text_of(client.get(url(link)))
    assert client.post(url(link, "erase")).status_code == 403
    boss = User.objects.create_superuser("boss", password="a long enough secret")
    client.force_login(boss)
    assert "/do/erase/" in text_of(client.get(url(link)))
    assert "Erased:" in text_of(client.post(url(link, "erase"), follow=True))
    assert not RecordChange.objects.filter(link=link).exclude(after="").exists()


def test_a_viewer_sees_it_all_and_presses_nothing(viewer: Client, hard: Hard) -> None:
    link = parked(hard)
    text = text_of(viewer.get(url(link)))
    assert "Why not in agreement?" in text and "/do/" not in text
    buttons = ("again_same", "again_plan", "again_reread", "resync", "hold", "unlink", "undo_last", "erase", "release")
    assert {viewer.post(url(link, button)).status_code for button in buttons} == {403}
    assert viewer.get(f"/admin/connectors/recordlink/{link.pk}/support/").status_code == 200
    assert not Job.objects.exists()


# The list


def test_records_that_have_their_partner_elsewhere_are_shown_on_request(boss: Client, hard: Hard) -> None:
    link, hidden = paired(hard), paired(hard)
    RecordLink.objects.filter(pk=hidden.pk).update(pending=3, reason="outside", args=ELSEWHERE[0])
    there = "/admin/connectors/recordlink/"
    assert list(boss.get(there).context["cl"].queryset) == [link]
    assert list(boss.get(f"{there}?pending=3").context["cl"].queryset) == []
    assert hidden in boss.get(f"{there}?elsewhere=shown").context["cl"].queryset
    assert hidden in boss.get(f"{there}?q={hidden.left_id}").context["cl"].queryset


def test_the_number_of_skipped_records_leads_to_as_many(boss: Client, hard: Hard) -> None:
    for args in ("", ELSEWHERE[0]):
        RecordLink.objects.filter(pk=paired(hard).pk).update(pending=3, reason="outside", args=args)
    page = boss.get(reverse("admin:connectors_integration_change", args=[hard.integration.pk])).content.decode()
    found = re.findall(r'href="([^"]*pending=3[^"]*)"[^>]*>(?:<b>)?(\d+)', page)
    assert len(found) == 2, "the tile and the entity sync"
    for address, number in found:
        assert number == "2" == str(len(boss.get(unescape(address)).context["cl"].queryset))
