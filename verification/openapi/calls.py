"""What each call is for, in words; `messaging.openapi.calls` has the rest of the document (OPENAPI_CALLS)."""

from typing import Any

from messaging.openapi.calls import Call
from verification.openapi import examples
from verification.openapi.answers import Checked, Redeemed, Started, VerificationAnswer
from verification.openapi.requests import CheckRequest, RedeemRequest, StartRequest

TAG = "Verifications"

#: By the name of the view and the method.
CALLS = {
    "VerificationsView POST": Call(
        name="start_verification",
        tag=TAG,
        summary="Start a verification",
        text="Sends a one-time code by SMS. A newer start for the same number and purpose closes the older one. "
        "Nothing tells whether a number is known: the answer is the same for every number that can be sent to.",
        status=201,
        answer=Started,
        answer_example=examples.STARTED,
        body=StartRequest,
        body_examples={"A login": examples.LOGIN, "A payment": examples.PAYMENT},
        samples=(("curl", "sh", "verify.sh"), ("Python with requests", "python", "verify.py")),
    ),
    "VerificationView GET": Call(
        name="get_verification",
        tag=TAG,
        summary="Read a verification",
        text="Without its code. One of another client answers like one that does not exist.",
        answer=VerificationAnswer,
        answer_example=examples.PENDING,
    ),
    "VerificationCheckView POST": Call(
        name="check_verification",
        tag=TAG,
        summary="Check a code",
        text="Always `200` for a verification of one's own: `valid` tells. A wrong code and another purpose or "
        "context than it was started with are answered alike, and count alike; a request that is refused counts as "
        "no guess.",
        answer=Checked,
        answer_example=examples.VERIFIED,
        body=CheckRequest,
        body_examples={"A payment": examples.CHECK},
        key_text="A check that succeeded is answered the same, token and all, when the same check comes again under "
        "its key. A wrong guess counts each time, key or none.",
    ),
    "VerificationResendView POST": Call(
        name="resend_verification",
        tag=TAG,
        summary="Send the code again",
        text="By a provider that has not tried yet, where there is one. The time is not extended and no guess is given "
        "back. A body is not read.",
        status=202,
        answer=Started,
        answer_example=examples.RESENT,
    ),
    "VerificationCancelView POST": Call(
        name="cancel_verification",
        tag=TAG,
        summary="Cancel a verification",
        text="Its code is worth nothing from now on. Cancelling it again is answered alike. A body is not read.",
        answer=VerificationAnswer,
        answer_example=examples.CANCELLED,
    ),
    "RedeemView POST": Call(
        name="redeem_token",
        tag=TAG,
        summary="Redeem the token of a success",
        text="Once, within ten minutes of the check: for the service that acts on a verification which another one "
        "made. Any client with the scope can redeem it that holds the token and names the purpose.",
        answer=Redeemed,
        answer_example=examples.REDEEMED,
        body=RedeemRequest,
        body_examples={"A payment": examples.REDEEM},
    ),
}

PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "reference": {
        "description": "`reference` of the verification.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$"},
        "example": examples.REFERENCE,
    },
}
