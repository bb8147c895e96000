"""The page of a preview: what is proposed, side by side; what is ticked; and how it is approved, by page, API and command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from connectors.admin.differences import marked
from connectors.admin.previews import outcomes_of
from connectors.admin.show import Shower
from connectors.models import RecordChange, RecordLink, Run
from connectors.sync import proposals
from connectors.sync.values import decode
from jobs import operate
from jobs.models import Job
from jobs.syncing import approve_preview, request_undo
from jobs.worker import run_here
from tests.sync.hard_world import Hard

CITY, EMAIL = "city>city", "email>email"


@pytest.fixture
def hard(db: None) -> Hard:
    """Edits on both sides, a newcomer, two deletes, a conflict; all of it proposed by a preview."""
    world = Hard(on_delete="ask", policy="ask")
    ids = [
        world.left.create("person", {"name": f"P{n}", "city": "Paris", "email": f"p{n}@example.com"}) for n in range(8)
    ]
    world.settle()
    partner = {link.left_id: link.right_id for link in RecordLink.objects.all()}
    world.left.put("person", ids[0], {"city": "Paris at night", "email": "new@example.com"})
    world.left.put("person", ids[1], {"city": "Rome"})
    world.right.put("person", partner[ids[2]], {"city": "Oslo"})
    world.left.delete("person", ids[3])
    world.left.delete("person", ids[4])
    world.left.put("person", ids[5], {"city": "Bern"})
    world.right.put("person", partner[ids[5]], {"city": "Basel"})
    world.left.create("person", {"name": "Newcomer", "city": "Lyon"})
    return world


@pytest.fixture
def run(hard: Hard) -> Run:
    return preview(hard)


def preview(world: Hard) -> Run:
    made = world.run(purpose="preview")
    Run.objects.filter(pk=made.pk).update(finished_at=timezone.now())
    return Run.objects.get(pk=made.pk)


def page_of(run: Run, **query: str) -> str:
    return reverse("admin:connectors_run_change", args=[run.pk], query=query)


def tick(client: Client, run: Run, *, script: bool = False, **told: object) -> object:
    headers = {"X-Requested-With": "XMLHttpRequest"} if script else {}
    return client.post(reverse("admin:connectors_run_tick", args=[run.pk]), told, headers=headers)


def approve(client: Client, run: Run, **told: object) -> str:
    url = reverse("admin:connectors_run_do", args=[run.pk, "approve"])
    return client.post(url, told, follow=True).content.decode()


def change(run: Run, **which: object) -> RecordChange:
    return RecordChange.objects.get(run=run, **which)


def of(run: Run, name: str) -> RecordChange:
    return next(c for c in RecordChange.objects.filter(run=run) if name in c.link.base + c.after)


def words(client: Client, url: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", client.get(url).content.decode()).split())


# Looking


def test_the_tabs_count_each_side_and_add_up_to_what_the_run_touched(boss: Client, run: Run) -> None:
    told = words(boss, page_of(run))
    for tab in ("All 6 1 left · 5 right", "Create 1 1 right", "Update 3 1 left · 2 right", "Delete 2 2 right", "Conflict 1",
                "Skipped 0", "Unchanged 0"):  # fmt: skip
        assert tab in told
    touched = sum(each["touched"] for each in run.counts["entities"].values())
    assert run.counts["proposals"]["records"] + sum(outcomes_of(run).values()) == touched == 7
    assert "Approve 4 of 6" in told and "0 of 2 in right" in told


def test_a_row_shows_both_sides_the_base_what_is_written_and_why_with_the_words_marked(boss: Client, run: Run) -> None:
    text = boss.get(page_of(run, verb="update")).content.decode()
    assert "Paris<ins> at night</ins>" in text
    assert "<del>p0</del>@example.com" in text and "<ins>new</ins>@example.com" in text
    told = words(boss, page_of(run, verb="update"))
    assert "Field left now Agreed before right now Written to right Why" in told
    assert "city ↔ city Paris at night Paris Paris Paris at night changed on the left" in told
    assert "Oslo changed on the right" in told


def test_records_that_meet_for_the_first_time_say_that_nothing_was_agreed(boss: Client) -> None:
    world = Hard()
    for side, city in (("left", "Paris"), ("right", "Rome")):
        world.store(side).create("person", {"name": "Ada", "city": city})
    told = words(boss, page_of(preview(world)))
    assert "the two records meet for the first time" in told and "never agreed" in told


@pytest.mark.parametrize(("tab", "name"), [("conflict", "P5"), ("delete", "P3"), ("create", "Newcomer")])
def test_each_tab_lists_its_own_records(boss: Client, run: Run, tab: str, name: str) -> None:
    told = words(boss, page_of(run, verb=tab))
    assert name in told and "P1 " not in told
    told = words(boss, page_of(run, verb="update", side="left"))
    assert told[told.index("Proposals") :].count("in left") == 1


def test_a_removal_is_not_ticked_and_what_cannot_be_left_out_says_why(boss: Client, run: Run) -> None:
    text = boss.get(page_of(run, verb="delete")).content.decode()
    assert not re.search(r'name="change"[^>]*checked', text)
    text = boss.get(page_of(run, verb="create")).content.decode()
    assert 'disabled checked title="No record can be made without it."' in text


def test_words_are_marked_and_html_stays_text() -> None:
    told = marked(Shower(), "name", "<b>Ada</b> Byron", "<b>Ada</b> Lovelace")
    assert told == ("&lt;b&gt;Ada&lt;/b&gt; <del>Byron</del>", "&lt;b&gt;Ada&lt;/b&gt; <ins>Lovelace</ins>")


@pytest.mark.parametrize("tab", ["", "update", "conflict", "agreed"])
def test_a_preview_of_1000_asks_as_often_as_one_of_10(boss: Client, tab: str) -> None:
    def queries(count: int) -> int:
        for n in range(count):
            world.left.create("person", {"name": f"N{count} {n}", "city": "Bern", "parent": None})
        run = preview(world)
        boss.get(page_of(run, verb=tab))
        with CaptureQueriesContext(connection) as asked:
            assert boss.get(page_of(run, verb=tab)).status_code == 200
        return len(asked)

    world = Hard()
    few = queries(10)
    assert queries(990) == few <= 40


# Ticking


def test_a_script_is_answered_with_what_can_be_approved_by_then(boss: Client, run: Run) -> None:
    row = of(run, "P0")
    answer = tick(boss, run, script=True, change=row.pk, field=EMAIL, decision="untick", seen=proposals.seen(run))
    assert "1 single field left out" in answer.content.decode()  # type: ignore[attr-defined]
    row.refresh_from_db()
    assert decode(row.left_out) == {EMAIL: "new@example.com"}
    run.refresh_from_db()
    answer = tick(boss, run, script=True, change=row.pk, decision="untick", seen=proposals.seen(run))
    assert "Approve 3 of 6" in answer.content.decode()  # type: ignore[attr-defined]
    entry = LogEntry.objects.filter(object_id=str(run.pk)).latest("id")
    assert "Left out: 1 proposals" in entry.change_message and "plan revision: 1 → 2" in entry.change_message


def test_a_tick_on_a_page_that_somebody_else_has_outrun_is_refused_with_what_changed(boss: Client, run: Run) -> None:
    seen, grace = proposals.seen(run), User.objects.create_user("grace")
    proposals.decide(run, {of(run, "P1").pk: False}, by=grace)
    answer = tick(boss, run, script=True, change=of(run, "P0").pk, decision="untick", seen=seen)
    assert answer.status_code == 409  # type: ignore[attr-defined]
    assert "grace left out 1" in answer.json()["message"]  # type: ignore[attr-defined]
    assert of(run, "P0").status == "proposed"


def test_without_a_script_the_boxes_of_a_page_are_kept_as_they_stand(boss: Client, run: Run) -> None:
    one, other = of(run, "P0"), of(run, "P1")
    tick(boss, run, shown=[one.pk, other.pk], change=[one.pk], shown_field=[f"{one.pk} {CITY}", f"{one.pk} {EMAIL}"],
         field=[f"{one.pk} {CITY}"], seen=proposals.seen(run))  # fmt: skip
    one.refresh_from_db()
    other.refresh_from_db()
    assert (list(decode(one.left_out)), other.status) == ([EMAIL], "dropped")


class Boxes(HTMLParser):
    """Reads what a browser without script sends of a page's ticks: what is disabled, or not checked, is not sent."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sent: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        name = told.get("name")
        if tag != "input" or name not in ("shown", "change", "shown_field", "field") or "disabled" in told:
            return
        if told.get("type") != "checkbox" or "checked" in told:
            self.sent.setdefault(name, []).append(str(told["value"]))


