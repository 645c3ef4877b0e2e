"""The admin of verification, one file per noun. Nothing here knows a code; actions call the same verbs as the doors."""

from verification.admin import challenges, fraud, page, profiles, refusals

__all__ = ["challenges", "fraud", "page", "profiles", "refusals"]
