"""Is a hub the same after export and import, and does a dry run tell the truth?"""

from __future__ import annotations

import io
from datetime import date, time

import pytest
import yaml
from django.core.management import CommandError, call_command

from connectors.models import Connection, EntitySync, FieldMapping, Integration, PicklistMapping, Scope
from jobs.housekeeping import bundle
from jobs.management.scheduled import ALL_KINDS, FINISH
from jobs.models import AlertRule
from scheduling.models import Blackout, Provisioning, Service, ServiceWindow
from tests.acceptance.conftest import fresh, systems  # noqa: F401 - fixtures
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db(transaction=True)


def exported(**options):
    return bundle.export(ALL_KINDS, **options)


def taken(text, **options):
    return bundle.take(text if isinstance(text, str) else yaml.safe_dump(text), ALL_KINDS, FINISH, **options)


def content():
    return yaml.safe_load(exported())


@pytest.fixture
def world():
    world = TwoSystems(filters=[{"side": "left", "field": "city", "op": "eq", "value": "Oslo"}])
    schedules(world.integration, ["person"])
    mapping = FieldMapping.objects.get(left="city")
    PicklistMapping.objects.create(field_mapping=mapping, left_key="1", right_key="a", token="a", left_label="Østfold")
    rule = AlertRule.objects.create(name="Hook", what="failed", to="json", integration=world.integration)
    rule.set_webhook("https://hooks.example.com/T0/secretpart", "the signing key")
    AlertRule.objects.create(name="Mail", what="parked more than", more_than=7, to="email", addresses=["a@hub.example"])
    return world


def schedules(integration, entities):
    service = Service.objects.create(
        integration=integration,
        name="People",
        entities=entities,
        zone="Europe/Paris",
        recommended_minutes=15,
        enabled=True,
    )
    for start, end in ((time(8), time(17)), (time(20), time(2))):
        ServiceWindow.objects.create(service=service, days=0b11111, start=start, end=end, every_minutes=30)
    year_end = {"name": "Year end", "first": date(2026, 12, 24), "last": date(2027, 1, 2), "kind": "yearly"}
    Blackout.objects.create(**year_end)
    Blackout.objects.create(**year_end, integration=integration, service=service)


def emptied():
    for model in (AlertRule, Blackout, Integration, Connection):
        model.objects.all().delete()


def test_export_and_import_into_an_empty_hub_give_the_same_text(world):
    before = exported()
    emptied()
    difference = taken(before)
    assert exported() == before
    assert all(line.startswith("+ ") for line in difference.lines)
    assert taken(before).lines == []  # import = difference: there is none


def test_a_whole_preset_makes_the_way(fresh):  # noqa: F811
    schedules(fresh.integration, [])
    before, mappings = exported(), FieldMapping.objects.count()
    secrets = {c.name: c.get_secret() for c in Connection.objects.all()}
    emptied()
    taken(before)
    assert exported() == before
    assert (FieldMapping.objects.count(), Scope.objects.count()) == (mappings, 1)
    for name, secret in secrets.items():
        Connection.objects.get(name=name).set_secret(secret)
    hub = fresh
    hub.integration = Integration.objects.get()
    hub.settle()
    hub.settle()
    hub.assert_agreed()  # it also syncs as before


def test_no_secret_is_in_the_text(world):
    Connection.objects.create(system="quickbooks", name="Books").set_secret(
        {"client_id": "canary-id", "client_secret": "canary-secret", "refresh_token": "canary-token"}
    )
    for text in (exported(), exported(env_names=True)):
        for canary in ("canary", "secretpart", "the signing key"):
            assert canary not in text
    assert "client_secret: env:BOOKS_CLIENT_SECRET" in exported(env_names=True)


def test_secrets_are_read_from_the_environment_and_kept_where_they_stay(world, monkeypatch):
    monkeypatch.setenv("HOOK_URL", "https://hooks.example.com/T1/new")
    told = content()
    told["alert_rules"][0]["secrets"] = {"url": "env:HOOK_URL", "signing_key": "keep"}
    found = taken(told)
    assert found.lines == ["~ alert rule Hook: the webhook's url changes (hooks.example.com)"]
    assert AlertRule.objects.get(name="Hook").webhook() == {
        "url": "https://hooks.example.com/T1/new", "signing_key": "the signing key",
    }  # fmt: skip
    assert taken(told).lines == []


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("env:NOT_THERE", "refers to NOT_THERE, which the environment does not have"),
        ("https://hooks.example.com/secretpart", "is neither keep nor env:NAME"),
    ],
)
def test_a_secret_in_the_text_or_a_missing_variable_is_refused(world, reference, sentence):
    told = content()
    told["alert_rules"][0]["secrets"]["url"] = reference
    with pytest.raises(bundle.ConfigRefused, match=sentence) as refused:
        taken(told)
    assert "secretpart" not in str(refused.value)


