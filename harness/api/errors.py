"""The one error a user is meant to see."""


class HarnessError(Exception):
    """A mistake the user can mend: one line that says what was got, what was expected and what to do.

    The command line prints it without a traceback and exits with code 2. Plugins may raise it too.
    """
