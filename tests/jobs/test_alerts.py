"""Do people learn of trouble?  Real mail and web servers on this machine, and every kind of trouble from its own rows."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
from datetime import timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from aiosmtpd.controller import Controller
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from connectors.contract import PermanentError
from connectors.models import Connection, Event, RecordLink, Run, Scope
from connectors.transport import vault
from jobs import clock
from jobs.alerts import outbox, watch
from jobs.housekeeping import failing
from jobs.models import Alert, AlertMessage, AlertRule, Job, WorkerHeartbeat
from jobs.states import StatusReason
from jobs.worker import run_in_process
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db(transaction=True)
S = StatusReason
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def at(settings, tmp_path):
    settings.SYNCLINE_TEST_CLOCK = str(tmp_path / "clock")
    clock.set_test_clock("2026-03-02T12:00:00+00:00")

    def move(by):
        clock.set_test_clock((clock.now() + by).isoformat())

    return move


@pytest.fixture
def world(at):
    return TwoSystems()


class Mailbox:
    """What a real mail server received."""

    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 OK"


@pytest.fixture
def mailbox(settings, unused_port):
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=unused_port)
    server.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", unused_port, 5
    box.server = server
    yield box
    if box.server:
        box.server.stop(no_assert=True)


@pytest.fixture
def unused_port():
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as probe:
        return probe.server_port


class Receiver(ThreadingHTTPServer):
    """A webhook's receiver that answers what it is told to."""

    def __init__(self):
        self.answers, self.got = [], []
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/hooks/T0/secretpart"


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        status, headers = self.server.answers.pop(0) if self.server.answers else (200, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def receiver():
    with Receiver() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def mail_rule(what, **columns):
    columns.setdefault("addresses", ["ada@hub.example"])
    return AlertRule.objects.create(name=f"Ops {AlertRule.objects.count()}", what=what, to="email", **columns)


def hook_rule(receiver, to="json", what="failed"):
    rule = AlertRule.objects.create(name=f"Hook {to}", what=what, to=to)
    rule.set_webhook(receiver.url, "the signing key")
    return rule


def failed_job(scope, **columns):
    now = clock.now()
    return Job.objects.create(
        type="sync", status_reason=S.FAILED, scope=scope, run_at=now, created_at=now, finished_at=now,
        error_message="no answer", **columns,
    )  # fmt: skip


def succeeded_job(scope):
    now = clock.now()
    Job.objects.create(type="sync", status_reason=S.SUCCEEDED, scope=scope, run_at=now, created_at=now, finished_at=now)


def deliver():
    """Run the jobs of the outbox that are due."""
    for job in Job.objects.ready(clock.now()).filter(type="alert message"):
        run_in_process(job)


def told():
    return list(AlertMessage.objects.order_by("id").values_list("kind", "subject"))


# From trouble to an e-mail


def test_a_failed_sync_is_mailed_to_each_recipient_and_so_is_its_end(world, mailbox, at):
    mail_rule("failed", addresses=["ada@hub.example", "bob@hub.example"])
    failed_job(world.scope)
    assert watch.tick() == 2
    deliver()
    assert sorted(to for to, _ in mailbox.mails) == [["ada@hub.example"], ["bob@hub.example"]]
    mail = mailbox.mails[0][1]
    assert mail["Subject"] == "Ops 0: both: 1 failed job, the last: no answer"
    assert "since 2026-03-02 12:00 UTC" in mail.get_content()
    at(HOUR / 6)
    succeeded_job(world.scope)
    watch.tick()
    deliver()
    assert mailbox.mails[-1][1]["Subject"].startswith("Resolved: Ops 0: both")
    assert Alert.objects.get().resolved_at == clock.now()
    assert watch.tick() == 0


def test_five_hundred_failures_are_one_mail_and_one_roll_up_an_hour(world, mailbox, at):
    mail_rule("failed")
    for _ in range(120):
        for _ in range(5):
            failed_job(world.scope)
        watch.tick()
        deliver()
        at(timedelta(seconds=45))
    assert [kind for kind, _ in told()] == ["news", "rollup"]
    assert len(mailbox.mails) == 2 and Alert.objects.count() == 1


def test_a_mail_server_that_is_away_is_seen_and_tried_again(world, mailbox, at):
    mail_rule("failed")
    mailbox.server.stop(no_assert=True)
    mailbox.server = None
    failed_job(world.scope)
    watch.tick()
    deliver()
    message = AlertMessage.objects.get()
    assert (message.status, message.tries, message.job.status) == ("waiting", 1, S.RETRY)
    assert "The mail server did not take the mail" in message.error
    for _ in range(5):
        at(4 * HOUR)
        deliver()
        watch.tick()
    message = AlertMessage.objects.first()
    assert (message.status, message.tries) == ("failed", 6)
    # Its own failure is not told by more mails: that would never end.
    assert not Alert.objects.filter(cause__contains="alert message").exists()


def test_a_message_that_was_not_delivered_can_be_sent_again(world, mailbox, at):
    rule = mail_rule("failed")
    [message] = outbox.put_test(rule)
    Job.objects.update(status_reason=S.FAILED, ready_at=None, finished_at=clock.now())
    watch.tick()
    message.refresh_from_db()
    assert message.status == "failed"
    outbox.send_again(message, by="Ada")
    deliver()
    message.refresh_from_db()
    assert message.status == "sent" and len(mailbox.mails) == 1


def test_a_rule_of_one_integration_hears_nothing_of_others(world, mailbox):
    ends = [Connection.objects.create(system="memory", name=n) for n in ("c", "d")]
    other = type(world.integration).objects.create(name="other", left=ends[0], right=ends[1])
    scope = Scope.objects.create(integration=other)
    mail_rule("failed", integration=world.integration)
    failed_job(scope)
    assert watch.tick() == 0
    failed_job(world.scope)
    assert watch.tick() == 1


# Webhooks


def test_a_json_webhook_is_signed_and_carries_the_same_key_at_each_try(world, receiver, at):
    hook_rule(receiver)
    failed_job(world.scope)
    receiver.answers = [(503, {"Retry-After": "120"})]
    watch.tick()
    deliver()
    message = AlertMessage.objects.get()
    assert (message.status, message.recipient) == ("waiting", "127.0.0.1")
    assert message.job.not_before == clock.now() + timedelta(seconds=120)
    at(HOUR / 2)
    deliver()
    (_, first, _), (path, second, body) = receiver.got
    assert path == "/hooks/T0/secretpart"
    assert first["Idempotency-Key"] == second["Idempotency-Key"] == str(message.key)
    seconds, _, sent = second["X-Syncline-Signature"].removeprefix("t=").partition(",v1=")
    assert int(seconds) == int(clock.now().timestamp())
    assert sent == hmac.new(b"the signing key", f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    content = json.loads(body)
    assert content["kind"] == "news" and content["alerts"][0]["cause"] == f"failed:scope:{world.scope.pk}"
    assert AlertMessage.objects.get().status == "sent"


@pytest.mark.parametrize(
    ("to", "path"), [("slack", ["text"]), ("teams", ["attachments", 0, "content", "body", 0, "text"])]
)
def test_slack_and_teams_get_their_own_form(world, receiver, to, path):
    hook_rule(receiver, to)
    Scope.objects.update(label="Smith & <Sons>")
    failed_job(world.scope)
    watch.tick()
    deliver()
    found = json.loads(receiver.got[0][2])
    for step in path:
        found = found[step]
    assert ("Smith &amp; &lt;Sons&gt;" if to == "slack" else "Smith & <Sons>") in found


def test_a_redirect_is_not_followed(world, receiver):
    rule = hook_rule(receiver)
    outbox.put_test(rule)
    receiver.answers = [(302, {"Location": "http://169.254.169.254/latest"})]
    deliver()
    message = AlertMessage.objects.get()
    assert (message.status, len(receiver.got), message.job.status) == ("failed", 1, S.FAILED)
    assert "answered 302" in message.error


def test_private_networks_are_refused(world, receiver, settings):
    settings.ALLOWED_PRIVATE_NETWORKS = []
    rule = hook_rule(receiver)
    outbox.put_test(rule)
    deliver()
    message = AlertMessage.objects.get()
    assert message.status == "failed" and "outside ALLOWED_PRIVATE_NETWORKS" in message.error
    assert receiver.got == [] and "secretpart" not in message.error


def test_the_webhooks_address_is_encrypted_and_bound_to_its_rule(world, receiver):
    rule, other = hook_rule(receiver), hook_rule(receiver, "slack")
    assert b"secretpart" not in bytes(rule.secret)
    other.secret = rule.secret
    with pytest.raises(vault.CredentialsUnreadable, match="stored for alert rule"):
        other.webhook()
    with pytest.raises(PermanentError):
        outbox.send(AlertMessage(rule=AlertRule(name="empty", to="json"), recipient="x", pk=0))


def test_rotation_moves_webhooks_to_the_new_key(world, receiver, settings):
    rule = hook_rule(receiver)
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode(), *settings.CREDENTIAL_KEYS]
    call_command("rotate_credentials", stdout=io.StringIO())
    rule.refresh_from_db()
    assert vault.is_newest(bytes(rule.secret)) and rule.webhook()["url"] == receiver.url


# Each kind of trouble


def test_parked_more_than_n(world):
    mail_rule("parked more than", more_than=2)
    for n in range(4):
        RecordLink.objects.create(
            key=f"k{n}", integration=world.integration, entity_sync=world.sync, family="person", scope=world.scope,
            left_entity="person", left_id=str(n), pending=RecordLink.Pending.PARKED if n < 2 else None,
        )  # fmt: skip
    assert watch.tick() == 0
    RecordLink.objects.filter(key="k2").update(pending=RecordLink.Pending.PARKED)
    watch.tick()
    assert told() == [("news", "Ops 0: both: 3 records are parked")]
    RecordLink.objects.filter(key="k2").update(pending=None)
    watch.tick()
    assert told()[-1][0] == "resolved"


def test_a_missed_run_until_the_next_success(world, at):
    mail_rule("missed run")
    Event.objects.create(
        integration=world.integration, code="missed run", message="People: One run did not happen.", at=clock.now()
    )
    watch.tick()
    assert told() == [("news", "Ops 0: both: People: One run did not happen.")]
    at(HOUR / 6)
    Scope.objects.update(last_done_at=clock.now())
    watch.tick()
    assert told()[-1][0] == "resolved"


def test_a_credential_30_14_7_and_1_day_before_its_end_and_when_it_is_dead(world, at):
    mail_rule("credential expiring", integration=world.integration)
    Connection.objects.filter(name="left").update(auth_expires_at=clock.now() + 40 * DAY)
    days = {}
    for day in range(42):
        if day == 41:
            Connection.objects.filter(name="left").update(state="needs reconnect", reason="The login was revoked.")
        watch.tick()
        for kind, subject in told()[len(days) :]:
            days[len(days)] = (day, kind, subject)
        at(DAY)
    stages = [day for day, kind, _ in days.values() if kind in ("news", "rollup")]
    assert stages == [10, 26, 33, 39, 41]
    assert any("The login was revoked." in subject for _, _, subject in days.values())


def test_a_preview_that_waits_until_it_is_too_old_to_approve(world, at):
    mail_rule("approvals waiting")
    now = clock.now()
    Run.objects.create(
        integration=world.integration,
        scope=world.scope,
        purpose="preview",
        phase="proposed",
        started_at=now,
        finished_at=now,
    )
    watch.tick()
    at(2 * HOUR)
    watch.tick()
    assert told() == [
        ("news", "Ops 0: both: 1 preview to approve"),
        ("resolved", "Resolved: Ops 0: both: 1 preview to approve"),
    ]


def test_a_worker_that_went_away_without_signing_off(world, at):
    mail_rule("worker down")
    beat = {"kind": "supervisor", "pid": 1, "workers": 2}
    WorkerHeartbeat.objects.create(name="a:1", host="alpha", seen_at=clock.now(), **beat)
    assert watch.tick() == 0
    at(HOUR / 6)
    WorkerHeartbeat.objects.create(name="b:1", host="beta", seen_at=clock.now(), **beat)
    watch.tick()
    assert told()[0][1].startswith("Ops 0: The worker on alpha was last seen at 2026-03-02 12:00 UTC")
    WorkerHeartbeat.objects.create(name="a:2", host="alpha", seen_at=clock.now(), **beat)
    watch.tick()
    assert told()[-1][0] == "resolved"


def test_a_hub_without_workers_is_told_by_the_command_that_cron_calls(world, mailbox, at):
    mail_rule("worker down")
    Job.objects.create(type="sync", run_at=clock.now(), ready_at=clock.now(), created_at=clock.now())
    at(HOUR)
    out = io.StringIO()
    call_command("alerts", "look", "--send", stdout=out)
    assert mailbox.mails[0][1]["Subject"] == "Ops 0: No worker is running and jobs are due: start `manage.py worker`"
    assert "ada@hub.example: succeeded" in out.getvalue()


def test_a_retry_by_a_person_is_not_the_end_of_it(world, at):
    mail_rule("failed")
    job = failed_job(world.scope)
    watch.tick()
    Job.objects.filter(pk=job.pk).update(status_reason=S.WAITING, round=1, finished_at=None, ready_at=clock.now())
    assert watch.tick() == 0
    assert Alert.objects.get().resolved_at is None


def test_the_pause_by_rule_is_told_as_a_step_of_its_own(world, at):
    mail_rule("failed")
    for _ in range(5):
        failing.failed(world.scope, "no answer", now=clock.now())
    watch.tick()
    at(2 * HOUR)
    for _ in range(15):
        failing.failed(world.scope, "no answer", now=clock.now())
    watch.tick()
    assert [kind for kind, _ in told()] == ["news", "rollup"]
    assert "Paused by rule" in told()[1][1]
    failing.resume(world.scope, by="Ada")
    watch.tick()
    assert told()[-1][0] == "resolved"


def test_looking_costs_the_same_whatever_is_wrong(world):
    for what in AlertRule.What.values:
        mail_rule(what, more_than=0)
    watch.tick()

    def queries():
        with CaptureQueriesContext(database) as seen:
            watch.tick()
        return len(seen)

    failed_job(world.scope)
    watch.tick()
    few = queries()
    for _ in range(200):
        failed_job(world.scope)
    assert queries() <= few + 1


def test_without_rules_nothing_is_looked_for(world, django_assert_num_queries):
    with django_assert_num_queries(2):
        watch.tick()
