"""Spots where an alignment puts them: nowhere else, as the image says, or as a table says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from histoboost.errors import BadInput, warn
from histoboost.slides.align.estimate import Alignment, align, misalignment
from histoboost.slides.align.table import read_table
from histoboost.slides.checks import check_slide, implausible_spots
from histoboost.slides.slide import Dataset, Slide

#: With more than this share of spots on tissue `featurize` looks no further for misalignment.
CLEARLY_ON_TISSUE = 0.97

#: Of one slide: ``"none"``, ``"auto"`` or an alignment that was read.
AlignmentChoice = str | Alignment


def move_spots(slide: Slide, alignment: Alignment) -> Slide:
    """The same slide with its spots where the alignment puts them."""
    if not alignment.changes:
        return slide  # to the last bit
    return replace(slide, xy=alignment.transform.apply(slide.xy, slide.image.shape))


def alignment_choices(dataset: Dataset, alignment: str | Path) -> dict[str, AlignmentChoice]:
    """What `alignment_of` takes for every slide, by name; looks at no pixels.

    `alignment` is ``"none"``, ``"auto"`` or the path of a table that `write_table` or a person
    wrote.
    """
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
    """How the spots of a slide are to be moved.

    ``"none"``: nothing moves, but a slide that looks misaligned is warned about; ``"auto"``: what
    `align` is confident of, with a warning where it is not; otherwise this. Also warns where the
    spots, once moved, are hardly where they are said to be. The image is read unless it is an
    `Alignment`.
    """
    found = _alignment_of(slide, choice)
    for problem in implausible_spots(move_spots(slide, found)):
        warn(f"slide {slide.name}: {problem.message}")
    return found


def _alignment_of(slide: Slide, choice: AlignmentChoice) -> Alignment:
    if isinstance(choice, Alignment):
        return choice
    if slide.lattice is not None:
        return Alignment(slide.name)  # its spots were laid where the tissue is
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
    """The same slides with their spots moved; every image is read, unless a table is given.

    For `alignment` see `alignment_choices`; refused where spots then lie where no patch can be cut.
    """
    choices = alignment_choices(dataset, alignment)
    moved = [
        move_spots(slide, alignment_of(slide, choices[slide.name])) for slide in dataset.slides
    ]
    for slide in moved:
        check_slide(slide, f"{dataset.path}: ")
    return Dataset(dataset.path, moved)
