"""What staff do: pages with health and attempts, tests, replays, on and off; the command and the provisioning file."""

import html
import re
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command

from messaging import metrics
from messaging.models import Event, uuid7
from messaging.provisioning import ProvisioningError, provision
from messaging.webhook_models import WebhookDelivery, WebhookEndpoint, WebhookReplay
from messaging.webhooks import endpoints, sending, signatures
from messaging.webhooks.sending import Outcome
from providers.sql import rows
from tests.factories import ClientFactory
from tests.messaging.webhooks.receiver import endpoint, secret_of, tell

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]
URL = "https://example.com/hook"
LIST = "/admin/messaging/webhookendpoint/"
DELIVERIES = "/admin/messaging/webhookdelivery/"


@pytest.fixture
def row(client_row, claim):
    """With an event that was delivered and one that failed."""
    found = endpoint(client_row, URL)
    tell(client_row)
    tell(client_row)
    first, second = claim()
    sending.settle([Outcome(first, 204, "", 0.03), Outcome(second, 500, "http_500", 0.4)])
    WebhookEndpoint.objects.update(failing_since=datetime.now(UTC))
    return found


def page(browser, url, **query):
    answer = browser.get(url, query)
    assert answer.status_code == 200, answer
    return answer.content.decode()


def act(browser, url, verb, **fields):
    """Opens the question and answers it."""
    path = re.search(rf'href="([^"]+/{verb}/)', page(browser, url))
    assert path, verb
    assert browser.get(path[1]).status_code == 200
    return browser.post(path[1], fields, follow=True).content.decode()


def test_the_pages_tell_health_deliveries_and_attempts(boss, row):
    assert "failing" in page(boss, LIST)
    assert row.url in page(boss, LIST, health="failing")
    assert row.url not in page(boss, LIST, health="lost")
    shown = page(boss, f"{LIST}{row.pk}/change/")
    assert "http_500" in shown
    assert "400 ms" in shown
    assert secret_of(row) not in shown
    assert row.secrets not in shown
    failed = WebhookDelivery.objects.get(status="pending")
    assert str(failed.event.id) in page(boss, f"{DELIVERIES}{failed.pk}/change/")
    for term in (failed.event.id, row.pk, failed.event.subject):
        assert failed.event.subject in page(boss, DELIVERIES, q=str(term))
    assert failed.event.subject not in page(boss, DELIVERIES, q=str(uuid7()))
    assert "1 deliveries" in shown
    assert page(boss, DELIVERIES, endpoint__id__exact=str(row.pk), status__exact="pending")


def test_staff_test_replay_and_switch_off_and_on(boss, row):
    url = f"{LIST}{row.pk}/change/"

    assert "Sent a test." in act(boss, url, "send_test")
    assert Event.objects.filter(type="webhook.test").exists()
    since = f"{datetime.now(UTC) - timedelta(hours=2):%Y-%m-%dT%H:%M}"
    assert "Replayed since" in act(boss, url, "replay_since", since=since, failed_only="on")
    assert WebhookReplay.objects.get().failed_only
    assert "At most 31 days ago." in act(boss, url, "replay_since", since="2020-01-01T00:00")
    act(boss, url, "switch_off")
    row.refresh_from_db()
    assert (row.enabled, row.disabled_reason) == (False, "staff")
    assert "send_test" not in page(boss, url)
    act(boss, url, "switch_on")
    row.refresh_from_db()
    assert row.enabled
    assert LogEntry.objects.count() == 4


def test_one_delivery_is_sent_again(boss, row):
    done = WebhookDelivery.objects.get(status="delivered")

    assert "It is sent again." in act(boss, f"{DELIVERIES}{done.pk}/change/", "replay")

    done.refresh_from_db()
    assert (done.status, done.tries) == ("pending", 0)


