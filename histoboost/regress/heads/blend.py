"""The `blend` head: several heads, weighted by what they do on inner folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from histoboost.regress.heads.base import (
    Array,
    Arrays,
    Fitted,
    Matrix,
    Training,
    make_head,
    register,
)

MEMBERS = ("lightgbm", "kernel")
#: Shares of the first member that are tried.
SHARES = np.linspace(0, 1, 11)


@dataclass(frozen=True, eq=False)
class Blend:
    """Weighted mean of the members' predictions, which share the target's unit."""

    members: tuple[Fitted, ...]
    shares: tuple[float, ...]

    def predict(self, values: Matrix) -> Array:
        """See `Fitted`."""
        parts = [
            share * member.predict(values)
            for member, share in zip(self.members, self.shares, strict=True)
        ]
        return np.asarray(np.sum(parts, axis=0))

    def importance(self) -> Array | None:
        """Of the members that can tell, by their share."""
        known = [
            (share, importance)
            for member, share in zip(self.members, self.shares, strict=True)
            if (importance := member.importance()) is not None
        ]
        total = sum(share for share, _ in known)
        return np.asarray(sum(s * i for s, i in known) / total) if total > 0 else None

    def to_files(self) -> tuple[dict[str, Any], dict[str, str], Arrays]:
        """Those of the members, their names prefixed by the member's."""
        fields: dict[str, Any] = {"shares": list(self.shares), "members": {}}
        texts: dict[str, str] = {}
        arrays: Arrays = {}
        for name, member in zip(MEMBERS, self.members, strict=True):
            own_fields, own_texts, own_arrays = member.to_files()
            fields["members"][name] = own_fields
            texts |= {f"{name}-{key}": text for key, text in own_texts.items()}
            arrays |= {f"{name}-{key}": array for key, array in own_arrays.items()}
        return fields, texts, arrays


@register("blend")
class BlendHead:
    """LightGBM and kernel ridge, in the proportion that suits the inner folds best."""

    def fit(self, training: Training) -> Fitted:
        """See `Head`."""
        members = tuple(make_head(name).fit(_own_options(training, name)) for name in MEMBERS)
        share = _choose_share(training)
        return Blend(members, (share, 1.0 - share))

    def load(self, fields: Mapping[str, Any], texts: Mapping[str, str], arrays: Arrays) -> Blend:
        """See `Head`."""
        shares = tuple(float(share) for share in fields["shares"])
        if len(shares) != len(MEMBERS):
            raise ValueError("a blend has as many shares as members")
        members = tuple(
            make_head(name).load(
                fields["members"][name], _with_prefix(texts, name), _with_prefix(arrays, name)
            )
            for name in MEMBERS
        )
        return Blend(members, shares)


def _own_options(training: Training, name: str) -> Training:
    return training if name == "lightgbm" else replace(training, options={})


def _with_prefix(items: Mapping[str, Any], name: str) -> dict[str, Any]:
    start = f"{name}-"
    return {key[len(start) :]: item for key, item in items.items() if key.startswith(start)}


def _choose_share(training: Training) -> float:
    """Share of the first member with the least squared error on held-out groups.

    One half where there is one group only. Squared error of the target is what the members learn;
    choosing by it keeps one slide's correlation from deciding.
    """
    folds = training.inner_folds()
    if len(folds) < 2:
        return 0.5
    errors = np.zeros(len(SHARES))
    for rest, held in folds:
        fitted = [make_head(name).fit(_own_options(rest, name)) for name in MEMBERS]
        errors += _errors(fitted, training, held)
    return float(SHARES[int(np.argmin(errors))])


def _errors(members: Sequence[Fitted], training: Training, held: Sequence[int]) -> Array:
    first, second = (
        np.concatenate([member.predict(training.blocks[i]) for i in held]) for member in members
    )
    true = np.concatenate([training.targets[i] for i in held])
    return np.array([np.mean((s * first + (1 - s) * second - true) ** 2) for s in SHARES])
