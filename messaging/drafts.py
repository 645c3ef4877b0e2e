"""What did the caller ask for? One hand-written reader for every door: strict, fast, all errors at once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from messaging.errors import FieldError, InvalidRequest
from messaging.states import MessageClass
from routing import encoding, numbers

MAX_SEGMENTS = 10
MAX_TEXT = MAX_SEGMENTS * 153  # characters: no text of ten segments has more
MAX_AHEAD = timedelta(days=90)
VALIDITY = {MessageClass.OTP: 600, MessageClass.TRANSACTIONAL: 4 * 3600, MessageClass.BULK: 24 * 3600}  # seconds
SHORTEST_VALIDITY, LONGEST_VALIDITY = 10, 72 * 3600
MAX_UNKNOWN = 20  # errors: the answer must not grow with the request
FIELDS = frozenset(
    [
        "to",
        "text",
        "template",
        "params",
        "sender",
        "class",
        "locale",
        "send_at",
        "validity_seconds",
        "reference",
        "metadata",
        "max_price",
    ]
)
BATCH_FIELDS = frozenset(["messages"])
QUOTE_FIELDS = frozenset(["to", "text", "class", "sender", "max_price"])
MAX_BATCH = 1000  # messages
MAX_ENTRIES = 20  # of an object of strings
LONGEST_REFERENCE, LONGEST_ENTRY, LONGEST_LOCALE = 100, 500, 20  # characters
# Alphanumeric up to 11 characters with a letter (GSM 03.40 9.1.2.5), or a number or short code.
SENDER = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 ._&-]{1,11}|\+?[0-9]{3,15}", re.ASCII)
LOCALE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*", re.ASCII)
TEMPLATE = re.compile(r"[A-Za-z0-9_-]{1,60}", re.ASCII)
PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
METADATA = re.compile(r"[^\x00-\x1f]{1,40}")
PRICE = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)
CLASSES = {str(message_class): message_class for message_class in MessageClass}


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that is right in itself. The text of a template is not in it yet."""

    msisdn: str = field(repr=False)
    country: str
    message_class: MessageClass
    validity: int  # seconds
    text: str = field(default="", repr=False)
    template: str = ""
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    sender: str = ""
    locale: str = ""
    send_at: datetime | None = None
    reference: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    max_price: Decimal | None = None  # of the message, in the reporting currency
    # For doors of our own; no caller names them.
    renderer: str = ""
    sample: str = field(default="", repr=False)  # as the rendered text will look: for its size and price
    tried: tuple[int, ...] = ()  # providers that the first round leaves out
    failover_after: int | None = None  # seconds without a receipt


def read(data: Any) -> Draft:
    """Reads the body of `POST /api/v1/messages`, a batch item or a Kafka command.

    Raises InvalidRequest with an error for every wrong field.
    """
    reader = Reader(data, FIELDS)
    reader.one_text()
    message_class = reader.message_class()
    msisdn, country = reader.to()
    draft = Draft(
        msisdn=msisdn,
        country=country,
        message_class=message_class,
        validity=reader.validity(message_class),
        text=reader.text(),
        template=reader.matching("template", TEMPLATE, "Letters, digits, - and _, at most 60."),
        params=reader.flat("params", longest=MAX_TEXT, name_pattern=PARAMETER),
        sender=reader.sender(),
        locale=reader.matching("locale", LOCALE, "A language tag like en or pt-BR.", longest=LONGEST_LOCALE),
        send_at=reader.send_at(),
        reference=reader.string("reference", longest=LONGEST_REFERENCE),
        metadata=reader.flat("metadata", longest=LONGEST_ENTRY, name_pattern=METADATA),
        max_price=reader.max_price(),
    )
    reader.finish()
    return draft


def read_batch(data: Any) -> list[Any]:
    """Reads the body of `POST /api/v1/messages/batch`: its messages, each of them unread.

    Raises InvalidRequest.
    """
    reader = Reader(data, BATCH_FIELDS)
    messages = reader.messages()
    reader.finish()
    return messages


def batch_size(data: Any) -> int:
    """How many messages a batch has, before it is read; 0 where it cannot be."""
    messages = data.get("messages") if isinstance(data, dict) else None
    return min(len(messages), MAX_BATCH) if isinstance(messages, list) else 0


def read_quote(data: Any) -> Draft:
    """Reads the body of `POST /api/v1/quotes`, by the rules for a message. Raises InvalidRequest."""
    reader = Reader(data, QUOTE_FIELDS)
    message_class = reader.message_class()
    msisdn, country = reader.to()
    draft = Draft(
        msisdn=msisdn,
        country=country,
        message_class=message_class,
        validity=VALIDITY[message_class],
        text=reader.text(required=True),
        sender=reader.sender(),
        max_price=reader.max_price(),
    )
    reader.finish()
    return draft


