"""`histoboost finetune`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import click

from histoboost.cli.command import RESUMES, Command
from histoboost.cli.console import echo
from histoboost.cli.json_output import json_option, write_json
from histoboost.cli.options import (
    CommaList,
    alignment_option,
    device_option,
    format_option,
    groups_option,
    names_option,
)
from histoboost.cli.scores import print_scores
from histoboost.errors import BadInput, require
from histoboost.finetune.presets import PRESETS, Settings


class Numbers(CommaList):
    """Comma-separated whole numbers, or ``none``."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Split at commas."""
        if value == "none" or isinstance(value, tuple):
            return () if value == "none" else value
        if isinstance(value, int):  # from a config file
            return (value,)
        try:
            return tuple(int(part) for part in super().convert(value, param, ctx))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers", param, ctx)


#: Option types by the annotation of a field of `Settings`.
TYPES: dict[str, Any] = {
    "tuple[str, ...]": CommaList(),
    "tuple[int, ...]": Numbers(),
    "int | None": int,
    "int": int,
    "float": float,
    "bool": bool,
}


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each field of `Settings`; its help lists the value in each preset."""
    for field in reversed(dataclasses.fields(Settings)):
        flag = "--" + field.name.replace("_", "-")
        if field.type == "bool":
            flag += f"/--no-{field.name}"
        choices = field.metadata["choices"]
        kind = click.Choice(choices) if choices else TYPES[str(field.type)]
        values = [_show(getattr(settings, field.name)) for settings in PRESETS.values()]
        default = values[0]
        if len(set(values)) > 1:
            default = "; ".join(f"{name}: {v}" for name, v in zip(PRESETS, values, strict=True))
        help = f"{field.metadata['help']}  [{default}]"
        command = click.option(flag, field.name, type=kind, default=None, help=help)(command)
    return command


def _show(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "the backbone's" if value is None else str(value)


@click.command(cls=Command, interrupted=RESUMES)
@click.argument("data", type=click.Path())
@click.argument("out", type=click.Path())
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="cnn-baseline",
    help="Training recipe; the options below override parts of it.",
)
@names_option("--slides", "Labelled slides to use; all by default.")
@names_option("--held-out", "Slides to exclude from training and to score at the end.")
@click.option("--cross-validate", is_flag=True, help="Hold out each slide or group in turn.")
@click.option(
    "--group-by",
    type=click.Choice(["slide", "group"]),
    default="slide",
    help="Hold out slides or groups with --cross-validate.",
)
@groups_option
@click.option(
    "--stop-on",
    type=CommaList(),
    default="auto",
    metavar="auto|none|A,B",
    help="Training slides used for early stopping.",
)
@alignment_option
@settings_options
@device_option
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; all cores by default.")
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(min=0),
    default=1.0,
    help="Minutes between checkpoints.",
)
@format_option
@json_option("Also write the scores as JSON, as `evaluate` does")
def finetune(
    data: str,
    out: str,
    preset: str,
    slides: list[str] | None,
    held_out: list[str] | None,
    cross_validate: bool,
    group_by: str,
    groups: str | None,
    stop_on: list[str],
    alignment: str,
    device: str,
    threads: int | None,
    checkpoint_minutes: float,
    format: str | None,
    json_path: str | None,
    **choices: Any,
) -> None:
    """Train CNNs end to end on DATA with published recipes; OUT is a folder.

    Whole slides are held out; early stopping uses a training slide, never a held-out one. The same
    command resumes an interrupted run. Use the result with `predict DATA OUT` or with `featurize
    --weights OUT/member_0_.../backbone.pth`.

    \b
    Examples:  histoboost finetune slides.h5 cnn/ --preset cnn-baseline --held-out S_1
               histoboost finetune slides.h5 cv/ --preset cnn-ensemble --cross-validate
    """
    require("finetune", "torch", "torch")
    from pathlib import Path

    import torch

    from histoboost.featurize.engines.pick import pick_device
    from histoboost.finetune.plan import plan_models
    from histoboost.finetune.presets import preset as recipe
    from histoboost.finetune.run import score_models, train_models
    from histoboost.regress.budget import allowed_cores
    from histoboost.slides.align.apply import aligned
    from histoboost.slides.groups import with_groups
    from histoboost.slides.readers import open_dataset

    changes = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in choices.items()
        if value is not None
    }
    settings = recipe(preset, **changes)
    dataset = open_dataset(data, format)
    if groups is not None:
        dataset = with_groups(dataset, groups)
    dataset = aligned(dataset, alignment)
    plans = plan_models(
        dataset,
        Path(out),
        settings,
        slides=slides,
        held_out=held_out,
        cross_validate=cross_validate,
        group_by=group_by,
        stop_on=stop_on,
        alignment=alignment,
    )
    if json_path is not None and not plans[0].held_out:
        raise BadInput("--json: no slide is scored; add --held-out or --cross-validate")
    torch.set_num_threads(allowed_cores("threads", threads))
    trained = train_models(
        plans,
        device=pick_device(device),
        checkpoint_s=60 * checkpoint_minutes,
        log=lambda line: echo(line, err=True),
    )
    for model in trained:
        echo(f"{model.plan.folder}: trained in {model.ensemble.fit_seconds():,.0f} s")
    if plans[0].held_out:
        scores = score_models(trained, model=preset, group_by=group_by)
        result = scores.to_json()
        print_scores(scores, result)
        write_json(json_path, result)
