"""Does the simulated Web API keep the vendor's contract, whoever the client is?  Plain requests, no connector."""

from __future__ import annotations

import email
import time

import pytest
import requests

from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.dynamics365.simulator_login import CLIENT_ID

ADA, BOB, EVE = (f"0000000{n}-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))


class Api:
    def __init__(self, world) -> None:
        self.world, self.simulator = world, world.simulator
        self.root = f"{world.simulator.url}/api/data/v9.2/"
        world.http.log_in()
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {world.http.token}"

    def __call__(self, method: str, path: str, payload: object = None, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = path if path.startswith("http") else self.root + path
        return self.session.request(method, url, json=payload, headers=named, timeout=30)

    def names(self, query: str) -> list[str]:
        reply = self("GET", f"accounts?$select=name&{query}")
        assert reply.status_code == 200, reply.text
        return [row["name"] for row in reply.json()["value"]]


@pytest.fixture
def api(world) -> Api:
    api = Api(world)
    person = world.simulator.user_creates("contact", {"firstname": "Kim", "lastname": "Ito"})
    for record_id, name, limit, city in (
        (ADA, "Ada's", 100, "Lyon"),
        (BOB, "bob", 250.5, None),
        (EVE, "Eve", None, "Oslo"),
    ):
        values = {"accountid": record_id, "name": name, "creditlimit": limit, "address1_city": city}
        world.simulator.user_creates("account", {k: v for k, v in values.items() if v is not None})
    world.simulator.user_edits("account", ADA, {"primarycontactid@odata.bind": f"/contacts({person})"})
    world.simulator.user_edits("account", EVE, {"statecode": 1, "paymenttermscode": 2})
    return api


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("name eq 'ADA''S'", ["Ada's"]),
        ("name ne 'bob'", ["Ada's", "Eve"]),
        ("creditlimit gt 100", ["bob"]),
        ("creditlimit ge 100", ["Ada's", "bob"]),
        ("creditlimit lt 250.5", ["Ada's"]),
        ("creditlimit le 250.5", ["Ada's", "bob"]),
        ("creditlimit eq null", ["Eve"]),
        ("address1_city ne null", ["Ada's", "Eve"]),
        ("statecode eq 0 and (name eq 'eve' or name eq 'bob')", ["bob"]),
        ("statecode eq 1 or name eq 'bob' and creditlimit eq 0", ["Eve"]),
        ("not contains(name,'o')", ["Ada's", "Eve"]),
        ("startswith(name,'AD')", ["Ada's"]),
        ("endswith(name,'B')", ["bob"]),
        ("primarycontactid/lastname eq 'ito'", ["Ada's"]),
        ("_primarycontactid_value ne null", ["Ada's"]),
        (f"accountid eq {BOB}", ["bob"]),
        ("Microsoft.Dynamics.CRM.In(PropertyName='name',PropertyValues=['bob','eve'])", ["bob", "Eve"]),
        ("Microsoft.Dynamics.CRM.In(PropertyName='paymenttermscode',PropertyValues=['2'])", ["Eve"]),
        ("Microsoft.Dynamics.CRM.Between(PropertyName='creditlimit',PropertyValues=['50','150'])", ["Ada's"]),
        ("modifiedon ge 2026-07-01T12:00:00Z", ["Ada's", "bob", "Eve"]),
        ("modifiedon gt 2026-07-01T14:00:00%2B02:00", []),
        ("contact_customer_accounts/any()", []),
    ],
)
def test_filter(api, where, found):
    assert api.names(f"$filter={where}") == found


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("accounts?$filter=Name eq 'x'", "0x0"),
        ("accounts?$select=nmae", "0x0"),
        ("accounts?$filter=name in ('a')", "0x80060888"),
        ("accounts?$filter=name eq", "0x0"),
        ("accounts?$filter=paymenttermscode eq 'Net'", "0x0"),
        ("accounts?$skip=5", "0x80060888"),
        ("accounts?$Select=name", "0x80060888"),
        ("accounts(accountnumber='1')", "0x80060888"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_code(api, query, code):
    reply = api("GET", query)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)


def test_an_unknown_set_is_not_found(api):
    assert api("GET", "account").status_code == 404


def test_order_and_paging_by_cookie_show_each_row_once(api):
    seen = []
    url = "accounts?$select=name&$orderby=creditlimit desc,name"
    while url:
        page = api("GET", url, Prefer="odata.maxpagesize=1").json()
        seen += [row["name"] for row in page["value"]]
        url = page.get("@odata.nextLink")
    assert seen == ["bob", "Ada's", "Eve"]
    assert api.names("$orderby=creditlimit asc&$top=1") == ["Eve"]


def test_columns_without_a_value_are_null_and_some_come_along(api):
    row = api("GET", f"accounts({BOB})?$select=creditlimit,address1_line1").json()
    assert row["address1_line1"] is None
    assert set(row) >= {"_transactioncurrencyid_value", "address1_composite", "accountid", "@odata.etag"}


