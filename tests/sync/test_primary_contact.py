"""Is a customer with company and person an account and its primary contact, and does that settle?"""

from __future__ import annotations

import pytest

from connectors.contract import Ref
from connectors.models import RecordLink
from connectors.sync.compile import SettingsError
from connectors.sync.explain import sentence_of
from tests.sync.families import Families

pytestmark = pytest.mark.django_db
ADA = {"company": "Engines", "first": "Ada", "last": "Lovelace", "email": "ada@engines.example"}


def test_a_customer_with_company_and_person_is_an_account_and_a_contact_that_refer_to_each_other() -> None:
    world = Families()
    made = world.customer(**ADA)
    world.run()
    assert world.account_of(made)["primary"] == Ref("contact", world.right_id("primary", made))
    assert world.contact_of(made)["parent"] == Ref("account", world.right_id("company", made))
    assert [w.verb for w in world.right.journal] == ["create", "create", "update"]
    assert {link.pending for link in RecordLink.objects.filter(left_id=made)} == {None}


@pytest.mark.parametrize("mode", ["delta", "comprehensive"])
def test_the_echo_writes_nothing(mode: str) -> None:
    world = Families()
    world.customer(**ADA)
    world.run()
    before = world.written
    world.run(mode)
    world.run(mode)
    assert world.written == before


def test_a_customer_without_a_person_is_an_account_alone_and_in_agreement() -> None:
    world = Families()
    made = world.customer(company="Engines")
    world.settle()
    assert world.right.tables["contact"] == {}
    assert not RecordLink.objects.filter(entity_sync=world.primary).exists(), (
        "nothing is left out that nobody asked for"
    )
    assert world.link("company", left=made).pending is None
    assert world.account_of(made)["primary"] is None


def test_two_persons_of_one_name_at_two_companies_are_two_contacts() -> None:
    world = Families()
    one, two = (world.customer(company=name, first="John", last="Smith") for name in ("Engines", "Looms"))
    world.settle()
    assert world.right_id("primary", one) != world.right_id("primary", two)
    assert world.contact_of(one)["parent"] != world.contact_of(two)["parent"]


def test_a_contact_that_its_account_has_already_is_found_by_name_and_account() -> None:
    world = Families()
    accounts = [world.right.create("account", {"name": name}) for name in ("Looms", "Engines")]
    contacts = [
        world.right.create("contact", {"first": "Ada", "last": "Lovelace", "parent": Ref("account", a)})
        for a in accounts
    ]
    made = world.customer(**ADA)
    world.settle()
    assert world.right_id("primary", made) == contacts[1]
    assert len(world.right.ids("contact")) == 2
    assert world.contact_of(made)["email"] == "ada@engines.example"


def test_a_contact_of_another_name_is_found_by_mail_and_account() -> None:
    world = Families()
    account = world.right.create("account", {"name": "Engines"})
    contact = world.right.create(
        "contact", {"last": "King", "email": "ADA@engines.example", "parent": Ref("account", account)}
    )
    made = world.customer(**ADA)
    world.settle()
    assert world.right_id("primary", made) == contact


def test_a_contact_is_found_when_the_customer_joins_an_account_that_waited_for_it() -> None:
    world = Families(push={"left": "on_request"})
    account = world.right.create("account", {"name": "Engines"})
    contact = world.right.create("contact", {"first": "Ada", "last": "Lovelace", "parent": Ref("account", account)})
    world.run()
    assert world.link("company", right=account).reason == "waits for promotion"
    made = world.customer(**ADA)
    world.settle()
    assert world.right_id("company", made) == account
    assert world.right_id("primary", made) == contact
    assert world.right.ids("contact") == [contact]


def test_edits_of_the_person_flow_both_ways() -> None:
    world = Families()
    made = world.customer(**ADA)
    world.settle()
    contact = world.right_id("primary", made)
    world.right.put("contact", contact, {"first": "Augusta"})
    world.settle()
    assert world.left.tables["customer"][made].values["first"] == "Augusta"
    world.edit(made, last="King")
    world.settle()
    assert world.contact_of(made)["last"] == "King"


def test_a_mail_address_edited_anywhere_reaches_the_account_and_the_contact() -> None:
    world = Families()
    made = world.customer(**ADA)
    world.settle()
    world.right.put("contact", world.right_id("primary", made), {"email": "new@engines.example"})
    world.settle()
    found = {world.left.tables["customer"][made].values["email"], world.account_of(made)["email"]}
    assert found == {"new@engines.example"}


def test_a_person_who_appears_later_becomes_the_primary_contact_then() -> None:
    world = Families()
    made = world.customer(company="Engines")
    world.settle()
    world.edit(made, first="Ada", last="Lovelace")
    world.settle()
    assert world.account_of(made)["primary"] == Ref("contact", world.right_id("primary", made))


def test_a_person_who_is_removed_stays_the_primary_contact() -> None:
    world = Families()
    made = world.customer(**ADA)
    world.settle()
    before = world.account_of(made)["primary"]
    world.edit(made, first=None, last=None)
    world.settle()
    assert world.contact_of(made)["last"] == "Lovelace"
    assert world.account_of(made)["primary"] == before
    assert world.link("primary", left=made).reason == "outside"
    assert world.link("company", left=made).pending is None


