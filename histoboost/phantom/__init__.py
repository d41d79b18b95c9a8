"""Synthetic H&E slides with known cell-type composition, for the demo and the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.phantom.cells import KINDS
from histoboost.phantom.stain import stain
from histoboost.phantom.tissue import Cells, Tissue, grow_tissue, scatter_cells
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.slide import Slide

#: Spot pitch and spot diameter of Visium.
PITCH_UM = 100.0
SPOT_UM = 55.0

#: Cell types of the phantoms, one per kind of cell.
CELL_TYPES = tuple(f"C{i + 1}" for i in range(len(KINDS)))

#: Approximate fraction of the image covered by tissue.
TISSUE_SHARE = 0.5


def phantom_slide(
    name: str = "S_1", *, seed: int = 0, spots: int = 80, pitch_px: float = 25.0
) -> Slide:
    """Simulate one labelled slide; tissue, stain and light depend on the seed.

    Cells of 14 types are distributed in smooth niches. The abundance of a type is the contribution
    of the cells under and near the spot, times the capture rate of the spot and noise: raw,
    positive and heavy-tailed. The image is (H, W, 3) uint8. About `spots` spots are under tissue,
    in random order, on a hexagonal lattice with a pitch of `pitch_px` pixels, or 100 um.
    """
    if spots < 10 or pitch_px < 8:
        raise BadInput(
            f"phantom of {spots} spots with a pitch of {pitch_px:g} px: too small; "
            "use at least 10 spots and a pitch of at least 8 px"
        )
    rng = np.random.default_rng(seed)
    area = spots * pitch_px**2 * np.sqrt(3) / 2 / TISSUE_SHARE
    aspect = rng.uniform(0.8, 1.25)
    step = max(1, round(pitch_px / 12))
    height, width = (int(np.sqrt(area * a)) // step * step for a in (aspect, 1 / aspect))
    um_per_px = PITCH_UM / pitch_px
    tissue = grow_tissue((height // step, width // step), step * um_per_px, rng)
    cells = scatter_cells(tissue, rng)
    xy = _spots_under_tissue(tissue, pitch_px / step, rng)
    return Slide(
        name=name,
        image=ArrayImage(stain(tissue, cells, (height, width), step, rng)),
        xy=np.rint(xy * step - 0.5),
        spot_ids=tuple(str(i) for i in range(len(xy))),
        abundance=_abundance(tissue, cells, xy, rng),
        cell_types=CELL_TYPES,
        um_per_px=um_per_px,
    )


def write_phantom(
    path: str | Path,
    *,
    seed: int = 0,
    slides: int = 3,
    unlabelled: int = 1,
    spots: int = 80,
    pitch_px: float = 25.0,
    dtype: str = "float32",
) -> Path:
    """Write phantom slides in the HDF5 layout of the challenge, replacing an existing file.

    The labelled slides are ``images/Train/S_1`` and so on, followed by the unlabelled ones in
    ``images/Test``. See `phantom_slide` for `spots` and `pitch_px`. No slide occurs with two seeds.
    Pixels are ``"float32"`` (0..1, as in the challenge) or ``"uint8"``.
    """
    import h5py

    if dtype not in ("float32", "uint8"):
        raise BadInput(f"phantom pixels of type {dtype!r}: use 'float32' or 'uint8'")
    with h5py.File(path, "w") as file:
        for index in range(slides + unlabelled):
            name = f"S_{index + 1}"
            split = "Train" if index < slides else "Test"
            slide = phantom_slide(name, seed=1000 * seed + index, spots=spots, pitch_px=pitch_px)
            pixels = slide.image.read_rows(0, slide.image.shape[0])
            file.create_dataset(
                f"images/{split}/{name}",
                data=pixels if dtype == "uint8" else pixels.astype(np.float32) / np.float32(255),
                chunks=(min(64, len(pixels)), *pixels.shape[1:]),
                compression="gzip",
                compression_opts=1,
            )
            file[f"spots/{split}/{name}"] = _table(slide, labelled=split == "Train")
    return Path(path)


def _table(slide: Slide, labelled: bool) -> NDArray[np.void]:
    types = slide.cell_types if labelled else ()
    columns = [(axis, "i8") for axis in "xy"] + [(name, "f4") for name in types]
    table = np.zeros(len(slide.xy), columns if labelled else [*columns, ("Test_Set", "i8")])
    table["x"], table["y"] = slide.xy.T
    if labelled and slide.abundance is not None:
        for name, values in zip(types, slide.abundance.T, strict=True):
            table[name] = values
    else:
        table["Test_Set"] = 1 + np.arange(len(table)) % 2
    return table


def _spots_under_tissue(
    tissue: Tissue, pitch: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Sites (x, y) of a hexagonal lattice on tissue, in grid units and random order."""
    height, width = tissue.inside.shape
    rows = np.arange(rng.uniform(0.3, 1) * pitch, height - pitch / 3, pitch * np.sqrt(3) / 2)
    columns = np.arange(rng.uniform(0.3, 1) * pitch, width - pitch / 3, pitch)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    x = x + pitch / 2 * (np.arange(len(rows)) % 2)[:, None]
    xy = np.stack([x.ravel(), y.ravel()], axis=1)
    xy = xy[xy[:, 0] < width - pitch / 3]
    cell = np.floor(xy).astype(np.intp)
    xy = xy[tissue.inside[cell[:, 1], cell[:, 0]] > 0.5]
    return rng.permutation(xy)


def _abundance(
    tissue: Tissue, cells: Cells, xy: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Sum the contributions of the cells under each spot and just outside it, with noise."""
    from scipy.spatial import cKDTree

    radius = SPOT_UM / 2 / tissue.um
    pairs = cKDTree(xy).sparse_distance_matrix(cKDTree(cells.xy), 2 * radius, output_type="ndarray")
    weight = 1 / (1 + np.exp(6 * (pairs["v"] / radius - 1)))  # transcripts spread past the rim
    slot = pairs["i"] * len(KINDS) + cells.kind[pairs["j"]]
    counts = np.bincount(slot, weight, minlength=len(xy) * len(KINDS)).reshape(len(xy), -1)
    amount = counts * np.array([kind.transcripts for kind in KINDS])
    capture = np.exp(rng.normal(0, 0.5, (len(xy), 1)))
    noise = np.exp(rng.normal(0, 0.45, amount.shape))
    ambient = 1e-3 * np.exp(rng.normal(0, 1.2, amount.shape))
    return np.asarray(capture * (amount * noise + ambient), np.float32)
