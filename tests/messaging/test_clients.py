import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from messaging import clients
from messaging.clients import TooManyKeys, issue_key, new_token, split_key
from messaging.models import ApiKey
from tests.factories import ClientFactory

pytestmark = pytest.mark.django_db


def test_a_token_says_its_id_and_its_secret():
    token = new_token()

    key_id, secret = split_key(token)

    assert token == f"mx_live_{key_id}_{secret}"
    assert (len(key_id), len(secret)) == (12, 43)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "mx_live_",
        "mx_live_abcdefghijkl",
        "mx_live_abcdefghijkl_short",
        "mx_live_ABCDEFGHIJKL_" + "x" * 43,
        "mx_live_abcdefghijk_" + "x" * 43,
        "mx_test_abcdefghijkl_" + "x" * 43,
        "mx_live_abcdefghijkl_" + "x" * 44,
        "mx_live_abcdefghijkl_" + "é" * 43,
    ],
)
def test_what_is_not_in_our_form_is_no_token(token):
    assert split_key(token) is None


def test_only_the_hash_of_the_secret_is_kept(client_row):
    token = issue_key(client_row)

    key_id, secret = split_key(token)
    key = ApiKey.objects.get(pk=key_id)
    assert bytes(key.secret_hash) == clients.hash_secret(secret)
    assert secret not in str(key) + repr(list(ApiKey.objects.values()))


def test_a_given_token_is_taken_over(client_row):
    token = new_token()

    assert issue_key(client_row, token=token) == token
    assert clients.keys.get()[split_key(token)[0]].caller.slug == client_row.slug


def test_limits_come_with_the_caller(client_row):
    client_row.rate_limit, client_row.daily_quota = 5, 100
    client_row.save()
    key_id, _ = split_key(issue_key(client_row))

    caller = clients.keys.get(fresh=True)[key_id].caller

    assert (caller.rate_limit, caller.daily_quota) == (5, 100)


def test_a_token_that_is_not_in_our_form_is_refused(client_row):
    with pytest.raises(ValueError, match="an API key looks like"):
        issue_key(client_row, token="password")

    assert not ApiKey.objects.exists()


def test_a_third_live_key_is_refused(client_row):
    issue_key(client_row)
    issue_key(client_row)

    with pytest.raises(TooManyKeys):
        issue_key(client_row)

    assert ApiKey.objects.count() == 2


@pytest.mark.parametrize("field", ["revoked_at", "expires_at"])
def test_a_key_that_is_not_live_makes_room(client_row, field):
    issue_key(client_row)
    issue_key(client_row)
    ApiKey.objects.filter(pk=ApiKey.objects.first().pk).update(**{field: datetime.now(UTC) - timedelta(seconds=1)})

    issue_key(client_row)

    assert ApiKey.objects.count() == 3


def test_a_prefetched_client_does_not_hide_its_keys(client_row):
    known = type(client_row).objects.prefetch_related("api_keys").get(pk=client_row.pk)
    list(known.api_keys.all())
    issue_key(client_row)
    issue_key(client_row)

    with pytest.raises(TooManyKeys):
        issue_key(known)


@pytest.mark.django_db(transaction=True)
def test_parallel_creation_makes_two_keys(client_row):
    made, refused = [], []
    start = threading.Barrier(8)

    def create():
        start.wait(10)
        try:
            made.append(issue_key(client_row))
        except TooManyKeys as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert (len(made), len(refused)) == (2, 6)
    assert ApiKey.objects.count() == 2


def test_a_key_has_no_scope_that_its_client_lacks():
    client = ClientFactory(scopes=["read"])

    key_id, _ = split_key(issue_key(client, scopes=["read", "send"]))

    assert clients.keys.get()[key_id].caller.scopes == {"read"}


def test_a_mistyped_network_closes_its_own_key_only(client_row, lines):
    broken, _ = split_key(issue_key(client_row, cidrs=["10.0.0.0/33"]))
    good, _ = split_key(issue_key(client_row, cidrs=["10.0.0.1/8"]))

    found = clients.keys.get()

    assert good in found
    assert broken not in found
    (line,) = lines.of("an API key has an unreadable network and is not accepted")
    assert line["key_id"] == broken
