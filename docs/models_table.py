"""Write the tables of pathology models in the documentation: `python docs/models_table.py`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from histoboost.featurize.backbones.foundation_model import NORMALISATIONS
from histoboost.featurize.backbones.pathology import MODELS, advice

PAGE = Path(__file__).with_name("foundation-models.md")
BEGIN, END = "<!-- made by models_table.py: begin -->", "<!-- end -->"
WORDS = {True: "yes", False: "no", None: "disputed"}
ACCESS = {True: "gated", False: "open", None: "disputed"}


def tables() -> str:
    """Return the text between the two marks."""
    choice = [f"- **For {use}**: {models}." for use, models in advice().items()]
    terms = _table(
        ("`--backbone`", "model", "licence", "commercial", "access", "parameters", "reference"),
        [
            (
                *(f"`{model.short}`", model.name, model.licence, WORDS[model.commercial]),
                *(ACCESS[model.gated], f"{model.parameters} M", model.reference),
            )
            for model in MODELS
        ],
    )
    facts = _table(
        (
            *("`--backbone`", "repository @ revision", "network", "embedding", "width"),
            *("input", "µm per px", "pixels", "resize", "checked in"),
        ),
        [
            (
                f"`{model.short}`",
                f"{model.repository} @ {model.revision[:8] if model.revision else 'newest'}",
                model.architecture,
                model.pooling,
                str(model.width),
                str(model.input_px),
                ", ".join(f"{um:g}" for um in model.um_per_px),
                model.normalisation,
                model.interpolation,
                model.checked,
            )
            for model in MODELS
        ],
    )
    pixels = _table(
        ("pixels", "mean", "standard deviation"),
        [(name, _numbers(mean), _numbers(std)) for name, (mean, std) in NORMALISATIONS.items()],
    )
    models_by_remark: dict[str, list[str]] = {}
    for model in MODELS:
        if model.remark:
            models_by_remark.setdefault(model.remark, []).append(f"`{model.short}`")
    remarks = [f"- {', '.join(names)}: {remark}" for remark, names in models_by_remark.items()]
    return "\n\n".join(["\n".join(choice), terms, facts, pixels, "\n".join(remarks)])


def page(text: str) -> str:
    """Return `text` of the page with the tables between the marks updated."""
    marked = re.compile(f"{BEGIN}.*?{END}", re.DOTALL)
    return marked.sub(lambda _: f"{BEGIN}\n\n{tables()}\n\n{END}", text)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.8g}" for value in values)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
