"""Can a person see and change which fields agree, and is nothing saved that can't run, is stale, or was not confirmed?"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from connectors.contract import Field, Kind, Write
from connectors.memory.store import entity
from connectors.models import Event, FieldMapping, Integration, PicklistMapping, RecordLink, SchemaDrift
from connectors.sync import drafts, drift
from connectors.sync.run import mark_settings_changed
from jobs import clock
from tests.admin.mapped import changed, look, mapped_world, without
from tests.admin.test_pages import more_of
from tests.sync.worlds import TwoSystems


@pytest.fixture
def people(db: None) -> TwoSystems:
    cache.clear()  # a record that was tried stays read for a while, and ids come again in each test
    world = mapped_world()
    for number in range(3):
        world.left.create("person", {"name": f"Person {number}", "city": "Paris", "terms": "n30"})
    return world


def page(name: str, *args: object) -> str:
    return reverse(f"admin:connectors_mapping_{name}", args=args)


def sent(answer: Any) -> dict[str, Any]:
    """Return what a browser would send back for the page's rows."""
    told: dict[str, Any] = {"revision": answer.context["revision"], "seen": answer.context["seen"], "do": "save"}
    for shown in answer.context["rows"]:
        for bound in shown.form:
            value = bound.value()
            if value not in (None, False, ""):
                told[bound.html_name] = value
    return told


def save(client: Client, world: TwoSystems, told: dict[str, Any]) -> Any:
    """Save, and confirm what the page then shows."""
    url = page("editor", world.sync.pk)
    answer = client.post(url, told)
    if answer.status_code == 200 and answer.context["confirm"]:
        answer = client.post(url, {**told, "confirmed": answer.context["confirm"]["print"]})
    return answer


def place(answer: Any, left: str) -> int:
    return next(n for n, shown in enumerate(answer.context["rows"]) if shown.row.left == left)


def test_all_pages_open(boss: Client, people: TwoSystems) -> None:
    mapping = FieldMapping.objects.get(left="terms")
    for url in (
        reverse("admin:connectors_fieldmapping_changelist"), page("editor", people.sync.pk), page("options", people.sync.pk),
        page("import", people.sync.pk), page("export", people.sync.pk, "fields"), page("export", people.sync.pk, "options"),
        reverse("admin:connectors_fieldmapping_change", args=[mapping.pk]),
    ):  # fmt: skip
        assert boss.get(url).status_code == 200, url
    assert boss.get(page("export", people.sync.pk, "nothing")).status_code == 404
    assert boss.get(page("editor", 4711)).status_code == 404


def test_rows_show_types_fit_and_the_last_values(boss: Client, people: TwoSystems) -> None:
    people.run()
    answer = boss.get(page("editor", people.sync.pk))
    rows = {shown.row.left: shown for shown in answer.context["rows"]}
    assert rows["city"].labels == {"left": "City", "right": "Town"}
    assert rows["city"].types["right"] == "text, at most 20"
    assert "Lossy" in rows["city"].badge and "at most 20 characters" in rows["city"].badge
    assert "Compatible" in rows["email"].badge
    assert [str(a) for a, _ in rows["name"].samples] == ["Person 2", "Person 1", "Person 0"]
    assert not [c for c in people.left.requests if c.startswith("fetch")]


def test_a_change_is_shown_with_its_effect_and_saved_once_it_is_confirmed(boss: Client, people: TwoSystems) -> None:
    people.run()
    url = page("editor", people.sync.pk)
    answer = boss.get(url)
    told = {**sent(answer), f"rows-{place(answer, 'city')}-direction": "to_right"}
    revision = Integration.objects.get().revision
    shown = boss.post(url, told)
    assert shown.context["confirm"]["said"] == ["city ↔ city: Direction: Both ways → Left to right"]
    assert "Applies to 3 records." in shown.context["confirm"]["effect"]
    assert FieldMapping.objects.get(left="city").direction == "both"

    # Confirmed is what was shown: another draft is shown anew.
    other = boss.post(url, {**told, "rows-1-direction": "to_left", "confirmed": shown.context["confirm"]["print"]})
    assert other.context["confirm"] and FieldMapping.objects.get(left="city").direction == "both"

    done = {**told, "confirmed": shown.context["confirm"]["print"], "why": "Towns are theirs"}
    assert boss.post(url, done).status_code == 302
    assert FieldMapping.objects.get(left="city").direction == "to_right"
    assert Integration.objects.get().revision == revision + 1
    assert "Both ways → Left to right" in Event.objects.get(code="mappings changed").message
    log = LogEntry.objects.latest("id")
    assert "Towns are theirs" in log.change_message and "→" in log.change_message
    history = FieldMapping.history.filter(left="city").first()
    assert (history.direction, history.history_change_reason) == ("to_right", "Towns are theirs")

    # A double click.
    before = LogEntry.objects.count()
    assert boss.post(url, done).status_code == 302
    assert LogEntry.objects.count() == before and Integration.objects.get().revision == revision + 1


