"""Weights: read from a file or torchvision's download, and known by their content."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from histoboost.errors import BadInput, require
from histoboost.io import read_torch

#: Keys under which training frameworks keep the weights in a checkpoint.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")

#: Prefixes that wrappers of the network (DataParallel, Lightning, torch.compile) put on names.
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict; wrappers and prefixes of training frameworks are taken off.

    Raises
    ------
    HistoboostError
        If the file is missing, is no torch file, needs code to be unpickled, or holds no tensors.
    """
    content = _load(Path(path))
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not (
        isinstance(content, dict)
        and content
        and all(isinstance(value, Tensor) for value in content.values())
    ):
        raise BadInput(f"{path}: holds no weights; save the network's state_dict() with torch.save")
    return _without_prefixes(content)


@dataclass(frozen=True)
class Tuning:
    """What `finetune` notes beside the weights that it writes.

    `slides` has ``slide`` (the name), ``pixels`` and ``spots`` (digests as in recipes) of every
    slide whose abundances shaped the weights; it is empty for weights from elsewhere. `input_px` is
    the side of the patches that the network was tuned on.
    """

    slides: tuple[dict[str, str], ...] = ()
    input_px: int | None = None


def read_tuning(path: str | Path) -> Tuning:
    """What the weights file says of its own tuning."""
    content = _load(Path(path))
    tuned = content.get("tuned_on") if isinstance(content, dict) else None
    return Tuning(tuple(tuned), content.get("input_px")) if isinstance(tuned, list) else Tuning()


def _load(path: Path) -> Any:
    if not path.is_file():
        raise BadInput(f"{path}: no such weights file; give a file, or --weights pretrained|random")
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    remedy = "save the network's state_dict() with torch.save"
    return read_torch(path, "not a file of plain weights", remedy)


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    require(str(path), "safetensors", "timm")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise BadInput(f"{path}: not a safetensors file ({error}); fetch it again") from error


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = True
    while found:
        found = False
        for prefix in PREFIXES:
            if all(name.startswith(prefix) for name in state):
                state = {name.removeprefix(prefix): value for name, value in state.items()}
                found = True
    return state


def fit_weights(
    module: nn.Module, state: Mapping[str, Tensor], *, head: str, source: str, backbone: str
) -> None:
    """Load `state` into `module`, where every name and shape must fit.

    `head` is the layer that was taken off; what the file holds for it is not needed, so a network
    trained for any number of classes fits. `source` and `backbone` are for the message.
    """
    wanted = module.state_dict()
    inner = getattr(module, "network", None)
    if isinstance(inner, nn.Module) and not wanted.keys() & state.keys():
        module, wanted = inner, inner.state_dict()
    given = {name: value for name, value in state.items() if not name.startswith(f"{head}.")}
    # Older files lack the counters of batch norm, which play no part in evaluation.
    for name in wanted.keys() - given.keys():
        if name.endswith("num_batches_tracked"):
            given[name] = wanted[name]
    problems = [
        *(f"{name!r} is missing" for name in wanted if name not in given),
        *(f"{name!r} is unknown" for name in given if name not in wanted),
        *(
            f"{name!r} has shape {tuple(given[name].shape)} instead of {tuple(value.shape)}"
            for name, value in wanted.items()
            if name in given and given[name].shape != value.shape
        ),
    ]
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise BadInput(
            f"{source}: does not fit {backbone}: {problems[0]}{more}; "
            "give weights of this architecture"
        )
    module.load_state_dict(given)


def download(entry: Any, backbone: str) -> Mapping[str, Tensor]:
    """Weights that torchvision offers, from its own cache or by its own download.

    `entry` is a ``torchvision.models.WeightsEnum``. If the download fails, the error says which
    file, where to put it, and the ``--weights`` option.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / str(entry.url).rsplit("/", 1)[-1]
    # torch announces a download on both streams; off a terminal only the outcome is of interest.
    terminal = sys.stderr.isatty()
    stderr = sys.stderr if terminal else io.StringIO()
    try:
        with contextlib.redirect_stdout(stderr), contextlib.redirect_stderr(stderr):
            state: Mapping[str, Tensor] = entry.get_state_dict(progress=terminal, check_hash=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadInput(
            f"{backbone}: weights {file.name} could not be had from {entry.url} ({error}); "
            f"put the file into {folder}, or give --weights PATH"
        ) from error
    return state


#: Standard deviation of a network's output below which float16 would lose digits of it.
SMALLEST_SPREAD = 1e-2


class Scaled(nn.Module):
    """A network whose output is multiplied by a number."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network = network
        self.factor = factor

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, px, px) to (B, D)."""
        out: Tensor = self.network(pixels) * self.factor
        return out


def scaled_to_one(module: nn.Module, px: int) -> nn.Module:
    """`module`, its output scaled to a standard deviation of about 1 where it is far smaller.

    The signal shrinks layer by layer in freshly initialised deep networks, for EfficientNet down
    to 1e-14, which float16 cannot hold. Scaling inside, as batch norm would, makes such networks
    chaotic: rounding errors grow from layer to layer. So it is done once, behind the last layer,
    and by a power of ten, so that the factor is the same on every machine.
    """
    noise = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        spread = float(module(torch.randn(2, 3, px, px, generator=noise)).std())
    if not 0 < spread < SMALLEST_SPREAD:
        return module
    return Scaled(module, 10.0 ** -round(math.log10(spread)))


def unscaled(module: nn.Module) -> nn.Module:
    """The network itself, where `scaled_to_one` has wrapped it: for training."""
    return module.network if isinstance(module, Scaled) else module


def weights_digest(module: nn.Module) -> str:
    """SHA-256 of the names, shapes, types and values that the network computes with."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            array = value.detach().cpu().contiguous()
            digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
            digest.update(array.numpy().tobytes())
    return digest.hexdigest()
