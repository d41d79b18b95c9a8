"""`histoboost evaluate`, `ablate`, `train` and `predict`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from histoboost.cli.command import (
    CommaList,
    Command,
    client_of,
    jobs_option,
    json_option,
    scheduler_option,
    write_json,
)
from histoboost.errors import HistoboostError

if TYPE_CHECKING:
    from histoboost.cache.spots import SpotTable
    from histoboost.regress.ablate import Ablation, Difference
    from histoboost.regress.crossval import CrossValidation
    from histoboost.regress.model import Prediction

F = TypeVar("F", bound=Callable[..., Any])

#: The file by which a folder of `finetune` is known.
END_TO_END = "finetune.json"

MODELS = ("stack", "lightgbm", "ridge", "kernel", "blend", "coords", "mean", "mean-rank")


class Option(click.ParamType[tuple[str, float]]):
    """``NAME=NUMBER``, a parameter of LightGBM."""

    name = "NAME=NUMBER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Whole numbers stay whole."""
        if isinstance(value, tuple):
            return value
        name, sign, number = str(value).partition("=")
        try:
            parsed = float(number)
        except ValueError:
            self.fail(f"{value!r} is not NAME=NUMBER, such as n_estimators=200", param, ctx)
        if not sign or parsed != parsed or abs(parsed) == float("inf"):
            self.fail(f"{value!r} is not NAME=NUMBER, such as n_estimators=200", param, ctx)
        return name.strip(), int(parsed) if parsed.is_integer() and "." not in number else parsed


def setup_options(command: F) -> F:
    """The options that determine a model, the same for evaluate, ablate and train."""
    options = [
        click.option("--model", type=click.Choice(MODELS), help="What learns."),
        click.option(
            "--target",
            type=click.Choice(["rank", "log", "raw"]),
            help="Learn ranks within each spot, logarithms, or abundances as they are.",
        ),
        click.option(
            "--group-by",
            type=click.Choice(["slide", "group"]),
            help="Hold out whole slides, or whole groups (patients).",
        ),
        click.option(
            "--standardize",
            type=click.Choice(["slide", "none"]),
            help="Bring embeddings to mean 0 and variance 1 within each slide.",
        ),
        click.option(
            "--balance",
            type=click.Choice(["slide", "none"]),
            help="Let every training slide count the same, or every spot.",
        ),
        click.option(
            "--smooth",
            type=click.FloatRange(0, 1),
            metavar="SHARE",
            help="Take this share of each prediction from the neighbouring spots'.",
        ),
        click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Seed."),
        click.option(
            "--set",
            "options",
            type=Option(),
            multiple=True,
            help="Parameter of LightGBM, such as n_estimators=200 or early_stopping=50.",
        ),
        click.option(
            "--slides",
            type=CommaList(),
            metavar="A,B",
            help="Labelled slides to use; all by default.",
        ),
        jobs_option(),
        scheduler_option(),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _setup_fields(options: tuple[tuple[str, float], ...], **given: Any) -> dict[str, Any]:
    """What was said on the command line; the rest keeps the defaults of `Setup`."""
    fields = {key: value for key, value in given.items() if value is not None}
    return {**fields, "options": dict(options)} if options else fields


@click.command(cls=Command)
@click.argument("store", type=click.Path())
@click.option("--features", metavar="SPEC", help="Feature-set expression; see the manual.")
@setup_options
@click.option("--seeds", type=click.IntRange(min=1), default=1, metavar="N", help="Average seeds.")
@click.option("--held-out", type=CommaList(), metavar="A,B", help="Score only these slides' folds.")
@click.option(
    "--interval",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="LEVEL",
    help="Also report how many spots intervals of this level really hold.",
)
@click.option("--verbose", is_flag=True, help="Also print jobs, threads and seconds.")
@json_option()
def evaluate(
    store: str,
    slides: list[str] | None,
    jobs: int | None,
    scheduler: str | None,
    seeds: int,
    held_out: list[str] | None,
    interval: float | None,
    verbose: bool,
    json_path: str | None,
    **given: Any,
) -> None:
    """Score a model on every labelled slide in STORE, trained on the others.

    \b
    Example:  histoboost evaluate store.zarr --features "resnet50@*+resnet50@64:ring1"
    """
    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.crossval import run_folds
    from histoboost.regress.kept import KeptFolds, default_folder
    from histoboost.regress.setup import Setup

    setup = Setup(**_setup_fields(**given))
    opened = EmbeddingStore(store, mode="r")
    # A cluster's work is worth keeping; coverage needs the predictions, which are not kept.
    kept = KeptFolds(default_folder()) if scheduler and interval is None else None
    with client_of(scheduler) as client:
        scores = run_folds(
            opened,
            setup,
            seeds=seeds,
            slides=slides,
            held_out=held_out,
            jobs=jobs,
            kept=kept,
            client=client,
        )
    result = scores.to_json()
    if interval is not None:
        result["interval"] = {"level": interval, "coverage": scores.coverage(opened, interval)}
    write_json(json_path, result)
    print_scores(scores, result)
    if verbose:
        _print_resources(result, jobs)


def print_scores(scores: CrossValidation, result: dict[str, Any]) -> None:
    """Print folds, means and constant baselines as a table."""
    from rich.console import Console
    from rich.table import Table

    click.echo(f"features  {result['features']}")
    click.echo(f"model     {result['model']}, target {result['target']}")
    table = Table("held out", "spots", "per-spot", "per-type", "mean", "mean-rank")
    for fold in scores.folds:
        name = ", ".join(fold.held_out) + (f" (seed {fold.seed})" if len(scores.seeds) > 1 else "")
        values = (fold.spot_spearman, fold.type_spearman, *fold.baselines.values())
        table.add_row(name, f"{fold.n_spots:,}", *(f"{value:.3f}" for value in values))
    table.add_section()
    mean = result["mean"]
    constants = [entry["spot_spearman"] for entry in result["baselines"].values()]
    values = (mean["spot_spearman"], mean["type_spearman"], *constants)
    table.add_row("mean", "", *(f"{value:.3f}" for value in values))
    Console(width=100).print(table)
    gain = mean["spot_spearman"] - max(constants)
    click.echo(
        f"Spearman correlations. {gain:+.3f} per spot against the better constant profile (columns "
        "mean and mean-rank); constants score 0 per type."
    )
    if "interval" in result:
        held = result["interval"]
        click.echo(f"Intervals of {held['level']:.0%} held {held['coverage']['mean']:.1%}.")


def _print_resources(result: dict[str, Any], jobs: int | None) -> None:
    from histoboost.regress.budget import plan

    click.echo(f"used      {plan(len(result['folds']) * 1000, jobs)}")
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in result["seconds"].items())
    click.echo(f"seconds   {seconds}")


