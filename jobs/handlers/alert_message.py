"""How is a message of the alerts' outbox delivered?  One try after another, until it is there or a day has passed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

from jobs.alerts import outbox
from jobs.context import JobContext
from jobs.handlers import Answer, Finished, NotApplicable
from jobs.models import AlertMessage
from jobs.retries import DEFAULT_DELAYS


class AlertMessageHandler:
    """Sends one message.  params: message."""

    type: ClassVar[str] = outbox.JOB
    safe: ClassVar[bool] = True  # told twice is better than not at all; the key says that it is the same
    delays: ClassVar[Sequence[timedelta]] = DEFAULT_DELAYS
    max_age: ClassVar[timedelta | None] = timedelta(days=1)

    def run(self, context: JobContext) -> Answer:
        """Send it, unless it was sent or its rule is gone."""
        message = AlertMessage.objects.select_related("rule").filter(pk=context.params["message"]).first()
        if message is None:
            return NotApplicable("The message is gone.")
        if message.status == AlertMessage.Status.SENT:
            return NotApplicable("It was sent already.")
        outbox.send(message)
        return Finished({"to": message.recipient, "summary": f"Sent to {message.recipient}."})
