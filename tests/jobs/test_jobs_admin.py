"""What do operators see of jobs in the admin, and what may they do with one of them?"""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch, reverse
from django_q.models import Failure, OrmQ, Schedule, Success

from connectors.models import ApiCall, Connection
from jobs import clock, dispatch, figures, operate, pauses, retries, standing, tries
from jobs.admin.page import TABS
from jobs.housekeeping import purge
from jobs.models import Job
from jobs.states import StatusReason

pytestmark = pytest.mark.django_db
S = StatusReason


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


def many(pair, count):
    """Make jobs of all kinds, as rows."""
    statuses = [S.FAILED, S.WAITING, S.SUCCEEDED, S.RETRY, S.IN_PROGRESS, S.CANCELLED]
    now, start = clock.now(), Job.objects.count()
    Job.objects.bulk_create(
        Job(
            type="probe", scope=pair.scope, status_reason=status, run_at=now, created_at=now, error_class="business",
            ready_at=now if status in (S.WAITING, S.RETRY) else None, fingerprint=f"f{n % 7}", error_message="x",
            lock_key=f"{n}", finished_at=now if status in (S.FAILED, S.SUCCEEDED) else None,
            lease_until=now if status == S.IN_PROGRESS else None,
        )
        for n, status in ((n, statuses[n % 6]) for n in range(start, start + count))
    )  # fmt: skip


def press(client, action, job, **given):
    return client.post(reverse("admin:jobs_job_do", args=[job.pk, action]), given, follow=True)


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
    page = client.get(reverse("admin:jobs_job_change", args=[job.pk]), {"tab": "timeline"})
    assert page.status_code == 200
    assert b"Timeline" in page.content
    assert b"producer" in page.content.lower()
    assert b"<b>oops" not in page.content


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


def test_retry_run_now_cancel_and_run_again_from_the_page(as_person):
    job = failed(run_at=clock.now() + timedelta(hours=1))
    client = as_person(is_superuser=True)
    for button, status in (("retry", S.WAITING), ("run_now", S.WAITING), ("cancel", S.CANCELLED)):
        press(client, button, job)
        job.refresh_from_db()
        assert job.status is status, button
    assert "It runs again as" in press(client, "run_again", job).content.decode()
    again = Job.objects.get(repeat_of=job)
    assert (again.type, again.status) == ("probe", S.WAITING)
    press(client, "run_again", job, sent="twice")
    assert Job.objects.filter(repeat_of=job).count() == 1
    assert LogEntry.objects.count() == 5


def test_what_is_refused_is_told(as_person):
    job = failed()
    page = press(as_person(is_superuser=True), "cancel", job)
    assert f"job {job.pk} is failed already" in page.content.decode()
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("action", ["retry", "run_again"])
def test_a_job_of_a_type_that_there_is_no_more_is_refused_with_a_sentence(as_person, action):
    job = failed()
    Job.objects.filter(pk=job.pk).update(type="gone")
    page = press(as_person(is_superuser=True), action, job)
    assert "There is no job type &#x27;gone&#x27;" in page.content.decode()
    job.refresh_from_db()
    assert (job.status, Job.objects.count()) == (S.FAILED, 1)


@pytest.mark.parametrize("action", ["retry", "cancel", "run_now", "run_again"])
def test_a_viewer_can_not_act(as_person, action):
    job = dispatch.request("probe") if action in ("cancel", "run_now") else failed()
    before = job.status
    assert press(as_person("view_job"), action, job).status_code == 403
    job.refresh_from_db()
    assert job.status is before
    assert Job.objects.count() == job.transitions.count() == 1


