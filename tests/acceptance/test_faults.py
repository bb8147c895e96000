"""Is anything lost, doubled or hidden from people when a system fails in mid-sync?  (Issue: "what it must show", 7)"""

import time
from datetime import timedelta

import pytest

from connectors.models import Connection, Event, RecordChange, Run
from connectors.sync import decisions
from connectors.transport import check
from jobs import clock
from jobs.models import Job, JobTransition
from jobs.states import StatusReason
from jobs.worker import run_in_process

pytestmark = pytest.mark.django_db(transaction=True)
MADE = 7
BATCH = {"left": r"POST .*/batch$", "right": r"POST .*\$batch$"}
# Whatever is asked of it but a login.
ANY = {"left": r"/v3/company/", "right": r"/api/data/"}


@pytest.fixture
def busy(hub):
    """Both sides have new and edited records that the next run is to carry over."""
    hub.both_ways()
    hub.settle()
    hub.accounts = hub.create_accounts(MADE)
    hub.customers = hub.create_customers(MADE)
    companies = hub.companies()
    for number, record in enumerate(companies[:4]):
        hub.left.user_edits("Customer", record.id, {"BillAddr.City": f"Left Town {number}"})
    names = [r.body["CompanyName"] for r in companies[4:8]]
    for number, name in enumerate(names):
        [account] = [r.id for r in hub.right.store.table("account").values() if r.body["name"] == name]
        hub.right.user_edits("account", account, {"address1_city": f"Right Town {number}"})
    return hub


def assert_all_well(hub):
    """Everything arrived, once."""
    hub.settle()
    hub.assert_agreed()
    hub.assert_nothing_doubled()
    made = [c.id for c in hub.creates("left", "Customer")]
    assert len(made) == MADE == len(set(made))
    fresh = [r for r in hub.right.store.table("account").values() if str(r.body["name"]).startswith("Fresh")]
    assert len(fresh) == MADE
    assert not hub.links().filter(pending__in=[1, 2, 4, 5, 6]).exists()
    assert not RecordChange.objects.filter(open__isnull=False).exists()
    hub.time_passes()
    before = hub.writes("left"), hub.writes("right")
    hub.settle()
    assert (hub.writes("left"), hub.writes("right")) == before, "a run after the trouble wrote again"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("throttle", {"seconds": 1}),
        ("error", {"status": 500}),
        ("error", {"status": 503}),
        ("error_after", {"status": 500}),
        ("error_after", {"status": 502}),
        ("reset", {}),
        ("reset_after", {}),
        ("garbage", {}),
        ("expire_token", {}),
        ("partial", {"status": 500, "rate": 1.0}),
    ],
)
def test_one_fault_of_a_batch_loses_and_doubles_nothing(busy, side, kind, options):
    busy.simulator(side).faults.add(kind, match=BATCH[side], times=1, **options)
    busy.settle()
    assert [k for k, _ in busy.simulator(side).faults.happened] == [kind]
    assert_all_well(busy)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("kind", "options", "word", "error_class"),
    [
        ("error", {"status": 500}, "500", None),
        ("error", {"status": 503}, "503", None),
        ("error_after", {"status": 500}, "", None),
        ("reset", {}, "no complete answer", "unknown outcome"),
        ("reset_after", {}, "no complete answer", "unknown outcome"),
        ("garbage", {}, "", "unknown outcome"),
    ],
)
def test_a_fault_that_stays_makes_the_job_wait_and_say_why(busy, side, kind, options, word, error_class):
    fault = busy.simulator(side).faults.add(kind, match=BATCH[side], times=None, **options)
    job = busy.sync()
    assert job.status is StatusReason.RETRY, (job.status, job.error_message)
    assert job.attempt == 1
    assert word in job.error_message
    assert job.error_message
    if error_class:
        assert job.error_class == error_class
    assert busy.run_of(job).error
    told = JobTransition.objects.filter(job=job, to_status="retry").values_list("reason", flat=True)
    assert list(told) == [job.error_message]
    job = busy.again(job)
    assert job.status is StatusReason.RETRY
    fault.times = 0
    busy.settle(job)
    assert_all_well(busy)


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_answer_that_comes_too_late_is_no_second_write(busy, side, settings):
    """The repeat overtakes the first try, which is still on its way and is carried out after it."""
    settings.READ_TIMEOUT = 0.4
    fault = busy.simulator(side).faults.add("delay", match=BATCH[side], times=2, seconds=1.6)
    job = busy.sync()
    fault.times = 0
    time.sleep(2)  # the slow ones have been carried out by now
    settings.READ_TIMEOUT = 60
    busy.settle(job)
    assert_all_well(busy)


