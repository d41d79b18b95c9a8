"""What a user can do wrong, in one line each, and what a user should know."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec


class HistoboostError(Exception):
    """What this package raises on purpose: one line that names the thing and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())  # a name in a file may hold line ends


class BadInput(HistoboostError):
    """A file, an option or an argument cannot be used as it is."""


class MissingExtra(HistoboostError):
    """A package is not installed that `what` needs; the extra of histoboost that brings it."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        self.what, self.package, self.extra = what, package, extra
        super().__init__(f"{what}: needs {package}; pip install 'histoboost[{extra}]'")

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str, str]]:
        return MissingExtra, (self.what, self.package, self.extra)


def require(what: str, package: str, extra: str) -> None:
    """Raise `MissingExtra` where `package` is not installed; nothing is imported."""
    if find_spec(package) is None:
        raise MissingExtra(what, package, extra)


class DamagedStore(HistoboostError):
    """Something in a store is not as it was written."""


class HistoboostWarning(UserWarning):
    """Something the user should know; the message says what was done instead."""


def warn(message: str) -> None:
    """Tell the user `message`, a `HistoboostWarning`."""
    warnings.warn(message, HistoboostWarning, stacklevel=3)


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
