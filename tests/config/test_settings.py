"""The settings are strict: a wrong or missing value stops the start and is named."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.local.up import BASE_DIR


def load() -> dict[str, Any]:
    return runpy.run_path(str(BASE_DIR / "config" / "settings.py"))


@pytest.mark.parametrize(
    "name", ["SECRET_KEY", "PUBLIC_URL", "DATABASE_URL", "BROKER_URL", "CREDENTIALS_KEYS", "OTP_KEYS"]
)
def test_missing_value_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name)

    with pytest.raises(ImproperlyConfigured, match=f"{name} is not set"):
        load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "yes"),
        ("HTTPS", "1"),
        ("LOG_LEVEL", "verbose"),
        ("LEASE", "thirty"),
        ("READ_TIMEOUT", "0"),
        ("GATE", "nan"),
        ("TOTAL_TIMEOUT", "inf"),
        ("SLOTS_OTP", "0.5"),
        ("MAX_ATTEMPTS", "2.7"),
        ("DATABASE_URL", "sqlite:///data.db"),
        ("DATABASE_URL", "nonsense"),
        ("PUBLIC_URL", "sms.example.com"),
        ("REPORTING_CURRENCY", "euro"),
        ("PROXIES", "-1"),
        ("LOCK_TIMEOUT", "0"),
        ("SECRET_KEY_FILE", "/there/is/none"),
        ("ENV_FILE", "/there/is/none"),
    ],
)
def test_wrong_value_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ImproperlyConfigured, match=name):
        load()


def test_secret_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file\n")
    monkeypatch.delenv("SECRET_KEY")
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "key"))

    assert load()["SECRET_KEY"] == "from a file"


def test_lease_shorter_than_a_running_call_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASE", "19.9")

    with pytest.raises(ImproperlyConfigured, match=r"LEASE .* must be at least GATE \+ TOTAL_TIMEOUT \+ 5 s"):
        load()


def test_https_is_the_default_and_secures_cookies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HTTPS")

    settings = load()

    assert settings["SESSION_COOKIE_SECURE"] is settings["CSRF_COOKIE_SECURE"] is True
    assert settings["SECURE_SSL_REDIRECT"] is True
    assert settings["SECURE_HSTS_SECONDS"] > 0


def test_example_file_lists_every_variable_and_no_other() -> None:
    source = (BASE_DIR / "config" / "settings.py").read_text()
    kinds = "optional|required|positive|count|choice|flag|file|seconds|networks"
    read = set(re.findall(rf'(?:{kinds}|env\.\w+)\(\s*"([A-Z_]+)"', source))

    composed = set(re.findall(r"\$\{([A-Z_]+)", (BASE_DIR / "docker-compose.yml").read_text()))

    listed = set(re.findall(r"^#? ?([A-Z_]+)=", (BASE_DIR / ".env.example").read_text(), re.MULTILINE))

    assert listed == (read | composed) - {"PROCESS_NAME"}  # the supervisor names its processes by it