def test_another_moment_is_chosen_in_the_persons_own_time_zone(as_person, at):
    job = dispatch.request("probe", run_at=clock.now() + timedelta(hours=1))
    client = as_person(is_superuser=True)
    client.cookies["syncline_zone"] = "Asia/Tokyo"
    page = client.get(reverse("admin:jobs_job_change", args=[job.pk])).content.decode()
    assert "In your time zone, Asia/Tokyo" in page
    assert "2026-03-01T22:00" in page
    url = reverse("admin:jobs_job_reschedule", args=[job.pk])
    answer = client.post(url, {"run_at": "2026-03-02T09:30", "reason": "after the move"}, follow=True)
    job.refresh_from_db()
    assert job.run_at.isoformat() == "2026-03-02T00:30:00+00:00" == job.ready_at.isoformat()
    assert "2026-03-02 09:30 JST" in answer.content.decode()
    last = job.transitions.latest("id")
    assert (last.by, "after the move" in last.reason) == ("ada", True)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("2026-03-01T11:00", "That moment is past"),
        ("2030-03-01T11:00", "At most a year ahead"),
        ("soon", "Enter a valid date/time"),
        ("", "This field is required"),
    ],
)
def test_a_moment_that_can_not_be_is_refused_at_the_field_and_stays_typed(as_person, at, given, sentence):
    job = dispatch.request("probe", run_at=clock.now() + timedelta(hours=1))
    before = job.run_at
    page = as_person(is_superuser=True).post(
        reverse("admin:jobs_job_reschedule", args=[job.pk]), {"run_at": given, "reason": "why not"}
    )
    job.refresh_from_db()
    assert job.run_at == before
    assert sentence in page.content.decode()
    assert "why not" in page.content.decode()


def test_nobody_reschedules_below_the_moment_for_which_a_system_asked(as_person, at):
    job = dispatch.request("probe")
    later = clock.now() + timedelta(hours=2)
    Job.objects.filter(pk=job.pk).update(not_before=later, run_at=later, ready_at=later)
    url = reverse("admin:jobs_job_reschedule", args=[job.pk])
    page = as_person(is_superuser=True).post(url, {"run_at": "2026-03-01T12:30"})
    assert "asked not to be called again before" in page.content.decode()


def test_a_form_of_a_page_that_is_out_of_date_is_refused(as_person, at):
    job = dispatch.request("probe", run_at=clock.now() + timedelta(hours=1))
    client = as_person(is_superuser=True)
    seen = client.get(reverse("admin:jobs_job_change", args=[job.pk])).context["sl_seen"]
    operate.cancel(job, by="somebody", reason="no")
    url = reverse("admin:jobs_job_reschedule", args=[job.pk])
    page = client.post(url, {"run_at": "2026-03-02T12:30", "sl_seen": seen})
    assert "Waiting → Cancelled" in page.content.decode()
    job.refresh_from_db()
    assert job.status is S.CANCELLED


def test_a_failed_job_is_set_aside_with_a_note_and_taken_up_again(as_person):
    job = failed()
    client = as_person(is_superuser=True)
    url = reverse("admin:jobs_job_aside", args=[job.pk])
    assert "This field is required" in client.post(url, {"note": " "}).content.decode()
    client.post(url, {"note": "The customer closes the account."})
    job.refresh_from_db()
    assert (job.status, job.aside_by, job.aside_note) == (S.FAILED, "ada", "The customer closes the account.")
    listed = client.get(reverse("admin:jobs_job_changelist"), {"attention": "aside"})
    assert "ada: The customer closes the account." in listed.content.decode()
    press(client, "take_up", job)
    job.refresh_from_db()
    assert (job.aside_at, job.aside_note) == (None, "")


def test_a_job_in_retry_that_is_set_aside_is_not_tried_again_and_not_purged(as_person, at):
    job = dispatch.request("probe")
    Job.objects.filter(pk=job.pk).update(status_reason=S.RETRY)
    as_person(is_superuser=True).post(reverse("admin:jobs_job_aside", args=[job.pk]), {"note": "enough"})
    job.refresh_from_db()
    assert (job.status, job.cancel_reason, job.ready_at) == (S.CANCELLED, "enough", None)
    at(timedelta(days=4000))
    list(purge.blocks(clock.now()))
    assert Job.objects.filter(pk=job.pk).exists()


def test_the_attempts_have_a_row_for_each_try_with_worker_outcome_and_error(as_person, at, work):
    job = dispatch.request("probe", params={"do": "retryable"})
    work()
    at(timedelta(minutes=5))
    work()
    client = as_person("view_job")
    rows = client.get(reverse("admin:jobs_job_change", args=[job.pk]), {"tab": "attempts"}).context["attempts"]
    assert [row["try"].number for row in rows] == [2, 1]
    first = rows[1]["try"]
    assert (first.outcome, first.error_class, first.error_code) == ("failed, tried again", "transient", "503")
    assert first.worker and first.reason == "503 from 10.0.0.1"


def test_slices_are_one_try(at, work):
    job = dispatch.request("probe", params={"do": "one_more_slice"})
    for _ in range(3):
        work()
    [one] = tries.of_job(job)
    assert (one.slices, one.outcome) == (3, "between two slices")


