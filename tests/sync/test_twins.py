"""Is a second integration over the same two companies refused wherever it could come to be, and its run before it writes?"""

from __future__ import annotations

import pytest

from connectors.admin.preferences import change
from connectors.models import Connection, EntitySync, FieldMapping, Integration, Scope
from connectors.sync import amending, schema
from connectors.sync.compile import SettingsError
from connectors.sync.entity_settings import propose
from connectors.sync.preferences import PreferencesError
from connectors.sync.presets import apply_preset, parse_preset
from connectors.sync.run import advance, start_run
from jobs import clock
from jobs.housekeeping.bundle import ConfigRefused, export, take
from jobs.management.scheduled import ALL_KINDS, FINISH
from scheduling import preflight
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db
PRESET = {
    "name": "tiny", "title": "Tiny", "left": "memory", "right": "memory",
    "entity_syncs": [{"name": "folk", "left": "person", "right": "person", "mappings": ["name <-> name"]}],
}  # fmt: skip
TWICE = "both keeps person with person of the same two companies in agreement already"


@pytest.fixture
def world() -> TwoSystems:
    found = TwoSystems()
    Connection.objects.filter(name="left").update(instance="left")
    Connection.objects.filter(name="right").update(instance="right")
    return found


def again(name: str, store: str, *, checked: bool = True) -> Connection:
    """Make a further connection to a store that has one already."""
    told = {"store": store}
    return Connection.objects.create(system="memory", name=name, settings=told, instance=store if checked else "")


def second(world: TwoSystems, *, turned: bool = False, checked: bool = True, enabled: bool = True) -> Integration:
    """Make what no page makes: another integration over the same two stores."""
    ends = ("right", "left") if turned else ("left", "right")
    left, right = (again(f"{store} again", store, checked=checked) for store in ends)
    made = Integration.objects.create(name="second", left=left, right=right, first_run="apply")
    sync = EntitySync.objects.create(
        integration=made, name="folk", family="folk", left_entity="person", right_entity="person", enabled=enabled
    )
    FieldMapping.objects.create(entity_sync=sync, left="name", right="name", required=True)
    Scope.objects.create(integration=made)
    return made


def run(world: TwoSystems, integration: Integration) -> None:
    started = start_run(Scope.objects.get(integration=integration), world.world)
    while not advance(started, world.world):
        pass


def applied(world: TwoSystems, left: Connection, right: Connection) -> Integration:
    speaking = {"left": world.connect(left), "right": world.connect(right)}
    return apply_preset(parse_preset(PRESET), "second", {"left": left, "right": right}, speaking).integration


@pytest.mark.parametrize("enabled", [True, False])
def test_a_preset_over_the_same_two_companies_is_refused_and_nothing_of_it_is_kept(
    world: TwoSystems, enabled: bool
) -> None:
    Integration.objects.update(enabled=enabled)
    with pytest.raises(SettingsError, match=TWICE):
        applied(world, again("l", "left"), again("r", "right"))
    with pytest.raises(SettingsError, match=TWICE):
        applied(world, again("l2", "right"), again("r2", "left"))  # the other way round
    assert Integration.objects.count() == 1


def test_another_company_on_one_side_is_another_matter(world: TwoSystems) -> None:
    world.left.stores["elsewhere"] = world.left
    assert applied(world, again("l", "elsewhere"), again("r", "right")).enabled


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_a_run_of_the_younger_one_stops_before_it_writes_and_the_older_one_goes_on(
    world: TwoSystems, checked: bool, turned: bool
) -> None:
    made = second(world, turned=turned, checked=checked)
    world.left.create("person", {"name": "Ada"})
    with pytest.raises(SettingsError, match=TWICE):
        run(world, made)
    assert world.names(world.right) == []
    world.settle()
    assert world.names(world.right) == ["Ada"]


def test_a_run_beside_one_that_is_never_checked_and_does_not_answer_is_refused(world: TwoSystems) -> None:
    made = second(world)
    Connection.objects.filter(name="left").update(instance="", settings={"store": "left", "x": "1"})
    speaks, found = world.connect, []

    class Gone:
        def check(self) -> None:
            from connectors.contract import AuthError

            found.append("asked")
            raise AuthError("no")

    world.world.connect = lambda c: Gone() if c.name == "left" else speaks(c)  # type: ignore[assignment,return-value]
    with pytest.raises(SettingsError, match="Nobody knows whether second and both"):
        run(world, made)
    assert found == ["asked"]


def test_the_preflight_of_the_younger_one_is_red(world: TwoSystems) -> None:
    made = second(world)
    assert [line for line in preflight.run(made).blocking if TWICE in line.message]
    assert not [line for line in preflight.run(world.integration).lines if "same two companies" in line.message]


def test_an_entity_sync_is_not_switched_on_beside_another(world: TwoSystems) -> None:
    made = second(world, enabled=False)
    run(world, made)  # nothing of it is on
    sync = made.entity_syncs.get()
    schema.read(made, {"left": world.connect(made.left), "right": world.connect(made.right)}, clock.now())
    with pytest.raises(SettingsError, match=TWICE):
        amending.commit(propose(sync, {"enabled": True}), schema.stored(made).described, now=clock.now())
    with pytest.raises(PreferencesError, match=TWICE):
        change(made, {"folk.enabled": "yes"}, None, by="ada")
    EntitySync.objects.filter(pk=world.sync.pk).update(enabled=False)
    assert amending.commit(propose(sync, {"enabled": True}), schema.stored(made).described, now=clock.now())


def test_an_import_makes_no_second_one(world: TwoSystems) -> None:
    made = second(world)
    text = export(ALL_KINDS)
    Integration.objects.filter(pk=made.pk).delete()
    with pytest.raises(ConfigRefused, match=f"integration second: {TWICE}"):
        take(text, ALL_KINDS, FINISH)
    assert not Integration.objects.filter(name="second").exists()
