"""The REST door of verifications."""

from django.conf import settings
from django.http import HttpResponse
from rest_framework.request import Request

from messaging import bodies
from messaging.authentication import caller_of
from messaging.errors import UnknownObject
from messaging.views import ApiView, answer_of, key_of
from verification import challenges, checking


class VerificationsView(ApiView):
    """POST starts a verification."""

    scopes = {"POST": "otp"}
    refusals = {"POST": (*bodies.REFUSALS, *challenges.START_REFUSALS)}

    def post(self, request: Request) -> HttpResponse:
        data = bodies.read_json(request, settings.SINGLE_BODY_LIMIT)
        return answer_of(challenges.start(caller_of(request), data, idempotency_key=key_of(request)))


class VerificationView(ApiView):
    """GET a verification, without its code."""

    scopes = {"GET": "otp"}
    refusals = {"GET": (UnknownObject,)}

    def get(self, request: Request, reference: str) -> HttpResponse:
        return bodies.response(challenges.get(caller_of(request), reference))


class VerificationCheckView(ApiView):
    """POST compares a code."""

    scopes = {"POST": "otp"}
    refusals = {"POST": (*bodies.REFUSALS, *checking.CHECK_REFUSALS)}

    def post(self, request: Request, reference: str) -> HttpResponse:
        data = bodies.read_json(request, settings.SINGLE_BODY_LIMIT)
        return answer_of(checking.check(caller_of(request), reference, data, idempotency_key=key_of(request)))


class VerificationResendView(ApiView):
    """POST sends the code again. Its body is not read."""

    scopes = {"POST": "otp"}
    refusals = {"POST": challenges.RESEND_REFUSALS}

    def post(self, request: Request, reference: str) -> HttpResponse:
        return answer_of(challenges.resend(caller_of(request), reference, idempotency_key=key_of(request)))


class VerificationCancelView(ApiView):
    """POST ends a verification. Its body is not read."""

    scopes = {"POST": "otp"}
    refusals = {"POST": challenges.CANCEL_REFUSALS}

    def post(self, request: Request, reference: str) -> HttpResponse:
        return bodies.response(challenges.cancel(caller_of(request), reference))


class RedeemView(ApiView):
    """POST takes the token of a success."""

    scopes = {"POST": "otp"}
    refusals = {"POST": (*bodies.REFUSALS, *checking.REDEEM_REFUSALS)}

    def post(self, request: Request) -> HttpResponse:
        data = bodies.read_json(request, settings.SINGLE_BODY_LIMIT)
        return answer_of(checking.redeem(caller_of(request), data, idempotency_key=key_of(request)))
