"""Which settings does Syncline read?  Each once, here; `.env.example` lists them all."""

from __future__ import annotations

from datetime import time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import environ
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.urls import reverse_lazy

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
if env.bool("READ_DOT_ENV", default=True):
    environ.Env.read_env(BASE_DIR / ".env")


def _required(name: str, how: str) -> str:
    """Return a setting that must be given, or stop the start with a sentence that says what to do."""
    value = env.str(name, default="")
    if not value:
        raise ImproperlyConfigured(f"{name} is not set. {how} See .env.example; `make demo` needs none of it.")
    return value


DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = _required(
    "SECRET_KEY",
    'Make one with `python -c "import secrets; print(secrets.token_urlsafe(50))"` and put it into .env.',
)
# The first key encrypts, all of them decrypt: that is how keys are rotated (`manage.py rotate_credentials`).
CREDENTIAL_KEYS = [
    key.strip()
    for key in _required(
        "CREDENTIAL_KEYS",
        'Make one with `python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"`'
        " and put it into .env; keep it apart from the database's backups.",
    ).split(",")
    if key.strip()
]

for _key in CREDENTIAL_KEYS:
    try:
        Fernet(_key)
    except ValueError as error:
        raise ImproperlyConfigured(
            "CREDENTIAL_KEYS holds a key that is none: each is 32 bytes in URL-safe base64. See .env.example."
        ) from error

ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
HTTPS = env.bool("HTTPS", default=not DEBUG)
# False where TLS ends in this process: there anybody could claim https with a header of his own.
BEHIND_PROXY = HTTPS and env.bool("BEHIND_PROXY", default=True)

EXTRA_CONNECTORS = env.list("EXTRA_CONNECTORS", default=[])
INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",  # the plain "unfold" would put its own site in the place of ours
    "config.apps.SynclineAdminConfig",
    "django.contrib.auth",
    "config.apps.FrameConfig",  # below auth: the groups get their rights after auth has made them
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "django_q",
    "axes",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "simple_history",
    "import_export",
    "connectors",
    "connectors.memory",
    "connectors.quickbooks",
    "connectors.dynamics365",
    "jobs",
    "scheduling",
    *EXTRA_CONNECTORS,  # third-party connectors are ordinary Django apps
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "config.headers.SecurityHeaders",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "config.zone.PersonsZone",
    "config.unstorable.Unstorable",
    "config.once.Once",  # below the messages: it says that a form was sent twice
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",  # who changed settings
    "axes.middleware.AxesMiddleware",  # the last one: it turns a locked-out login into an answer
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "config" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASE_URL = env.str("DATABASE_URL", default="") or f"sqlite:///{BASE_DIR / 'var' / 'syncline.sqlite3'}"
DATABASES = {"default": env.db_url_config(DATABASE_URL)}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    name = str(DATABASES["default"]["NAME"])
    if name and ":memory:" not in name:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,  # seconds to wait for the one writer
        "transaction_mode": "IMMEDIATE",  # a read that becomes a write would fail at once, whatever the time-out
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-8000;",
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = env.int("CONN_MAX_AGE", default=60)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # 15 minutes are 15 minutes, whatever is tried meanwhile
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]  # together: nobody can lock out others from elsewhere
AXES_LOCKOUT_CALLABLE = "config.access.locked_out"
AXES_CLIENT_IP_CALLABLE = "config.access.client_address"
AXES_RESET_ON_SUCCESS = True
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False
AXES_ENABLE_ADMIN = False  # config.people has a page in the theme's looks
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
SESSION_COOKIE_AGE = env.int("SESSION_HOURS", default=12) * 3600

