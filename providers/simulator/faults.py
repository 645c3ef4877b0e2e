"""The fault plan: what a carrier does wrong, how often, to whom. Pure; the dice come from outside."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# Fault -> the default of `seconds` where it has one. "before" and "after" say whether the SMS was accepted.
BEFORE_ACCEPT: dict[str, float | None] = {
    "throttle": 1.0,  # 429 with Retry-After: seconds
    "server_error_before_accept": None,
    "drop_before_accept": None,
    "read_and_close": None,
    "hang_before_accept": None,
    "out_of_balance": None,
    "reject": None,
}
AFTER_ACCEPT: dict[str, float | None] = {
    "server_error_after_accept": None,
    "drop_after_accept": None,
    "hang_after_accept": None,
    "slow_bytes": 10.0,  # the whole answer takes this long
    "wrong_json": None,
}
RECEIPTS: dict[str, float | None] = {
    "receipt_delay": 5.0,
    "receipt_duplicate": None,
    "receipt_disorder": None,
    "receipt_negative": None,
    "receipt_never": None,
}
FAULTS: dict[str, float | None] = {"latency": 5.0, "refuse": None, **BEFORE_ACCEPT, **AFTER_ACCEPT, **RECEIPTS}
# What can happen to a look-up as well; the others are about accepting an SMS.
ON_LOOKUP = {
    "latency",
    "throttle",
    "server_error_before_accept",
    "drop_before_accept",
    "read_and_close",
    "hang_before_accept",
    "slow_bytes",
    "wrong_json",
}
REJECT_CODES = ("bad_token", "invalid_number", "blocked", "opted_out", "sender_not_allowed", "no_route")
NEGATIVE_STATUSES = ("undelivered", "expired")
_KEYS = {"fault", "share", "count", "to_prefix", "seconds", "code", "status", "on"}


class BadPlan(ValueError):
    """A fault plan that cannot be used; the message is meant for the person who wrote it."""


@dataclass(slots=True)
class Rule:
    """One line of the plan. `count` is how many times it still strikes, None for ever."""

    fault: str
    share: float = 1.0
    count: int | None = None
    to_prefix: str = ""
    seconds: float = 0.0
    code: str = ""
    status: str = ""
    on: str = ""  # "send" or "lookup" narrows a fault that could strike both

    def as_json(self) -> dict[str, Any]:
        """What `parse_rules` makes this rule of again."""
        said = {key: value for key, value in asdict(self).items() if value not in ("", None)}
        if self.share == 1:
            del said["share"]
        if FAULTS[self.fault] is None:
            del said["seconds"]
        return said


class Plan:
    """The rules of one carrier; the first rule in the list that strikes decides."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._dice = random.Random(seed)
        self.rules: list[Rule] = []

    def replace(self, rules: list[Rule]) -> None:
        self.rules = rules

    def reset(self) -> None:
        self.rules = []
        self._dice.seed(self._seed)

    @property
    def refusing(self) -> bool:
        return any(rule.fault == "refuse" for rule in self.rules)

    def strike(self, on: str, to: str = "") -> tuple[float, Rule | None]:
        """Extra latency in seconds, and the rule that decides this request; latency comes on top of the others."""
        latency = 0.0
        for rule in self.rules:
            if rule.fault in RECEIPTS or rule.fault == "refuse" or not _reaches(rule, on):
                continue
            if self._hits(rule, to):
                if rule.fault != "latency":
                    return latency, rule
                latency += rule.seconds
        return latency, None

    def receipts(self, to: str) -> dict[str, Rule]:
        """The receipt faults that strike this message, by name."""
        rules = [rule for rule in self.rules if rule.fault in RECEIPTS]
        return {rule.fault: rule for rule in rules if self._hits(rule, to)}

    def _hits(self, rule: Rule, to: str) -> bool:
        if rule.count == 0 or not to.startswith(rule.to_prefix):
            return False
        if rule.share < 1 and self._dice.random() >= rule.share:
            return False
        if rule.count is not None:
            rule.count -= 1
        return True


def _reaches(rule: Rule, on: str) -> bool:
    return rule.on in ("", on) and (on == "send" or rule.fault in ON_LOOKUP)


def parse_rules(data: object) -> list[Rule]:
    """Raises BadPlan, naming the rule and what is wrong with it."""
    if not isinstance(data, list):
        raise BadPlan('a fault plan is a list of rules like [{"fault": "throttle", "share": 0.2}]')
    return [_rule(item, f"rule {number}") for number, item in enumerate(data, 1)]


def _rule(item: object, where: str) -> Rule:
    if not isinstance(item, Mapping):
        raise BadPlan(f"{where} is not an object")
    unknown = sorted(str(key) for key in set(item) - _KEYS)
    if unknown:
        raise BadPlan(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(_KEYS))}")
    fault = item.get("fault")
    if not isinstance(fault, str) or fault not in FAULTS:
        raise BadPlan(f"{where}: fault must be one of {', '.join(FAULTS)}")
    if fault == "refuse" and len(item) > 1:
        raise BadPlan(f"{where}: refuse closes the port, so it takes no further keys")
    if "seconds" in item and FAULTS[fault] is None:
        raise BadPlan(f"{where}: {fault} has no seconds")
    rule = Rule(
        fault=fault,
        share=_number(item, "share", 1.0, 1.0, where),
        count=_count(item.get("count"), where),
        to_prefix=_one_of(item, "to_prefix", None, where),
        seconds=_number(item, "seconds", FAULTS[fault] or 0.0, 3600.0, where),
        code=_one_of(item, "code", REJECT_CODES if fault == "reject" else None, where),
        status=_one_of(item, "status", NEGATIVE_STATUSES, where),
        on=_one_of(item, "on", ("send", "lookup"), where),
    )
    if rule.code and fault not in ("reject", "receipt_negative"):
        raise BadPlan(f"{where}: {fault} has no code")
    if rule.status and fault != "receipt_negative":
        raise BadPlan(f"{where}: {fault} has no status")
    if rule.on == "lookup" and fault not in ON_LOOKUP:
        raise BadPlan(f"{where}: {fault} does not strike look-ups")
    if rule.on == "lookup" and rule.to_prefix:
        raise BadPlan(f"{where}: a look-up has no number, so no to_prefix")
    return _with_defaults(rule)


def _with_defaults(rule: Rule) -> Rule:
    if rule.fault == "reject":
        rule.code = rule.code or "blocked"
    if rule.fault == "receipt_negative":
        rule.code = rule.code or "unreachable"
        rule.status = rule.status or "undelivered"
    return rule


def _number(item: Mapping[str, Any], key: str, default: float, most: float, where: str) -> float:
    value = item.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise BadPlan(f"{where}: {key} must be a number from 0 to {most:g}")
    return float(value)


def _count(value: object, where: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadPlan(f"{where}: count must be a whole number, zero or more")
    return value


def _one_of(item: Mapping[str, Any], key: str, allowed: tuple[str, ...] | None, where: str) -> str:
    value = item.get(key, "")
    if not isinstance(value, str) or (value and allowed is not None and value not in allowed):
        raise BadPlan(f"{where}: {key} must be " + (f"one of {', '.join(allowed)}" if allowed else "a text"))
    return value
