"""Does the simulator keep QuickBooks' contract, seen by a plain HTTP client?"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from connectors.quickbooks.simulator import REALM, QuickBooksSimulator
from tests.quickbooks.conftest import Company, PlainHttp, later


class Plain:
    """A client that knows nothing of ours but the token."""

    def __init__(self, sim: QuickBooksSimulator) -> None:
        self.http = PlainHttp(sim.credentials())
        self.root = f"{sim.url}/v3/company/{REALM}"

    def get(self, path: str, **params: str) -> tuple[int, Any]:
        reply = self.http.request("GET", f"{self.root}/{path}", params=params)
        return reply.status, json.loads(reply.body)

    def post(self, path: str, body: object = None, **params: str) -> tuple[int, Any]:
        reply = self.http.request("POST", f"{self.root}/{path}", params=params, json=body)
        return reply.status, json.loads(reply.body)

    def ids(self, statement: str) -> list[str]:
        status, answer = self.get("query", query=statement)
        assert status == 200, answer
        rows = [row for value in answer["QueryResponse"].values() if isinstance(value, list) for row in value]
        return [row["Id"] for row in rows]

    def code(self, answer: tuple[int, Any]) -> str:
        assert answer[0] == 400
        return str(answer[1]["Fault"]["Error"][0]["code"])


@pytest.fixture
def plain(sim: QuickBooksSimulator) -> Plain:
    for n, (name, balance) in enumerate([("Ada", 10), ("Bob's", 250.5), ("Çelik", 0), ("adam", 300)]):
        sim.user_creates("Customer", {"DisplayName": name, "Balance": balance, "Notes": f"n{n}", "Job": False})
        later(sim, 60)
    sim.user_edits("Customer", "3", {"Active": False})
    return Plain(sim)


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("", ["1", "2", "4"]),
        ("WHERE Active = false", ["3"]),
        ("WHERE Active IN (true, false)", ["1", "2", "3", "4"]),
        ("WHERE DisplayName = 'Bob\\'s'", ["2"]),
        ("WHERE DisplayName LIKE 'Ad%'", ["1", "4"]),
        ("WHERE DisplayName LIKE '%o%' AND Balance > '200'", ["2"]),
        ("WHERE Balance >= 250.5 ORDERBY Balance DESC", ["4", "2"]),
        ("WHERE Balance < 11", ["1"]),
        ("WHERE Balance <= 10", ["1"]),
        ("WHERE DisplayName != 'Ada'", ["2", "4"]),
        ("WHERE Id IN ('4','1')", ["1", "4"]),
        ("WHERE MetaData.CreateTime > '2026-03-02T04:01:00-08:00'", ["4"]),
        ("WHERE MetaData.LastUpdatedTime >= '2026-03-02T12:01:00Z' AND Active IN (true,false)", ["2", "3", "4"]),
        ("order by DisplayName desc MAXRESULTS 2", ["2", "4"]),
        ("STARTPOSITION 2 MAXRESULTS 1", ["2"]),
    ],
)
def test_the_query_language(plain: Plain, where: str, ids: list[str]) -> None:
    assert plain.ids("SELECT * FROM Customer " + where) == ids  # noqa: S608


def test_a_query_counts_and_says_where_it_is(plain: Plain) -> None:
    assert plain.get("query", query="select count(*) from Customer")[1]["QueryResponse"] == {"totalCount": 3}
    page = plain.get("query", query="select Id, DisplayName from Customer startposition 2 maxresults 5")[1][
        "QueryResponse"
    ]
    assert (page["startPosition"], page["maxResults"]) == (2, 2)
    assert plain.get("query", query="select * from Customer where Id = '99'")[1]["QueryResponse"] == {}


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT * FROM", "4000"),
        ("SELECT * FROM Customer WHERE", "4000"),
        ("SELECT * FROM Customer WHERE Id = '1' OR Id = '2'", "4000"),
        ("SELECT * FROM Customer WHERE Colour = 'red'", "4001"),
        ("SELECT * FROM Unicorn", "4001"),
    ],
)
def test_a_bad_query_is_refused(plain: Plain, statement: str, code: str) -> None:
    assert plain.code(plain.get("query", query=statement)) == code


def test_objects_have_the_vendors_envelope(plain: Plain) -> None:
    customer = plain.get("customer/1")[1]["Customer"]
    assert (customer["Id"], customer["SyncToken"], customer["domain"], customer["sparse"]) == ("1", "0", "QBO", False)
    assert customer["MetaData"]["CreateTime"] == "2026-03-02T04:00:00-08:00"
    assert "CompanyName" not in customer
    assert plain.code(plain.get("customer/77")) == "610"


def test_a_full_update_empties_what_it_leaves_out(plain: Plain) -> None:
    status, answer = plain.post("customer", {"Id": "1", "SyncToken": "0", "DisplayName": "Ada L"})
    assert status == 200
    assert answer["Customer"]["SyncToken"] == "1"
    assert "Notes" not in answer["Customer"]
    assert answer["Customer"]["Balance"] == 10
    assert plain.code(plain.post("customer", {"Id": "1", "SyncToken": "0", "DisplayName": "Ada L"})) == "5010"
    assert plain.code(plain.post("customer", {"Id": "1", "DisplayName": "Ada L"})) == "2020"


def test_a_void_leaves_nothing_to_pay_and_frees_the_payment(company: Company) -> None:
    sim = company()
    plain = Plain(sim)
    customer = sim.user_creates("Customer", {"DisplayName": "Ada"})
    line = {"DetailType": "SalesItemLineDetail", "Amount": 50, "SalesItemLineDetail": {}}
    invoice = sim.user_creates("Invoice", {"CustomerRef.value": customer, "Line": [line]})
    pay = {"Amount": 20, "LinkedTxn": [{"TxnId": invoice, "TxnType": "Invoice"}]}
    payment = sim.user_creates("Payment", {"CustomerRef.value": customer, "TotalAmt": 20, "Line": [pay]})
    stored = plain.get(f"invoice/{invoice}")[1]["Invoice"]
    assert (stored["Balance"], stored["LinkedTxn"]) == (30, [{"TxnId": payment, "TxnType": "Payment"}])
    body = {"Id": invoice, "SyncToken": stored["SyncToken"]}
    voided = plain.post("invoice", body, operation="void")[1]["Invoice"]
    assert (voided["TotalAmt"], voided["Balance"], voided["PrivateNote"]) == (0, 0, "Voided")
    assert plain.get(f"payment/{payment}")[1]["Payment"]["UnappliedAmt"] == 20
    assert plain.get(f"customer/{customer}")[1]["Customer"]["Balance"] == -20


def test_cdc_answers_one_place_for_each_entity_in_their_order(plain: Plain, sim: QuickBooksSimulator) -> None:
    answer = plain.get("cdc", entities="Item,Customer", changedSince="2026-03-02T12:02:30Z")[1]
    items, customers = answer["CDCResponse"][0]["QueryResponse"]
    assert items == {}
    assert [row["Id"] for row in customers["Customer"]] == ["4", "3"]
    assert plain.code(plain.get("cdc", entities="TaxCode", changedSince="2026-03-01")) == "2170"
    assert plain.get("cdc", entities="Customer", changedSince="2026-01-01")[0] == 400


def test_limits_are_counted_on_the_simulators_clock(company: Company) -> None:
    sim = company(limit_request=3)
    plain = Plain(sim)
    assert [plain.get("preferences")[0] for _ in range(4)] == [200, 200, 200, 429]
    reply = plain.http.request("GET", f"{plain.root}/preferences")
    assert reply.headers["retry-after"] == "61"
    assert json.loads(reply.body)["fault"]["error"][0]["code"] == "3001"
    sim.clock.advance(timedelta(seconds=61))
    assert plain.get("preferences")[0] == 200
    sim.switches["limits"] = False
    assert {plain.get("preferences")[0] for _ in range(9)} == {200}


@pytest.mark.parametrize(
    ("rotation", "same", "old_works"), [("every", False, False), ("daily", True, True), ("grace", False, True)]
)
def test_refresh_tokens_rotate_as_the_switch_says(company: Company, rotation: str, same: bool, old_works: bool) -> None:
    sim = company(rotation=rotation)
    http = PlainHttp(sim.credentials())
    old = http.secret["refresh_token"]
    http.refresh()
    assert (http.secret["refresh_token"] == old) is same
    http.secret["refresh_token"] = old
    if old_works:
        http.refresh()
        assert http.secret["refresh_token"] == sim.tokens.refresh_token
    else:
        with pytest.raises(Exception, match="invalid_grant"):
            http.refresh()


def test_consent_gives_a_code_that_works_once(sim: QuickBooksSimulator) -> None:
    secret = sim.credentials()["secret"]
    back = "http://localhost:8000/back"
    asked = {"client_id": secret["client_id"], "response_type": "code", "redirect_uri": back, "state": "s1"}
    page = requests.get(f"{sim.url}/connect/oauth2", params=asked, timeout=5)
    assert "Connect" in page.text
    sent = requests.get(
        f"{sim.url}/connect/oauth2", params={**asked, "decision": "approve"}, allow_redirects=False, timeout=5
    )
    told = parse_qs(urlsplit(sent.headers["Location"]).query)
    assert (told["state"], told["realmId"]) == (["s1"], [REALM])
    form = {"grant_type": "authorization_code", "code": told["code"][0], "redirect_uri": back}
    basic = (str(secret["client_id"]), str(secret["client_secret"]))
    url = f"{sim.url}/oauth2/v1/tokens/bearer"
    assert [requests.post(url, data=form, auth=basic, timeout=5).status_code for _ in range(2)] == [200, 400]
    assert requests.post(url, data=form, auth=("x", "y"), timeout=5).json() == {"error": "invalid_client"}


def test_papers_mail_files_taxes_and_rates(company: Company) -> None:
    sim = company(10)
    plain = Plain(sim)
    invoice = next(iter(sim.store.table("Invoice")))
    paper = plain.http.request("GET", f"{plain.root}/invoice/{invoice}/pdf")
    assert paper.body.startswith(b"%PDF")
    sent = plain.post(f"invoice/{invoice}/send", sendTo="a@example.com")[1]["Invoice"]
    assert sent["EmailStatus"] == "EmailSent"
    files = {
        "file_metadata_01": (None, json.dumps({"FileName": "a.txt", "ContentType": "text/plain"}), "application/json"),
        "file_content_01": ("a.txt", b"hello", "text/plain"),
    }
    headers = {"Authorization": f"Bearer {plain.http.access}"}
    uploaded = requests.post(f"{plain.root}/upload", files=files, headers=headers, timeout=5).json()
    assert uploaded["AttachableResponse"][0]["Attachable"]["Size"] == 5
    detail = {"TaxRateName": "Town", "RateValue": "2", "TaxAgencyId": "1", "TaxApplicableOn": "Sales"}
    taxed = plain.post("taxservice/taxcode", {"TaxCode": "Town", "TaxRateDetails": [detail]})[1]
    assert taxed["TaxRateDetails"][0]["TaxAgencyId"] == "1"
    plain.post("exchangerate", {"SourceCurrencyCode": "EUR", "Rate": 1.25, "AsOfDate": "2026-03-01"})
    assert plain.get("exchangerate", sourcecurrencycode="EUR")[1]["ExchangeRate"]["Rate"] == 1.25
    assert plain.code(plain.get("exchangerate", sourcecurrencycode="USD")) == "6000"
    balances = plain.get("reports/CustomerBalance")[1]
    assert balances["Rows"]["Row"][-1]["group"] == "GrandTotal"


@pytest.fixture
def listener() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    heard: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append((self.headers["intuit-signature"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", heard
    server.shutdown()
    server.server_close()


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.01)


@pytest.mark.parametrize("shape", ["cloudevents", "legacy"])
def test_webhooks_are_signed_and_have_both_shapes(
    company: Company, listener: tuple[str, list[tuple[str, bytes]]], shape: str
) -> None:
    url, heard = listener
    sim = company(webhook_url=url, webhook_shape=shape)
    key = sim.user_creates("Customer", {"DisplayName": "Ada"})
    wait_until(lambda: len(heard) == 1)
    signed, body = heard[0]
    verifier = str(sim.switches["webhook_verifier"]).encode()
    assert signed == base64.b64encode(hmac.new(verifier, body, hashlib.sha256).digest()).decode()
    told = json.loads(body)
    if shape == "legacy":
        [entity] = told["eventNotifications"][0]["dataChangeEvent"]["entities"]
        assert (entity["name"], entity["id"], entity["operation"]) == ("Customer", key, "Create")
    else:
        assert (told[0]["type"], told[0]["intuitentityid"]) == ("qbo.customer.created.v1", key)


def test_the_same_seed_makes_the_same_company(company: Company) -> None:
    def bodies(seed: int) -> dict[str, dict[str, object]]:
        sim = company(40, seed=seed)
        return {name: {r.id: r.body for r in table.values()} for name, table in sim.store.tables.items()}

    assert bodies(3) == bodies(3)
    assert bodies(3) != bodies(4)


def test_seeded_balances_are_what_is_open(company: Company) -> None:
    sim = company(60)
    for customer in sim.store.table("Customer").values():
        owed = 0.0
        for entity, name, sign in (("Invoice", "Balance", 1), ("CreditMemo", "RemainingCredit", -1)):
            for record in sim.store.table(entity).values():
                if record.body["CustomerRef"]["value"] == customer.id:  # type: ignore[index]
                    owed += sign * record.body[name]  # type: ignore[operator]
        assert customer.body["Balance"] == pytest.approx(owed)


def test_the_eleventh_call_at_the_same_time_is_refused(sim: QuickBooksSimulator) -> None:
    plain = Plain(sim)
    assert plain.get("preferences")[0] == 200
    statuses: list[int] = []
    with sim.store.lock:  # holds every query until all have arrived
        calls = [
            threading.Thread(target=lambda: statuses.append(Plain(sim).get("query", query="select * from Term")[0]))
            for _ in range(11)
        ]
        for call in calls:
            call.start()
        wait_until(lambda: len(statuses) == 1)
    for call in calls:
        call.join()
    assert sorted(statuses) == [200] * 10 + [429]