def test_without_a_script_a_record_that_is_ticked_again_keeps_its_fields(boss: Client, run: Run) -> None:
    row, other = of(run, "P0"), of(run, "P1")
    proposals.decide(run, {row.pk: True}, {row.pk: {EMAIL: False}})
    proposals.decide(run, {row.pk: False})
    sent = Boxes(boss.get(page_of(run, verb="update")).content.decode()).sent
    assert str(row.pk) in sent["shown"] and str(row.pk) not in sent["change"]
    assert [text for text in sent["shown_field"] if text.startswith(f"{row.pk} ")] == []
    assert f"{other.pk} {CITY}" in sent["shown_field"] and f"{other.pk} {CITY}" in sent["field"]

    # As the page stands it changes nothing; with one more tick it changes that record alone.
    tick(boss, run, **sent, seen=proposals.seen(run))
    run.refresh_from_db()
    assert (of(run, "P0").status, run.plan_revision) == ("dropped", 2)
    tick(boss, run, **{**sent, "change": [*sent["change"], str(row.pk)]}, seen=proposals.seen(run))
    row.refresh_from_db()
    assert (row.status, list(decode(row.left_out)), of(run, "P1").status) == ("proposed", [EMAIL], "proposed")


def test_a_whole_tab_is_ticked_but_removals_only_with_their_number(boss: Client, run: Run) -> None:
    tick(boss, run, all="untick", verb="update", seen=proposals.seen(run))
    assert set(RecordChange.objects.filter(run=run, verb="update").values_list("status", flat=True)) == {"dropped"}
    run.refresh_from_db()
    tick(boss, run, all="tick", verb="delete", seen=proposals.seen(run))
    assert not RecordChange.objects.filter(run=run, allowed=True).exists()
    tick(boss, run, all="tick", verb="delete", confirmed="2", seen=proposals.seen(run))
    assert RecordChange.objects.filter(run=run, allowed=True).count() == 2
    assert "Approve 3 of 6" in words(boss, page_of(run))


