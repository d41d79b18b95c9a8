"""Valid names of slides and embeddings, which become folders of the store."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from histoboost.errors import BadInput

#: Maximum length of a name, in characters and in bytes of UTF-8, for all file systems.
MAX_CHARACTERS = 200
MAX_BYTES = 240
#: Maximum number of names listed in a line.
NAMED = 40

# Used by Zarr and AnnData beside slides and embeddings.
_RESERVED = {
    "slide": frozenset({"zarr.json"}),
    "embedding": frozenset({"zarr.json", "spatial", "abundance", "coords"}),
}
# Path separators, and the operators of feature-set expressions.
_FORBIDDEN = {"slide": "/\\", "embedding": "/\\+:*?[],"}
# Columns of prediction tables besides the cell types, and one reserved by AnnData.
_COLUMNS = ("slide", "spot", "x", "y", "novelty", "ID", "_index")


def check_slide_name(name: str) -> str:
    """Return `name` if it is a valid name of a slide.

    Invalid if empty, longer than 200 characters, reserved, beginning with ``.`` or ``__``, with
    spaces at an end, or with a slash, backslash or control character.
    """
    return _check("slide", name)


def check_embedding_name(name: str) -> str:
    """Return `name` if it is a valid name of an embedding.

    As for slides, and without the operators of feature-set expressions (``+:*?[],``).
    """
    return _check("embedding", name)


def default_embedding_name(backbone: str, side: str) -> str:
    """Default name of an embedding.

    Replaces colons and slashes, which have a meaning in feature sets and paths.

    Examples
    --------
    >>> default_embedding_name("hf-hub:MahmoodLab/UNI", "55um")
    'hf-hub-MahmoodLab-UNI@55um'
    """
    return f"{backbone.replace(':', '-').replace('/', '-')}@{side}"


def some(names: Sequence[str]) -> str:
    """Join names, or the first of very many with their number."""
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])}, ... ({len(names):,} in all)"


def nfc(name: str) -> str:
    """Normalise to Unicode's composed form, so that identical-looking names are equal."""
    return unicodedata.normalize("NFC", name)


def check_cell_type_names(names: Sequence[str], where: object) -> None:
    """Refuse cell types whose columns would be invalid or ambiguous in output tables.

    A name is invalid if it is empty or unprintable, begins like a spreadsheet formula, or is no
    file name (Zarr stores columns as files). Its columns, with ``_`` for a slash as in AnnData,
    must differ from those of other types and of our tables. `where` begins the message.
    """
    taken = dict.fromkeys(_COLUMNS, "a column of every table of predictions")
    for name in names:
        stored = name not in (".", "..", "zarr.json") and len(name.encode()) <= MAX_BYTES
        if not name.strip() or not name.isprintable() or name[0] in "=+-@" or not stored:
            raise BadInput(f"{where}: {name!r} cannot be the name of a cell type; rename it")
        plain = name.replace("/", "_")
        for column in (plain, f"{plain}_lower", f"{plain}_upper"):
            if column in taken:
                raise BadInput(
                    f"{where}: cell type {name!r} needs the column {column!r}, which is "
                    f"{taken[column]}; rename one"
                )
            taken[column] = f"that of {name!r}"


def layer_suffix(layer: str) -> str:
    """Suffix of the name of an embedding from an intermediate layer.

    Examples
    --------
    >>> layer_suffix("features.13:mean"), layer_suffix("features.3:std"), layer_suffix("avgpool")
    ('.features.13', '.features.3.std', '')
    """
    return "." + layer.removesuffix(":mean").replace(":", ".") if ":" in layer else ""


def is_slide_name(name: str) -> bool:
    """Whether `check_slide_name` accepts `name`."""
    return _fault("slide", name) is None


def is_embedding_name(name: str) -> bool:
    """Whether `check_embedding_name` accepts `name`."""
    return _fault("embedding", name) is None


def _check(kind: str, name: str) -> str:
    fault = _fault(kind, name)
    if fault is None:
        return name
    shown = repr(name if len(name) <= 40 else name[:40] + "...")
    raise BadInput(f"{kind} name {shown}: {fault}; choose another name")


def _fault(kind: str, name: str) -> str | None:
    if not name:
        return "is empty"
    if len(name) > MAX_CHARACTERS:
        return f"has {len(name)} characters, at most {MAX_CHARACTERS} are allowed"
    if any(unicodedata.category(character).startswith("C") for character in name):
        return "contains a control or unprintable character"
    if len(name.encode()) > MAX_BYTES:
        return f"takes more than {MAX_BYTES} bytes in UTF-8"
    bad = next((character for character in name if character in _FORBIDDEN[kind]), None)
    if bad is not None:
        return f"contains {bad!r}"
    if name.startswith((".", "__")):
        return "begins with '.' or '__'"
    if name != name.strip():
        return "begins or ends with a space"
    if name in _RESERVED[kind]:
        return "is reserved"
    return None
