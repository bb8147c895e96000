"""Is bad input refused, or one record parked, with a sentence that names the thing and what to do?  ("What it must show", 9)"""

import copy
import json
import socket

import pytest
import yaml
from django.core.management import call_command
from django.core.management.base import CommandError

from connectors.contract import AuthError, ConnectorError
from connectors.models import Connection, Integration
from connectors.sync.compile import SettingsError
from connectors.sync.explain import explain
from connectors.sync.presets import FOLDER, apply_preset, parse_preset, read_preset
from connectors.sync.run import mark_settings_changed
from connectors.transport import check, connected
from jobs.states import StatusReason
from jobs.syncing import NotNow
from tests.acceptance.conftest import connection_to

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ends(transactional_db, systems):
    """Two connections that were checked."""
    found = {"left": connection_to(systems[0], "Books"), "right": connection_to(systems[1], "Sales")}
    for connection in found.values():
        check(connection)
    return found


def content():
    """The built-in preset, to be spoilt."""
    return copy.deepcopy(yaml.safe_load((FOLDER / "inolink.yaml").read_text()))


def customer(preset):
    return next(sync for sync in preset["entity_syncs"] if sync["name"] == "customer")


def applied(preset, ends, given=None):
    with connected(ends["left"]) as left, connected(ends["right"]) as right:
        return apply_preset(parse_preset(preset), "Try", ends, {"left": left, "right": right}, given)


def refused(preset, ends, given=None):
    with pytest.raises(SettingsError) as caught:
        applied(preset, ends, given)
    assert not Integration.objects.exists(), "half an integration was kept"
    return str(caught.value)


# Presets and mappings


def test_an_unknown_entity_is_refused_with_the_entities_that_there_are(ends):
    preset = content()
    customer(preset)["right"] = "acount"
    said = refused(preset, ends)
    assert "customer: Sales has no entity 'acount'" in said
    assert "account, " in said
    assert "Correct the entity sync" in said


@pytest.mark.parametrize("where", ["sync", "mapping"])
def test_an_unknown_word_is_refused_with_the_words_that_there_are(where):
    preset = content()
    if where == "sync":
        customer(preset)["mapings"] = []
    else:
        customer(preset)["mappings"][0]["requird"] = True
    with pytest.raises(SettingsError) as caught:
        parse_preset(preset)
    said = str(caught.value)
    assert said.startswith("customer")
    assert ("unknown word mapings" if where == "sync" else "unknown word requird") in said
    assert "known: " in said


def test_a_file_that_is_no_preset_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    for text in ("entity_syncs: [", "name: mine", "- 1\n- 2", ""):
        path.write_text(text)
        with pytest.raises(SettingsError, match=r"mine\.yaml is not a preset"):
            read_preset(path)


def test_a_broken_file_in_the_folder_of_ones_own_is_told_by_the_command(tmp_path, settings):
    (tmp_path / "mine.yaml").write_text("name: mine")
    settings.PRESET_FOLDER = str(tmp_path)
    with pytest.raises(CommandError, match=r"mine\.yaml is not a preset"):
        call_command("preset", "list")


def test_a_mapping_to_a_field_that_is_missing_is_refused(ends):
    preset = content()
    customer(preset)["mappings"].append("Notes -> new_remark")
    said = refused(preset, ends)
    assert "customer: Sales has no field 'new_remark' on account" in said
    assert "Create it there, or remove the mapping" in said


def test_a_mapping_that_writes_a_computed_field_is_refused(ends):
    preset = content()
    customer(preset)["mappings"].append({"left": "Balance", "right": "creditlimit"})
    said = refused(preset, ends)
    assert "customer: " in said
    assert "Balance" in said
    assert "on the left" in said
    assert "direction: to_right" in said


def test_every_problem_is_told_at_once(ends):
    preset = content()
    customer(preset)["mappings"] += ["Notes -> new_remark", "Title -> new_title"]
    preset["entity_syncs"][2]["left"] = "Itm"
    said = refused(preset, ends)
    assert "new_remark" in said
    assert "new_title" in said
    assert "'Itm'" in said


def test_a_match_by_a_field_that_is_not_mapped_is_refused(ends):
    preset = content()
    customer(preset)["match"] = [["Fax>fax_number"]]
    assert "customer: the match field 'Fax>fax_number' is not mapped" in refused(preset, ends)


def test_an_unknown_transform_is_refused_with_those_that_there_are(ends):
    preset = content()
    customer(preset)["mappings"].append({"left": "Title", "right": "address1_line3", "transform": "upercase"})
    said = refused(preset, ends)
    assert "'upercase'" in said
    assert "truncate" in said


def test_an_option_that_does_not_exist_and_a_label_that_does_not_are_refused(ends):
    said = refused(content(), ends, {"colour": "green"})
    assert "inolink has no option colour" in said
    assert "unit_group" in said
    said = refused(content(), ends, {"unit_group": "Dozens"})
    assert "item: defaultuomscheduleid on the right has no choice 'Dozens'" in said
    assert "Default Unit" in said


