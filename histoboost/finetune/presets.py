"""Everything that can be chosen about the training, and the field's two recipes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from histoboost.errors import BadInput

LOSSES = ("mse", "mae", "soft-spearman")
TARGETS = ("raw", "zscore", "log", "rank")
BATCH_NORM = ("train", "frozen")
MONITORS = ("loss", "score")

#: Settings that are one of a few words.
KNOWN = {"loss": LOSSES, "target": TARGETS, "batch_norm": BATCH_NORM, "monitor": MONITORS}


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of an end-to-end model; the defaults are those of ``cnn-baseline``.

    Attributes
    ----------
    backbones : tuple of str
        One member of the ensemble each, in this order; the same name may come twice.
    weights : tuple of str
        ``"pretrained"``, ``"random"`` or a path; one for all members, or one for each.
    patch : tuple of int
        Sides of the fields of view in pixels of the slide. Each is cropped, resized and
        embedded by itself; the embeddings are concatenated.
    input_px : int or None
        Side that patches are resized to; None is the backbone's own.
    batch_norm : {"train", "frozen"}
        Whether batch norm follows the batches, or keeps the statistics it came with.
    coords : int
        Width of the MLP that reads the coordinates, scaled to 0..1 within the slide; 0 leaves
        them out.
    hidden : tuple of int
        Widths of the dense layers between the embedding and the output.
    dropout : float
        Probability, before every dense layer.
    target : {"raw", "zscore", "log", "rank"}
        What the network learns.
    loss : {"mse", "mae", "soft-spearman"}
    temperature : float
        Softness of the ranks in the soft-Spearman loss, in standard deviations of the
        prediction of a spot.
    learning_rate, weight_decay : float
        Of Adam.
    clip : float
        Largest norm of the gradient; 0 leaves it alone.
    batch_size : int
        Spots.
    epochs : int
        At most.
    epoch_spots : int
        Spots drawn anew for every epoch; 0 takes all.
    plateau_patience : int
        Epochs without improvement before the learning rate falls; 0 keeps it.
    plateau_factor : float
        What the learning rate is then multiplied by.
    patience : int
        Epochs without improvement before training stops; 0 trains all epochs.
    monitor : {"loss", "score"}
        What must improve on the stopping slide.
    flip : bool
        Horizontal and vertical flips, each with probability 1/2.
    rotation : float
        Largest angle, degrees.
    zoom, translation : float
        Largest change, as a fraction of the side.
    brightness, contrast : float
        Largest change of the factor, which is 1 at rest.
    augment_group : int
        Spots that share one draw of the augmentation; 1 draws for every spot.
    seed : int
        Of the first member; each member adds its position.
    """

    backbones: tuple[str, ...] = ("resnet18",)
    weights: tuple[str, ...] = ("pretrained",)
    patch: tuple[int, ...] = (64,)
    input_px: int | None = None
    batch_norm: str = "train"
    coords: int = 0
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    target: str = "raw"
    loss: str = "mse"
    temperature: float = 0.1
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    clip: float = 0.0
    batch_size: int = 32
    epochs: int = 30
    epoch_spots: int = 0
    plateau_patience: int = 0
    plateau_factor: float = 0.5
    patience: int = 5
    monitor: str = "loss"
    flip: bool = False
    rotation: float = 0.0
    zoom: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    translation: float = 0.0
    augment_group: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained.

        Raises
        ------
        HistoboostError
            If a name is unknown, a number out of range, or two choices do not go together.
        """
        if len(self.weights) not in (1, len(self.backbones)):
            raise BadInput(
                f"weights: {len(self.weights)} given for {len(self.backbones)} backbones; "
                "give one for all, or one for each"
            )
        for field, known in KNOWN.items():
            if getattr(self, field) not in known:
                raise BadInput(
                    f"{_flag(field)} {getattr(self, field)!r}: unknown; "
                    f"known are {', '.join(known)}"
                )
        self._check_ranges()
        if self.loss == "soft-spearman" and self.target != "rank":
            raise BadInput(
                f"loss soft-spearman with target {self.target}: this loss learns the order of the "
                "cell types and no abundances; add --target rank"
            )

    def _check_ranges(self) -> None:
        for field in ("backbones", "patch", "batch_size", "epochs", "augment_group"):
            value = getattr(self, field)
            self._refuse(
                field, "at least 1", (len(value) if isinstance(value, tuple) else value) < 1
            )
        for field, value in vars(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            negative = any(isinstance(n, int | float) and n < 0 for n in numbers)
            self._refuse(field, "0 or more", negative)
        for field in ("patch", "hidden"):
            self._refuse(field, "at least 1", 0 in getattr(self, field))
        for field in ("dropout", "plateau_factor", "zoom"):
            self._refuse(field, "below 1", getattr(self, field) >= 1)
        for field in ("temperature", "learning_rate"):
            self._refuse(field, "above 0", getattr(self, field) <= 0)
        # CNNs halve their input five times.
        self._refuse("input_px", "at least 32", self.input_px is not None and self.input_px < 32)

    def _refuse(self, field: str, bound: str, broken: bool) -> None:
        if broken:
            value = getattr(self, field)
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            raise BadInput(f"{_flag(field)} {shown}: must be {bound}")

    def weights_of(self, member: int) -> str:
        """Weights that a member of the ensemble starts from."""
        return self.weights[member if len(self.weights) > 1 else 0]

    def to_json(self) -> dict[str, Any]:
        """The settings as plain lists and numbers."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Settings:
        """The settings that `to_json` wrote."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in content.items()
        }
        return cls(**values)


def _flag(field: str) -> str:
    """A setting as the command line spells it."""
    return field.replace("_", "-")


#: The recipes of the field. What a recipe leaves open (patch sizes, learning rates, strengths of
#: the augmentations) is chosen here, and said in docs/finetune.md.
PRESETS: dict[str, Settings] = {
    "cnn-baseline": Settings(),
    "cnn-ensemble": Settings(
        backbones=("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "resnet50"),
        patch=(64, 128),
        coords=32,
        hidden=(256,),
        dropout=0.3,
        target="zscore",
        loss="mae",
        clip=1.0,
        epochs=50,
        plateau_patience=3,
        patience=8,
        flip=True,
        rotation=180.0,
        zoom=0.1,
        brightness=0.2,
        contrast=0.2,
        translation=0.1,
    ),
}


def preset(name: str, **changes: Any) -> Settings:
    """The recipe called `name`, with some settings changed.

    Raises
    ------
    HistoboostError
        If there is no such recipe or backbone, or the settings do not go together.
    """
    from histoboost.featurize.backbones.factory import architecture

    if name not in PRESETS:
        raise BadInput(f"preset {name!r}: unknown; known are {', '.join(PRESETS)}")
    settings = dataclasses.replace(PRESETS[name], **changes)
    # Now, not when the third member begins.
    for backbone in settings.backbones:
        architecture(backbone)
    return settings
