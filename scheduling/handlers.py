"""Which jobs does scheduling bring?  Registered by JOB_HANDLERS_EXTRA."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from smtplib import SMTPException
from typing import ClassVar

from django.conf import settings
from django.core.mail import EmailMessage
from django.urls import reverse

from connectors.contract import RetryableError
from jobs.context import JobContext
from jobs.handlers import Answer, Finished, NotApplicable
from jobs.retries import DEFAULT_DELAYS
from scheduling.models import Provisioning

HANDLERS = {"provisioning mail": "scheduling.handlers.ProvisioningMail"}


class ProvisioningMail:
    """Tells the requester that the services were provisioned, or why they were not.  params: provisioning."""

    type: ClassVar[str] = "provisioning mail"
    safe: ClassVar[bool] = True  # a mail sent twice after a lost worker is better than none
    delays: ClassVar[Sequence[timedelta]] = DEFAULT_DELAYS
    max_age: ClassVar[timedelta | None] = timedelta(days=3)

    def run(self, context: JobContext) -> Answer:
        """Send one mail.  A mail server that is away or refuses is tried again later."""
        rows = Provisioning.objects.select_related("integration", "requested_by")
        row = rows.filter(pk=context.params["provisioning"]).first()
        if row is None:
            return NotApplicable("The request is gone.")
        if row.told_at is not None:
            return NotApplicable("The requester was told already.")
        address = row.requested_by.email if row.requested_by else ""
        if not address:
            return NotApplicable(f"{row.requested_name or 'The requester'} has no e-mail address.")
        subject, body = text(row)
        try:
            EmailMessage(subject, body, to=[address]).send()
        except (SMTPException, OSError) as error:
            raise RetryableError(f"The mail server did not take the mail: {error}") from error
        Provisioning.objects.filter(pk=row.pk).update(told_at=context.now())
        return Finished({"to": row.requested_name, "subject": subject})


def text(row: Provisioning) -> tuple[str, str]:
    """Return subject and body of the mail to the requester."""
    path = reverse("admin:scheduling_integration", args=[row.integration_id])
    where = f"{settings.SITE_URL.rstrip('/')}{path}" if settings.SITE_URL else "Schedules in the admin"
    if row.status == Provisioning.Status.APPROVED:
        subject = f"The services of {row.integration} are provisioned"
        body = f"{row.decided_name} provisioned the services of {row.integration}. You can start them now:\n\n{where}\n"
    else:
        subject = f"The services of {row.integration} were not provisioned"
        body = f"{row.decided_name} declined the request:\n\n{row.reason}\n\nMend that, then ask again:\n\n{where}\n"
    return subject, body
