from django.urls import path, re_path

from messaging import views
from messaging.openapi.views import DocsView, SchemaView

urlpatterns = [
    path("api/v1/messages", views.MessagesView.as_view()),
    path("api/v1/messages/batch", views.BatchView.as_view()),
    path("api/v1/messages/<uuid:message_id>", views.MessageView.as_view()),
    path("api/v1/messages/<uuid:message_id>/cancel", views.CancelView.as_view()),
    path("api/v1/quotes", views.QuotesView.as_view()),
    path("receipts/<slug:provider>", views.ReceiptView.as_view()),
    path("receipts/<slug:provider>/<slug:our_reference>", views.ReceiptView.as_view()),
    re_path(r"^api/events/schemas/?\Z", views.EventSchemasView.as_view()),
    path("api/events/schemas/<str:name>", views.EventSchemaView.as_view()),
    path("live", views.LiveView.as_view()),
    path("ready", views.ReadyView.as_view()),
    path("metrics", views.MetricsView.as_view()),
    path("api/schema/", SchemaView.as_view(), name="schema"),
    re_path(r"^api/docs/?\Z", DocsView.as_view()),
    # To `/admin` Django appends the slash that is missing.
    re_path(r"^(?!admin\Z)", views.UnknownView.as_view()),
]