def test_a_viewer_sees_the_proposals_and_can_tick_and_approve_nothing(viewer: Client, run: Run) -> None:
    text = viewer.get(page_of(run)).content.decode()
    assert "Paris<ins> at night</ins>" in text
    assert 'type="checkbox"' not in text[text.index('id="pv-changes"') :] and "Approve 4" not in text
    assert tick(viewer, run, change=of(run, "P0").pk, decision="untick").status_code == 403  # type: ignore[attr-defined]
    assert viewer.post(reverse("admin:connectors_run_do", args=[run.pk, "approve"])).status_code == 403
    assert of(run, "P0").status == "proposed" and not Job.objects.exists()


# Approving


def test_a_double_click_makes_one_job_and_the_result_is_said_in_words(boss: Client, hard: Hard, run: Run) -> None:
    proposals.decide(run, {of(run, "P1").pk: False}, {of(run, "P0").pk: {EMAIL: False}})
    seen = proposals.seen(run)
    assert "3 approved" in approve(boss, run, seen=seen)
    assert "does not wait for approval" in approve(boss, run, seen=seen)
    run.refresh_from_db()
    told = boss.get(page_of(run)).content.decode()
    assert '<progress aria-label="How far it is" max="3" value="0">' in told and 'data-every="2"' in told
    run_here(Job.objects.get())
    run.refresh_from_db()
    assert "3 written, 1 left out, 1 field left out, 2 removals not ticked" in words(boss, page_of(run))
    assert "left out: email ↔ email new@example.com" in words(boss, page_of(run, verb="update"))
    assert "<progress" not in boss.get(page_of(run)).content.decode()
    assert RecordLink.objects.filter(reason="waits for approval").count() == 2


