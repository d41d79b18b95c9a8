"""Slips in the arguments of a command: swapped, or an output that is an input."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import click

from histoboost.errors import BadInput

#: Parameters that name a file to write.
OUTPUTS = {"output", "json_path"}
#: What an argument may not be, by its name; a source is DATA or a STORE.
_NEVER = {
    "data": ("an embedding store", "a trained model"),
    "store": ("a trained model", "a file"),
    "source": ("a trained model",),
    "model": ("an embedding store", "a file"),
}


def check_arguments(ctx: click.Context) -> None:
    """Refuse arguments in the wrong order, and an output that would replace an input."""
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
    for output in paths.keys() & OUTPUTS:
        for name in paths.keys() - OUTPUTS:
            both = paths[output], paths[name]
            if all(map(os.path.exists, both)) and os.path.samefile(*both):
                raise BadInput(f"{both[0]}: is an input of this command; choose another output")


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
