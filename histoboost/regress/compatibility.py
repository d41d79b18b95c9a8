"""Check that a store has the embeddings of a trained model, made the same way."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from histoboost.cache.recipe import Making, Recipe
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput

Recipes = Mapping[str, Mapping[str, Any]]


def check_alike(
    recipes: Recipes, store: EmbeddingStore, slides: Sequence[str]
) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return the recipes of a model's embeddings by slide.

    Refuse slides that lack one, naming the command that makes it, or have it made differently.
    """
    made, lacking = {}, {}
    for slide in slides:
        there = store.embeddings(slide)
        made[slide] = {name: there[name] for name in recipes if name in there}
        if missing := [name for name in recipes if name not in there]:
            lacking[slide] = missing
    if lacking:
        missing = [name for name in recipes if any(name in each for each in lacking.values())]
        commands = featurize_commands(store.location, {name: recipes[name] for name in missing})
        remedy = "store them as for the training slides"
        if commands:
            run = " and ".join(commands)
            remedy = f"run {run} (with --weights where the training slides had it)"
        raise BadInput(
            f"{store.location}: {', '.join(lacking)}: no {', '.join(missing)}, which the model "
            f"needs; {remedy}"
        )
    trained = {name: Recipe(fields) for name, fields in recipes.items()}
    for slide, found in made.items():
        for name, recipe in trained.items():
            different = recipe.differences(found[name].without_slide())
            if different:
                raise BadInput(
                    f"embedding {name}: made differently on slide {slide} than on the training "
                    f"slides ({'; '.join(different)}); featurize it in the same way"
                )
    return {slide: {name: each.fields for name, each in of.items()} for slide, of in made.items()}


def trained_on(slides: Sequence[str], training: Sequence[str]) -> list[str]:
    """Warnings (none or one) about slides that the model was trained on."""
    # `map --finer` makes copies of a slide, named by `slides.lattice.copy_names`.
    whole = dict.fromkeys(re.sub(r"\.\d+of\d+$", "", slide) for slide in slides)
    known = [slide for slide in dict.fromkeys([*slides, *whole]) if slide in training]
    many = "slides" if len(known) > 1 else "a slide"
    line = (
        f"{', '.join(known)}: the model was trained on {many} of this name, so its predictions "
        "look better there than they are; histoboost evaluate gives honest scores"
    )
    return [line] if known else []


def featurize_commands(location: str, missing: Recipes) -> list[str]:
    """Commands that make these embeddings in a store; empty if a recipe does not say."""
    commands: dict[tuple[str, ...], tuple[list[str], list[str]]] = {}
    for name, fields in missing.items():
        if fields.get("source") == "import":
            commands[("histoboost", "cache", "import", location, name, "DIR")] = ([], [])
            continue
        making = Making.from_recipe(name, fields)
        if making is None:
            return []
        options: list[str] = []
        for option, value, default in (
            ("--stain", making.stain, "none"),
            ("--views", str(making.views), "1"),
            ("--precision", making.precision, "fp32"),
            ("--weights", "FILE" if "tuned_on" in fields else "", ""),
        ):
            if value != default:
                options += [option, value]
        command = (
            *("histoboost", "featurize", "DATA", location, "--backbone", making.backbone),
            *options,
            *(() if making.name is None else ("--name", making.name)),
        )
        sides, layers = commands.setdefault(command, ([], []))
        sides.append(making.side)
        layers.append(making.layer)
    return [
        shlex.join(command)
        + (f" --layers {','.join(dict.fromkeys(layers))}" if set(layers) - {"default"} else "")
        + (f" --patch {','.join(dict.fromkeys(sides))}" if sides else "")
        for command, (sides, layers) in commands.items()
    ]
