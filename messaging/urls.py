from django.urls import path

from messaging import views

urlpatterns = [
    path("api/v1/messages", views.MessagesView.as_view()),
    path("api/v1/messages/<uuid:message_id>", views.MessageView.as_view()),
    path("receipts/<slug:provider>", views.receipt),
    path("receipts/<slug:provider>/<slug:our_reference>", views.receipt),
    path("live", views.live),
    path("ready", views.ready),
]