def test_connections_the_wrong_way_round_are_refused(ends):
    said = refused(content(), {"left": ends["right"], "right": ends["left"]})
    assert "wants quickbooks on the left; Sales is dynamics365" in said


def test_a_field_that_disappears_later_stops_the_run_with_a_sentence(hub):
    hub.integration.entity_syncs.get(name="customer").mappings.filter(left="Notes").update(right="new_remark")
    mark_settings_changed(hub.integration)
    before = hub.writes("right")
    job = hub.sync()
    assert job.status is StatusReason.FAILED
    assert "Sales has no field 'new_remark' on account" in job.error_message
    assert hub.run_of(job).error == job.error_message[:500]
    assert hub.writes("right") == before


# Records that can't be written


def edited(hub, values, name="customer"):
    """Edit one linked left record; return its link after a run in which another record was edited, too."""
    first, second = hub.links(name).filter(pending=None).exclude(left_id=None).order_by("id")[:2]
    hub.left.user_edits(first.left_entity, first.left_id, values)
    hub.left.user_edits(second.left_entity, second.left_id, {"BillAddr.City": "Goes On"})
    job = hub.settle()
    second.refresh_from_db()
    assert second.pending is None
    assert hub.right.store.table(second.right_entity)[second.right_id].body["address1_city"] == "Goes On"
    first.refresh_from_db()
    return first, job


def test_a_picklist_label_without_partner_parks_the_record_and_names_it(hub):
    sync = hub.integration.entity_syncs.get(name="customer")
    sync.mappings.filter(left="SalesTermRef").update(unmapped="park")
    mark_settings_changed(hub.integration)
    hub.settle()
    term = hub.left.user_creates("Term", {"Name": "When the Moon is Full", "Type": "STANDARD", "DueDays": 29})
    link, job = edited(hub, {"SalesTermRef": {"value": term}})
    assert link.pending == 5
    assert "1 parked" in job.results["summary"]
    said = told(link)
    assert "SalesTermRef" in said or "paymenttermscode" in said
    assert "When the Moon is Full" in said or term in said
    # A person gives it a partner: the record flows.
    mapping = sync.mappings.get(left="SalesTermRef")
    mapping.options.create(
        left_key=term, left_label="When the Moon is Full", right_key="2", token="moon", writes_left=False
    )
    mark_settings_changed(hub.integration)
    hub.settle()
    link.refresh_from_db()
    assert link.pending is None
    assert hub.right.store.table("account")[link.right_id].body["paymenttermscode"] == 2


def test_a_value_that_is_too_long_parks_the_record_and_names_the_field(hub):
    link, job = edited(hub, {"WebAddr.URI": f"https://long.example/{'x' * 300}"})  # 200 characters fit there
    assert link.pending == 5
    assert "1 parked" in job.results["summary"]
    said = told(link)
    assert "websiteurl" in said
    assert "200" in said
    assert hub.run_of(job).counts["adds_up"]
    # The cause is mended in the source: the record flows again without a person's retry.
    hub.left.user_edits("Customer", link.left_id, {"WebAddr.URI": "https://fits.example"})
    hub.settle()
    link.refresh_from_db()
    assert link.pending is None
    assert hub.right.store.table("account")[link.right_id].body["websiteurl"] == "https://fits.example"


def told(link):
    """What `explain` says about the record."""
    return json.dumps(explain(link).as_dict(), default=str)


# Connections


def fresh_connection(system="dynamics365", secret=None, **settings):
    given = {
        "org_url": "https://example.crm.dynamics.com",
        "token_url": "https://login.microsoftonline.com/x/oauth2/v2.0/token",
        **settings,
    }
    connection = Connection.objects.create(system=system, name="Bad one", settings=given)
    connection.set_secret(secret or {"client_id": "a", "client_secret": "b"})
    return connection


def refusal(connection, kind=ConnectorError):
    with pytest.raises(kind) as caught:
        check(connection)
    return str(caught.value)


@pytest.mark.parametrize("side", [0, 1])
def test_a_wrong_credential_says_which_connection_and_what_to_do(transactional_db, systems, side):
    connection = connection_to(systems[side], "Mistyped")
    connection.set_secret({**connection.get_secret(), "client_secret": "wrong-and-secret"})
    said = refusal(connection, AuthError)
    assert "Connection Mistyped" in said
    assert "Enter its credentials again" in said
    assert "wrong-and-secret" not in said
    connection.refresh_from_db()
    assert connection.state == Connection.State.NEEDS_RECONNECT


def test_a_missing_credential_is_named(transactional_db, systems):
    connection = connection_to(systems[0], "Half")
    connection.set_secret({"client_id": "only this"})
    said = refusal(connection, AuthError)
    assert "client_secret" in said
    assert "refresh_token" in said


