"""python -m benchmarks.challenges NUMBER: starts so many challenges at once; prints the reference and code of each."""

import secrets
import sys
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta

import django


def main() -> None:
    django.setup()
    from messaging.models import Client
    from verification import codes
    from verification.codes import Binding
    from verification.models import Challenge

    now, client = datetime.now(UTC), Client.objects.get()
    made = [
        Challenge(
            reference=urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("="),
            client=client,
            purpose="login",
            to=f"+38067{number:07}",
            country="UA",
            locale="uk",
            status="pending",
            seed=secrets.token_bytes(codes.SEED_BYTES),
            kid=codes.newest(),
            code_length=6,
            max_checks=5,
            max_sends=5,
            created_at=now,
            expires_at=now + timedelta(minutes=30),  # a step takes seconds; none may end within it
            resend_at=now,
        )
        for number in range(int(sys.argv[1]))
    ]
    Challenge.objects.all().delete()
    Challenge.objects.bulk_create(made, batch_size=1000)
    for one in made:
        binding = Binding(one.id, client.id, one.purpose, one.to, {}, one.code_length, one.kid, one.seed or b"")
        print(one.reference, codes.derive(binding, 0))


if __name__ == "__main__":
    main()
