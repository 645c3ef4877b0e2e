"""The phone's part in tests: what stands in the SMS, and the calls of a client."""

from providers.sql import rows
from verification import codes
from verification.models import Challenge
from verification.records import COLUMNS, Row

URL = "/api/v1/verifications"
NUMBER = "+380671234567"
PAYMENT = {"amount": "250.00", "currency": "EUR", "payee": "Olena Test"}


def challenge_of(reference: str) -> Row:
    return Row(*rows(f"SELECT {COLUMNS} FROM verification_challenge WHERE reference = %(r)s", {"r": reference})[0])  # noqa: S608


def code_of(reference: str, generation: int = 0) -> str:
    """What the SMS says."""
    return codes.derive(challenge_of(reference).binding, generation)


def wrong_for(reference: str) -> str:
    right = code_of(reference)
    return f"{(int(right) + 1) % 10 ** len(right):0{len(right)}d}"


def start(api, **fields):
    answer = api.post(URL, {"to": NUMBER, "purpose": "login", **fields}, format="json")
    assert answer.status_code == 201, answer.content
    return answer.json()["reference"]


def check(api, reference: str, code: str, **fields):
    return api.post(f"{URL}/{reference}/check", {"code": code, "purpose": "login", **fields}, format="json")


def only() -> Challenge:
    return Challenge.objects.get()
