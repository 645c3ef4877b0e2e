"""A week's good Django: DRF, the ORM, one Dramatiq task per message. What the product is compared with."""

import os

import environ

SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["django.contrib.contenttypes", "rest_framework", "django_dramatiq", "benchmarks.naive"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "benchmarks.naive.urls"
WSGI_APPLICATION = "benchmarks.naive.wsgi.application"
USE_TZ = True
DATABASES = {"default": {**environ.Env.db_url_config(os.environ["DATABASE_URL"]), "CONN_MAX_AGE": None}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "UNAUTHENTICATED_USER": None,
}

_url = os.environ["BROKER_URL"]
DRAMATIQ_BROKER = {
    # Without publisher confirms on RabbitMQ, as dramatiq comes: they would make it slower, and safer.
    "BROKER": "dramatiq.brokers.rabbitmq.RabbitmqBroker"
    if _url.startswith("amqp")
    else "dramatiq_postgres.broker.PostgresBroker",
    "OPTIONS": {"url": _url} if _url.startswith("amqp") else {"url": _url, "results": False},
    "MIDDLEWARE": [
        "dramatiq.middleware.AgeLimit",
        "dramatiq.middleware.TimeLimit",
        "dramatiq.middleware.ShutdownNotifications",
        "dramatiq.middleware.Retries",
        "django_dramatiq.middleware.DbConnectionsMiddleware",
    ],
}
DRAMATIQ_IGNORED_MODULES = ["django_dramatiq.tasks"]
CARRIER_URL = os.environ["CARRIER_A_URL"]
CARRIER_TOKEN = os.environ["CARRIER_A_TOKEN"]