@pytest.mark.parametrize("side", ["left", "right"])
def test_no_request_is_sent_before_retry_after_is_over(busy, side):
    busy.simulator(side).faults.add("throttle", match=ANY[side], times=1, seconds=600, skip=1)
    job = busy.sync()
    assert busy.simulator(side).faults.happened
    assert job.status is StatusReason.RETRY
    assert job.error_class == "throttled"
    assert job.not_before is not None
    assert job.not_before - job.transitions.latest("id").at > timedelta(seconds=590)
    sent = busy.requests(side)
    job.refresh_from_db()
    # Even a run that comes too early sends nothing there.
    Job.objects.filter(pk=job.pk).update(not_before=None)
    job = run_in_process(Job.objects.get(pk=job.pk))
    assert job.status is StatusReason.RETRY
    assert busy.requests(side) == sent
    busy.settle(job)
    assert_all_well(busy)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["reset", "error", "garbage", "throttle"])
def test_a_fault_in_reading_is_got_over(busy, side, kind):
    busy.simulator(side).faults.add(kind, match=f"(GET|POST) .*({ANY[side]})", times=2, skip=1, seconds=1)
    busy.settle()
    assert len(busy.simulator(side).faults.happened) == 2
    assert_all_well(busy)


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_item_that_is_refused_is_parked_with_its_reason_and_the_rest_goes_on(busy, side):
    simulator = busy.simulator(side)
    simulator.faults.random.seed(3)
    simulator.faults.add("partial", match=BATCH[side], times=1, rate=0.4, status=400)
    job = busy.sync()
    assert job.status is StatusReason.SUCCEEDED
    parked = list(busy.links("customer").filter(pending=5))
    assert parked, "the fault hit nothing"
    assert len(parked) < MADE + 4
    assert f"with {len(parked)} parked" in job.results["summary"]
    words = {"left": "Business", "right": "order desk"}[side]
    assert all(words in link.args for link in parked)
    assert all(link.reason == "parked" for link in parked)
    rejected = RecordChange.objects.filter(run=job.run_id, status="rejected")
    assert rejected.count() == len(parked)
    assert all(words in change.message and change.code for change in rejected)
    counts = busy.run_of(job).counts
    assert counts["adds_up"]
    assert counts["entities"]["customer"]["parked"] == len(parked)
    # It is not tried again by itself ...
    busy.settle()
    assert busy.links("customer").filter(pending=5).count() == len(parked)
    # ... but when a person asks.
    done, refused = decisions.many(list(parked), lambda link: decisions.retry(link, now=clock.now()))
    assert (len(done), refused) == (len(parked), [])
    assert_all_well(busy)


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_edit_between_plan_and_write_is_never_overwritten(busy, side):
    """The stale version: a person is faster than the batch."""
    other = "right" if side == "left" else "left"
    link = next(
        link
        for link in busy.links("customer").filter(pending=None).order_by("id")
        if link.left_id and link.right_id and link.left_id not in busy.customers
        and "Town" not in str(record(busy, "left", link).get("BillAddr"))
        and "Town" not in str(record(busy, "right", link).get("address1_city"))
    )  # fmt: skip
    edit(busy, other, link, "phone", "+1 555 0177")
    done = []

    def person(at):
        if at == "before write" and not done:
            sending = RecordChange.objects.filter(open=2, link=link.pk, side=side)
            if sending.exists():
                done.append(at)
                edit(busy, side, link, "web", "https://meanwhile.example/1")

    busy.point.append(person)
    job = busy.sync()
    assert done
    assert job.status is StatusReason.SUCCEEDED
    stale = RecordChange.objects.filter(run=job.run_id, link=link.pk, side=side, status="conflict")
    assert stale.count() == 1
    assert stale.get().message
    busy.settle()
    for own in ("left", "right"):
        body = record(busy, own, link)
        phone, web = (
            (body["PrimaryPhone"]["FreeFormNumber"], body["WebAddr"]["URI"])
            if own == "left"
            else (body["telephone1"], body["websiteurl"])
        )
        assert (phone, web) == ("+1 555 0177", "https://meanwhile.example/1")
    assert_all_well(busy)


