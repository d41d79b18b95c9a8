"""Command-line interface: one file per command, no logic of its own."""

from __future__ import annotations

import click

from histoboost import __version__
from histoboost.cli.ablate import ablate
from histoboost.cli.align import align
from histoboost.cli.backbones import backbones
from histoboost.cli.cache import cache
from histoboost.cli.command import Group
from histoboost.cli.completion import completion
from histoboost.cli.demo import demo
from histoboost.cli.doctor import doctor
from histoboost.cli.evaluate import evaluate
from histoboost.cli.explore import explore
from histoboost.cli.featurize import featurize
from histoboost.cli.finetune import finetune
from histoboost.cli.inspect import inspect
from histoboost.cli.map import map
from histoboost.cli.predict import predict
from histoboost.cli.report import report
from histoboost.cli.show import show
from histoboost.cli.train import train


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Predict the cell-type composition of each spot on an H&E slide.

    \b
    Try it:        histoboost demo
    On your data:  histoboost inspect slides.h5
                   histoboost featurize slides.h5 store.zarr --backbone resnet50 --patch 64,128
                   histoboost evaluate store.zarr
                   histoboost train store.zarr model
                   histoboost map plain.svs model -o map.geojson
    """


main.add_command(demo)
main.add_command(doctor)
main.add_command(completion)
main.add_command(cache)
main.add_command(inspect)
main.add_command(featurize)
main.add_command(backbones)
main.add_command(finetune)
main.add_command(explore)
main.add_command(report)
main.add_command(align)
main.add_command(evaluate)
main.add_command(ablate)
main.add_command(train)
main.add_command(show)
main.add_command(predict)
main.add_command(map)
