"""Does what is exported come back as no difference, and is a file taken only as it was previewed?"""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.models import FieldMapping, Integration, PicklistMapping
from connectors.sync import drafts, mapping_files
from connectors.sync.mapping_files import FORMULA, guarded, unguarded
from connectors.sync.run import mark_settings_changed
from connectors.sync.schema import stored
from tests.admin.mapped import mapped_world
from tests.sync.worlds import TwoSystems

TEXTS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)
ROWS = st.builds(
    drafts.Row,
    left=st.just("email"),
    right=st.just("description"),
    direction=st.sampled_from(list(drafts.DIRECTIONS)),
    policy=st.sampled_from(list(drafts.POLICIES)),
    args=st.dictionaries(TEXTS, st.one_of(TEXTS, st.integers(), st.lists(TEXTS, max_size=2)), max_size=2),
    when=st.sampled_from(list(drafts.WHENS)),
    guard=st.sampled_from(list(drafts.GUARDS)),
    required=st.booleans(),
    unmapped=st.sampled_from([*drafts.UNMAPPED, ""]),
    default=TEXTS.map(str.strip).filter(bool),
)


@pytest.fixture
def people(db: None) -> TwoSystems:
    world = mapped_world()
    mapping = FieldMapping.objects.get(left="terms")
    for left, right in (("n30", "1"), ("n60", "2")):
        PicklistMapping.objects.create(
            field_mapping=mapping,
            left_key=left,
            left_label=f"={left}",
            right_key=right,
            right_label="-1+2",
            token=right,
        )
    FieldMapping.objects.create(
        entity_sync=world.sync, position=9, left="@notes", right="description", direction="to_right"
    )
    return world


def upload(client: Client, world: TwoSystems, text: str | bytes, **more: str) -> Any:
    raw = text.encode() if isinstance(text, str) else text
    url = reverse("admin:connectors_mapping_import", args=[world.sync.pk])
    return client.post(url, {"what": "fields", "file": SimpleUploadedFile("m.csv", raw), **more})


def confirm(client: Client, world: TwoSystems, answer: Any, **more: str) -> Any:
    told = {
        "what": answer.context["what"], "text": answer.context["text"], "remove": "1" if answer.context["remove"] else "",
        "confirmed": answer.context["difference"].print,
    }  # fmt: skip
    return client.post(reverse("admin:connectors_mapping_import", args=[world.sync.pk]), {**told, **more})


# Round trip


@given(st.text(max_size=20))
@settings(deadline=None)
def test_a_guarded_cell_is_never_a_formula_and_comes_back_exactly(text: str) -> None:
    assert unguarded(guarded(text)) == text
    assert not guarded(text).startswith(FORMULA[:-1])


@pytest.mark.parametrize("what", ["fields", "options"])
@pytest.mark.parametrize("remove", [False, True])
def test_what_was_exported_changes_nothing(people: TwoSystems, what: str, remove: bool) -> None:
    text = mapping_files.export(people.sync, what)
    found = mapping_files.read(people.sync, what, text, stored(people.integration), remove=remove, revision=1)
    assert (found.faults, found.something, found.left_alone) == ([], False, [])
    assert found.unchanged == (7 if what == "fields" else 2)
    assert all(not cell.startswith(FORMULA[:-1]) for line in csv.reader(io.StringIO(text)) for cell in line)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(row=ROWS)
def test_any_mapping_survives_the_way_out_and_back(people: TwoSystems, row: drafts.Row) -> None:
    FieldMapping.objects.filter(entity_sync=people.sync).exclude(left="name").delete()
    FieldMapping.objects.create(entity_sync=people.sync, position=1, **{n: getattr(row, n) for n in drafts.COLUMNS})
    text = mapping_files.export(people.sync, "fields")
    found = mapping_files.read(people.sync, "fields", text, stored(people.integration), remove=True, revision=1)
    assert not found.something and found.unchanged == 2
    assert drafts.differences(drafts.rows_of(people.sync), found.rows) == []


# Preview and confirmation


def test_a_file_is_previewed_and_then_taken_as_it_was_previewed(boss: Client, people: TwoSystems) -> None:
    text = (
        "Left field,Right field,Direction,Required\n"
        "name,name,Both ways,yes\n"
        "city,city,Left to right,no\n"
        "BillAddr.PostalCode,address1_postalcode,both,no\n"
    )
    answer = upload(boss, people, text, remove="")
    found = answer.context["difference"]
    assert found.added == ["BillAddr.PostalCode ↔ address1_postalcode"]
    assert found.changed == [("city → city", ["Direction: Both ways → Left to right"])]
    assert (found.removed, found.unchanged, len(found.left_alone)) == ([], 1, 5)
    assert FieldMapping.objects.get(left="city").direction == "both", "a preview changes nothing"
    revision = Integration.objects.get().revision
    assert confirm(boss, people, answer).status_code == 302
    assert FieldMapping.objects.get(left="city").direction == "to_right"
    assert FieldMapping.objects.filter(left="BillAddr.PostalCode").exists() and FieldMapping.objects.count() == 8
    assert Integration.objects.get().revision == revision + 1
    assert FieldMapping.history.filter(left="city").first().history_change_reason == "Imported from CSV"


