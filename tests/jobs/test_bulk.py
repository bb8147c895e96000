"""Is one thing done to many jobs as it was confirmed, once, and only to those to which it can be done?"""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.urls import reverse

from jobs import bulk, clock, dispatch, operate
from jobs.models import Job, JobTransition
from jobs.states import AlreadyOpen, StatusReason

pytestmark = pytest.mark.django_db
S = StatusReason


def jobs(count, status=S.FAILED, **columns):
    """Place jobs of this status."""
    made = [dispatch.request("probe", params={"n": n}) for n in range(count)]
    ready = clock.now() if status in (S.WAITING, S.RETRY) else None
    Job.objects.filter(pk__in=[job.pk for job in made]).update(status_reason=status, ready_at=ready, **columns)
    return made


@pytest.fixture
def boss(client):
    client.force_login(User.objects.create_superuser("ada", password="a long enough secret"))
    return client


def page(verb, **asked):
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    return f"{reverse(f'admin:jobs_job_bulk_{verb}')}?{query}"


def count(**columns):
    return Job.objects.filter(**columns).count()


# In the admin


def test_ticked_rows_lead_to_a_page_that_counts_them(boss):
    failed, done = jobs(3), jobs(2, S.SUCCEEDED)
    ids = [job.pk for job in (*failed, *done)]
    answer = boss.post(
        reverse("admin:jobs_job_changelist"), {"action": "retry_ticked", "_selected_action": ids}, follow=True
    )
    outlook = answer.context["outlook"]
    assert (outlook.eligible, outlook.total) == (3, 5)
    assert outlook.others == [("Succeeded: there is nothing to repeat. Run again makes a new job.", 2)]
    assert "Retry 3 of 5 matching" in " ".join(answer.content.decode().split())
    assert count(status_reason=S.FAILED) == 3, "nothing is done before it is confirmed"


def test_all_that_match_are_meant_not_those_of_the_page(boss):
    jobs(120)
    jobs(5, S.CANCELLED)
    listed = boss.post(
        reverse("admin:jobs_job_changelist") + "?status=failed",
        {"action": "retry_ticked", "_selected_action": [1], "select_across": "1"},
        follow=True,
    )
    assert listed.context["outlook"].eligible == 120
    assert len(listed.context["rows"]) == bulk.SHOWN
    answer = boss.post(page("retry", status="failed"), {"expected": 120, "reason": "mended"}, follow=True)
    assert "120 jobs retried." in answer.content.decode()
    assert (count(status_reason=S.WAITING), count(status_reason=S.CANCELLED)) == (120, 5)
    [entry] = LogEntry.objects.all()
    assert (entry.object_repr, entry.user.username) == ("120 jobs", "ada")
    assert "status: Failed" in entry.change_message and "mended" in entry.change_message
    last = JobTransition.objects.latest("id")
    assert (last.by, last.reason, last.from_status, last.to_status) == ("ada", "mended", "failed", "waiting")


def test_what_changed_since_it_was_confirmed_is_shown_again_and_nothing_is_done(boss):
    jobs(4)
    url = page("retry", status="failed")
    boss.get(url)
    operate.retry(Job.objects.latest("id"), by="somebody")
    answer = boss.post(url, {"expected": 4, "reason": "kept"})
    text = answer.content.decode()
    assert "You confirmed to retry 4 jobs; meanwhile there are 3. Nothing was done." in text
    assert 'value="3"' in text and "kept" in text
    assert count(status_reason=S.FAILED) == 3


def test_the_same_confirmation_twice_does_it_once(boss):
    jobs(3)
    url = page("retry", status="failed")
    boss.post(url, {"expected": 3, "reason": ""})
    again = boss.post(url, {"expected": 3, "reason": ""})
    assert "meanwhile there are 0" in again.content.decode()
    assert set(Job.objects.values_list("round", flat=True)) == {1}
    assert LogEntry.objects.count() == 1


