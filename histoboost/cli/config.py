"""`--config FILE.toml`: default values of options."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from histoboost.errors import BadInput

#: Minimum similarity of a name and the one suggested instead, from 0 to 1.
SIMILAR = 0.7


def read_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Read default option values from a TOML file; the command line overrides them."""
    if value is None:
        return
    try:
        tables = tomllib.loads(Path(value).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # invalid TOML or UTF-8, or too long a number
        raise BadInput(f"{value}: not valid TOML in UTF-8 ({error})") from error
    # Keys in a table such as [featurize] apply to that command, bare keys to all commands.
    bare = {key: item for key, item in tables.items() if not isinstance(item, dict)}
    root = ctx.find_root().command
    commands = dict(_commands(root))
    for table in tables.keys() - bare.keys():
        group = getattr(root, "commands", {}).get(table)
        if isinstance(group, click.Group):
            below = ", ".join(f"[{name}]" for name, _ in sorted(_commands(group)))
            raise BadInput(f"{value}: [{table}] is a group of commands; write {below}")
        if table not in commands:
            known_commands = ", ".join(sorted(commands))
            remedy = did_you_mean(table, commands) or f"; choose one of {known_commands}"
            raise BadInput(f"{value}: [{table}] is not a command{remedy}")
    known = _settable(ctx.command)
    own = tables[ctx.info_name] if ctx.info_name in tables.keys() - bare.keys() else {}
    for key in own:
        if _as_flag(key) not in known:
            remedy = did_you_mean(_as_flag(key), known) or f"; it has {', '.join(sorted(known))}"
            raise BadInput(f"{value}: [{ctx.info_name}] has no option {key!r}{remedy}")
    anywhere = {flag for command in commands.values() for flag in _settable(command)}
    for key in bare:
        if _as_flag(key) not in anywhere:
            remedy = did_you_mean(_as_flag(key), anywhere) or "; correct its name"
            raise BadInput(f"{value}: no command has an option {key!r}{remedy}")
    given = {_as_flag(key): item for key, item in {**bare, **own}.items()}
    params = {param.name: param for param in ctx.command.params}
    defaults = {}
    for flag in given.keys() & known.keys():
        _check_value(value, flag, given[flag], params[known[flag]])
        defaults[known[flag]] = given[flag]
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _check_value(file: str, flag: str, item: Any, param: click.Parameter) -> None:
    """Refuse TOML values that click would silently convert to text."""
    if getattr(param, "multiple", False) and not isinstance(item, list):
        raise BadInput(f"{file}: {flag} must be a list; write {flag} = {_as_list(item)}")
    switch = isinstance(param, click.Option) and param.is_bool_flag
    for each in item if isinstance(item, list) else [item]:
        text = isinstance(each, str | int | float) and not isinstance(each, bool)
        finite = not isinstance(each, float) or math.isfinite(each)
        if not (isinstance(each, bool) if switch else text and finite):
            expected = "true or false" if switch else "text or a number, or a list of them"
            raise BadInput(f"{file}: {flag} must be {expected}, not {each!r}")


def _commands(group: click.Command) -> Iterator[tuple[str, click.Command]]:
    """All commands below `group` that are not groups themselves, with their names."""
    for name, command in getattr(group, "commands", {}).items():
        if isinstance(command, click.Group):
            yield from _commands(command)
        else:
            yield name, command


def _settable(command: click.Command) -> dict[str, str]:
    """Map each option or argument that a file may set, without dashes, to its parameter name."""
    found = {}
    for parameter in command.params:
        flags = [flag[2:] for flag in parameter.opts if flag.startswith("--")]
        for flag in flags or [parameter.human_readable_name.lower()]:
            found[_as_flag(flag)] = parameter.name or ""
    found.pop("config", None)
    return found


def _as_flag(key: str) -> str:
    return key.replace("_", "-")


def _as_list(item: Any) -> str:
    """Write one value as a TOML list; a table becomes a list of ``NAME=VALUE``."""
    pairs = item.items() if isinstance(item, dict) else ()
    return json.dumps([f"{key}={each}" for key, each in pairs] or [str(item)], ensure_ascii=False)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the known name most similar to `name`, as the end of a line; empty if none is."""
    bare = {each.strip("-"): each for each in known}  # equal dashes are no similarity
    close = get_close_matches(name.strip("-"), bare, n=1, cutoff=SIMILAR)
    return "".join(f"; did you mean {bare[like]}?" for like in close)
