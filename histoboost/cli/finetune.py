"""`histoboost finetune`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

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
)
from histoboost.cli.scores import print_scores
from histoboost.errors import BadInput, require
from histoboost.finetune.presets import (
    BATCH_NORM,
    LOSSES,
    MONITORS,
    PRESETS,
    TARGETS,
)

F = TypeVar("F", bound=Callable[..., Any])


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


def setting(flag: str, kind: Any, help: str) -> Callable[[F], F]:
    """An option of the recipe; its help lists the value of each preset."""
    field = flag.split("/")[0].removeprefix("--").replace("-", "_")
    values = [_show(getattr(settings, field)) for settings in PRESETS.values()]
    if len(set(values)) == 1:
        default = values[0]
    else:
        default = "; ".join(f"{name}: {v}" for name, v in zip(PRESETS, values, strict=True))
    return click.option(flag, field, type=kind, default=None, help=f"{help}  [{default}]")


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
    show_default=True,
    help="Recipe; the options below change parts of it.",
)
@click.option(
    "--slides", type=CommaList(), metavar="A,B", help="Labelled slides to use; all by default."
)
@click.option(
    "--held-out",
    type=CommaList(),
    metavar="A,B",
    help="Slides to exclude from training and score at the end.",
)
@click.option("--cross-validate", is_flag=True, help="Hold out each slide or group in turn.")
@click.option(
    "--group-by",
    type=click.Choice(["slide", "group"]),
    default="slide",
    show_default=True,
    help="Hold out slides or groups in --cross-validate.",
)
@groups_option
@click.option(
    "--stop-on",
    type=CommaList(),
    default="auto",
    show_default=True,
    metavar="auto|none|A,B",
    help="Training slides that decide when to stop.",
)
@alignment_option
@setting("--backbones", CommaList(), "Networks of the ensemble; repeats allowed.")
@setting(
    "--weights",
    CommaList(),
    "Initial weights: pretrained, random, a file, or a folder with <backbone>.pth.",
)
@setting("--patch", Numbers(), "Sides of the patches, in pixels of the slide.")
@setting("--input-px", int, "Side to which patches are resized, in pixels.")
@setting("--batch-norm", click.Choice(BATCH_NORM), "Statistics of batch norm during training.")
@setting("--coords", int, "Width of the MLP on the coordinates; 0 omits coordinates.")
@setting("--hidden", Numbers(), "Widths of the dense layers before the output.")
@setting("--dropout", float, "Dropout probability before each dense layer.")
@setting("--target", click.Choice(TARGETS), "Transformation of the abundances to learn.")
@setting("--loss", click.Choice(LOSSES), "Loss; soft-spearman needs --target rank.")
@setting("--temperature", float, "Softness of the ranks in soft-spearman.")
@setting("--learning-rate", float, "Initial learning rate of Adam.")
@setting("--weight-decay", float, "Weight decay of Adam.")
@setting("--clip", float, "Maximum norm of the gradient; 0 for no limit.")
@setting("--batch-size", int, "Spots per batch.")
@setting("--epochs", int, "Maximum number of epochs.")
@setting("--epoch-spots", int, "Spots drawn per epoch; 0 for all.")
@setting(
    "--plateau-patience",
    int,
    "Epochs without improvement before the learning rate is reduced; 0 for never.",
)
@setting("--plateau-factor", float, "Factor that multiplies the learning rate on a plateau.")
@setting("--patience", int, "Epochs without improvement before training stops; 0 for never.")
@setting("--monitor", click.Choice(MONITORS), "Quantity that must improve on the stopping slide.")
@setting("--flip/--no-flip", bool, "Random flips.")
@setting("--rotation", float, "Random rotation up to this angle in degrees.")
@setting("--zoom", float, "Random zoom up to this fraction.")
@setting("--brightness", float, "Random change of brightness up to this fraction.")
@setting("--contrast", float, "Random change of contrast up to this fraction.")
@setting("--translation", float, "Random shift up to this fraction of the side.")
@setting("--augment-group", int, "Number of spots augmented in the same way.")
@setting("--seed", int, "Random seed of the first network; the next ones follow.")
@device_option
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; all allowed by default.")
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Time between two checkpoints.",
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
    """Train CNNs end to end on DATA, with recipes of the field; OUT is a folder.

    Whole slides are held out; a training slide, never a held-out one, decides when to stop. The
    same command resumes an interrupted run. Use the result with `predict DATA OUT` or with
    `featurize --weights OUT/member_0_.../backbone.pth`.

    \b
    Examples:  histoboost finetune slides.h5 cnn/ --preset cnn-baseline --held-out S_1
               histoboost finetune slides.h5 cv/ --preset cnn-ensemble --cross-validate
    """
    require("finetune", "torch", "torch")
    from pathlib import Path

    import torch

    from histoboost.featurize.engines.pick import pick_device
    from histoboost.finetune.presets import preset as recipe
    from histoboost.finetune.run import folds_of, train_folds
    from histoboost.finetune.score import score_folds
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
    folds = folds_of(
        dataset, Path(out), slides, cross_validate=cross_validate, held_out=held_out, by=group_by
    )
    if json_path is not None and not folds[0].held_out:
        raise BadInput("--json: no slide is scored; add --held-out or --cross-validate")
    torch.set_num_threads(allowed_cores("threads", threads))
    trained = train_folds(
        dataset,
        settings,
        folds,
        slides=slides,
        stop_on=stop_on,
        alignment=alignment,
        device=pick_device(device),
        checkpoint_s=60 * checkpoint_minutes,
        tell=lambda line: echo(line, err=True),
    )
    for one in trained:
        echo(f"{one.fold.folder}: trained, {one.ensemble.fit_seconds():,.0f} s")
    if folds[0].held_out:
        scores = score_folds(dataset, trained, model=preset, group_by=group_by, slides=slides)
        result = scores.to_json()
        print_scores(scores, result)
        write_json(json_path, result)
