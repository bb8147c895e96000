"""What do programs see of jobs, and what may they do with one, with many, and with pauses?"""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

from connectors.models import ApiCall, Connection
from jobs import clock, dispatch, pauses
from jobs.models import Job, Pause
from jobs.states import StatusReason

pytestmark = pytest.mark.django_db
S = StatusReason
URL = "/api/v1/jobs/"


@pytest.fixture
def api(db):
    def log_in(*permissions, **flags):
        user = User.objects.create_user("ada", password="a long enough secret", **flags)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = APIClient()
        client.force_authenticate(user)
        return client

    return log_in


@pytest.fixture
def boss(api):
    return api(is_superuser=True)


def failed(**changes):
    job = dispatch.request("probe", **changes)
    Job.objects.filter(pk=job.pk).update(
        status_reason=S.FAILED, ready_at=None, error_message="oops", error_class="business", error_code="610",
        fingerprint="f1", finished_at=clock.now(),
    )  # fmt: skip
    job.refresh_from_db()
    return job


def ids(answer):
    return [row["id"] for row in answer.json()["results"]]


def test_nobody_reads_jobs_without_the_permission(api):
    assert api().get(URL).status_code == 403


def test_jobs_are_listed_newest_first_and_filtered(api, pair):
    old, new = failed(scope=pair.scope), dispatch.request("charge")
    client = api("view_job")
    assert ids(client.get(URL)) == [new.pk, old.pk]
    for name, value in (
        ("status_reason", "failed"), ("type", "probe"), ("connection", pair.left.pk), ("integration", pair.integration.pk),
        ("error_class", "business"), ("error_code", "610"), ("fingerprint", "f1"), ("ids", f"{old.pk},999"),
        ("finished_after", "2020-01-01T00:00:00Z"), ("scope", pair.scope.pk),
    ):  # fmt: skip
        assert ids(client.get(URL, {name: value})) == [old.pk], name
    both = client.get(f"{URL}?status_reason=failed&status_reason=waiting")
    assert ids(both) == [new.pk, old.pk]


@pytest.mark.parametrize(
    "wrong", [{"status_reason": "nonsense"}, {"connection": "999"}, {"ids": "x"}, {"created_after": "soon"}]
)
def test_a_filter_that_can_not_be_is_said_at_its_name(api, wrong):
    answer = api("view_job").get(URL, wrong)
    assert (answer.status_code, list(answer.json())) == (400, list(wrong))


def test_stuck_jobs_are_found_by_their_missing_heartbeat(api, at):
    fresh, silent = dispatch.request("probe"), dispatch.request("probe")
    for job, seconds in ((fresh, 85), (silent, 20)):
        lease = clock.now() + timedelta(seconds=seconds)
        Job.objects.filter(pk=job.pk).update(status_reason=S.IN_PROGRESS, lease_until=lease, ready_at=None)
    client = api("view_job")
    assert ids(client.get(URL, {"stuck": "true"})) == [silent.pk]
    assert ids(client.get(URL, {"stuck": "false"})) == [fresh.pk]


def test_one_job_shows_its_timeline_its_note_and_no_token(api):
    job = dispatch.request("probe")
    client = api("view_job")
    assert client.get(f"{URL}{job.pk}/").json()["note"]["word"] == "ready"
    dispatch.take(job)
    answer = client.get(f"{URL}{job.pk}/")
    assert [step["to_status"] for step in answer.json()["timeline"]] == ["waiting", "dispatched"]
    assert job.dispatch_token not in answer.content.decode()


def test_attempts_transitions_and_calls_of_a_job(api, at, work):
    job = dispatch.request("probe", params={"do": "retryable"})
    work()
    connection = Connection.objects.create(system="memory", name="Books")
    ApiCall.objects.create(connection=connection, at=clock.now(), job_id=job.pk, method="GET", path="/x", status=503)
    ApiCall.objects.create(connection=connection, at=clock.now(), method="GET", path="/other")
    client = api("view_job", "view_apicall")
    [one] = client.get(f"{URL}{job.pk}/attempts/").json()
    assert (one["outcome"], one["error_code"], bool(one["worker"])) == ("failed, tried again", "503", True)
    steps = client.get(f"{URL}{job.pk}/transitions/").json()["results"]
    assert [step["to_status"] for step in steps] == ["retry", "in progress", "dispatched", "waiting"]
    assert [call["path"] for call in client.get(f"{URL}{job.pk}/calls/").json()["results"]] == ["/x"]
    User.objects.all().delete()
    assert api("view_job").get(f"{URL}{job.pk}/calls/").status_code == 403


