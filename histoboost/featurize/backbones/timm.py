"""Build networks of timm and huggingface.co: ``timm:<name>``, ``hf-hub:<owner>/<repository>``."""

from __future__ import annotations

import contextlib
import difflib
import io
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import nn

from histoboost.errors import BadInput, require, warn
from histoboost.featurize.backbones import poolings, weights
from histoboost.featurize.backbones.base import Architecture
from histoboost.featurize.backbones.checkpoints import for_timm
from histoboost.featurize.backbones.foundation_model import (
    NORMALISATIONS,
    POOLINGS,
    FoundationModel,
)

#: Names of weights files in a repository, in the order they are tried.
FILES = ("model.safetensors", "pytorch_model.bin")


def timm_architecture(name: str) -> Architecture:
    """Build a network of timm, or of huggingface.co in timm's format, with its own configuration.

    Warns of ``hf-hub:<owner>/<repository>``: its configuration may not be that of its training.
    """
    require(f"backbone {name}", "timm", "timm")
    import timm

    network = _create(name, pretrained=False)
    config = timm.data.resolve_model_data_config(network)
    if name.startswith("hf-hub:"):
        warn(
            f"backbone {name}: not on the list of `histoboost backbones`; takes its configuration, "
            f"mean {_numbers(config['mean'])} and standard deviation {_numbers(config['std'])}, "
            "and bilinear resizing; compare with its authors' page"
        )
    classifier = network.pretrained_cfg.get("classifier") or "head"
    return Architecture(
        module=network,
        head=classifier if isinstance(classifier, str) else classifier[0],
        layer="pre-logits",
        input_px=int(config["input_size"][-1]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        pretrained=lambda: _create(name, pretrained=True).state_dict(),
        deep=_deep_layers(network, ends_in_mean=False),
    )


def listed_architecture(model: FoundationModel, **smaller: Any) -> Architecture:
    """Build a listed pathology model from timm's parts, without huggingface.co.

    `smaller` overrides arguments of its network, for tests.
    """
    require(f"backbone {model.short}", "timm", "timm")
    import timm
    from timm.layers import SwiGLUPacked

    gated = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU} if model.swiglu else {}
    network = timm.create_model(
        model.architecture, num_classes=0, **{**model.arguments, **gated, **smaller}
    )
    module = _add_pooling(network, model)
    mean, std = NORMALISATIONS[model.normalisation]
    return Architecture(
        module=module,
        head="head",
        layer=POOLINGS[model.pooling],
        input_px=model.input_px,
        mean=mean,
        std=std,
        interpolation=model.interpolation,
        pretrained=lambda: weights.read_weights(_fetch(model)),
        convert=partial(for_timm, module=module),
        deep=_deep_layers(network, ends_in_mean=isinstance(module, poolings.ClassAndMean)),
    )


def _add_pooling(network: nn.Module, model: FoundationModel) -> nn.Module:
    tokens = cast(Any, network).embed_dim
    if model.pooling == "class token and mean of patch tokens":
        return poolings.ClassAndMean(network)
    if model.pooling == "attention pooling":
        kind = poolings.JointPool if model.name == "CONCH" else poolings.SplitPool
        return poolings.AttentionPooled(network, kind(model.width, tokens), model.width)
    if model.pooling == "projected class token, of length 1":
        return poolings.Projected(network, tokens, model.width)
    return network


def _deep_layers(network: nn.Module, *, ends_in_mean: bool) -> tuple[str, ...]:
    """A transformer's patch tokens at its end and half-way; a CNN's strides 16, 8, 4 and 2."""
    layers = dict(network.named_modules())
    if hasattr(network, "num_prefix_tokens") and isinstance(layers.get("blocks"), nn.Sequential):
        middle = f"blocks.{len(cast(nn.Sequential, layers['blocks'])) // 2 - 1}:mean"
        return (middle,) if ends_in_mean else ("norm:mean", middle)
    found = {}
    for stage in getattr(network, "feature_info", ()):
        if isinstance(stage, dict) and stage.get("module") in layers:
            found[stage["reduction"]] = stage["module"]
    how_pooled = ((16, "mean"), (8, "mean"), (4, "std"), (2, "std"))
    return tuple(f"{found[stride]}:{how}" for stride, how in how_pooled if stride in found)


def _create(name: str, *, pretrained: bool) -> Any:
    import timm

    given = name.removeprefix("timm:")
    try:
        with _quiet():
            return timm.create_model(given, pretrained=pretrained, num_classes=0)
    except OSError as error:  # all errors of huggingface_hub are OSErrors
        raise BadInput(_why_not(name, error)) from error
    except (RuntimeError, ValueError, KeyError, AssertionError) as error:
        close = difflib.get_close_matches(given.split(".")[0], timm.list_models(), n=1)
        hint = f"did you mean timm:{close[0]}?" if close and "Unknown model" in str(error) else ""
        reason = str(error).split("\n")[0]
        raise BadInput(
            f"backbone {name}: timm cannot build it ({reason}); "
            f"{hint or 'timm.list_models() names what there is'}"
        ) from error


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _fetch(model: FoundationModel) -> Path:
    """Path of the weights file of a model; downloads it if the cache does not hold it."""
    from huggingface_hub import errors, hf_hub_download

    failure: OSError | None = None
    for file in (model.file,) if model.file else FILES:
        try:
            with _quiet():
                return Path(hf_hub_download(model.repository, file, revision=model.revision))
        except errors.EntryNotFoundError as error:  # try the next
            failure = failure or error
        except OSError as error:  # all errors of huggingface_hub are OSErrors
            failure = error
            break
    assert failure is not None
    raise BadInput(_why_not(model.backbone, failure, model.revision)) from failure


def _why_not(name: str, error: OSError, revision: str | None = None) -> str:
    """Explain in one line why ``hf-hub:<repository>`` could not be fetched, and what to do."""
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
    at = f" at revision {revision[:8]}" if revision else ""
    return (
        f"backbone {name}: could not be fetched from huggingface.co{at} ({reason}); connect once, "
        f"copy it into {constants.HF_HUB_CACHE} from a machine that has it, or give --weights FILE"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the hub's progress bars and retries, unless on a terminal."""
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    stderr = sys.stderr if sys.stderr.isatty() else io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            yield
    finally:
        logging.set_verbosity(verbosity)
