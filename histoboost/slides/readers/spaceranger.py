"""Space Ranger's ``outs`` folder, with optional full-resolution image and abundances.

::

    <sample>/outs/spatial/tissue_positions.csv       (or tissue_positions_list.csv, .parquet)
    <sample>/outs/spatial/scalefactors_json.json
    <sample>/outs/spatial/tissue_hires_image.png
    <sample>/outs/spatial/tissue_fullres_image.tif   optional; any image suffix
    <sample>/outs/abundances.csv                     optional; or .tsv, .parquet

The path may be ``outs``, its parent, the sample folder, or a folder of samples. Visium HD has one
such ``spatial`` per bin size, ``outs/binned_outputs/square_008um/spatial``. Use a `manifest` for a
full-resolution image or an abundance table elsewhere.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histoboost.errors import BadInput
from histoboost.slides.images import IMAGE_SUFFIXES, open_image
from histoboost.slides.readers.abundances import check_ids, join_abundances, read_abundances
from histoboost.slides.scale import um_per_px
from histoboost.slides.slide import Dataset, LazySlides, Slide
from histoboost.slides.tables import SUFFIXES, read_table, read_text

if TYPE_CHECKING:
    import pandas as pd

#: Newest first; the oldest has no header.
POSITION_FILES = (
    "tissue_positions.parquet",
    "tissue_positions.csv",
    "tissue_positions_list.csv",
)

SCALES = "scalefactors_json.json"
#: Parent of the folders of all bin sizes of Visium HD.
BINNED = "binned_outputs"

_BIN = re.compile(r"(?:square_)?0*(\d+)um")

#: Columns of every variant, in this order; the pixel columns are (row, column).
POSITION_COLUMNS = (
    "barcode",
    "in_tissue",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
)


def detect(path: Path) -> bool:
    """Whether `path` is an ``outs`` folder, its sample folder, or a folder of samples."""
    return path.is_dir() and bool(_samples(path))


def read(path: Path, bin: str | None = None) -> Dataset:
    """Read the spots on tissue of every sample, each a slide named after its folder.

    `bin` is a bin size of Visium HD, such as ``8um``.
    """
    samples = sample_folders(path, bin)
    reads = [partial(read_outs, outs, name) for name, outs in samples.items()]
    return Dataset(path, LazySlides(list(samples), reads))


def read_outs(
    outs: Path, name: str, *, image: Path | None = None, abundances: Path | None = None
) -> Slide:
    """Read one ``outs`` folder.

    The image defaults to ``spatial/tissue_fullres_image.*``, else the hires one; abundances default
    to ``abundances.csv``, ``.tsv`` or ``.parquet``.
    """
    spatial = outs / "spatial"
    scales = read_scales(spatial / SCALES)
    variant = next((name for name in POSITION_FILES if (spatial / name).is_file()), None)
    if variant is None:
        raise BadInput(f"{spatial}: no spot positions; expected one of {', '.join(POSITION_FILES)}")
    positions = read_positions(spatial / variant)
    file, scale = _image_and_scale(spatial, scales, image)
    um = um_per_px(scales, pixels(positions), f"{outs}", visium=True)
    positions = positions[positions["in_tissue"] == 1]
    if positions.empty:
        raise BadInput(f"{spatial}: no spot lies on the tissue; check column in_tissue")
    table = abundances or _only_file(outs, "abundances", SUFFIXES)
    slide = Slide(
        name=name,
        image=open_image(file),
        xy=pixels(positions) * scale,
        spot_ids=tuple(positions.index),
        um_per_px=None if um is None else um / scale,
    )
    if table is None:
        return slide
    return join_abundances(slide, read_abundances(table), f"{outs}: {table.name}")


def read_positions(path: Path) -> pd.DataFrame:
    """Read any variant of the positions: `POSITION_COLUMNS`, indexed by barcode."""
    # By content, not by name: people rename the file.
    header = path.suffix.lower() == ".parquet" or (
        POSITION_COLUMNS[0] in read_text(path).lstrip().partition("\n")[0].lower()
    )
    table = read_table(path, header=header)
    if not header and table.shape[1] == len(POSITION_COLUMNS):
        table = table.set_axis(list(POSITION_COLUMNS), axis=1)
        if table.iloc[0].astype(str).tolist() == ["0", "1", "2", "3", "4", "5"]:
            table = table.iloc[1:]  # resaved by pandas with a header of column numbers
    missing = [name for name in POSITION_COLUMNS if name not in table]
    if missing:
        raise BadInput(f"{path}: no column {missing[0]!r}; expected {', '.join(POSITION_COLUMNS)}")
    for name in POSITION_COLUMNS[1:]:
        if table[name].dtype.kind not in "iufb" or table[name].isna().any():
            raise BadInput(
                f"{path}: column {name!r} has values that are missing or not numeric; "
                "the file is damaged, take it from Space Ranger again"
            )
    table = table.set_index("barcode")
    check_ids(table, path)
    return table


def pixels(positions: pd.DataFrame) -> Any:
    """Coordinates (N, 2) float64 in full-resolution pixels: x = column, y = row."""
    return positions[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(np.float64)


def read_scales(path: Path) -> dict[str, Any]:
    """Read ``scalefactors_json.json``: one number per name."""
    try:
        scales = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(
            f"{path}: no such file; copy the whole spatial folder of Space Ranger's output"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(scales, dict) or not all(isinstance(v, int | float) for v in scales.values()):
        raise BadInput(f"{path}: must hold one number per name")
    return scales


def _image_and_scale(
    spatial: Path, scales: dict[str, Any], image: Path | None
) -> tuple[Path, float]:
    full = image or _only_file(spatial, "tissue_fullres_image", IMAGE_SUFFIXES)
    if full is not None:
        return full, 1.0
    file = spatial / "tissue_hires_image.png"
    if not file.is_file():
        raise BadInput(
            f"{spatial}: no image; expected {file.name}, or "
            "tissue_fullres_image with the suffix of an image"
        )
    if not scales.get("tissue_hires_scalef", 0) > 0:
        raise BadInput(
            f"{spatial / SCALES}: no positive tissue_hires_scalef to scale the spots to "
            f"{file.name}; take the file from Space Ranger again"
        )
    return file, float(scales["tissue_hires_scalef"])


def _only_file(folder: Path, stem: str, suffixes: tuple[str, ...]) -> Path | None:
    found = [folder / f"{stem}{suffix}" for suffix in suffixes]
    found = [file for file in found if file.is_file()]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise BadInput(f"{folder}: holds {names}; keep one of them")
    return found[0] if found else None


def sample_folders(path: Path, bin: str | None = None) -> dict[str, Path]:
    """Names of the samples in a folder, and the parents of their ``spatial`` folders.

    `path` is ``outs`` or ``spatial``, their sample, a folder of samples, or one bin size of Visium
    HD (``outs/binned_outputs/square_008um``); otherwise Visium HD needs `bin`, such as ``8um``.
    """
    samples = _samples(path)
    if not samples:
        raise BadInput(
            f"{path}: no Space Ranger output; expected spatial/{SCALES} and "
            "spatial/tissue_positions.csv in it"
        )
    return {name: _choose_bin(outs, bin) for name, outs in samples.items()}


def section_of(spots: Path) -> Path | None:
    """The folder of all bin sizes of the section of these spots; None unless Visium HD."""
    folders = (folder for folder in (spots, *spots.parents) if folder.name == BINNED)
    found = next(folders, None)
    return found and found.resolve()  # only then: a manifest may list 100,000


def _choose_bin(outs: Path, bin: str | None) -> Path:
    bins = _bins(outs)
    wanted = _BIN.fullmatch(bin or "")
    size = f"{wanted[1]}um" if wanted else bin
    if not bins:
        own = _BIN.fullmatch(outs.resolve().name)
        if bin is not None and (own is None or f"{own[1]}um" != size):
            raise BadInput(f"{outs}: has no bins of {bin}; omit --bin")
        return outs
    if size not in bins:
        problem = "is Visium HD" if bin is None else f"has no bins of {bin}"
        example = "8um" if "8um" in bins else next(iter(bins))
        raise BadInput(
            f"{outs}: {problem}; choose one of {', '.join(bins)} with --bin, for example --bin "
            f"{example} (in Python format='spaceranger:{example}', in a manifest its folder)"
        )
    return bins[size]


def _bins(outs: Path) -> dict[str, Path]:
    """Bin sizes of Visium HD, such as ``8um``, and their folders."""
    folders = sorted((outs / BINNED).glob("square_*um"))
    found = {folder: _BIN.fullmatch(folder.name) for folder in folders if _has_spots(folder)}
    return {f"{match[1]}um": folder for folder, match in found.items() if match}


def _samples(path: Path) -> dict[str, Path]:
    """Name and ``outs`` folder of every sample in `path`."""
    if not path.is_dir():
        return {}
    full = path.resolve()
    if full.name == "spatial" and _has_spots(full.parent):
        path, full = path.parent if path.name == "spatial" else full.parent, full.parent
    if full.name == BINNED and _bins(full.parent):
        path, full = full.parent, full.parent
    if _is_outs(path):
        named = full.parents[1] if full.parent.name == BINNED else full
        return {(named.parent if named.name == "outs" else named).name: path}
    if _is_outs(path / "outs"):
        return {full.name: path / "outs"}
    samples = {}
    for folder in sorted(path.iterdir()):
        for outs in (folder, folder / "outs"):
            if folder.is_dir() and _is_outs(outs):
                samples[folder.name] = outs
    return samples


def _is_outs(path: Path) -> bool:
    return _has_spots(path) or bool(_bins(path))


def _has_spots(path: Path) -> bool:
    # Either file identifies the folder; the other one is then reported as missing.
    return any((path / "spatial" / name).is_file() for name in (SCALES, *POSITION_FILES))
