"""Do pauses hold back what they name, until when they say, and can everybody see who made them and why?"""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.urls import reverse
from django.utils import timezone

from config.access import OPERATOR, VIEWER
from jobs import clock, dispatch, pauses
from jobs.housekeeping import tick
from jobs.models import Job, Pause
from jobs.states import IllegalTransition

pytestmark = pytest.mark.django_db


@pytest.fixture
def boss(client):
    client.force_login(User.objects.create_superuser("ada", password="a long enough secret"))
    return client


def entered(**columns):
    return {"kind": "hub", "connection": "", "job_type": "", "reason": "The books are closed.", "until": "", **columns}


def test_a_pause_says_who_made_it_and_holds_back(boss, work):
    dispatch.request("probe")
    boss.post(reverse("admin:jobs_pause_add"), entered())
    pause = Pause.objects.get()
    assert (pause.who, pause.reason, pause.by.username) == ("ada", "The books are closed.", "ada")
    assert work() == 0
    entry = LogEntry.objects.latest("id")
    assert (entry.user.username, entry.object_id) == ("ada", str(pause.pk))


@pytest.mark.parametrize(("kind", "held"), [("connection", 1), ("type", 2), ("hub", 3)])
def test_each_kind_holds_back_what_it_names(at, work, pair, kind, held):
    dispatch.request("probe", scope=pair.scope)
    dispatch.request("probe")
    dispatch.request("charge")
    target = {"connection": {"connection": pair.left}, "type": {"job_type": "probe"}}.get(kind, {})
    made = pauses.begin(kind, reason="a test", by="ada", **target)
    assert work() == 3 - held
    pauses.end(made)
    assert work() == held


def test_a_pause_ends_by_itself_at_its_moment_and_its_row_goes(at, work):
    dispatch.request("probe")
    pauses.begin("hub", reason="a test", until=clock.now() + timedelta(hours=1), by="ada")
    assert work() == 0
    at(timedelta(hours=1, seconds=1))
    assert work() == 1, "nobody has deleted the row yet"
    with pytest.raises(IllegalTransition, match="ended meanwhile"):
        pauses.change(Pause.objects.get(), reason="again", until=None)
    tick.tick()
    assert not Pause.objects.exists()


def test_one_whose_end_has_come_is_not_in_the_way_of_a_new_one(at):
    pauses.begin("hub", reason="old", until=clock.now() + timedelta(hours=1), by="ada")
    at(timedelta(hours=2))
    assert pauses.begin("hub", reason="new", by="ada").reason == "new"


def test_the_same_pause_twice_is_refused_with_the_first_ones_reason(boss, pair):
    pauses.begin("connection", connection=pair.left, reason="The books are closed.", by="eve")
    page = boss.post(reverse("admin:jobs_pause_add"), entered(kind="connection", connection=pair.left.pk))
    assert "There is such a pause already by eve: The books are closed." in page.content.decode()
    assert Pause.objects.count() == 1


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"reason": ""}, "This field is required"),
        ({"reason": "   "}, "This field is required"),
        ({"kind": "connection"}, "Choose the connection whose jobs shall wait."),
        ({"kind": "type"}, "Choose one of:"),
        ({"kind": "type", "job_type": "nonsense"}, "Select a valid choice"),
        ({"until": "2020-01-01T00:00"}, "That moment is past."),
        ({"until": "2099-01-01T00:00"}, "A pause ends within a year"),
        ({"until": "soon"}, "Enter a valid date/time"),
        ({"kind": "nonsense"}, "Select a valid choice"),
    ],
)
def test_what_can_not_be_is_refused_at_the_field(boss, columns, sentence):
    page = boss.post(reverse("admin:jobs_pause_add"), entered(**columns))
    assert page.status_code == 200
    assert sentence in page.content.decode()
    assert not Pause.objects.exists()


def test_what_belongs_to_another_kind_is_hidden_and_not_meant(boss, pair):
    boss.post(reverse("admin:jobs_pause_add"), entered(kind="hub", connection=pair.left.pk, job_type="probe"))
    pause = Pause.objects.get()
    assert (pause.kind, pause.connection, pause.job_type) == ("hub", None, "")