def test_annotations(api):
    row = api("GET", f"accounts({EVE})?$select=paymenttermscode", Prefer='odata.include-annotations="*"').json()
    assert row["paymenttermscode@OData.Community.Display.V1.FormattedValue"] == "2% 10, Net 30"
    names = list(row)
    assert names.index("paymenttermscode@OData.Community.Display.V1.FormattedValue") + 1 == names.index(
        "paymenttermscode"
    )


def test_expand(api):
    row = api("GET", f"accounts({ADA})?$select=name&$expand=primarycontactid($select=fullname)").json()
    assert row["primarycontactid"]["fullname"] == "Kim Ito"


def test_etags(api):
    etag = api("GET", f"accounts({BOB})?$select=name").json()["@odata.etag"]
    assert api("GET", f"accounts({BOB})?$select=name", If_None_Match=etag).status_code == 304
    assert api("PATCH", f"accounts({BOB})", {"fax": "1"}, If_Match=etag).status_code == 204
    stale = api("PATCH", f"accounts({BOB})", {"fax": "2"}, If_Match=etag)
    assert (stale.status_code, stale.json()["error"]["code"]) == (412, "0x80060882")
    taken = api("PATCH", f"accounts({BOB})", {"fax": "2"}, If_None_Match="*")
    assert (taken.status_code, taken.json()["error"]["code"]) == (412, "0x80040237")
    absent = api("PATCH", f"accounts({BOB[:-1]}9)", {"fax": "2"}, If_Match="*")
    assert (absent.status_code, absent.json()["error"]["code"]) == (404, "0x80040217")


def test_upsert_by_id_and_by_key(api):
    made = api("PATCH", f"accounts({BOB[:-1]}9)", {"name": "New"}, Prefer="return=representation")
    again = api("PATCH", f"accounts({BOB[:-1]}9)", {"name": "Newer"}, Prefer="return=representation")
    assert (made.status_code, again.status_code) == (201, 200)
    assert api("PATCH", "accounts(syn_linkkey='k9')", {"name": "Keyed"}).status_code == 204
    assert api("PATCH", "accounts(syn_linkkey='k9')", {"fax": "9"}).status_code == 204
    row = api("GET", "accounts(syn_linkkey='k9')?$select=name,fax").json()
    assert (row["name"], row["fax"]) == ("Keyed", "9")


def test_lookups_are_bound_by_their_exact_name(api):
    wrong = api("POST", "syn_salestransactions", {"syn_customerid_account@odata.bind": f"/accounts({ADA})"})
    right = api("POST", "syn_salestransactions", {"syn_CustomerId_account@odata.bind": f"/accounts({ADA})"})
    assert (wrong.status_code, right.status_code) == (400, 204)


def test_a_status_of_another_state_is_refused_and_a_paid_invoice_is_read_only(api):
    body = {"name": "I", "customerid_account@odata.bind": f"/accounts({ADA})"}
    made = api("POST", "invoices", body, Prefer="return=representation").json()["invoiceid"]
    bad = api("PATCH", f"invoices({made})", {"statecode": 2, "statuscode": 1})
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "0x80048408")
    assert api("PATCH", f"invoices({made})", {"statecode": 2}).status_code == 204
    assert api("GET", f"invoices({made})?$select=statuscode").json()["statuscode"] == 100001
    assert api("PATCH", f"invoices({made})", {"name": "J"}).status_code == 400
    assert api("PATCH", f"invoices({made})", {"statecode": 0, "statuscode": 1}).status_code == 204
    assert api("PATCH", f"invoices({made})", {"name": "J"}).status_code == 204


def test_deep_insert_is_all_or_nothing(api):
    body = {"name": "I", "customerid_account@odata.bind": f"/accounts({ADA})"}
    lines = [{"quantity": 2, "priceperunit": 3}, {"quantity": "two"}]
    assert api("POST", "invoices", {**body, "invoice_details": lines}).status_code == 400
    assert api("GET", "invoices/$count").text.lstrip("\ufeff") == "0"
    assert api("POST", "invoices", {**body, "invoice_details": lines[:1]}).status_code == 204
    [row] = api("GET", "invoices?$select=totalamount&$expand=invoice_details($select=quantity)").json()["value"]
    assert (row["totalamount"], [line["quantity"] for line in row["invoice_details"]]) == (6, [2])


def test_bulk_create_rolls_back_all(api):
    targets = [{"name": "One"}, {"name": "x" * 161}]
    path = "accounts/Microsoft.Dynamics.CRM.CreateMultiple"
    before = len(api.simulator.store.log)
    assert api("POST", path, {"Targets": targets}).status_code == 400
    assert len(api.simulator.store.log) == before
    assert len(api("POST", path, {"Targets": targets[:1]}).json()["Ids"]) == 1


def test_a_note_above_the_limit_is_refused(api):
    note = {"subject": "PDF", "filename": "a.pdf", "objectid_account@odata.bind": f"/accounts({ADA})"}
    assert api("POST", "annotations", {**note, "documentbody": "QUJD"}).status_code == 204
    assert api("POST", "annotations", {**note, "documentbody": "A" * 7_000_000}).status_code == 400