def test_who_may_only_look_can_do_nothing(client, row):
    user = User.objects.create_user("helper", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_webhook"))
    client.force_login(user)

    shown = page(client, f"{LIST}{row.pk}/change/")

    for verb in ("edit", "send_test", "replay_since", "rotate_secret", "switch_off", "remove"):
        assert verb not in shown
        assert client.post(f"{LIST}{row.pk}/{verb}/").status_code in (302, 403)
    row.refresh_from_db()
    assert row.enabled
    assert row.deleted_at is None
    assert not Event.objects.filter(type="webhook.test").exists()


def filled(browser, address, **fields):
    """Opens a form and sends it; returns what was sent, and the page that answers it."""
    (key,) = re.findall(r'name="key" value="([^"]+)"', page(browser, address))
    sent = {"key": key, **fields}
    answer = browser.post(address, sent)
    assert answer.status_code == 200
    return sent, html.unescape(answer.content.decode())


def shown_secret(text):
    return re.findall(r'id="secret"[^>]*>(whsec_[^<]+)<', text)


def in_the_database(text):
    """The tables that have it in clear."""
    models = [model for app in apps.get_app_configs() for model in app.get_models()]
    search = "SELECT 1 FROM {} t WHERE position(%(text)s IN t::text) > 0 LIMIT 1"
    return [m.__name__ for m in models if rows(search.format(m._meta.db_table), {"text": text})]


def test_staff_make_an_endpoint_and_see_its_secret_once(boss, client_row, caplog):
    fields = {"client": client_row.pk, "url": URL, "events": ["message.*", "webhook.disabled"], "description": "Core"}

    sent, text = filled(boss, f"{LIST}add/", **fields)
    again = boss.post(f"{LIST}add/", sent).content.decode()

    made = WebhookEndpoint.objects.get()
    assert (made.client, made.url, made.events, made.description) == (client_row, URL, fields["events"], "Core")
    (secret,) = shown_secret(text)
    assert secret == secret_of(made)
    assert shown_secret(again) == []
    assert "sent before" in again
    assert secret not in page(boss, f"{LIST}{made.pk}/change/")
    assert secret not in caplog.text
    assert LogEntry.objects.get().change_message == "Created."
    assert "WebhookEndpoint" in in_the_database(made.url)
    assert in_the_database(secret) == []
    assert secret not in str(dict(boss.session.items()))
    assert "no-store" in boss.get(f"{LIST}add/")["Cache-Control"]


def test_page_that_was_kept_and_changed_is_another_request(boss, client_row):
    sent, _ = filled(boss, f"{LIST}add/", client=client_row.pk, url=URL, events=["*"])
    changed = sent | {"url": f"{URL}/other"}

    refused = boss.post(f"{LIST}add/", changed).content.decode()
    key = re.search(r'name="key" value="([^"]+)"', refused)[1]
    text = boss.post(f"{LIST}add/", changed | {"key": key}).content.decode()

    assert "with other values" in refused
    assert key != sent["key"]
    assert len(shown_secret(text)) == 1
    assert WebhookEndpoint.objects.count() == 2


REFUSED = [
    {"url": ""},
    {"url": "ftp://example.com/"},
    {"url": "http://example.com/"},
    {"url": "https://somebody@example.com/"},
    {"url": "https://169.254.169.254/latest"},
    {"url": "https://0x7f000001/"},
    {"url": URL, "events": []},
    {"url": "https://10.0.0.1/", "description": "x" * 101},
]


@pytest.mark.parametrize("fields", REFUSED)
def test_what_the_api_refuses_is_refused_in_its_words(boss, api, client_row, settings, fields):
    settings.WEBHOOK_ALLOWED_NETWORKS, settings.WEBHOOK_ALLOW_HTTP = [], False
    errors = api.post("/api/v1/webhook-endpoints", fields, format="json").json()["errors"]

    _, text = filled(boss, f"{LIST}add/", client=client_row.pk, **{"events": ["*"], **fields})

    assert errors
    for error in errors:
        assert error["message"] in text
    assert not WebhookEndpoint.objects.exists()
    assert not LogEntry.objects.exists()


def test_staff_make_no_more_endpoints_than_a_client_may_have(boss, client_row):
    for _ in range(endpoints.MOST_ENDPOINTS):
        endpoint(client_row, URL)

    _, text = filled(boss, f"{LIST}add/", client=client_row.pk, url=URL, events=["*"])

    assert f"At most {endpoints.MOST_ENDPOINTS}: delete one first." in text
    assert WebhookEndpoint.objects.count() == endpoints.MOST_ENDPOINTS


def test_staff_edit_an_endpoint(boss, row):
    path = f"{LIST}{row.pk}/edit/"
    shown = page(boss, path)

    answer = boss.post(path, {"url": f"{URL}/v2", "events": ["message.*", "webhook.disabled"], "description": ""})

    assert f'value="{URL}"' in shown
    assert answer.url == f"{LIST}{row.pk}/change/"
    before = row.secrets
    row.refresh_from_db()
    assert (row.url, row.events, row.secrets) == (f"{URL}/v2", ["message.*", "webhook.disabled"], before)
    assert (
        LogEntry.objects.get().change_message
        == "Changed url, events. https://example.com/hook is https://example.com/hook/v2 now."
    )


@pytest.mark.parametrize("fields", REFUSED)
def test_an_edit_that_the_api_refuses_is_refused_in_its_words(boss, api, row, settings, fields):
    settings.WEBHOOK_ALLOWED_NETWORKS, settings.WEBHOOK_ALLOW_HTTP = [], False
    errors = api.patch(f"/api/v1/webhook-endpoints/{row.pk}", fields, format="json").json()["errors"]

    answer = boss.post(f"{LIST}{row.pk}/edit/", {"events": ["*"], **fields})

    assert errors
    for error in errors:
        assert error["message"] in html.unescape(answer.content.decode())
    row.refresh_from_db()
    assert row.url == URL
    assert not LogEntry.objects.exists()


def test_staff_delete_an_endpoint(boss, row):
    text = act(boss, f"{LIST}{row.pk}/change/", "remove")

    assert f"Deleted {URL}." in text
    assert f"{LIST}{row.pk}/" not in text
    row.refresh_from_db()
    assert (row.enabled, row.secrets, row.deleted_at is None) == (False, "", False)
    assert LogEntry.objects.get().is_deletion()
    assert boss.get(f"{LIST}{row.pk}/remove/").status_code == 404


@pytest.mark.parametrize(("overlap", "signing"), [(0, 1), (signatures.OVERLAP, 2)])
def test_staff_rotate_a_secret_and_see_the_new_one_once(boss, row, overlap, signing):
    before = secret_of(row)

    sent, text = filled(boss, f"{LIST}{row.pk}/rotate_secret/", overlap_seconds=overlap)
    again = boss.post(f"{LIST}{row.pk}/rotate_secret/", sent).content.decode()

    (secret,) = shown_secret(text)
    assert secret == secret_of(row) != before
    assert shown_secret(again) == []
    held = signatures.valid(signatures.unseal(row.pk, row.secrets), datetime.now(UTC))
    assert held == [secret, before][:signing]
    assert LogEntry.objects.get().change_message == "Rotated the secret."
    assert in_the_database(secret) == []


def test_making_changing_and_deleting_have_permissions_of_their_own(client, row):
    user = User.objects.create_user("helper", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_webhookendpoint", "add_webhookendpoint"]))
    client.force_login(user)
    before = secret_of(row)

    assert client.post(f"{LIST}{row.pk}/rotate_secret/", {"key": uuid7(), "overlap_seconds": 0}).status_code == 403
    assert client.post(f"{LIST}{row.pk}/edit/", {"url": f"{URL}/v2", "events": ["*"]}).status_code == 403
    assert shown_secret(filled(client, f"{LIST}add/", client=row.client_id, url=URL, events=["*"])[1])

    user.user_permissions.set(
        Permission.objects.filter(codename__in=["view_webhookendpoint", "change_webhookendpoint"])
    )
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}add/", {"key": uuid7(), "client": row.client_id, "url": URL}).status_code == 403
    assert "add/" not in page(client, LIST)
    assert client.post(f"{LIST}{row.pk}/remove/").status_code == 403
    assert "remove" not in page(client, f"{LIST}{row.pk}/change/")
    assert secret_of(row) == before
    assert shown_secret(filled(client, f"{LIST}{row.pk}/rotate_secret/", overlap_seconds=0)[1]) == [secret_of(row)]


def test_home_tells_of_endpoints_that_were_lost_only(boss, row):
    assert "lost endpoints" not in page(boss, "/admin/")

    WebhookEndpoint.objects.update(enabled=False, disabled_reason="gone")

    assert "lost endpoints" in page(boss, "/admin/")


def test_metrics_count_every_try(row):
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.Collector().collect()
        for sample in family.samples
    }

    assert samples["messaging_webhook_attempts_total", "delivered"] == 1
    assert samples["messaging_webhook_attempts_total", "retry"] == 1
    assert samples["messaging_webhook_attempts_total", "failed"] == 0
    assert samples["messaging_webhook_seconds_count",] == 1
    assert samples["messaging_webhook_endpoints_failing",] == 1
    assert samples["messaging_webhook_endpoints_disabled", "gone"] == 0


