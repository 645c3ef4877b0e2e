"""Why a file cannot be read, or a step not be taken: the message is for the person who asked for it."""


class Unreadable(Exception):
    """The file as a whole."""


class Refused(Exception):
    """The import is not in the state for it, or this person may not."""
