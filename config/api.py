"""Which addresses does the API have?"""

from __future__ import annotations

from rest_framework.routers import DefaultRouter

from config import api_tokens
from connectors.api import (
    conflicts,
    connections,
    integrations,
    links,
    logs,
    mappings,
    preferences,
    presets,
    problems,
    promotions,
    runs,
    settings,
)
from jobs import api as jobs
from jobs import api_alerts, api_pauses
from scheduling import api as scheduling
from scheduling import api_preflight

router = DefaultRouter()
router.register("connections", connections.ConnectionViewSet, basename="connection")
router.register("presets", presets.PresetViewSet, basename="preset")
router.register("integrations", integrations.IntegrationViewSet, basename="integration")
router.register("runs", runs.RunViewSet, basename="run")
router.register("problems", problems.ProblemViewSet, basename="problem")
router.register("conflicts", conflicts.ConflictViewSet, basename="conflict")
router.register("links", links.LinkViewSet, basename="link")
router.register("changes", logs.ChangeViewSet, basename="change")
router.register("promotions", promotions.PromotionViewSet, basename="promotion")
router.register(r"integrations/(?P<integration_id>\d+)/promote", promotions.PromoteViewSet, basename="promote")
router.register(
    r"integrations/(?P<integration_id>\d+)/preferences", preferences.PreferencesViewSet, basename="preferences"
)
router.register(r"integrations/(?P<integration_id>\d+)/history", settings.SettingsHistoryViewSet, basename="history")
router.register("entity-syncs", settings.EntitySyncViewSet, basename="entity-sync")
router.register(r"entity-syncs/(?P<sync_id>\d+)/mappings", mappings.MappingViewSet, basename="mapping")
router.register("events", logs.EventViewSet, basename="event")
router.register("api-calls", logs.ApiCallViewSet, basename="api-call")
router.register("jobs", jobs.JobViewSet, basename="job")
router.register("pauses", api_pauses.PauseViewSet, basename="pause")
router.register("alerts", api_alerts.AlertViewSet, basename="alert")
router.register("alert-rules", api_alerts.AlertRuleViewSet, basename="alert-rule")
router.register("alert-messages", api_alerts.AlertMessageViewSet, basename="alert-message")
router.register("failing", api_alerts.FailingViewSet, basename="failing")
router.register("job-transitions", jobs.TransitionViewSet, basename="job-transition")
router.register("tokens", api_tokens.TokenViewSet, basename="token")
router.register("services", scheduling.ServiceViewSet, basename="service")
router.register("provisionings", scheduling.ProvisioningViewSet, basename="provisioning")
router.register("blackouts", scheduling.BlackoutViewSet, basename="blackout")
router.register(r"integrations/(?P<integration_id>\d+)/preflight", api_preflight.PreflightViewSet, basename="preflight")
