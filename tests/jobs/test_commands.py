"""What can be done with jobs at the command line?"""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from jobs import clock, dispatch
from jobs.models import Job, Pause
from jobs.states import StatusReason

pytestmark = pytest.mark.django_db
S = StatusReason


def run(capsys, *arguments):
    call_command("jobs", *arguments)
    return capsys.readouterr().out


def test_the_list_is_filtered_and_readable_by_machines(capsys):
    first, second = dispatch.request("probe"), dispatch.request("charge")
    rows = json.loads(run(capsys, "list", "--json"))
    assert [row["id"] for row in rows] == [second.pk, first.pk]
    assert [row["id"] for row in json.loads(run(capsys, "list", "--type", "probe", "--json"))] == [first.pk]
    assert "no such jobs" in run(capsys, "list", "--status", "failed")


def test_show_tells_the_timeline(capsys):
    job = dispatch.request("probe", by="ada")
    assert "new -> waiting" in run(capsys, "show", str(job.pk))
    assert json.loads(run(capsys, "show", str(job.pk), "--json"))["timeline"][0]["by"] == "ada"


def test_cancel_retry_and_run(capsys):
    job = dispatch.request("probe")
    run(capsys, "cancel", str(job.pk), "--reason", "no")
    job.refresh_from_db()
    assert (job.status, job.cancel_by) == (S.CANCELLED, "command line")
    run(capsys, "retry", str(job.pk))
    job.refresh_from_db()
    assert job.status is S.WAITING
    assert "due at" in run(capsys, "run", str(job.pk), "--now")
    Job.objects.filter(pk=job.pk).update(status_reason=S.SUCCEEDED, ready_at=None)
    run(capsys, "run", str(job.pk))
    assert Job.objects.filter(repeat_of=job).count() == 1


def test_refused_ones_do_not_stop_the_others(capsys):
    done, waiting = dispatch.request("probe"), dispatch.request("probe")
    Job.objects.filter(pk=done.pk).update(status_reason=S.SUCCEEDED, ready_at=None)
    with pytest.raises(CommandError, match="1 of 2 refused"):
        run(capsys, "cancel", str(done.pk), str(waiting.pk))
    waiting.refresh_from_db()
    assert waiting.status is S.CANCELLED


def test_all_that_match_are_counted_first_and_done_with_yes(capsys):
    failed = [dispatch.request("probe") for _ in range(3)]
    Job.objects.filter(pk__in=[job.pk for job in failed]).update(status_reason=S.FAILED, ready_at=None)
    dispatch.request("probe")
    asked = ("retry", "--all-matching", "--type", "probe", "--reason", "mended")
    told = run(capsys, *asked)
    assert (
        "Retry: 3 of 4 matching jobs." in told and "1 stay as they are. Waiting" in told and "Nothing was done" in told
    )
    assert Job.objects.filter(status_reason=S.FAILED).count() == 3
    assert "3 retried." in run(capsys, *asked, "--yes")
    assert Job.objects.filter(status_reason=S.WAITING).count() == 4
    step = failed[0].transitions.latest("id")
    assert (step.by, step.reason) == ("command line", "mended")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("retry", "--all-matching"), "at least one filter"),
        (("retry",), "Name jobs by their ids"),
        (("retry", "1", "--all-matching", "--type", "probe"), "Either ids or"),
        (("cancel", "--all-matching", "--connection", "999"), "connection: "),
        (("reschedule", "1", "--at", "soon"), "is no moment"),
        (("resume", "9"), "no pause 9"),
        (("pause", "--connection", "Nowhere", "--reason", "x"), "no connection Nowhere"),
        (("pause", "--type", "nonsense", "--reason", "x"), "Choose one of"),
        (("pause", "--all", "--reason", " "), "Say why"),
    ],
)
def test_what_can_not_be_is_refused_with_a_sentence(arguments, sentence):
    with pytest.raises(CommandError, match=sentence):
        call_command("jobs", *arguments)


def test_reschedule_set_aside_and_take_up(capsys):
    waiting, failed = dispatch.request("probe"), dispatch.request("probe")
    Job.objects.filter(pk=failed.pk).update(status_reason=S.FAILED, ready_at=None)
    later = clock.now() + timedelta(hours=5)
    run(capsys, "reschedule", str(waiting.pk), "--at", later.isoformat())
    waiting.refresh_from_db()
    assert waiting.run_at == later
    run(capsys, "set-aside", str(failed.pk), "--note", "closed")
    failed.refresh_from_db()
    assert (failed.aside_by, failed.aside_note) == ("command line", "closed")
    run(capsys, "take-up", str(failed.pk))
    failed.refresh_from_db()
    assert failed.aside_at is None


def test_pauses_are_made_listed_and_ended(capsys, pair):
    until = f"{clock.now() + timedelta(days=2):%Y-%m-%dT%H:%M}"
    run(capsys, "pause", "--connection", "Books", "--reason", "Audit", "--until", until)
    assert f"jobs of Books until {until[:10]}" in run(capsys, "pauses")
    run(capsys, "resume", str(Pause.objects.get().pk))
    assert "Nothing is held back." in run(capsys, "pauses")


def test_stats_and_errors(capsys):
    job = dispatch.request("probe")
    Job.objects.filter(pk=job.pk).update(
        status_reason=S.FAILED,
        ready_at=None,
        finished_at=clock.now(),
        fingerprint="f1",
        error_message="no such invoice",
    )
    assert json.loads(run(capsys, "stats", "--json"))["types"][0]["failed"] == 1
    assert "probe: 1 ended, 1 failed" in run(capsys, "stats")
    assert "no such invoice" in run(capsys, "errors")
    assert json.loads(run(capsys, "errors", "--json"))[0]["count"] == 1


def test_an_unknown_id_is_said():
    with pytest.raises(CommandError, match="no job 99"):
        call_command("jobs", "show", "99")


def test_a_worker_needs_workers():
    with pytest.raises(CommandError, match="at least 1"):
        call_command("worker", "--workers", "0")
