"""Run independent units of work on a Dask cluster, which schedules, places and retries them.

A unit is a function of picklable arguments with input and output on storage that every worker can
access. A lost worker therefore costs only the units it held, and the same command resumes.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from histoboost.errors import BadInput, HistoboostError, require, warn
from histoboost.progress import progress

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")

#: Seconds to wait for the scheduler, and for a first worker.
CONNECT_TIMEOUT_S = 10
WORKER_TIMEOUT_S = 120

#: Minimum number of units submitted at a time; four per worker thread if that is more.
IN_FLIGHT = 256


@contextmanager
def connect(address: str) -> Iterator[Client]:
    """Connect a client to the scheduler at `address`, such as ``tcp://head:8786``."""
    require("--scheduler", "distributed", "dask")
    from distributed import Client

    address = _check_scheduler(address)
    with _quiet():
        try:
            client = Client(address, timeout=CONNECT_TIMEOUT_S)
        except (OSError, RuntimeError, TimeoutError, TypeError, ValueError) as error:
            raise _no_scheduler(address) from error
        if not client.nthreads():
            warn(f"{address}: no workers yet; waiting up to {WORKER_TIMEOUT_S:g} s")
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


def _check_scheduler(address: str) -> str:
    """Return the full address of a Dask scheduler; refused unless one answers.

    Dask itself would take the first bytes of any other server for a length to wait for or allocate.
    """
    from distributed.security import Security

    url = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        host, port = url.hostname, url.port
    except ValueError:  # port is not a number
        host = port = None
    if url.scheme not in ("tcp", "tls") or not host or not port:
        raise BadInput(f"--scheduler {address}: give tcp://HOST:PORT, or tls:// if Dask has it")
    tls = Security().get_connection_args("client").get("ssl_context") is not None
    if url.scheme == "tls" and not tls:
        raise BadInput(
            f"--scheduler {address}: no certificates; set them in Dask's configuration, "
            "distributed.comm.tls"
        )
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as probe:
            # A scheduler sends first: the length of its greeting, then the greeting.
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
    # Pickled by value, as histoboost may be missing.
    find = lambda: __import__("importlib.util").util.find_spec("histoboost") is not None  # noqa: E731
    found = {worker: ok is True for worker, ok in client.run(find, on_error="return").items()}
    missing = [worker for worker, ok in found.items() if not ok]
    if not client.run_on_scheduler(find):
        missing.insert(0, f"the scheduler {address}")
    if missing:
        raise BadInput(
            f"--scheduler {address}: histoboost is not installed on {', '.join(missing[:3])}; "
            "install the same version on every machine of the cluster"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Dask's log of lost connections, which our error reports in one line."""
    import logging

    # Dask sets levels on loggers below "distributed".
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

    Yields the index and result of each unit as they complete. Units run in order, so the most
    expensive should come first; if one fails, or keeps killing its workers, all others are
    cancelled. `names` are for errors, `description` and `unit` for the progress bar. With `gpu`
    each unit takes one of a worker's ``GPU`` resource (``dask worker --resources GPU=1``).
    """
    from concurrent.futures import CancelledError

    from distributed import KilledWorker, as_completed
    from distributed.comm.core import CommClosedError

    address = client.scheduler_info(n_workers=0)["address"]
    if gpu:
        _require_gpus(client)
    # Units may be large: the number at the scheduler depends on the workers, not on the units.
    waiting = iter(enumerate(units))
    indices: dict[Any, int] = {}

    def submit_next() -> Iterator[Future[T]]:
        # Enough to keep all workers busy, even late ones.
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
    futures = as_completed(list(submit_next()))
    try:
        with progress(description, len(units), unit) as advance:
            for future in futures:
                index = indices.pop(future.key)
                result = future.result()
                futures.update(list(submit_next()))
                yield index, result
                done += 1
                advance(1)
    except HistoboostError as error:
        raise BadInput(f"{names[index]}: {error}") from error
    except KilledWorker as error:
        raise BadInput(
            f"{names[index]}: workers died {error.allowed_failures + 1} times on this unit, "
            "probably out of memory; give them more memory and run the same command again"
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
            "--device cuda: no worker offers a GPU; start one worker per GPU with --resources GPU=1"
        )


def _worker() -> Any:
    """Dask worker that runs this, or None."""
    try:
        from distributed import get_worker

        return get_worker()
    except (ImportError, ValueError):
        return None


def worker_name() -> str:
    """Address of the Dask worker that runs this, or ``"this machine"``."""
    worker = _worker()
    return "this machine" if worker is None else str(worker.address)


def worker_threads() -> int:
    """Number of cores for a unit: the worker's threads, at most those allowed."""
    import joblib

    allowed, worker = int(joblib.cpu_count()), _worker()
    return allowed if worker is None else max(1, min(allowed, int(worker.state.nthreads)))