def test_rows_are_added_moved_and_removed(boss: Client, people: TwoSystems) -> None:
    answer = boss.get(page("editor", people.sync.pk))
    told = sent(answer)
    gone, moved = place(answer, "email"), place(answer, "city")
    told |= {f"rows-{gone}-removed": "1", f"rows-{moved}-position": "-1"}
    told |= {"rows-77-left": "born", "rows-77-right": "description", "rows-77-direction": "to_right", "rows-77-when": "always",
             "rows-77-position": "99", "rows-77-unmapped": "park"}  # fmt: skip
    answer = save(boss, people, told)
    assert answer.status_code == 302, answer.context["errors"]
    rows = drafts.rows_of(people.sync)
    assert [row.left for row in rows] == ["city", "name", "credit", "parent", "terms", "born"]
    assert rows[-1].direction == "to_right"


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"right": ""}, "right", "Choose a field here too, or give a constant"),
        ({"left": "nothing"}, "left", "left has no field 'nothing' on person"),
        ({"right": "parent"}, "right", "can't hold each other's values"),
        ({"left": "email", "right": "email"}, "right", "mapped already"),
        ({"direction": "sideways"}, "direction", "Select a valid choice"),
        ({"transform": "template"}, "args", "Say what the text is made of"),
        ({"transform": "template", "args": '{"template": "{value} {nothing}"}'}, "args", "The template may name"),
        ({"transform": "template", "args": '{"template": "{value}"}'}, "direction", "one direction only"),
        ({"transform": "multiply", "args": '{"by": 0}'}, "args", "by which number"),
        ({"args": "no json"}, "args", "no JSON"),
        ({"unmapped": "default"}, "default", "Say which option"),
        ({"constant": "x"}, "constant", "leave the field of the other side empty"),
        ({"left": "total"}, "direction", "computes itself"),
    ],
)  # fmt: skip
def test_what_can_not_run_is_told_at_its_field_and_nothing_is_lost(
    boss: Client, people: TwoSystems, changes: dict[str, str], field: str, words: str
) -> None:
    answer = boss.get(page("editor", people.sync.pk))
    at = place(answer, "email" if changes.get("left") != "email" else "city")
    told = {**sent(answer), **{f"rows-{at}-{name}": value for name, value in changes.items()}}
    if "left" in changes and changes["left"] == "total":
        told[f"rows-{at}-right"] = "credit"
        told[f"rows-{place(answer, 'credit')}-removed"] = "1"
    before = drafts.rows_of(people.sync)
    answer = boss.post(page("editor", people.sync.pk), told)
    assert answer.status_code == 400
    errors = {name: str(v[0]) for shown in answer.context["rows"] for name, v in shown.form.errors.items()}
    assert words in errors.get(field, ""), errors
    assert drafts.rows_of(people.sync) == before
    for name, value in changes.items():
        if value:
            assert value in [str(shown.form[name].value()) for shown in answer.context["rows"]]


def test_removing_what_records_are_matched_by_is_refused(boss: Client, people: TwoSystems) -> None:
    answer = boss.get(page("editor", people.sync.pk))
    answer = save(boss, people, {**sent(answer), f"rows-{place(answer, 'name')}-removed": "1"})
    assert answer.status_code == 400
    assert answer.context["general"] == ["the match field 'name>name' is not mapped."]


def test_without_a_schema_nothing_is_saved(boss: Client, db: None) -> None:
    world = TwoSystems()
    answer = boss.get(page("editor", world.sync.pk))
    assert "Not checked yet" in answer.content.decode()
    answer = boss.post(page("editor", world.sync.pk), {**sent(answer), "rows-1-direction": "to_left"})
    assert answer.status_code == 400 and "Read the schema" in " ".join(answer.context["general"])
    assert boss.post(page("schema", world.sync.pk)).status_code == 302
    assert (
        save(boss, world, {**sent(boss.get(page("editor", world.sync.pk))), "rows-1-direction": "to_left"}).status_code
        == 302
    )


