"""What do the buttons do, and who may press them?"""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from connectors.models import Connection, EntitySync, Event, Integration, Promotion, RecordChange, RecordLink, Run
from connectors.sync import decisions
from jobs import clock
from jobs.models import Job
from jobs.states import Priority, StatusReason
from jobs.syncing import request_sync
from tests.sync.worlds import TwoSystems


def press(client: Client, obj: object, button: str, **data: str) -> object:
    meta = obj._meta  # type: ignore[attr-defined]
    url = reverse(f"admin:{meta.app_label}_{meta.model_name}_do", args=[obj.pk, button])  # type: ignore[attr-defined]
    return client.post(url, data)


def link_with(reason: str) -> RecordLink:
    return RecordLink.objects.select_related("entity_sync").get(reason=reason)


def test_sync_now_makes_one_job_however_often_it_is_pressed(boss: Client, world: TwoSystems) -> None:
    for _ in range(2):
        assert press(boss, world.integration, "sync_now").status_code == 302  # type: ignore[attr-defined]
    job = Job.objects.get()
    assert (job.type, job.created_by.username) == ("sync", "ada")  # type: ignore[union-attr]
    assert LogEntry.objects.filter(change_message__contains="Sync now").exists()


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        (None, "It had failed and was waiting for its next try: it is tried now."),
        (1, "the other system asked not to be called again at once: it is tried"),
    ],
)
def test_sync_now_brings_the_retry_forward_and_says_so(
    boss: Client, world: TwoSystems, hours: int | None, told: str
) -> None:
    job, now = request_sync(world.integration), clock.now()
    asks = now + timedelta(hours=hours) if hours else None
    late = now + timedelta(hours=2)
    Job.objects.filter(pk=job.pk).update(
        status_reason=StatusReason.RETRY, run_at=late, ready_at=late, not_before=asks, started_at=now
    )
    press(boss, world.integration, "sync_now")
    page = boss.get(reverse("admin:connectors_integration_change", args=[world.integration.pk])).content.decode()
    assert told in page
    assert "runs after the present one" not in page
    job.refresh_from_db()
    assert job.run_at < now + timedelta(hours=1, minutes=1)
    Job.objects.filter(pk=job.pk).update(run_at=late, ready_at=late)
    assert request_sync(world.integration, by="webhook", priority=Priority.SCHEDULED).run_at == late, "it waits on"


def test_a_switched_off_integration_says_why_it_does_not_sync(boss: Client, world: TwoSystems) -> None:
    press(boss, world.integration, "disable")
    page = boss.post(reverse("admin:connectors_integration_do", args=[world.integration.pk, "sync_now"]), follow=True)
    assert "is switched off" in page.content.decode()
    assert not Job.objects.exists()


def test_a_button_never_acts_by_get(boss: Client, world: TwoSystems) -> None:
    url = reverse("admin:connectors_integration_do", args=[world.integration.pk, "sync_now"])
    assert boss.get(url).status_code == 405
    assert not Job.objects.exists()


def test_after_a_button_nobody_is_sent_to_another_host(boss: Client, world: TwoSystems) -> None:
    answer = press(boss, world.integration, "sync_now", next="https://elsewhere.example/")
    assert "elsewhere" not in answer["Location"]  # type: ignore[index]


def test_a_viewer_can_press_nothing(viewer: Client, world: TwoSystems) -> None:
    before = list(RecordLink.objects.values_list("pk", "pending", "reason", "state"))
    pressed = [
        (world.integration, ["sync_now", "comprehensive", "preview", "disable", "enable"]),
        (world.integration.left, ["check_now", "pause", "resume"]),
        (link_with("conflict"), ["retry", "resolve_left", "resolve_right", "approve", "promote", "hold", "release"]),
        (Run.objects.latest("id"), ["approve", "accept"]),
    ]
    for obj, buttons in pressed:
        for button in buttons:
            assert press(viewer, obj, button).status_code == 403, (obj, button)  # type: ignore[attr-defined]
    assert viewer.post(reverse("admin:connectors_run_tick", args=[Run.objects.latest("id").pk])).status_code == 403
    bulk = ["retry_all", "left_wins", "right_wins", "approve_all", "hold_all", "release_all"]
    for action in bulk:
        ticked = {"action": action, "_selected_action": [row[0] for row in before]}
        viewer.post(reverse("admin:connectors_recordlink_changelist"), ticked)
    assert viewer.post(reverse("admin:connectors_integration_preset") + "?preset=inolink").status_code == 403
    assert list(RecordLink.objects.values_list("pk", "pending", "reason", "state")) == before
    assert not Job.objects.exists()
    assert Integration.objects.get().enabled
    assert set(Connection.objects.values_list("state", flat=True)) == {"new"}


