"""Roles: groups that every installation has, each with at least what is written here.

A role that stands for a kind of work has `app.*`, so it keeps up with the models of its app; what a model's Meta adds
(whole numbers, texts, approvals) is given by its full name only.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from django.apps import apps as all_apps
from django.db import transaction

OURS = ("providers", "routing", "messaging", "verification")
EVERYTHING = [f"{app}.view_*" for app in OURS]

ROLES: dict[str, list[str]] = {
    # What became of a message, a code, an opt-out.
    "support": [
        "verification.view_*",
        *(f"messaging.view_{model}" for model in ("message", "attempt", "receipt", "event", "client", "template")),
        "messaging.view_full_number",
        "messaging.decide_held",
        "messaging.*_suppression",
        "verification.cancel_challenge",
        "verification.add_block",
        "verification.change_block",
    ],
    # What a message costs and who carries it. Nobody approves what they had a hand in (PRICE_FOUR_EYES).
    "pricing": [
        "routing.*",
        "routing.approve_pricelist",
        "providers.view_*",
        "messaging.view_message",
        "messaging.view_attempt",
        "messaging.view_client",
    ],
    # The service itself: providers, clients, endpoints, limits. Changes no prices, sees no whole numbers and no texts.
    "operations": [
        *EVERYTHING,
        "providers.*",
        "verification.*",
        "verification.cancel_challenge",
        *(
            f"messaging.{verb}_{model}"
            for model in ("client", "apikey", "webhookendpoint", "deadletter", "template", "suppression")
            for verb in ("add", "change")
        ),
        "messaging.delete_webhookendpoint",
        "messaging.decide_held",
        *(
            f"routing.{verb}_{model}"
            for model in ("rule", "senderregistration", "network", "networkprefix")
            for verb in ("add", "change")
        ),
    ],
    # Everything, and nothing to change.
    "auditor": [*EVERYTHING, "auth.view_user", "auth.view_group", "admin.view_logentry"],
}


def complete(sender: Any, using: str, apps: Any = all_apps, **kwargs: Any) -> None:
    """After every `migrate`: the roles are there, with what they lack. Nothing that staff added is taken away.

    Not after `flush`, whose point is an empty database.
    """
    if "plan" not in kwargs:
        return
    try:
        group, permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    except LookupError:  # on the way back to before them
        return
    found = permission.objects.using(using).values_list(
        "pk", "content_type__app_label", "content_type__model", "codename"
    )
    known = list(found)
    with transaction.atomic(using=using):
        group.objects.using(using).bulk_create([group(name=name) for name in ROLES], ignore_conflicts=True)
        ids = dict(group.objects.using(using).filter(name__in=ROLES).values_list("name", "pk"))
        through = group.permissions.through
        rows = [
            through(group_id=ids[name], permission_id=pk)
            for name, patterns in ROLES.items()
            for pk in _granted(patterns, known)
        ]
        through.objects.using(using).bulk_create(rows, ignore_conflicts=True)


def _granted(patterns: list[str], known: list[tuple[int, str, str, str]]) -> Iterator[int]:
    for pk, app, model, codename in known:
        name = f"{app}.{codename}"
        usual = codename in (f"{verb}_{model}" for verb in ("add", "change", "delete", "view"))
        if name in patterns or (usual and any(fnmatchcase(name, pattern) for pattern in patterns)):
            yield pk
