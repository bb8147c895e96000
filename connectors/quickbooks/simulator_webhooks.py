"""How does simulated QuickBooks call back?  Signed notifications in both shapes (quickbooks sheet, section 9)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime

import requests

logger = logging.getLogger(__name__)

LEGACY = {"create": "Create", "update": "Update", "delete": "Delete", "void": "Void", "emailed": "Emailed"}
EVENTS = {"create": "created", "update": "updated", "delete": "deleted", "void": "void", "emailed": "emailed"}
TOLD = {"Customer", "Vendor", "Item", "Account", "Term", "CompanyCurrency", "Invoice", "Payment", "CreditMemo",
        "Estimate", "SalesReceipt", "RefundReceipt", "PaymentMethod", "Preferences"}  # fmt: skip


def signature(verifier: str, body: bytes) -> str:
    """Return the value of the header intuit-signature."""
    return base64.b64encode(hmac.new(verifier.encode(), body, hashlib.sha256).digest()).decode()


class Webhooks:
    """Sends a notification for each commit to the address in the switch `webhook_url`, one after the other.

    `webhook_shape`: "cloudevents" or "legacy".  `webhook_faults`: "" or, comma separated, "lose" (nothing is sent),
    "double" (each twice), "forge" (a wrong signature).
    """

    def __init__(self, switches: Mapping[str, object], realm: str) -> None:
        self._switches = switches
        self._realm = realm
        self._queue: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._sending = False
        self._number = 0
        self.sent: list[tuple[int, bytes]] = []  # (status or 0, body), for tests

    def tell(self, entity: str, record_id: str, verb: str, at: datetime) -> None:
        """Queue one notification, where an address is set."""
        faults = str(self._switches.get("webhook_faults", "")).split(",")
        if not self._switches.get("webhook_url") or entity not in TOLD or "lose" in faults:
            return
        with self._lock:
            self._number += 1
            body = self._body(entity, record_id, verb, at)
            self._queue.extend([body] * (2 if "double" in faults else 1))
            if self._sending:
                return
            self._sending = True
        threading.Thread(target=self._send, name="quickbooks webhooks", daemon=True).start()

    def _body(self, entity: str, record_id: str, verb: str, at: datetime) -> bytes:
        time = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._switches.get("webhook_shape") == "legacy":
            told = {"name": entity, "id": record_id, "operation": LEGACY[verb], "lastUpdated": time}
            event = {"realmId": self._realm, "dataChangeEvent": {"entities": [told]}}
            return json.dumps({"eventNotifications": [event]}).encode()
        event_told: dict[str, object] = {
            "specversion": "1.0",
            "id": f"{self._realm}-{self._number:012d}",
            "source": "intuit.simulated",
            "type": f"qbo.{entity.lower()}.{EVENTS[verb]}.v1",
            "datacontenttype": "application/json",
            "time": time,
            "intuitentityid": record_id,
            "intuitaccountid": self._realm,
            "data": {},
        }
        return json.dumps([event_told]).encode()

    def _send(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._sending = False
                    return
                body = self._queue.popleft()
            verifier = str(self._switches.get("webhook_verifier", ""))
            if "forge" in str(self._switches.get("webhook_faults", "")).split(","):
                verifier += "wrong"
            headers = {"Content-Type": "application/json", "intuit-signature": signature(verifier, body)}
            try:
                reply = requests.post(str(self._switches["webhook_url"]), data=body, headers=headers, timeout=3)
                self.sent.append((reply.status_code, body))
            except requests.RequestException as error:
                # As the vendor would: the next one is tried all the same, CDC is the safety net.
                logger.info("a webhook was not delivered: %s", error)
                self.sent.append((0, body))
