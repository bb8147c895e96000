"""Does an operator get through the whole story in a browser, with a web server, a worker and both systems running?

Connect, apply a preset, preview and approve, settle a conflict, mend what parks fifty records, undo a run, look after jobs;
and somebody who may only look sees all of it and changes nothing.
"""

# ruff: noqa: S608 - the statements hold numbers of our own

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from connectors.simulation import Simulator
from tests.browser.chromium import executable
from tests.browser.site import PATIENCE, VIEWER, WebSite, records

pytestmark = [
    pytest.mark.browser,
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
]
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CUSTOMERS = 140
PARKED, FREE = 50, 4
LABEL = "Net 15"  # of these payment terms only QuickBooks knows
KNOWN = "Net 30"
NAME = "Books with CRM"
INTEGRATION = "connectors/integration/1/change/"
WON = "Newly Won"  # an account that QuickBooks gets only on request
BAR = "#sl-page progress"
# Keeps each value that the progress bar shows, in the page itself: a reload would lose them.
RECORDER = f"""() => {{
    window.seen = [];
    setInterval(() => {{
        const bar = document.querySelector("{BAR}");
        if (bar && bar.hasAttribute("value") && window.seen.at(-1) !== bar.value) window.seen.push(bar.value);
    }}, 100);
}}"""
# Where each button leads that sends something.
SENDERS = """() => [...document.querySelectorAll("button, input[type=submit]")]
    .filter((one) => one.type === "submit" && (one.getAttribute("formmethod") || one.form?.method) === "post")
    .map((one) => one.getAttribute("formaction") || one.form.getAttribute("action") || location.pathname)"""
# What each write of a system changes by itself, and no mapping holds.
OWN = {
    "MetaData",
    "SyncToken",
    "FullyQualifiedName",
    "PrintOnCheckName",
    "modifiedon",
    "versionnumber",
    "_modifiedby_value",
}
MAPPED_ENTITIES = ("Customer", "Item", "account", "contact", "product")


