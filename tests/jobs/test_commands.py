"""What can be done with jobs at the command line?"""

import json

import pytest
from django.core.management import CommandError, call_command

from jobs import dispatch
from jobs.models import Job
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


def test_an_unknown_id_is_said():
    with pytest.raises(CommandError, match="no job 99"):
        call_command("jobs", "show", "99")


def test_a_worker_needs_workers():
    with pytest.raises(CommandError, match="at least 1"):
        call_command("worker", "--workers", "0")
