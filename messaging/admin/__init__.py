"""The admin, one file per noun. Logs are read-only; actions call the same verbs as the doors."""

from messaging.admin import clients, dead_letters, home, kafka, logs, messages, texts, users, webhooks

__all__ = ["clients", "dead_letters", "home", "kafka", "logs", "messages", "texts", "users", "webhooks"]