def test_recount_leaves_the_counts_of_webhooks(row):
    from messaging import tally

    tally.recount()

    assert sum(one.n for one in tally.totals() if one.kind == "webhook") == 2


class TestCommand:
    def run(self, *arguments):
        out = StringIO()
        call_command("replay_webhooks", *map(str, arguments), stdout=out)
        return out.getvalue()

    def test_one_event(self, row):
        done = WebhookDelivery.objects.get(status="delivered")

        assert self.run(row.pk, "--event", done.event_id) == "it will be sent again\n"

        done.refresh_from_db()
        assert done.status == "pending"

    def test_all_since(self, row):
        self.run(row.pk, "--since", "2026-11-01T00:00:00Z", "--failed-only")

        assert WebhookReplay.objects.get().failed_only

    @pytest.mark.parametrize(
        "arguments",
        [("--event", uuid7()), ("--since", "yesterday"), ("--since", "2026-11-01"), ()],
    )
    def test_what_cannot_be_done_is_told(self, row, arguments):
        with pytest.raises(CommandError):
            self.run(row.pk, *arguments)
        assert not WebhookReplay.objects.exists()

    def test_an_endpoint_that_is_not_there_or_off(self, row):
        with pytest.raises(CommandError, match="no such endpoint"):
            self.run(uuid7(), "--event", uuid7())
        WebhookEndpoint.objects.update(enabled=False, disabled_reason="gone")
        with pytest.raises(CommandError, match="gone"):
            self.run(row.pk, "--event", uuid7())


