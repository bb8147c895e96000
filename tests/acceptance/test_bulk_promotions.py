"""Records are promoted in bulk: by a flag in Dynamics 365, on a page, through the API and by a command; single ones go at once."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.urls import reverse

from connectors.models import EntitySync, Event, Promotion, RecordLink
from connectors.sync.compile import SettingsError
from connectors.sync.presets import apply_preset, presets
from connectors.transport import connected
from jobs import dispatch
from jobs.models import Job
from jobs.states import StatusReason
from jobs.syncing import request_promotion, scope_of, service_job
from jobs.worker import run_in_process
from scheduling.models import Service

pytestmark = pytest.mark.django_db(transaction=True)
RIGHT_BATCH = "POST .*/\\$batch"


def service(hub):
    """Carry out what the bulk service asks for, as its schedule would."""
    job = service_job(scope_of(hub.integration), "promoted", entities=[], service="bulk")
    return hub.settle(run_in_process(dispatch.place(job, by="")))


def flag(hub, account, **values):
    hub.right.user_edits("account", account, {"syn_promote": 1, **values})


def shown(hub, account):
    body = hub.right.store.get("account", account).body
    return body.get("syn_promote"), body.get("syn_promotemessage")


def history(account):
    rows = Promotion.objects.filter(external_id=account).order_by("id")
    return list(rows.values_list("source", "status", "waits", "untold"))


def taken_name(hub):
    """An account whose name belongs to another customer in QuickBooks already."""
    taken = hub.companies()[0]
    name = taken.body["DisplayName"]
    hub.left.user_edits("Customer", taken.id, {"CompanyName": "Quite Another Name"})
    account = hub.right.user_creates("account", {"name": name, "syn_promote": 1})
    hub.settle()
    return account


# Flags


def test_flagged_accounts_arrive_with_the_service_and_their_flags_say_so(hub):
    accounts = hub.create_accounts(5)
    for account in accounts[:3]:
        flag(hub, account)
    hub.settle()
    hub.settle(hub.sync(mode="comprehensive"))
    assert hub.creates("left", "Customer") == [] and shown(hub, accounts[0]) == (1, None)
    before, before_writes = len(hub.right.store.log), hub.writes("right")
    service(hub)
    assert len(hub.creates("left", "Customer")) == 3
    assert [shown(hub, account) for account in accounts] == [(2, None)] * 3 + [(None, None)] * 2
    written = [set(change.fields) - {"modifiedon"} for change in hub.right.store.log[before:] if change.by == "api"]
    answers = [fields for fields in written if fields & {"syn_promote", "syn_promotemessage"}]
    assert answers == [{"syn_promote"}] * 3, "each flag is written once; its message was empty and stays so"
    assert [history(account) for account in accounts[:3]] == [[("flag", "success", False, False)]] * 3
    hub.settle()  # it reads the answers
    assert hub.writes("right") == len(written) + before_writes, "the answers come back as no edit"
    hub.settle(hub.sync(mode="comprehensive"))  # brings the aging of the new customers
    writes = hub.writes("left"), hub.writes("right")
    for job in (hub.sync(), service(hub), hub.sync(mode="comprehensive")):
        hub.settle(job)
    assert (hub.writes("left"), hub.writes("right")) == writes, "the answers come back as no edit"


def test_reading_the_flags_costs_one_query_for_each_entity_sync_and_answering_one_batch(hub):
    hub.right.journal.clear()
    hub.settle()
    ordinary = hub.requests("right")
    hub.right.journal.clear()
    service(hub)
    assert len([sync for sync in hub.integration.entity_syncs.all() if sync.push.get("flag")]) == 6
    assert hub.requests("right") - ordinary == 1 + 6, "the metadata, and one query for each entity sync"
    for account in hub.create_accounts(4):
        flag(hub, account)
    hub.settle()
    hub.right.journal.clear()
    service(hub)
    batches = [call for call in hub.right.journal if call.path.endswith("$batch")]
    assert len(batches) == 2, "the balances of the new customers, and the answers"


def test_a_failure_shows_its_reason_and_is_asked_for_again_by_the_flag(hub):
    account = taken_name(hub)
    service(hub)
    flagged, message = shown(hub, account)
    assert flagged == 3 and "name" in message.lower()
    service(hub)
    assert history(account) == [("flag", "error", False, False)]
    hub.right.user_edits("account", account, {"name": "Free Again Ltd", "syn_promote": 1})
    service(hub)
    assert shown(hub, account) == (2, None)
    assert history(account) == [("flag", "error", False, False), ("flag", "success", False, False)]
    assert "Free Again Ltd" in [c.body.get("CompanyName") for c in hub.left.store.table("Customer").values()]


def test_a_failure_is_asked_for_again_in_the_admin_at_once_and_the_flag_follows(hub, boss):
    account = taken_name(hub)
    service(hub)
    hub.right.user_edits("account", account, {"name": "Free Again Ltd"})
    hub.settle()
    promotion = Promotion.objects.get(external_id=account)
    answer = boss.post(reverse("admin:connectors_promotion_do", args=[promotion.pk, "requeue"]), follow=True)
    assert "1 record promoted" in answer.content.decode()
    hub.settle(run_in_process(Job.objects.filter(type="sync").latest("id")))
    assert history(account)[-1] == ("person", "success", False, True)
    service(hub)
    assert shown(hub, account) == (2, None)


def test_a_flagged_account_that_has_its_customer_is_answered_without_a_write_to_quickbooks(hub):
    account = RecordLink.objects.filter(entity_sync__name="customer", pending__isnull=True).first().right_id
    flag(hub, account)
    before = hub.writes("left")
    service(hub)
    assert shown(hub, account) == (2, "It had its partner already.") and hub.writes("left") == before


@pytest.mark.parametrize(("kind", "done"), [("reset", False), ("reset_after", True), ("error_after", True)])
def test_a_lost_answer_to_a_flag_is_made_up_for_by_the_next_run(hub, kind, done):
    [account] = hub.create_accounts(1)
    flag(hub, account)
    hub.settle()
    hub.right.faults.add(kind, match=RIGHT_BATCH, times=1, skip=1, status=503)  # the first carries balances
    service(hub)
    assert [happened for happened, _ in hub.right.faults.happened] == [kind]
    assert Event.objects.filter(code="flags not told").count() == 1
    assert history(account) == [("flag", "success", False, True)]
    assert (shown(hub, account)[0] == 2) is done
    service(hub)
    assert shown(hub, account) == (2, None) and history(account) == [("flag", "success", False, False)]
    assert len(hub.creates("left", "Customer")) == 1


@pytest.mark.parametrize("name", ["after queue flagged", "in take promotions", "after mark sending", "in flags told"])
def test_a_worker_that_dies_between_flags_and_answers_loses_and_doubles_nothing(hub, name):
    accounts = hub.create_accounts(2)
    for account in accounts:
        flag(hub, account)
    hub.settle()

    def die(point):
        if point == name:
            hub.point.clear()
            raise RuntimeError("the worker dies here")

    hub.point.append(die)
    job = service_job(scope_of(hub.integration), "promoted", entities=[], service="bulk")
    job = run_in_process(dispatch.place(job, by=""))
    assert job.status is not StatusReason.SUCCEEDED and not hub.point
    service(hub)
    service(hub)
    assert [shown(hub, account) for account in accounts] == [(2, None)] * 2
    assert [history(account) for account in accounts] == [[("flag", "success", False, False)]] * 2
    assert len(hub.creates("left", "Customer")) == 2
    assert RecordLink.objects.filter(right_id__in=accounts, pending=None, ended=0).count() == 2


def test_an_environment_without_the_flag_is_refused_with_a_sentence_for_each_table(fresh):
    syncs = fresh.integration.entity_syncs
    push = syncs.get(name="quote").push
    syncs.filter(name="quote").update(push={**push, "flag": {**push["flag"], "field": "syn_elsewhere"}})
    job = fresh.sync()
    assert "has no column 'syn_elsewhere' for the flag" in job.error_message


def test_the_flag_is_named_with_the_publisher_prefix(fresh):
    pushes = [sync.push for sync in fresh.integration.entity_syncs.all() if sync.push]
    assert {push["flag"]["field"] for push in pushes} == {"syn_promote"} and len(pushes) == 6


# In bulk and at once


def test_bulk_waits_for_the_service_and_a_single_record_goes_at_once(hub):
    one, two = hub.create_accounts(2)
    hub.settle()
    asked, job = request_promotion(hub.integration, "customer", [two], bulk=True)
    assert asked.queued == [two] and job is None
    asked, job = request_promotion(hub.integration, "customer", [one])
    hub.settle(run_in_process(job))
    assert history(one) == [("person", "success", False, False)]
    assert history(two) == [("person", "queued", True, False)]
    hub.settle(hub.sync(mode="comprehensive"))
    assert len(hub.creates("left", "Customer")) == 1
    service(hub)
    assert history(two) == [("person", "success", False, False)]
    assert len(hub.creates("left", "Customer")) == 2


# The page


@pytest.fixture
def boss(client):
    client.force_login(User.objects.create_superuser("ada", password="a long enough secret"))
    return client


def bulk_service(hub, **values):
    services = Service.objects.filter(integration=hub.integration, work="promoted")
    if not services:
        Service.objects.create(
            integration=hub.integration, name="Dynamics 365 to QuickBooks, bulk", work="promoted", **values
        )
    services.update(**{"enabled": False, **values})


def page_of(hub):
    return reverse("admin:connectors_promotion_choose", args=[hub.integration.pk])


def text_of(answer):
    return " ".join(answer.content.decode().split())


@pytest.fixture
def five(hub):
    accounts = hub.create_accounts(5)
    hub.right.user_edits("account", accounts[4], {"address1_city": "Bergen"})
    hub.settle()
    return accounts


def test_the_page_lists_what_can_be_promoted_and_filters_it(hub, five, boss):
    hub.right.user_edits("account", five[0], {"telephone1": "1"})
    page = text_of(boss.get(page_of(hub)))
    assert all(f"Newly Won {n:03d}" in page for n in range(5)) and "won3@newly.example" in page
    sync = hub.integration.entity_syncs.get(name="customer")
    for query, names in [
        ({"text": "won 002"}, ["002"]),
        ({"text": "WON3@"}, ["003"]),
        ({"field": "BillAddr.City>address1_city", "value": "bergen"}, ["004"]),
        ({"since": "2999-01-01"}, []),
    ]:
        page = text_of(boss.get(page_of(hub), {"sync": sync.pk, **query}))
        assert [f"{n:03d}" for n in range(5) if f"Newly Won {n:03d}" in page] == names, query
    assert "Enter a valid date" in text_of(boss.get(page_of(hub), {"since": "yesterday"}))


def test_ticked_records_are_queued_for_the_bulk_service_which_is_off(hub, five, boss):
    bulk_service(hub)
    links = RecordLink.objects.filter(right_id__in=five[:2])
    answer = boss.post(page_of(hub), {"link": [link.pk for link in links], "how": "bulk"}, follow=True)
    page = text_of(answer)
    assert "2 records queued for the bulk service" in page
    notice = "2 records wait for the service &#x27;Dynamics 365 to QuickBooks, bulk&#x27;, which is switched off."
    assert notice in page and "Newly Won 000" not in page
    for url in ("connectors_promotion_changelist", "connectors_integration_change"):
        args = [hub.integration.pk] if "integration" in url else []
        assert notice in text_of(boss.get(reverse(f"admin:{url}", args=args)))
    assert "It is queued already." in text_of(boss.get(page_of(hub), {"show": "others"}))
    bulk_service(hub, enabled=True)
    assert "which is switched off" not in text_of(boss.get(page_of(hub)))
    Service.objects.all().delete()
    assert "wait for a bulk service, but" in text_of(boss.get(page_of(hub)))
    service(hub)
    assert Promotion.objects.filter(status="success", by__username="ada").count() == 2


def test_all_of_a_filter_are_queued_only_after_a_confirmation_that_says_how_many(hub, five, boss):
    asked = {"all": "1", "how": "bulk", "text": "newly won"}
    page = text_of(boss.post(page_of(hub), asked))
    assert "Promote all 5 records of this filter?" in page and "Queue 5 for the bulk service" in page
    assert not Promotion.objects.exists()
    page = text_of(boss.post(page_of(hub), {**asked, "confirmed": "4"}))
    assert "holds for 5 records instead of 4" in page and not Promotion.objects.exists()
    boss.post(page_of(hub), {**asked, "confirmed": "5"})
    assert Promotion.objects.filter(status="queued", waits=True).count() == 5


def test_promote_now_goes_at_once_but_not_for_many(hub, five, boss, monkeypatch):
    link = RecordLink.objects.get(right_id=five[0])
    page = text_of(boss.post(page_of(hub), {"link": [link.pk], "how": "now"}, follow=True))
    assert "1 record promoted" in page
    hub.settle(run_in_process(Job.objects.filter(type="sync").latest("id")))
    assert history(five[0]) == [("person", "success", False, False)]
    monkeypatch.setattr("connectors.management.promoting.MOST_NOW", 3)
    rest = RecordLink.objects.filter(right_id__in=five[1:]).values_list("pk", flat=True)
    page = text_of(boss.post(page_of(hub), {"link": list(rest), "how": "now"}, follow=True))
    assert "At most 3 records go at once" in page
    assert Promotion.objects.count() == 1


def test_what_can_not_be_promoted_is_shown_with_its_reason_and_not_promoted(hub, five, boss):
    link = RecordLink.objects.get(right_id=five[0])
    RecordLink.objects.filter(pk=link.pk).update(pending=3, reason="held", state=2)
    page = text_of(boss.get(page_of(hub), {"show": "others"}))
    assert "Newly Won 000" in page and "A person holds it." in page and "Newly Won 001" not in page
    page = text_of(boss.post(page_of(hub), {"link": [link.pk], "how": "bulk"}, follow=True))
    assert "1 of them can&#x27;t be promoted any more." in page and not Promotion.objects.exists()


def test_promoting_is_a_right_of_its_own(hub, five, client):
    user = User.objects.create_user("bob", password="a long enough secret", is_staff=True)
    client.force_login(user)
    assert client.get(page_of(hub)).status_code == 403
    views = ["view_promotion", "view_recordlink", "view_integration"]
    user.user_permissions.set(Permission.objects.filter(codename__in=views))
    link = RecordLink.objects.get(right_id=five[0])
    assert 'name="link"' not in client.get(page_of(hub)).content.decode()
    assert client.post(page_of(hub), {"link": [link.pk], "how": "bulk"}).status_code == 403
    url = f"/api/v1/integrations/{hub.integration.pk}/promote/"
    body = {"entity_sync": "customer", "ids": [five[0]], "bulk": True}
    assert client.post(url, body, content_type="application/json").status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="add_promotion"))
    assert client.post(page_of(hub), {"link": [link.pk], "how": "bulk"}).status_code == 302
    assert client.post(url, body, content_type="application/json").status_code == 202
    assert Promotion.objects.get().by == user


def test_the_list_of_promotions_is_filtered_and_acted_on(hub, five, boss):
    request_promotion(hub.integration, "customer", five[:2], bulk=True)
    request_promotion(hub.integration, "customer", ["4711"])
    hub.settle(run_in_process(Job.objects.filter(type="sync").latest("id")))
    changelist = reverse("admin:connectors_promotion_changelist")
    page = text_of(boss.get(changelist, {"status__exact": "error"}))
    assert "4711" in page and Promotion.objects.get(external_id="4711").reason.split(":")[0] in page.replace(
        "&#x27;", "'"
    )
    assert "Newly Won" not in page
    for query in (
        {"source__exact": "person"},
        {"waits__exact": "1"},
        {"entity_sync__integration__id__exact": hub.integration.pk},
    ):
        assert "Newly Won 000" in text_of(boss.get(changelist, query)), query
    failed = Promotion.objects.get(status="error")
    boss.post(changelist, {"action": "requeue_all", "_selected_action": [failed.pk]})
    assert history("4711")[-1] == ("person", "queued", True, False)
    boss.post(changelist, {"action": "withdraw_all", "_selected_action": [Promotion.objects.latest("id").pk]})
    assert history("4711")[-1][1] == "withdrawn"
    waiting = Promotion.objects.filter(waits=True, status="queued").values_list("pk", flat=True)
    page = text_of(boss.post(changelist, {"action": "promote_now_all", "_selected_action": list(waiting)}, follow=True))
    assert "2 records promoted" in page
    hub.settle(run_in_process(Job.objects.filter(type="sync").latest("id")))
    assert [history(account)[-1][1] for account in five[:2]] == ["success", "success"]


# API and command


def api(client, path, **body):
    return client.post(f"/api/v1/{path}", body, content_type="application/json")


def test_records_are_promoted_and_asked_for_again_through_the_api(hub, five, boss):
    promote = f"integrations/{hub.integration.pk}/promote/"
    answer = api(boss, promote, entity_sync="customer", filter={"text": "Newly Won"}, bulk=True)
    assert answer.status_code == 202
    assert sorted(answer.json()["queued"]) == sorted(five) and answer.json()["job"] is None
    found = boss.get(f"/api/v1/promotions/?integration={hub.integration.pk}&status=queued&waits=true").json()["results"]
    assert {row["external_id"] for row in found} == set(five) and found[0]["source"] == "person"
    assert boss.get("/api/v1/promotions/?integration=999999").json()["results"] == []
    one = found[0]
    assert api(boss, f"promotions/{one['id']}/withdraw/").json()["status"] == "withdrawn"
    assert api(boss, f"promotions/{one['id']}/withdraw/").status_code == 409
    again = api(boss, f"promotions/{one['id']}/requeue/", bulk=True).json()
    assert again["promotion"]["status"] == "queued" and again["promotion"]["waits"] and again["job"] is None
    now = api(boss, f"promotions/{again['promotion']['id']}/requeue/")
    assert now.status_code == 202 and now.json()["promotion"]["waits"] is False
    hub.settle(run_in_process(Job.objects.get(pk=now.json()["job"]["id"])))
    assert history(one["external_id"])[-1] == ("person", "success", False, False)
    refused = api(boss, f"promotions/{again['promotion']['id']}/requeue/")
    assert refused.status_code == 409 and "nothing to ask again" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"entity_sync": "nothing", "ids": ["1"]}, 400, "There are: customer"),
        ({"entity_sync": "customer"}, 400, "Give ids or a filter"),
        ({"entity_sync": "customer", "ids": ["1"], "filter": {}}, 400, "Give ids or a filter"),
        ({"entity_sync": "customer", "ids": []}, 400, "empty"),
        ({"entity_sync": "invoice history", "ids": ["1"]}, 409, "nothing to promote"),
        ({"entity_sync": "customer", "filter": {"field": "colour"}}, 409, "no field 'colour'"),
        ({"entity_sync": "customer", "ids": [str(n) for n in range(51)]}, 409, "At most 50"),
    ],
)
def test_a_wrong_request_is_refused_with_a_sentence(fresh, boss, body, status, word):
    answer = api(boss, f"integrations/{fresh.integration.pk}/promote/", **body)
    assert answer.status_code == status and word in answer.content.decode()
    assert not Promotion.objects.exists()


def said(*arguments):
    out = StringIO()
    call_command("promote", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_promotes_in_bulk_and_asks_again(hub, five):
    name = hub.integration.name
    assert f"{five[0]}: Success" in said(name, "customer", five[0])
    lines = said(name, "customer", "--all-waiting", "--bulk")
    assert lines.count(": Queued") == 4 and "They wait for the bulk service." in lines
    assert "2 of 2 taken back" in said(name, "customer", *five[1:3], "--withdraw")
    assert said(name, "customer", "--requeue").count(": Success") == 2
    assert "no such record" in said(name, "customer", "--requeue")
    service(hub)
    assert set(Promotion.objects.filter(external_id__in=five[3:]).values_list("status", flat=True)) == {"success"}
    for wrong in ([], [five[0], "--all-waiting"], ["--withdraw"]):
        with pytest.raises(CommandError, match="Give the ids"):
            said(name, "customer", *wrong)
    with pytest.raises(CommandError, match="has no entity sync"):
        said(name, "nothing", "1")


def test_a_preset_whose_flag_does_not_fit_makes_no_integration(fresh):
    preset = presets()["inolink"]
    syncs = [dict(sync) for sync in preset.entity_syncs]
    for sync in syncs:
        if sync.get("push"):
            sync["push"] = {**sync["push"], "flag": {**sync["push"]["flag"], "field": "syn_elsewhere"}}
    ends = {"left": fresh.integration.left, "right": fresh.integration.right}
    EntitySync.objects.update(enabled=False)  # else the two would keep the same records
    with connected(ends["left"]) as one, connected(ends["right"]) as other, pytest.raises(SettingsError) as refused:
        apply_preset(
            type(preset)(**{**vars(preset), "entity_syncs": syncs}), "Again", ends, {"left": one, "right": other}
        )
    assert len([p for p in refused.value.problems if "syn_elsewhere" in p]) == 6
