"""How likely a code is guessed, in words for staff."""

from messaging.admin.dashboard import Table
from verification import codes
from verification.models import Profile
from verification.profiles import DEFAULTS, Policy, policy_of

LONGEST = 200  # profiles in a table


def words(policy: Policy) -> str:
    """Of one challenge: 1 in 200,000 (5 in a million)."""
    if policy.odds >= 1_000_000:
        return "always"
    return f"1 in {1_000_000 / policy.odds:,.0f} ({policy.odds:,.4g} in a million)"


def default_table() -> Table:
    """What holds for a client without a profile of its own."""
    body = []
    for purpose, policy in DEFAULTS.items():
        cells = [f"{policy.ttl_seconds} s", str(policy.max_checks), str(policy.max_sends), words(policy)]
        body.append([purpose, str(policy.code_length), *cells, ", ".join(policy.context_fields) or "-"])
    headers = ["Default for", "Digits", "Lifetime", "Checks", "Sends", "Guessed", "Needs"]
    return {"headers": headers, "rows": body}


def odds_table() -> Table:
    """The profiles of all clients, and what holds for a client without."""
    body = [_row("every client", purpose, policy) for purpose, policy in DEFAULTS.items()]
    for row in Profile.objects.select_related("client")[:LONGEST]:
        body.append(_row(str(row.client), str(row), policy_of(row)))
    return {"headers": ["Client", "Profile", "Digits", "Checks", "Live codes", "Guessed"], "rows": body}


def _row(client: str, name: str, policy: Policy) -> list[str]:
    live = codes.LIVE_GENERATIONS if policy.code_per_attempt else 1
    remark = ", risk accepted" if policy.odds > codes.ODDS_LIMIT else ""
    return [client, name, str(policy.code_length), str(policy.max_checks), str(live), words(policy) + remark]
