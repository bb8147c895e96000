"""How is one message posted to an address that a person gave?  To a checked address, without redirects, within time limits."""

from __future__ import annotations

from collections.abc import Mapping

import requests
import urllib3.exceptions
from django.conf import settings

from connectors.transport.addresses import AddressBook, place
from connectors.transport.session import PASSING, _named, _read, _refuse_in_transaction, _session
from connectors.transport.types import Reply

__all__ = ["PASSING", "post"]
READ_SECONDS = 20.0


def post(url: str, content: bytes, headers: Mapping[str, str]) -> Reply:
    """Post once and return whatever answer came; a redirect is an answer, too.

    Raises AddressRefused (a PermanentError) for private networks and plain http outside ALLOWED_PRIVATE_NETWORKS, and
    RetryableError (Unanswered) where no answer came.  Errors name scheme and host only: the rest of the URL is a secret.
    """
    _refuse_in_transaction()
    where = place(url)
    with _session(AddressBook()) as session:
        request = session.prepare_request(requests.Request("POST", url, data=content, headers=dict(headers)))
        limits = (settings.CONNECT_TIMEOUT, min(settings.READ_TIMEOUT, READ_SECONDS))
        try:
            response = session.send(request, stream=True, allow_redirects=False, timeout=limits, verify=True)
            body = _read(response, "POST")
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _named(error, where) from None
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)
