"""`histoboost backbones`."""

from __future__ import annotations

import textwrap

import click

from histoboost.cli.command import Command
from histoboost.cli.console import echo, print_table
from histoboost.errors import require

MORE = {
    "timm:<name>": "Any timm network, with its own input size and normalisation.",
    "hf-hub:<repository>": "Any timm network on the Hugging Face Hub.",
    "<module>:<function>": "Your own function that returns an Architecture.",
}

_WORDS = {True: "yes", False: "no", None: "disputed"}
_ACCESS = {True: "gated", False: "open", None: "disputed"}


@click.command(cls=Command)
def backbones() -> None:
    """List the backbones of `featurize` and the pathology models it can download.

    \b
    Example:  histoboost backbones
    """
    require("backbones", "torch", "torch")
    from histoboost.featurize.backbones.factory import describe_backbones
    from histoboost.featurize.backbones.pathology import MODELS, advice

    for name, line in {**describe_backbones(), **MORE}.items():
        echo(f"{name:<21}{line}")
    echo()
    echo("Pathology models, downloaded on first use (gated: accept the licence first):")
    rows = [
        [
            model.short,
            model.licence,
            _WORDS[model.commercial],
            _ACCESS[model.gated],
            str(model.input_px),
            ", ".join(f"{um:g}" for um in model.um_per_px),
            str(model.width),
            f"{model.parameters} M",
        ]
        for model in MODELS
    ]
    columns = "--backbone,licence,commercial,access,input,um per px,width,size"
    print_table(columns.split(","), rows)
    echo()
    for use, models in advice().items():
        text = f"For {use + ':':<18} {models}."
        for line in textwrap.wrap(text, 99, subsequent_indent=" " * 23, break_on_hyphens=False):
            echo(line)
