"""Every setting, from the environment. A wrong or missing value stops the start and says which.

Order: files and environment, Django, database, broker, Kafka, keys, delivery, doors, staff, admin, logs.
`.env.example` lists the variables with their meaning.
"""

import os
import re
from datetime import timedelta
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from config import VERSION as VERSION

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
# The environment wins, then `.env`, then what `make up` wrote. ENV_FILE names one file instead; empty: none.
_env_file = os.environ.get("ENV_FILE")
if _env_file and not Path(_env_file).is_file():
    raise ImproperlyConfigured(f"ENV_FILE names {_env_file}, and there is no such file.")
_files = [BASE_DIR / ".env", BASE_DIR / ".local" / "env"] if _env_file is None else [Path(_env_file)]
for _path in _files:
    if _path.is_file():  # Path("") is the directory: no file
        environ.Env.read_env(_path)


def optional(name: str) -> str:
    """The value of NAME, or what stands in the file that NAME_FILE names: orchestrators mount secrets as files."""
    path = Path(env.str(f"{name}_FILE", default=""))
    if path.name and not path.is_file():
        raise ImproperlyConfigured(f"{name}_FILE names {path}, and there is no such file.")
    return str(path.read_text().strip() if path.name else env.str(name, default=""))


def required(name: str, hint: str) -> str:
    """As `optional`, but it must be there."""
    value = optional(name)
    if not value:
        raise ImproperlyConfigured(f"{name} is not set: {hint}. See .env.example; `make up` sets it for you.")
    return value


def positive(name: str, default: float) -> float:
    try:
        value = float(env.str(name, default=str(default)))
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a number, it is {env.str(name)!r}.") from error
    if not 0 < value < float("inf"):
        raise ImproperlyConfigured(f"{name} must be above zero, it is {value}.")
    return value


def count(name: str, default: int) -> int:
    number = positive(name, default)
    if number != int(number):
        raise ImproperlyConfigured(f"{name} must be a whole number, it is {number}.")
    return int(number)


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = str(env.str(name, default=default))
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}, it is {value!r}.")
    return value


def flag(name: str, default: bool) -> bool:
    return choice(name, str(default).lower(), ("true", "false")) == "true"


def seconds(name: str, default: str) -> list[float]:
    text = str(env.str(name, default=default))
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be numbers with commas between them, it is {text!r}.") from error
    if not all(0 < number < 86_400 * 7 for number in found):
        raise ImproperlyConfigured(f"{name} must be numbers above zero and below a week, it is {text!r}.")
    return found


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    try:
        return [ip_network(part.strip()) for part in env.list(name, default=[])]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}; networks like 10.1.0.0/16 are expected.") from error


def file(name: str) -> str:
    path = str(env.str(name, default=""))
    if path and not os.access(path, os.R_OK):
        raise ImproperlyConfigured(f"{name} names {path!r}, which cannot be read.")
    return path


# --- Django ---------------------------------------------------------------------------------------

SECRET_KEY = required("SECRET_KEY", "a long random string")
DEBUG = flag("DEBUG", False)
PROCESS_NAME = str(env.str("PROCESS_NAME", default="messaging"))  # in every log line and pg_stat_activity
# Where providers and people reach us: receipt URLs are built from it.
PUBLIC_URL = required("PUBLIC_URL", "the address providers call, for example https://sms.example.com").rstrip("/")
if not PUBLIC_URL.startswith(("http://", "https://")):
    raise ImproperlyConfigured(f"PUBLIC_URL must begin with https:// or http://, it is {PUBLIC_URL!r}.")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "django_dramatiq",
    "axes",
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_otp.plugins.otp_totp",
    "providers",
    "routing",
    "messaging",
    "verification",
    "config.staff",  # last: its roles name permissions of all others
]
MIDDLEWARE = [
    "config.requests.RequestMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.headers.ContentSecurityPolicy",
    "config.requests.Sessions",
    "config.requests.Common",
    "django.middleware.csrf.CsrfViewMiddleware",
    "config.requests.Authentication",
    "config.requests.Messages",
    "config.staff.middleware.Staff",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
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
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
LOGIN_REDIRECT_URL = "admin:index"  # whoever opens the login page itself
LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "static"
# The one folder of the package that is shown; as an app it would add the files of another viewer.
_sidecar = Path(str(find_spec("drf_spectacular_sidecar").origin)).parent  # type: ignore[union-attr]
STATICFILES_DIRS = [("swagger-ui", _sidecar / "static" / "drf_spectacular_sidecar" / "swagger-ui-dist")]
# Hashed names need `collectstatic` first, which development skips.
STORAGES = {
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    }
}
WHITENOISE_USE_FINDERS = DEBUG
WHITENOISE_AUTOREFRESH = False

