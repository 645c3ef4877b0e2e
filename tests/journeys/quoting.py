"""Loaded by a real worker after its tasks: an adapter with a mistake, whose exception quotes what it was given."""

from providers.adapters.simulator import Simulator
from providers.types import HttpRequest, Submission

_build_send = Simulator.build_send


def build_send(self: Simulator, submission: Submission) -> HttpRequest:
    if self.account.slug == "mistaken":
        raise ValueError(f"no way for {submission.text!r} to {submission.to}")
    return _build_send(self, submission)


Simulator.build_send = build_send