def chosen(overwrite: str, primary: bool) -> tuple[Families, str, str]:
    world = Families(overwrite=overwrite)
    account = world.right.create("account", {"name": "Engines"})
    jane = world.right.create("contact", {"first": "Jane", "last": "Doe", "parent": Ref("account", account)})
    if primary:
        world.right.put("account", account, {"primary": Ref("contact", jane)})
    made = world.customer(**ADA)
    world.settle()
    return world, made, jane


@pytest.mark.parametrize(("overwrite", "stays"), [("later", False), ("empty", True)])
def test_another_primary_contact_is_replaced_only_where_that_is_wanted(overwrite: str, stays: bool) -> None:
    world, made, jane = chosen(overwrite, primary=True)
    ada = world.right_id("primary", made)
    assert world.account_of(made)["primary"] == Ref("contact", jane if stays else ada)
    assert world.link("company", left=made).pending is None
    before = world.written
    world.run("comprehensive")
    assert world.written == before


@pytest.mark.parametrize("overwrite", ["later", "empty"])
def test_an_account_without_a_primary_contact_gets_the_person_either_way(overwrite: str) -> None:
    world, made, _ = chosen(overwrite, primary=False)
    assert world.account_of(made)["primary"] == Ref("contact", world.right_id("primary", made))


def test_a_choice_of_another_primary_contact_stands_where_nothing_is_replaced() -> None:
    world, made, jane = chosen("empty", primary=False)
    account = world.right_id("company", made)
    world.right.put("account", account, {"primary": Ref("contact", jane)})
    world.settle()
    assert world.account_of(made)["primary"] == Ref("contact", jane)
    assert world.link("company", left=made).pending is None
    world.right.put("account", account, {"primary": None})
    world.settle()
    assert world.account_of(made)["primary"] == Ref("contact", world.right_id("primary", made))


def test_a_primary_contact_does_not_wait_for_promotion_as_a_person_of_its_own() -> None:
    world = Families()
    made = world.customer(**ADA)
    world.settle()
    link = world.link("person", right=world.right_id("primary", made))
    assert (link.reason, link.pending) == ("outside", 3)
    assert "by another kind of record" in sentence_of(link)


def test_a_contact_that_becomes_a_primary_one_stops_waiting_for_promotion() -> None:
    world = Families()
    account = world.right.create("account", {"name": "Engines"})
    contact = world.right.create("contact", {"first": "Ada", "last": "Lovelace", "parent": Ref("account", account)})
    made = world.customer(company="Engines")
    world.settle()
    assert world.link("person", right=contact).reason == "waits for promotion"
    world.edit(made, first="Ada", last="Lovelace")
    world.settle()
    assert world.right_id("primary", made) == contact
    assert world.account_of(made)["primary"] == Ref("contact", contact)
    assert world.link("person", right=contact).reason == "outside"


def test_a_person_of_the_same_name_does_not_take_the_primary_contact_of_a_company() -> None:
    world = Families()
    company = world.customer(**ADA)
    person = world.customer(first="Ada", last="Lovelace")
    world.settle()
    again = world.customer(first="Ada", last="Lovelace")
    world.settle()
    ids = {
        world.right_id("primary", company), world.right_id("person", person),
        world.right_id("person", again),
    }  # fmt: skip
    assert None not in ids and len(ids) == 3
    assert RecordLink.objects.filter(reason="ambiguous").count() == 0


def test_a_deleted_contact_leaves_the_customer_alone_and_is_not_made_again() -> None:
    world = Families()
    made = world.customer(**ADA)
    world.settle()
    world.right.delete("contact", world.right_id("primary", made))
    world.settle()
    world.run("comprehensive")
    assert made in world.left.tables["customer"]
    assert world.right.ids("contact") == []


def test_a_family_that_has_no_such_records_is_refused() -> None:
    world = Families()
    world.primary.mappings.filter(left="me").update(args={"family": "nonsense"})
    with pytest.raises(SettingsError, match="the family 'nonsense', which has no customer on the left"):
        world.run()


def test_without_the_family_of_primary_contacts_accounts_are_kept_in_agreement_all_the_same() -> None:
    world = Families()
    world.primary.delete()
    made = world.customer(**ADA)
    world.settle()
    assert world.link("company", left=made).pending is None
    assert world.right.ids("contact") == []


def test_a_record_that_refers_to_one_of_its_own_page_that_joins_a_link_refers_to_that_link() -> None:
    world = Families()
    head = world.right.create("account", {"name": "Engines"})
    branch = world.right.create("account", {"name": "Engines North", "parent": Ref("account", head)})
    one = world.customer(company="Engines")
    two = world.customer(company="Engines North", parent=Ref("customer", one))
    world.settle()
    assert world.right_id("company", two) == branch
    assert world.written == 0
    key = world.link("company", left=one).key
    assert f'"parent>parent":"@{key}"' in world.link("company", left=two).base