# Behind a TLS proxy that sets X-Forwarded-Proto. False only where nothing but loopback is served.
HTTPS = flag("HTTPS", True)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^live$", r"^ready$", r"^metrics$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS

# --- database -------------------------------------------------------------------------------------

_database_url = required("DATABASE_URL", "for example postgresql://user:password@host:5432/messaging")
if not _database_url.startswith(("postgresql://", "postgres://")):
    raise ImproperlyConfigured("DATABASE_URL must be a postgresql:// address: PostgreSQL is the truth here.")
DATABASES: dict[str, dict[str, Any]] = {"default": env.db_url_config(_database_url)}
DATABASES["default"]["ENGINE"] = "config.postgresql"
DATABASES["default"]["CONN_MAX_AGE"] = None
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
# Seconds. For `migrate` a short LOCK_TIMEOUT and a long STATEMENT_TIMEOUT: it must not stop the traffic.
STATEMENT_TIMEOUT = positive("STATEMENT_TIMEOUT", 30)
LOCK_TIMEOUT = positive("LOCK_TIMEOUT", 30)
# READ COMMITTED is assumed by every guarded UPDATE; do not raise it.
DATABASES["default"].setdefault("OPTIONS", {}).update(
    {
        "application_name": PROCESS_NAME,
        "connect_timeout": 5,
        "prepare_threshold": 5,  # allows prepared statements; providers/sql.py says which
        "options": f"-c statement_timeout={STATEMENT_TIMEOUT * 1000:.0f} -c lock_timeout={LOCK_TIMEOUT * 1000:.0f} "
        "-c idle_in_transaction_session_timeout=30s",
    }
)

# --- broker (hints only: nothing is lost with it) -------------------------------------------------

BROKER_URL = required("BROKER_URL", "amqp://..., postgresql://... or stub://")
DRAMATIQ_BROKER: dict[str, Any] = {
    "BROKER": "config.broker.broker_for_settings",
    # Named in full: django-dramatiq's own list has AdminMiddleware, which writes three rows per message.
    "MIDDLEWARE": [
        "dramatiq.middleware.AgeLimit",
        "dramatiq.middleware.TimeLimit",
        "dramatiq.middleware.ShutdownNotifications",
        "dramatiq.middleware.Retries",
        "django_dramatiq.middleware.DbConnectionsMiddleware",
        "config.broker.LaneMiddleware",
    ],
}
DRAMATIQ_AUTODISCOVER_MODULES = ["tasks"]
DRAMATIQ_IGNORED_MODULES = ["django_dramatiq.tasks"]  # it clears the rows of AdminMiddleware

# --- Kafka (events out, commands in); empty: neither --------------------------------------------