def batch(api, body: str, **headers: str):
    sent = {"Content-Type": "multipart/mixed; boundary=b", **headers}
    reply = api.session.post(f"{api.root}$batch", data=body.replace("\n", "\r\n").encode(), headers=sent, timeout=30)
    head = f"Content-Type: {reply.headers['Content-Type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + reply.content).get_payload()
    return reply.status_code, [p if p.is_multipart() else p.get_payload().split("\r\n")[0] for p in parts]


PART = "--b\nContent-Type: application/http\nContent-Transfer-Encoding: binary\n\n"
POST = "POST /api/data/v9.2/accounts HTTP/1.1\nContent-Type: application/json\n\n"
GOOD, BAD = f'{PART}{POST}{{"name":"G"}}\n', f'{PART}{POST}{{"nmae":"B"}}\n'


def test_a_batch_stops_at_an_error_and_keeps_what_was_done(api):
    assert batch(api, GOOD + BAD + GOOD + "--b--\n") == (400, ["HTTP/1.1 204 No Content", "HTTP/1.1 400 Bad Request"])
    assert len(api.names("$filter=name eq 'G'")) == 1


def test_a_batch_goes_on_where_that_is_preferred(api):
    status, parts = batch(api, GOOD + BAD + GOOD + "--b--\n", Prefer="odata.continue-on-error")
    assert (status, [part[9:12] for part in parts]) == (200, ["204", "400", "204"])


def changeset(bind: str, name: str) -> str:
    inner = "Content-Type: application/http\nContent-Transfer-Encoding: binary\nContent-ID: {}\n\n{}{}\n"
    first = inner.format(1, POST, f'{{"name":"{name}"}}')
    second = inner.format(
        2, POST.replace("accounts", "contacts"), f'{{"lastname":"L","parentcustomerid_account@odata.bind":"{bind}"}}'
    )
    return f"--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n{first}--c\n{second}--c--\n--b--\n"


def test_a_changeset_refers_to_what_it_made(api):
    status, [answers] = batch(api, changeset("$1", "Parent"))
    assert (status, [part["Content-ID"] for part in answers.get_payload()]) == (200, ["1", "2"])
    person = api("GET", "contacts?$filter=lastname eq 'L'&$expand=parentcustomerid_account($select=name)").json()[
        "value"
    ][0]
    assert person["parentcustomerid_account"]["name"] == "Parent"


def test_a_changeset_is_atomic(api):
    assert batch(api, changeset("$7", "Parent")) == (400, ["HTTP/1.1 400 Bad Request"])
    assert api.names("$filter=name eq 'Parent'") == []


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"client_secret": "wrong"}, 401, 7000215),
        ({"client_id": "wrong"}, 400, 700016),
        ({"scope": "https://other.example.com/.default"}, 400, 500011),
        ({"grant_type": "refresh_token"}, 400, 70008),
    ],
)
def test_token_errors(world, change, status, code):
    given = world.simulator.credentials()
    form = {"grant_type": "client_credentials", "scope": f"{world.simulator.url}/.default", **given["secret"], **change}
    reply = requests.post(given["settings"]["token_url"], data=form, timeout=30)
    assert (reply.status_code, reply.json()["error_codes"]) == (status, [code])
    assert reply.json()["error_description"].startswith(f"AADSTS{code}: ")


def test_a_person_logs_in_by_a_code(world):
    given = world.simulator.credentials()
    asked = {"client_id": CLIENT_ID, "redirect_uri": "http://127.0.0.1:1/back", "state": "s", "response_type": "code"}
    asked["scope"] = "offline_access"  # else there is no refresh token
    url = given["settings"]["authorize_url"]
    back = requests.post(url, params=asked, data={"decision": "accept"}, allow_redirects=False, timeout=30)
    code = back.headers["Location"].partition("code=")[2].partition("&")[0]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": asked["redirect_uri"], **given["secret"]}
    first = requests.post(given["settings"]["token_url"], data=form, timeout=30).json()
    again = requests.post(given["settings"]["token_url"], data=form, timeout=30)
    assert {"access_token", "refresh_token"} <= set(first)
    assert again.json()["error"] == "invalid_grant"


def test_a_call_without_a_token_is_told_where_to_log_in(world):
    reply = requests.get(f"{world.simulator.url}/api/data/v9.2/WhoAmI", timeout=30)
    assert reply.status_code == 401
    assert "authorization_uri=" in reply.headers["WWW-Authenticate"]


def test_the_same_seed_makes_the_same_company():
    first, second = DynamicsSimulator(records=20, seed=5), DynamicsSimulator(records=20, seed=5)
    for entity in ("account", "invoice", "invoicedetail"):
        bodies = [
            {i: {**r.body, "modifiedon": 0, "createdon": 0} for i, r in s.store.table(entity).items()}
            for s in (first, second)
        ]
        assert bodies[0] == bodies[1]
        assert bodies[0]


def test_the_journal_counts_commits_of_calls_only(api):
    api.simulator.journal.clear()
    api("POST", "accounts", {"name": "Made"})
    api("POST", "accounts", {"nmae": "Refused"})
    time.sleep(0.1)  # the journal is written after the answer
    assert [call.creates for call in api.simulator.journal] == [1, 0]
