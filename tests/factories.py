"""Rows for tests."""

import secrets
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import factory

from messaging.models import Attempt, Client, Message
from messaging.states import AttemptStatus, MessageClass, Status
from providers.models import Provider
from routing.models import Price, PriceList
from verification.models import Challenge
from verification.states import ChallengeStatus


class ClientFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Client

    slug = factory.Sequence(lambda n: f"client-{n}")
    name = factory.SelfAttribute("slug")
    scopes = ["send", "otp", "read", "webhooks"]


class ProviderFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Provider

    slug = factory.Sequence(lambda n: f"provider-{n}")
    name = factory.SelfAttribute("slug")
    adapter = "simulator"
    base_url = "http://127.0.0.1:9"  # nobody listens there
    sender = "MEXAR"

    @classmethod
    def _create(cls, model_class, *args, token="secret-token", price="", **kwargs):
        """price="0.05" makes an active book with that price for every country that tests use."""
        provider = model_class(*args, **kwargs)
        provider.set_credentials({"token": token})
        provider.save()
        if price:
            book = PriceListFactory(provider=provider)
            for country in ("UA", "PL", "GB", "DE"):
                PriceFactory(price_list=book, country=country, price=Decimal(price))
        return provider


class PriceListFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = PriceList

    provider = factory.SubFactory(ProviderFactory)
    name = factory.Sequence(lambda n: f"book {n}")
    status = PriceList.Status.ACTIVE
    valid_from = factory.LazyFunction(lambda: datetime.now(UTC) - timedelta(days=1))


class PriceFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Price

    price_list = factory.SubFactory(PriceListFactory)
    country = "UA"
    price = Decimal("0.05")
    currency = "EUR"


class MessageFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Message

    client = factory.SubFactory(ClientFactory)
    status = Status.QUEUED
    message_class = MessageClass.TRANSACTIONAL
    to = factory.Sequence(lambda n: f"+38067{n:07d}")
    country = "UA"
    text = "Your transfer has arrived."
    encoding = "gsm7"
    segments = 1
    estimated_cost = Decimal("0.05")
    currency = "EUR"
    created_at = factory.LazyFunction(lambda: datetime.now(UTC))
    not_before = factory.SelfAttribute("created_at")
    expires_at = factory.LazyAttribute(lambda message: message.created_at + timedelta(hours=4))


class ChallengeFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Challenge

    reference = factory.LazyFunction(lambda: secrets.token_urlsafe(16))
    client = factory.SubFactory(ClientFactory)
    purpose = "login"
    to = factory.Sequence(lambda n: f"+38067{n:07d}")
    country = "UA"
    locale = "uk"
    status = ChallengeStatus.PENDING
    seed = factory.LazyFunction(lambda: secrets.token_bytes(32))
    kid = 1
    code_length = 6
    max_checks = 5
    max_sends = 5
    created_at = factory.LazyFunction(lambda: datetime.now(UTC))
    expires_at = factory.LazyAttribute(lambda challenge: challenge.created_at + timedelta(minutes=5))
    resend_at = factory.LazyAttribute(lambda challenge: challenge.created_at + timedelta(seconds=30))


class AttemptFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Attempt

    message = factory.SubFactory(MessageFactory)
    provider = factory.SubFactory(ProviderFactory)
    seq = factory.Sequence(lambda n: n % 1000 + 1)
    our_reference = factory.LazyFunction(uuid.uuid4)
    status = AttemptStatus.INTENT
    segments = 1
    started_at = factory.LazyFunction(lambda: datetime.now(UTC))
