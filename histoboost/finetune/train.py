"""Train one network; a killed training resumes exactly from its last checkpoint.

The order of the spots follows from (seed, member, epoch), augmentation and dropout from torch's
generator, whose state the checkpoint holds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from histoboost.errors import BadInput
from histoboost.finetune.augment import Augment, augmentation
from histoboost.finetune.folder import CHECKPOINT, as_written, load_tensors, save_tensors
from histoboost.finetune.losses import loss_function
from histoboost.finetune.network import CompositionNet
from histoboost.finetune.presets import Settings
from histoboost.finetune.spot_patches import SpotPatches
from histoboost.progress import Advance, progress

FORMAT = 1
#: A row of the history.
Epoch = dict[str, Any]


@dataclass(frozen=True)
class Examples:
    """Patches of spots with the network's targets, (N, T) float32."""

    patches: SpotPatches
    targets: Tensor


@dataclass
class State:
    """Progress of a training, as in checkpoints."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    spots: int = 0
    seconds: float = 0.0
    best_value: float = math.inf
    best_epoch: int = -1
    best: dict[str, Tensor] | None = None
    history: list[Epoch] = field(default_factory=list)
    saved_at: float = field(default_factory=time.monotonic)


@dataclass
class Training:
    """Training of one network, in place.

    `stop` are spots of slides outside training that stop it early and lower the learning rate; None
    trains all epochs. `score` rates the (N, T) outputs on them, larger is better. Checkpoints go to
    `folder`.
    """

    net: CompositionNet
    member: int
    settings: Settings
    train: Examples
    stop: Examples | None
    score: Callable[[NDArray[np.float32]], float]
    folder: Path
    title: str

    def __post_init__(self) -> None:
        settings = self.settings
        self.device = self.train.patches.device
        self.loss = loss_function(settings.loss, settings.temperature)
        self.optimizer = torch.optim.Adam(
            self.net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer,
            factor=settings.plateau_factor,
            # The scheduler waits for more than `patience` epochs.
            patience=(settings.plateau_patience or settings.epochs + 1) - 1,
            # A relative threshold takes a negative value for better than itself.
            threshold=0.0,
        )
        self.state = State()

    def run(
        self, checkpoint_s: float, on_epoch: Callable[[Epoch], None] = lambda row: None
    ) -> list[Epoch]:
        """Train to the end, from the last checkpoint if there is one.

        `net` ends with the weights of the best epoch, or of the last one without a stopping slide.
        A kill costs at most `checkpoint_s` seconds of work.

        Calls `on_epoch` with a row per epoch and returns all rows: ``epoch`` (from 1), ``loss``,
        ``stop_loss``, ``score``, ``learning_rate``, ``seconds``, ``improved`` (the last such epoch
        is the best one).
        """
        settings = self.settings
        with torch.random.fork_rng(devices=[self.device] if self._on_cuda else []):
            torch.manual_seed(settings.seed + self.member)
            self._resume()
            state = self.state
            augment = augmentation(settings, self.train.patches.input_px)
            per_epoch = sum(len(batch) for batch in self.batches(0))
            left = (settings.epochs - state.epoch) * per_epoch - state.spots
            with progress(self.title, left, "spots") as advance:
                while not self._finished():
                    self._train_epoch(augment, advance, checkpoint_s)
                    self._end_epoch()
                    self._save_in_time(checkpoint_s)
                    on_epoch(state.history[-1])
        if state.best is not None:
            self.net.load_state_dict(state.best)
        return state.history

    @property
    def _on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def _finished(self) -> bool:
        if self.state.epoch >= self.settings.epochs:
            return True
        waited = self.state.epoch - 1 - self.state.best_epoch
        return bool(self.stop and self.settings.patience and waited >= self.settings.patience)

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Spots of an epoch in random order, in batches of nearly equal size.

        Batch norm could not learn from a last batch of one spot.
        """
        order = np.random.default_rng([self.settings.seed, self.member, epoch])
        spots = order.permutation(len(self.train.patches))
        if self.settings.epoch_spots:
            spots = spots[: self.settings.epoch_spots]
        return np.array_split(spots, math.ceil(len(spots) / self.settings.batch_size))

    def _train_epoch(self, augment: Augment, advance: Advance, checkpoint_s: float) -> None:
        state, patches, targets = self.state, self.train.patches, self.train.targets
        self.net.train()
        began = time.monotonic()
        for spots in self.batches(state.epoch)[state.step :]:
            pixels = patches.normalise(augment(patches.crop(spots)))
            cost = self.loss(
                self.net(pixels, patches.coords(spots)),
                targets[torch.from_numpy(spots).to(targets.device)],
            )
            self.optimizer.zero_grad(set_to_none=True)
            cost.backward()  # type: ignore[no-untyped-call]
            if self.settings.clip:
                nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip)
            self.optimizer.step()
            state.step += 1
            state.loss_sum += float(cost.detach()) * len(spots)
            state.spots += len(spots)
            self._check_finite(state.loss_sum)
            now = time.monotonic()
            state.seconds, began = state.seconds + now - began, now
            self._save_in_time(checkpoint_s)
            advance(len(spots))

    def _end_epoch(self) -> None:
        began, state = time.monotonic(), self.state
        row: Epoch = {
            "epoch": state.epoch + 1,
            "loss": state.loss_sum / state.spots,
            "stop_loss": None,
            "score": None,
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "seconds": state.seconds,
            "improved": False,
        }
        if self.stop is not None:
            outputs = predict(self.net, self.stop.patches, self.settings.batch_size)
            row["stop_loss"] = float(self.loss(outputs, self.stop.targets))
            row["score"] = self.score(outputs.cpu().numpy())
            value = -row["score"] if self.settings.monitor == "score" else row["stop_loss"]
            self._check_finite(value)
            self.scheduler.step(value)
            if value < state.best_value:
                row["improved"] = True
                state.best_value, state.best_epoch = value, state.epoch
                state.best = {
                    name: tensor.detach().clone() for name, tensor in self.net.state_dict().items()
                }
        row["seconds"] += time.monotonic() - began
        state.history.append(row)
        state.epoch += 1
        state.step, state.loss_sum, state.spots, state.seconds = 0, 0.0, 0, 0.0

    def _check_finite(self, value: float) -> None:
        if not math.isfinite(value):
            raise BadInput(
                f"{self.folder}: the loss is not finite in epoch {self.state.epoch + 1}; "
                "lower --learning-rate, or set --clip"
            )

    def _identity(self) -> dict[str, Any]:
        return {"format": FORMAT, "settings": self.settings.to_json(), "member": self.member}

    def _save_in_time(self, checkpoint_s: float) -> None:
        if time.monotonic() - self.state.saved_at < checkpoint_s:
            return
        save_tensors(
            {
                **self._identity(),
                "state": vars(self.state),
                "net": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state(self.device) if self._on_cuda else None,
            },
            self.folder / CHECKPOINT,
        )
        self.state.saved_at = time.monotonic()

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        saved = load_tensors(path)
        identity = self._identity()
        if {key: saved.get(key) for key in identity} != identity:
            raise BadInput(
                f"{path}: checkpoint of a training with different settings; choose another folder"
            )
        with as_written(path):
            self.net.load_state_dict(saved["net"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scheduler.load_state_dict(saved["scheduler"])
            torch.set_rng_state(saved["random"])
            if saved["random_cuda"] is not None:
                torch.cuda.set_rng_state(saved["random_cuda"], self.device)
            # The monotonic clock of another process is not comparable.
            self.state = State(**{**saved["state"], "saved_at": time.monotonic()})


def predict(net: CompositionNet, patches: SpotPatches, batch_size: int) -> Tensor:
    """Outputs (N, T) of the network for all spots, in order; leaves it in evaluation mode."""
    net.eval()
    with torch.inference_mode():
        outputs = [
            net(patches.normalise(patches.crop(spots)), patches.coords(spots))
            for spots in np.split(
                np.arange(len(patches)), range(batch_size, len(patches), batch_size)
            )
        ]
    return torch.cat(outputs)
