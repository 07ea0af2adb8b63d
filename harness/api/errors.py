"""The errors meant for people: users of the harness, and authors of losses."""


class HarnessError(Exception):
    """A mistake that the user can correct: one line that says what was got, what was expected and what to do.

    The command line prints it without a traceback and exits with code 2. Plugins may raise it too.
    """


class CheckError(AssertionError):
    """A loss breaks a rule of `harness.api.checks`: what was got, what was expected, what to do."""


def demand(condition: bool, message: str) -> None:
    """Raise `CheckError(message)` unless `condition` holds."""
    if not condition:
        raise CheckError(message)
