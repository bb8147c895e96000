"""How does simulated QuickBooks say no?  The faults of the sheet's section 10, in each shape that real ones come in."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape, quoteattr

from werkzeug.wrappers import Response

MESSAGES = {
    "120": "Authorization Failure",
    "500": "Unsupported Operation",
    "600": "General Error",
    "610": "Object Not Found",
    "2010": "Request has invalid or unsupported property",
    "2020": "Required param missing, need to supply the required value for the API",
    "2030": "Invalid ID",
    "2050": "String length is either shorter or longer than supported by specification",
    "2090": "Invalid Number",
    "2170": "Invalid Enumeration",
    "2380": "Email address missing",
    "2390": "Invalid Email Address format",
    "2500": "Invalid Reference Id",
    "3001": "message=ThrottleExceeded; errorCode=003001; statusCode=429",
    "3100": "message=ApplicationAuthorizationFailed; errorCode=003100; statusCode=403",
    "3200": "message=AuthenticationFailed; errorCode=003200; statusCode=401",
    "4000": "Error parsing query",
    "4001": "Invalid query",
    "5010": "Stale Object Error",
    "5020": "Permission Denied Error",
    "6000": "A business validation error has occurred while processing your request",
    "6070": "Amount calculation incorrect in the request",
    "6140": "Duplicate Document Number Error",
    "6240": "Duplicate Name Exists Error",
    "6430": "Invalid account type",
    "10000": "An application error has occurred while processing your request",
}
STALE = (
    "Stale Object Error : You and another user were working on this at the same time. "
    "The other user finished before you did, so your work was not saved."
)
INACTIVE = (
    "Object Not Found : Something you're trying to use has been made inactive. "
    "Check the fields with accounts, customers, items, vendors or employees."
)
NAME_TAKEN = (
    "The name supplied already exists. : Another customer, vendor or employee is already using this name. "
    "Please use a different name."
)


class VendorFault(Exception):
    """A refusal, raised anywhere below the HTTP answer."""

    def __init__(
        self, code: str, detail: str = "", *, element: str = "", status: int = 400, kind: str = "ValidationFault"
    ) -> None:
        super().__init__(f"{code} {detail}")
        self.code = code
        self.message = MESSAGES.get(code, "Error")
        self.detail = detail or self.message
        self.element = element
        self.status = status
        self.kind = kind

    def body(self) -> dict[str, object]:
        """Return the fault as the service writes it, with capital keys; a batch item holds just this."""
        error = {"Message": self.message, "Detail": self.detail, "code": self.code, "element": self.element}
        return {"Error": [error], "type": self.kind}


def service_answer(fault: VendorFault, time: str) -> Response:
    """Answer as the accounting service does."""
    body = json.dumps({"Fault": fault.body(), "time": time})
    return Response(body, fault.status, mimetype="application/json")


def gateway_answer(fault: VendorFault, shape: str, millis: int, time: str) -> Response:
    """Answer as the gateway before the service does: `shape` is lower, capital, xml, html or empty."""
    if shape == "capital":
        return service_answer(fault, time)
    if shape == "xml":
        text = (
            f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><IntuitResponse time={quoteattr(time)} '
            f'xmlns="http://schema.intuit.com/finance/v3"><Fault type="SERVICE"><Error code={quoteattr(fault.code)}>'
            f"<Message>{escape(fault.message)}</Message><Detail>{escape(fault.detail)}</Detail>"
            "</Error></Fault></IntuitResponse>"
        )
        return Response(text, fault.status, mimetype="application/xml")
    if shape == "html":
        return Response("<html><body><h1>Error</h1></body></html>", fault.status, mimetype="text/html")
    if shape == "empty":
        return Response("", fault.status)
    error = {"message": fault.message, "detail": fault.detail, "code": fault.code, "element": None}
    body: dict[str, object] = {
        "warnings": None,
        "intuitObject": None,
        "fault": {"error": [error], "type": fault.kind},
        "report": None,
        "queryResponse": None,
        "batchItemResponse": [],
        "attachableResponse": [],
        "syncErrorResponse": None,
        "requestId": None,
        "time": millis,
        "status": None,
        "cdcresponse": [],
    }
    return Response(json.dumps(body), fault.status, mimetype="application/json")
