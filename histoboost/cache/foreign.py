"""Find foreign files in a store: reported, never moved and never removed with our own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from histoboost.cache.backend import Backend
from histoboost.cache.layout import (
    ROOT_DOCUMENT,
    SLIDES,
    SOURCE_DOCUMENT,
    STAGING,
    Damaged,
    bears_mark,
    embedding_key,
    is_foreign_document,
    slide_key,
)
from histoboost.cache.published_embedding import chunk_path, open_published
from histoboost.cache.table import SlideRecord, embedding_names, open_slide, slide_names
from histoboost.errors import BadInput
from histoboost.names import is_embedding_name

#: Elements of an AnnData group, directly in the folder of a slide.
_PARTS = (ROOT_DOCUMENT, "obs", "obsm", "obsp", "var", "varm", "varp", "layers", "raw", "uns")

# Files that only an embedding has.
_EMBEDDING = re.compile(r"obsm/([^/]+)/(zarr\.json|c/)")


def foreign_in_store(backend: Backend) -> list[str]:
    """Foreign keys outside the slides."""
    top = set(backend.children("")) - {ROOT_DOCUMENT, SLIDES, STAGING}
    # In this order, or a slide that another process is publishing would seem foreign.
    below = set(backend.children(SLIDES)) - {ROOT_DOCUMENT}
    below = {name for name in below if not backend.in_progress(slide_key(name))}
    below -= set(slide_names(backend))
    return sorted(top) + [f"{SLIDES}/{name}" for name in sorted(below)]


def foreign_in_table(backend: Backend, record: SlideRecord) -> list[str]:
    """Paths in a slide's folder that belong to neither its spot table nor an embedding."""
    known = {ROOT_DOCUMENT, SOURCE_DOCUMENT, *record.files}
    paths = [path for path in backend.walk(slide_key(record.slide)) if path not in known]
    # One listing for both: another process may publish an embedding between two.
    names = {match[1] for path in paths if (match := _EMBEDDING.match(path))}
    embeddings = tuple(f"obsm/{name}/" for name in names if is_embedding_name(name))
    return [path for path in paths if not path.startswith(embeddings)]


def foreign_in_slide(backend: Backend, slide: str) -> list[str]:
    """Foreign paths in the folder of a slide, intact or damaged."""
    key = slide_key(slide)
    names = [name for name in backend.folders(f"{key}/obsm") if is_embedding_name(name)]
    try:
        found = foreign_in_table(backend, open_slide(backend, slide))
    except Damaged:
        folders = [key, *(f"{key}/obsm/{name}" for name in names)]
        documents = backend.read_many(f"{folder}/{ROOT_DOCUMENT}" for folder in folders)
        if not any(map(bears_mark, documents)):
            return list(backend.walk(key))[:1] or [key]
        found = [path for path in backend.walk(key) if path.split("/")[0] not in _PARTS]
    return found + [
        f"obsm/{name}/{path}"
        for name in names
        for path in foreign_in_embedding(backend, slide, name)
    ]


def foreign_in_embedding(backend: Backend, slide: str, name: str) -> list[str]:
    """Foreign paths in the folder of an embedding, intact or damaged."""
    key = embedding_key(slide, name)
    if is_foreign_document(backend.read(f"{key}/{ROOT_DOCUMENT}")):
        return [ROOT_DOCUMENT]
    try:
        indices = range(len(open_published(backend, slide, name).chunks))
    except Damaged:
        return [
            path for path in backend.walk(key) if path.split("/")[0] not in (ROOT_DOCUMENT, "c")
        ]
    own = {ROOT_DOCUMENT, "c/", *map(chunk_path, indices)}
    own |= {f"c/{index}/" for index in indices}  # empty: the chunk is missing
    return [path for path in backend.walk(key) if path not in own]


def remove(backend: Backend, name: str | None, slides: Sequence[str]) -> list[str]:
    """Remove an embedding from `slides`, or whole slides; returns the slides affected.

    Refused if foreign files would go with it, or if there is nothing to remove.
    """
    keys = {s: slide_key(s) if name is None else embedding_key(s, name) for s in slides}
    for slide, key in keys.items():
        if name is None:
            foreign = foreign_in_slide(backend, slide)
        else:
            foreign = foreign_in_embedding(backend, slide, name)
        if foreign:
            raise BadInput(
                f"{backend}: {key} contains {foreign[0]}, which histoboost did not write; move it "
                "elsewhere first, nothing was removed"
            )
    removed = [slide for slide, key in keys.items() if backend.remove_folder(key)]
    if not removed:
        names = sorted({found for slide in slides for found in embedding_names(backend, slide)})
        known = ", ".join(names) or "none"
        raise BadInput(f"{backend}: no embedding {name!r}; available: {known}")
    return removed
