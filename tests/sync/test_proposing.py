"""Are proposals fields that look and are the same, each at most once, and never a field that can't hold the other's values?"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.contract import Field, Kind, Option, Write
from connectors.sync.fitting import COMPATIBLE, LOSSY, MISSING, READ_ONLY, UNFIT, fit, pairing
from connectors.sync.optioning import PairRow, problems_of, settle
from connectors.sync.proposing import LEAST, propose, propose_options, similarity

NAMES = st.sampled_from(
    ["Name", "name", "Email", "emailaddress1", "BillAddr.City", "address1_city", "ShipAddr.City", "address2_city", "Fax",
     "fax", "Phone", "telephone1", "Line1", "line2", "Total", "syn_total", "x"]
)  # fmt: skip
FIELDS = st.lists(
    st.builds(Field, NAMES, st.sampled_from(Kind), st.sampled_from(["", "Name", "City", "Fax"]), st.sampled_from(Write)),
    max_size=9, unique_by=lambda own: own.name,
)  # fmt: skip


calmly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def text(name: str, label: str = "", **more: object) -> Field:
    return Field(name, Kind.TEXT, label, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("city", "City"), ("BillAddr.PostalCode", "bill_addr_zip"), ("GivenName", "firstname"), ("syn_amount", "Amount"),
        ("PrimaryEmailAddr", "EMail_Address"), ("Fax", "fax"),
    ],
)  # fmt: skip
def test_equal_names_are_proposed_whatever_the_spelling(left: str, right: str) -> None:
    [found] = propose([text(left)], [text(right)], [])
    assert (found.left, found.right, found.direction) == (left, right, "both")
    assert found.similarity >= LEAST and found.reason


@pytest.mark.parametrize(("left", "right"), [("Line1", "line2"), ("address1_city", "address2_city"), ("Name", "Fax")])
def test_what_only_looks_alike_is_not_proposed(left: str, right: str) -> None:
    assert propose([text(left)], [text(right)], []) == []


def test_a_label_tells_what_a_name_does_not() -> None:
    [found] = propose([text("Custom17", "Delivery note")], [text("new_x4711", "Delivery note")], [])
    assert (found.similarity, found.reason) == (100, "Same label, same type.")


def test_of_two_that_are_equally_alike_the_one_of_the_same_type_is_taken() -> None:
    left = [text("total")]
    right = [Field("total_", Kind.INTEGER), text("Total")]
    assert [p.right for p in propose(left, right, [])] == ["Total"]


def test_a_read_only_side_gives_a_one_way_proposal_and_a_loss_is_told() -> None:
    [found] = propose([text("memo", write=Write.NEVER)], [text("Memo", max_length=10)], [])
    assert found.direction == "to_right"
    assert "at most 10" in found.warning


@calmly
@given(FIELDS, FIELDS, st.lists(st.tuples(NAMES, NAMES), max_size=3))
def test_each_field_is_proposed_once_and_none_that_is_mapped_or_unfit(
    left: list[Field], right: list[Field], mapped: list[tuple[str, str]]
) -> None:
    found = propose(left, right, mapped)
    for side in ("left", "right"):
        names = [getattr(p, side) for p in found]
        assert len(names) == len(set(names))
    lefts, rights = {f.name: f for f in left}, {f.name: f for f in right}
    for proposal in found:
        one, other = lefts[proposal.left], rights[proposal.right]
        assert proposal.left not in {a for a, _ in mapped} and proposal.right not in {b for _, b in mapped}
        assert pairing(one.kind, other.kind)[0] != UNFIT
        assert similarity(one, other)[0] >= LEAST
        judged = fit(one, other, names=(one.name, other.name), direction=proposal.direction)
        assert judged.word in (COMPATIBLE, LOSSY), judged
    assert found == propose(left, right, mapped)
    assert propose(left, right, [*mapped, *((p.left, p.right) for p in found)]) == [
        p for p in propose(left, right, [*mapped, *((p.left, p.right) for p in found)])
        if p.left not in {q.left for q in found}
    ]  # fmt: skip


def test_options_are_proposed_by_label_and_numbers_are_no_misspellings() -> None:
    left = [
        Option("a", "Net 30"),
        Option("b", "Due on receipt"),
        Option("c", "Net 15"),
        Option("d", "Old", active=False),
    ]
    right = [Option("1", "net-30"), Option("2", "Net 45"), Option("3", "Due on reciept"), Option("4", "Old")]
    found = propose_options(left, right, [])
    assert [(p.left.key, p.right.key) for p in found] == [("a", "1"), ("b", "3")]
    assert found[0].similarity == 100 > found[1].similarity
    assert propose_options(left, right, [("a", "1"), ("b", "3")]) == []


# Fit


def test_a_fit_is_told_in_one_word_with_its_reason() -> None:
    plain, short = text("a"), text("b", max_length=10)
    names = ("a", "b")
    assert fit(plain, plain, names=names).word == COMPATIBLE
    assert fit(plain, short, names=names).word == LOSSY
    assert fit(plain, short, names=names, direction="to_left").word == COMPATIBLE
    assert fit(plain, short, names=names, transform="truncate").word == COMPATIBLE
    assert fit(plain, None, names=names).word == MISSING
    computed = text("b", write=Write.NEVER)
    assert fit(plain, computed, names=names).word == READ_ONLY
    assert fit(plain, computed, names=names, direction="to_left").word == COMPATIBLE
    assert fit(plain, Field("b", Kind.REF), names=names).word == UNFIT
    assert fit(plain, Field("b", Kind.INTEGER), names=names).word == LOSSY


@calmly
@given(st.sampled_from(Kind), st.sampled_from(Kind))
def test_whether_two_kinds_fit_does_not_depend_on_the_side(left: Kind, right: Kind) -> None:
    assert (pairing(left, right)[0] == UNFIT) == (pairing(right, left)[0] == UNFIT)
    assert pairing(left, left)[0] == COMPATIBLE


# Pairs of options

PAIRS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz")), max_size=8, unique=True).map(
    lambda found: [PairRow(a, b) for a, b in found]
)


@calmly
@given(PAIRS)
def test_of_options_that_share_a_partner_one_is_written_and_all_mean_the_same(pairs: list[PairRow]) -> None:
    settled = settle(pairs)
    assert problems_of(settled, "park", "") == {}
    for key, writes in (("right_key", "writes_left"), ("left_key", "writes_right")):
        for value in {getattr(row, key) for row in settled}:
            assert sum(bool(getattr(row, writes)) for row in settled if getattr(row, key) == value) == 1
    assert settle(settled) == settled
    assert all(row.token for row in settled)


def test_two_left_options_of_one_right_option_agree_with_each_other() -> None:
    first, second = settle([PairRow("a", "x"), PairRow("b", "x")])
    assert first.token == second.token == "x"
    assert (first.writes_left, second.writes_left) == (True, False)
    assert first.writes_right and second.writes_right