def test_a_viewer_sees_no_button(viewer: Client, world: TwoSystems) -> None:
    for page in (
        reverse("admin:index"),
        reverse("admin:connectors_recordlink_change", args=[link_with("conflict").pk]),
    ):
        assert "/do/" not in viewer.get(page).content.decode()


# Decisions


@pytest.mark.parametrize(("winner", "city"), [("left", "Rome"), ("right", "Oslo")])
def test_a_resolved_conflict_is_written_by_the_next_sync(
    boss: Client, world: TwoSystems, winner: str, city: str
) -> None:
    link = link_with("conflict")
    press(boss, link, f"resolve_{winner}")
    world.run()
    link.refresh_from_db()
    assert link.pending is None
    assert world.left.tables["person"][link.left_id].values["city"] == city
    assert world.right.tables["person"][link.right_id].values["city"] == city
    assert Event.objects.filter(link=link, actor="ada", code="resolved").exists()


def test_an_approved_delete_is_written_by_the_next_sync(boss: Client, world: TwoSystems) -> None:
    link = link_with("waits for approval")
    press(boss, link, "approve")
    assert not RecordChange.objects.filter(link=link, status="proposed").exists()
    world.run()
    assert link.right_id not in world.right.tables["person"]
    link.refresh_from_db()
    assert link.ended


def test_a_held_record_is_left_alone_until_it_is_released(boss: Client, world: TwoSystems) -> None:
    link = RecordLink.objects.filter(pending__isnull=True, left_id__isnull=False).first()
    assert link is not None
    press(boss, link, "hold")
    world.left.put("person", link.left_id, {"city": "Bern"})
    world.run()
    assert world.right.tables["person"][link.right_id].values["city"] != "Bern"
    press(boss, link, "release")
    world.run()
    assert world.right.tables["person"][link.right_id].values["city"] == "Bern"


def test_a_parked_record_is_tried_again(world: TwoSystems) -> None:
    link = RecordLink.objects.filter(pending__isnull=True).first()
    assert link is not None
    RecordLink.objects.filter(pk=link.pk).update(pending=5, reason="parked", args='{"message":"no"}')
    call_command("links", "retry", str(link.pk))
    link.refresh_from_db()
    assert (link.pending, link.reason) == (1, "changed")


def test_a_promotion_is_asked_for_once(world: TwoSystems) -> None:
    link = RecordLink.objects.filter(pending__isnull=True).first()
    assert link is not None
    RecordLink.objects.filter(pk=link.pk).update(pending=2, reason="waits for promotion", args='{"side":"left"}')
    link.refresh_from_db()
    with pytest.raises(decisions.Undecidable, match="without being asked"):
        decisions.promote(link, now=timezone.now(), by="ada")
    EntitySync.objects.update(push={"right": "on_request"})
    link = RecordLink.objects.select_related("entity_sync").get(pk=link.pk)
    RecordLink.objects.filter(pk=link.pk).update(right_id=None)
    decisions.promote(link, now=timezone.now(), by="ada")
    assert Promotion.objects.get().external_id == link.left_id


def promotion_of(world: TwoSystems, name: str) -> Promotion:
    return Promotion.objects.create(
        entity_sync=world.sync, side="left", external_id=name, status="queued", at=timezone.now()
    )


def test_a_promotion_is_taken_back(boss: Client, world: TwoSystems) -> None:
    EntitySync.objects.update(push={"right": "on_request"})
    one, two, three = (promotion_of(world, name) for name in ("81", "82", "83"))
    Promotion.objects.filter(pk=two.pk).update(status="success")
    press(boss, one, "withdraw")
    assert Promotion.objects.get(pk=one.pk).reason == "Taken back by ada."
    url = reverse("admin:connectors_promotion_do", args=[two.pk, "withdraw"])
    assert "too late" in boss.post(url, follow=True).content.decode()
    ticked = {"action": "withdraw_all", "_selected_action": [two.pk, three.pk]}
    boss.post(reverse("admin:connectors_promotion_changelist"), ticked)
    statuses = dict(Promotion.objects.values_list("external_id", "status"))
    assert statuses == {"81": "withdrawn", "82": "success", "83": "withdrawn"}
    assert set(LogEntry.objects.filter(content_type__model="promotion").values_list("object_id", flat=True)) == {
        str(one.pk),
        str(three.pk),
    }
    for address in ("changelist", "change"):
        args = [three.pk] if address == "change" else []
        assert boss.get(reverse(f"admin:connectors_promotion_{address}", args=args)).status_code == 200


