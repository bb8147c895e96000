"""Do the services start on their defaults for a whole week, in the right minutes, and never else?  Real processes, a settable clock."""

import json
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.acceptance.test_processes import Site

pytestmark = [pytest.mark.processes, pytest.mark.slow]
ZONE = ZoneInfo("Europe/Paris")
MONDAY = date(2026, 3, 23)  # clocks go forward on this week's Sunday
CHANGES, AGING, BULK = "QuickBooks to Dynamics 365", "Aging details", "Dynamics 365 to QuickBooks, bulk"
OFF = (datetime(2026, 3, 25, 12, 30, tzinfo=ZONE), datetime(2026, 3, 26, 8, 40, tzinfo=ZONE))


def defaults():
    """What the product's defaults mean, spelled out: moment in UTC -> names of the services that start."""
    found = {}
    for day in range(7):
        for minute in range(24 * 60):
            at = datetime.combine(MONDAY + timedelta(days=day), time(minute // 60, minute % 60), tzinfo=ZONE)
            names = set()
            if 8 * 60 <= minute <= 17 * 60 and minute % 30 == 0:
                names.add(CHANGES)
            if day < 6 and minute == 0:
                names.add(AGING)
            if day < 6 and minute % 60 == 0 and not OFF[0] <= at < OFF[1]:
                names.add(BULK)
            if names:
                found[at.astimezone(UTC)] = names
    return found


class Week(Site):
    """A small installation whose clock a test moves."""

    def __init__(self, folder, url):
        super().__init__(folder, url, records=12)
        self.clock = folder / "clock"
        self.environment |= {
            "SYNCLINE_TEST_CLOCK": str(self.clock),
            "WORKER_CHORES": "scheduling.dispatch.tick=0.1",
            "JOB_DISPATCH_SECONDS": "0.1",
            "WORKER_BEAT_SECONDS": "0.2",
            "QUEUE_POLL_SECONDS": "0.05",
            "TIME_ZONE": ZONE.key,
            "PROVISIONING": "at_once",
        }
        self.set(datetime.combine(MONDAY, time(0), tzinfo=ZONE) - timedelta(minutes=20))

    def set(self, moment):
        moment = moment.astimezone(UTC)
        self.left.clock.hold(moment)
        self.right.clock.hold(moment)
        draft = self.clock.with_name("clock.new")
        draft.write_text(moment.isoformat(), encoding="ascii")
        draft.replace(self.clock)

    def act(self, **asked):
        return json.loads(self.run("-m", "tests.acceptance.site_services", given=asked))

    def idle(self):
        """Nothing runs, and nothing is due: then the clock may move."""
        return self.rows(
            "select count(*) from jobs_job where status_reason not in ('succeeded', 'not applicable')"
        ) == [(0,)]

    def starts(self):
        """Return moment (to the minute) -> names of the services that were started then."""
        names = dict(self.rows("select id, name from scheduling_service"))
        found = {}
        rows = self.rows("select object_ref, created_at from jobs_job where object_ref like 'service:%'")
        for reference, created in rows:
            at = datetime.fromisoformat(str(created)).replace(tzinfo=UTC)
            found.setdefault(at.replace(second=0, microsecond=0), []).append(names[int(reference.split(":")[1])])
        return found

    def started(self, at, names):
        return names <= set(self.starts().get(at, [])) and self.idle()

    def promotions(self):
        return Counter(status for (status,) in self.rows("select status from connectors_promotion"))


def test_the_three_services_start_on_their_defaults_for_a_week_and_never_else(tmp_path):
    expected = defaults()
    switched = False
    with Week(tmp_path, f"sqlite:///{tmp_path / 'hub.sqlite3'}") as site:
        site.start()
        site.finish(60)
        site.act(start=[CHANGES, AGING, BULK])
        accounts = [site.right.user_creates("account", {"name": f"Won in a fair {n}"}) for n in range(3)]
        quiet = [datetime(2026, 3, 23, 7, 59, tzinfo=ZONE), datetime(2026, 3, 28, 17, 31, tzinfo=ZONE)]
        for at in sorted([*expected, *(moment.astimezone(UTC) for moment in (*OFF, *quiet))]):
            site.set(at)
            if at == OFF[0]:
                assert site.act(stop=[BULK], promote=accounts)[BULK] == ""
            elif at == OFF[1]:
                assert site.promotions() == {"queued": 3}, "switched off, it keeps its records queued"
                assert not [
                    r for r in site.left.store.table("Customer").values() if "fair" in str(r.body["DisplayName"])
                ]
                site.act(start=[BULK])
                switched = True
            names = expected.get(at, set())
            site.until(lambda at=at, names=names: site.started(at, names), f"{names} at {at}", 30)
        assert switched
        assert {at: sorted(names) for at, names in site.starts().items()} == {
            at: sorted(names) for at, names in expected.items()
        }
        assert site.promotions() == {"success": 3}
        made = [r for r in site.left.store.table("Customer").values() if "fair" in str(r.body["DisplayName"])]
        assert len(made) == 3
        assert site.rows("select count(*) from connectors_event where code = 'missed run'") == [(0,)]