def test_each_verb_from_its_page(boss, at):
    later = clock.now() + timedelta(hours=3)
    jobs(3, S.WAITING, run_at=later)
    assert boss.post(page("run_now", status="waiting"), {"expected": 3, "reason": ""}).status_code == 302
    assert count(run_at=clock.now(), ready_at=clock.now(), priority=0) == 3
    given = {"expected": 3, "reason": "", "run_at": "2026-03-02T08:00"}
    assert boss.post(page("reschedule", status="waiting"), given).status_code == 302
    assert {f"{at:%d %H:%M}" for at in Job.objects.values_list("ready_at", flat=True)} == {"02 08:00"}
    assert boss.post(page("cancel", status="waiting"), {"expected": 3, "reason": "no longer"}).status_code == 302
    assert count(status_reason=S.CANCELLED, cancel_reason="no longer", ready_at=None) == 3


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"expected": "x"}, "Enter a whole number"),
        ({"expected": 1, "run_at": "soon"}, "Enter a valid date/time"),
        ({"expected": 1, "run_at": "2020-01-01T00:00"}, "That moment is past"),
        ({"expected": 1, "run_at": "2026-03-02T08:00", "reason": "x" * 501}, "at most 500 characters"),
    ],
)
def test_bad_input_is_said_at_the_field_and_nothing_is_done(boss, at, given, sentence):
    [job] = jobs(1, S.WAITING)
    before = Job.objects.get(pk=job.pk).run_at
    answer = boss.post(page("reschedule", status="waiting"), {"reason": "", **given})
    assert sentence in answer.content.decode() or given["expected"] == "x"
    assert answer.status_code == 200
    assert Job.objects.get(pk=job.pk).run_at == before


@pytest.mark.parametrize(("expected", "when"), [(7, "2026-03-02T08:00"), (2, "2020-01-01T00:00")])
def test_a_form_of_reschedule_that_is_refused_keeps_what_was_typed_and_can_be_sent_again(boss, at, expected, when):
    jobs(2, S.WAITING)
    url = page("reschedule", status="waiting")
    before = set(Job.objects.values_list("run_at", flat=True))
    form = boss.post(url, {"expected": expected, "reason": "after the audit", "run_at": when}).context["form"]
    assert (form["run_at"].value(), form["reason"].value(), form["expected"].value()) == (when, "after the audit", "2")
    assert set(Job.objects.values_list("run_at", flat=True)) == before
    again = {name: form[name].value() for name in ("expected", "reason", "run_at")} | {"run_at": "2026-03-02T08:00"}
    assert boss.post(url, again).status_code == 302
    assert {f"{at:%m-%d %H:%M}" for at in Job.objects.values_list("run_at", flat=True)} == {"03-02 08:00"}


def test_a_filter_that_can_not_be_read_leads_back(boss):
    answer = boss.get(page("retry", nonsense="1"), follow=True)
    assert "That filter can" in answer.content.decode()


@pytest.mark.parametrize("verb", ["retry", "cancel", "run_now", "reschedule"])
def test_who_may_not_act_sees_no_such_page(client, verb):
    user = User.objects.create_user("vic", is_staff=True)
    from django.contrib.auth.models import Permission

    user.user_permissions.add(Permission.objects.get(codename="view_job"))
    client.force_login(user)
    jobs(2)
    assert client.get(page(verb)).status_code == 403
    assert client.post(page(verb), {"expected": 2}).status_code == 403
    assert b"all of these" not in client.get(reverse("admin:jobs_job_changelist"), {"status": "failed"}).content


# To which jobs


def test_what_stays_as_it_is_has_a_reason(at):
    [aside] = jobs(1)
    operate.set_aside(aside, by="ada", note="closed")
    [unknown] = jobs(1)
    Job.objects.filter(pk=unknown.pk).update(type="gone")
    jobs(1, S.IN_PROGRESS)
    jobs(2)
    outlook = bulk.look(bulk.RETRY, Job.objects.all())
    assert outlook.eligible == 2
    assert dict(outlook.others) == {
        "Set aside: somebody said that it is not to be tried again.": 1,
        "Its type is not known any more.": 1,
        "In progress: it has not failed.": 1,
    }


def test_run_now_leaves_what_is_due_and_what_a_system_put_off(at):
    now = clock.now()
    jobs(1, S.WAITING, run_at=now, priority=0)
    jobs(1, S.RETRY, run_at=now + timedelta(hours=1), not_before=now + timedelta(hours=1))
    jobs(1, S.RETRY, run_at=now + timedelta(hours=1))
    outlook = bulk.look(bulk.RUN_NOW, Job.objects.all())
    assert (outlook.eligible, [number for _, number in outlook.others]) == (1, [1, 1])


def test_what_runs_is_asked_to_stop_by_a_bulk_cancel(at):
    [waiting] = jobs(1, S.WAITING)
    [running] = jobs(1, S.IN_PROGRESS)
    outcome = bulk.perform(bulk.CANCEL, Job.objects.all(), 2, bulk.Asked("ada", "enough"))
    assert sorted(outcome.done) == [waiting.pk, running.pk]
    running.refresh_from_db()
    assert (running.status, running.cancel_requested, running.cancel_by) == (S.IN_PROGRESS, True, "ada")
    assert bulk.look(bulk.CANCEL, Job.objects.all()).eligible == 0


