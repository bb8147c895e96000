"""Does a secret or a personal value stand where it must not?  Everything a sync with trouble leaves behind is searched.  (I18)

Links and changes hold values by design; API calls, jobs, events, runs, connections and the log must not.
"""

import json
import logging

import pytest
from django.core import serializers

from connectors.models import ApiCall, Connection, Event, Run, Scope
from connectors.models.connection import Budget
from connectors.transport import check
from jobs.models import Job, JobTransition
from jobs.states import StatusReason

pytestmark = pytest.mark.django_db(transaction=True)
MAIL = "canary.person@secret-mail.example"
PHONE = "+1 555 0142 4242"
NAME = "Canarybird Private"
STREET = "Nightingale Lane 77"


class Everything(logging.Handler):
    """Keeps every line of every logger, with its arguments and traceback."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.lines = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, entry):
        self.lines.append(self.format(entry))


@pytest.fixture
def log():
    """All that is logged, debug lines included."""
    root, kept = logging.getLogger(), Everything()
    before = root.level
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    yield kept.lines
    root.setLevel(before)
    root.removeHandler(kept)


def left_behind():
    """Everything that the hub stores beside links and changes, as text."""
    found = {}
    for model in (ApiCall, Job, JobTransition, Event, Run, Scope, Connection, Budget):
        found[model.__name__] = serializers.serialize("json", model.objects.all())
    return found


def secrets_of(hub):
    """Secrets that were good at any time of the test."""
    found = set()
    for side in ("left", "right"):
        found |= {v for k, v in hub.connection(side).get_secret().items() if "expires" not in k}
    found |= {hub.left.tokens.client_secret, *hub.left.tokens._access, *hub.left.tokens._refresh}
    found |= set(hub.right.login.tokens)
    # The client ids are public: they stand in the address of each consent page.
    return {s for s in found if len(s) > 8} - {
        hub.left.tokens.client_id,
        hub.right.credentials()["secret"]["client_id"],
    }


def assert_clean(hub, log, extra=()):
    canaries = {*secrets_of(hub), MAIL, PHONE, NAME, STREET, *extra}
    assert len(canaries) > 8
    for where, text in {**left_behind(), "log": "\n".join(log)}.items():
        for canary in canaries:
            for shape in (
                canary,
                json.dumps(canary)[1:-1],
                canary.replace("@", "%40"),
                canary.replace(" ", "+"),
                canary.replace(" ", "%20"),
            ):
                assert shape not in text, (
                    f"{where} holds {canary!r}: …{text[max(0, text.index(shape) - 200) : text.index(shape) + 80]}"
                )


def people(hub):
    """Records with personal values, new and edited, on both sides."""
    hub.left.user_creates(
        "Customer",
        {"DisplayName": NAME, "GivenName": "Canarybird", "FamilyName": "Private", "PrimaryEmailAddr.Address": MAIL,
         "PrimaryPhone.FreeFormNumber": PHONE, "BillAddr.Line1": STREET},
    )  # fmt: skip
    hub.right.user_creates(
        "account", {"name": NAME + " Ltd", "emailaddress1": "x" + MAIL, "telephone1": PHONE, "address1_line1": STREET}
    )


@pytest.mark.parametrize("debug", [False, True])
def test_a_sync_with_all_kinds_of_trouble_leaves_no_secret_and_no_personal_value(fresh, log, settings, debug):
    settings.API_LOG_BODIES = debug
    hub = fresh
    hub.both_ways()
    people(hub)
    hub.left.faults.add("expire_token", match="/query", times=1, skip=2)
    hub.right.faults.add("expire_token", match=r"\$batch", times=1)
    hub.right.faults.add("reset_after", match=r"POST .*\$batch", times=1)
    hub.right.faults.add("garbage", match=r"POST .*\$batch", times=1)
    hub.left.faults.add("error", match="/batch", times=1)
    hub.settle()
    # A record that is refused, and one with a duplicate name: their sentences quote what the system said.
    hub.right.faults.add("partial", match=r"POST .*\$batch", times=1, status=400, rate=1.0)
    person = next(r for r in hub.left.store.table("Customer").values() if r.body["DisplayName"] == NAME)
    hub.left.user_edits("Customer", person.id, {"PrimaryPhone.FreeFormNumber": PHONE + "1"})
    hub.settle()
    hub.settle(hub.sync(mode="comprehensive"))
    assert ApiCall.objects.count() > 20
    assert any(MAIL in (link.base or "") for link in hub.links()), "the canary never flew"
    assert_clean(hub, log)


def test_a_refused_login_tells_no_secret(hub, log):
    people(hub)
    mistyped = "not-the-right-client-secret-0815"
    for side in ("left", "right"):
        hub.connection(side).set_secret(
            {**hub.connection(side).get_secret(), "client_secret": mistyped, "access_token": ""}
        )
        job = hub.sync()
        assert job.status is StatusReason.WAITING
        assert_clean(hub, log, [mistyped])
        hub.connection(side).set_secret(hub.simulator(side).credentials()["secret"])
        check(hub.connection(side))
        hub.settle(job)
    assert_clean(hub, log, [mistyped])


def test_a_bug_in_mid_run_tells_no_value_in_log_or_message(hub, log):
    """An unexpected exception whose text holds values: the log names its kind only, the job's page what can be shown."""
    hub.both_ways()
    people(hub)

    def break_down(at):
        if at == "before store plan":
            raise KeyError(f"no room for {MAIL} of {NAME}")

    hub.point.append(break_down)
    job = hub.sync()
    assert job.status is StatusReason.FAILED
    assert job.error_code == "KeyError"
    text = "\n".join(log)
    assert "KeyError" in text
    assert MAIL not in text
    assert NAME not in text
    assert MAIL not in serializers.serialize("json", [job, *JobTransition.objects.filter(job=job), hub.run_of(job)])
    assert "break_down" in job.results["traceback"]
    hub.point.clear()
    hub.settle()
    hub.assert_agreed()


def test_secrets_are_not_readable_in_the_database_nor_shown_by_objects(hub):
    for side in ("left", "right"):
        connection = hub.connection(side)
        stored = bytes(connection.secret)
        for value in secrets_of(hub):
            assert value.encode() not in stored
            assert value not in f"{connection!r} {connection} {vars(connection)}"
