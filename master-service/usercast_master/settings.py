"""The master's settings; everything that differs between places comes from the environment."""

from datetime import timedelta

from celery.schedules import crontab
from django.templatetags.static import static
from environs import validate
from redis.backoff import NoBackoff
from redis.retry import Retry

from usercast.env import Environment
from usercast.https import https_settings
from usercast.logging import logging_config
from usercast.metrics import metrics_settings

env = Environment()

SECRET_KEY = env.str("SECRET_KEY")
#: Earlier keys: what they have signed, sessions above all, holds until they are taken away.
SECRET_KEY_FALLBACKS: list[str] = env.list("SECRET_KEY_FALLBACKS", [])
DEBUG = env.bool("DEBUG", False)
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", [])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [])
https = https_settings(env)
globals().update(https)

USERCAST_TOPIC_ARN = env.str("USERCAST_TOPIC_ARN")
#: Where clients reach this service; told to whoever registers one.
USERCAST_MASTER_URL = env.str("USERCAST_MASTER_URL", None)
#: Nothing uses it: the example of a secret that infra/swarm brings here as a file. With
#: `manage.py configuration` one sees that it has come, and that it has been rotated.
EC2_SUPERSECRET = env.str("EC2_SUPERSECRET", None)
#: Staff and superusers stay on the master unless this is set.
USERCAST_REPLICATE_STAFF = env.bool("USERCAST_REPLICATE_STAFF", False)

#: Within so long of a dismissal each client has to have said that access has ended there.
USERCAST_DISMISSAL_SECONDS = env.int(
    "USERCAST_DISMISSAL_SECONDS", 10, validate=validate.Range(min=1)
)
#: So long the clients' receipts are kept, as proof.
USERCAST_RECEIPT_DAYS = env.int("USERCAST_RECEIPT_DAYS", 400, validate=validate.Range(min=1))

INSTALLED_APPS = [
    "usercast_master.accounts",
    "usercast_master.outbox",
    "usercast_master.clients",
    "usercast_master.transfer",
    "usercast_master.api",
    "usercast_master.signin",
    "usercast_master.desk",
    "usercast",
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "usercast_master.desk.apps.DeskAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "csp",
    "axes",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "rest_framework",
    "knox",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

MIDDLEWARE = [
    "usercast.health.HealthMiddleware",
    "usercast.metrics.MetricsMiddleware",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "usercast_master.desk.policy.PolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "usercast.middleware.request_log",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "usercast_master.signin.middleware.require_second_factor",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "usercast_master.urls"
WSGI_APPLICATION = "usercast_master.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": {
        **env.database("DATABASE_URL", conn_max_age_seconds=60),
        "TEST": {"NAME": "test_master"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.User"
#: Each user's last passwords, the current one included, are not taken again.
USERCAST_PASSWORDS_REMEMBERED = env.int(
    "USERCAST_PASSWORDS_REMEMBERED", 10, validate=validate.Range(min=1)
)
_VALIDATORS = "django.contrib.auth.password_validation"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"{_VALIDATORS}.UserAttributeSimilarityValidator"},
    {"NAME": f"{_VALIDATORS}.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": f"{_VALIDATORS}.CommonPasswordValidator"},
    {"NAME": f"{_VALIDATORS}.NumericPasswordValidator"},
    {
        "NAME": "usercast_master.accounts.passwords.DontRepeatValidator",
        "OPTIONS": {"remembered": USERCAST_PASSWORDS_REMEMBERED},
    },
]
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
# In the database: sign-in is throttled with Redis away, too. docs/accounts.md says why so.
AXES_HANDLER = "usercast_master.signin.lockout.LockoutHandler"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_CALLABLE = "usercast_master.signin.lockout.locked_out"
AXES_CLIENT_IP_CALLABLE = "usercast.https.client_address"
AXES_ENABLE_ADMIN = False  # signin.admin has pages of its own.
AXES_VERBOSE = False
#: Staff give a code of an authenticator app after their password. docs/accounts.md
USERCAST_SECOND_FACTOR = env.bool("USERCAST_SECOND_FACTOR", False)
OTP_TOTP_ISSUER = "Usercast"
SESSION_COOKIE_NAME = "usercast_master_session"
CSRF_COOKIE_NAME = "usercast_master_csrf"

LANGUAGE_CODE = "en"
#: Of the pages; what is stored, logged and sent is in UTC.
TIME_ZONE = env.time_zone("TZ", "UTC")
USE_TZ = True

STATIC_URL = "static/"
# An image collects its static files there; without it they are served from where they are.
STATIC_ROOT = env.str("STATIC_ROOT", None)
WHITENOISE_USE_FINDERS = STATIC_ROOT is None

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
    }
}