def test_a_stale_page_is_refused_with_what_changed_and_keeps_the_edits(boss: Client, people: TwoSystems) -> None:
    url = page("editor", people.sync.pk)
    answer = boss.get(url)
    told = {**sent(answer), f"rows-{place(answer, 'city')}-direction": "to_right"}
    mapping = FieldMapping.objects.get(left="email")
    mapping.required = True
    mapping.save()
    mark_settings_changed(people.integration, people.sync)
    answer = boss.post(url, told)
    assert answer.status_code == 409
    assert answer.context["stale"]["changed"] == ["email ↔ email: Required: no → yes"]
    rows = {shown.row.left: shown.row for shown in answer.context["rows"]}
    assert rows["city"].direction == "to_right" and rows["email"].required
    assert FieldMapping.objects.get(left="city").direction == "both"
    assert save(boss, people, sent(answer)).status_code == 302
    assert FieldMapping.objects.get(left="city").direction == "to_right"
    assert FieldMapping.objects.get(left="email").required


def test_proposals_are_taken_by_ticking_and_never_saved_by_that(boss: Client, people: TwoSystems) -> None:
    url = page("editor", people.sync.pk)
    answer = boss.get(url)
    proposals = {p.key: p for p in answer.context["proposals"]}
    assert "BillAddr.PostalCode>address1_postalcode" in proposals
    told = {**sent(answer), "do": "propose", "proposal": ["BillAddr.PostalCode>address1_postalcode"]}
    answer = boss.post(url, told)
    assert answer.context["rows"][-1].row.left == "BillAddr.PostalCode" and answer.context["unsaved"]
    assert not FieldMapping.objects.filter(left="BillAddr.PostalCode").exists()
    assert save(boss, people, sent(answer)).status_code == 302
    assert FieldMapping.objects.get(left="BillAddr.PostalCode").direction == "both"


def test_two_mappings_can_swap_their_fields(boss: Client, people: TwoSystems) -> None:
    answer = boss.get(page("editor", people.sync.pk))
    one, other = place(answer, "email"), place(answer, "city")
    told = {**sent(answer), f"rows-{one}-right": "city", f"rows-{other}-right": "email"}
    assert save(boss, people, told).status_code == 302
    assert {row.left: row.right for row in drafts.rows_of(people.sync)}["email"] == "city"


# Test with a record


def test_unsaved_edits_are_tried_on_a_record_in_both_directions(boss: Client, people: TwoSystems) -> None:
    people.run()
    people.settle()
    link = RecordLink.objects.order_by("id").first()
    assert link is not None
    people.left.put("person", link.left_id, {"city": "Llanfairpwllgwyngyllgogerych"})
    answer = boss.get(page("editor", people.sync.pk))
    told = {**sent(answer), "record": str(link.pk), f"rows-{place(answer, 'name')}-transform": "lower"}
    text = re.sub(r"\s+", " ", boss.post(page("try", people.sync.pk), told).content.decode())
    assert "person 0" in text, "the transform that is not saved is tried"
    assert "takes at most 20 characters on the right, this value has 28" in text
    assert text.count('data-number="') == len(answer.context["rows"])
    assert not FieldMapping.objects.filter(transform="lower").exists()
    writes = len(people.right.journal)
    asked = len(people.left.requests)
    boss.post(page("try", people.sync.pk), told)
    assert len(people.left.requests) == asked and len(people.right.journal) == writes


def test_records_are_found_by_id_and_by_name(boss: Client, people: TwoSystems) -> None:
    people.run()
    link = RecordLink.objects.order_by("id").first()
    assert link is not None
    for text in (link.left_id, "Person 0"):
        assert f'value="{link.pk}"' in boss.get(page("records", people.sync.pk), {"q": text}).content.decode()
    assert "Person" not in boss.get(page("records", people.sync.pk), {"q": "nobody at all"}).content.decode()


# Picklists


def pairs_of(answer: Any) -> dict[str, Any]:
    one = answer.context["picklists"][0]
    return {
        "mapping": one["mapping"].pk, "revision": answer.context["revision"], "seen": one["seen"], "unmapped": one["unmapped"],
        "default": one["default"], "left_key": [line["row"].left_key for line in one["lines"]],
        "right_key": [line["row"].right_key for line in one["lines"]],
    }  # fmt: skip