@click.command(cls=Command)
@click.argument("store", type=click.Path())
@click.option(
    "--features",
    multiple=True,
    metavar="SPEC",
    help="Feature-set expression; give it several times, the first is compared with.",
)
@click.option("--leave-one-out", is_flag=True, help="Also leave out each term of the first.")
@setup_options
@click.option("--seeds", type=click.IntRange(min=1), default=1, metavar="N", help="Average seeds.")
@click.option("--held-out", type=CommaList(), metavar="A,B", help="Score only these slides' folds.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Where results are kept for the next run; ~/.cache/histoboost/folds by default.",
)
@click.option("--fresh", is_flag=True, help="Compute everything again and keep nothing.")
@json_option()
def ablate(
    store: str,
    features: tuple[str, ...],
    leave_one_out: bool,
    slides: list[str] | None,
    jobs: int | None,
    scheduler: str | None,
    seeds: int,
    held_out: list[str] | None,
    keep: str | None,
    fresh: bool,
    json_path: str | None,
    **given: Any,
) -> None:
    """Compare feature sets on the same folds; an interrupted run goes on where it was.

    \b
    Example:  histoboost ablate store.zarr --features "resnet50@*+coords" --leave-one-out
    """
    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.ablate import ablate as compare
    from histoboost.regress.expression import DEFAULT_FEATURES
    from histoboost.regress.kept import KeptFolds, default_folder

    with client_of(scheduler) as client:
        table = compare(
            EmbeddingStore(store, mode="r"),
            features or (DEFAULT_FEATURES,),
            leave_one_out=leave_one_out,
            seeds=seeds,
            slides=slides,
            held_out=held_out,
            jobs=jobs,
            kept=None if fresh else KeptFolds(Path(keep) if keep else default_folder()),
            client=client,
            **_setup_fields(**given),
        )
    write_json(json_path, table.to_json())
    _print_ablation(table)


def _print_ablation(ablation: Ablation) -> None:
    from rich.console import Console
    from rich.table import Table

    first = ablation.rows[0]
    click.echo(f"model {first.setup.model}, target {first.setup.target}")
    table = Table("", "per-spot", "difference (95 %)", "per-type", "difference (95 %)")
    for index, row in enumerate(ablation.rows):
        cells = []
        for score in ("spot_spearman", "type_spearman"):
            cells.append(f"{row.mean(score):.3f}")
            cells.append(_difference(ablation.difference(index, score)) if index else "")
        table.add_row(str(index + 1), *cells)
    table.add_section()
    for name in ("mean", "mean-rank"):
        table.add_row(name, f"{first.baseline(name):.3f}", "", "0.000", "")
    Console(width=100).print(table)
    for index, row in enumerate(ablation.rows):
        click.echo(f"{index + 1:>3}  {row.setup.features}")
    click.echo(ablation.caution)


