from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from rest_framework import generics, serializers

from benchmarks.naive.models import Message
from benchmarks.naive.tasks import send


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["id", "client", "idempotency_key", "to", "text", "sender", "status", "created_at"]
        read_only_fields = ["id", "status", "created_at"]


class Messages(generics.CreateAPIView):
    serializer_class = MessageSerializer

    @transaction.atomic
    def perform_create(self, serializer: serializers.BaseSerializer) -> None:
        message = serializer.save()
        transaction.on_commit(lambda: send.send(str(message.id)))


def ready(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urlpatterns = [path("messages", Messages.as_view()), path("ready", ready)]