def test_of_jobs_that_would_do_the_same_the_newest_is_retried_and_none_where_one_is_open(at):
    for key in ("once", "twice"):
        for _ in range(3):
            job = dispatch.request("probe", dedupe_key=key)
            Job.objects.filter(pk=job.pk).update(status_reason=S.FAILED, ready_at=None)
    newest = job
    dispatch.request("probe", dedupe_key="once")  # opened since: the failed ones can't be opened, too
    jobs(3)
    rows = Job.objects.filter(status_reason=S.FAILED)
    outlook = bulk.look(bulk.RETRY, rows)
    assert (outlook.eligible, dict(outlook.others)) == (
        4,
        {"A job that does the same is open already.": 3, "A newer one of these does the same.": 2},
    )
    outcome = bulk.perform(bulk.RETRY, rows, 4, bulk.Asked("ada"))
    assert (len(outcome.done), outcome.refused) == (4, [])
    assert newest.pk in outcome.done


def test_move_many_moves_all_or_none():
    first = dispatch.request("probe", dedupe_key="once")
    Job.objects.filter(pk=first.pk).update(status_reason=S.FAILED, ready_at=None)
    dispatch.request("probe", dedupe_key="once")
    jobs(2)
    with pytest.raises(AlreadyOpen):
        Job.objects.filter(status_reason=S.FAILED).move_many(S.WAITING, actor="operator", run_at=clock.now())
    assert count(status_reason=S.FAILED) == 3


@pytest.mark.parametrize("status", StatusReason)
@pytest.mark.parametrize("new", StatusReason)
def test_move_many_keeps_to_the_table(status, new):
    from jobs.states import Actor, may_move

    [job] = jobs(1, status)
    moved = Job.objects.filter(pk=job.pk).move_many(new, actor=Actor.OPERATOR, run_at=clock.now())
    assert bool(moved) is may_move(status, new, Actor.OPERATOR)


def test_thousands_go_in_chunks_by_few_statements(django_assert_max_num_queries):
    now = clock.now()
    Job.objects.bulk_create(
        Job(type="probe", status_reason=S.FAILED, run_at=now, created_at=now, error_message="x") for _ in range(2300)
    )
    with django_assert_max_num_queries(100):
        outcome = bulk.perform(bulk.RETRY, Job.objects.all(), 2300, bulk.Asked("ada"))
    assert (len(outcome.done), outcome.refused) == (2300, [])
    assert count(status_reason=S.WAITING, round=1, error_message="", ready_at__isnull=False) == 2300
    assert JobTransition.objects.filter(by="ada", to_status=S.WAITING).count() == 2300


def test_no_more_than_the_limit_at_once(monkeypatch):
    monkeypatch.setattr(bulk, "MOST", 10)
    jobs(12)
    outlook = bulk.look(bulk.RETRY, Job.objects.all())
    assert (outlook.eligible, outlook.capped) == (10, True)
    assert len(bulk.perform(bulk.RETRY, Job.objects.all(), 10, bulk.Asked("ada")).done) == 10
    assert bulk.look(bulk.RETRY, Job.objects.all()).eligible == 2


def test_who_confirms_at_the_same_moment_as_another_does_nothing_twice(monkeypatch):
    """The other one has done it between the look and the change."""
    jobs(5)
    own = bulk.look
    failed = Job.objects.filter(status_reason=S.FAILED)

    def look(verb, rows, **asked):
        found = own(verb, rows, **asked)
        monkeypatch.setattr(bulk, "look", own)
        bulk.perform(bulk.RETRY, failed, 5, bulk.Asked("eve"))
        return found

    monkeypatch.setattr(bulk, "look", look)
    assert bulk.perform(bulk.RETRY, failed, 5, bulk.Asked("ada")).done == []
    assert set(Job.objects.values_list("round", flat=True)) == {1}
    assert set(JobTransition.objects.filter(reason="retried").values_list("by", flat=True)) == {"eve"}


@pytest.mark.parametrize("verb", [bulk.RETRY, bulk.CANCEL, bulk.RUN_NOW], ids=lambda verb: verb.name)
def test_a_job_that_changes_under_way_is_asked_again(at, monkeypatch, verb):
    """It matched when the ids were read, and does not any more when its turn comes."""
    status = S.FAILED if verb is bulk.RETRY else S.WAITING
    first, second = jobs(2, status, run_at=clock.now() + timedelta(hours=1))
    own = bulk._chunk

    def chunk(*asked):
        Job.objects.filter(pk=second.pk).update(status_reason=S.SUCCEEDED, ready_at=None)
        own(*asked)

    monkeypatch.setattr(bulk, "_chunk", chunk)
    outcome = bulk.perform(verb, Job.objects.all(), 2, bulk.Asked("ada"))
    assert outcome.done == [first.pk]
    [(pk, why)] = outcome.refused
    assert (pk, "changed" in why or "ucceeded" in why) == (second.pk, True)
