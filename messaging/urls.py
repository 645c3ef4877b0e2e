from django.urls import path, re_path

from messaging import views, webhook_views
from messaging.openapi.views import AsyncSchemaView, DocsView, SchemaView

urlpatterns = [
    path("api/v1/messages", views.MessagesView.as_view()),
    path("api/v1/messages/batch", views.BatchView.as_view()),
    path("api/v1/messages/<uuid:message_id>", views.MessageView.as_view()),
    path("api/v1/messages/<uuid:message_id>/cancel", views.CancelView.as_view()),
    path("api/v1/quotes", views.QuotesView.as_view()),
    path("api/v1/webhook-endpoints", webhook_views.WebhookEndpointsView.as_view()),
    path("api/v1/webhook-endpoints/<uuid:endpoint_id>", webhook_views.WebhookEndpointView.as_view()),
    path("api/v1/webhook-endpoints/<uuid:endpoint_id>/rotate", webhook_views.WebhookRotateView.as_view()),
    path("api/v1/webhook-endpoints/<uuid:endpoint_id>/disable", webhook_views.WebhookDisableView.as_view()),
    path("api/v1/webhook-endpoints/<uuid:endpoint_id>/enable", webhook_views.WebhookEnableView.as_view()),
    path("api/v1/webhook-endpoints/<uuid:endpoint_id>/test", webhook_views.WebhookTestView.as_view()),
    path("api/v1/webhook-endpoints/<uuid:endpoint_id>/replay", webhook_views.WebhookReplayView.as_view()),
    path("api/v1/webhook-endpoints/<uuid:endpoint_id>/attempts", webhook_views.WebhookAttemptsView.as_view()),
    path("receipts/<slug:provider>", views.ReceiptView.as_view()),
    path("receipts/<slug:provider>/<slug:our_reference>", views.ReceiptView.as_view()),
    re_path(r"^api/events/schemas/?\Z", views.EventSchemasView.as_view()),
    path("api/events/schemas/<str:name>", views.EventSchemaView.as_view()),
    path("api/events/asyncapi.json", AsyncSchemaView.as_view()),
    path("live", views.LiveView.as_view()),
    path("ready", views.ReadyView.as_view()),
    path("metrics", views.MetricsView.as_view()),
    path("api/schema/", SchemaView.as_view(), name="schema"),
    re_path(r"^api/docs/?\Z", DocsView.as_view()),
    # To `/admin` Django appends the slash that is missing.
    re_path(r"^(?!admin\Z)", views.UnknownView.as_view()),
]
