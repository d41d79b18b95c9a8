"""Run writers in child processes for tests to kill.

Importing torch takes seconds, so this server does it once and forks a child per job. For each line
with a JSON request it prints two lines: the pids of the children, then their exit statuses
(negative: the signal).

Request: ``{"job": "featurize" or "chunks", "arguments": {...}, "copies": n, "report": path,
"die_at": n}``. Copy i logs to ``<report>.<i>``: one line per durable chunk, finally the number of
file-system operations in the store. A child with `die_at` kills itself before that operation.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings

import numpy as np
import torch

from histoboost.cache import layout
from histoboost.cache.embedding_writer import EmbeddingWriter
from histoboost.cache.store import EmbeddingStore, Recipe, SpotTable
from histoboost.featurize import featurize

# Small chunks, so that a small slide has several.
layout.CHUNK_ROWS = 16

OPERATIONS = {"open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "fcntl.flock"}


def chunks(store: str) -> None:
    """Write two embeddings of two slides, 5 chunks each, without featurize."""
    opened = EmbeddingStore(store)
    for slide in ("S_2", "S_1"):
        xy = np.arange(140, dtype=float).reshape(70, 2)
        opened.write_spots(SpotTable(slide, xy, tuple(map(str, range(70)))))
        for patch in (64, 128):
            data = np.random.default_rng(patch).standard_normal((70, 3)).astype(np.float16)
            recipe = Recipe({"patch_px": patch})
            opened.writer(slide, f"net@{patch}", recipe, *data.shape).write_all(data)


def run(job: str, arguments: dict, report: str, die_at: int | None) -> None:
    """Run a job in a child."""
    store, seen = arguments["store"], 0

    def count(event: str, args: tuple) -> None:
        nonlocal seen
        if event in OPERATIONS and (event == "fcntl.flock" or store in str(args[0])):
            seen += 1
            if seen == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    log = os.open(report, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def note(name: str) -> None:
        original = getattr(EmbeddingWriter, name)

        def noted(self: EmbeddingWriter, *args: object) -> object:
            result = original(self, *args)
            os.write(log, f"{name} {result}\n".encode())
            return result

        setattr(EmbeddingWriter, name, noted)

    note("write")
    note("publish")
    sys.addaudithook(count)
    if job == "chunks":
        chunks(**arguments)
    else:
        summary = featurize(**arguments)
        os.write(log, f"computed {summary.computed}\n".encode())
    os.write(log, f"operations {seen}\n".encode())


def child(request: dict, copy: int) -> int:
    """Fork; returns the pid in the parent."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.fsync = lambda descriptor: None  # only power loss needs it
        errors = os.open(f"{request['report']}.{copy}.err", os.O_CREAT | os.O_WRONLY)
        os.dup2(errors, sys.stderr.fileno())
        warnings.simplefilter("ignore")
        run(request["job"], request["arguments"], f"{request['report']}.{copy}", request["die_at"])
        code = 0
    finally:
        if code:
            import traceback

            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Serve until standard input ends."""
    import zarr  # noqa: F401  (before forking)

    torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pids = [child(request, copy) for copy in range(request["copies"])]
        print(json.dumps(pids), flush=True)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps(statuses), flush=True)


if __name__ == "__main__":
    main()
