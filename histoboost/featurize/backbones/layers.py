"""Several embeddings from one forward pass: the output, and poolings of earlier layers.

In ``--layers``, ``default`` is the output of the network; ``PATH:POOLING`` is a layer, named as in
``module.named_modules()``, with the pooling ``mean`` or ``std`` over all positions (patch tokens of
a vision transformer), or ``class``, the class token. ``deep`` stands for ``default`` and the deep
layers of the backbone.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from histoboost.errors import BadInput
from histoboost.featurize.backbones.base import Backbone, parse_layers


def with_layers(net: Backbone, layers: str) -> Backbone:
    """Extend `net` to return the columns of all `layers`, side by side."""
    names = parse_layers(layers, net.deep)
    if names == net.layers:
        return net
    widths(net, 64)
    as_typed = {parse_layers(name, net.deep)[-1]: name.strip() for name in layers.split(",")}
    try:
        pooled = _Pooled(net.module, names).eval()
    except _NoSuchLayer as missing:
        name = as_typed.get(missing.name, missing.name)
        if not missing.known:
            raise BadInput(
                f"--layers {name}: {net.name} has no layers to choose from; omit --layers"
            ) from missing
        close = difflib.get_close_matches(name.partition(":")[0], missing.known, n=1)
        first = ", ".join(missing.known[:3])
        hint = f"did you mean {close[0]}?" if close else f"it begins with {first}"
        raise BadInput(f"--layers {name}: the network has no such layer; {hint}") from missing
    with torch.inference_mode():
        pooled(_blank(net.input_px or 64))
    return replace(net, module=pooled, layers=names)


def widths(net: Backbone, px: int) -> list[int]:
    """Number of columns of each layer, for patches of `px` pixels."""
    with torch.inference_mode():
        out = net.module(_blank(net.input_px or min(px, 512)))
    if not isinstance(out, Tensor) or out.ndim != 2:
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise BadInput(
            f"backbone {net.name}: returns {shape} for one patch instead of one row; "
            "take a network that ends in a pooling"
        )
    return columns_of(net) or [out.shape[1]]


def columns_of(net: Backbone) -> list[int]:
    """Number of columns of each layer; empty if `default` is the only one."""
    return list(net.module.widths) if isinstance(net.module, _Pooled) else []


def _blank(px: int) -> Tensor:
    return torch.zeros(1, 3, px, px)


class _NoSuchLayer(LookupError):
    """The network has no layer of this name; `known` are those that it has."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(name)
        self.name, self.known = name, known


class _Tap(nn.Module):
    """A layer that keeps its pooled output."""

    def __init__(self, layer: nn.Module, name: str, network: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.value: Tensor | None = None
        self._name, self._pooling = name, name.partition(":")[2]
        self._prefix = _prefix_tokens(network)
        self._last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
        self._ndim = 0  # set by the first pass: a tracer cannot branch on it

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = self.layer(*args, **kwargs)
        if not self._ndim:
            self._check(out)
        self.value = self._pooled(out)
        return out

    def _check(self, out: Any) -> None:
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        takes = {2: ("mean",), 3: ("mean", "std", "class"), 4: ("mean", "std")}
        if not isinstance(out, Tensor) or self._pooling not in takes.get(out.ndim, ()):
            raise BadInput(f"--layers {self._name}: of an output {shape} there is no such pooling")
        self._ndim = out.ndim

    def _pooled(self, out: Tensor) -> Tensor:
        if self._ndim == 2:
            return out.float()
        if self._pooling == "class":
            return out[:, 0].float()
        values = out[:, self._prefix :].float() if self._ndim == 3 else out.float()
        over = [1] if self._ndim == 3 else [1, 2] if self._last else [2, 3]
        mean = values.mean(over, keepdim=True)
        if self._pooling == "mean":
            return mean.flatten(1)
        return (values - mean).square().mean(over).sqrt()


class _Pooled(nn.Module):
    """A network whose output is joined to the pooled outputs of its layers."""

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.widths: list[int] = []
        self._taps: list[_Tap | None] = []
        for name in layers:
            tap = None
            if name != "default":
                network, tap = _tapped(network, name.partition(":")[0].split("."), name, network)
            self._taps.append(tap)
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, px, px) to (B, D)."""
        out = self.network(pixels)
        parts = [out if tap is None else cast(Tensor, tap.value) for tap in self._taps]
        if not self.widths:
            self.widths = [part.shape[1] for part in parts]
        return torch.cat(parts, dim=1)


def _prefix_tokens(network: nn.Module) -> int:
    """Number of a transformer's tokens before the patches: class and registers."""
    own: int = getattr(network, "num_prefix_tokens", 0)
    inner = getattr(network, "network", None)
    return own or (_prefix_tokens(inner) if isinstance(inner, nn.Module) else 1)


def _tapped(
    module: nn.Module, steps: Sequence[str], name: str, network: nn.Module
) -> tuple[nn.Module, _Tap]:
    """Put a tap on the layer at the path `steps`; copies the modules on the way."""
    if not steps:
        tap = _Tap(module, name, network)
        return tap, tap
    inside = "layer" if isinstance(module, _Tap) else "network"
    if steps[0] in module._modules and not isinstance(module, _Tap):
        inside, steps = steps[0], steps[1:]
    elif inside not in module._modules:  # "network" is the inner module of a wrapper
        known = [p.removeprefix("network.") for p, _ in network.named_modules() if p]
        raise _NoSuchLayer(name, known)
    child, tap = _tapped(cast(nn.Module, module._modules[inside]), steps, name, network)
    # A tap must not be copied: it is known by its identity.
    whole = module if isinstance(module, _Tap) else copy.copy(module)
    whole._modules = {**module._modules, inside: child}
    return whole, tap