LANGUAGE_CODE = "en"
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = ["config.formats"]  # one way to write times, on every page
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATIC_ROOT.mkdir(exist_ok=True)  # whitenoise warns at each start where there is none
WHITENOISE_USE_FINDERS = True

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SESSION_COOKIE_HTTPONLY = True
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]  # probes speak plain http to this process
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
if HTTPS:
    SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=31_536_000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "config.rest.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["config.rest.ModelPermissions"],
    "DEFAULT_FILTER_BACKENDS": ["config.queries.Filters"],
    "DEFAULT_PAGINATION_CLASS": "config.rest.NewestFirst",
    "PAGE_SIZE": 50,
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.rest.StrictJson"],
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "DEFAULT_SCHEMA_CLASS": "config.openapi.Described",
    "EXCEPTION_HANDLER": "config.unstorable.answer",
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Syncline",
    "DESCRIPTION": "The same nouns and verbs as in the admin. Send `Authorization: Bearer syn_...`, or log in to the admin.",
    "VERSION": "1",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "config.bodies.close"],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "ENUM_NAME_OVERRIDES": {
        "ProvisioningStatusEnum": "scheduling.models.Provisioning.Status",
        "JobStatusEnum": "jobs.states.StatusReason",
        "LifeEnum": "connectors.models.RecordLink.Life",
        "LinkStateEnum": "connectors.models.RecordLink.State",
        "ConnectionStateEnum": "connectors.models.Connection.State",
        "ChangeStatusEnum": "connectors.models.RecordChange.Status",
        "AlertWhatEnum": "jobs.models.AlertRule.What",
        "PauseKindEnum": "jobs.models.Pause.Kind",
        "MessageKindEnum": "jobs.models.AlertMessage.Kind",
        "MessageStatusEnum": "jobs.models.AlertMessage.Status",
        "ProblemKindEnum": "connectors.models.ProblemGroup.Kind",
        "PromotionStatusEnum": "connectors.models.Promotion.Status",
        "SideEnum": "connectors.models.run.SIDES",
        "ProposalKindEnum": "connectors.sync.proposals.KINDS",
        "PushEnum": "connectors.sync.entity_settings.PUSHES",
        "MappingResourceEnum": "connectors.sync.mapping_files.RESOURCES",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")  # lets Prometheus read /metrics; an API token does, too

# Connectors and their transport
PRESET_FOLDER = env.str("PRESET_FOLDER", default="")  # a folder with presets of your own
ALLOWED_PRIVATE_NETWORKS = env.list("ALLOWED_PRIVATE_NETWORKS", default=[])  # CIDR; empty: public addresses only
API_LOG_BODIES = env.bool("API_LOG_BODIES", default=False)  # debug mode: bodies are kept, redacted
CONNECT_TIMEOUT = env.float("CONNECT_TIMEOUT", default=10.0)  # seconds
READ_TIMEOUT = env.float("READ_TIMEOUT", default=60.0)

# Jobs.  JOBS section 4; tests of killed workers use seconds.
JOB_RETRIES = env.int("JOB_RETRIES", default=5)  # after the first try
JOB_LEASE_SECONDS = env.float("JOB_LEASE_SECONDS", default=90.0)
JOB_HEARTBEAT_SECONDS = env.float("JOB_HEARTBEAT_SECONDS", default=20.0)
JOB_REAPER_SECONDS = env.float("JOB_REAPER_SECONDS", default=30.0)
JOB_SLICE_SECONDS = env.float("JOB_SLICE_SECONDS", default=50.0)
JOB_UNCLAIMED_SECONDS = env.float("JOB_UNCLAIMED_SECONDS", default=120.0)
JOB_DISPATCH_SECONDS = env.float("JOB_DISPATCH_SECONDS", default=1.0)
JOB_HANDLERS_EXTRA = [
    "scheduling.handlers",
    *env.list("JOB_HANDLERS_EXTRA", default=[]),
]  # modules with a dict HANDLERS: type -> dotted path
WORKERS = env.int("WORKERS", default=4)
WORKER_BEAT_SECONDS = env.float("WORKER_BEAT_SECONDS", default=20.0)  # a task through the queue proves that it works
WORKER_STALL_SECONDS = env.float("WORKER_STALL_SECONDS", default=180.0)
WORKER_GRACE_SECONDS = env.float("WORKER_GRACE_SECONDS", default=30.0)
WORKER_RUN_FILE = env.str("WORKER_RUN_FILE", default="") or str(BASE_DIR / "var" / "worker.json")  # one worker for each
# "dotted.function=seconds", called in the worker's loop
WORKER_CHORES = [
    "scheduling.dispatch.tick=1",
    "jobs.alerts.watch.tick=30",
    "jobs.housekeeping.tick.tick=600",
    *env.list("WORKER_CHORES", default=[]),
]

# An integration that keeps failing: a warning, then a pause with one try a day
FAILING_WARN_AT = env.int("FAILING_WARN_AT", default=5)  # runs in a row that failed for good
FAILING_PAUSE_AT = env.int("FAILING_PAUSE_AT", default=20)
FAILING_PAUSE_DAYS = env.int("FAILING_PAUSE_DAYS", default=4)  # without a success since the first of them

# How many days is what kept?  Links, settings and the log of what people did: for ever
KEEP_DAYS = {
    "bodies": env.int("KEEP_DAYS_BODIES", default=14),  # of API calls, where API_LOG_BODIES keeps them
    "api calls": env.int("KEEP_DAYS_API_CALLS", default=14),
    "events": env.int("KEEP_DAYS_EVENTS", default=90),
    "runs": env.int("KEEP_DAYS_RUNS", default=90),  # with their changes, and so with what an undo needs
    "jobs": env.int("KEEP_DAYS_JOBS", default=90),
    "alerts": env.int("KEEP_DAYS_ALERTS", default=365),
    "messages": env.int("KEEP_DAYS_MESSAGES", default=30),  # that alerts sent
}
if min(KEEP_DAYS.values()) < 1:
    raise ImproperlyConfigured("Each KEEP_DAYS_... is at least 1.")

SYNCLINE_TEST_CLOCK = env.str("SYNCLINE_TEST_CLOCK", default="")  # tests only: a file with the time, see jobs/clock.py
REDIS_URL = env.str("REDIS_URL", default="")

# Services.  "ask": an administrator of the hub approves before they start; "at_once": saving them is enough
PROVISIONING = env.str("PROVISIONING", default="ask")
if PROVISIONING not in ("ask", "at_once"):
    raise ImproperlyConfigured(f"PROVISIONING is ask or at_once, not {PROVISIONING!r}.")
PROVISIONING_HOURS = env.int("PROVISIONING_HOURS", default=24)  # how long it may take, as requesters are told

# Mail: smtp://user:password@host:587, smtp+tls:// or smtp+ssl://; the default prints it
vars().update(env.email_url("EMAIL_URL", default="consolemail://"))
DEFAULT_FROM_EMAIL = env.str("MAIL_FROM", default="syncline@localhost")
EMAIL_TIMEOUT = env.int("EMAIL_TIMEOUT", default=20)  # seconds
# Alerts: when the daily digest of what is still wrong goes out, and on whose clocks
ALERT_DIGEST_AT = env.str("ALERT_DIGEST_AT", default="08:00")
ALERT_ZONE = env.str("ALERT_ZONE", default="") or TIME_ZONE
try:
    time.fromisoformat(ALERT_DIGEST_AT), ZoneInfo(ALERT_ZONE)
except (ValueError, ZoneInfoNotFoundError) as error:
    raise ImproperlyConfigured(
        "ALERT_DIGEST_AT is a time like 08:00, and ALERT_ZONE the name of a time zone like Europe/Paris."
    ) from error
SITE_URL = env.str("SITE_URL", default="")  # this hub's own address, for links in mails: https://sync.example.com

# django-q2 delivers at least once and its own retry counter cannot be used: jobs.checks refuses other values.
Q_CLUSTER = {
    "name": "syncline",
    "workers": WORKERS,
    "queue_limit": WORKERS,
    "bulk": 1,
    "timeout": 120,
    "retry": 480,
    "max_attempts": 1,
    "ack_failures": True,
    "catch_up": False,
    "save_limit": -1,
    "recycle": 200,
    "max_rss": 300_000,
    "poll": env.float("QUEUE_POLL_SECONDS", default=0.5),
    "guard_cycle": 1,
    "scheduler": False,
    "label": "Queue (django-q2)",
    **({"redis": REDIS_URL} if REDIS_URL else {"orm": "default"}),
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
}

# The mappings editor sends some 14 fields for a row; 2,000 pairs of options and more must fit.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 20_000
UNFOLD = {
    "SITE_TITLE": "Syncline",
    "SITE_HEADER": "Syncline",
    "SITE_SUBHEADER": "Business systems in agreement",
    "SITE_SYMBOL": "sync_alt",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "6px",
    "STYLES": ["config.admin.stylesheet"],
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "config.admin.favicon"}],
    "SCRIPTS": ["config.admin.script", "config.admin.live_script", "config.admin.names_script"],
    "ACCOUNT": {
        "navigation": [
            {"title": "Time zone", "link": reverse_lazy("admin:time_zone")},
            {"title": "Change password", "link": reverse_lazy("admin:password_change")},
        ]
    },
    "COLORS": {
        "primary": {
            "50": "oklch(97.6% .016 196)",
            "100": "oklch(94.4% .036 196)",
            "200": "oklch(89.2% .066 196)",
            "300": "oklch(81.6% .098 196)",
            "400": "oklch(71.8% .112 196)",
            "500": "oklch(61.6% .104 197)",
            "600": "oklch(51.8% .089 198)",
            "700": "oklch(44.2% .075 200)",
            "800": "oklch(38.2% .062 201)",
            "900": "oklch(33.4% .052 203)",
            "950": "oklch(24.6% .042 205)",
        },
    },
    "SIDEBAR": {"show_search": False, "show_all_applications": False, "navigation": "config.admin.navigation"},
}
