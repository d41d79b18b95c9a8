"""Slips in the arguments of a command: swapped, or an output that is an input."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click

from histoboost.errors import BadInput

#: Parameters that name a file to write, and those that a command checks itself.
OUTPUTS, OWN_OUTPUTS = {"output", "json_path", "predictions"}, {"outputs"}
#: What an argument may not be, by its name; a source is DATA or a STORE.
_NEVER = {
    "data": ("an embedding store", "a trained model"),
    "store": ("a trained model", "a file"),
    "source": ("a trained model",),
    "model": ("an embedding store", "a file"),
}


def check_arguments(ctx: click.Context) -> None:
    """Refuse arguments in the wrong order, an output that would replace an input, and NaN."""
    for name, value in ctx.params.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInput(f"--{name.replace('_', '-')}: {value} is no number to reckon with")
    paths = {name: value for name, value in ctx.params.items() if isinstance(value, str)}
    for param in ctx.command.params:
        path = paths.get(param.name or "", "")
        found = _kind(path)
        if isinstance(param, click.Argument) and found in _NEVER.get(param.name or "", ()):
            order = " ".join(ctx.command.collect_usage_pieces(ctx)[1:])
            raise BadInput(
                f"{path}: is {found}, not {param.human_readable_name}; expected "
                f"{ctx.command_path} {order}"
            )
    inputs = [path for name, path in paths.items() if name not in OUTPUTS]
    for name, value in ctx.params.items():
        if isinstance(value, tuple) and name not in OWN_OUTPUTS:
            inputs += [one for one in value if isinstance(one, str)]
    check_outputs([paths[name] for name in paths.keys() & OUTPUTS], inputs)


def check_outputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Refuse files to write that are files to read, or one another, or in a model or a store."""
    inputs = [path for path in inputs if os.path.exists(path)]
    seen: set[str] = set()
    for output in outputs:
        if os.path.exists(output) and any(os.path.samefile(output, path) for path in inputs):
            raise BadInput(f"{output}: is an input of this command; choose another output")
        place = os.path.realpath(output)
        for folder in Path(place).parents:
            if (found := _kind(str(folder))) and str(output) != "-":
                raise BadInput(f"{output}: lies in {folder.name}, {found}; choose another place")
        if place in seen and str(output) != "-":
            raise BadInput(f"{output}: would be written twice; choose another name for one of them")
        seen.add(place)


def _kind(path: str) -> str:
    """What lies there, as far as its name and its mark tell; empty for all else."""
    from histoboost.cache.layout import is_local_store

    place = Path(path)
    if (place / "model.json").is_file() or (place / "finetune.json").is_file():
        return "a trained model"
    with suppress(OSError):  # the command itself says what cannot be read
        if is_local_store(place):
            return "an embedding store"
    return "a file" if place.is_file() else ""
