"""What several calls of `featurize` need alike, a backbone and its engine, made once for all."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

_made: ContextVar[dict[Hashable, Any] | None] = ContextVar("made", default=None)


@contextmanager
def made_once() -> Iterator[None]:
    """Within, in this thread, `once` makes nothing a second time; at the end all is let go."""
    token = _made.set({})
    try:
        yield
    finally:
        _made.reset(token)


def once(key: Hashable, make: Callable[[], T]) -> T:
    """What `make` makes; within `made_once` what it made for this key before."""
    made = _made.get()
    if made is None:
        return make()
    if key not in made:
        made[key] = make()
    found: T = made[key]
    return found
