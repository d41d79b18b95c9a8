"""Read, download, fit and identify weights."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from histoboost.errors import BadInput, require
from histoboost.io import read_torch

#: Keys of the weights in checkpoints of training frameworks.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")

#: Prefixes that DataParallel, Lightning or torch.compile add to names.
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict, without the wrappers and prefixes of training frameworks."""
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


def read_tuning(path: str | Path) -> tuple[tuple[dict[str, str], ...], int | None]:
    """Slides that `finetune` tuned the weights on, and the side of their patches as resized.

    Slides have ``slide`` (the name), ``pixels`` and ``spots`` (digests as in recipes); weights from
    elsewhere have none.
    """
    content = _load(Path(path))
    tuned_on = content.get("tuned_on") if isinstance(content, dict) else None
    if not isinstance(tuned_on, list):
        return (), None
    return tuple(tuned_on), content.get("input_px")


def _load(path: Path) -> Any:
    if not path.is_file():
        raise BadInput(f"{path}: no such weights file; give a file, or --weights pretrained|random")
    if path.suffix != ".safetensors":
        remedy = "save the network's state_dict() with torch.save"
        return read_torch(path, "not a file of plain weights", remedy)
    require(str(path), "safetensors", "timm")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise BadInput(f"{path}: not a safetensors file ({error}); fetch it again") from error


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def fit_weights(
    module: nn.Module, state: Mapping[str, Tensor], *, head: str, source: str, backbone: str
) -> None:
    """Load `state` into `module`; all names and shapes must fit, except the removed `head`.

    `source` and `backbone` are for the message.
    """
    wanted = module.state_dict()
    inner = getattr(module, "network", None)
    if isinstance(inner, nn.Module) and not wanted.keys() & state.keys():
        module, wanted = inner, inner.state_dict()
    given = {name: value for name, value in state.items() if not name.startswith(f"{head}.")}
    # Older files lack the counters of batch norm, which evaluation does not use.
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
    """Load a ``torchvision.models.WeightsEnum`` from torchvision's cache, or download it."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / str(entry.url).rsplit("/", 1)[-1]
    # torch announces a download on both streams; hide that unless on a terminal.
    terminal = sys.stderr.isatty()
    stderr = sys.stderr if terminal else io.StringIO()
    try:
        with contextlib.redirect_stdout(stderr), contextlib.redirect_stderr(stderr):
            state: Mapping[str, Tensor] = entry.get_state_dict(progress=terminal, check_hash=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadInput(
            f"{backbone}: weights {file.name} could not be fetched from {entry.url} ({error}); "
            f"put the file into {folder}, or give --weights PATH"
        ) from error
    return state


#: Standard deviation of a network's output below which float16 would lose digits.
SMALLEST_SPREAD = 1e-2


class Scaled(nn.Module):
    """A network whose output is multiplied by a constant."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network = network
        self.factor = factor

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, px, px) to (B, D)."""
        out: Tensor = self.network(pixels) * self.factor
        return out


def scaled_to_one(module: nn.Module, px: int) -> nn.Module:
    """Scale the output of a freshly initialised network to a standard deviation of about 1.

    The signal shrinks from layer to layer, for EfficientNet down to 1e-14, which float16 cannot
    hold. Scaling inside, like batch norm, would amplify rounding errors, so the output is scaled
    once, by a power of ten, which is the same on every machine.
    """
    noise = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        spread = float(module(torch.randn(2, 3, px, px, generator=noise)).std())
    if not 0 < spread < SMALLEST_SPREAD:
        return module
    return Scaled(module, 10.0 ** -round(math.log10(spread)))


def weights_digest(module: nn.Module) -> str:
    """SHA-256 of names, shapes, dtypes and values of the weights."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            array = value.detach().cpu().contiguous()
            digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
            digest.update(array.numpy().tobytes())
    return digest.hexdigest()
