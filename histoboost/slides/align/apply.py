"""Apply alignments to spots: none, estimated from the image, or given in a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from histoboost.errors import BadInput, warn
from histoboost.slides.align.estimate import Alignment, align, misalignment
from histoboost.slides.align.table import read_table
from histoboost.slides.checks import check_slide, implausible_spots, spot_problems
from histoboost.slides.slide import Dataset, Slide

#: With a larger share of spots on tissue, `featurize` does not search for misalignment.
CLEARLY_ON_TISSUE = 0.97

#: ``"none"``, ``"auto"`` or an alignment read from a table.
AlignmentChoice = str | Alignment


def move_spots(slide: Slide, alignment: Alignment) -> Slide:
    """Move the spots of a slide."""
    if not alignment.changes:
        return slide  # bit by bit
    return replace(slide, xy=alignment.transform.apply(slide.xy, slide.image.shape))


def alignment_choices(dataset: Dataset, alignment: str | Path) -> dict[str, AlignmentChoice]:
    """Resolve ``"none"``, ``"auto"`` or the path of a table by slide name; reads no pixels."""
    if alignment in ("none", "auto"):
        return dict.fromkeys(dataset.names, str(alignment))
    table = read_table(Path(alignment))
    for name in dataset.names:
        if name not in table:
            raise BadInput(
                f"{alignment}: no row for slide {name}; "
                "add one (dx = 0, dy = 0, scale = 1 leaves it as it is)"
            )
    return {name: table[name] for name in dataset.names}


def alignment_of(slide: Slide, choice: AlignmentChoice) -> Alignment:
    """Find how to move the spots of a slide; warn if they are implausible afterwards.

    ``"none"`` moves nothing, but warns about a slide that looks misaligned; ``"auto"`` does what
    `align` is confident of, and warns where it is not. The image is read unless `choice` is an
    `Alignment`.
    """
    found = _resolve(slide, choice)
    for problem in implausible_spots(move_spots(slide, found)):
        warn(f"slide {slide.name}: {problem.message}")
    return found


def _resolve(slide: Slide, choice: AlignmentChoice) -> Alignment:
    if isinstance(choice, Alignment):
        return choice
    if slide.lattice is not None:
        return Alignment(slide.name)  # its spots were laid on tissue
    if choice == "auto":
        found = align(slide)
        if not found.confident:
            warn(f"slide {slide.name}: alignment leaves the spots as they are: {found.reason}")
        return found
    message = misalignment(slide, align(slide, unless_on_tissue=CLEARLY_ON_TISSUE))
    if message:
        warn(f"slide {slide.name}: {message}")
    return Alignment(slide.name)


def aligned(dataset: Dataset, alignment: str | Path) -> Dataset:
    """Align all slides, see `alignment_choices`; refuse spots that no patch can be cut around."""
    choices = alignment_choices(dataset, alignment)
    moved = [
        move_spots(slide, alignment_of(slide, choices[slide.name])) for slide in dataset.slides
    ]
    for slide, before in zip(moved, dataset.slides, strict=True):
        check_moved(slide, before, choices[slide.name], f"{dataset.path}: ")
    return Dataset(dataset.path, moved)


def check_moved(moved: Slide, before: Slide, choice: AlignmentChoice, source: str) -> None:
    """Check the spots of a moved slide, see `check_slide`.

    Spots that only an alignment table put outside the image are blamed on it.
    """
    remedy = ""
    if isinstance(choice, Alignment) and "outside" not in [p.kind for p in spot_problems(before)]:
        remedy = f"correct its dx, dy and scale, {choice.reason}"
    check_slide(moved, source, remedy)