#: As logs and traces name it.
USERCAST_SERVICE = "usercast-master"
LOGGING = logging_config(env, USERCAST_SERVICE)
globals().update(metrics_settings(env))
# Its lines name people's browsers; signin.lockout logs what counts.
LOGGING["loggers"]["axes"] = {"level": "ERROR"}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "usercast_master.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["usercast_master.api.permissions.MayCall"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["usercast_master.api.parsing.StrictJSONParser"],
    "DEFAULT_THROTTLE_CLASSES": ["usercast_master.api.throttling.CallerThrottle"],
    "DEFAULT_SCHEMA_CLASS": "usercast_master.api.schema.ApiSchema",
    "EXCEPTION_HANDLER": "usercast_master.api.problems.handle",
    "NUM_PROXIES": https["TRUSTED_PROXIES"],
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
#: Requests of one caller: ``<count>/<sec|min|hour|day>``.
API_RATES = {
    kind: env.str(
        f"API_{kind.upper()}_RATE",
        rate,
        validate=validate.Regexp(r"^[1-9]\d*/(s|sec|min|hour|day)$"),
    )
    for kind, rate in (("read", "6000/min"), ("write", "1200/min"))
}
KNOX_TOKEN_MODEL = "master_api.ApiToken"  # noqa: S105 - a model
# Its first migration depends on the token's model, which databases in use do not have yet.
MIGRATION_MODULES = {"knox": None}
REST_KNOX = {"TOKEN_TTL": timedelta(days=90), "TOKEN_PREFIX": "ucm_"}
CACHES = {
    "default": {"BACKEND": "django_prometheus.cache.backends.locmem.LocMemCache"},
    "throttle": {
        "BACKEND": "django_prometheus.cache.backends.redis.NativeRedisCache",
        "LOCATION": env.redis_url("REDIS_URL"),
        "KEY_PREFIX": "throttle",
        # A request must not wait for a Redis that is away.
        "OPTIONS": {
            "socket_connect_timeout": 0.25,
            "socket_timeout": 0.25,
            "retry": Retry(NoBackoff(), 0),
        },
    },
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Usercast master",
    "DESCRIPTION": "The organisation's users. Every change reaches each client within a moment.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "TAGS": [
        {"name": "users", "description": "The replicated users; staff are the admin's."},
        {"name": "groups", "description": "Groups, which users name."},
        {"name": "outbox", "description": "What has yet to reach the clients."},
        {"name": "snapshot", "description": "Everything at once, for a client's first load."},
        {"name": "digests", "description": "To prove that a client's copy is the master's."},
        {"name": "clients", "description": "How the clients stand, told by themselves."},
    ],
    "COMPONENT_SPLIT_REQUEST": True,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

CELERY_BROKER_URL = env.redis_url("REDIS_URL")
CELERY_TASK_IGNORE_RESULT = True
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A task is only a hint that there is work: with the broker away, fail at once and do it yourself.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
    "socket_keepalive": True,
    # Tasks are hints, so none is put back by an acknowledgement that fails to come; and a worker
    # that acknowledges as its connection breaks would end (kombu 5.7; found by `make chaos`).
    "ack_emulation": False,
}
# The publishing task looks after its connection itself; Celery would make a new one for each task.
CELERY_DB_REUSE_MAX = 1_000_000
CELERY_BEAT_SCHEDULE = {
    "sweep": {
        "task": "usercast_master.outbox.tasks.publish_outbox",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "clients": {
        "task": "usercast_master.clients.tasks.look",
        "schedule": 15.0,
        "options": {"expires": 10},
    },
    "canary": {
        "task": "usercast_master.clients.tasks.send_canary",
        "schedule": 5.0,
        "options": {"expires": 15},
    },
    "dismissals": {
        "task": "usercast_master.clients.tasks.close_dismissals",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
    "imports": {
        "task": "usercast_master.transfer.tasks.work_on_imports",
        "schedule": 10.0,
        "options": {"expires": 10},
    },
    "trim-imports": {
        "task": "usercast_master.transfer.tasks.trim_imports",
        "schedule": crontab(hour="3", minute="47"),
    },
    "answers": {
        "task": "usercast_master.api.tasks.trim_answers",
        "schedule": 3600.0,
    },
    "audit": {
        "task": "usercast_master.outbox.tasks.audit_outbox",
        "schedule": crontab(hour="3", minute="17"),  # A quiet hour, by UTC.
    },
    "trim-sign-ins": {
        "task": "usercast_master.signin.tasks.trim_sign_ins",
        "schedule": crontab(hour="3", minute="27"),
    },
}

UNFOLD = {
    "SITE_TITLE": "Usercast master",
    "SITE_HEADER": "Usercast",
    "SITE_SUBHEADER": "the master's desk",
    "SITE_URL": None,
    "SITE_ICON": lambda _request: static("desk/icon.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("desk/icon.svg")}
    ],
    "STYLES": [lambda _request: static("desk/desk.css")],
    "BORDER_RADIUS": "8px",
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 266)",
            "100": "oklch(93.5% .03 266)",
            "200": "oklch(88% .06 266)",
            "300": "oklch(81% .1 266)",
            "400": "oklch(74% .13 266)",
            "500": "oklch(62% .18 266)",
            "600": "oklch(49% .18 266)",
            "700": "oklch(43% .16 266)",
            "800": "oklch(37% .13 266)",
            "900": "oklch(31% .1 266)",
            "950": "oklch(23% .07 266)",
        },
    },
    "SIDEBAR": {"show_search": False, "navigation": "usercast_master.desk.navigation.sections"},
}