def test_an_approvals_job_that_is_run_again_begins_a_run_of_the_same_kind(boss: Client, hard: Hard, run: Run) -> None:
    run_here(approve_preview(run, accept_guard=True)[0])
    written = Run.objects.get(pk=run.pk)
    run_here(request_undo(written))
    undo = Run.objects.latest("id")
    job = approve_preview(undo, accept_guard=True)[0]
    run_here(job)
    again = operate.run_again(job)
    assert again.params == {"mode": "delta", "purpose": "undo", "entities": [], "undoes": run.pk}

    hard.left.put("person", hard.left.ids("person")[-1], {"city": "Nice"})
    check = hard.run(mode="comprehensive", purpose="check")
    Run.objects.filter(pk=check.pk).update(phase=Run.Phase.PROPOSED, finished_at=timezone.now())
    job = approve_preview(Run.objects.get(pk=check.pk), accept_guard=True)[0]
    run_here(job)
    assert operate.run_again(job).params == {"mode": "comprehensive", "purpose": "check", "entities": []}


def test_an_approval_of_a_page_that_is_no_longer_so_is_refused_with_what_changed(
    boss: Client, hard: Hard, run: Run
) -> None:
    seen = proposals.seen(run)
    link = of(run, "P1").link
    RecordLink.objects.filter(pk=link.pk).update(revision=link.revision + 1)
    told = approve(boss, run, seen=seen)
    assert "The plan is not the one that you saw" in told and "1 record changed" in told
    assert not Job.objects.exists()
    assert "Changed meanwhile" in words(boss, page_of(run, verb="update"))
    assert "3 approved, 1 changed meanwhile" in approve(boss, run, seen=proposals.seen(run))


