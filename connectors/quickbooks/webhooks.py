"""What does a notification of QuickBooks say?  Verified first, then read in either shape (quickbooks sheet, section 9)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from connectors.contract import Forged, Heard, PermanentError
from connectors.quickbooks.entities import ENTITIES

SIGNATURE = "intuit-signature"
TOLD = frozenset(name.lower() for name in ENTITIES)  # what else changes is read with a comprehensive run


def receive(headers: Mapping[str, str], body: bytes, verifiers: Sequence[str]) -> Heard:
    """Say which companies to look at.  Raises Forged before anything is parsed, PermanentError for an unknown shape."""
    given = next((value for name, value in headers.items() if name.lower() == SIGNATURE), "")
    # Every token is compared, so that the time says nothing about which of them came close.
    fits = [hmac.compare_digest(_signature(verifier, body), given.encode()) for verifier in verifiers]
    if True not in fits:
        raise Forged("The signature does not fit.")
    try:
        events = [*_events(json.loads(body))]
    except (ValueError, LookupError, TypeError) as error:
        raise PermanentError("The notification has neither of the shapes that QuickBooks is known to send.") from error
    wanted = [(realm, event) for realm, entity, event in events if entity.lower() in TOLD]
    return Heard(marks=[(realm, "") for realm, _ in wanted], ids=[event for _, event in wanted], status=200)


def _signature(verifier: str, body: bytes) -> bytes:
    return base64.b64encode(hmac.new(verifier.encode(), body, hashlib.sha256).digest())


def _events(told: Any) -> Iterator[tuple[str, str, str]]:
    """Give (realm, entity, the notification's own id) of each; one delivery may concern several companies."""
    if isinstance(told, list):
        for event in told:
            entity = str(event["type"]).split(".")[1]
            yield str(event["intuitaccountid"]), entity, str(event["id"])
        return
    for notice in told["eventNotifications"]:
        realm = str(notice["realmId"])
        for entity in notice["dataChangeEvent"]["entities"]:
            # The old shape has no id; what it says, to the millisecond, is one.
            yield realm, str(entity["name"]), f"{realm}:{json.dumps(entity, sort_keys=True)}"
