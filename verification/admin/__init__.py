"""The admin of verification, one file per noun. Nothing here knows a code."""

from verification.admin import challenges, page, profiles

__all__ = ["challenges", "page", "profiles"]
