"""The carriers' wire format: submits in, answers and refusals out. Pure."""

import re
from dataclasses import dataclass

import orjson
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from providers.simulator.http import BadRequest, Reply, Request
from providers.simulator.ledger import Entry

STATUS_OF = {
    "bad_request": 400,
    "bad_token": 401,
    "out_of_balance": 402,
    "not_found": 404,
    "not_supported": 404,
    "method_not_allowed": 405,
    "invalid_number": 422,
    "blocked": 422,
    "opted_out": 422,
    "sender_not_allowed": 422,
    "no_route": 422,
    "throttled": 429,
    "internal": 500,
}
_WORDS = {
    "bad_token": "the token is unknown",
    "out_of_balance": "the account has no balance left",
    "not_found": "there is nothing at this address",
    "not_supported": "this carrier has no look-up",
    "method_not_allowed": "this method is not served here",
    "invalid_number": "the number is not in E.164 form",
    "blocked": "the number is blocked",
    "opted_out": "the person does not want messages",
    "sender_not_allowed": "the sender is not registered",
    "no_route": "this country is not served",
    "throttled": "too many requests",
    "internal": "internal error",
}
E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_URL = re.compile(r"https?://[A-Za-z0-9._-]+(?::(?P<port>[0-9]{1,5}))?(?:/[!-~]*)?")


@dataclass(slots=True)
class Submit:
    """The body of POST /v1/messages; `validity` in seconds."""

    to: str
    text: str
    sender: str
    reference: str
    validity: int
    receipt_url: str
    key: str

    def entry(self) -> Entry:
        return {"reference": self.reference, "to": self.to, "text": self.text, "sender": self.sender}


def read_submit(request: Request) -> Submit:
    """Raises BadRequest with the field that is wrong."""
    try:
        data = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(400, "the body is not JSON") from error
    if not isinstance(data, dict):
        raise BadRequest(400, "the body is not a JSON object")
    for name in ("to", "text", "sender", "reference"):
        value = data.get(name)
        if not isinstance(value, str) or not value:
            raise BadRequest(400, f"{name} is missing or not a text")
    validity = data.get("validity", 86400)
    if isinstance(validity, bool) or not isinstance(validity, int) or validity <= 0:
        raise BadRequest(400, "validity must be seconds above zero")
    url = data.get("receipt_url") or ""
    if not isinstance(url, str) or (url and not _is_address(url)):
        raise BadRequest(400, "receipt_url must be an http or https address")
    key = request.headers.get("idempotency-key", "")
    if key and key != data["reference"]:
        raise BadRequest(400, "Idempotency-Key and reference differ")
    return Submit(data["to"], data["text"], data["sender"], data["reference"], validity, url, key)


def _is_address(url: str) -> bool:
    match = _URL.fullmatch(url)
    return match is not None and int(match["port"] or 80) < 65536


def estimate_segments(text: str) -> int:
    """A carrier's own rough count: ASCII as GSM-7, everything else as UCS-2."""
    if text.isascii():
        return 1 if len(text) <= 160 else -(-len(text) // 153)
    units = len(text.encode("utf-16-be", "surrogatepass")) // 2
    return 1 if units <= 70 else -(-units // 67)


def country_of(to: str) -> str:
    """The main country of a calling code, "" for an unknown one; numbers of shared codes count as the first country."""
    for length in (1, 2, 3):
        code = to[1 : 1 + length]
        regions = COUNTRY_CODE_TO_REGION_CODE.get(int(code)) if code.isascii() and code.isdigit() else None
        if regions:
            return str(regions[0])
    return ""


def refusal(code: str, message: str = "", latency: float = 0.0, headers: str = "") -> Reply:
    body = orjson.dumps({"error": {"code": code, "message": message or _WORDS[code]}})
    return Reply(STATUS_OF[code], body, headers=headers, delay=latency)


def acceptance(entry: Entry, *, with_price: bool = True) -> bytes:
    told = ("id", "reference", "segments", *(("price", "currency") if with_price else ()))
    return orjson.dumps({name: entry[name] for name in told})
