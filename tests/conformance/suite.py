"""What must every connector do, whatever system it speaks?  A subclass supplies four fixtures; the rest is here."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from connectors.contract import (
    Batch,
    Connector,
    Entity,
    Fetched,
    Field,
    Gone,
    Kind,
    Lock,
    Operation,
    Outcome,
    Page,
    Record,
    Ref,
    Removal,
    Result,
    Returns,
    Row,
    Safe,
    Value,
    Values,
    Verb,
    Write,
)

TYPES: dict[Kind, type | tuple[type, ...]] = {
    Kind.TEXT: str,
    Kind.HTML: str,
    Kind.INTEGER: int,
    Kind.DECIMAL: Decimal,
    Kind.MONEY: Decimal,
    Kind.BOOLEAN: bool,
    Kind.DATE: date,
    Kind.DATETIME: datetime,
    Kind.OPTION: str,
    Kind.OPTIONS: frozenset,
    Kind.REF: Ref,
    Kind.ROWS: tuple,
}
LONGEST_TRIED = 100_000  # characters; a limit beyond is not tried


@dataclass
class Heard:
    """All that one round of a feed told of one entity."""

    records: dict[str, Record] = field(default_factory=dict)
    gone: dict[str, Gone] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    cursors: list[str] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)

    @property
    def ids(self) -> set[str]:
        return {*self.records, *self.touched}


def hear(connector: Connector, entity: Entity, cursor: str | None, scope: str = "") -> Heard:
    """Read a feed to the end of its round."""
    heard = Heard()
    for page in connector.changes(entity.feed, {entity.name: fields_of(entity)}, cursor, scope):
        assert not (heard.pages and heard.pages[-1].last), "a page came after the last one"
        heard.pages.append(page)
        heard.cursors.append(page.cursor)
        heard.records |= {r.id: r for r in page.records if r.entity == entity.name}
        heard.gone |= {g.id: g for g in page.gone if g.entity == entity.name}
        heard.touched |= {record_id for name, record_id in page.touched if name == entity.name}
    assert heard.pages and heard.pages[-1].last, "a round must end with a page that says `last`"
    return heard


def fields_of(entity: Entity) -> frozenset[str]:
    """Return the fields that come by the feed and by fetch."""
    return frozenset(f.name for f in entity.fields if not f.group)


def creating(entity: Entity, values: Values, key: str = "") -> Operation:
    """Make a create; where we choose the id, with one."""
    record_id = str(uuid.uuid4()) if entity.safe is Safe.CLIENT_ID else ""
    return Operation(key or uuid.uuid4().hex, Verb.CREATE, entity.name, record_id, values)


def changing(entity: Entity, record: Record, verb: Verb, values: Values | None = None) -> Operation:
    """Make a write that was planned on this very version of a record."""
    current = record if entity.wants_current else None
    return Operation(uuid.uuid4().hex, verb, entity.name, record.id, values or {}, record.version, current)


def send(connector: Connector, *operations: Operation) -> dict[str, Outcome]:
    """Send one batch and return its outcomes by key: each item exactly once, no others."""
    outcomes = connector.write(Batch(uuid.uuid4().hex, operations))
    keys = [outcome.key for outcome in outcomes]
    assert sorted(keys) == sorted(operation.key for operation in operations)
    return {outcome.key: outcome for outcome in outcomes}


def same(sent: Value, got: Value) -> bool:
    """Compare as the engine does: a reference by id, rows by what was said of them, all else by value."""
    if isinstance(sent, Ref) and isinstance(got, Ref):
        return sent.entity == got.entity and (sent.id == got.id if sent.id else sent.label == got.label)
    if isinstance(sent, tuple) and isinstance(got, tuple):
        return len(sent) == len(got) and all(
            all(same(value, theirs.values.get(name)) for name, value in ours.values.items())
            for ours, theirs in zip(sent, got, strict=True)
        )
    return sent == got


def assert_values(expected: Values, found: Values) -> None:
    """Assert that every expected value was found."""
    differing = {n: (v, found.get(n, "no key")) for n, v in expected.items() if n not in found or not same(v, found[n])}
    assert not differing, f"(sent, got): {differing}"


def assert_kinds(fields: Iterable[Field], values: Values, where: str) -> None:
    """Assert that each value is of its declared kind, rows included."""
    declared = {f.name: f for f in fields}
    for name, value in values.items():
        assert name in declared, f"{where}: {name} is not declared"
        wanted = declared[name]
        if value is None:
            continue
        assert isinstance(value, TYPES[wanted.kind]), f"{where}: {name} is {type(value).__name__}, not {wanted.kind}"
        if wanted.kind is Kind.INTEGER:
            assert not isinstance(value, bool), f"{where}: {name} is a bool"
        if wanted.kind is Kind.DATE:
            assert not isinstance(value, datetime), f"{where}: {name} has a time"
        if isinstance(value, datetime):
            assert value.utcoffset() == timedelta(0), f"{where}: {name} is not in UTC"
        if wanted.kind in {Kind.TEXT, Kind.OPTION}:
            assert value != "", f"{where}: {name} is empty text where None is meant"
        if isinstance(value, Ref):
            assert not wanted.refers_to or value.entity in wanted.refers_to, f"{where}: {name} leads to {value.entity}"
        if isinstance(value, tuple):
            for row in value:
                assert isinstance(row, Row)
                assert_kinds(wanted.rows, row.values, f"{where}.{name}")


class ConnectorConformance:
    """What every connector must do.

    A subclass supplies the fixtures `connector`, `entity` (a name), `sample` (values for a create that the system
    stores as they are, with all required fields) and `other` (values for an edit, each different from the sample's).
    It should also supply `new_connector`, a callable that returns another instance for the same system, and may
    replace `variant` and `unknown_id`.  What an entity declares decides which tests apply to it.
    """

    # What a subclass may replace

    @pytest.fixture
    def new_connector(self, connector: Connector) -> Callable[[], Connector]:
        """Another instance for the same system.  Without one, resuming is only tried within the same instance."""
        return lambda: connector

    @pytest.fixture
    def declared(self, connector: Connector, entity: str) -> Entity:
        return next(e for e in connector.describe() if e.name == entity)

    def variant(self, entity: Entity, sample: Values, number: int) -> dict[str, Value]:
        """Return values for one more record; findable texts differ, since many systems allow a name only once."""
        values = dict(sample)
        for f in entity.fields:
            text = values.get(f.name)
            if f.findable and isinstance(text, str):
                values[f.name] = f"{number}{text}" if "@" in text else f"{text} {number}"
        return values

    def unknown_id(self, entity: Entity) -> str:
        """Return an id that is well-formed and nobody's."""
        return str(uuid.uuid4()) if entity.safe is Safe.CLIENT_ID else "999999999"

    # Helpers

    def fetch_one(self, connector: Connector, entity: Entity, record_id: str) -> Record:
        fetched = connector.fetch(entity.name, [record_id], fields_of(entity))
        assert [r.id for r in fetched.records] == [record_id], f"not readable: {fetched}"
        return fetched.records[0]

    def make(self, connector: Connector, entity: Entity, values: Values) -> Record:
        if Verb.CREATE not in entity.verbs:
            pytest.skip(f"{entity.name} can't be created")
        operation = creating(entity, values)
        outcome = send(connector, operation)[operation.key]
        assert outcome.result is Result.WRITTEN, outcome
        assert outcome.id
        return self.fetch_one(connector, entity, outcome.id)

    def need(self, entity: Entity, *verbs: Verb) -> None:
        lacking = [verb for verb in verbs if verb not in entity.verbs]
        if lacking:
            pytest.skip(f"{entity.name} does not declare {', '.join(lacking)}")

    # Declarations

    def test_check_says_who_we_are_and_says_it_again(self, connector: Connector) -> None:
        first, second = connector.check(), connector.check()
        assert first.instance and first.account
        assert (first.instance, first.account, first.schema) == (second.instance, second.account, second.schema)
        assert set(first.may) <= {e.name for e in connector.describe()}
        assert first.clock is None or first.clock.utcoffset() is not None

    def test_declarations_are_consistent(self, connector: Connector) -> None:
        entities = connector.describe()
        names = [e.name for e in entities]
        assert len(set(names)) == len(names)
        for e in entities:
            fields = [f.name for f in e.fields]
            assert len(set(fields)) == len(fields), f"{e.name} has a field twice"
            assert e.feed and e.batch >= 1 and e.page >= 1, e.name
            assert set(e.after) <= set(names), f"{e.name} comes after an entity that is not there"
            assert e.resolution >= timedelta(0)

    def test_declared_verbs_fit_the_declared_removal(self, connector: Connector) -> None:
        for e in connector.describe():
            if e.removal is Removal.NONE:
                assert not e.verbs & {Verb.DELETE, Verb.ARCHIVE}, e.name
            if Verb.DELETE in e.verbs:
                assert e.removal in {Removal.DELETE, Removal.VOID}, e.name
            if Verb.RESTORE in e.verbs:
                assert Verb.ARCHIVE in e.verbs or e.removal is Removal.DELETE, e.name

    def test_fields_declare_what_their_kind_needs(self, connector: Connector) -> None:
        for e in connector.describe():
            for f in e.fields:
                assert bool(f.rows) == (f.kind is Kind.ROWS), f"{e.name}.{f.name}"
                assert f.kind is not Kind.REF or f.refers_to, f"{e.name}.{f.name} refers to nothing"
                assert f.max_length is None or f.max_length > 0
                assert not f.options_by or e.field(f.options_by), (
                    f"{e.name}.{f.name} depends on a field that is not there"
                )

    def test_a_repeat_that_must_be_looked_for_can_be_looked_for(self, connector: Connector) -> None:
        for e in connector.describe():
            if e.safe is Safe.FIND and Verb.CREATE in e.verbs:
                marked = e.field(e.marker) if e.marker else None
                assert (marked and marked.findable) or any(f.findable for f in e.fields), e.name

    def test_limits_have_one_name_each(self, connector: Connector) -> None:
        names = [limit.name for limit in connector.limits]
        assert len(set(names)) == len(names)
        assert all(limit.amount > 0 for limit in connector.limits)

    def test_options_have_one_key_each_and_hold_what_the_sample_uses(
        self, connector: Connector, declared: Entity, sample: Values
    ) -> None:
        for f in declared.fields:
            if f.kind not in {Kind.OPTION, Kind.OPTIONS} or f.options_by:
                continue
            keys = [option.key for option in connector.options(declared.name, f.name)]
            assert keys and len(set(keys)) == len(keys), f.name
            value = sample.get(f.name)
            used = {value} if isinstance(value, str) else set(value) if isinstance(value, frozenset) else set()
            assert used <= set(keys), f.name

    # Writing

    def test_what_was_created_is_read_back(self, connector: Connector, declared: Entity, sample: Values) -> None:
        assert_values(sample, self.make(connector, declared, sample).values)

    def test_a_write_answers_what_it_declares(self, connector: Connector, declared: Entity, sample: Values) -> None:
        self.need(declared, Verb.CREATE)
        operation = creating(declared, sample)
        outcome = send(connector, operation)[operation.key]
        read = self.fetch_one(connector, declared, outcome.id)
        if declared.safe is Safe.CLIENT_ID:
            assert outcome.id == operation.id
        if declared.returns is Returns.ID:
            assert outcome.id
            return
        assert outcome.version == read.version
        if declared.returns is Returns.VALUES:
            assert outcome.values is not None
            assert_kinds(declared.fields, outcome.values, "outcome")
            assert_values(sample, outcome.values)

    def test_an_update_changes_the_given_fields_only(
        self, connector: Connector, declared: Entity, sample: Values, other: Values
    ) -> None:
        self.need(declared, Verb.UPDATE)
        record = self.make(connector, declared, sample)
        for name, value in other.items():
            assert not same(value, record.values.get(name)), f"`other` must differ from the sample in {name}"
            operation = changing(declared, record, Verb.UPDATE, {name: value})
            assert send(connector, operation)[operation.key].result is Result.WRITTEN
            before, record = record, self.fetch_one(connector, declared, record.id)
            untouched = {k: v for k, v in before.values.items() if k in sample and k != name}
            assert_values({name: value, **untouched}, record.values)
            if declared.lock is Lock.NATIVE:
                assert record.version != before.version

    def test_a_field_can_be_emptied(self, connector: Connector, declared: Entity, sample: Values) -> None:
        """None is written as "empty", a missing key is left alone."""
        self.need(declared, Verb.UPDATE)
        emptied = [
            f.name
            for f in declared.fields
            if sample.get(f.name) is not None
            and f.kind is Kind.TEXT
            and f.write is Write.ALWAYS
            and not f.required
            and not f.findable
        ]
        if not emptied:
            pytest.skip("the sample holds no optional text")
        record = self.make(connector, declared, sample)
        operation = changing(declared, record, Verb.UPDATE, {emptied[0]: None})
        assert send(connector, operation)[operation.key].result is Result.WRITTEN
        read = self.fetch_one(connector, declared, record.id)
        assert emptied[0] in read.values and read.values[emptied[0]] is None
        assert_values({name: sample[name] for name in emptied[1:]}, read.values)

    def test_a_stale_version_is_refused(
        self, connector: Connector, declared: Entity, sample: Values, other: Values
    ) -> None:
        self.need(declared, Verb.UPDATE)
        if declared.lock is not Lock.NATIVE:
            pytest.skip("the engine reads again before it writes")
        record = self.make(connector, declared, sample)
        first, late = (changing(declared, record, Verb.UPDATE, dict(other)) for _ in range(2))
        assert send(connector, first)[first.key].result is Result.WRITTEN
        present = self.fetch_one(connector, declared, record.id)
        assert send(connector, late)[late.key].result is Result.CONFLICT
        assert self.fetch_one(connector, declared, record.id).version == present.version

    def test_a_repeated_batch_makes_no_second_record(
        self, connector: Connector, declared: Entity, sample: Values, new_connector: Callable[[], Connector]
    ) -> None:
        self.need(declared, Verb.CREATE)
        before = hear(connector, declared, None).ids
        batch = Batch(uuid.uuid4().hex, [creating(declared, sample)])
        [first] = connector.write(batch)
        assert first.result is Result.WRITTEN
        if declared.safe is Safe.FIND:
            # The engine looks before it repeats: what it looks by must lead to the record, and to no other.
            name = declared.marker or next(f.name for f in declared.fields if f.findable and sample.get(f.name))
            read = self.fetch_one(connector, declared, first.id)
            wanted = read.marker or str(read.values[name])
            assert [r.id for r in new_connector().find(declared.name, name, [wanted])] == [first.id]
        else:
            [again] = new_connector().write(batch)
            assert again.result in {Result.WRITTEN, Result.EXISTS}
            assert again.id == first.id
        assert hear(connector, declared, None).ids - before == {first.id}

    def test_outcomes_of_a_mixed_batch_stand_alone(
        self, connector: Connector, declared: Entity, sample: Values, other: Values
    ) -> None:
        self.need(declared, Verb.CREATE, Verb.UPDATE)
        record = self.make(connector, declared, sample)
        unknown = Record(declared.name, self.unknown_id(declared), record.values, record.version)
        good = creating(declared, self.variant(declared, sample, 1))
        bad = changing(declared, unknown, Verb.UPDATE, dict(other))
        fine = changing(declared, record, Verb.UPDATE, dict(other))
        found: dict[str, Outcome] = {}
        operations = [good, bad, fine]
        for start in range(0, len(operations), declared.batch):
            found |= send(connector, *operations[start : start + declared.batch])
        assert [found[o.key].result for o in operations] == [Result.WRITTEN, Result.GONE, Result.WRITTEN]
        assert_values(good.values, self.fetch_one(connector, declared, found[good.key].id).values)
        assert_values(other, self.fetch_one(connector, declared, record.id).values)

    def test_a_value_that_is_too_long_is_rejected_by_its_field(
        self, connector: Connector, declared: Entity, sample: Values
    ) -> None:
        self.need(declared, Verb.CREATE)
        tried = 0
        for f in declared.fields:
            value = sample.get(f.name)
            if not (isinstance(value, str) and f.kind is Kind.TEXT and f.max_length and f.max_length < LONGEST_TRIED):
                continue
            tried += 1
            long = value + "x" * (f.max_length + 1 - len(value))
            operation = creating(declared, {**self.variant(declared, sample, tried), f.name: long})
            outcome = send(connector, operation)[operation.key]
            assert (outcome.result, outcome.field) == (Result.REJECTED, f.name), outcome
            assert outcome.message
        if not tried:
            pytest.skip("the sample holds no text with a limit")

    # Reading

    def test_an_unknown_id_is_gone(self, connector: Connector, declared: Entity, other: Values) -> None:
        unknown = self.unknown_id(declared)
        fetched = connector.fetch(declared.name, [unknown], fields_of(declared))
        assert ([g.id for g in fetched.gone], list(fetched.records), list(fetched.hidden)) == ([unknown], [], [])

    def test_fetch_answers_for_each_id_once(self, connector: Connector, declared: Entity, sample: Values) -> None:
        made = [self.make(connector, declared, self.variant(declared, sample, n)) for n in range(3)]
        asked = [*(r.id for r in made), self.unknown_id(declared)]
        fetched: Fetched = connector.fetch(declared.name, asked, fields_of(declared))
        told = [*(r.id for r in fetched.records), *(g.id for g in fetched.gone), *fetched.hidden]
        assert sorted(told) == sorted(asked)

    def test_a_record_holds_wanted_fields_only_and_says_when_one_is_empty(
        self, connector: Connector, declared: Entity, sample: Values
    ) -> None:
        record = self.make(connector, declared, sample)
        assert set(record.values) == fields_of(declared), "fetch tells each wanted field; None when it is empty"
        one = frozenset(sorted(fields_of(declared) & set(sample))[:1])
        [narrow] = connector.fetch(declared.name, [record.id], one).records
        assert set(narrow.values) <= one
        wanted: Mapping[str, frozenset[str]] = {declared.name: one}
        for page in connector.changes(declared.feed, wanted, None):
            for listed in page.records:
                assert listed.entity == declared.name and set(listed.values) <= one

    def test_values_are_of_the_declared_kinds(self, connector: Connector, declared: Entity, sample: Values) -> None:
        record = self.make(connector, declared, sample)
        for read in (record, *hear(connector, declared, None).records.values()):
            assert_kinds(declared.fields, read.values, read.id)
            assert read.modified is None or read.modified.utcoffset() == timedelta(0)

    def test_find_finds_by_each_findable_field(self, connector: Connector, declared: Entity, sample: Values) -> None:
        record = self.make(connector, declared, sample)
        self.make(connector, declared, self.variant(declared, sample, 1))
        tried = 0
        for f in declared.fields:
            value = record.values.get(f.name)
            if f.findable and isinstance(value, str):
                tried += 1
                found: Sequence[Record] = list(connector.find(declared.name, f.name, [value, "nobody has this"]))
                assert record.id in {r.id for r in found}, f.name
                assert all(r.values.get(f.name) in {value, None} or f.name not in r.values for r in found), f.name
        if not tried:
            pytest.skip("the sample holds no findable text")

    def test_a_listing_shows_all_and_goes_on_from_any_cursor(
        self, connector: Connector, declared: Entity, sample: Values, new_connector: Callable[[], Connector]
    ) -> None:
        made = {self.make(connector, declared, self.variant(declared, sample, n)).id for n in range(5)}
        whole = hear(connector, declared, None)
        assert made <= whole.ids
        assert all(whole.cursors), "each page carries a cursor"
        shown: set[str] = set()
        for page in whole.pages[:3]:
            shown |= {r.id for r in page.records if r.entity == declared.name}
            rest = hear(new_connector(), declared, page.cursor)
            assert shown | rest.ids >= whole.ids, "records were lost when reading went on from a stored cursor"

    def test_a_delta_shows_what_was_edited(
        self,
        connector: Connector,
        declared: Entity,
        sample: Values,
        other: Values,
        new_connector: Callable[[], Connector],
    ) -> None:
        self.need(declared, Verb.UPDATE)
        record = self.make(connector, declared, sample)
        cursor = hear(connector, declared, None).cursors[-1]
        operation = changing(declared, record, Verb.UPDATE, dict(other))
        assert send(connector, operation)[operation.key].result is Result.WRITTEN
        heard = hear(new_connector(), declared, cursor)
        assert record.id in heard.ids
        if record.id in heard.records and record.id not in heard.touched:
            told = heard.records[record.id].values
            assert_values({name: value for name, value in other.items() if name in told}, told)

    def test_a_delta_after_nothing_tells_nothing_new(
        self, connector: Connector, declared: Entity, sample: Values
    ) -> None:
        self.make(connector, declared, sample)
        whole = hear(connector, declared, None)
        first = hear(connector, declared, whole.cursors[-1])
        second = hear(connector, declared, first.cursors[-1])
        known = whole.records | first.records
        # Feeds that start at a time may tell the newest records once more, but nothing that was not known.
        assert {i: r.version for i, r in second.records.items()} == {i: known[i].version for i in second.records}
        assert not second.gone

    # Removing

    def test_a_delete_is_told_or_proved(self, connector: Connector, declared: Entity, sample: Values) -> None:
        self.need(declared, Verb.DELETE)
        if declared.removal is not Removal.DELETE:
            pytest.skip("here a delete leaves the record readable")
        record = self.make(connector, declared, sample)
        cursor = hear(connector, declared, None).cursors[-1]
        operation = changing(declared, record, Verb.DELETE)
        assert send(connector, operation)[operation.key].result is Result.WRITTEN
        if declared.tells_deletes:
            assert record.id in hear(connector, declared, cursor).gone
        assert record.id not in hear(connector, declared, None).ids
        fetched = connector.fetch(declared.name, [record.id], fields_of(declared))
        assert [gone.id for gone in fetched.gone] == [record.id]
        again = changing(declared, record, Verb.DELETE)
        assert send(connector, again)[again.key].result is Result.GONE

    def test_an_archived_record_is_still_listed(self, connector: Connector, declared: Entity, sample: Values) -> None:
        self.need(declared, Verb.ARCHIVE)
        record = self.make(connector, declared, sample)
        cursor = hear(connector, declared, None).cursors[-1]
        operation = changing(declared, record, Verb.ARCHIVE)
        assert send(connector, operation)[operation.key].result is Result.WRITTEN
        assert self.fetch_one(connector, declared, record.id).archived
        assert hear(connector, declared, None).records[record.id].archived
        delta = hear(connector, declared, cursor)
        assert record.id in delta.ids and record.id not in delta.gone

    def test_an_archived_record_can_be_restored(self, connector: Connector, declared: Entity, sample: Values) -> None:
        self.need(declared, Verb.ARCHIVE, Verb.RESTORE)
        record = self.make(connector, declared, sample)
        away = changing(declared, record, Verb.ARCHIVE)
        send(connector, away)
        archived = self.fetch_one(connector, declared, record.id)
        back = changing(declared, archived, Verb.RESTORE)
        assert send(connector, back)[back.key].result is Result.WRITTEN
        restored = self.fetch_one(connector, declared, record.id)
        assert not restored.archived