class TestProvisioning:
    secret = signatures.new_secret()

    def file(self, **fields):
        webhook = {"url": URL, "events": ["message.*"], "secret": "env:SECRET", **fields}
        return {"clients": [{"slug": "core-backend", "scopes": ["send"], "webhooks": [webhook]}]}

    def test_an_endpoint_is_made_once_and_changed_where_it_differs(self):
        environ = {"SECRET": self.secret}
        assert f"+ webhook endpoint {URL} of core-backend" in provision(self.file(), environ=environ)
        assert provision(self.file(), environ=environ) == []

        changes = provision(self.file(events=["*"]), environ={"SECRET": signatures.new_secret()})

        assert changes == [f"~ webhook endpoint {URL} of core-backend: events: message.* -> *"]
        assert secret_of(WebhookEndpoint.objects.get()) == self.secret

    def test_without_a_secret_it_has_one_of_its_own(self):
        document = self.file()
        del document["clients"][0]["webhooks"][0]["secret"]

        provision(document)

        assert signatures.is_secret(secret_of(WebhookEndpoint.objects.get()))

    @pytest.mark.parametrize(
        ("fields", "place"),
        [
            ({"url": "https://10.0.0.1/"}, "url"),
            ({"events": ["message.lost"]}, "events"),
            ({"secret": "whsec_short"}, "secret"),
            ({"secret": "env:UNSET"}, "secret"),
            ({"retries": 3}, "retries"),
        ],
    )
    def test_mistakes_are_told_with_their_place_and_without_the_secret(self, fields, place, settings):
        settings.WEBHOOK_ALLOWED_NETWORKS = []
        with pytest.raises(ProvisioningError) as error:
            provision(self.file(**fields), environ={"SECRET": self.secret})

        assert str(error.value).startswith(f"clients[core-backend].webhooks[1].{place}: ")
        assert "whsec_short" not in str(error.value)
        assert not WebhookEndpoint.objects.exists()


def test_rotate_keys_encrypts_secrets_anew(settings, capsys):
    row = endpoint(ClientFactory(), URL)
    before = secret_of(row)
    settings.CREDENTIALS_KEYS = "7:" + "A" * 43 + "=," + settings.CREDENTIALS_KEYS

    call_command("rotate_keys")

    assert "1 encrypted anew" in capsys.readouterr().out
    assert secret_of(row) == before
    assert row.secrets.startswith("v1.7.")
