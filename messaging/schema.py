"""The JSON Schemas of events and commands: files that are served, and that the door and the tests hold data against."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from jsonschema_rs import Draft202012Validator

VERSION = "v1"
MEDIA_TYPE = "application/schema+json"
DIRECTORY = Path(__file__).parent / "schemas"


@cache
def files() -> Mapping[str, bytes]:
    """Every schema by the name of its file."""
    return {path.name: path.read_bytes() for path in sorted(DIRECTORY.glob("*.json"))}


@cache
def catalogue() -> list[dict[str, str]]:
    """Every type of event and command with its title and the name of its schema's file."""
    found = []
    for name, text in files().items():
        schema = orjson.loads(text)
        types = schema["properties"]["type"]
        found += [
            {"type": kind, "title": schema["title"], "schema": name} for kind in types.get("enum") or [types["const"]]
        ]
    return found


@cache
def validator(name: str) -> Draft202012Validator:
    # Masked: what is wrong with a value is told without the value, which may be a number or a text.
    return Draft202012Validator(orjson.loads(files()[name]), validate_formats=True, mask="it")


def problem(name: str, data: Any) -> str:
    """The first thing that is wrong with `data`, with its place; empty when it keeps to the schema."""
    found = validator(name)
    try:
        if found.is_valid(data):
            return ""
        error = next(iter(found.iter_errors(data)))
    except (ValueError, RecursionError, OverflowError):  # a lone surrogate, a huge integer, deep nesting
        return "It cannot be written as JSON."
    # No deeper than the schema's own names: what is below them is the caller's.
    place = ".".join(str(part) for part in error.instance_path[:2]) or "command"
    rule = str(error.schema_path[-1]) if error.schema_path else "schema"
    # These two would name what the caller has written.
    return f"{place}: {rule if rule in ('additionalProperties', 'pattern') else error.message}"
