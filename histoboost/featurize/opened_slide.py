"""Open slides for embedding: read the image, or recall it from the store if it is unchanged.

A store remembers of an image ``{"files": [[path, modification time in ns, bytes], ...], "pixels":
{stain: digest}, "decoded": {stain: digest}, "auto": {"dx", "dy", "scale"}, "backbones": {key:
facts}, "turns": {key: turn or None}}``; for the last two see `histoboost.featurize.request` and
`histoboost.mounting`.
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
from histoboost.featurize.stain import normalised
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
    """A slide to embed on any device or machine: how to read it, and its place in the store."""

    name: str
    read: Read
    spots: int
    alignment: AlignmentChoice
    order: int


@dataclass(frozen=True)
class OpenedSlide:
    """A slide, the digest of its pixels, and what the store shall remember of its image.

    `image` holds the pixels to cut patches from (None if not read), `picture` the thumbnail.
    """

    slide: Slide
    digest: str
    alignment: Alignment
    source: dict[str, Any]
    image: SlideImage | None = None
    picture: NDArray[np.uint8] | None = None

    def matches_older(self, stored: Recipe, own: Recipe, stain: str) -> bool:
        """Whether `stored` is the recipe that version 0.1.0 wrote in place of `own`.

        It identified large slides by their decoded pixels, too, and cut all at full resolution.
        """
        if stored == own or not self.digest.startswith(OF_FILES):
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
    """Open a slide; without its pixels if the image is unchanged and has the embeddings `names`.

    With `check` the image is always read.
    """
    slide = queued.read()
    known = remembered(store, slide)
    if check:
        return read_slide(slide, queued.alignment, {"files": known["files"]}, stain)
    opened = recalled(slide, queued.alignment, known, store, names, stain)
    return opened or read_slide(slide, queued.alignment, known, stain)


def recalled(
    slide: Slide,
    choice: AlignmentChoice,
    known: dict[str, Any],
    store: EmbeddingStore,
    names: Collection[str],
    stain: str,
) -> OpenedSlide | None:
    """Recall a slide from what the store remembers, `known`; None if its image must be read."""
    if isinstance(choice, Alignment):
        alignment = choice
    elif choice == "none":
        alignment = Alignment(slide.name)
    elif "auto" in known:
        alignment = Alignment(slide.name, **known["auto"])
    else:
        return None
    if stain in known.get("pixels", {}):
        with contextlib.suppress(DamagedStore):
            if store.embeddings(slide.name).keys() >= set(names):
                return OpenedSlide(slide, known["pixels"][stain], alignment, known)
    return None


def read_slide(
    slide: Slide, choice: AlignmentChoice, known: dict[str, Any], stain: str
) -> OpenedSlide:
    """Read the image of a slide once; `known` is what the store remembers of it."""
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
        image, digests[stain] = _normalise_stain(decoded, digests["none"], stain, slide.image)
    source = {**known, "pixels": digests}
    if choice == "auto":
        source["auto"] = asdict(alignment.transform)
    return OpenedSlide(slide, digests[stain], alignment, source, image, picture)


def _normalise_stain(
    slide: Slide, digest: str, stain: str, raw: SlideImage
) -> tuple[SlideImage, str]:
    found = normalised(slide.image, stain, slide.name)
    if not digest.startswith(OF_FILES):
        return read_pixels(found)
    how = f"{digest} {found.method} {found.matrix} {found.offset}"
    return TileCache(replace(found, image=raw)), OF_FILES + digest_bytes(how.encode())


def remembered(store: EmbeddingStore, slide: Slide) -> dict[str, Any]:
    """What the store remembers of an unchanged image; of other images only the files.

    Files are path, modification time in ns and bytes; images in memory have none.
    """
    files = [[str(path), *version(path)] for path in slide.image.sources]
    known = store.source(slide.name) if files else {}
    return known if known.get("files") == files else {"files": files}
