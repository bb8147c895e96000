"""What may operators see and do in the admin and through the API?"""

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.urls import NoReverseMatch, include, path, reverse
from django_q.models import Failure, OrmQ, Schedule, Success
from rest_framework.routers import DefaultRouter
from rest_framework.test import APIClient

from config import urls as live
from jobs import dispatch
from jobs.api import JobViewSet
from jobs.models import Job, Pause
from jobs.states import StatusReason

pytestmark = pytest.mark.django_db
S = StatusReason
router = DefaultRouter()
router.register("jobs", JobViewSet, basename="tested-job")
urlpatterns = [*live.urlpatterns, path("tested/", include(router.urls))]


def person(*permissions, **flags):
    user = User.objects.create_user("ada", password="a long enough secret", is_staff=True, **flags)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


@pytest.fixture
def as_person(client):
    def log_in(*permissions, **flags):
        client.force_login(person(*permissions, **flags))
        return client

    return log_in


def failed(**changes):
    job = dispatch.request("probe", **changes)
    Job.objects.filter(pk=job.pk).update(status_reason=S.FAILED, ready_at=None, error_message="<b>oops</b>")
    job.refresh_from_db()
    return job


def press(client, action, *jobs):
    ticked = {"action": action, "_selected_action": [job.pk for job in jobs]}
    return client.post(reverse("admin:jobs_job_changelist"), ticked, follow=True)


@pytest.mark.parametrize("model", [Schedule, OrmQ, Success, Failure])
def test_the_queues_own_pages_are_not_there(model):
    assert not admin.site.is_registered(model)
    with pytest.raises(NoReverseMatch):
        reverse(f"admin:django_q_{model._meta.model_name}_changelist")


def test_a_viewer_sees_list_and_timeline_and_text_is_escaped(as_person):
    job = failed()
    client = as_person("view_job", "view_jobtransition")
    listed = client.get(reverse("admin:jobs_job_changelist"))
    assert b"&lt;b&gt;oops" in listed.content
    page = client.get(reverse("admin:jobs_job_change", args=[job.pk]))
    assert page.status_code == 200
    assert b"Timeline" in page.content
    assert b"producer" in page.content.lower()


def test_search_finds_the_exact_id_only(as_person):
    jobs = [failed() for _ in range(12)]
    client = as_person("view_job")
    found = client.get(reverse("admin:jobs_job_changelist"), {"q": str(jobs[0].pk)}).context["cl"].queryset
    assert [job.pk for job in found] == [jobs[0].pk]


@pytest.mark.parametrize("page", ["add", "delete"])
def test_not_even_a_superuser_adds_or_deletes_jobs(as_person, page):
    arguments = [failed().pk] if page == "delete" else []
    client = as_person(is_superuser=True)
    assert client.post(reverse(f"admin:jobs_job_{page}", args=arguments)).status_code == 403


def test_a_superuser_changes_no_column_by_hand(as_person):
    job = failed()
    client = as_person(is_superuser=True)
    assert client.post(reverse("admin:jobs_job_change", args=[job.pk]), {"type": "x"}).status_code == 403


def test_retry_cancel_and_run_now_act_on_each_ticked_job(as_person):
    first, second = failed(), failed()
    client = as_person(is_superuser=True)
    press(client, "retry", first, second)
    assert set(Job.objects.values_list("status_reason", flat=True)) == {S.WAITING}
    press(client, "run_now", first)
    press(client, "cancel", first, second)
    assert set(Job.objects.values_list("status_reason", "cancel_by")) == {(S.CANCELLED, "ada")}
    assert LogEntry.objects.count() == 5


def test_what_is_refused_is_listed_with_the_reason(as_person):
    job = failed()
    page = press(as_person(is_superuser=True), "cancel", job)
    assert f"Job {job.pk}: job {job.pk} is failed already" in page.content.decode()
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("action", ["retry", "cancel", "run_now"])
def test_a_viewer_can_not_act(as_person, action):
    job = failed() if action == "retry" else dispatch.request("probe")
    before = job.status
    press(as_person("view_job"), action, job)
    job.refresh_from_db()
    assert job.status is before
    assert job.transitions.count() == 1


def test_a_pause_says_who_made_it(as_person):
    client = as_person(is_superuser=True)
    client.post(reverse("admin:jobs_pause_add"), {"kind": "hub", "reason": "migration", "job_type": ""})
    pause = Pause.objects.get()
    assert (pause.by.username, pause.reason) == ("ada", "migration")


@pytest.mark.parametrize("page", ["job", "jobtransition", "workerheartbeat", "pause"])
def test_a_list_costs_few_queries(as_person, django_assert_max_num_queries, page):
    for n in range(30):
        failed(params={"n": n})
    client = as_person(is_superuser=True)
    with django_assert_max_num_queries(15):
        assert client.get(reverse(f"admin:jobs_{page}_changelist")).status_code == 200


# API


@pytest.fixture
def api(settings):
    settings.ROOT_URLCONF = __name__

    def log_in(*permissions):
        client = APIClient()
        client.force_authenticate(person(*permissions))
        return client

    return log_in


def test_nobody_reads_jobs_without_the_permission(api):
    assert api().get("/tested/jobs/").status_code == 403


def test_jobs_are_listed_newest_first_and_filtered(api):
    old, new = failed(), dispatch.request("probe")
    client = api("view_job")
    assert [row["id"] for row in client.get("/tested/jobs/").json()["results"]] == [new.pk, old.pk]
    found = client.get("/tested/jobs/", {"status_reason": "failed"}).json()["results"]
    assert [row["id"] for row in found] == [old.pk]


def test_one_job_shows_its_timeline_and_no_token(api):
    job = dispatch.request("probe")
    dispatch.take(job)
    answer = api("view_job").get(f"/tested/jobs/{job.pk}/")
    assert [step["to_status"] for step in answer.json()["timeline"]] == ["waiting", "dispatched"]
    assert job.dispatch_token not in answer.content.decode()


@pytest.mark.parametrize(("action", "needed"), [("retry", "retry_job"), ("cancel", "cancel_job")])
def test_acting_needs_its_own_permission(api, action, needed):
    job = failed() if action == "retry" else dispatch.request("probe")
    url = f"/tested/jobs/{job.pk}/{action}/"
    client = api("view_job", "add_job", "change_job")
    assert client.post(url).status_code == 403
    User.objects.all().delete()
    answer = api("view_job", needed).post(url, {"reason": "because"}, format="json")
    assert answer.status_code == 200
    assert answer.json()["timeline"][-1]["reason"] == "because"


def test_what_is_refused_is_a_conflict(api):
    answer = api("view_job", "cancel_job").post(f"/tested/jobs/{failed().pk}/cancel/")
    assert (answer.status_code, "already" in answer.json()["detail"]) == (409, True)
