"""Cell types of a phantom and their niches.

Sizes, stain and densities are chosen to look plausible and to be visible in the image; they are not
measurements of any tissue.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CellKind:
    """Appearance and arrangement of the cells of one type.

    Attributes
    ----------
    name : str
        The cell type that is imitated; ``C1``, ``C2``, ... in the file.
    diameter_um : float
        Mean diameter of the nucleus.
    elongation : float
        Ratio of the long to the short axis of the nucleus.
    haematoxylin, eosin, pigment : float
        Optical density of haematoxylin in the nucleus, and of eosin and a brown pigment in the
        cell.
    arrangement : str
        ``"scattered"``, ``"clustered"``, ``"strands"`` (along the fibres), ``"duct"``
        (around a lumen), ``"vessel"`` (around a vessel), ``"blood"`` (inside a vessel) or
        ``"septa"`` (between fat vacuoles).
    transcripts : float
        Contribution of one cell under a spot to the abundance.
    """

    name: str
    diameter_um: float
    elongation: float
    haematoxylin: float
    eosin: float
    pigment: float
    arrangement: str
    transcripts: float


KINDS = (
    CellKind("tumour", 11.0, 1.2, 0.75, 0.05, 0.0, "clustered", 0.060),
    CellKind("dividing tumour", 13.0, 1.1, 1.35, 0.05, 0.0, "clustered", 0.080),
    CellKind("duct epithelium", 9.0, 1.6, 1.00, 0.20, 0.0, "duct", 0.050),
    CellKind("fibroblast", 12.0, 3.4, 0.80, 0.00, 0.0, "strands", 0.040),
    CellKind("myofibroblast", 14.0, 2.6, 0.50, 0.28, 0.0, "strands", 0.050),
    CellKind("endothelium", 9.0, 3.0, 1.05, 0.10, 0.0, "vessel", 0.050),
    CellKind("T cell", 6.5, 1.0, 1.50, 0.00, 0.0, "scattered", 0.030),
    CellKind("B cell", 7.0, 1.0, 1.15, 0.00, 0.0, "clustered", 0.030),
    CellKind("plasma cell", 8.0, 1.2, 1.20, 0.35, 0.0, "scattered", 0.090),
    CellKind("macrophage", 14.0, 1.3, 0.40, 0.10, 0.5, "scattered", 0.050),
    CellKind("adipocyte", 8.0, 2.4, 1.00, 0.00, 0.0, "septa", 0.120),
    CellKind("erythrocyte", 7.5, 1.0, 0.00, 1.60, 0.0, "blood", 0.010),
    CellKind("smooth muscle", 15.0, 4.0, 0.60, 0.40, 0.0, "strands", 0.040),
    CellKind("dying cell", 4.5, 1.0, 1.60, 0.25, 0.0, "scattered", 0.020),
)


@dataclass(frozen=True)
class Niche:
    """A type of tissue.

    `eosin` is the optical density between cells, modulated by `fibres` (0 to 1); `cells` is the
    number of cells of each kind per 10,000 square micrometres; `fat` has empty vacuoles.
    """

    eosin: float
    fibres: float
    cells: dict[str, float] = field(default_factory=dict)
    fat: bool = False


NICHES = (
    # Tumour nest, in situ ducts, dense stroma, lymphoid, fat, muscle, necrosis.
    Niche(
        0.17,
        0.15,
        {
            "tumour": 50,
            "dividing tumour": 14,
            "T cell": 5,
            "macrophage": 4,
            "endothelium": 4,
            "dying cell": 2,
            "fibroblast": 2,
        },
    ),
    Niche(
        0.22,
        0.35,
        {
            "duct epithelium": 45,
            "tumour": 5,
            "myofibroblast": 10,
            "fibroblast": 8,
            "plasma cell": 6,
            "T cell": 3,
            "endothelium": 3,
        },
    ),
    Niche(
        0.42,
        0.9,
        {
            "fibroblast": 20,
            "myofibroblast": 14,
            "macrophage": 4,
            "T cell": 3,
            "endothelium": 7,
            "erythrocyte": 18,
            "plasma cell": 3,
        },
    ),
    Niche(
        0.10,
        0.1,
        {
            "T cell": 60,
            "B cell": 70,
            "plasma cell": 14,
            "macrophage": 3,
            "endothelium": 4,
            "dying cell": 4,
            "fibroblast": 3,
        },
    ),
    Niche(
        0.22,
        0.0,
        {"adipocyte": 9, "endothelium": 3, "fibroblast": 3, "macrophage": 2, "erythrocyte": 4},
        fat=True,
    ),
    Niche(
        0.55,
        1.0,
        {"smooth muscle": 22, "endothelium": 4, "fibroblast": 4, "erythrocyte": 8, "T cell": 1},
    ),
    Niche(
        0.38, 0.2, {"dying cell": 55, "macrophage": 9, "tumour": 5, "T cell": 4, "plasma cell": 1}
    ),
)