def test_what_the_file_does_not_have_is_removed_only_when_asked(boss: Client, people: TwoSystems) -> None:
    answer = upload(boss, people, "Left field;Right field;Required\nname;name;yes\n", remove="1")
    assert len(answer.context["difference"].removed) == 6
    assert confirm(boss, people, answer).status_code == 302
    assert [row.left for row in drafts.rows_of(people.sync)] == ["name"]


def test_a_confirmation_of_another_file_or_of_older_settings_is_refused(boss: Client, people: TwoSystems) -> None:
    head = "Left field,Right field,Direction\nname,name,both\n"
    answer = upload(boss, people, head + "city,city,to_right\n")
    other = confirm(boss, people, answer, text=head + "city,city,to_left\n")
    assert other.status_code == 409
    assert confirm(boss, people, answer, remove="1").status_code == 409
    mark_settings_changed(people.integration, people.sync)
    stale = confirm(boss, people, answer)
    assert stale.status_code == 409 and "Nothing was saved" in stale.content.decode()
    assert FieldMapping.objects.get(left="city").direction == "both"
    assert confirm(boss, people, stale).status_code == 302


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("Left field,Direction\nname,both\n", 1, "Right field", "no column"),
        ("Left field,Right field,Colour\nname,name,red\n", 1, "Colour", "no such column"),
        ("Left field,Right field,Direction\ncity,city,up\n", 2, "Direction", "is none of"),
        ("Left field,Right field,Required\nname,name,yes\ncity,city,perhaps\n", 3, "Required", "neither yes nor no"),
        ("Left field,Right field\nname,name\nnothing,city\n", 3, "Left field", "no field 'nothing'"),
        ("Left field,Right field,Settings of the transform\ncity,city,[\n", 2, "Settings of the transform", "no JSON"),
        ("Left field,Right field\ncity,city\ncity,city\n", 3, "Right field", "mapped already"),
        ("", 1, "Left field", "no column"),
        (b"\x00\x01\x02", 0, "", "no text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_line_and_column(
    boss: Client, people: TwoSystems, text: str | bytes, line: int, column: str, words: str
) -> None:
    answer = upload(boss, people, text)
    faults = answer.context["difference"].faults
    assert answer.status_code == 400
    assert any((f.line, f.column) == (line, column) and words in f.message for f in faults), faults
    assert confirm(boss, people, answer).status_code == 400
    assert FieldMapping.objects.count() == 7


def test_options_come_in_too(boss: Client, people: TwoSystems) -> None:
    head = "Left field,Right field,Left key,Right key\n"
    answer = upload(boss, people, head + "terms,paymentterms,now,9\nname,city,a,b\nx,y,a,b\n", what="options")
    told = [(f.line, f.message) for f in answer.context["difference"].faults]
    assert told[0] == (4, "x and y are not mapped here.") or (3, "name and city are not mapped here.") in told
    assert (2, "right has no choice '9' of paymentterms.") in told
    answer = upload(
        boss, people, head + "terms,paymentterms,now,3\nterms,paymentterms,n30,1\n", what="options", remove="1"
    )
    found = answer.context["difference"]
    assert found.added == ["terms = paymentterms: Due on receipt = 2% 10, Net 30"]
    assert len(found.removed) == 1 and found.unchanged == 1
    assert confirm(boss, people, answer).status_code == 302
    assert sorted(PicklistMapping.objects.values_list("left_key", flat=True)) == ["n30", "now"]


# The command


def told(*args: object) -> str:
    out = io.StringIO()
    call_command("mappings", *args, stdout=out, stderr=out)
    return out.getvalue()


def test_the_command_does_all_of_it(people: TwoSystems, tmp_path: Any) -> None:
    people.left.create("person", {"name": "Ada", "city": "Paris"})
    people.run()
    where = ("both", "person")
    assert "name ↔ name  Compatible" in told("list", *where)
    assert "BillAddr.PostalCode = address1_postalcode" in told("propose", *where)
    assert "to the right: Ada → Ada" in told("test", *where, "Ada")
    assert "without partner on the left: Due on receipt" in told("options", *where)
    assert "0 things changed" in told("drift", *where) and "10 fields" in told("schema", *where)
    path = tmp_path / "m.csv"
    told("export", *where, "--file", str(path))
    assert "what is there already" in told("import", *where, "--file", str(path))
    path.write_text(path.read_text().replace("city,city,Both ways", "city,city,Left to right"))
    assert "Nothing was changed." in told("import", *where, "--file", str(path), "--dry-run")
    assert FieldMapping.objects.get(left="city").direction == "both"
    assert "~ city → city" in told("import", *where, "--file", str(path))
    assert FieldMapping.objects.get(left="city").direction == "to_right"
    path.write_text("Left field,Right field,Direction\ncity,city,up\n")
    with pytest.raises(CommandError, match="1 things to correct"):
        told("import", *where, "--file", str(path))
    with pytest.raises(CommandError, match="It has: person"):
        told("list", "both", "nobody")
