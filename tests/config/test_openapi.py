"""Does the API answer as its description says, whatever is sent?"""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import HealthCheck, Phase, given, settings

from config.api import router
from config.models import ApiToken
from config.rest import WrongTokens
from config.wsgi import application
from connectors.models import RecordLink, Run
from tests.sync.worlds import TwoSystems

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
EXAMPLES = 15  # for each operation
# What a schema can't say may be refused: that an id must be one of an object, or that two fields go together.
positive_data_acceptance = pytest.importorskip("schemathesis.specs.openapi.checks").positive_data_acceptance
SCHEMA = "/api/v1/schema/?format=json"


def known_ids(everything: TwoSystems) -> dict[str, object]:
    """By noun the id of an object that there is; actions then get further than "not found"."""
    ids: dict[str, object] = {"presets": "inolink"}
    for noun, view, _name in router.registry:
        queryset = getattr(view, "queryset", None)
        if noun in ids or queryset is None or "(" in noun:
            continue
        newest = queryset.model._default_manager.order_by("-pk").first()
        if newest is not None:
            ids[noun] = newest.pk
    conflict = RecordLink.objects.filter(reason="conflict").first()
    ids["links"] = conflict.pk if conflict else ids["links"]
    ids["runs"] = Run.objects.latest("id").pk
    return ids


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("scope", ["administer", "read"])
def test_no_operation_answers_what_the_description_does_not_say(
    everything: TwoSystems, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WrongTokens, "rate", "100000/min")  # each operation is tried with wrong tokens, too
    boss = User.objects.create_superuser("boss", password="a long enough secret")
    _token, text = ApiToken.objects.issue(boss, "a test", scope=scope)
    headers = {"Authorization": f"Bearer {text}"}
    schema = schemathesis.openapi.from_wsgi(SCHEMA, application, headers=headers)
    failures: list[str] = []
    operations = [found.ok() for found in schema.get_all_operations()]
    nouns = {noun for noun, _view, _name in router.registry if "(" not in noun}
    assert known_ids(everything).keys() >= nouns, "the world has not one of everything"
    for operation in operations:
        failures += faults(operation, known_ids(everything), headers, EXAMPLES if scope == "administer" else 3)
    assert len(operations) > 60
    assert not failures, "\n\n".join(failures)


def faults(operation: Any, ids: dict[str, object], headers: dict[str, str], examples: int) -> list[str]:
    """Call one operation with generated input; return what was wrong with the answers."""

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def try_it(case: Any) -> None:
        noun = case.operation.path.removeprefix("/api/v1/").partition("/")[0]
        if case.path_parameters and noun in ids:
            case.path_parameters.update(dict.fromkeys(case.path_parameters, ids[noun]))
        case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])

    try:
        try_it()
    except BaseExceptionGroup as error:
        return [f"{operation.label}: {one}" for one in error.exceptions]
    except Exception as error:
        return [f"{operation.label}: {error}"]
    return []
