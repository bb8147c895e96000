"""Does a request's body hold only what its operation takes?  A misspelt key is refused with a sentence, not passed over.

What an operation takes is read off its description, the same that the OpenAPI document is made of: so it holds for every
operation, and the document cannot say anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.settings import api_settings


def refuse_unknown(view: Any, request: Request) -> None:
    """Raise ValidationError, with a sentence at each key, for what the operation does not take."""
    wanted = expected(view, request)
    if wanted is None and request.data:
        raise ValidationError(_nothing(request.data))
    if wrong := unknown(wanted, request.data):
        raise ValidationError(wrong)


def expected(view: Any, request: Request) -> Any:
    """Return the serializer of the body that the operation is described with, None where it takes none."""
    if request.method == "DELETE":
        return None
    found = description(view, request).get_request_serializer()
    return found() if isinstance(found, type) else found


def description(view: Any, request: Request) -> Any:
    """Return what describes an operation, for this request."""
    handler = getattr(view, view.action or "", None)
    schema = getattr(handler, "kwargs", {}).get("schema", api_settings.DEFAULT_SCHEMA_CLASS)()  # of @extend_schema
    schema.view, schema.method, schema.path = view, request.method, request.path
    return schema


def unknown(wanted: Any, given: Any) -> Any:
    """Return a sentence at each key that is not known, in the form of DRF's own errors; empty where all are."""
    if isinstance(wanted, serializers.ListSerializer | serializers.ListField) and isinstance(given, list):
        each = [unknown(wanted.child, one) for one in given]
        return each if any(each) else {}
    if not isinstance(wanted, serializers.Serializer) or not isinstance(given, Mapping):
        return {}
    fields = {name: field for name, field in wanted.fields.items() if not field.read_only}
    wrong: dict[str, Any] = {str(key): [_sentence(str(key), wanted, fields)] for key in given if key not in fields}
    for name, field in fields.items():
        if name in given and (inner := unknown(field, given[name])):
            wrong[name] = inner
    return wrong


def _sentence(key: str, wanted: Any, fields: Mapping[str, Any]) -> str:
    if key in wanted.fields:
        return "This can be read, not set."
    return f"There is no such key. Known: {', '.join(fields)}." if fields else "There is no such key."


def _nothing(given: Any) -> dict[str, list[str]]:
    if not isinstance(given, Mapping):
        return {"detail": ["This takes no body."]}
    return {str(key): ["There is no such key: this takes no body."] for key in given}


def close(result: Any, generator: Any, request: Any, public: Any) -> Any:
    """Say in the OpenAPI document that bodies have no further keys; called by drf-spectacular at its end."""
    shapes = result.get("components", {}).get("schemas", {})
    todo = [
        content["schema"]
        for path in result.get("paths", {}).values()
        for operation in path.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
    ]
    seen: set[int] = set()
    while todo:
        shape = todo.pop()
        if not isinstance(shape, dict) or id(shape) in seen:
            continue
        seen.add(id(shape))
        if "$ref" in shape:
            todo.append(shapes[shape["$ref"].rpartition("/")[2]])
        if shape.get("type") == "object" and "properties" in shape:
            shape.setdefault("additionalProperties", False)
        todo += [*shape.get("properties", {}).values(), shape.get("items")]
        todo += [*shape.get("allOf", []), *shape.get("oneOf", [])]
    return result
