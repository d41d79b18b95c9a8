"""What a user can do wrong, in one line each, and what a user should know."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class HistoboostError(ValueError):
    """Bad input: the message is one line that names the thing and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


class HistoboostWarning(UserWarning):
    """Something the user should know; the message says what was done instead."""


@contextmanager
def warnings_kept() -> Iterator[list[str]]:
    """Keep our warnings, each once, in a list that is complete at the end.

    For a process far away, which has no terminal to show them on; see `pass_on`.
    """
    kept: list[str] = []
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", HistoboostWarning)
        yield kept
    for one in heard:
        if not issubclass(one.category, HistoboostWarning):
            warnings.warn(one.message, one.category, stacklevel=2)
        elif str(one.message) not in kept:
            kept.append(str(one.message))


def pass_on(kept: Iterable[str]) -> None:
    """Warn here of what another process has kept."""
    for message in kept:
        warnings.warn(message, HistoboostWarning, stacklevel=2)
