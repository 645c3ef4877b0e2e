import time
from datetime import UTC, datetime, timedelta

import pytest
from rest_framework.test import APIClient

from messaging.clients import issue_key, new_token, split_key
from messaging.models import ApiKey
from tests.factories import ClientFactory, ProviderFactory
from tests.messaging.door import GOOD, URL, assert_problem, nothing_stored

pytestmark = pytest.mark.django_db


def bearer(token, **extra):
    http = APIClient(**extra)
    http.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return http


def update_key(token, **changes):
    ApiKey.objects.filter(pk=split_key(token)[0]).update(**changes)


@pytest.fixture
def token(client_row):
    return issue_key(client_row)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic dXNlcjpwYXNz",
        "Bearer mx_live_\xff",
        "Bearer " + new_token(),
        "Bearer " + "x" * 10_000,
    ],
)
def test_no_key_and_a_wrong_key_are_refused_alike(header):
    http = APIClient()
    if header is not None:
        http.credentials(HTTP_AUTHORIZATION=header)

    with nothing_stored():
        answer = http.post(URL, GOOD, format="json")

    assert_problem(answer, 401, "invalid_api_key")
    assert answer["WWW-Authenticate"] == "Bearer"


def test_another_secret_for_a_known_id(token):
    key_id, _ = split_key(token)

    answer = bearer(f"mx_live_{key_id}_{'x' * 43}").get(URL)

    assert_problem(answer, 401, "invalid_api_key")


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_the_scheme_is_read_in_any_case(token, scheme):
    http = APIClient()
    http.credentials(HTTP_AUTHORIZATION=f"{scheme} {token}")

    assert http.get(URL).status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"revoked_at": datetime.now(UTC)}, 401, "api_key_revoked"),
        ({"expires_at": datetime.now(UTC)}, 401, "api_key_expired"),
    ],
)
def test_a_key_that_is_over(token, changes, status, code):
    update_key(token, **changes)

    with nothing_stored():
        answer = bearer(token).post(URL, GOOD, format="json")

    assert_problem(answer, status, code)
    assert answer["WWW-Authenticate"] == "Bearer"


def test_a_stranger_does_not_learn_that_a_key_was_revoked(token):
    update_key(token, revoked_at=datetime.now(UTC))
    key_id, _ = split_key(token)

    answer = bearer(f"mx_live_{key_id}_{'x' * 43}").get(URL)

    assert_problem(answer, 401, "invalid_api_key")


def test_a_key_that_will_expire_is_good_until_then(token, settings):
    settings.SNAPSHOT_MAX_AGE = 1000
    update_key(token, expires_at=datetime.now(UTC) + timedelta(seconds=0.3))
    before = bearer(token).get(URL).status_code

    time.sleep(0.4)

    assert (before, bearer(token).get(URL).status_code) == (200, 401)


def test_a_disabled_client(token, client_row):
    client_row.enabled = False
    client_row.save()

    with nothing_stored():
        answer = bearer(token).post(URL, GOOD, format="json")

    assert_problem(answer, 403, "client_disabled")


@pytest.mark.parametrize(
    ("cidrs", "address", "status"),
    [
        ([], "203.0.113.9", 200),
        (["10.0.0.0/8"], "10.1.2.3", 200),
        (["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", 200),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", 200),
        (["10.0.0.0/8"], "11.1.2.3", 403),
        (["10.0.0.0/8"], "2001:db8::1", 403),
        (["10.0.0.0/8"], "", 403),
        (["10.0.0.0/8"], "unix:", 403),
    ],
)
def test_a_key_is_used_from_its_networks_only(client_row, cidrs, address, status):
    token = issue_key(client_row, cidrs=cidrs)

    answer = bearer(token, REMOTE_ADDR=address).get(URL)

    assert answer.status_code == status
    if status == 403:
        assert_problem(answer, 403, "address_not_allowed")


def test_a_forwarded_address_is_not_believed(client_row):
    token = issue_key(client_row, cidrs=["10.0.0.0/8"])

    answer = bearer(token, REMOTE_ADDR="203.0.113.9").get(URL, HTTP_X_FORWARDED_FOR="10.0.0.1")

    assert_problem(answer, 403, "address_not_allowed")


@pytest.mark.parametrize(
    ("proxies", "forwarded", "status"),
    [
        (1, "10.0.0.1", 200),
        (1, "203.0.113.9, 10.0.0.1", 200),
        (1, "10.0.0.1, 203.0.113.9", 403),
        (2, "203.0.113.9, 10.0.0.1, 192.0.2.1", 200),
        (2, "10.0.0.1", 403),
        (1, "", 403),
    ],
)
def test_only_our_own_proxies_are_believed_about_the_address(client_row, settings, proxies, forwarded, status):
    settings.PROXIES = proxies
    token = issue_key(client_row, cidrs=["10.0.0.0/8"])

    answer = bearer(token, REMOTE_ADDR="10.9.9.9").get(URL, HTTP_X_FORWARDED_FOR=forwarded)

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("scope", "method", "path"),
    [
        ("read", "post", URL),
        ("send", "get", URL),
        ("send", "head", URL),
        ("send", "get", f"{URL}/01a203fa-86af-750f-af8e-fb2b0c19d31d"),
        ("send", "head", f"{URL}/01a203fa-86af-750f-af8e-fb2b0c19d31d"),
    ],
)
def test_a_key_without_the_scope(client_row, scope, method, path):
    ProviderFactory(price="0.05")
    http = bearer(issue_key(client_row, scopes=[scope]))

    with nothing_stored():
        answer = getattr(http, method)(path, GOOD if method == "post" else None, format="json")

    assert answer.status_code == 403
    if method != "head":
        assert_problem(answer, 403, "missing_scope")


def test_a_message_of_class_otp_needs_the_scope_otp(client_row):
    ProviderFactory(price="0.05")
    without, with_otp = (bearer(issue_key(client_row, scopes=s)) for s in (["send"], ["send", "otp"]))

    with nothing_stored():
        refused = without.post(URL, {**GOOD, "class": "otp"}, format="json")
    taken = with_otp.post(URL, {**GOOD, "class": "otp"}, format="json")

    assert_problem(refused, 403, "missing_scope")
    assert taken.status_code == 202


def test_a_scope_taken_from_the_client_is_taken_from_its_keys(token, client_row, settings):
    settings.SNAPSHOT_MAX_AGE = 0
    client_row.scopes = ["read"]
    client_row.save()

    answer = bearer(token).post(URL, GOOD, format="json")

    assert_problem(answer, 403, "missing_scope")


def test_a_new_key_works_at_once(client_row, settings):
    settings.SNAPSHOT_MAX_AGE = 1000
    first = bearer(issue_key(client_row)).get(URL)

    second = bearer(issue_key(ClientFactory())).get(URL)

    assert (first.status_code, second.status_code) == (200, 200)


def test_revoking_works_within_the_snapshots_age(token, settings):
    settings.SNAPSHOT_MAX_AGE = 0.3
    http = bearer(token)
    before = http.get(URL).status_code

    update_key(token, revoked_at=datetime.now(UTC))
    time.sleep(0.35)

    assert (before, http.get(URL).status_code) == (200, 401)


def test_the_use_of_a_key_is_noted_once_a_minute(token):
    http = bearer(token)

    http.get(URL)
    noted = ApiKey.objects.get().last_used_at
    http.get(URL)

    assert datetime.now(UTC) - noted < timedelta(seconds=10)
    assert ApiKey.objects.get().last_used_at == noted
