"""Check the arguments of a command: swapped, or an output that would replace an input."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click

from histoboost.errors import BadInput

#: Parameters that name a file to write.
OUTPUTS = {"output", "json_path", "predictions"}
#: Outputs that a command checks itself.
CHECKED_BY_COMMAND = {"outputs"}
#: Kinds of paths that an argument must not be. A source is DATA or a STORE.
_REFUSED = {
    "data": ("an embedding store", "a trained model"),
    "store": ("a trained model", "a file"),
    "source": ("a trained model",),
    "model": ("an embedding store", "a file"),
}

#: Commands whose STORE need not exist.
MAKE_A_STORE = {"featurize", "import"}


def check_arguments(ctx: click.Context) -> None:
    """Refuse swapped arguments, an output that would replace an input, NaN and infinity."""
    for name, value in ctx.params.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInput(f"--{name.replace('_', '-')}: not {value}; give a finite number")
    paths = {name: value for name, value in ctx.params.items() if isinstance(value, str)}
    arguments = [param for param in ctx.command.params if isinstance(param, click.Argument)]
    kinds = {param: _kind(paths.get(param.name or "", "")) for param in arguments}
    for param, found in kinds.items():
        path = paths.get(param.name or "", "")
        if found in _REFUSED.get(param.name or "", ()):
            needs_store = param.name == "store" and ctx.command.name not in MAKE_A_STORE
            if needs_store and found == "a file" and "an embedding store" not in kinds.values():
                from histoboost.cache.root import refuse_file

                refuse_file(Path(path))
            order = " ".join(ctx.command.collect_usage_pieces(ctx)[1:])
            raise BadInput(
                f"{path}: is {found}, not {param.human_readable_name}; expected "
                f"{ctx.command_path} {order}"
            )
    inputs = [path for name, path in paths.items() if name not in OUTPUTS]
    for name, value in ctx.params.items():
        if isinstance(value, tuple) and name not in CHECKED_BY_COMMAND:
            inputs += [item for item in value if isinstance(item, str)]
    check_outputs([paths[name] for name in paths.keys() & OUTPUTS], inputs)


def check_outputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Refuse outputs that are inputs, are given twice, or are inside a model or store."""
    inputs = [path for path in inputs if os.path.exists(path)]
    seen: set[str] = set()
    for output in (output for output in outputs if str(output) != "-"):
        if os.path.exists(output) and any(os.path.samefile(output, path) for path in inputs):
            raise BadInput(f"{output}: is an input of this command; choose another output")
        resolved = os.path.realpath(output)
        for folder in Path(resolved).parents:
            if found := _kind(str(folder)):
                raise BadInput(f"{output}: is inside {folder.name}, {found}; choose another folder")
        if resolved in seen:
            raise BadInput(f"{output}: would be written twice; rename one of the outputs")
        seen.add(resolved)


def _kind(path: str) -> str:
    """Recognise a model, a store or a file by its marker; empty for everything else."""
    from histoboost.cache.layout import is_local_store

    found = Path(path)
    if (found / "model.json").is_file() or (found / "finetune.json").is_file():
        return "a trained model"
    with suppress(OSError):  # the command itself reports what it cannot read
        if is_local_store(found):
            return "an embedding store"
    return "a file" if found.is_file() else ""
