"""The two kinds of mistake a user can make. Both end as one line on stderr, never as a traceback."""


class KbertError(Exception):
    """Base of the errors whose text is meant for the user."""

    exit_code = 1


class UsageError(KbertError):
    """The command line is wrong: a flag's value, or flags that do not go together. Exit code 2."""

    exit_code = 2


class DataError(KbertError):
    """A file, a checkpoint or a model directory is missing, unreadable or wrong. Exit code 1."""
