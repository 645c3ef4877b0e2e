"""What answers look like. The door writes them by hand; the tests of verification hold every one against these."""

from rest_framework import serializers

from verification.models import CONTEXT_FIELDS
from verification.states import USED, ChallengeStatus

REFERENCE = "22 characters; with it alone nothing can be done without a key of the client."


class ShownContext(serializers.Serializer):
    """In its one form: the amount has two decimals at least."""

    def get_fields(self) -> dict[str, serializers.Field]:
        return {name: serializers.CharField(required=False) for name in CONTEXT_FIELDS}


class Started(serializers.Serializer):
    reference = serializers.CharField(help_text=REFERENCE)
    status = serializers.ChoiceField([ChallengeStatus.PENDING])
    expires_at = serializers.DateTimeField(help_text="No code is sent or taken later than this.")
    resend_at = serializers.DateTimeField(help_text="Not before this time the code can be sent again.")
    to_masked = serializers.CharField()


class VerificationAnswer(serializers.Serializer):
    """A verification as it is now. Its code is in no answer."""

    reference = serializers.CharField(help_text=REFERENCE)
    status = serializers.ChoiceField([*ChallengeStatus])
    purpose = serializers.CharField()
    profile = serializers.CharField(help_text="Empty: none was named.")
    to_masked = serializers.CharField()
    country = serializers.CharField(help_text="ISO 3166 alpha-2 (XK for Kosovo).")
    context = ShownContext()  # type: ignore[assignment]  # no attribute: taken off the class
    attempts_left = serializers.IntegerField(min_value=0, help_text="Wrong guesses that are left.")
    sends = serializers.IntegerField(min_value=1, help_text="The start and every resend.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    resend_at = serializers.DateTimeField()
    verified_at = serializers.DateTimeField(allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True)
    redeemed_at = serializers.DateTimeField(allow_null=True)


class Checked(serializers.Serializer):
    reference = serializers.CharField()
    valid = serializers.BooleanField(help_text="True once; then the code is used.")
    status = serializers.ChoiceField(
        [*ChallengeStatus, USED], help_text="`used`: it was verified before, and this check changed nothing."
    )
    attempts_left = serializers.IntegerField(min_value=0, help_text="Wrong guesses that are left.")
    result_token = serializers.CharField(
        required=False, help_text="Of a success: another service redeems it once, within ten minutes."
    )


class Redeemed(serializers.Serializer):
    reference = serializers.CharField()
    purpose = serializers.CharField()
    to_masked = serializers.CharField()
    context = ShownContext()  # type: ignore[assignment]  # no attribute: taken off the class
    verified_at = serializers.DateTimeField()