class Company(WebSite):
    """Nothing is connected yet; fifty customers have payment terms that the other system does not know."""

    def set_up(self) -> None:
        """Give each customer its payment terms."""
        self.terms = {row["Name"]: key for key, row in records(self.left, "Term").items()}
        customers = records(self.left, "Customer")
        parents = {row["ParentRef"]["value"] for row in customers.values() if "ParentRef" in row}
        alone = [
            key
            for key, row in customers.items()
            if row.get("CompanyName") and row["Active"] and "ParentRef" not in row and key not in parents
        ]
        self.free = [customers[key]["CompanyName"] for key in alone[:FREE]]  # on the first page of a list
        self.parked = [customers[key]["CompanyName"] for key in alone[FREE : FREE + PARKED]]
        assert len(self.parked) == PARKED
        for key in customers:
            label = LABEL if customers[key].get("CompanyName") in self.parked else KNOWN
            self.left.user_edits("Customer", key, {"SalesTermRef": {"value": self.terms[label]}})

    def side_of(self, name: str) -> Simulator:
        """Return the system in which an entity is: QuickBooks' names begin with a capital letter."""
        return self.left if name[0].isupper() else self.right

    def named(self, entity: str, name: str) -> dict[str, Any] | None:
        """Return the record of this name, where there is one."""
        column = "CompanyName" if entity == "Customer" else "name"
        found = [row for row in records(self.side_of(entity), entity).values() if row.get(column) == name]
        assert len(found) < 2, f"{name} is there {len(found)} times"
        return found[0] if found else None

    def holds(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return what both systems hold in all that is mapped."""
        return {
            entity: {
                key: {name: without_id(value) for name, value in row.items() if name not in OWN and "@" not in name}
                for key, row in records(self.side_of(entity), entity).items()
            }
            for entity in MAPPED_ENTITIES
        }


def without_id(value: Any) -> Any:
    """Leave out the id of an address: QuickBooks gives it a new one with each change."""
    return {name: part for name, part in value.items() if name != "Id"} if isinstance(value, dict) else value


@dataclass
class Story:
    """The site, the page in which the administrator works, and what one step leaves to the next."""

    site: Company
    page: Any
    wrong: list[str] = field(default_factory=list)  # what the browser complained of

    def complained(self, message: Any) -> None:
        """Keep what the browser complains of about the hub's own pages."""
        if message.type == "error" and message.location["url"].startswith(self.site.address):
            self.wrong.append(message.text)

    def go(self, path: str) -> None:
        """Open a page of the admin."""
        self.page.goto(f"{self.site.address}/admin/{path}")

    def text(self) -> str:
        """Return what the page says."""
        return str(self.page.inner_text("#main"))

    def send(self, button: str) -> None:
        """Send a form, and wait for the page that answers."""
        with self.page.expect_navigation():
            self.page.click(button)

    def press(self, label: str) -> None:
        """Press a button that asks for a job, and remember the job."""
        before = self.newest("jobs_job")
        self.send(f"button:text-is('{label}')")
        self.site.job = self.newest("jobs_job")
        assert self.site.job > before, f"{label} made no job: {self.text()}"

    def newest(self, table: str) -> int:
        """Return the newest row's number."""
        return self.site.number(f"select max(id) from {table}")

    def sync(self, label: str = "Sync now") -> int:
        """Press a button of the integration, and wait for the worker.  Returns the number of the run."""
        self.go(INTEGRATION)
        self.press(label)
        self.site.finish(PATIENCE)
        return self.newest("connectors_run")


# 1. Connecting


def connect(story: Story) -> None:
    """An administrator connects both systems on their consent pages."""
    site, page = story.site, story.page
    site.enter(page)
    books, crm = site.left.credentials(), site.right.credentials()
    told = {key: str(books["settings"][key]) for key in ("api_base", "token_url", "authorize_url")}
    begin_connection(story, "quickbooks", "Books", told, books["secret"])
    page.wait_for_url(f"{site.left.url}/connect/oauth2*")
    assert "Share your company's books?" in page.inner_text("main")
    page.click("button:text-is('Connect')")
    back_connected(story)
    # Small batches: there shall be something to see while they are written.
    told = {key: str(crm["settings"][key]) for key in ("org_url", "token_url")} | {
        "login": "person",
        "batch_size": "10",
    }
    begin_connection(story, "dynamics365", "CRM", told, crm["secret"])
    page.wait_for_url(f"{site.right.url}/**/authorize?*")
    page.click("text=Accept")
    back_connected(story)
    assert site.rows("select name, state from connectors_connection order by id") == [
        ("Books", "connected"),
        ("CRM", "connected"),
    ]


def begin_connection(story: Story, system: str, name: str, told: dict[str, str], secret: dict[str, object]) -> None:
    """Make a connection as a person does, up to the system's own page."""
    page = story.page
    story.go("connectors/connection/add/")
    page.select_option("[name=system]", system)
    page.fill("[name=name]", name)
    story.send("[name=_save]")
    for key, value in told.items():
        box = page.locator(f"[name=setting_{key}]")
        box.select_option(value) if key == "login" else box.fill(value)
    for key in ("client_id", "client_secret"):
        page.fill(f"[name=secret_{key}]", str(secret[key]))
    story.send("[name=_continue]")
    page.click("button:text-is('Connect')")


def back_connected(story: Story) -> None:
    """The system's page led back, and the hub says to whom it is connected; no code stays in the address."""
    story.page.wait_for_url(re.compile(rf"^{story.site.address}/admin/connectors/connection/\d+/change/$"))
    assert "Connected to" in story.text()


# 2. The preset


def apply_preset(story: Story) -> None:
    """The preset's form is filled in; what has no partner is told at once."""
    page = story.page
    story.go("connectors/integration/preset/")
    page.fill("[name=name]", NAME)
    page.select_option("[name=left]", label="Books")
    page.select_option("[name=right]", label="CRM")
    page.select_option("[name=option_terms_unmapped]", "park")
    page.select_option("[name=option_who_wins]", "ask")
    page.click("button:text-is('Make the integration')")
    page.wait_for_selector(f"text={NAME} is made")
    assert re.search(rf"customer: SalesTermRef.*without partner: .*{LABEL}", story.text())
    page.click("text=Go to the integration")
    page.wait_for_url(f"**/{INTEGRATION}")


# 3. Preview, and approve most of it


def preview_and_approve(story: Story) -> None:
    """A record is left out of the preview, the rest is approved, and the page shows how it is written."""
    site, page = story.site, story.page
    run = story.sync("Preview")
    story.go(f"connectors/run/{run}/change/?verb=create")
    assert not any(c.by == "api" for c in [*site.left.store.log, *site.right.store.log]), "a preview writes nothing"
    every = site.number(f"select count(*) from connectors_recordchange where run_id = {run}")
    left_out = site.free[0]
    row = page.locator("tbody.pv-one", has=page.locator(f"a:text-is('{left_out}')")).first
    row.locator("input[name=change]").uncheck()
    page.wait_for_selector(f"text=Approve {every - 1} of {every}")
    slow = site.right.faults.add("delay", match=r"POST .*\$batch$", times=None, seconds=0.7)
    story.press(f"Approve {every - 1} of {every}")
    watch_the_bar(story, every - 1)
    slow.times = 0
    site.finish(PATIENCE)
    told_in_words(story, every - 1)
    assert site.named("Customer", left_out) is not None
    assert site.named("account", left_out) is None, "it was not ticked"


def watch_the_bar(story: Story, every: int) -> None:
    """The bar moves without a reload, and ends in a sentence."""
    page = story.page
    page.wait_for_selector(BAR)
    page.evaluate(RECORDER)
    page.wait_for_selector("#sl-page .sl-head >> text=1 left out")
    values = page.evaluate("window.seen")
    assert values == sorted(values) and len(set(values)) > 1, values
    assert 0 <= values[0] < values[-1] <= every, values
    assert page.locator(BAR).count() == 0


def told_in_words(story: Story, approved: int) -> None:
    """The page says how many were written, and Dynamics 365 has seen as many creates."""
    told = story.page.inner_text("#sl-page .sl-head >> nth=0")
    found = {word: int(number) for number, word in re.findall(r"(\d+) (written|waiting for another|refused)", told)}
    made = [c for c in story.site.right.store.log if c.by == "api" and c.verb == "create"]
    assert found["written"] == len(made), told
    assert found["refused"] == PARKED and f"{PARKED} parked" in told, told
    assert sum(found.values()) == approved, told  # whoever belongs to a record that was not written waits for it


# 4. A conflict


def settle_conflict(story: Story) -> None:
    """Both sides edit the same fields; a person chooses for each field; both sides then hold the choice."""
    site, page = story.site, story.page
    story.sync()
    assert site.named("account", site.free[0]) is not None, "what was left out of one run comes with the next"
    name = site.free[1]
    customer, account = both(site, name)
    site.left.user_edits("Customer", customer, {"BillAddr.City": "Lisbon", "PrimaryPhone.FreeFormNumber": "1000"})
    site.right.user_edits("account", account, {"address1_city": "Oslo", "telephone1": "2000"})
    story.sync()
    assert details(site, name) == (("Lisbon", "1000"), ("Oslo", "2000")), "a person is asked first"
    story.go("conflicts/")
    assert "1 conflict" in story.text()
    card = page.locator(".cf-card", has_text="Lisbon")
    card.locator("label", has_text="Lisbon").click()
    card.locator("label", has_text="2000").click()
    story.press("Apply")
    page.wait_for_selector("text=A sync carries it out now")
    site.finish(PATIENCE)
    assert details(site, name) == (("Lisbon", "2000"),) * 2
    story.go("conflicts/")
    assert "No record is in conflict" in story.text()


def both(site: Company, name: str) -> tuple[str, str]:
    """Return the ids of a company's customer and account."""
    customer, account = site.named("Customer", name), site.named("account", name)
    assert customer is not None and account is not None, name
    return str(customer["Id"]), str(account["accountid"])


def details(site: Company, name: str) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return (city, telephone) on each side."""
    left, right = site.named("Customer", name), site.named("account", name)
    assert left is not None and right is not None
    own = (left["BillAddr"]["City"], left["PrimaryPhone"]["FreeFormNumber"])
    return own, (right["address1_city"], right["telephone1"])


# 5. Fifty records for one missing label


def mend_label(story: Story) -> None:
    """The missing label is mapped once, and all fifty records go on."""
    site, page = story.site, story.page
    assert not any(site.named("account", name) for name in site.parked[:3])
    story.go("connectors/problemgroup/")
    page.click(f"text=The option '{LABEL}' has no partner")
    page.wait_for_selector("#id_option")
    assert f"{PARKED} records" in page.inner_text("#sl-page")
    page.select_option("#id_option", label=KNOWN)
    story.press("Map and try all again")
    page.wait_for_selector("text=tries all of them again")
    site.finish(PATIENCE)
    page.reload()
    assert re.search(r"Resolved\s+0 records", page.inner_text("#sl-page"))
    story.go("connectors/problemgroup/")
    assert "has no partner" not in story.text()
    story.go("")
    assert "need a person" not in page.inner_text("#sl-overview")
    accounts = {row["name"]: row for row in records(site.right, "account").values()}
    assert {name: accounts[name]["paymenttermscode"] for name in site.parked} == dict.fromkeys(site.parked, 1)
    own = [row for row in records(site.left, "Customer").values() if row["SalesTermRef"]["value"] == site.terms[LABEL]]
    assert len(own) == PARKED, "QuickBooks keeps its own terms"


# 6. Undo


def undo_run(story: Story) -> None:
    """A run that updated and created on both sides is taken back; what can't be deleted becomes inactive, and is told first."""
    site, page = story.site, story.page
    # With its currency: else Dynamics 365 sets one by itself as soon as there are amounts, and keeps it.
    usual = {"_transactioncurrencyid_value": site.right.ids["currency"]}
    site.right.user_creates("account", {"name": WON, "address1_city": "Tromsø", **usual})
    story.sync()
    edit_all_over(site)
    before = site.holds()
    run = promote(story)
    after = site.holds()
    made = {entity: set(after[entity]) - set(before[entity]) for entity in MAPPED_ENTITIES}
    assert {entity: len(ids) for entity, ids in made.items() if ids} == {"Customer": 1, "account": 1}
    assert len(changed(before, after)) >= 4, changed(before, after)
    story.go(f"connectors/run/{run}/change/")
    story.press("Undo this run")
    assert "Nothing is written before you approve it" in story.text()
    site.finish(PATIENCE)
    undo = story.newest("connectors_run")
    story.go(f"connectors/run/{undo}/change/")
    text = page.inner_text("#content")
    assert "can't delete such records. It will be made inactive." in text
    assert text.index("What can’t be undone") < text.index("made inactive") < text.index("Approve")
    assert site.holds() == after, "nothing is written before it is approved"
    story.press(page.inner_text("#pv-approve button.main"))
    site.finish(PATIENCE)
    page.wait_for_selector("#sl-page .sl-head >> text=undone")
    as_before(site, before, made)
    story.sync()
    as_before(site, before, made)  # the next run does not do it again


def edit_all_over(site: Company) -> None:
    """People edit on both sides, and add a customer in QuickBooks."""
    first, second = both(site, site.free[2]), both(site, site.parked[0])
    site.left.user_edits("Customer", first[0], {"BillAddr.City": "Porto", "Notes": "Called on Monday"})
    site.right.user_edits("account", second[1], {"telephone1": "+47 55 00", "address1_city": "Bergen"})
    site.left.user_creates(
        "Customer", {"DisplayName": "Fresh Ltd", "CompanyName": "Fresh Ltd", "BillAddr.City": "Faro"}
    )


def promote(story: Story) -> int:
    """Ask for the account that flows to QuickBooks only on request; the same run writes what else has changed."""
    page = story.page
    story.go(INTEGRATION)
    page.click("text=Promote records")
    page.locator("tr", has_text=WON).locator("input[name=link]").check()
    story.press("Promote the ticked now")
    story.site.finish(PATIENCE)
    return story.newest("connectors_run")


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (entity, id, field) of what differs in records that both have."""
    return [
        (entity, key, name)
        for entity, rows in before.items()
        for key, row in rows.items()
        for name in sorted({*row, *after[entity].get(key, {})})
        if key in after[entity] and row.get(name) != after[entity][key].get(name)
    ]


def as_before(site: Company, before: dict[str, Any], made: dict[str, set[str]]) -> None:
    """All values are as they were; what the run had made is gone, or inactive where it can't be deleted."""
    now = site.holds()
    assert changed(before, now) == []
    for entity in MAPPED_ENTITIES:
        left = {key: row for key, row in now[entity].items() if key not in before[entity]}
        assert set(left) == (made[entity] if entity == "Customer" else set()), entity
        assert not any(row["Active"] for row in left.values())
        assert set(before[entity]) <= set(now[entity]), entity


# 7. Jobs


def look_after_jobs(story: Story) -> None:
    """A job that failed is understood and retried; one that waits is cancelled."""
    site, page = story.site, story.page
    site.right.faults.add("error", match=r"GET .*/EntityDefinitions", times=1, status=403)
    story.go(INTEGRATION)
    story.press("Sync now")
    site.until(lambda: site.status() in ("failed", "succeeded"), "the job did not end", PATIENCE)
    assert site.status() == "failed"
    story.go("jobs/job/")
    page.click("nav.jb-tabs >> text=Failed")
    page.wait_for_url("**status=failed**")
    page.click("#result_list >> text=Dynamics 365 answered 403")
    page.wait_for_url(f"**/jobs/job/{site.job}/change/**")
    page.click("button:text-is('Retry')")
    page.wait_for_selector("text=It begins anew.")
    page.wait_for_selector(".sl-head .sl-badge:has-text('Succeeded')")  # without a reload
    assert site.status() == "succeeded"
    cancel_waiting(story)


def cancel_waiting(story: Story) -> None:
    """While syncs are held back a job waits; it is cancelled, and the pause ended."""
    site, page = story.site, story.page
    story.go("jobs/pause/add/")
    page.select_option("[name=kind]", "type")
    page.select_option("[name=job_type]", "sync")
    page.fill("[name=reason]", "The books are closed.")
    story.send("button[name=_save]")
    runs = story.newest("connectors_run")
    story.go(INTEGRATION)
    story.press("Sync now")
    story.go(f"jobs/job/{site.job}/change/")
    assert "The books are closed." in story.text()
    page.click("button:text-is('Cancel')")
    page.wait_for_selector("text=Cancelled.")
    assert site.status() == "cancelled"
    story.go("jobs/job/")
    page.click("text=End the pause")
    page.wait_for_selector("text=go on.")
    assert site.status() == "cancelled" and story.newest("connectors_run") == runs


# 8. Somebody who may only look


def only_look(story: Story) -> None:
    """A Viewer sees the pages without a button that writes; what he sends all the same is refused, and nothing changes."""
    site = story.site
    site.left.user_edits("Customer", both(site, site.free[3])[0], {"BillAddr.City": "Madrid"})
    preview, done = story.sync("Preview"), site.number("select min(id) from connectors_run where purpose = 'sync'")
    link = site.number("select max(id) from connectors_recordlink where pending is null and ended = 0")
    viewer = story.page.context.browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    site.enter(viewer, VIEWER)
    before = state(story)
    for path in (
        "", INTEGRATION, "jobs/job/", f"jobs/job/{site.job}/change/", "connectors/problemgroup/", "conflicts/",
        f"connectors/problemgroup/{story.newest('connectors_problemgroup')}/change/",
        f"connectors/recordlink/{link}/change/", f"connectors/run/{done}/change/",
        f"connectors/run/{preview}/change/",
    ):  # fmt: skip
        assert viewer.goto(f"{site.address}/admin/{path}").status == 200, path
        # Everybody's own: leaving, and the clocks' zone.
        writing = [place for place in viewer.evaluate(SENDERS) if not re.search(r"/(logout|time-zone)/", place)]
        assert writing == [], path
    assert "Madrid" in viewer.inner_text("#pv-changes"), "the last one is the preview"
    in_admin = ["integration/1/do/sync_now/", "integration/1/do/disable/", f"run/{done}/do/undo/",
                f"run/{preview}/do/approve/", f"recordlink/{link}/do/hold/"]  # fmt: skip
    refused(
        site,
        viewer,
        [*(f"connectors/{path}" for path in in_admin), f"jobs/job/{site.job}/do/retry/"],
        ["integrations/1/sync/", f"runs/{preview}/approve/", f"links/{link}/hold/", f"jobs/{site.job}/retry/"],
    )
    assert state(story) == before
    viewer.context.close()


def refused(site: Company, viewer: Any, in_admin: list[str], in_api: list[str]) -> None:
    """Each of these is refused for want of the right; the form's token and the address are good."""
    token = next(one["value"] for one in viewer.context.cookies() if one["name"] == "csrftoken")
    headers = {"X-CSRFToken": token, "Referer": f"{site.address}/admin/"}
    for path in in_admin:
        answer = viewer.request.post(f"{site.address}/admin/{path}", headers=headers)
        assert answer.status == 403, (path, answer.status)
        assert "Your account lacks the right for it" in answer.text(), path
    for path in in_api:
        answer = viewer.request.post(f"{site.address}/api/v1/{path}", headers=headers, data={})
        assert answer.status == 403, (path, answer.status)
        assert "You do not have permission" in answer.text(), answer.text()


def state(story: Story) -> dict[str, Any]:
    """What nobody who only looks may change: both systems, and what the hub keeps of its work."""
    tables = ("jobs_job", "connectors_run", "connectors_recordlink", "connectors_integration", "jobs_pause")
    return {"systems": story.site.holds()} | {table: story.site.rows(f"select * from {table}") for table in tables}


STEPS: tuple[Callable[[Story], None], ...] = (
    connect, apply_preset, preview_and_approve, settle_conflict, mend_label, undo_run, look_after_jobs, only_look,
)  # fmt: skip


@pytest.fixture
def story(tmp_path: Path, page: Any) -> Iterator[Story]:
    with Company(tmp_path, CUSTOMERS) as site:
        site.serve()
        site.start()
        told = Story(site, page)
        page.set_default_timeout(PATIENCE * 500)
        page.on("console", told.complained)
        page.on("pageerror", lambda error: told.wrong.append(str(error)))
        yield told


@contextmanager
def told_of(step: Callable[[Story], None], story: Story, folder: Path) -> Iterator[None]:
    """A failure says in which step it was; what the page looked like is kept."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"The step: {step.__doc__}  The page: {story.page.url}, {folder}/page.png")
        with suppress(Exception):  # of a browser that has gone there is no picture
            story.page.screenshot(path=folder / "page.png", full_page=True)
        raise


def test_the_whole_story_of_an_operator(story: Story, tmp_path: Path) -> None:
    for step in STEPS:
        with told_of(step, story, tmp_path):
            step(story)
    assert story.wrong == []