ACTS = {
    "retry": ("failed", "retry_job", {"reason": "because"}),
    "cancel": ("waiting", "cancel_job", {"reason": "because"}),
    "run-now": ("waiting", "retry_job", {"reason": "because"}),
    "reschedule": ("waiting", "retry_job", {"run_at": "2026-03-02T08:00:00Z", "reason": "because"}),
    "set-aside": ("failed", "retry_job", {"note": "because"}),
}


@pytest.mark.parametrize("name", ACTS)
def test_acting_needs_its_own_permission_and_is_logged(api, at, name):
    status, needed, body = ACTS[name]
    job = failed() if status == "failed" else dispatch.request("probe")
    url = f"{URL}{job.pk}/{name}/"
    assert api("view_job", "add_job", "change_job").post(url, body, format="json").status_code == 403
    User.objects.all().delete()
    answer = api("view_job", needed).post(url, body, format="json")
    assert answer.status_code == 200, answer.json()
    assert "because" in answer.json()["timeline"][-1]["reason"]
    assert LogEntry.objects.get().object_id == str(job.pk)


def test_what_is_refused_is_a_conflict(boss):
    job = failed()
    for name, body in (
        ("cancel", {}),
        ("run-now", {}),
        ("reschedule", {"run_at": "2099-01-01T00:00:00Z"}),
        ("take-up", {}),
    ):
        answer = boss.post(f"{URL}{job.pk}/{name}/", body, format="json")
        assert (answer.status_code, bool(answer.json()["detail"])) == (409, True), name


def test_a_job_runs_again_once_however_often_that_is_asked(boss):
    job = failed()
    first = boss.post(f"{URL}{job.pk}/run-again/")
    second = boss.post(f"{URL}{job.pk}/run-again/")
    assert (first.status_code, first.json()["job"]["repeat_of"]) == (202, job.pk)
    assert first.json()["job"]["id"] == second.json()["job"]["id"]


@pytest.mark.parametrize("run_at", ["2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "soon", None])
def test_a_moment_that_can_not_be_is_said_at_its_key(boss, run_at):
    job = dispatch.request("probe")
    answer = boss.post(f"{URL}{job.pk}/reschedule/", {"run_at": run_at}, format="json")
    assert (answer.status_code, list(answer.json())) == (400, ["run_at"])


def test_figures_and_errors(api, pair):
    failed(scope=pair.scope), failed()
    dispatch.request("probe", run_at=clock.now() - timedelta(seconds=30))
    client = api("view_job")
    found = client.get(f"{URL}figures/").json()
    assert found["oldest_due_seconds"] >= 30
    assert [(one["type"], one["failed"]) for one in found["types"]] == [("probe", 2)]
    assert found["failures"] == [{"type": "probe", "error_class": "business", "error_code": "610", "count": 2}]
    [group] = client.get(f"{URL}errors/").json()
    assert (group["fingerprint"], group["count"]) == ("f1", 2)
    [mine] = client.get(f"{URL}errors/", {"integration": pair.integration.pk}).json()
    assert mine["count"] == 1


# Many


def bulk(client, **body):
    return client.post(f"{URL}bulk/", body, format="json")


def test_a_dry_run_counts_and_does_nothing(boss):
    jobs = [failed() for _ in range(3)]
    dispatch.request("probe")
    told = bulk(boss, action="retry", filter={"type": "probe"}, dry_run=True).json()
    assert (told["eligible"], told["first"]) == (3, [job.pk for job in jobs])
    assert told["not_eligible"] == [{"reason": "Waiting: it has not failed.", "count": 1}]
    assert Job.objects.filter(status_reason=S.FAILED).count() == 3


def test_it_is_done_while_the_expected_count_holds(boss):
    [failed() for _ in range(3)]
    answer = bulk(boss, action="retry", filter={"status_reason": ["failed"]}, expected_count=2)
    assert (answer.status_code, answer.json()["eligible"]) == (409, 3)
    assert Job.objects.filter(status_reason=S.FAILED).count() == 3
    answer = bulk(boss, action="retry", filter={"status_reason": ["failed"]}, expected_count=3, reason="mended")
    assert (answer.status_code, len(answer.json()["done"])) == (200, 3)
    assert set(Job.objects.values_list("status_reason", "round")) == {(S.WAITING, 1)}
    entry = LogEntry.objects.get()
    assert (entry.object_repr, "mended" in entry.change_message) == ("3 jobs", True)


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"filter": {"type": "probe"}}, "action"),
        ({"action": "explode", "filter": {"type": "probe"}}, "action"),
        ({"action": "retry"}, "filter"),
        ({"action": "retry", "filter": {}, "dry_run": True}, "filter"),
        ({"action": "retry", "filter": {"type": "probe"}}, "expected_count"),
        ({"action": "retry", "filter": {"connection": 999}, "dry_run": True}, "filter"),
        ({"action": "retry", "filter": {"kind": "probe"}, "dry_run": True}, "filter"),
        ({"action": "reschedule", "filter": {"type": "probe"}, "expected_count": 0}, "run_at"),
    ],
)
def test_a_body_that_can_not_be_is_said_at_its_key(boss, body, key):
    failed()
    answer = bulk(boss, **body)
    assert (answer.status_code, list(answer.json())) == (400, [key])
    assert Job.objects.filter(status_reason=S.FAILED).count() == 1