def test_a_viewer_takes_no_promotion_back(viewer: Client, world: TwoSystems) -> None:
    promotion = promotion_of(world, "81")
    assert press(viewer, promotion, "withdraw").status_code == 403  # type: ignore[attr-defined]
    ticked = {"action": "withdraw_all", "_selected_action": [promotion.pk]}
    viewer.post(reverse("admin:connectors_promotion_changelist"), ticked)
    assert Promotion.objects.get().status == "queued"


@pytest.mark.parametrize("button", ["resolve_left", "resolve_right"])
def test_the_living_side_of_a_deleted_record_is_offered_alone(boss: Client, world: TwoSystems, button: str) -> None:
    link = RecordLink.objects.filter(pending__isnull=True, left_id__isnull=False).first()
    assert link is not None
    world.left.delete("person", link.left_id)
    world.right.put("person", link.right_id, {"city": "Bern"})
    world.run()
    link.refresh_from_db()
    assert link.reason == "conflict"
    page = boss.get(reverse("admin:connectors_recordlink_change", args=[link.pk])).content.decode()
    assert "Make it again in left" in page and "Delete it in right, too" in page and "Take all left" not in page
    url = reverse("admin:connectors_recordlink_do", args=[link.pk, button])
    said = boss.post(url, follow=True).content.decode()
    wanted = "makes the record again on the left" if button == "resolve_right" else "the record on the left was deleted"
    assert wanted in said


def test_what_does_not_fit_is_refused_with_a_sentence(world: TwoSystems) -> None:
    now, conflict = timezone.now(), link_with("conflict")
    agreed = RecordLink.objects.filter(pending__isnull=True).select_related("entity_sync").first()
    assert agreed is not None
    for act in (decisions.retry, decisions.approve, decisions.promote, decisions.release):
        with pytest.raises(decisions.Undecidable, match="person "):
            act(agreed, now=now)
    with pytest.raises(decisions.Undecidable, match="left or right"):
        decisions.resolve(conflict, "middle", now=now)
    with pytest.raises(decisions.Undecidable, match="conflict"):
        decisions.resolve(agreed, "left", now=now)
    RecordLink.objects.filter(pk=agreed.pk).update(pending=6, reason="planned")
    agreed.refresh_from_db()
    with pytest.raises(decisions.Undecidable, match="under way"):
        decisions.hold(agreed, now=now)


def test_a_decision_about_an_old_look_is_refused(world: TwoSystems) -> None:
    link = link_with("conflict")
    RecordLink.objects.filter(pk=link.pk).update(revision=link.revision + 1)
    with pytest.raises(decisions.Undecidable, match="changed meanwhile"):
        decisions.resolve(link, "left", now=timezone.now())


