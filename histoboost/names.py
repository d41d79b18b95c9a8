"""Which names of slides and embeddings are accepted: each becomes one folder of the store."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from histoboost.errors import BadInput

#: Longest name, in characters; in UTF-8 it must also fit a file name of every file system.
MAX_CHARACTERS = 200
MAX_BYTES = 240
#: Names that a line lists, at most.
NAMED = 40

# A folder of this name would shadow what Zarr and AnnData keep beside slides and embeddings.
_RESERVED = {
    "slide": frozenset({"zarr.json"}),
    "embedding": frozenset({"zarr.json", "spatial", "abundance", "coords"}),
}
# The feature-set expression gives these a meaning, so a name with one could never be asked for.
_EXPRESSION = "+:*?[],"
_SEPARATORS = "/\\"
# Columns of tables of predictions besides the types, and the one that AnnData keeps to itself.
_COLUMNS = ("slide", "spot", "x", "y", "novelty", "ID", "_index")


def check_slide_name(name: str) -> str:
    """Return `name` if it can be the name of a slide.

    Not if it is empty, longer than 200 characters, reserved, begins with ``.`` or ``__``, has space
    at an end, or contains a slash, a backslash or a control character.
    """
    return _check("slide", name, _SEPARATORS)


def check_embedding_name(name: str) -> str:
    """Return `name` if it can be the name of an embedding.

    As for slides, and without the characters of the feature-set expression (``+:*?[],``).
    """
    return _check("embedding", name, _SEPARATORS + _EXPRESSION)


def default_embedding_name(backbone: str, side: str) -> str:
    """Name of an embedding for which none is asked.

    A colon or slash, as in ``hf-hub:MahmoodLab/UNI``, has a meaning in feature sets and paths.

    Examples
    --------
    >>> default_embedding_name("hf-hub:MahmoodLab/UNI", "55um")
    'hf-hub-MahmoodLab-UNI@55um'
    """
    return f"{backbone.replace(':', '-').replace('/', '-')}@{side}"


def some(names: Sequence[str]) -> str:
    """The names in one line, or the first of very many and how many there are."""
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])}, ... ({len(names):,} in all)"


def nfc(name: str) -> str:
    """The name in Unicode's composed form, so that names that look alike are equal."""
    return unicodedata.normalize("NFC", name)


def check_cell_type_names(names: Sequence[str], where: object) -> None:
    """Refuse cell types whose columns could not be told apart, or stand for others, in a table.

    Names are those of one data set or model, `where` for the message; a slash is written as ``_``
    in AnnData. None may be empty, have unprintable characters, begin like a spreadsheet's formula,
    be no name of a file (columns are files in Zarr) or of a column of our outputs, or give the same
    column as another.
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
    """What follows the name of an embedding that is not a network's last layer.

    Examples
    --------
    >>> layer_suffix("features.13:mean"), layer_suffix("features.3:std"), layer_suffix("avgpool")
    ('.features.13', '.features.3.std', '')
    """
    return "." + layer.removesuffix(":mean").replace(":", ".") if ":" in layer else ""


def is_slide_name(name: str) -> bool:
    """Whether `check_slide_name` accepts `name`."""
    return _fault(name, _RESERVED["slide"], _SEPARATORS) is None


def is_embedding_name(name: str) -> bool:
    """Whether `check_embedding_name` accepts `name`."""
    return _fault(name, _RESERVED["embedding"], _SEPARATORS + _EXPRESSION) is None


def _check(kind: str, name: str, forbidden: str) -> str:
    fault = _fault(name, _RESERVED[kind], forbidden)
    if fault is None:
        return name
    shown = repr(name if len(name) <= 40 else name[:40] + "...")
    raise BadInput(f"{kind} name {shown}: {fault}; choose another name")


def _fault(name: str, reserved: frozenset[str], forbidden: str) -> str | None:
    if not name:
        return "is empty"
    if len(name) > MAX_CHARACTERS:
        return f"has {len(name)} characters, at most {MAX_CHARACTERS} are allowed"
    if any(unicodedata.category(character).startswith("C") for character in name):
        return "contains a control or unprintable character"
    if len(name.encode()) > MAX_BYTES:
        return f"takes more than {MAX_BYTES} bytes in UTF-8"
    bad = next((character for character in name if character in forbidden), None)
    if bad is not None:
        return f"contains {bad!r}"
    if name.startswith((".", "__")):
        return "begins with '.' or '__'"
    if name != name.strip():
        return "begins or ends with a space"
    if name in reserved:
        return "is reserved"
    return None