def test_a_missing_setting_is_named(transactional_db, systems):
    connection = connection_to(systems[0], "Half", realm="")
    said = refusal(connection)
    assert "Connection Half lacks Company id (realm) (realm)" in said
    assert "Fill it in" in said


def test_a_host_that_does_not_answer_is_named(transactional_db, systems):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    connection = connection_to(systems[1], "Away", org_url=f"http://127.0.0.1:{port}")
    said = refusal(connection)
    assert f"127.0.0.1:{port}" in said


def test_a_name_that_does_not_exist_is_named(transactional_db, systems):
    connection = connection_to(systems[1], "Away", org_url="https://nowhere.invalid")
    assert "nowhere.invalid" in refusal(connection)


@pytest.mark.parametrize(
    "host", ["http://169.254.169.254", "https://169.254.169.254", "https://[fd00:ec2::254]", "https://168.63.129.16"]
)
def test_a_base_url_on_a_metadata_address_is_refused(transactional_db, systems, host):
    connection = connection_to(systems[1], "Curious", org_url=host)
    said = refusal(connection)
    assert "Connection Curious" in said
    assert host.partition("//")[2].strip("[]") in said
    assert "metadata address" in said
    assert "ALLOWED_PRIVATE_NETWORKS" in said
    assert not systems[1].journal, "the secret was sent to the login of a connection that can't be used"


@pytest.mark.parametrize("host", ["https://10.0.0.1", "https://192.168.1.1", "https://[::1]"])
def test_a_private_address_that_is_not_listed_is_refused_and_says_what_to_list(transactional_db, systems, host):
    connection = connection_to(systems[1], "Inside", org_url=host)
    said = refusal(connection)
    assert "Environment" in said or "org_url" in said
    assert "ALLOWED_PRIVATE_NETWORKS" in said


def test_loopback_is_refused_where_it_is_not_listed(transactional_db, systems, settings):
    settings.ALLOWED_PRIVATE_NETWORKS = []
    said = refusal(connection_to(systems[0], "Here"))
    assert "127.0.0.1" in said
    assert "ALLOWED_PRIVATE_NETWORKS" in said
    assert not systems[0].journal, "something was sent"


def test_http_to_a_public_host_is_refused(transactional_db, systems):
    connection = connection_to(systems[1], "Open", org_url="http://52.10.20.30")
    said = refusal(connection)
    assert "52.10.20.30" in said
    assert "https" in said


def test_the_run_of_an_integration_whose_host_is_refused_fails_with_the_sentence(hub):
    Connection.objects.filter(name="Sales").update(
        settings={**hub.connection("right").settings, "org_url": "https://169.254.169.254"}
    )
    job = hub.sync()
    assert job.status is StatusReason.FAILED, job.error_message
    assert "169.254.169.254" in job.error_message
    assert hub.run_of(job).error


def test_another_company_behind_the_same_connection_stops_it(hub):
    hub.connection("left")
    Connection.objects.filter(name="Books").update(instance="123")
    said = refusal(Connection.objects.get(name="Books"), AuthError)
    assert "the connection was made for" in said
    assert hub.connection("left").state == Connection.State.WRONG_INSTANCE
    job = hub.sync()
    assert job.status is StatusReason.WAITING
    assert "Books" in job.error_message


# Commands


def test_the_command_sync_names_what_it_does_not_know(hub):
    with pytest.raises(CommandError, match=r"no integration 'Nope'\. There are: Books with Sales"):
        call_command("sync", "Nope")
    with pytest.raises(CommandError, match=r"has no entity sync custmer\. It has: .*customer"):
        call_command("sync", "Books with Sales", "--entity", "custmer")
    Integration.objects.update(enabled=False)
    with pytest.raises(CommandError, match=r"is switched off\. Enable it first"):
        call_command("sync", "Books with Sales")
    hub.integration.refresh_from_db()
    with pytest.raises(NotNow):
        hub.sync()


def test_the_command_preset_names_what_it_does_not_know(ends):
    with pytest.raises(CommandError, match=r"no preset 'inolnk'\. There are: .*inolink"):
        call_command("preset", "apply", "inolnk", "X", "--left", "Books", "--right", "Sales")
    with pytest.raises(CommandError, match=r"no connection 'Bokks'\. There are: .*Books"):
        call_command("preset", "apply", "inolink", "X", "--left", "Bokks", "--right", "Sales")
    with pytest.raises(CommandError, match="wants OPTION=VALUE"):
        call_command("preset", "apply", "inolink", "X", "--left", "Books", "--right", "Sales", "--set", "unit")
    assert not Integration.objects.exists()


def test_the_command_explain_names_what_it_does_not_know(hub):
    with pytest.raises(CommandError):
        call_command("explain", "Nope", "customer", "1")
    with pytest.raises(CommandError, match="987654321"):
        call_command("explain", "Books with Sales", "customer", "987654321")