def _difference(difference: Difference) -> str:
    if difference.interval is None:
        return f"{difference.mean:+.3f}"
    low, high = difference.interval
    return f"{difference.mean:+.3f} ({low:+.3f} to {high:+.3f})"


@click.command(cls=Command)
@click.argument("store", type=click.Path())
@click.argument("model_path", metavar="MODEL", type=click.Path())
@click.option("--features", metavar="SPEC", help="Feature-set expression; see the manual.")
@setup_options
@click.option(
    "--intervals",
    is_flag=True,
    help="Also hold out each slide once, so that predict can give intervals.",
)
def train(
    store: str,
    model_path: str,
    slides: list[str] | None,
    jobs: int | None,
    scheduler: str | None,
    intervals: bool,
    **given: Any,
) -> None:
    """Train on the labelled slides in STORE and write the directory MODEL.

    \b
    Example:  histoboost train store.zarr model --slides S_1,S_2,S_3
    """
    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.bundle import check_target
    from histoboost.regress.model import CompositionRegressor

    check_target(Path(model_path))
    model = CompositionRegressor(**_setup_fields(**given))
    with client_of(scheduler) as client:
        opened = EmbeddingStore(store, mode="r")
        model.fit(opened, slides, jobs=jobs, intervals=intervals, client=client)
    model.save(model_path)
    click.echo(f"features  {model.setup.features}")
    for name, share in model.importances().items():
        click.echo(f"  {share:6.1%}  {name}")
    types, names = len(model.cell_types), ", ".join(model.training_slides)
    click.echo(f"Wrote {model_path}: {model.setup.model} for {types} types, from {names}.")


def _predict_end_to_end(
    data: str, model: str, slides: list[str] | None, normalize: str, interval: float | None
) -> tuple[tuple[str, ...], list[Prediction]]:
    from histoboost.endtoend.predict import predict_slides
    from histoboost.featurize.engines import pick_device
    from histoboost.featurize.readers import open_dataset

    if interval is not None:
        raise HistoboostError(f"interval: {model} is an end-to-end model, which gives none")
    dataset = open_dataset(data)
    return predict_slides(dataset, model, slides, how=normalize, device=pick_device("auto"))


def _spots_in(data: str) -> Callable[[str], SpotTable]:
    from histoboost.featurize.embed import spot_table
    from histoboost.featurize.readers import open_dataset

    return lambda slide: spot_table(open_dataset(data)[slide])


@click.command(cls=Command)
@click.argument("store", type=click.Path())
@click.argument("model_path", metavar="MODEL", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    help="File to write: .csv (the challenge's layout), .parquet, or .h5ad or .zarr (AnnData).",
)
@click.option("--slides", type=CommaList(), metavar="A,B", help="All without labels by default.")
@click.option(
    "--normalize",
    type=click.Choice(["rank", "rank-slide", "softmax", "minmax", "abundance", "none"]),
    default="rank",
    show_default=True,
    help="Units of the predictions.",
)
@click.option(
    "--interval",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="LEVEL",
    help="Add lower and upper bounds per type; needs a model trained with --intervals.",
)
def predict(
    store: str,
    model_path: str,
    output: str,
    slides: list[str] | None,
    normalize: str,
    interval: float | None,
) -> None:
    """Predict slides of STORE with MODEL and write a table or an AnnData.

    Where MODEL is a folder that finetune wrote, STORE is the slides themselves.

    \b
    Example:  histoboost predict store.zarr model -o submission.csv --slides S_7
              histoboost predict slides.h5 cnn -o submission.csv --slides S_7
              histoboost predict store.zarr model -o predicted.h5ad
    """
    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.model import CompositionRegressor
    from histoboost.regress.outputs import check_prediction_output, write_predictions

    check_prediction_output(Path(output))
    if (Path(model_path) / END_TO_END).is_file():
        cell_types, predictions = _predict_end_to_end(
            store, model_path, slides, normalize, interval
        )
        spots = _spots_in(store)
    else:
        model = CompositionRegressor.load(model_path)
        opened = EmbeddingStore(store, mode="r")
        spots = opened.spots
        cell_types = model.cell_types
        predictions = model.predict(opened, slides, normalize_to=normalize, interval=interval)
    write_predictions(Path(output), cell_types, predictions, spots)
    first = 0
    for prediction in predictions:
        last = first + len(prediction.values) - 1
        click.echo(f"IDs {first} to {last}: {prediction.slide}")
        first = last + 1
    click.echo(f"Wrote {output}: {first} rows, {len(cell_types)} types, {normalize}.")
