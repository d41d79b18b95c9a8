"""Run independent units on a Dask cluster. Scheduling, retries and placement are Dask's.

A unit is a function of picklable arguments that finds its input, and leaves its output, where every
worker reaches it. A lost worker therefore costs the units it held, and running the same command
again does what is missing.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from histoboost.errors import BadInput, HistoboostError, HistoboostWarning
from histoboost.progress import progress

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")

#: Seconds to wait for a scheduler to answer, and for a first worker to appear.
CONNECT_TIMEOUT_S = 10
WORKER_TIMEOUT_S = 120

#: Units that are handed out at a time, or four for each thread of a worker where that is more.
IN_FLIGHT = 256


@contextmanager
def connect(address: str) -> Iterator[Client]:
    """A client of the scheduler at `address`, closed at the end.

    Parameters
    ----------
    address : str
        For example ``tcp://head:8786``.

    Raises
    ------
    HistoboostError
        If Dask is not installed, nobody listens at the address, or no worker appears.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise BadInput(
            "--scheduler: Dask is not installed; pip install 'histoboost[dask]'"
        ) from error
    with _quiet():
        try:
            client = Client(address, timeout=CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise BadInput(
                f"--scheduler {address}: no Dask scheduler answers there; start one with "
                "'dask scheduler', or check the address"
            ) from error
        if not client.nthreads():
            warnings.warn(
                f"{address}: the scheduler has no workers yet; waiting for one, at most "
                f"{WORKER_TIMEOUT_S:g} s",
                HistoboostWarning,
                stacklevel=3,
            )
        try:
            client.wait_for_workers(1, timeout=WORKER_TIMEOUT_S)
        except TimeoutError as error:
            client.close()
            raise BadInput(
                f"--scheduler {address}: the scheduler has no workers; start some with "
                f"'dask worker {address}'"
            ) from error
        with client:
            yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's log of lost connections off the terminal: the one-line error says it."""
    import logging

    # Dask gives loggers below "distributed" levels of their own.
    dask = ("distributed", "tornado")
    names = {name for name in logging.root.manager.loggerDict if name.split(".")[0] in dask}
    loggers = [logging.getLogger(name) for name in sorted(names.union(dask))]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def run_units(
    client: Client,
    function: Callable[..., T],
    units: Sequence[tuple[Any, ...]],
    *,
    names: Sequence[str],
    description: str,
    unit: str,
    gpu: bool = False,
) -> Iterator[tuple[int, T]]:
    """Run ``function(*unit)`` for every unit on the cluster's workers.

    Parameters
    ----------
    client : distributed.Client
        See `connect`.
    function : callable
        Importable on the workers.
    units : sequence of tuple
        Arguments, the most expensive unit first: workers take them in this order.
    names : sequence of str
        What to call each unit in an error.
    description, unit : str
        For the progress bar.
    gpu : bool
        Each unit takes one of a worker's ``GPU`` resource (``dask worker --resources GPU=1``).

    Yields
    ------
    place : int
        Index into `units`, in the order in which they are done.
    result

    Raises
    ------
    HistoboostError
        If a unit failed (the others are cancelled), its workers kept dying, or the scheduler was
        lost.
    """
    from distributed import KilledWorker, as_completed
    from distributed.comm.core import CommClosedError

    address = client.scheduler_info(n_workers=0)["address"]
    if gpu:
        _require_gpus(client)
    # A unit may carry a megabyte. What lies at the scheduler is bounded by the number of workers,
    # not by that of units: each unit that is done makes room for the next.
    waiting = iter(enumerate(units))
    places: dict[Any, int] = {}

    def hand_out() -> Iterator[Future[T]]:
        for place, arguments in islice(waiting, max(0, _in_flight(client) - len(places))):
            future = client.submit(
                function,
                *arguments,
                pure=False,
                priority=len(units) - place,
                resources={"GPU": 1} if gpu else None,
            )
            places[future.key] = place
            yield future

    done = 0
    futures = as_completed(list(hand_out()))
    try:
        with progress(description, len(units), unit) as advance:
            for future in futures:
                place = places.pop(future.key)
                result = future.result()
                futures.update(list(hand_out()))
                yield place, result
                done += 1
                advance(1)
    except HistoboostError as error:
        raise BadInput(f"{names[place]}: {error}") from error
    except KilledWorker as error:
        raise BadInput(
            f"{names[place]}: workers died {error.allowed_failures + 1} times while they ran it, "
            "most likely for want of memory; give them more, then run the same command again"
        ) from error
    except (CommClosedError, OSError, TimeoutError, _cancelled()) as error:
        raise BadInput(
            f"{address}: the scheduler was lost; what is done is kept, run the same command again"
        ) from error
    finally:
        if done < len(units):
            with contextlib.suppress(CommClosedError, OSError, TimeoutError):
                client.cancel(list(futures.futures))


def _in_flight(client: Client) -> int:
    """Units to hand out at a time: enough that no worker waits, even one that joins later."""
    return max(IN_FLIGHT, 4 * int(sum(client.nthreads().values())))


def _cancelled() -> type[BaseException]:
    from concurrent.futures import CancelledError

    return CancelledError


def _require_gpus(client: Client) -> None:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not any(worker["resources"].get("GPU") for worker in workers):
        raise BadInput(
            "--device cuda: no worker offers a GPU; start them with --resources GPU=1, one worker "
            "for each GPU"
        )


def worker_name() -> str:
    """Address of the Dask worker this runs on; ``"this machine"`` where it is none."""
    try:
        from distributed import get_worker

        return str(get_worker().address)
    except (ImportError, ValueError):
        return "this machine"


def worker_threads() -> int:
    """Cores that a unit may use: the worker's own share, never more than are allowed."""
    import joblib

    allowed = int(joblib.cpu_count())
    try:
        from distributed import get_worker

        return max(1, min(allowed, int(get_worker().state.nthreads)))
    except (ImportError, ValueError):
        return allowed
