"""May an integration's services be started?  Asked for once, approved or declined by an administrator, told by e-mail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from connectors.models import Event, Integration
from jobs import clock, dispatch
from jobs.models import name_of
from scheduling.models import Provisioning
from scheduling.refusals import Refused

if TYPE_CHECKING:
    from jobs.models import Person

S = Provisioning.Status
PLACED = (
    "The request to provision the services was placed. It may take up to {hours} hours; you will be told by e-mail, and can "
    "start them then."
)
IN_PROGRESS = (
    "The services of {integration} are being provisioned (asked for by {who} on {when:%Y-%m-%d %H:%M} UTC). Until that is done "
    "they can't be saved or started; an administrator of this hub approves or declines the request."
)


def status(integration: Integration) -> Provisioning | None:
    """Return the request that counts: the approved one, else the newest."""
    rows = list(integration.provisionings.all())  # newest first
    return next((row for row in rows if row.status == S.APPROVED), rows[0] if rows else None)


def expect_none_open(integration: Integration) -> None:
    """Raise Refused while a request is being processed."""
    row = status(integration)
    if row is not None and row.status == S.REQUESTED:
        raise Refused([in_progress(row)])


def in_progress(row: Provisioning) -> str:
    """Say why nothing can be saved or started while a request is processed."""
    who = row.requested_name or "somebody"
    return IN_PROGRESS.format(integration=row.integration, who=who, when=row.requested_at)


def expect_provisioned(integration: Integration) -> None:
    """Raise Refused unless the services are provisioned."""
    expect_none_open(integration)
    row = status(integration)
    if row is None:
        raise Refused([f"The services of {integration} are not provisioned yet. Save them once: that asks for it."])
    if row.status == S.DECLINED:
        raise Refused(
            [
                f"Provisioning of {integration} was declined by {row.decided_name}: {row.reason} Ask again when that is mended."
            ]
        )


def ask_at_first_save(integration: Integration, *, by: Person) -> bool:
    """Ask for provisioning where nobody has asked yet.  Returns whether this did."""
    if status(integration) is not None:
        return False
    ask(integration, by=by)
    return True


def ask(integration: Integration, *, by: Person) -> Provisioning:
    """Place a request; with PROVISIONING=at_once it is approved at once.  Raises Refused where one is open or approved."""
    with transaction.atomic():
        locked = Integration.objects.select_for_update().get(pk=integration.pk)  # two may ask at the same moment
        row = status(locked)
        if row is not None and row.status == S.REQUESTED:
            raise Refused([in_progress(row)])
        if row is not None and row.status == S.APPROVED:
            raise Refused([f"The services of {integration} are provisioned already."])
        row = Provisioning.objects.create(
            integration=integration, requested_by=by if isinstance(by, User) else None, requested_name=name_of(by),
            requested_at=clock.now(),
        )  # fmt: skip
        said = f"{name_of(by) or 'Somebody'} asked for the services to be provisioned."
        _event(row, by, "provisioning requested", said)
        if settings.PROVISIONING == "at_once":
            approve(row, by="")
    return row


def placed(row: Provisioning) -> str:
    """Say to the requester what happens now."""
    if row.status == S.APPROVED:
        return "The services are provisioned. You can start them now."
    return PLACED.format(hours=settings.PROVISIONING_HOURS)


def approve(row: Provisioning, *, by: Person) -> None:
    """Approve a request and tell its requester.  Raises Refused where it is decided already."""
    _decide(row, S.APPROVED, by, "")


def decline(row: Provisioning, reason: str, *, by: Person) -> None:
    """Decline a request with a reason, and tell its requester.  Raises Refused without a reason or where it is decided."""
    if not reason.strip():
        raise Refused(["Say why the request is declined: the requester reads it."])
    _decide(row, S.DECLINED, by, reason.strip())


def _decide(row: Provisioning, new: Provisioning.Status, by: Person, reason: str) -> None:
    now, name = clock.now(), name_of(by) or "the hub's setting"
    with transaction.atomic():
        rows = Provisioning.objects.filter(pk=row.pk, status=S.REQUESTED)
        if not rows.update(status=new, decided_name=name, decided_at=now, reason=reason[:500]):
            row.refresh_from_db()
            raise Refused([f"This request was {row.get_status_display().lower()} by {row.decided_name} already."])
        row.refresh_from_db()
        said = (
            f"The services were provisioned by {name}."
            if new == S.APPROVED
            else f"Provisioning was declined by {name}: {reason}"
        )
        _event(row, by, f"provisioning {new}", said)
        dispatch.request(
            "provisioning mail", dedupe_key=f"provisioning mail:{row.pk}", params={"provisioning": row.pk}, by=by
        )


def _event(row: Provisioning, by: Person, code: str, message: str) -> None:
    Event.objects.create(integration=row.integration, code=code, message=message, actor=name_of(by), at=clock.now())
