"""Report what is installed, what this machine offers, and what is missing."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from histoboost import __version__

#: Package that identifies an extra -> the extra and its purpose.
OPTIONAL = {
    "torch": ("torch", "featurize, finetune, demo"),
    "torchvision": ("torch", "pretrained networks"),
    "openvino": ("openvino", "faster embedding on a CPU (--engine openvino)"),
    "distributed": ("dask", "running on a Dask cluster (--scheduler)"),
    "obstore": ("cloud", "stores in object storage (s3://, gs://, az://)"),
    "pyarrow": ("parquet", "Parquet tables"),
    "timm": ("timm", "timm: and hf-hub: backbones"),
    "spatialdata": ("spatialdata", "reading and writing SpatialData"),
    "tifffile": ("wsi", "pyramidal whole-slide images"),
    "torchstain": ("stain", "stain normalisation (--stain)"),
}
#: Required packages.
CORE = (
    "anndata",
    "click",
    "google-crc32c",
    "h5py",
    "joblib",
    "lightgbm",
    "matplotlib",
    "numcodecs",
    "numpy",
    "pandas",
    "pillow",
    "plotly",
    "rich",
    "scikit-learn",
    "scipy",
    "threadpoolctl",
    "zarr",
)


@dataclass(frozen=True)
class Finding:
    """One line of the report; `remedy` tells how to get what is missing.

    Sections are ``"software"``, ``"optional"``, ``"machine"`` and ``"weights"``.
    """

    section: str
    name: str
    value: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Examine this installation and machine without changes or downloads."""
    return [
        Finding("software", "python", platform.python_version()),
        Finding("software", "histoboost", __version__),
        *(_package("software", name, f"pip install {name}") for name in CORE),
        *(
            _package("optional", name, f"for {purpose}: pip install 'histoboost[{extra}]'")
            for name, (extra, purpose) in OPTIONAL.items()
        ),
        *_machine(),
        *(_weights() if find_spec("torch") else []),
    ]


def _package(section: str, name: str, remedy: str) -> Finding:
    try:
        return Finding(section, name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(section, name, "not installed", remedy)


def _machine() -> list[Finding]:
    import joblib

    allowed = joblib.cpu_count()
    rows = [
        Finding("machine", "system", platform.platform()),
        Finding("machine", "cores this process may use", f"{allowed} of {os.cpu_count()}"),
    ]
    if find_spec("torch") is None:
        return rows
    import torch

    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        memory = f"{card.total_memory / 2**30:.0f} GiB"
        rows.append(Finding("machine", f"cuda:{index}", f"{card.name}, {memory}"))
    if not torch.cuda.is_available():
        rows.append(Finding("machine", "cuda", "none; slides are embedded on the CPU"))
    return rows


def _weights() -> list[Finding]:
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    files = sorted(folder.glob("*.pth")) if folder.is_dir() else []
    rows = [Finding("weights", "cache of downloaded weights", str(folder))]
    rows += [Finding("weights", f.name, f"{f.stat().st_size / 2**20:.0f} MiB") for f in files]
    if not files:
        remedy = "'--weights pretrained' downloads them on first use; offline, give --weights PATH"
        rows.append(Finding("weights", "files", "none yet", remedy))
    return rows