def test_ticked_pauses_are_ended_and_each_is_logged(boss):
    made = [pauses.begin("type", job_type=name, reason="a test", by="eve") for name in ("probe", "charge")]
    ticked = {"action": "end_ticked", "_selected_action": [pause.pk for pause in made]}
    answer = boss.post(reverse("admin:jobs_pause_changelist"), ticked, follow=True)
    assert "Ended: jobs of the type probe go on." in answer.content.decode()
    assert not Pause.objects.exists()
    assert LogEntry.objects.filter(change_message="Ended.").count() == 2


def test_why_and_until_can_be_changed_what_it_holds_back_can_not(boss, pair):
    made = pauses.begin("connection", connection=pair.left, reason="old", by="eve")
    url = reverse("admin:jobs_pause_change", args=[made.pk])
    boss.post(url, entered(kind="hub", reason="new"))
    made.refresh_from_db()
    assert (made.kind, made.reason, made.connection_id, made.who) == ("connection", "new", pair.left.pk, "eve")


def test_a_pause_whose_end_has_come_is_not_said_to_be_prolonged(boss, at):
    made = pauses.begin("hub", reason="old", until=clock.now() + timedelta(hours=1), by="eve")
    at(timedelta(hours=2))
    later = timezone.localtime(clock.now() + timedelta(hours=3))
    given = {"reason": "longer", "until": f"{later:%Y-%m-%dT%H:%M}"}
    answer = boss.post(reverse("admin:jobs_pause_change", args=[made.pk]), given)
    assert (answer.status_code, "can&#x27;t be changed any more" in answer.content.decode()) == (200, True)
    made.refresh_from_db()
    assert made.reason == "old"


def test_a_pause_is_ended_by_its_button_and_what_waits_goes_on(boss, work):
    dispatch.request("probe")
    made = pauses.begin("hub", reason="a test", by="eve")
    listed = boss.get(reverse("admin:jobs_job_changelist")).content.decode()
    assert "Paused: all jobs" in listed and "by eve" in listed and "End the pause" in listed
    end = reverse("admin:jobs_pause_do", args=[made.pk, "end"])
    answer = boss.post(end, {"next": reverse("admin:jobs_job_changelist")}, follow=True)
    assert "Ended: all jobs go on." in answer.content.decode()
    assert "Paused: all jobs" not in answer.content.decode()
    assert work() == 1
    assert boss.post(end).status_code in (302, 404)


def test_ending_it_twice_is_refused():
    made = pauses.begin("hub", reason="a test", by="eve")
    pauses.end(made)
    with pytest.raises(IllegalTransition):
        pauses.end(made)
    with pytest.raises(IllegalTransition):
        pauses.change(made, reason="x", until=None)


def test_it_stands_on_the_overview_and_on_its_connection_alone(boss, pair):
    pauses.begin("connection", connection=pair.left, reason="The books are closed.", by="eve")
    assert "Paused: jobs of Books." in boss.get("/admin/").content.decode()
    for name in ("change", "health"):
        shown = boss.get(reverse(f"admin:connectors_connection_{name}", args=[pair.left.pk])).content.decode()
        assert "The books are closed." in shown, name
        other = boss.get(reverse(f"admin:connectors_connection_{name}", args=[pair.right.pk])).content.decode()
        assert "The books are closed." not in other


@pytest.mark.parametrize(("group", "may"), [(VIEWER, False), (OPERATOR, True)])
def test_operators_pause_and_viewers_look(client, group, may):
    from django.contrib.auth.models import Group

    user = User.objects.create_user("vic", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client.force_login(user)
    made = pauses.begin("type", job_type="probe", reason="a test", by="eve")
    assert client.get(reverse("admin:jobs_pause_changelist")).status_code == 200
    assert client.post(reverse("admin:jobs_pause_add"), entered()).status_code == (302 if may else 403)
    assert client.post(reverse("admin:jobs_pause_do", args=[made.pk, "end"])).status_code == (302 if may else 403)
    assert Pause.objects.filter(pk=made.pk).exists() is not may
    assert Pause.objects.filter(kind="hub").exists() is may


def test_two_that_begin_the_same_pause_make_one(monkeypatch):
    pauses.begin("hub", reason="first", by="ada")
    monkeypatch.setattr(pauses, "check_new", lambda *_: None)  # the other one looked a moment before
    with pytest.raises(ValidationError, match="already by ada: first"):
        pauses.begin("hub", reason="second", by="eve")
    assert Job.objects.count() == 0 and Pause.objects.get().reason == "first"
