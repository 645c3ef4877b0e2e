"""Schemathesis over the OpenAPI document, against a running service: what it answers must be what is documented."""

import hmac
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from messaging.openapi.schema import document
from routing.numbers import LONGEST
from verification.drafts import PURPOSE

TO = re.compile(document()["components"]["schemas"]["MessageRequest"]["properties"]["to"]["pattern"])
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d.*")
SIGNING_TOKEN = "secret-token"  # of a ProviderFactory


@schemathesis.check
def documented_problem(ctx: Any, response: Any, case: Any) -> None:
    """Whatever is not taken is a problem with a code that is documented for its status."""
    if response.status_code < 300:
        return
    assert response.headers["content-type"] == ["application/problem+json"], response.headers
    problem = response.json()
    assert problem["status"] == response.status_code
    documented = case.operation.definition.raw["responses"].get(str(response.status_code))
    if documented is None:
        # Not this call at all: another method, or another address.
        assert (problem["status"], problem["code"]) in {(404, "not_found"), (405, "method_not_allowed")}
    else:
        assert problem["code"] in documented["content"]["application/problem+json"]["examples"]


@dataclass
class Report:
    calls: Counter[tuple[str, int]] = field(default_factory=Counter)  # (operation, status) -> calls
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        statuses = sorted({status for _, status in self.calls})
        lines = [f"{'':44}{'calls':>7}" + "".join(f"{status:>6}" for status in statuses)]
        for name in sorted({name for name, _ in self.calls}):
            counts = [self.calls[name, status] for status in statuses]
            lines.append(f"{name:44}{sum(counts):>7}" + "".join(f"{count or '':>6}" for count in counts))
        return "\n".join([*lines, f"{'':44}{self.calls.total():>7}", *self.faults])


def fuzz(url: str, key: str, *, calls: int, seed: int) -> Report:
    """At least `calls` calls; the faults are what schemathesis or `documented_problem` found."""
    report = Report()
    round_ = 0
    while report.calls.total() < calls and not report.faults:
        for event in _events(url, key, calls, seed + round_):
            match event:
                case events.ScenarioFinished() | events.FuzzScenarioFinished():
                    _count(report, event.recorder)
                case events.NonFatalError() | events.FatalError():
                    report.faults.append(str(event))
        round_ += 1
    return report


def _events(url: str, key: str, calls: int, seed: int) -> Iterator[Any]:
    operations = sum(len(item) for item in document()["paths"].values())
    config = SchemathesisConfig.from_dict(
        {
            "base-url": url,
            "cache": {"enabled": False},  # each run begins anew and leaves nothing behind
            "headers": {"Authorization": f"Bearer {key}"},
            "seed": seed,
            "continue-on-failure": True,
            "generation": {"max-examples": calls // operations + 1, "database": "none", "no-shrink": True},
            "checks": {
                # What a schema cannot say: ranges of numbers, segments of a text, what a template needs.
                "positive_data_acceptance": {"expected-statuses": ["2xx", 400, 401, 404, 409, 422]},
            },
            # Every item of a batch is judged for itself: the answer is 202 with the item's error.
            "operations": [
                {"include-operation-id": "send_batch", "checks": {"negative_data_rejection": {"enabled": False}}}
            ],
        }
    )
    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(document())), config=config)
    yield from from_schema(schema).execute()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    if case.operation.path.startswith("/receipts/"):
        kwargs["auth"] = _sign


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Of numbers, times and purposes in the documented form hardly any is one that we take: each becomes one."""
    if isinstance(body, dict):
        if isinstance(body.get("to"), str) and TO.search(body["to"]) and len(body["to"]) <= LONGEST:
            body = {**body, "to": "+380671234567"}
        if isinstance(body.get("send_at"), str) and MOMENT.fullmatch(body["send_at"]):
            body = {**body, "send_at": "2026-01-02T03:04:05Z"}
        if isinstance(body.get("purpose"), str) and PURPOSE.fullmatch(body["purpose"]):
            body = {**body, "purpose": "login"}
    return body


def _sign(request: Any) -> Any:
    """As the simulated carrier does, or nothing but the signature would ever be looked at."""
    body = request.body.encode() if isinstance(request.body, str) else request.body or b""
    stamp = str(int(time.time()))
    request.headers["X-Carrier-Timestamp"] = stamp
    if isinstance(body, bytes):
        request.headers["X-Carrier-Signature"] = hmac.digest(
            SIGNING_TOKEN.encode(), stamp.encode() + b"." + body, "sha256"
        ).hex()
    return request


def _count(report: Report, recorder: Any) -> None:
    for case_id, interaction in recorder.interactions.items():
        label = recorder.cases[case_id].value.operation.label
        report.calls[label, interaction.response.status_code if interaction.response else 0] += 1
    for checks in recorder.checks.values():
        for check in checks:
            if check.failure_info:
                failure = check.failure_info
                report.faults.append(
                    f"{check.name}: {failure.failure.title} {failure.failure.message}\n{failure.code_sample}"
                )