def test_options_are_paired_by_hand_and_by_proposals(boss: Client, people: TwoSystems) -> None:
    url = page("options", people.sync.pk)
    answer = boss.get(url)
    [one] = answer.context["picklists"]
    assert one["list"].open_count == 6
    assert [p.key for p in one["list"].proposals] == ["n30\x1f1", "n60\x1f2"]
    told = pairs_of(answer)
    told |= {
        "left_key": [*told["left_key"], "now", ""],
        "right_key": [*told["right_key"], "3", ""],
        "proposal": ["n30\x1f1"],
    }
    assert boss.post(url, told).status_code == 302
    found = {o.left_key: o for o in PicklistMapping.objects.all()}
    assert {k: (o.right_key, o.left_label, o.token) for k, o in found.items()} == {
        "now": ("3", "Due on receipt", "3"), "n30": ("1", "Net 30", "1"),
    }  # fmt: skip
    assert "options changed" in Event.objects.values_list("code", flat=True)
    assert PicklistMapping.history.count() == 2

    # The same once more, as a double click sends it: nothing happens, and nobody is told of a stale page.
    revision = Integration.objects.get().revision
    assert boss.post(url, told).status_code == 302
    assert Integration.objects.get().revision == revision

    told = {**pairs_of(boss.get(url)), "unmapped": "default", "default": "3"}
    answer = boss.post(url, told, follow=True)
    assert (
        "Saved: Option without partner: Park the record → Take the default; Default: – → 3." in answer.content.decode()
    )
    mapping = FieldMapping.objects.get(left="terms")
    assert (mapping.unmapped, mapping.default) == ("default", "3")


def test_wrong_and_stale_pairs_are_refused_and_kept_on_the_page(boss: Client, people: TwoSystems) -> None:
    url = page("options", people.sync.pk)
    told = pairs_of(boss.get(url))
    answer = boss.post(url, {**told, "left_key": ["n30", "n60"], "right_key": ["1", ""]})
    assert answer.status_code == 400
    assert [line["error"] for line in answer.context["picklists"][0]["lines"]] == [
        "",
        "Choose an option on both sides.",
    ]
    answer = boss.post(url, {**told, "unmapped": "default", "default": ""})
    assert answer.status_code == 400 and "Choose one of the pairs" in answer.context["picklists"][0]["errors"][0]
    PicklistMapping.objects.create(field_mapping_id=told["mapping"], left_key="now", right_key="3", token="3")
    mark_settings_changed(people.integration, people.sync)
    answer = boss.post(url, {**told, "left_key": ["n30"], "right_key": ["1"]})
    assert answer.status_code == 409
    assert answer.context["picklists"][0]["stale"] == ["added now = 3"]
    assert not PicklistMapping.objects.filter(left_key="n30").exists()


@pytest.mark.parametrize(("count", "status"), [(1999, 302), (2000, 400)])
def test_a_form_of_2000_pairs_is_saved_and_of_a_larger_one_nothing_is_cut_off(
    boss: Client, people: TwoSystems, count: int, status: int
) -> None:
    mapping = FieldMapping.objects.get(left="terms")
    PicklistMapping.objects.bulk_create(
        PicklistMapping(field_mapping=mapping, left_key=f"l{n}", right_key=f"r{n}", token=f"r{n}") for n in range(count)
    )
    url = page("options", people.sync.pk)
    told = pairs_of(boss.get(url))
    told |= {"left_key": [*told["left_key"], "now"], "right_key": [*told["right_key"], "3"]}
    answer = boss.post(url, told)
    assert answer.status_code == status
    assert PicklistMapping.objects.count() == (2000 if status == 302 else count)
    if status == 400:
        assert "Nothing was saved" in answer.context["picklists"][0]["errors"][0]