@pytest.mark.parametrize(
    ("action", "needed"), [("retry", "retry_job"), ("cancel", "cancel_job"), ("run-now", "retry_job")]
)
def test_each_action_on_many_needs_the_right_of_one(api, action, needed):
    other = "cancel_job" if needed == "retry_job" else "retry_job"
    body = {"action": action, "filter": {"type": "probe"}, "dry_run": True}
    assert bulk(api("view_job", other), **body).status_code == 403
    User.objects.all().delete()
    assert bulk(api("view_job", needed), **body).status_code == 200


# Pauses


def test_pauses_are_made_changed_and_ended(boss, pair):
    made = boss.post("/api/v1/pauses/", {"kind": "connection", "connection": pair.left.pk, "reason": "closed"})
    assert (made.status_code, made.json()["who"]) == (201, "ada")
    url = f"/api/v1/pauses/{made.json()['id']}/"
    later = (clock.now() + timedelta(hours=1)).isoformat()
    assert boss.patch(url, {"until": later}).json()["reason"] == "closed"
    assert Pause.objects.get().until is not None
    assert boss.patch(url, {"until": "2020-01-01T00:00:00Z"}).json() == {
        "until": ["That moment is past. Leave it empty for a pause that a person ends."]
    }
    assert [row["id"] for row in boss.get("/api/v1/pauses/").json()["results"]] == [made.json()["id"]]
    assert boss.delete(url).status_code == 204
    assert not Pause.objects.exists()
    assert LogEntry.objects.filter(object_id=str(made.json()["id"])).count() == 3


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"kind": "hub"}, "reason"),
        ({"kind": "hub", "reason": " "}, "reason"),
        ({"kind": "connection", "reason": "x"}, "connection"),
        ({"kind": "type", "reason": "x", "job_type": "nonsense"}, "job_type"),
        ({"kind": "hub", "reason": "x", "job_type": "probe"}, "job_type"),
        ({"kind": "hub", "reason": "x", "until": "2020-01-01T00:00:00Z"}, "until"),
    ],
)
def test_a_pause_that_can_not_be_is_said_at_its_key(boss, body, key):
    answer = boss.post("/api/v1/pauses/", body)
    assert (answer.status_code, list(answer.json())) == (400, [key])
    assert not Pause.objects.exists()


def test_a_second_pause_of_the_same_is_refused(boss):
    pauses.begin("hub", reason="first", by="eve")
    answer = boss.post("/api/v1/pauses/", {"kind": "hub", "reason": "second"})
    assert (answer.status_code, "already by eve: first" in answer.json()["kind"][0]) == (400, True)


def test_who_only_looks_pauses_nothing(api):
    made = pauses.begin("hub", reason="first", by="eve")
    client = api("view_pause")
    assert client.get("/api/v1/pauses/").status_code == 200
    assert client.post("/api/v1/pauses/", {"kind": "type", "job_type": "probe", "reason": "x"}).status_code == 403
    assert client.delete(f"/api/v1/pauses/{made.pk}/").status_code == 403
