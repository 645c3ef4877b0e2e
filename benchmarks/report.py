"""Writes the figures of a run into docs/performance.md, between its two markers.

python -m benchmarks.report out.json [docs/performance.md]
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.results import tables
from tests.fleet import ROOT

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by python -m benchmarks.report -->", "<!-- end of the figures -->"


def render(document: dict[str, Any]) -> str:
    facts = document["machine"]
    rounds = max(row["rounds"] for row in document["figures"])
    lines = [
        f"Commit {facts['commit']} on {facts['at'][:10]}. {facts['cores']} cores ({facts['cpu']}), "
        f"{facts['memory_gb']} GB, Linux {facts['kernel']}, clock {facts['clock']}, CPython {facts['python']}, "
        f"PostgreSQL {facts['postgresql']}, {facts['broker']}. Medians of {rounds} alternating rounds.",
        "",
        tables(document["figures"]),
        *(f"\nFAILED: {failure}" for failure in document["failures"]),
    ]
    return "\n".join(lines)


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    document = json.loads(Path(sys.argv[1]).read_text())
    page = Path(sys.argv[2]) if len(sys.argv) == 3 else PAGE
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{page} has no place for the figures: {BEGIN} and {END} are missing.")
    page.write_text(f"{before}{BEGIN}\n\n{render(document)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
