"""What does a batch of writes answer?  Versions, duplicates, refusals, faults."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from connectors.contract import AuthError, Batch, Ref, Result, RetryableError, Unanswered, Verb
from tests.dynamics365.conftest import START


def test_a_create_has_the_id_that_we_chose_and_answers_values_version_and_time(world):
    operation = world.creating("account", {"name": "Zoë's Bakery", "creditlimit": Decimal("12.50"), "syn_linkkey": "k"})
    [made] = world.write(operation)
    assert (made.result, made.id, made.modified) == (Result.WRITTEN, operation.id, START)
    assert made.version == f'W/"{world.simulator.store.get("account", operation.id).version}"'
    assert made.values["name"] == "Zoë's Bakery"
    assert made.values["creditlimit"] == Decimal("12.5")
    assert made.values["telephone1"] is None
    assert {f.name for f in world.connector.describe()[0].fields} == set(made.values)


def test_an_update_changes_only_what_it_names(world):
    made = world.create(name="Ada", telephone1="555")
    [changed] = world.write(world.operation(Verb.UPDATE, "account", made.id, made.version, telephone1=None))
    assert changed.result is Result.WRITTEN
    assert changed.version != made.version
    assert (changed.values["name"], changed.values["telephone1"]) == ("Ada", None)


def test_a_stale_version_is_a_conflict_and_nothing_is_written(world):
    made = world.create(name="Ada")
    world.simulator.user_edits("account", made.id, {"name": "Grace"})
    [late] = world.write(world.operation(Verb.UPDATE, "account", made.id, made.version, name="Joan"))
    assert (late.result, late.code) == (Result.CONFLICT, "0x80060882")
    assert world.simulator.store.get("account", made.id).body["name"] == "Grace"


def test_a_stale_delete_is_a_conflict_too(world):
    made = world.create(name="Ada")
    world.simulator.user_edits("account", made.id, {"name": "Grace"})
    [late] = world.write(world.operation(Verb.DELETE, "account", made.id, made.version))
    assert late.result is Result.CONFLICT
    assert world.simulator.store.get("account", made.id) is not None


def test_a_repeated_create_says_that_its_id_exists(world):
    batch = Batch("same", [world.creating("account", {"name": "Ada"})])
    [first], [again] = world.connector.write(batch), world.connector.write(batch)
    assert (first.result, again.result) == (Result.WRITTEN, Result.EXISTS)
    assert again.id == first.id
    assert len(world.simulator.store.table("account")) == 1


def test_a_taken_link_key_exists_without_an_id(world):
    world.create(name="Ada", syn_linkkey="k1")
    other = world.create(name="Grace", syn_linkkey="k1")
    assert (other.result, other.id, other.field) == (Result.EXISTS, "", "syn_linkkey")


def test_an_update_of_a_deleted_record_is_gone_and_not_an_upsert(world):
    made = world.create(name="Ada")
    world.simulator.user_deletes("account", made.id)
    [late] = world.write(world.operation(Verb.UPDATE, "account", made.id, name="Joan"))
    assert late.result is Result.GONE
    assert not world.simulator.store.table("account")


def test_a_missing_reference_is_a_refusal_of_that_field_not_gone(world):
    missing = "11111111-0000-4000-8000-000000000001"
    outcome = world.create(name="Ada", parentaccountid=Ref("account", missing))
    assert (outcome.result, outcome.field) == (Result.REJECTED, "parentaccountid")


def test_one_bad_item_leaves_the_others_and_answers_come_in_order(world):
    names = ["One", "x" * 161, "Three"]
    operations = [world.creating("account", {"name": name}) for name in names]
    outcomes = world.write(*operations)
    assert [o.key for o in outcomes] == [o.key for o in operations]
    assert [o.result for o in outcomes] == [Result.WRITTEN, Result.REJECTED, Result.WRITTEN]
    assert (outcomes[1].field, outcomes[1].code) == ("name", "0x80044331")
    assert [o.values["name"] for o in (outcomes[0], outcomes[2])] == ["One", "Three"]


def test_an_option_out_of_range_is_refused_with_its_field(world):
    outcome = world.create(name="Ada", paymenttermscode="9")
    assert (outcome.result, outcome.field, outcome.code) == (Result.REJECTED, "paymenttermscode", "0x80044330")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": "A", "no_such": "x"}, "no_such"),
        ({"name": "A", "createdon": START}, "createdon"),
        ({"name": "A", "paymenttermscode": "Net 30"}, "paymenttermscode"),
        ({"name": "A", "creditlimit": "12"}, "creditlimit"),
        ({"name": "A", "parentaccountid": Ref("contact", "x")}, "parentaccountid"),
    ],
)
def test_what_can_not_be_sent_is_refused_before_any_request(world, values, field):
    world.connector.schema()
    before = len(world.http.calls)
    outcome = world.create(**values)
    assert (outcome.result, outcome.field) == (Result.REJECTED, field)
    assert world.requests_since(before) == []


def test_lines_of_a_document_are_not_written(world):
    account = world.create(name="Ada")
    outcome = world.create("invoice", name="I", customerid=Ref("account", account.id), details=())
    assert (outcome.result, outcome.field, outcome.code) == (Result.REJECTED, "details", "read_only")


def test_lookups_options_and_dates_go_there_and_come_back(world):
    parent = world.create(name="Parent")
    [euro] = [o.key for o in world.connector.options("contact", "transactioncurrencyid") if o.label == "EUR"]
    person = world.create(
        "contact", lastname="Ng", parentcustomerid=Ref("account", parent.id), transactioncurrencyid=euro,
        paymenttermscode="2", syn_lasttransactiondate=START.date(), creditonhold=True,
    )  # fmt: skip
    assert person.values["parentcustomerid"] == Ref("account", parent.id)
    assert person.values["transactioncurrencyid"] == euro
    assert person.values["paymenttermscode"] == "2"
    assert person.values["syn_lasttransactiondate"] == START.date()
    assert person.values["creditonhold"] is True
    [cleared] = world.write(
        world.operation(Verb.UPDATE, "contact", person.id, person.version, parentcustomerid=None, paymenttermscode=None)
    )
    assert (cleared.values["parentcustomerid"], cleared.values["paymenttermscode"]) == (None, None)


@pytest.mark.parametrize("target", ["account", "contact"])
def test_a_custom_polymorphic_lookup_is_bound_by_its_schema_name(world, target):
    values = {"name": "A"} if target == "account" else {"lastname": "A"}
    customer = world.create(target, **values)
    made = world.create("syn_salestransaction", syn_name="Invoice 1", syn_customerid=Ref(target, customer.id))
    assert made.values["syn_customerid"] == Ref(target, customer.id)


def test_archive_and_restore_keep_the_record(world):
    made = world.create(name="Ada")
    [archived] = world.write(world.operation(Verb.ARCHIVE, "account", made.id, made.version))
    [record] = world.connector.fetch("account", [made.id], frozenset({"name"})).records
    assert record.archived
    [restored] = world.write(world.operation(Verb.RESTORE, "account", made.id, archived.version))
    [record] = world.connector.fetch("account", [made.id], frozenset({"name"})).records
    assert restored.result is Result.WRITTEN
    assert not record.archived


def test_a_delete_is_written_and_a_second_one_is_gone(world):
    made = world.create(name="Ada")
    first = world.write(world.operation(Verb.DELETE, "account", made.id, made.version))
    second = world.write(world.operation(Verb.DELETE, "account", made.id, made.version))
    assert [o.result for o in (*first, *second)] == [Result.WRITTEN, Result.GONE]


def test_a_repeat_of_a_batch_is_the_same_request_to_the_byte(world):
    sent: list[bytes] = []
    send = world.http.request
    world.http.request = lambda m, u, **kw: (sent.append(kw.get("content")), send(m, u, **kw))[1]
    batch = Batch("key", [world.creating("account", {"name": "Ada"})])
    world.connector.write(batch)
    world.new_connector().write(batch)
    bodies = [body for body in sent if body]
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]


# Faults


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        ("throttle", {"seconds": 17}, RetryableError),
        ("error", {"status": 503}, Unanswered),
        ("error", {"status": 500}, Unanswered),
        ("garbage", {}, Unanswered),
        ("reset", {}, Unanswered),
        ("reset_after", {}, Unanswered),
        ("error_after", {"status": 502}, Unanswered),
    ],
)
def test_a_batch_that_fails_as_a_whole_says_whether_it_may_have_been_done(world, kind, options, error):
    world.connector.schema()
    world.simulator.faults.add(kind, match=r"POST .*\$batch", **options)
    with pytest.raises(error) as caught:
        world.create(name="Ada")
    assert type(caught.value) is error
    done = kind in {"reset_after", "error_after"}
    assert len(world.simulator.store.table("account")) == (1 if done else 0)
    if kind == "throttle":
        assert (caught.value.retry_after, caught.value.code) == (17, "0x80072322")


def test_an_expired_token_is_refreshed_once(world):
    world.connector.schema()
    world.simulator.faults.add("expire_token", match=r"POST .*\$batch")
    assert world.create(name="Ada").result is Result.WRITTEN


def test_a_token_that_is_bad_again_after_the_refresh_is_an_auth_error(world):
    world.connector.schema()
    world.simulator.faults.add("expire_token", match=r"POST .*\$batch", times=2)
    with pytest.raises(AuthError):
        world.create(name="Ada")


@pytest.mark.parametrize(
    ("status", "seconds", "result", "wait"),
    [(500, 0, Result.LATER, 30), (429, 9, Result.LATER, 9), (400, 0, Result.REJECTED, None)],
)
def test_items_that_fail_by_themselves(world, status, seconds, result, wait):
    world.connector.schema()
    world.simulator.faults.add("partial", match=r"\$batch", status=status, seconds=seconds)
    outcome = world.create(name="Ada")
    assert outcome.result is result
    assert outcome.retry_at == (None if wait is None else START + timedelta(seconds=wait))
    assert not world.simulator.store.table("account")


def test_about_half_of_a_batch_fails_and_the_outcomes_agree_with_the_store(world):
    world.connector.schema()
    fault = world.simulator.faults.add("partial", match=r"\$batch")
    original = world.simulator.faults.draw

    def draw(line):
        drawn = original(line)
        return replace(drawn, rate=0.5) if drawn is fault else drawn

    world.simulator.faults.draw = draw
    outcomes = world.write(*[world.creating("account", {"name": f"A{n}"}) for n in range(40)])
    written = {o.id for o in outcomes if o.result is Result.WRITTEN}
    assert {o.result for o in outcomes} == {Result.WRITTEN, Result.LATER}
    assert written == set(world.simulator.store.table("account"))


def test_a_missing_privilege_refuses_the_item_and_names_the_privilege(make_world):
    world = make_world(denied=["prvCreateAccount"])
    outcome = world.create(name="Ada")
    assert (outcome.result, outcome.code) == (Result.REJECTED, "0x80040220")
    assert "prvCreateAccount" in outcome.message


def test_a_user_outside_the_organization_is_an_auth_error(make_world):
    with pytest.raises(AuthError) as caught:
        make_world(member=False).create(name="Ada")
    assert caught.value.code == "0x80072560"


@pytest.mark.parametrize(
    ("switch", "value", "code"),
    [
        ("limit_requests", 0, "0x80072322"),
        ("limit_execution_ms", 0, "0x80072321"),
        ("limit_concurrent", 0, "0x80072326"),
    ],
)
def test_each_service_protection_limit_asks_to_wait(world, switch, value, code):
    world.simulator.switches[switch] = value
    with pytest.raises(RetryableError) as caught:
        world.connector.check()
    assert caught.value.code == code
    assert caught.value.retry_after >= 1


def test_the_limit_lets_calls_through_again_after_its_window(world):
    world.simulator.switches["limit_requests"] = 2
    world.connector.get("WhoAmI")
    world.connector.get("WhoAmI")
    with pytest.raises(RetryableError):
        world.connector.get("WhoAmI")
    world.simulator.clock.advance(timedelta(seconds=301))
    assert world.connector.get("WhoAmI").status == 200
