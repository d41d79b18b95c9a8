"""Cell types of a phantom and their niches.

Sizes, stain and densities are chosen to look plausible and to be visible in the image; they are not
measurements of any tissue.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CellKind:
    """Appearance and arrangement of the cells of one type.

    `arrangement` is ``"scattered"``, ``"clustered"``, ``"strands"`` (along the fibres), ``"duct"``
    (around a lumen), ``"vessel"`` (around a vessel), ``"blood"`` (inside a vessel) or ``"septa"``
    (between fat vacuoles).
    """

    name: str  # of the imitated type; C1, C2, ... in the file
    diameter_um: float  # of the nucleus, on average
    elongation: float  # long over short axis of the nucleus
    haematoxylin: float  # optical density in the nucleus
    eosin: float  # optical density in the cell
    pigment: float  # optical density of a brown pigment in the cell
    arrangement: str
    transcripts: float  # contribution of one cell under a spot to the abundance
    density: tuple[int, ...]  # cells per 10,000 square micrometres in each niche


KINDS = (
    CellKind("tumour", 11.0, 1.2, 0.75, 0.05, 0.0, "clustered", 0.060, (50, 5, 0, 0, 0, 0, 5)),
    CellKind(
        "dividing tumour", 13.0, 1.1, 1.35, 0.05, 0.0, "clustered", 0.080, (14, 0, 0, 0, 0, 0, 0)
    ),
    CellKind("duct epithelium", 9.0, 1.6, 1.00, 0.20, 0.0, "duct", 0.050, (0, 45, 0, 0, 0, 0, 0)),
    CellKind("fibroblast", 12.0, 3.4, 0.80, 0.00, 0.0, "strands", 0.040, (2, 8, 20, 3, 3, 4, 0)),
    CellKind(
        "myofibroblast", 14.0, 2.6, 0.50, 0.28, 0.0, "strands", 0.050, (0, 10, 14, 0, 0, 0, 0)
    ),
    CellKind("endothelium", 9.0, 3.0, 1.05, 0.10, 0.0, "vessel", 0.050, (4, 3, 7, 4, 3, 4, 0)),
    CellKind("T cell", 6.5, 1.0, 1.50, 0.00, 0.0, "scattered", 0.030, (5, 3, 3, 60, 0, 1, 4)),
    CellKind("B cell", 7.0, 1.0, 1.15, 0.00, 0.0, "clustered", 0.030, (0, 0, 0, 70, 0, 0, 0)),
    CellKind("plasma cell", 8.0, 1.2, 1.20, 0.35, 0.0, "scattered", 0.090, (0, 6, 3, 14, 0, 0, 1)),
    CellKind("macrophage", 14.0, 1.3, 0.40, 0.10, 0.5, "scattered", 0.050, (4, 0, 4, 3, 2, 0, 9)),
    CellKind("adipocyte", 8.0, 2.4, 1.00, 0.00, 0.0, "septa", 0.120, (0, 0, 0, 0, 9, 0, 0)),
    CellKind("erythrocyte", 7.5, 1.0, 0.00, 1.60, 0.0, "blood", 0.010, (0, 0, 18, 0, 4, 8, 0)),
    CellKind("smooth muscle", 15.0, 4.0, 0.60, 0.40, 0.0, "strands", 0.040, (0, 0, 0, 0, 0, 22, 0)),
    CellKind("dying cell", 4.5, 1.0, 1.60, 0.25, 0.0, "scattered", 0.020, (2, 0, 0, 4, 0, 0, 55)),
)


@dataclass(frozen=True)
class Niche:
    """A type of tissue.

    `eosin` is the optical density between cells, modulated by `fibres` (0 to 1); `fat` has empty
    vacuoles.
    """

    eosin: float
    fibres: float
    fat: bool = False


NICHES = (
    Niche(0.17, 0.15),  # tumour nest
    Niche(0.22, 0.35),  # in situ ducts
    Niche(0.42, 0.9),  # dense stroma
    Niche(0.10, 0.1),  # lymphoid
    Niche(0.22, 0.0, fat=True),
    Niche(0.55, 1.0),  # muscle
    Niche(0.38, 0.2),  # necrosis
)
