"""Locate Space Ranger's output in a folder: Visium, or a bin size of Visium HD."""

from __future__ import annotations

import re
from pathlib import Path

from histoboost.errors import BadInput

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


def detect(path: Path) -> bool:
    """Whether `path` is an ``outs`` folder, its sample folder, or a folder of samples."""
    return path.is_dir() and bool(_samples(path))


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
