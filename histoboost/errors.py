"""Errors and warnings for users, one line each."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec


class HistoboostError(Exception):
    """Base of all errors raised on purpose: one line that names the problem and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())  # names may contain line ends


class BadInput(HistoboostError):
    """A file, option or argument is unusable."""


class MissingExtra(HistoboostError):
    """`what` needs a package that is not installed; names the extra that provides it."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        self.what, self.package, self.extra = what, package, extra
        super().__init__(f"{what}: needs {package}; pip install 'histoboost[{extra}]'")

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str, str]]:
        return MissingExtra, (self.what, self.package, self.extra)


def require(what: str, package: str, extra: str) -> None:
    """Raise `MissingExtra` unless `package` is installed, without importing it."""
    if find_spec(package) is None:
        raise MissingExtra(what, package, extra)


class DamagedStore(HistoboostError):
    """Stored data differ from what was written."""


class HistoboostWarning(UserWarning):
    """A problem that did not stop the command; the message says what was done instead."""


def warn(message: str) -> None:
    """Issue a `HistoboostWarning`."""
    warnings.warn(message, HistoboostWarning, stacklevel=3)


@contextmanager
def warnings_kept() -> Iterator[list[str]]:
    """Collect our warnings, without duplicates, in a list that is complete at the end.

    For a remote process, which has no terminal; see `pass_on`.
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
    """Repeat warnings that another process has collected."""
    for message in kept:
        warnings.warn(message, HistoboostWarning, stacklevel=2)