@pytest.mark.parametrize(("count", "status"), [(200, 302), (501, 400)])
def test_a_form_of_200_rows_is_saved_and_of_a_larger_one_nothing_is_cut_off(
    boss: Client, people: TwoSystems, count: int, status: int
) -> None:
    own = people.right.entities["person"].fields
    people.right.entities["person"] = entity("person", *own, *(Field(f"n{n}", Kind.TEXT) for n in range(count)))
    look(people)
    answer = boss.get(page("editor", people.sync.pk))
    told, there = sent(answer), len(answer.context["rows"])
    usual = {"direction": "to_right", "policy": "", "transform": "", "args": "", "when": "always", "guard": "", "unmapped": "park",
             "default": "", "left": "", "removed": "", "id": "", "constant": "x"}  # fmt: skip
    for number in range(100, 100 + count - there):
        row = {**usual, "right": f"n{number - 100}", "position": number}
        told |= {f"rows-{number}-{name}": value for name, value in row.items()}
    assert len(told) > 1000, "more than Django takes by itself"
    answer = save(boss, people, told)
    assert answer.status_code == status
    assert len(drafts.rows_of(people.sync)) == (count if status == 302 else there)
    if status == 400:
        assert len(answer.context["rows"]) == count, "nothing that was entered is lost"
        assert answer.context["general"] == [
            "One page takes at most 500 rows, and these are 501. Nothing was saved: import them as a file."
        ]


def test_options_that_records_wait_for_are_counted(boss: Client, people: TwoSystems) -> None:
    people.left.create("person", {"name": "Late", "terms": "now"})
    people.run()
    [one] = boss.get(page("options", people.sync.pk)).context["picklists"]
    counts = {each.option.key: each.count for each in one["list"].unmapped["left"]}
    assert counts == {"n30": 3, "now": 1, "n60": 0}
    text = boss.get(reverse("admin:connectors_fieldmapping_changelist")).content.decode()
    assert ">6</a>" in text and ">4</a>" in text


# Drift


def test_what_vanished_is_told_with_its_date_and_resolved_when_it_is_back(boss: Client, people: TwoSystems) -> None:
    kept = people.right.entities["person"]
    without(people, "right", "city")
    people.left.options["person", "terms"] = people.left.options["person", "terms"][1:]
    PicklistMapping.objects.create(
        field_mapping=FieldMapping.objects.get(left="terms"),
        left_key="n30",
        left_label="Net 30",
        right_key="1",
        token="1",
    )
    look(people)
    text = boss.get(page("editor", people.sync.pk)).content.decode()
    assert "right no longer has the field city (Town) on person." in text
    assert "left no longer has the choice Net 30 of Terms." in text and "Missing in schema" in text
    assert Event.objects.filter(code="schema drift").count() == 2
    first = SchemaDrift.objects.get(kind="field").first_seen
    look(people)
    assert (
        SchemaDrift.objects.get(kind="field").first_seen == first
        and Event.objects.filter(code="schema drift").count() == 2
    )
    people.right.entities["person"] = kept
    look(people)
    assert [row.kind for row in drift.open_drifts(people.integration)] == ["option"]
    assert Event.objects.filter(code="schema drift resolved").count() == 1


def test_types_required_and_read_only_fields_drift_too_and_new_ones_are_pointed_out(
    boss: Client, people: TwoSystems
) -> None:
    changed(people, "right", Field("email", Kind.INTEGER, "E-mail"))
    changed(people, "right", Field("credit", Kind.MONEY, "Credit", scale=2, write=Write.NEVER))
    changed(people, "right", Field("vat", Kind.TEXT, "VAT number", required=True))
    look(people)
    assert {row.kind for row in drift.open_drifts()} == {"type", "read_only", "required"}
    look(people)
    assert drift.open_drifts().count() == 3, "what changed does not heal by being looked at again"
    answer = boss.get(page("editor", people.sync.pk))
    assert [one["name"] for one in answer.context["news"]] == ["vat"] and "New in schema" in answer.content.decode()
    told = sent(answer) | {f"rows-{place(answer, 'credit')}-direction": "to_left"}
    told |= {f"rows-{place(answer, 'email')}-removed": "1"}
    told |= {"rows-50-left": "born", "rows-50-right": "vat", "rows-50-direction": "to_right", "rows-50-when": "always"}
    answer = save(boss, people, told)
    assert answer.status_code == 302, [s.form.errors for s in answer.context["rows"]]
    assert not drift.open_drifts().exists(), "no mapping stands on it any more"


def test_a_drift_is_put_aside_by_a_person_and_told_again_when_it_comes_again(boss: Client, people: TwoSystems) -> None:
    kept = people.right.entities["person"]
    without(people, "right", "city")
    look(people)
    row = SchemaDrift.objects.get()
    assert boss.post(page("drift_seen", row.pk)).status_code == 302
    look(people)
    assert not drift.open_drifts().exists()
    people.right.entities["person"] = kept
    look(people)
    without(people, "right", "city")
    look(people)
    assert drift.open_drifts().count() == 1