def test_the_calls_of_a_job_are_shown_to_those_who_may_see_calls(as_person):
    connection = Connection.objects.create(system="memory", name="Books")
    job = dispatch.request("probe")
    for n in range(60):
        ApiCall.objects.create(
            connection=connection, at=clock.now(), job_id=job.pk, method="GET", path=f"/c/{n}", status=200
        )
    ApiCall.objects.create(connection=connection, at=clock.now(), job_id=job.pk + 1, method="GET", path="/other")
    client = as_person("view_job", "view_apicall")
    page = client.get(reverse("admin:jobs_job_change", args=[job.pk]), {"tab": "calls"}).content.decode()
    assert "/c/59" in page and '/c/5"' not in page and "/other" not in page and "page 1 of 2" in page
    User.objects.all().delete()
    page = as_person("view_job").get(reverse("admin:jobs_job_change", args=[job.pk]), {"tab": "calls"}).content.decode()
    assert "/c/59" not in page and "Ask an administrator" in page


def test_jobs_that_belong_together_are_a_tree(as_person):
    top = failed()
    children = [dispatch.request("probe", parent=top) for _ in range(2)]
    again = operate.run_again(top, by="ada")
    for job in (top, children[0], again):
        assert tries.chain(job).job.pk == top.pk
    page = as_person("view_job").get(reverse("admin:jobs_job_change", args=[children[1].pk]))
    assert [(line["job"].pk, line["depth"], line["how"], line["here"]) for line in page.context["chain"]] == [
        (top.pk, 0, "", False),
        (children[0].pk, 1, "part of it", False),
        (children[1].pk, 1, "part of it", True),
        (again.pk, 1, "run again", False),
    ]


def test_tabs_count_and_filter_by_status_and_keep_other_filters(as_person):
    jobs = [failed() for _ in range(3)]
    dispatch.request("charge")
    client = as_person("view_job")
    page = client.get(reverse("admin:jobs_job_changelist"), {"type": "probe", "status": "failed"})
    assert [job.pk for job in page.context["cl"].result_list] == [job.pk for job in reversed(jobs)]
    counts = {tab["label"]: tab["count"] for tab in page.context["jb_tabs"]}
    assert (counts["Failed"], counts["Waiting"], counts["Succeeded"]) == ("3", "0", "")
    assert "type=probe" in next(tab["url"] for tab in page.context["jb_tabs"] if tab["label"] == "Waiting")


def test_the_list_is_narrowed_by_connection_integration_error_and_code(as_person, pair):
    mine = failed(scope=pair.scope)
    Job.objects.filter(pk=mine.pk).update(error_class="business", error_code="610", fingerprint="f1")
    failed()
    client = as_person("view_job")
    for name, value in (
        ("connection", pair.left.pk), ("integration", pair.integration.pk), ("error", "business"), ("code", "610"),
        ("fingerprint", "f1"),
    ):  # fmt: skip
        found = client.get(reverse("admin:jobs_job_changelist"), {name: value}).context["cl"]
        assert [job.pk for job in found.result_list] == [mine.pk], name


NOTES = {
    "ready": lambda job, pair: None,
    "scheduled": lambda job, pair: Job.objects.filter(pk=job.pk).update(run_at=clock.now() + timedelta(hours=1)),
    "snoozed": lambda job, pair: Job.objects.filter(pk=job.pk).update(
        run_at=clock.now() + timedelta(hours=1), not_before=clock.now() + timedelta(hours=1)
    ),
    "paused": lambda job, pair: pauses.begin(
        "connection", connection=pair.left, reason="The books are closed.", by="eve"
    ),
    "blocked": lambda job, pair: Connection.objects.filter(pk=pair.left.pk).update(state="needs reconnect"),
    "stuck": lambda job, pair: Job.objects.filter(pk=job.pk).update(
        status_reason=S.IN_PROGRESS, lease_until=clock.now() + timedelta(seconds=20)
    ),
}


@pytest.mark.parametrize("word", NOTES)
def test_what_a_job_waits_for_is_a_note_below_its_status(as_person, at, pair, word):
    job = dispatch.request("probe", scope=pair.scope)
    NOTES[word](job, pair)
    page = as_person("view_job").get(reverse("admin:jobs_job_changelist"))
    [shown] = page.context["cl"].result_list
    assert shown.note.word == word
    if word == "paused":
        assert "Held back by eve" in page.content.decode() and "The books are closed." in page.content.decode()