def test_a_preview_that_is_too_old_offers_no_button(boss: Client, run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(finished_at=timezone.now() - timedelta(minutes=50))
    assert "good for another 9 min" in words(boss, page_of(run))
    Run.objects.filter(pk=run.pk).update(finished_at=timezone.now() - timedelta(minutes=61))
    told = words(boss, page_of(run))
    assert "is older than an hour" in told and "Approve 4" not in told


# The API


@pytest.fixture
def api(person: Callable[..., User]) -> APIClient:
    client = APIClient()
    client.force_authenticate(person("view_run", "change_run"))
    return client


def ask(api: APIClient, run: Run, verb: str, **body: object) -> tuple[int, dict[str, object]]:
    answer = api.post(f"/api/v1/runs/{run.pk}/{verb}/", body, format="json")
    return answer.status_code, answer.json()


def test_the_api_tells_each_field_and_pages_by_cursor(api: APIClient, run: Run) -> None:
    first = api.get(f"/api/v1/runs/{run.pk}/proposals/", {"kind": "update", "side": "right", "page_size": 1}).json()
    assert first["next"] and len(first["results"]) == 1
    second = api.get(first["next"]).json()["results"][0]
    assert second["ticked"] and second["kind"] == "update" and not second["stale"]
    [city, _email] = second["proposed"]
    assert city == {"name": CITY, "left": "Paris at night", "base": "Paris", "agreed": True, "right": "Paris",
                    "write": "Paris at night", "rule": "changed on the left", "ticked": True, "fixed": ""}  # fmt: skip
    assert not any(
        r["ticked"] for r in api.get(f"/api/v1/runs/{run.pk}/proposals/", {"kind": "delete"}).json()["results"]
    )
    assert api.get(f"/api/v1/runs/{run.pk}/proposals/", {"kind": "shoe"}).status_code == 400


def test_the_api_ticks_refuses_what_was_not_seen_and_approves(api: APIClient, hard: Hard, run: Run) -> None:
    seen = api.get(f"/api/v1/runs/{run.pk}/").json()["seen"]
    row = of(run, "P0")
    status, told = ask(api, run, "decide", records=[{"id": row.pk, "fields": {EMAIL: False}}], expected=seen)
    assert (status, told["changed"], told["ticked"], told["proposed"]) == (200, 1, 4, 6)
    status, told = ask(api, run, "decide", all={"tick": True, "kind": "delete"})
    assert status == 400 and "2 records would be removed" in str(told["confirmed"])
    status, told = ask(api, run, "decide", records=[{"id": row.pk, "fields": {"shoe": False}}])
    assert status == 400 and "does not write shoe" in str(told["fields"])
    assert ask(api, run, "decide")[0] == 400
    status, told = ask(api, run, "approve", expected=seen)
    assert status == 409 and "ada decided about fields of 1" in str(told["detail"])
    status, told = ask(api, run, "approve", expected=api.get(f"/api/v1/runs/{run.pk}/").json()["seen"])
    assert (status, told["approved"], told["bounced"]) == (202, 4, 0)
    assert ask(api, run, "approve")[0] == 409
    assert Job.objects.count() == 1


def test_a_record_that_is_unticked_stays_so_whatever_the_same_request_says_of_its_fields(
    api: APIClient, run: Run
) -> None:
    row = of(run, "P0")
    fields = {CITY: True, EMAIL: False}
    status, told = ask(api, run, "decide", records=[{"id": row.pk, "tick": False, "fields": fields}])
    row.refresh_from_db()
    assert (status, told["ticked"], row.status) == (200, 3, "dropped")
    ask(api, run, "decide", records=[{"id": row.pk, "tick": True}])
    row.refresh_from_db()
    assert (row.status, list(decode(row.left_out))) == ("proposed", [EMAIL])


def test_a_reader_of_the_api_reads_the_proposals_and_ticks_nothing(person: Callable[..., User], run: Run) -> None:
    api = APIClient()
    api.force_authenticate(person("view_run"))
    assert api.get(f"/api/v1/runs/{run.pk}/proposals/").status_code == 200
    assert ask(api, run, "decide", records=[{"id": of(run, "P0").pk, "tick": False}])[0] == 403


# The command


def test_the_command_lists_leaves_out_and_approves(hard: Hard) -> None:
    out = StringIO()
    call_command("sync", "both", "--preview", stdout=out)
    run = Run.objects.latest("id")
    row, other = of(run, "P0"), of(run, "P1")
    assert f"[x] {row.pk} update on the right, person P0: city = city: Paris -> Paris at night" in out.getvalue()
    assert f"[ ] {change(run, verb='delete', link__base__contains='P3').pk} delete on the right" in out.getvalue()
    with pytest.raises(CommandError, match="number of a proposal"):
        call_command("sync", "both", "--approve", str(run.pk), "--leave-out", "P0")
    with pytest.raises(CommandError, match="no proposal 999"):
        call_command("sync", "both", "--approve", str(run.pk), "--leave-out", "999")
    out = StringIO()
    call_command("sync", "both", "--approve", str(run.pk), "--leave-out", f"{row.pk}:{EMAIL}", "--leave-out", str(other.pk),
                 "--with-deletes", "--json", stdout=out)  # fmt: skip
    told = json.loads(out.getvalue())
    assert told["counts"]["result"] == {
        "written": 5, "bounced": 0, "left_out": 1, "fields_left_out": 1, "not_ticked": 0, "refused": 0, "waiting": 0,
    }  # fmt: skip
    assert len(hard.right.ids("person")) == 7
    out = StringIO()
    with pytest.raises(CommandError, match="does not wait for approval"):
        call_command("sync", "both", "--approve", str(run.pk), stdout=out)
    call_command("sync", "both", "--show", str(run.pk), stdout=out)
    assert f"[ ] {other.pk} update" in out.getvalue()
