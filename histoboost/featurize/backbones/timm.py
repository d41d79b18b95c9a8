"""Networks of timm and of huggingface.co: ``timm:<name>`` and ``hf-hub:<owner>/<repository>``."""

from __future__ import annotations

import contextlib
import difflib
import io
import sys
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from histoboost.errors import BadInput, require
from histoboost.featurize.backbones.base import Architecture
from histoboost.featurize.backbones.pathology import FoundationModel, foundation_model


class ClassAndMean(nn.Module):
    """The class token of a vision transformer joined to the mean of its patch tokens."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, px, px) to (B, 2 D)."""
        network = cast(Any, self.network)
        tokens = network.forward_features(pixels)
        patches = tokens[:, network.num_prefix_tokens :]
        return torch.cat([tokens[:, 0], patches.mean(1)], dim=1)


def timm_architecture(name: str) -> Architecture:
    """A network of timm, with its own input size and normalisation.

    Parameters
    ----------
    name : str
        ``timm:resnet18.a1_in1k`` or ``hf-hub:MahmoodLab/UNI``; the latter needs its configuration
        from huggingface.co, or from its cache, before it can be built at all.

    Raises
    ------
    HistoboostError
        If timm is not installed, knows no such network, or huggingface.co cannot be reached or
        refuses.
    """
    require(f"backbone {name}", "timm", "timm")
    import timm

    model = foundation_model(name)
    network = _create(name, model, pretrained=False)
    config = timm.data.resolve_model_data_config(network)
    classifier = network.pretrained_cfg.get("classifier") or "head"
    return Architecture(
        module=_pooled(network, model),
        head=classifier if isinstance(classifier, str) else classifier[0],
        layer="class+mean tokens" if model and model.class_and_mean else "pre-logits",
        input_px=int(config["input_size"][-1]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        pretrained=lambda: _create(name, model, pretrained=True).state_dict(),
        deep=_deep(network, class_and_mean=bool(model and model.class_and_mean)),
    )


def _deep(network: nn.Module, *, class_and_mean: bool) -> tuple[str, ...]:
    """A transformer's patch tokens, at its end and half-way; a CNN's strides 16, 8, 4 and 2."""
    layers = dict(network.named_modules())
    if hasattr(network, "num_prefix_tokens") and isinstance(layers.get("blocks"), nn.Sequential):
        middle = f"blocks.{len(cast(nn.Sequential, layers['blocks'])) // 2 - 1}:mean"
        return (middle,) if class_and_mean else ("norm:mean", middle)
    found = {}
    for stage in getattr(network, "feature_info", ()):
        if isinstance(stage, dict) and stage.get("module") in layers:
            found[stage["reduction"]] = stage["module"]
    poolings = ((16, "mean"), (8, "mean"), (4, "std"), (2, "std"))
    return tuple(f"{found[stride]}:{how}" for stride, how in poolings if stride in found)


def _pooled(network: nn.Module, model: FoundationModel | None) -> nn.Module:
    return ClassAndMean(network) if model and model.class_and_mean else network


def _create(name: str, model: FoundationModel | None, *, pretrained: bool) -> Any:
    import timm

    given = name.removeprefix("timm:")
    options = model.options() if model else {}
    try:
        with _quiet_hub():
            return timm.create_model(given, pretrained=pretrained, num_classes=0, **options)
    except OSError as error:  # the errors of huggingface_hub are all of this kind
        raise BadInput(_hub_line(name, error)) from error
    except (RuntimeError, ValueError, KeyError, AssertionError) as error:
        close = difflib.get_close_matches(given.split(".")[0], timm.list_models(), n=1)
        hint = f"did you mean timm:{close[0]}?" if close and "Unknown model" in str(error) else ""
        reason = str(error).split("\n")[0]
        raise BadInput(
            f"backbone {name}: timm cannot build it ({reason}); "
            f"{hint or 'timm.list_models() names what there is'}"
        ) from error


def _hub_line(name: str, error: OSError) -> str:
    from huggingface_hub import constants, errors

    repository = name.partition(":")[2]
    page = f"https://huggingface.co/{repository}"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"backbone {name}: its licence must be accepted first; do so on {page}, "
            "then run: hf auth login"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"backbone {name}: no such repository, or a private one; check {page}"
    reason = str(error).split("\n")[0].split(". ")[0]
    return (
        f"backbone {name}: could not be had from huggingface.co ({reason}); connect once, or copy "
        f"it into {constants.HF_HUB_CACHE} from a machine that has it"
    )


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    """Off a terminal, keep back the hub's progress bars and its log of retries."""
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    stderr = sys.stderr if sys.stderr.isatty() else io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            yield
    finally:
        logging.set_verbosity(verbosity)
