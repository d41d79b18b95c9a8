"""What a user can do wrong, in one line each."""


class HistoboostError(ValueError):
    """Bad input: the message is one line that names the thing and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


class HistoboostWarning(UserWarning):
    """Something the user should know; the message says what was done instead."""
