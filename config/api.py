"""Which addresses does the API have?"""

from __future__ import annotations

from rest_framework.routers import DefaultRouter

from config import api_tokens
from connectors.api import connections, integrations, links, logs, preferences, presets, problems, promotions, runs
from jobs import api as jobs
from scheduling import api as scheduling
from scheduling import api_preflight

router = DefaultRouter()
router.register("connections", connections.ConnectionViewSet, basename="connection")
router.register("presets", presets.PresetViewSet, basename="preset")
router.register("integrations", integrations.IntegrationViewSet, basename="integration")
router.register("runs", runs.RunViewSet, basename="run")
router.register("problems", problems.ProblemViewSet, basename="problem")
router.register("links", links.LinkViewSet, basename="link")
router.register("changes", logs.ChangeViewSet, basename="change")
router.register("promotions", promotions.PromotionViewSet, basename="promotion")
router.register(r"integrations/(?P<integration_id>\d+)/promote", promotions.PromoteViewSet, basename="promote")
router.register(
    r"integrations/(?P<integration_id>\d+)/preferences", preferences.PreferencesViewSet, basename="preferences"
)
router.register("events", logs.EventViewSet, basename="event")
router.register("api-calls", logs.ApiCallViewSet, basename="api-call")
router.register("jobs", jobs.JobViewSet, basename="job")
router.register("job-transitions", jobs.TransitionViewSet, basename="job-transition")
router.register("tokens", api_tokens.TokenViewSet, basename="token")
router.register("services", scheduling.ServiceViewSet, basename="service")
router.register("provisionings", scheduling.ProvisioningViewSet, basename="provisioning")
router.register("blackouts", scheduling.BlackoutViewSet, basename="blackout")
router.register(r"integrations/(?P<integration_id>\d+)/preflight", api_preflight.PreflightViewSet, basename="preflight")
