"""A client's settings; what differs between clients and places comes from the environment."""

import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from environs import validate

from usercast.env import Environment
from usercast.errors import ConfigurationError
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
globals().update(https_settings(env))

#: Where the master answers, and this client's token there (`manage.py clients add` prints both):
#: for the first load, for comparing, and for reports. Without them there is none of these.
USERCAST_MASTER_URL = env.str("USERCAST_MASTER_URL", None)
USERCAST_MASTER_TOKEN = env.str("USERCAST_MASTER_TOKEN", None)
#: How often this client compares its users with the master's.
USERCAST_COMPARE_SECONDS = env.int("USERCAST_COMPARE_SECONDS", 30, validate=validate.Range(min=1))
#: This client's name: its queues are usercast-<name>-live and -bulk.
USERCAST_CLIENT = env.str("USERCAST_CLIENT")
#: Pages from which browsers may open the WebSocket, such as https://billing.example.org.
ALLOWED_ORIGINS: list[str] = env.list("ALLOWED_ORIGINS")
for origin in ALLOWED_ORIGINS:
    # Channels would take '*', a leading dot or a missing scheme for a whole lot of origins.
    if not re.fullmatch(r"https?://([a-z0-9][a-z0-9.-]*|\[[0-9a-f:]+\])(:\d+)?", origin):
        raise ConfigurationError(
            f"ALLOWED_ORIGINS: {origin!r} is not one origin, such as https://billing.example.org"
        )
#: Changes the feed keeps for browsers that come back.
USERCAST_FEED_KEEP = env.int("USERCAST_FEED_KEEP", 100_000)

INSTALLED_APPS = [
    # Before staticfiles, whose `runserver` it replaces. Images have uvicorn alone.
    *(["daphne"] if find_spec("daphne") else []),
    "usercast_client.replica",
    "usercast_client.inbox",
    "usercast_client.live",
    "usercast_client.report",
    "usercast_client.dashboard",
    "usercast",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "channels",
    "csp",
    "rest_framework",
    "knox",
]

MIDDLEWARE = [
    "usercast.health.HealthMiddleware",
    "usercast.metrics.MetricsMiddleware",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "usercast.middleware.request_log",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "usercast_client.urls"
ASGI_APPLICATION = "usercast_client.asgi.application"

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
        # No persistent connections: under ASGI a request may run in any thread.
        **env.database("DATABASE_URL", conn_max_age_seconds=0),
        "TEST": {"NAME": "test_client"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "replica.User"
_VALIDATORS = "django.contrib.auth.password_validation"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"{_VALIDATORS}.UserAttributeSimilarityValidator"},
    {"NAME": f"{_VALIDATORS}.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": f"{_VALIDATORS}.CommonPasswordValidator"},
    {"NAME": f"{_VALIDATORS}.NumericPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "dashboard:index"
LOGOUT_REDIRECT_URL = "login"
# Cookies know no ports: two clients on one host need names of their own.
SESSION_COOKIE_NAME = f"usercast_{USERCAST_CLIENT}_session"
CSRF_COOKIE_NAME = f"usercast_{USERCAST_CLIENT}_csrf"

LANGUAGE_CODE = "en"
#: Of the pages; what is stored, logged and sent is in UTC.
TIME_ZONE = env.time_zone("TZ", "UTC")
USE_TZ = True

STATIC_URL = "static/"
# An image collects its static files there; without it they are served from where they are.
STATIC_ROOT = env.str("STATIC_ROOT", None)
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
# Chart.js, as django-unfold brings it; the rest of that package is not used here.
STATICFILES_DIRS = [("chart", Path(str(files("unfold"))) / "static/unfold/js/chart")]

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
USERCAST_SERVICE = f"usercast-{USERCAST_CLIENT}"
LOGGING = logging_config(env, USERCAST_SERVICE)
globals().update(metrics_settings(env))

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "knox.auth.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["usercast_client.api.permissions.MaySeeDashboard"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
REST_KNOX = {"TOKEN_TTL": None}

REDIS_URL = env.redis_url("REDIS_URL")
CHANNEL_LAYERS = {
    "default": {
        # Pub/sub keeps sockets open while Redis restarts; what is lost meanwhile the feed has.
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        # Redis shares pub/sub between its numbered databases, so clients need names of their own.
        "CONFIG": {"hosts": [REDIS_URL], "prefix": f"usercast.{USERCAST_CLIENT}"},
    }
}

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
    "socket_keepalive": True,
    # A worker that acknowledges as its connection breaks would end (kombu 5.7; `make chaos`).
    "ack_emulation": False,
}
# A queue, and a worker, of its own: a tick waits behind nothing.
CELERY_TASK_ROUTES = {"usercast_client.live.tasks.tick": {"queue": "clock"}}
CELERY_BEAT_SCHEDULE = {
    "tick": {
        "task": "usercast_client.live.tasks.tick",
        "schedule": 0.5,
        "options": {"expires": 1},
    },
    "trim": {
        "task": "usercast_client.live.tasks.trim_feed",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "dead-letters": {
        "task": "usercast_client.inbox.tasks.count_dead_letters",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
}
if USERCAST_MASTER_URL and USERCAST_MASTER_TOKEN:
    CELERY_BEAT_SCHEDULE |= {
        "report": {
            "task": "usercast_client.report.tasks.send_report",
            "schedule": 5.0,
            "options": {"expires": 5},
        },
        "compare": {
            "task": "usercast_client.report.tasks.compare",
            "schedule": float(USERCAST_COMPARE_SECONDS),
            "options": {"expires": USERCAST_COMPARE_SECONDS},
        },
    }
