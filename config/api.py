"""Which addresses does the API have?"""

from __future__ import annotations

from rest_framework.routers import DefaultRouter

from connectors import api as connectors
from jobs import api as jobs

router = DefaultRouter()
router.register("connections", connectors.ConnectionViewSet, basename="connection")
router.register("presets", connectors.PresetViewSet, basename="preset")
router.register("integrations", connectors.IntegrationViewSet, basename="integration")
router.register("runs", connectors.RunViewSet, basename="run")
router.register("links", connectors.LinkViewSet, basename="link")
router.register("changes", connectors.ChangeViewSet, basename="change")
router.register("events", connectors.EventViewSet, basename="event")
router.register("api-calls", connectors.ApiCallViewSet, basename="api-call")
router.register("jobs", jobs.JobViewSet, basename="job")