def test_the_command_lists_and_decides(world: TwoSystems, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("links", "list", "--json", "--reason", "conflict", "--entity", "person", "--integration", "both")
    [row] = json.loads(capsys.readouterr().out)
    call_command("links", "resolve", "--winner", "left", str(row["id"]))
    assert RecordLink.objects.get(pk=row["id"]).reason == "changed"
    with pytest.raises(CommandError, match="not in conflict"):
        call_command("links", "resolve", "--winner", "left", row["key"])
    with pytest.raises(CommandError, match="There is no link"):
        call_command("links", "retry", "no-such-key")


# Previews and guards


def test_an_approved_preview_says_how_many(boss: Client, world: TwoSystems) -> None:
    for n in range(3):
        world.left.create("person", {"name": f"New {n}"})
    run = world.run(purpose="preview")
    Run.objects.filter(pk=run.pk).update(finished_at=timezone.now())
    page = boss.get(reverse("admin:connectors_run_change", args=[run.pk]))
    assert "left out of this run only; Hold" in " ".join(page.content.decode().split())
    ids = list(RecordChange.objects.filter(run=run, status="proposed", verb="create").values_list("pk", flat=True))
    assert len(ids) == 3
    boss.post(reverse("admin:connectors_run_tick", args=[run.pk]), {"change": [ids[0]], "decision": "untick"})
    assert RecordChange.objects.get(pk=ids[0]).status == "dropped"
    link = RecordChange.objects.get(pk=ids[1]).link
    RecordLink.objects.filter(pk=link.pk).update(revision=link.revision + 1)
    answer = boss.post(reverse("admin:connectors_run_do", args=[run.pk, "approve"]), follow=True)
    assert "1 approved, 1 changed meanwhile" in answer.content.decode()
    assert Job.objects.get().run_id == run.pk


def test_a_preview_that_the_guard_warns_of_needs_a_tick(boss: Client, world: TwoSystems) -> None:
    world.left.create("person", {"name": "New"})
    run = world.run(purpose="preview")
    guard = {"tripped": ["<b>Too many</b> records would be removed."]}
    Run.objects.filter(pk=run.pk).update(finished_at=timezone.now(), guard=guard)
    url = reverse("admin:connectors_run_do", args=[run.pk, "approve"])
    page = boss.get(reverse("admin:connectors_run_change", args=[run.pk])).content.decode()
    assert page.count("&lt;b&gt;Too many&lt;/b&gt; records") == 1
    assert page.count(url) == 1  # one button, and it is beside the tick
    form = page[page.index(url) : page.index("</form>", page.index(url))]
    assert 'name="accept_guard" value="1" required' in form and "csrfmiddlewaretoken" in form
    answer = boss.post(url, follow=True)
    assert "A guard warns" in answer.content.decode()
    assert Run.objects.get(pk=run.pk).phase == "proposed" and not Job.objects.exists()
    boss.post(url, {"accept_guard": "1"})
    assert Run.objects.get(pk=run.pk).approved_at is not None
    assert Job.objects.get().run_id == run.pk


def test_who_may_not_approve_reads_the_warning_without_a_tick(viewer: Client, world: TwoSystems) -> None:
    run = world.run(purpose="preview")
    Run.objects.filter(pk=run.pk).update(guard={"tripped": ["Too many records."]})
    page = viewer.get(reverse("admin:connectors_run_change", args=[run.pk])).content.decode()
    assert page.count("Too many records.") == 1
    assert "accept_guard" not in page


def test_accepting_a_guard_goes_on_with_the_run(boss: Client, world: TwoSystems) -> None:
    run = Run.objects.latest("id")
    guard = {"tripped": ["The left side is empty."]}
    Run.objects.filter(pk=run.pk).update(phase="guarded", guard=guard, finished_at=timezone.now())
    assert "The left side is empty." in boss.get(reverse("admin:connectors_run_change", args=[run.pk])).content.decode()
    press(boss, run, "accept")
    assert Job.objects.get().run_id == run.pk


# Settings


def formset(page: object) -> dict[str, object]:
    """Return what a browser would send back for the page's form and inlines."""
    context = page.context  # type: ignore[attr-defined]
    forms = [context["adminform"].form]
    for inline in context["inline_admin_formsets"]:
        forms += [inline.formset.management_form, *inline.formset.forms]
    sent: dict[str, object] = {}
    for form in forms:
        for name in form.fields:
            value = form[name].value()
            if value is not None and value is not False:
                sent[form.add_prefix(name)] = value
    return sent


def test_a_new_name_is_no_change_of_rules(boss: Client, world: TwoSystems) -> None:
    url = reverse("admin:connectors_integration_change", args=[world.integration.pk])
    sent = formset(boss.get(url))
    before = Integration.objects.get().revision
    assert boss.post(url, {**sent, "name": "Another name"}).status_code == 302
    assert (Integration.objects.get().name, Integration.objects.get().revision) == ("Another name", before)


def test_pausing_a_connection_stops_and_resuming_asks_for_a_check(boss: Client, world: TwoSystems) -> None:
    connection = world.integration.left
    press(boss, connection, "pause")
    connection.refresh_from_db()
    assert (connection.state, connection.reason) == ("paused", "Paused by ada.")
    assert "Paused" in boss.get(reverse("admin:index")).content.decode()
    press(boss, connection, "resume")
    connection.refresh_from_db()
    assert connection.state == "new"
