"""What the documentation points to is there."""

import re
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands

from config.local.up import BASE_DIR

PAGES = sorted([BASE_DIR / "README.md", *(BASE_DIR / "docs").rglob("*.md"), *(BASE_DIR / "examples").rglob("*.md")])
MAKE = (BASE_DIR / "Makefile").read_text()
EXAMPLE = (BASE_DIR / ".env.example").read_text()
# Variables of the launcher, of tests and of libraries, and files instead of values.
ELSEWHERE = {
    "WEB_PORT",
    "KAFKA_PORT",
    "CARRIER_PORT",
    "RABBITMQ_URL",
    "WEBHOOK_SECRET",
    "UV_THREADPOOL_SIZE",
    "SECRET_KEY_FILE",
    "CREDENTIALS_KEYS_FILE",
    "OTP_KEYS_FILE",
    "NETWORKS_KEY_FILE",
}
SETTINGS = (BASE_DIR / "config" / "settings.py").read_text()


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(BASE_DIR)))
def document(request: pytest.FixtureRequest) -> Path:
    return request.param


def anchors(path: Path) -> set[str]:
    """As a forge makes them from headings."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"[a-z]+://", target):
            continue
        file, _, anchor = target.partition("#")
        found = (document.parent / file).resolve() if file else document
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_commands_exist(document: Path) -> None:
    text = document.read_text()

    assert set(re.findall(r"manage\.py ([a-z_]+)", text)) <= set(get_commands()) | {"check"}
    assert all(f"\n{target}:" in MAKE for target in re.findall(r"\bmake ([a-z]+)\b(?=[`\s]*(?:#|`|$))", text, re.M))


def test_services_of_docker_compose_exist(document: Path) -> None:
    services = set(yaml.safe_load((BASE_DIR / "docker-compose.yml").read_text())["services"])
    commands = re.findall(r"docker compose (?:run|up)([^\n#)\"]*)", document.read_text())
    words = {word for command in commands for word in re.findall(r"(?<=\s)(?:web|worker-\w+|[a-z]+)(?=\s|$)", command)}

    assert words - {"python", "check", "createsuperuser", "provision"} <= services


def test_settings_are_known(document: Path) -> None:
    """What looks like `NAME=value` of ours in the text can be set."""
    names = set(re.findall(r"`([A-Z]+_[A-Z_]+)(?:=[^`]*)?`", document.read_text()))
    known = set(re.findall(r"^#? ?([A-Z_]+)=", EXAMPLE, re.MULTILINE)) | set(
        re.findall(r"\b[A-Z]+_[A-Z_]+\b", SETTINGS)
    )

    assert names <= known | ELSEWHERE


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [BASE_DIR / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text())
        waiting += [(page.parent / link).resolve() for link in links if "://" not in link]

    assert reached == set(PAGES)
