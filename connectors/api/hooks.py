"""What happens when a system calls?  The call is verified, what it names is marked, and a run is asked for: no system is asked."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.views.decorators.csrf import csrf_exempt

from connectors.contract import ConnectorError, Forged, Heard
from connectors.hooks import listener
from connectors.models import Connection, HeardEvent, Hook, HookMark, Integration, Scope
from connectors.models.hook import KEPT
from connectors.transport.auth import WHAT_TO_DO
from jobs import clock
from jobs.states import Priority
from jobs.syncing import NotNow, request_sync
from scheduling.models import Service
from scheduling.standing import shown, standings

MOST = 1024 * 1024  # bytes of one call
COLLECT = timedelta(seconds=10)  # between a call and its run: what people change comes in several calls
SWEPT = 1000  # outdated ids that one call takes away
logger = logging.getLogger(__name__)


@csrf_exempt
def receive(request: HttpRequest, system: str, key: str) -> HttpResponse:
    """Answer a system's call.  A wrong address and a wrong signature are answered alike."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    now = clock.now()
    hook, takes = Hook.objects.answering(system, key, now), listener(system)
    if hook is None or takes is None:
        return HttpResponse(status=401)
    body = request.read(MOST + 1)
    if len(body) > MOST:
        return HttpResponse(status=413)
    try:
        heard = takes.receive("POST", dict(request.headers), request.GET.dict(), body, hook.verifiers())
    except Forged:
        Hook.objects.filter(pk=hook.pk).update(forged=F("forged") + 1)
        logger.warning("a webhook for %s had a signature that does not fit", system)
        return HttpResponse(status=401)
    except ConnectorError as error:
        logger.warning("a webhook of %s was not understood: %s", system, error)
        return HttpResponse(status=400)
    take(hook, heard, now)
    return HttpResponse(heard.body, status=heard.status, content_type="text/plain")


def take(hook: Hook, heard: Heard, now: datetime) -> None:
    """Mark what a verified call names and ask for the runs, all or nothing: a call that fails is repeated by the system."""
    with transaction.atomic():
        news, repeated = _unheard(hook, heard, now)
        wanted = Counter(instance for instance, _ in news)
        connections = list(Connection.objects.filter(system=hook.system, instance__in=wanted))
        known = {connection.instance for connection in connections}
        for connection in connections:
            events = wanted[connection.instance]
            told = {"last_heard_at": now, "events": F("events") + events}
            first = {"last_heard_at": now, "events": events}
            HookMark.objects.update_or_create(told, first, connection=connection)
        Hook.objects.filter(pk=hook.pk).update(
            heard=F("heard") + 1, last_heard_at=now, repeated=F("repeated") + repeated,
            unknown=F("unknown") + sum(count for instance, count in wanted.items() if instance not in known),
        )  # fmt: skip
        wake([c for c in connections if c.state not in WHAT_TO_DO], now)


def _unheard(hook: Hook, heard: Heard, now: datetime) -> tuple[list[tuple[str, str]], int]:
    """Return the marks that were not heard before, and how many were."""
    outdated = HeardEvent.objects.filter(expires_at__lte=now).values("pk")[:SWEPT]
    HeardEvent.objects.filter(pk__in=list(outdated.values_list("pk", flat=True))).delete()
    digests = [hashlib.sha256(event.encode()).hexdigest() if event else "" for event in heard.ids]
    digests += [""] * (len(heard.marks) - len(digests))  # a system without ids: each call counts
    before = set(HeardEvent.objects.filter(hook=hook, digest__in=digests).values_list("digest", flat=True))
    news: list[tuple[str, str]] = []
    seen: dict[str, HeardEvent] = {}
    for mark, digest in zip(heard.marks, digests, strict=True):
        if digest in before or digest in seen:
            continue
        news.append(mark)
        if digest:
            seen[digest] = HeardEvent(hook=hook, digest=digest, expires_at=now + KEPT)
    HeardEvent.objects.bulk_create(seen.values(), ignore_conflicts=True)
    return news, len(heard.marks) - len(news)


def wake(connections: Sequence[Connection], now: datetime) -> int:
    """Ask for a run of each integration that uses one of these, as far as its services may run now; how many were asked for.

    A call is only a hint: what is not started now is read by the next scheduled run.
    """
    either = Q(left__in=connections) | Q(right__in=connections)
    integrations = Integration.objects.filter(either, enabled=True).select_related("left", "right")
    read = set(
        Scope.objects.filter(
            integration__in=integrations, left_key="", right_key="", last_full_at__isnull=False
        ).values_list("integration", flat=True)
    )  # the first run of all is for a person to start
    allowed = _allowed([integration for integration in integrations if integration.pk in read], now)
    asked = 0
    for integration, entities in allowed:
        try:
            request_sync(
                integration, entities=entities, by="webhook", priority=Priority.SCHEDULED, run_at=now + COLLECT
            )
            asked += 1
        except NotNow as why:
            logger.info("a webhook started nothing: %s", why)
    return asked


def _allowed(integrations: Iterable[Integration], now: datetime) -> list[tuple[Integration, list[str]]]:
    """Return what may run at this moment: the entity syncs of services that are on and inside their times; [] means all."""
    wanted = {integration.pk: integration for integration in integrations}
    services = Service.objects.filter(integration__in=wanted)
    scheduled = set(services.values_list("integration", flat=True))
    entities: dict[int, list[list[str]]] = {}
    for standing in standings(shown(services.filter(work="changes", enabled=True)), now):
        if standing.state.word == "On":
            entities.setdefault(standing.service.integration_id, []).append(standing.service.entities)
    found: list[tuple[Integration, list[str]]] = [(wanted[pk], []) for pk in wanted if pk not in scheduled]
    for pk, lists in entities.items():
        everything = any(not names for names in lists)
        found.append((wanted[pk], [] if everything else sorted({name for names in lists for name in names})))
    return found
