"""A slide made ready to be embedded: read, or as the store remembers it where nothing has changed.

What a store remembers of an image is ``{"files": [[path, time of the last change in ns, bytes],
...], "pixels": {stain: digest}, "decoded": {stain: digest}, "auto": {"dx", "dy", "scale"},
"backbones": {key: facts}, "turns": {key: turn or None}}``; of the last two see
`histoboost.featurize.request` and `histoboost.mounting`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore
from histoboost.digests import digest_bytes
from histoboost.errors import DamagedStore
from histoboost.featurize.stain import NormalisedImage, normalised
from histoboost.slides.align.apply import AlignmentChoice, alignment_of, move_spots
from histoboost.slides.align.estimate import Alignment
from histoboost.slides.checks import check_slide
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.images.base import SlideImage, version
from histoboost.slides.slide import Read, Slide
from histoboost.slides.thumbnail import thumbnail
from histoboost.slides.tile_cache import OF_FILES, Overview, TileCache, decoded_digest, read_pixels


@dataclass(frozen=True)
class QueuedSlide:
    """A slide to embed, on whichever device or machine, and its place in the store.

    `read` gives the slide once its turn has come, and `spots` says how many it has.
    """

    name: str
    read: Read
    spots: int
    alignment: AlignmentChoice
    order: int


@dataclass(frozen=True)
class OpenedSlide:
    """A slide, what identifies its pixels, and what the store is to remember of its image.

    `image` are the pixels as they are cut, None where they were not read, and `picture` is the
    slide as it came, in small.
    """

    slide: Slide
    digest: str
    alignment: Alignment
    source: dict[str, Any]
    image: SlideImage | None = None
    picture: NDArray[np.uint8] | None = None

    def of_older_version(self, own: Recipe, stored: Recipe | None, stain: str) -> bool:
        """Whether `stored` says of this slide what `own` does, in the words of version 0.1.0.

        There the decoded pixels identified large slides, too, all cut at full resolution.
        """
        if stored is None or stored == own or not self.digest.startswith(OF_FILES):
            return False
        fields = {**own.fields, "slide_pixels": stored.fields.get("slide_pixels")}
        fields.pop("slide_level", None)
        if Recipe(fields) != stored:
            return False
        decoded = self.source.setdefault("decoded", {})
        if stain not in decoded:
            image = self.slide.image
            if stain != "none":
                image = normalised(image, stain, self.slide.name)
            decoded[stain] = decoded_digest(image)
        return bool(decoded[stain] == fields["slide_pixels"])


def open_slide(
    queued: QueuedSlide, store: EmbeddingStore, names: Collection[str], stain: str, *, check: bool
) -> OpenedSlide:
    """A slide without its pixels where the embeddings `names` are stored of an unchanged image.

    With `check` it is read in any case.
    """
    slide = queued.read()
    known = remembered(store, slide)
    if check:
        return read_slide(slide, queued.alignment, {"files": known["files"]}, stain)
    found = recalled(slide, queued.alignment, known, store, names, stain)
    return found or read_slide(slide, queued.alignment, known, stain)


def recalled(
    slide: Slide,
    choice: AlignmentChoice,
    known: dict[str, Any],
    store: EmbeddingStore,
    names: Collection[str],
    stain: str,
) -> OpenedSlide | None:
    """A slide as the store remembers it, by what it says in `known`; None where it must be read."""
    if stain in known.get("pixels", {}):
        alignment = _alignment_known(slide.name, choice, known)
        with contextlib.suppress(DamagedStore):
            if alignment is not None and store.embeddings(slide.name).keys() >= set(names):
                return OpenedSlide(slide, known["pixels"][stain], alignment, known)
    return None


def read_slide(
    slide: Slide, choice: AlignmentChoice, known: dict[str, Any], stain: str
) -> OpenedSlide:
    """All that needs the image, from one reading of it; `known` is what the store remembers."""
    digests: dict[str, str] = dict(known.get("pixels", {}))
    image, digests["none"] = read_pixels(slide.image, digests.get("none"))
    large = not isinstance(image, ArrayImage)
    seen = Overview(image) if large and len(image.levels) == 1 else image
    picture = thumbnail(slide.source.image if slide.turn and slide.source else seen)
    slide.check_unchanged()
    decoded = replace(slide, image=seen)
    alignment = alignment_of(decoded, choice)
    check_slide(move_spots(decoded, alignment))
    if stain != "none":
        image, digests[stain] = _stained(decoded, digests["none"], stain, slide.image)
    source = {**known, "pixels": digests}
    if choice == "auto":
        source["auto"] = asdict(alignment.transform)
    return OpenedSlide(slide, digests[stain], alignment, source, image, picture)


def _stained(slide: Slide, digest: str, stain: str, raw: SlideImage) -> tuple[SlideImage, str]:
    found = normalised(slide.image, stain, slide.name)
    if not digest.startswith(OF_FILES):
        return read_pixels(found)
    assert isinstance(found, NormalisedImage)
    how = f"{digest} {found.method} {found.matrix} {found.offset}"
    return TileCache(replace(found, image=raw)), OF_FILES + digest_bytes(how.encode())


def stamp(image: SlideImage) -> list[list[Any]]:
    """Path, time of the last change in ns and bytes of every file; nothing of pixels in memory."""
    return [[str(path), *version(path)] for path in image.sources]


def remembered(store: EmbeddingStore, slide: Slide) -> dict[str, Any]:
    """What the store remembers of the image, if that is as it was and the spots are intact.

    Of an image that it does not know only its stamp.
    """
    files = stamp(slide.image)
    known = store.source(slide.name) if files else {}
    return known if known.get("files") == files else {"files": files}


def _alignment_known(name: str, choice: AlignmentChoice, known: dict[str, Any]) -> Alignment | None:
    """How the spots are moved, where no image need be looked at; None where one must."""
    if isinstance(choice, Alignment):
        return choice
    if choice == "none":
        return Alignment(name)
    return Alignment(name, **known["auto"]) if "auto" in known else None
