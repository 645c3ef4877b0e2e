"""A connection that the server has closed is noticed before it is used, without asking the server."""

import psycopg
import pytest
from django.db import connection

from providers.sql import rows
from tests.fleet import database_url

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_living_connection_is_usable_at_no_cost(django_assert_num_queries):
    connection.ensure_connection()

    with django_assert_num_queries(0):
        assert connection.is_usable()


def test_a_connection_that_the_server_closed_is_replaced_at_the_next_request():
    ((before,),) = rows("SELECT pg_backend_pid()")
    with psycopg.connect(database_url()) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [before])

    connection.health_check_done = False  # as at the start of a request
    ((after,),) = rows("SELECT pg_backend_pid()")

    assert after != before