def test_a_system_that_does_not_answer_has_lost_nothing(people: TwoSystems, monkeypatch: pytest.MonkeyPatch) -> None:
    from connectors.contract import RetryableError
    from connectors.memory.connector import Memory

    def away(self: Memory) -> Any:
        raise RetryableError("It does not answer.")

    monkeypatch.setattr(Memory, "describe", away)
    look(people)
    assert not SchemaDrift.objects.exists()
    assert drafts.stored(people.integration).known
    assert not drift.look_if_due(people.integration, {}, clock.now()), "asked within the hour"


# Rights and cost


@pytest.mark.parametrize("group", ["Viewer", "Operator"])
def test_only_administrators_change_anything(client: Client, people: TwoSystems, group: str) -> None:
    user = User.objects.create_user("ada", password="a long enough secret", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client.force_login(user)
    people.run()
    without(people, "right", "city")
    look(people)
    answer = client.get(page("editor", people.sync.pk))
    assert answer.status_code == 200
    assert (
        "data-add" not in answer.content.decode() and "Only administrators change mappings" in answer.content.decode()
    )
    told = {**sent(answer), "rows-1-direction": "to_left"}
    row = SchemaDrift.objects.get()
    before = (drafts.rows_of(people.sync), PicklistMapping.objects.count())
    mapping = FieldMapping.objects.get(left="terms").pk
    for url, data in (
        (page("editor", people.sync.pk), told), (page("drift_seen", row.pk), {}),
        (page("options", people.sync.pk), {"mapping": mapping, "left_key": "n30", "right_key": "1", "revision": 1}),
        (page("import", people.sync.pk), {"what": "fields", "text": "Left field,Right field\n"}),
        (page("import", people.sync.pk), {"what": "options", "text": "Left field,Right field\n"}),
        (reverse("admin:connectors_fieldmapping_change", args=[mapping]), told),
    ):  # fmt: skip
        assert client.post(url, data).status_code == 403, url
    assert (drafts.rows_of(people.sync), PicklistMapping.objects.count()) == before
    asks = 302 if group == "Operator" else 403
    assert client.post(page("schema", people.sync.pk)).status_code == asks
    link = RecordLink.objects.first()
    assert link is not None
    tried = client.post(page("try", people.sync.pk), {**sent(answer), "record": str(link.pk)})
    assert tried.status_code == (200 if group == "Operator" else 403)
    assert client.get(page("schema", people.sync.pk)).status_code == 405


def test_pages_cost_the_same_with_more_records_and_mappings(boss: Client, people: TwoSystems) -> None:
    people.run()
    urls = [
        reverse("admin:connectors_fieldmapping_changelist"),
        page("editor", people.sync.pk),
        page("options", people.sync.pk),
    ]

    def cost() -> list[int]:
        found = []
        for url in urls:
            boss.get(url)
            with CaptureQueriesContext(
                connection,
            ) as queries:
                assert boss.get(url).status_code == 200
            found.append(len(queries))
        return found

    few = cost()
    more_of(people, RecordLink, 1000)
    FieldMapping.objects.bulk_create(
        FieldMapping(entity_sync=people.sync, position=10 + n, left=f"l{n}", right=f"r{n}") for n in range(100)
    )
    mapping = FieldMapping.objects.get(left="terms")
    PicklistMapping.objects.bulk_create(
        PicklistMapping(field_mapping=mapping, left_key=f"a{n}", right_key=f"b{n}", token=f"b{n}") for n in range(100)
    )
    assert cost() == few


def test_hostile_names_are_shown_as_text(boss: Client, people: TwoSystems) -> None:
    hostile = "<script>alert(1)</script>"
    changed(people, "right", Field("bad", Kind.TEXT, hostile))
    people.left.put("person", next(iter(people.left.tables["person"])), {"name": hostile})
    look(people)
    people.run()
    for name in ("editor", "options", "import"):
        text = boss.get(page(name, people.sync.pk)).content.decode()
        assert hostile not in text, name
    found = re.search(
        r'<script id="sl-fields" type="application/json">(.*?)</script>',
        boss.get(page("editor", people.sync.pk)).content.decode(),
    )
    assert found is not None
    assert any(one["label"] == hostile for one in json.loads(found[1])["right"])
