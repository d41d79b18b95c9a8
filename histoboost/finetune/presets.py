"""Settings of training, and the presets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from histoboost.errors import BadInput


def _setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float = 0,
    above: float = -math.inf,
    below: float = math.inf,
    empty: bool = True,
) -> Any:
    """A field with the help text of its option and its valid values."""
    rules = {"choices": choices, "low": low, "above": above, "below": below, "empty": empty}
    return dataclasses.field(default=default, metadata={"help": help, **rules})


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of an end-to-end model; the defaults are ``cnn-baseline``.

    Every field is an option of the command line.
    """

    backbones: tuple[str, ...] = _setting(
        ("resnet18",), "Networks of the ensemble; repeats allowed.", empty=False
    )
    weights: tuple[str, ...] = _setting(
        ("pretrained",),
        "Initial weights: pretrained, random, a file, or a folder with <backbone>.pth.",
    )
    patch: tuple[int, ...] = _setting(
        (64,), "Sides of the patches, in pixels of the slide.", low=1, empty=False
    )
    # CNNs halve their input five times.
    input_px: int | None = _setting(None, "Side to which patches are resized, in pixels.", low=32)
    batch_norm: str = _setting(
        "train", "Statistics of batch norm during training.", choices=("train", "frozen")
    )
    coords: int = _setting(0, "Width of the MLP on the coordinates; 0 omits coordinates.")
    hidden: tuple[int, ...] = _setting((), "Widths of the dense layers before the output.", low=1)
    dropout: float = _setting(0.0, "Dropout probability before each dense layer.", below=1)
    target: str = _setting(
        "raw",
        "Transformation of the abundances to learn.",
        choices=("raw", "zscore", "log", "rank"),
    )
    loss: str = _setting(
        "mse",
        "Loss; soft-spearman needs --target rank.",
        choices=("mse", "mae", "soft-spearman"),
    )
    temperature: float = _setting(0.1, "Softness of the ranks in soft-spearman.", above=0)
    learning_rate: float = _setting(1e-4, "Initial learning rate of Adam.", above=0)
    weight_decay: float = _setting(0.0, "Weight decay of Adam.")
    clip: float = _setting(0.0, "Maximum norm of the gradient; 0 for no limit.")
    batch_size: int = _setting(32, "Spots per batch.", low=1)
    epochs: int = _setting(30, "Maximum number of epochs.", low=1)
    epoch_spots: int = _setting(0, "Spots drawn per epoch; 0 for all.")
    plateau_patience: int = _setting(
        0, "Epochs without improvement before the learning rate is reduced; 0 for never."
    )
    plateau_factor: float = _setting(
        0.5, "Factor that multiplies the learning rate on a plateau.", below=1
    )
    patience: int = _setting(5, "Epochs without improvement before training stops; 0 for never.")
    monitor: str = _setting(
        "loss", "Quantity that must improve on the stopping slide.", choices=("loss", "score")
    )
    flip: bool = _setting(False, "Random flips.")
    rotation: float = _setting(0.0, "Random rotation up to this angle in degrees.")
    zoom: float = _setting(0.0, "Random zoom up to this fraction.", below=1)
    brightness: float = _setting(0.0, "Random change of brightness up to this fraction.")
    contrast: float = _setting(0.0, "Random change of contrast up to this fraction.")
    translation: float = _setting(0.0, "Random shift up to this fraction of the side.")
    augment_group: int = _setting(4, "Number of spots augmented in the same way.", low=1)
    seed: int = _setting(0, "Random seed of the first network; the next ones follow.")

    def __post_init__(self) -> None:
        """Refuse invalid settings."""
        if len(self.weights) not in (1, len(self.backbones)):
            raise BadInput(
                f"weights: {len(self.weights)} given for {len(self.backbones)} backbones; "
                "give one, or one per backbone"
            )
        for field in dataclasses.fields(self):
            value, rules = getattr(self, field.name), field.metadata
            name = field.name.replace("_", "-")
            if rules["choices"] and value not in rules["choices"]:
                known = ", ".join(rules["choices"])
                raise BadInput(f"{name} {value!r}: unknown; choose one of {known}")
            values = value if isinstance(value, tuple) else (value,)
            numbers = [one for one in values if isinstance(one, int | float)]
            low, above, below = (rules[key] for key in ("low", "above", "below"))
            for broken, bound in (
                (not values and not rules["empty"], "at least 1"),
                (any(n < low for n in numbers), f"at least {low}" if low else "0 or more"),
                (any(n <= above for n in numbers), f"above {above}"),
                (any(n >= below for n in numbers), f"below {below}"),
            ):
                if broken:
                    shown = ",".join(map(str, values)) or "none"
                    raise BadInput(f"{name} {shown}: must be {bound}")
        if self.loss == "soft-spearman" and self.target != "rank":
            raise BadInput(
                f"loss soft-spearman with target {self.target}: this loss learns only the order "
                "of cell types; add --target rank"
            )

    def to_json(self) -> dict[str, Any]:
        """Convert to plain lists and numbers."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Settings:
        """Inverse of `to_json`."""
        lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
        return cls(**{**content, **lists})


#: Recipes from the literature; docs/finetune.md lists what was chosen here (patch sizes, learning
#: rates, strengths of the augmentations).
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
    """Settings of a preset, with some changed."""
    from histoboost.featurize.backbones.factory import architecture

    if name not in PRESETS:
        raise BadInput(f"preset {name!r}: unknown; choose one of {', '.join(PRESETS)}")
    settings = dataclasses.replace(PRESETS[name], **changes)
    for backbone in settings.backbones:
        architecture(backbone)  # refuse unknown ones now, not when the third member begins
    return settings
