"""What do all views of the engine share?  The right to act, and refusals as answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rest_framework import status, viewsets
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.rest import ModelPermissions, Recorded
from connectors.contract import ConnectorError
from connectors.sync import decisions
from connectors.sync.compile import SettingsError
from connectors.transport import redaction
from jobs.api import JobSerializer
from jobs.states import IllegalTransition
from jobs.syncing import NotNow


class MayAct(BasePermission):
    """An action needs the right to see what it acts on, and one of its own: the HTTP method says nothing of it."""

    def __init__(self, verb: str) -> None:
        self.verb = verb

    def has_permission(self, request: Request, view: APIView) -> bool:
        meta = view.queryset.model._meta  # type: ignore[attr-defined]
        needed = [f"{meta.app_label}.{verb}_{meta.model_name}" for verb in ("view", self.verb)]
        return bool(request.user and request.user.has_perms(needed))


class Acts(Recorded, viewsets.GenericViewSet[Any]):
    """Gives actions their permission, and turns a refusal into an answer with a sentence."""

    acting: frozenset[str] = frozenset()
    needs = "change"  # the right that actions need: operate, where change means settings

    def get_permissions(self) -> list[Any]:
        return [MayAct(self.needs)] if self.action in self.acting else [ModelPermissions()]

    def refused(self, act: Callable[[], Response]) -> Response:
        """Not now: 409.  Wrong input: 400.  The other system: 502."""
        try:
            return act()
        except (NotNow, decisions.Undecidable, IllegalTransition) as refusal:
            return Response({"detail": str(refusal)}, status=status.HTTP_409_CONFLICT)
        except SettingsError as error:
            problems = list(error.problems)
            return Response({"detail": " ".join(problems), "problems": problems}, status=status.HTTP_400_BAD_REQUEST)
        except ConnectorError as error:
            return Response({"detail": redaction.text(str(error))}, status=status.HTTP_502_BAD_GATEWAY)


def accepted(job: Any, **more: object) -> Response:
    """Answer a request that a job carries out."""
    return Response({"job": JobSerializer(job).data, **more}, status=status.HTTP_202_ACCEPTED)