class Reader:
    """Reads field by field and collects what is wrong; a wrong field reads as empty."""

    def __init__(self, data: Any, fields: frozenset[str]) -> None:
        if not isinstance(data, dict):
            raise InvalidRequest(errors=(FieldError("", "wrong_type", "A JSON object is expected."),))
        self._data = data
        self.errors: list[FieldError] = []
        for name in sorted(data.keys() - fields)[:MAX_UNKNOWN]:
            self.wrong(clean(name), "unknown_field", "There is no such field.")

    def wrong(self, name: str, code: str, message: str) -> None:
        self.errors.append(FieldError(name, code, message))

    def finish(self) -> None:
        if self.errors:
            raise InvalidRequest(errors=tuple(sorted(self.errors, key=lambda error: error.field)))

    def string(self, name: str, *, longest: int, label: str = "") -> str:
        value = self._data.get(name, "")
        label = label or name
        if not isinstance(value, str):
            self.wrong(label, "wrong_type", "A string is expected.")
        elif len(value) > longest:
            self.wrong(label, "too_long", f"At most {longest} characters.")
        elif problem := _unstorable(value):
            self.wrong(label, "bad_character", problem)
        else:
            return value
        return ""

    def matching(self, name: str, pattern: re.Pattern[str], message: str, *, longest: int = 100) -> str:
        if name not in self._data:
            return ""
        value = self.string(name, longest=longest)
        if not pattern.fullmatch(value) and not self._failed(name):
            self.wrong(name, "bad_format", message)
            return ""
        return value

    def one_text(self) -> None:
        if ("text" in self._data) == ("template" in self._data):
            self.wrong("text", "one_of", "Exactly one of text and template is needed.")
        if "params" in self._data and "template" not in self._data:
            self.wrong("params", "needs_template", "Parameters belong to a template.")

    def sender(self) -> str:
        return self.matching(
            "sender", SENDER, "At most 11 letters and digits with a letter among them, or 3 to 15 digits."
        )

    def messages(self) -> list[Any]:
        value = self._data.get("messages")
        if not isinstance(value, list):
            self.wrong("messages", "required" if value is None else "wrong_type", "A list of messages is needed.")
            return []
        if not value:
            self.wrong("messages", "empty", "At least one message is needed.")
        elif len(value) > MAX_BATCH:
            self.wrong("messages", "too_many", f"At most {MAX_BATCH} messages.")
        return value

    def to(self) -> tuple[str, str]:
        value = self._data.get("to")
        if not isinstance(value, str):
            self.wrong("to", "required" if value is None else "wrong_type", "A phone number in E.164 form is needed.")
            return "", ""
        try:
            number = numbers.parse(value)
        except numbers.InvalidNumber as error:
            self.wrong("to", error.reason, "Not a phone number that can be reached: E.164 with the plus is expected.")
            return "", ""
        return number.msisdn, number.country

    def text(self, *, required: bool = False) -> str:
        if "text" not in self._data:
            if required:
                self.wrong("text", "required", "A text is needed.")
            return ""
        value = self.string("text", longest=MAX_TEXT)
        if not self._failed("text"):
            if not value.strip():
                self.wrong("text", "empty", "The text must not be empty.")
            elif encoding.measure(value).segments > MAX_SEGMENTS:
                self.wrong("text", "too_long", f"At most {MAX_SEGMENTS} segments.")
        return value

    def message_class(self) -> MessageClass:
        value = self._data.get("class", "transactional")
        if isinstance(value, str) and value in CLASSES:
            return CLASSES[value]
        self.wrong("class", "bad_choice", f"One of {', '.join(MessageClass)}.")
        return MessageClass.TRANSACTIONAL

    def validity(self, message_class: MessageClass) -> int:
        value = self._data.get("validity_seconds", VALIDITY[message_class])
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong("validity_seconds", "wrong_type", "A whole number of seconds is expected.")
        elif not SHORTEST_VALIDITY <= value <= LONGEST_VALIDITY:
            self.wrong("validity_seconds", "out_of_range", f"From {SHORTEST_VALIDITY} to {LONGEST_VALIDITY} seconds.")
        else:
            return value
        return 0

    def max_price(self) -> Decimal | None:
        if "max_price" not in self._data:
            return None
        value = self.matching("max_price", PRICE, "A decimal in quotes like 0.08, with at most six places.")
        return Decimal(value) if value else None

    def send_at(self) -> datetime | None:
        if "send_at" not in self._data:
            return None
        value = self._data["send_at"]
        try:
            moment = parse_moment(value)
        except ValueError:
            self.wrong("send_at", "bad_format", "An ISO 8601 date and time with its offset is expected.")
            return None
        if moment > datetime.now(UTC) + MAX_AHEAD:
            self.wrong("send_at", "out_of_range", f"At most {MAX_AHEAD.days} days ahead.")
            return None
        return moment

    def flat(self, name: str, *, longest: int, name_pattern: re.Pattern[str]) -> dict[str, str]:
        if name not in self._data:
            return {}
        value = self._data[name]
        if not isinstance(value, dict):
            self.wrong(name, "wrong_type", "An object of strings is expected.")
            return {}
        if len(value) > MAX_ENTRIES:
            self.wrong(name, "too_many", f"At most {MAX_ENTRIES} entries.")
            return {}
        for key, entry in value.items():
            label = f"{name}.{clean(key)}"
            if not name_pattern.fullmatch(key) or _unstorable(key):
                self.wrong(label, "bad_name", "Not a usable name.")
            elif not isinstance(entry, str):
                self.wrong(label, "wrong_type", "A string is expected.")
            elif len(entry) > longest:
                self.wrong(label, "too_long", f"At most {longest} characters.")
            elif problem := _unstorable(entry):
                self.wrong(label, "bad_character", problem)
        return value

    def _failed(self, name: str) -> bool:
        return any(error.field == name for error in self.errors)


def _unstorable(value: str) -> str:
    """NUL has no place in a PostgreSQL text, and a lone surrogate none in UTF-8."""
    if "\x00" in value:
        return "The NUL character is not allowed."
    try:
        value.encode()
    except UnicodeEncodeError:
        return "A lone surrogate is not a character."
    return ""


def parse_moment(value: Any) -> datetime:
    """An ISO 8601 date and time with its offset, in UTC. Raises ValueError for anything else."""
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None or not value.isascii():
            raise ValueError("no offset, or not ASCII")
        return moment.astimezone(UTC)
    except (TypeError, OverflowError):
        raise ValueError("no moment in UTC") from None


def clean(name: str) -> str:
    """A name as answers show it: it is the caller's own text, so it is cut and without what JSON cannot carry."""
    return name.encode("ascii", "replace").decode()[:60]