def test_a_dry_run_prints_the_difference_and_changes_nothing(world, tmp_path):
    told = content()
    told["integrations"][0]["entity_syncs"][0]["policy"] = "left"
    told["services"][0]["windows"][0]["every"] = 15
    del told["integrations"][0]["entity_syncs"][0]["mappings"][4]
    path = tmp_path / "hub.yaml"
    path.write_text(yaml.safe_dump(told))
    before, out = exported(), io.StringIO()
    call_command("import_config", str(path), "--dry-run", stdout=out)
    assert "~ integration both, entity sync person: policy: 'last_updated' -> 'left'" in out.getvalue()
    assert "- integration both, entity sync person, mapping parent parent" in out.getvalue()
    assert "3 differences; nothing was changed." in out.getvalue()
    assert exported() == before
    call_command("import_config", str(path), stdout=out)
    assert content() == told
    assert "3 differences taken over." in out.getvalue()


def test_revisions_rise_only_where_something_differs(world):
    other = EntitySync.objects.create(
        integration=world.integration, name="other", family="other", left_entity="x", right_entity="x"
    )

    def revisions():
        return [
            Integration.objects.get().revision, EntitySync.objects.get(name="person").revision,
            EntitySync.objects.get(pk=other.pk).revision,
        ]  # fmt: skip

    taken(exported())
    assert revisions() == [1, 1, 1]
    told = content()
    told["integrations"][0]["enabled"] = False
    taken(told)
    assert revisions() == [1, 1, 1]
    person = next(s for s in told["integrations"][0]["entity_syncs"] if s["name"] == "person")
    next(m for m in person["mappings"] if m["left"] == "city")["options"][0]["right_key"] = "b"
    taken(told)
    assert revisions() == [2, 2, 1]
    assert Scope.objects.get().full_wanted


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.update(colour="red"), "Unknown word colour; known: syncline, connections"),
        (
            lambda c: c["connections"][0].update(colour="red"),
            "connection left: unknown word colour; known: name, system",
        ),
        (lambda c: c["connections"][0].update(system="nosuch"), "system can't change"),
        (lambda c: c["connections"].append({"name": "new", "system": "nosuch"}), "connection new: .*nosuch"),
        (lambda c: c["integrations"][0].update(left="nowhere"), "there is no connection 'nowhere'"),
        (
            lambda c: c["integrations"][0]["entity_syncs"][0].update(direction="up"),
            "direction: Value 'up' is not a valid",
        ),
        (lambda c: c["integrations"][0]["entity_syncs"][0].update(family="x"), "family can't change. Links hang on it"),
        (lambda c: c["services"][0].update(zone="Mars"), "service both People: .*Mars"),
        (lambda c: c["services"][0]["windows"][0].update(every=1), "service both People: Window"),
        (lambda c: c["services"][0]["windows"][0].update(hue=1), "known words are days, end, every, from, start"),
        (lambda c: c["services"].append(dict(c["services"][0])), "service both People is there twice"),
        (lambda c: c["blackouts"][1].update(service="Nobody"), "there is no service 'Nobody'"),
        (lambda c: c["alert_rules"][1].update(addresses=["x"]), "x is not an e-mail address"),
        (lambda c: c.update(syncline=9), "does not begin with `syncline: 1`"),
        (lambda c: c.update(services={}), "^$|services is no list"),
    ],
)
def test_what_is_not_understood_is_refused_by_name_and_nothing_is_kept(world, change, sentence):
    told, before = content(), exported()
    told["integrations"][0]["first_run"] = "preview"  # a good change beside the bad one
    change(told)
    if told["services"] == {}:
        told["services"] = {"no": "list"}
    with pytest.raises(bundle.ConfigRefused, match=sentence):
        taken(told)
    assert exported() == before


def test_what_the_text_does_not_have_is_left_alone_and_named(world):
    told = content()
    told["integrations"], told["services"] = [], []
    found = taken(told)
    assert "integration both" in found.left_alone and "service both People" in found.left_alone
    assert Integration.objects.exists()


def test_services_of_a_new_integration_ask_to_be_provisioned(world):
    before = exported()
    emptied()
    taken(before)
    assert Provisioning.objects.get().status == "requested"
    assert Service.objects.get().next_run_at is not None  # planned; the dispatcher starts it once it is provisioned


def test_the_commands_pass_the_text_on(world, tmp_path):
    out = io.StringIO()
    call_command("export_config", stdout=out)
    assert out.getvalue() == exported()
    with pytest.raises(CommandError, match="can't be read"):
        call_command("import_config", str(tmp_path / "none.yaml"))
    path = tmp_path / "bad.yaml"
    path.write_text("a: [")
    with pytest.raises(CommandError, match="Nothing was changed"):
        call_command("import_config", str(path))
