"""Run independent units on a Dask cluster. Scheduling, retries and placement are Dask's.

A unit is a function of picklable arguments that finds its input, and leaves its output, where every
worker reaches it. A lost worker therefore costs the units it held, and running the same command
again does what is missing.
"""

from __future__ import annotations

import contextlib
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from histoboost.errors import BadInput, HistoboostError, HistoboostWarning, MissingExtra
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
    """A client of the scheduler at `address`, such as ``tcp://head:8786``, closed at the end."""
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtra("--scheduler", "Dask", "dask") from error
    address = _checked(address)
    with _quiet():
        try:
            client = Client(address, timeout=CONNECT_TIMEOUT_S)
        except (OSError, RuntimeError, TimeoutError, TypeError, ValueError) as error:
            raise _no_scheduler(address) from error
        if not client.nthreads():
            warnings.warn(
                f"{address}: no workers yet; waiting up to {WORKER_TIMEOUT_S:g} s",
                HistoboostWarning,
                stacklevel=3,
            )
        try:
            client.wait_for_workers(1, timeout=WORKER_TIMEOUT_S)
        except TimeoutError as error:
            client.close()
            raise BadInput(
                f"--scheduler {address}: no workers; start one with 'dask worker {address}'"
            ) from error
        with client:
            _check_installed(client, address)
            yield client


def _checked(address: str) -> str:
    """The address of what answers as a Dask scheduler does, before Dask itself is let near it.

    Dask takes the first bytes of whatever answers for a length, and waits for it or allocates it.
    """
    from distributed.security import Security

    url = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        host, port = url.hostname, url.port
    except ValueError:  # no number
        host = port = None
    if url.scheme not in ("tcp", "tls") or not host or not port:
        raise BadInput(f"--scheduler {address}: give tcp://HOST:PORT, or tls:// where Dask has it")
    tls = Security().get_connection_args("client").get("ssl_context") is not None
    if url.scheme == "tls" and not tls:
        raise BadInput(
            f"--scheduler {address}: no certificates; name them in Dask's configuration, "
            "distributed.comm.tls"
        )
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as probe:
            # A scheduler speaks first: the length of its greeting, then the greeting.
            greeting = b"" if url.scheme == "tls" else probe.recv(8, socket.MSG_WAITALL)
    except OSError as error:
        raise _no_scheduler(address) from error
    if url.scheme == "tcp" and not 0 < int.from_bytes(greeting, "little") < 2**20:
        raise _no_scheduler(address)
    return url.geturl()


def _no_scheduler(address: str) -> BadInput:
    return BadInput(
        f"--scheduler {address}: no Dask scheduler answers there; start one with "
        "'dask scheduler', or check the address and its port"
    )


def _check_installed(client: Client, address: str) -> None:
    """Refuse a cluster where histoboost cannot be imported."""
    # Sent as code, because there is nothing to import there.
    find = lambda: __import__("importlib.util").util.find_spec("histoboost") is not None  # noqa: E731
    found = {worker: ok is True for worker, ok in client.run(find, on_error="return").items()}
    lacking = [worker for worker, ok in found.items() if not ok]
    if not client.run_on_scheduler(find):
        lacking.insert(0, f"the scheduler {address}")
    if lacking:
        raise BadInput(
            f"--scheduler {address}: histoboost is not installed on {', '.join(lacking[:3])}; "
            "install the same version on every machine of the cluster"
        )


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

    `function` must be importable there. Workers take the units in order, so the most expensive
    should come first. `names` says what to call each in an error, `description` and `unit` are for
    the progress bar. With `gpu` each unit takes one of a worker's ``GPU`` resource (``dask worker
    --resources GPU=1``). Yields the index of each unit and its result in the order in which they
    are done. Where one fails, or its workers keep dying, the others are cancelled.
    """
    from concurrent.futures import CancelledError

    from distributed import KilledWorker, as_completed
    from distributed.comm.core import CommClosedError

    address = client.scheduler_info(n_workers=0)["address"]
    if gpu:
        _require_gpus(client)
    # A unit may carry a megabyte. What lies at the scheduler is bounded by the number of workers,
    # not by that of units: each unit that is done makes room for the next.
    waiting = iter(enumerate(units))
    indices: dict[Any, int] = {}

    def hand_out() -> Iterator[Future[T]]:
        # Enough that no worker waits, even one that joins later.
        most = max(IN_FLIGHT, 4 * int(sum(client.nthreads().values())))
        for index, arguments in islice(waiting, max(0, most - len(indices))):
            future = client.submit(
                function,
                *arguments,
                pure=False,
                priority=len(units) - index,
                resources={"GPU": 1} if gpu else None,
            )
            indices[future.key] = index
            yield future

    done = 0
    futures = as_completed(list(hand_out()))
    try:
        with progress(description, len(units), unit) as advance:
            for future in futures:
                index = indices.pop(future.key)
                result = future.result()
                futures.update(list(hand_out()))
                yield index, result
                done += 1
                advance(1)
    except HistoboostError as error:
        raise BadInput(f"{names[index]}: {error}") from error
    except KilledWorker as error:
        raise BadInput(
            f"{names[index]}: workers died {error.allowed_failures + 1} times while they ran it, "
            "most likely for want of memory; give them more, then run the same command again"
        ) from error
    except ImportError as error:
        raise BadInput(
            f"{names[index]}: a worker cannot import what it needs ({error}); install the same "
            "histoboost and extras on every worker"
        ) from error
    except (CommClosedError, OSError, TimeoutError, CancelledError) as error:
        raise BadInput(
            f"{address}: connection to the scheduler lost; finished work is kept, run the same "
            "command again"
        ) from error
    finally:
        if done < len(units):
            with contextlib.suppress(CommClosedError, OSError, TimeoutError):
                client.cancel(list(futures.futures))


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