KAFKA_BOOTSTRAP_SERVERS = str(env.str("KAFKA_BOOTSTRAP_SERVERS", default=""))
KAFKA_EVENTS_TOPIC = str(env.str("KAFKA_EVENTS_TOPIC", default="messaging.events"))
KAFKA_COMMANDS_TOPIC = str(env.str("KAFKA_COMMANDS_TOPIC", default="messaging.commands"))
KAFKA_DLQ_TOPIC = str(env.str("KAFKA_DLQ_TOPIC", default="messaging.commands.dlq"))
KAFKA_GROUP = str(env.str("KAFKA_GROUP", default="messaging"))
# The fixed name of one bridge in its group: it keeps its partitions over a restart. Empty: a new member each time.
KAFKA_MEMBER = str(env.str("KAFKA_MEMBER", default=""))
KAFKA_SESSION_TIMEOUT = positive("KAFKA_SESSION_TIMEOUT", 45)  # a bridge unheard of for so long loses its partitions
KAFKA_SECURITY_PROTOCOL = choice("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", ("PLAINTEXT", "SSL", "SASL_SSL"))
KAFKA_SASL_MECHANISM = choice("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512", ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"))
KAFKA_USERNAME = str(env.str("KAFKA_USERNAME", default=""))
KAFKA_PASSWORD = str(env.str("KAFKA_PASSWORD", default=""))
if KAFKA_SECURITY_PROTOCOL == "SASL_SSL" and not (KAFKA_USERNAME and KAFKA_PASSWORD):
    raise ImproperlyConfigured("KAFKA_SECURITY_PROTOCOL is SASL_SSL: KAFKA_USERNAME and KAFKA_PASSWORD are needed.")
KAFKA_CA_FILE = file("KAFKA_CA_FILE")
KAFKA_CERTIFICATE_FILE = file("KAFKA_CERTIFICATE_FILE")  # ... and its key: mutual TLS
KAFKA_KEY_FILE = file("KAFKA_KEY_FILE")
KAFKA_KEY_PASSWORD = str(env.str("KAFKA_KEY_PASSWORD", default=""))
if bool(KAFKA_CERTIFICATE_FILE) != bool(KAFKA_KEY_FILE):
    raise ImproperlyConfigured("KAFKA_CERTIFICATE_FILE and KAFKA_KEY_FILE belong together.")
if KAFKA_SECURITY_PROTOCOL == "PLAINTEXT" and (KAFKA_CA_FILE or KAFKA_CERTIFICATE_FILE or KAFKA_USERNAME):
    raise ImproperlyConfigured("KAFKA_SECURITY_PROTOCOL is PLAINTEXT: a certificate or a user would not be used.")
# Seconds until an event without an acknowledgement is produced again, and for which a new leader of the relays waits:
# nothing that the one before has produced can arrive later than that.
KAFKA_DELIVERY_TIMEOUT = positive("KAFKA_DELIVERY_TIMEOUT", 10)
# No commands are taken while a lane has more messages waiting than this.
KAFKA_LANE_LIMIT = count("KAFKA_LANE_LIMIT", 50_000)
# A command that was not carried out is forgotten after so many days; its text and number with it.
DEAD_LETTER_DAYS = count("DEAD_LETTER_DAYS", 90)

# --- keys, one ring per purpose -------------------------------------------------------------------

# "2:<base64 of 32 bytes>,1:<...>": the first encrypts, all decrypt.
CREDENTIALS_KEYS = required("CREDENTIALS_KEYS", "id:base64 of 32 random bytes, the newest first")
# In the same form: new challenges use the first; an old one is needed until the last of its challenges is closed.
OTP_KEYS = required("OTP_KEYS", "id:base64 of 32 random bytes, the newest first")

# What remembered networks of numbers are keyed with: any long random string. Empty: none are remembered.
NETWORKS_KEY = optional("NETWORKS_KEY")

# --- delivery (seconds) ---------------------------------------------------------------------------

CONNECT_TIMEOUT = positive("CONNECT_TIMEOUT", 2)
READ_TIMEOUT = positive("READ_TIMEOUT", 8)
TOTAL_TIMEOUT = positive("TOTAL_TIMEOUT", 12)
GATE = positive("GATE", 3)  # a claim older than this is not sent
LEASE = positive("LEASE", 30)  # a claim older than this is taken over
if LEASE < GATE + TOTAL_TIMEOUT + 5:
    raise ImproperlyConfigured(
        f"LEASE ({LEASE:g} s) must be at least GATE + TOTAL_TIMEOUT + 5 s ({GATE + TOTAL_TIMEOUT + 5:g} s): "
        "a shorter lease would let a second worker take over a call that is still running."
    )
LEASE_GRACE = positive("LEASE_GRACE", 10)  # ... after these seconds more: its worker may be settling late
SLOTS = {  # calls in flight per process and lane
    "otp": count("SLOTS_OTP", 32),
    "transactional": count("SLOTS_TRANSACTIONAL", 64),
    "bulk": count("SLOTS_BULK", 256),
}
POLL = positive("POLL", 2)  # every worker looks for due work this often, hints or none
SWEEP = positive("SWEEP", 1)  # pause between two rounds of the sweeper
MAX_ATTEMPTS = count("MAX_ATTEMPTS", 3)  # attempts that a provider answered or may have taken
MAX_ATTEMPTS_OF: dict[str, int] = {  # ... of classes that differ
    lane: number
    for lane, number in (
        ("otp", count("MAX_ATTEMPTS_OTP", MAX_ATTEMPTS)),
        ("transactional", count("MAX_ATTEMPTS_TRANSACTIONAL", MAX_ATTEMPTS)),
        ("bulk", count("MAX_ATTEMPTS_BULK", MAX_ATTEMPTS)),
    )
    if number != MAX_ATTEMPTS
}
RESOLVE_WAIT = positive("RESOLVE_WAIT", 15)  # a look-up is not asked sooner than this after the submit
if RESOLVE_WAIT <= GATE:
    raise ImproperlyConfigured(
        f"RESOLVE_WAIT ({RESOLVE_WAIT:g} s) must be above GATE ({GATE:g} s): "
        "until the gate has closed a submit may still leave, and not finding it proves nothing."
    )
RECHECK_WAIT = positive("RECHECK_WAIT", 10)  # between two "not found" that together prove it
RECEIPT_GRACE = positive("RECEIPT_GRACE", 60)  # an unknown that only a receipt can settle is held after this
RECEIPT_GRACE_OTP = positive("RECEIPT_GRACE_OTP", 10)  # ... and an otp is sent again after this
# How long a message waits for a rate token of its cheapest provider before it takes a dearer one.
OVERFLOW_WAIT = {"otp": 0.5, "transactional": 5.0, "bulk": float("inf")}
BREAKER_FAILURES = count("BREAKER_FAILURES", 5)
BREAKER_SECONDS = positive("BREAKER_SECONDS", 30)  # first pause of an open breaker; doubles up to ten minutes
SNAPSHOT_MAX_AGE = positive("SNAPSHOT_MAX_AGE", 1)  # in-memory tables look for a new version this often
REPORTING_CURRENCY = str(env.str("REPORTING_CURRENCY", default="EUR"))
if not re.fullmatch("[A-Z]{3}", REPORTING_CURRENCY):
    raise ImproperlyConfigured(f"REPORTING_CURRENCY must be like EUR (ISO 4217), it is {REPORTING_CURRENCY!r}.")
RATES_MAX_AGE = positive("RATES_MAX_AGE", 4)  # days: an exchange rate that is older is warned about
# What a number costs whose network is not known, where prices are by network: the dearest of them, or the default
# (prefix or country) of the book.
UNKNOWN_NETWORK = choice("UNKNOWN_NETWORK", "dearest", ("dearest", "default"))
NETWORKS_MAX_AGE = positive("NETWORKS_MAX_AGE", 30)  # days for which a provider's word about a number's network counts
BALANCE_PAUSE = positive("BALANCE_PAUSE", 300)  # between two questions for a provider's balance
# Who may approve what they had a hand in: all (nobody may), staff (superusers may), off (everybody may).
PRICE_FOUR_EYES = choice("PRICE_FOUR_EYES", "all", ("all", "staff", "off"))
PRICE_OUTLIER_PERCENT = count("PRICE_OUTLIER_PERCENT", 50)  # a price that changes by more looks wrong
PRICE_IMPORT_MB = count("PRICE_IMPORT_MB", 32)
PRICE_IMPORT_ROWS = count("PRICE_IMPORT_ROWS", 500_000)

# --- webhooks (seconds) ---------------------------------------------------------------------------

# What is waited after each failed try; each is changed by up to a fifth, and after the last one we give up.
WEBHOOK_SCHEDULE = seconds("WEBHOOK_SCHEDULE", "5,300,1800,7200,18000,36000,36000")
WEBHOOK_TIMEOUT = positive("WEBHOOK_TIMEOUT", 15)  # for all of one try
WEBHOOK_SLOTS = count("WEBHOOK_SLOTS", 256)  # tries in flight per process, and at one endpoint
WEBHOOK_CONCURRENCY = count("WEBHOOK_CONCURRENCY", 16)
WEBHOOK_DISABLE_AFTER = positive("WEBHOOK_DISABLE_AFTER", 5 * 24 * 3600)  # an endpoint that only failed for so long
WEBHOOK_KEEP_DAYS = count("WEBHOOK_KEEP_DAYS", 7)  # deliveries that are finished, with their attempts
# Receivers on loopback, private and other special networks are refused, but for these: "10.1.0.0/16,fd00:1::/48".
WEBHOOK_ALLOWED_NETWORKS = networks("WEBHOOK_ALLOWED_NETWORKS")
WEBHOOK_ALLOW_HTTP = flag("WEBHOOK_ALLOW_HTTP", False)

# --- periodic work and what apps add to each other --------------------------------------------------

# (dotted path, seconds): run by the sweeper's leader.
PERIODIC: list[tuple[str, float]] = [
    ("providers.balances.watch", 2),
    ("routing.networks.purge", 3600),
    ("verification.maintenance.expire", 1),
    ("verification.maintenance.purge", 10),
    ("verification.conversions.count", 5),
    ("verification.conversions.purge", 3600),
    ("verification.alarms.guessing", 60),
    ("messaging.dead_letters.purge", 600),
    ("messaging.webhooks.purge.purge", 10),
    ("routing.imports.work.purge", 3600),
    ("config.staff.sessions.purge", 3600),
]
# Messages whose text only the worker may know: name -> what renders it (messaging/rendering.py).
MESSAGE_RENDERERS = {"code": "verification.rendering.render"}
# Where each app holds numbers, for `erase_number` (messaging/erasure.py); messages last.
ERASURES = ["verification.erasure.PARTS", "messaging.erasure.PARTS"]
# `[[clients.<name>]]` of a provisioning file: modules with `read` and `apply` (messaging/provisioning.py).
# Commands that an app above messaging carries out: type -> function of the caller and the command's data
# (messaging/commands.py).
COMMANDS_ABOVE = {"messaging.contact.trust": "verification.trust.command"}
PROVISION_SECTIONS = {"profiles": "verification.provisioning", "webhooks": "messaging.webhook_provisioning"}
# Who holds secrets under CREDENTIALS_KEYS, for `rotate_keys`: functions that encrypt theirs anew.
ENCRYPTED = [
    "providers.models.encrypt_anew",
    "messaging.webhooks.endpoints.encrypt_anew",
    "config.staff.models.encrypt_anew",
]

# --- verification ---------------------------------------------------------------------------------

VERIFY_LIMITS = {  # per number, /24 or /64 network, device, ten thousand neighbouring numbers; wrong guesses per number
    "number_hour": count("VERIFY_NUMBER_HOUR", 5),
    "number_day": count("VERIFY_NUMBER_DAY", 10),
    "ip_hour": count("VERIFY_IP_HOUR", 10),
    "ip_day": count("VERIFY_IP_DAY", 50),
    "prefix_hour": count("VERIFY_PREFIX_HOUR", 30),
    "failed_hour": count("VERIFY_FAILED_HOUR", 10),
    "failed_day": count("VERIFY_FAILED_DAY", 30),
    "failed_row": count("VERIFY_FAILED_ROW", 100),
}
VERIFY_RULES = {  # what is usual (verification/rules.py): unverified per 100 verified, and below which floors always
    "unverified_percent": count("VERIFY_UNVERIFIED_PERCENT", 100),
    "unverified_day": count("VERIFY_UNVERIFIED_DAY", 500),
    "unverified_hour": count("VERIFY_UNVERIFIED_HOUR", 100),
    "unverified_ip": count("VERIFY_UNVERIFIED_IP", 10),
    "ip_countries": count("VERIFY_IP_COUNTRIES", 3),
}
# What a client may spend on codes to one country in a UTC day, in REPORTING_CURRENCY; empty: no cap but staff's.
VERIFY_DAILY_CAP = positive("VERIFY_DAILY_CAP", 0) if env.str("VERIFY_DAILY_CAP", default="") else None
# "+15005550006=123456,...": nothing is sent to them and the code is always that. `check --deploy` refuses any.
VERIFY_TEST_NUMBERS: dict[str, str] = env.dict("VERIFY_TEST_NUMBERS", default={})
for _number, _code in VERIFY_TEST_NUMBERS.items():
    if not re.fullmatch(r"\+[1-9][0-9]{6,14}", _number) or not re.fullmatch("[0-9]{4,10}", _code):
        raise ImproperlyConfigured("VERIFY_TEST_NUMBERS must be like +15005550006=123456,+15005550007=654321.")

# --- doors ----------------------------------------------------------------------------------------

# Proxies of ours that a request passes, each appending to X-Forwarded-For; 0: that header is anybody's word.
PROXIES = int(choice("PROXIES", "0", ("0", "1", "2", "3")))
# What a scrape of /metrics presents as bearer; empty: it needs none.
METRICS_TOKEN = str(env.str("METRICS_TOKEN", default=""))
SINGLE_BODY_LIMIT = 64 * 1024
BATCH_BODY_LIMIT = 4 * 1024 * 1024
# Ours are checked first and answer with a problem; Django's own limit answers in HTML.
DATA_UPLOAD_MAX_MEMORY_SIZE = BATCH_BODY_LIMIT + 1024
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["messaging.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["messaging.authentication.HasScope"],
    "EXCEPTION_HANDLER": "messaging.problems.handler",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_SCHEMA_CLASS": "messaging.openapi.schema.CallSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "MEXAR Messaging",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SORT_OPERATIONS": False,
    "POSTPROCESSING_HOOKS": [],
    "TAGS": [
        {"name": "Messages", "description": "Send, read and call back."},
        {"name": "Verifications", "description": "Does this person hold that phone? One-time codes by SMS."},
        {"name": "Webhooks", "description": "Hear what became of them: events, signed and retried."},
        {"name": "Quotes", "description": "Ask for a price first."},
        {"name": "Receipts", "description": "For providers alone."},
        {"name": "Service", "description": "Is it up, and what can it do?"},
    ],
}
# What describes the calls of each app to that document: modules with CALLS and PATH_PARAMETERS.
OPENAPI_CALLS = ["messaging.openapi.calls", "messaging.openapi.webhooks", "verification.openapi.calls"]

# --- staff ----------------------------------------------------------------------------------------

# Staff present a code of their phone after the password. `check --deploy` refuses to go without.
STAFF_TOTP = flag("STAFF_TOTP", not DEBUG)
STAFF_IDLE = count("STAFF_IDLE", 480 if DEBUG else 15)  # minutes after which a session that nobody uses is over
if not 5 <= STAFF_IDLE <= 480:
    raise ImproperlyConfigured(f"STAFF_IDLE must be 5 to 480 minutes, it is {STAFF_IDLE}.")
SESSION_COOKIE_AGE = STAFF_IDLE * 60
OTP_TOTP_SYNC = False  # or each late code would move the window of the next ones
OTP_TOTP_ISSUER = "MEXAR Messaging"  # how authenticator apps name the account
# Wrong passwords for one name from one address lock out both together.
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "config.staff.middleware.address"
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # or whoever keeps guessing keeps the owner out
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AXES_SENSITIVE_PARAMETERS = ["username", "password", "csrfmiddlewaretoken", "next"]
SILENCED_SYSTEM_CHECKS = ["axes.W002"]  # what its middleware does, config.staff.middleware does in the admin alone

# --- admin ----------------------------------------------------------------------------------------

FORMAT_MODULE_PATH = ["config.formats"]
UNFOLD = {
    "SITE_TITLE": "MEXAR Messaging",
    "SITE_HEADER": "MEXAR Messaging",
    "SITE_SYMBOL": "sms",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "messaging.admin.home.favicon"}],
    "SITE_URL": None,  # there is no other site to go to
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": ["messaging.admin.home.stylesheet"],
    "DASHBOARD_CALLBACK": "messaging.admin.home.dashboard",
    "SIDEBAR": {"navigation": "messaging.admin.home.navigation"},
    "ACCOUNT": {"navigation": "config.staff.views.account_links"},
    "COLORS": {  # Tailwind's blue
        "primary": {
            "50": "#eff6ff",
            "100": "#dbeafe",
            "200": "#bfdbfe",
            "300": "#93c5fd",
            "400": "#60a5fa",
            "500": "#3b82f6",
            "600": "#2563eb",
            "700": "#1d4ed8",
            "800": "#1e40af",
            "900": "#1e3a8a",
            "950": "#172554",
        }
    },
}

# --- logs -----------------------------------------------------------------------------------------

LOG_FORMAT = choice("LOG_FORMAT", "json", ("json", "console"))
LOG_LEVEL = choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
_QUIET = "ERROR" if LOG_LEVEL == "ERROR" else "WARNING"
LOGGING_CONFIG = "config.logs.configure"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "config.logs.formatter"}},
    # __stderr__: a worker's stderr is a pipe to its master, which would read and write every line again.
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.__stderr__"}},
    # What libraries say at DEBUG quotes parameters, frames and bodies.
    "root": {"handlers": ["stderr"], "level": "INFO" if LOG_LEVEL == "DEBUG" else LOG_LEVEL},
    "loggers": {
        **{name: {"level": LOG_LEVEL} for name in ("config", "messaging", "providers", "routing", "verification")},
        # Named, so that Django's own handlers are taken away. Its line for a 4xx says less than ours.
        "axes": {"level": "ERROR"},  # the same: who was locked out is in a line of config.staff
        "django": {"level": _QUIET},
        "django.request": {"level": "ERROR"},
        "asyncio": {"level": _QUIET},
        "dramatiq": {"level": _QUIET},
        "pika": {"level": _QUIET},
    },
}
