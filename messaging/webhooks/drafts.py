"""What was asked for? Strict readers of the bodies of the endpoint calls, all errors at once."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from messaging import schema
from messaging.drafts import Reader, parse_moment
from messaging.webhooks import addresses, signatures

FIELDS = frozenset(["url", "events", "description"])
ROTATE_FIELDS = frozenset(["overlap_seconds"])
REPLAY_FIELDS = frozenset(["event_id", "since", "until", "failed_only"])
LONGEST_DESCRIPTION = 100  # characters
MOST_EVENTS = 20
#: What an endpoint may want: what providers do is not a client's, and the test comes by itself.
TYPES = tuple(
    entry["type"]
    for entry in schema.catalogue()
    if entry["schema"].partition(".")[0] in ("message", "verification", "webhook") and entry["type"] != "webhook.test"
)
WANTED = ("*", *dict.fromkeys(f"{kind.partition('.')[0]}.*" for kind in TYPES), *TYPES)
URL = re.compile(r"https?://[!-~]+")
EVENT_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
LONGEST_REPLAY = timedelta(days=31)


@dataclass(frozen=True, slots=True)
class EndpointDraft:
    """None: not named, which leaves it as it is or as it begins."""

    url: str | None
    events: list[str] | None
    description: str | None


@dataclass(frozen=True, slots=True)
class ReplayDraft:
    """One event, or all of a time."""

    event_id: UUID | None
    since: datetime | None
    until: datetime | None
    failed_only: bool


def read_endpoint(data: Any, *, new: bool) -> EndpointDraft:
    """Reads the body of a create (`new`) or an update. Raises InvalidRequest."""
    reader = _Reader(data, FIELDS)
    draft = EndpointDraft(reader.url(required=new), reader.events(), reader.description())
    reader.finish()
    return draft


def read_rotate(data: Any) -> int:
    """The seconds for which the secret before signs as well. Raises InvalidRequest."""
    reader = _Reader(data, ROTATE_FIELDS)
    overlap = reader.overlap()
    reader.finish()
    return overlap


def read_replay(data: Any) -> ReplayDraft:
    """Raises InvalidRequest."""
    reader = _Reader(data, REPLAY_FIELDS)
    draft = reader.replay()
    reader.finish()
    return draft


class _Reader(Reader):
    def url(self, *, required: bool) -> str | None:
        if "url" not in self._data:
            if required:
                self.wrong("url", "required", "An address is needed.")
            return None
        value = self.string("url", longest=addresses.LONGEST_URL)
        if not self._failed("url"):
            code, text = addresses.problem(value)
            if code:
                self.wrong("url", code, text)
        return value

    def events(self) -> list[str] | None:
        if "events" not in self._data:
            return None
        value = self._data["events"]
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            self.wrong("events", "wrong_type", "A list of strings is expected.")
        elif not value:
            self.wrong("events", "empty", 'At least one is needed; "*" stands for all.')
        elif len(value) > MOST_EVENTS:
            self.wrong("events", "too_many", f"At most {MOST_EVENTS}.")
        elif not set(value) <= set(WANTED):
            self.wrong("events", "bad_choice", f"Each one of {', '.join(WANTED)}.")
        else:
            return list(dict.fromkeys(value))
        return None

    def description(self) -> str | None:
        return self.string("description", longest=LONGEST_DESCRIPTION) if "description" in self._data else None

    def overlap(self) -> int:
        value = self._data.get("overlap_seconds", signatures.OVERLAP)
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong("overlap_seconds", "wrong_type", "A whole number of seconds is expected.")
        elif not 0 <= value <= signatures.LONGEST_OVERLAP:
            self.wrong("overlap_seconds", "out_of_range", f"From 0 to {signatures.LONGEST_OVERLAP} seconds.")
        else:
            return value
        return 0

    def replay(self) -> ReplayDraft:
        if ("event_id" in self._data) == ("since" in self._data):
            self.wrong("since", "one_of", "Exactly one of event_id and since is needed.")
        since, until = self._moment("since"), self._moment("until")
        if since and since < datetime.now(UTC) - LONGEST_REPLAY:
            self.wrong("since", "out_of_range", f"At most {LONGEST_REPLAY.days} days ago.")
        failed_only = self._data.get("failed_only", False)
        if not isinstance(failed_only, bool):
            self.wrong("failed_only", "wrong_type", "true or false is expected.")
        for name in ("until", "failed_only"):
            if name in self._data and "since" not in self._data:
                self.wrong(name, "needs_since", "It belongs to since.")
        return ReplayDraft(self._event_id(), since, until, failed_only is True)

    def _event_id(self) -> UUID | None:
        value = self.matching("event_id", EVENT_ID, "The id of an event is expected.")
        return UUID(value) if value and not self._failed("event_id") else None

    def _moment(self, name: str) -> datetime | None:
        if name not in self._data:
            return None
        try:
            return parse_moment(self._data[name])
        except ValueError:
            self.wrong(name, "bad_format", "An ISO 8601 date and time with its offset is expected.")
            return None