def test_a_job_behind_another_one_of_its_lock_names_it(at):
    first, second = (dispatch.request("probe", lock_key="scope:1") for _ in range(2))
    dispatch.take(first)
    assert standing.notes([second], clock.now())[second.pk].why.startswith(f"Job {first.pk} ")


def test_failed_jobs_are_grouped_by_error_with_one_click_to_them(as_person):
    for message in ("no such invoice 17", "no such invoice 18", "no such tax 'x'"):
        mark = retries.fingerprint("probe", retries.ErrorClass.BUSINESS, "610", message)
        Job.objects.filter(pk=failed().pk).update(
            error_message=message, fingerprint=mark, error_class="business", error_code="610", finished_at=clock.now()
        )
    client = as_person("view_job")
    page = client.get(reverse("admin:jobs_job_errors"))
    assert [(row["group"].count, row["group"].message) for row in page.context["groups"]] == [
        (2, "no such invoice 18"),
        (1, "no such tax 'x'"),
    ]
    [big, _] = [row["group"].fingerprint for row in page.context["groups"]]
    assert f"?status=failed&amp;fingerprint={big}" in page.content.decode()
    found = client.get(reverse("admin:jobs_job_changelist"), {"status": "failed", "fingerprint": big})
    assert len(found.context["cl"].result_list) == 2
    assert "error: " in found.content.decode()


def test_the_figures_say_how_long_jobs_waited_and_ran_and_what_failed(as_person, at, work):
    for n in range(20):
        dispatch.request("probe", run_at=clock.now() - timedelta(seconds=n + 1))
    while work():
        pass
    dispatch.request("probe", params={"do": "permanent"}, run_at=clock.now() - timedelta(seconds=100))
    found = figures.figures(clock.now())
    assert found.oldest_due_seconds == 100
    work()
    found = figures.figures(clock.now())
    [one] = found.types
    assert (one.finished, one.failed, one.wait_p50, one.wait_p95, one.run_p50) == (21, 1, 11.0, 20.0, 0.0)
    assert [(f.type, f.error_class, f.error_code, f.count) for f in found.failures] == [("probe", "business", "610", 1)]
    page = as_person("view_job").get(reverse("admin:jobs_job_figures")).content.decode()
    assert "610" in page and "11 s" in page
    at(timedelta(days=2))
    assert figures.figures(clock.now()).types == []


@pytest.mark.parametrize(("share", "value"), [(50, 0.002), (95, 0.004), (1, 0.001), (100, 0.004)])
def test_percentiles_are_by_nearest_rank(share, value):
    assert figures.percentile([1, 2, 3, 4], share) == value
    assert figures.percentile([], share) is None


def _queries(client, url):
    with CaptureQueriesContext(connection) as found:
        assert client.get(url).status_code == 200
    return len(found)


@pytest.mark.parametrize("page", ["changelist", "head", "errors", "figures", "bulk_retry", "bulk_cancel"])
def test_a_page_costs_as_many_queries_with_10_as_with_1000_jobs(as_person, pair, page):
    many(pair, 10)
    client = as_person(is_superuser=True)
    url = reverse(f"admin:jobs_job_{page}")
    _queries(client, url)  # what is kept from the first time on
    few = _queries(client, url)
    many(pair, 990)
    assert _queries(client, url) == few < 40


def test_the_page_of_a_job_costs_as_many_queries_with_much_as_with_little(as_person, pair):
    top = failed(scope=pair.scope)
    client = as_person(is_superuser=True)
    pages = [f"{reverse('admin:jobs_job_change', args=[top.pk])}?tab={tab}" for tab in TABS]

    def more(count):
        for n in range(count):
            dispatch.request("probe", parent=top, params={"n": n})
            ApiCall.objects.create(connection=pair.left, at=clock.now(), job_id=top.pk, method="GET", path="/x")
            operate.retry(top, by="ada")
            Job.objects.filter(pk=top.pk).update(status_reason=S.FAILED, ready_at=None)
            top.refresh_from_db()

    more(2)
    [_queries(client, url) for url in pages]
    few = [_queries(client, url) for url in pages]
    more(58)
    assert [_queries(client, url) for url in pages] == few


@pytest.mark.parametrize("page", ["jobtransition", "workerheartbeat", "pause"])
def test_a_list_costs_few_queries(as_person, django_assert_max_num_queries, page):
    for n in range(30):
        failed(params={"n": n})
    client = as_person(is_superuser=True)
    with django_assert_max_num_queries(15):
        assert client.get(reverse(f"admin:jobs_{page}_changelist")).status_code == 200