def record(hub, side, link):
    entity, key = getattr(link, f"{side}_entity"), getattr(link, f"{side}_id")
    return hub.simulator(side).store.table(entity)[key].body


def edit(hub, side, link, what, value):
    names = {
        "left": {"phone": "PrimaryPhone.FreeFormNumber", "web": "WebAddr.URI"},
        "right": {"phone": "telephone1", "web": "websiteurl"},
    }
    key = getattr(link, f"{side}_id")
    hub.simulator(side).user_edits(getattr(link, f"{side}_entity"), key, {names[side][what]: value})


# Logging in


@pytest.mark.parametrize("rotation", ["every", "daily", "grace"])
def test_a_rotated_refresh_token_is_stored_and_used(busy, rotation):
    busy.left.switches["rotation"] = rotation
    for _ in range(3):
        busy.left.tokens.expire()
        busy.settle()
    assert busy.connection("left").state == Connection.State.CONNECTED
    assert busy.connection("left").get_secret()["refresh_token"] == busy.left.tokens.refresh_token
    assert_all_well(busy)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_refused_login_stops_the_connection_and_is_not_tried_again_and_again(busy, side):
    refuse(busy, side)
    before = busy.logins(side)
    job = busy.sync()
    connection = busy.connection(side)
    assert connection.state == Connection.State.NEEDS_RECONNECT
    assert connection.reason
    assert busy.connection("right" if side == "left" else "left").state == Connection.State.CONNECTED
    assert job.status is StatusReason.WAITING
    assert job.attempt == 0, "waiting for a person uses no attempt (JOBS section 4)"
    assert connection.name in job.error_message
    assert "credentials" in job.error_message
    assert busy.logins(side) - before <= 2
    told = JobTransition.objects.filter(job=job).latest("id")
    assert "needs reconnect" in told.reason
    assert connection.name in told.reason

    # Neither further attempts nor further runs knock at the door.
    before, sent = busy.logins(side), busy.requests(side)
    for _ in range(3):
        job = busy.again(job)
        assert job.status is StatusReason.WAITING
    assert busy.logins(side) == before
    assert busy.requests(side) == sent

    # A person enters good credentials: the same job goes on and nothing is lost.
    allow(busy, side)
    busy.settle(job)
    assert_all_well(busy)


def refuse(hub, side):
    if side == "left":
        hub.left.switches["rotation"] = "invalid_grant"
        hub.left.tokens.expire()
    else:
        hub.right.switches["secret_expired"] = True
        hub.right.login.forget_tokens()


def allow(hub, side):
    if side == "left":
        hub.left.switches["rotation"] = "daily"
    else:
        hub.right.switches["secret_expired"] = False
    connection = hub.connection(side)
    connection.set_secret(hub.simulator(side).credentials()["secret"])
    check(connection)


def test_a_login_refused_in_mid_run_keeps_what_was_written(busy):
    """The token ends between two batches, and the refresh is refused."""
    done = []

    def disconnect(at):
        if at == "after record outcomes" and not done:
            done.append(at)
            refuse(busy, "left")

    busy.point.append(disconnect)
    job = busy.sync()
    assert done
    busy.point.clear()
    assert job.status is StatusReason.WAITING
    assert busy.connection("left").state == Connection.State.NEEDS_RECONNECT
    assert RecordChange.objects.filter(run=job.run_id, status="written").exists()
    allow(busy, "left")
    busy.settle(job)
    assert_all_well(busy)


def test_an_expired_feed_is_read_anew_and_a_person_is_told(busy):
    busy.right.switches["expire_delta"] = True
    job = busy.settle()
    busy.right.switches["expire_delta"] = False
    assert Event.objects.filter(run=job.run_id, code="cursor expired", level="warning").exists()
    assert_all_well(busy)


def test_six_failed_attempts_end_failed_with_the_reason(busy):
    fault = busy.right.faults.add("error", match=ANY["right"], times=None, status=503)
    job = busy.sync()
    for attempt in range(2, 7):
        assert job.status is StatusReason.RETRY
        job = busy.again(job)
        assert job.attempt == attempt
    assert job.status is StatusReason.FAILED
    assert "503" in job.error_message
    assert Run.objects.get(pk=job.run_id).error
    fault.times = 0
    busy.settle()
    assert_all_well(busy)
