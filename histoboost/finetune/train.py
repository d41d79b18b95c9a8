"""Train one network; a killed training continues where its last checkpoint was.

Two ideas. Everything random after a checkpoint follows from what the checkpoint holds: the order
of the spots from (seed, member, epoch), augmentation and dropout from the saved state of torch's
generator. And a finished training is a file that is written last, in one step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from histoboost.errors import BadInput
from histoboost.finetune.augment import Augment, augmentation
from histoboost.finetune.checkpoint import load_tensors, save_tensors
from histoboost.finetune.losses import Loss, loss_function
from histoboost.finetune.network import CompositionNet
from histoboost.finetune.presets import Settings
from histoboost.finetune.spot_patches import SpotPatches
from histoboost.progress import Advance, progress

FORMAT = 1

#: Of a training that is under way.
CHECKPOINT = "checkpoint.pt"

#: A row of the history.
Epoch = dict[str, Any]


@dataclass(frozen=True)
class Examples:
    """Spots and what the network should say of them.

    Attributes
    ----------
    patches : SpotPatches
    targets : Tensor of shape (N, T), float32
        In the units that the network learns, on the device of `patches`.
    """

    patches: SpotPatches
    targets: Tensor


@dataclass
class State:
    """How far a training has come."""

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


@dataclass(frozen=True)
class Training:
    """One network with all that its training needs.

    Attributes
    ----------
    net : CompositionNet
        On the device of the examples; trained in place.
    member : int
        Position in the ensemble.
    settings : Settings
    train : Examples
    stop : Examples or None
        Spots of whole slides that training does not see: they end it and lower the learning
        rate. None trains all epochs.
    score : callable
        (N, T) outputs on the spots of `stop` to one number, larger is better.
    folder : Path
        Where checkpoints go.
    checkpoint_s : float
        Seconds between two checkpoints; a kill costs no more work than this.
    title : str
        What the progress bar says.
    on_epoch : callable
        Called with the row of the history after every epoch.
    """

    net: CompositionNet
    member: int
    settings: Settings
    train: Examples
    stop: Examples | None
    score: Callable[[NDArray[np.float32]], float]
    folder: Path
    checkpoint_s: float
    title: str
    on_epoch: Callable[[Epoch], None]

    def run(self) -> list[Epoch]:
        """Train to the end, from the last checkpoint where there is one.

        Afterwards `net` holds the weights of the best epoch, or of the last one where there is
        no stopping slide.

        Returns
        -------
        list of dict
            One row per epoch: ``epoch`` (from 1), ``loss``, ``stop_loss``, ``score``,
            ``learning_rate``, ``seconds``, ``improved`` (the last such epoch is the one kept).

        Raises
        ------
        HistoboostError
            If the loss is not finite any more, or a checkpoint is damaged or of other settings.
        """
        settings = self.settings
        optimizer = torch.optim.Adam(
            self.net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            factor=settings.plateau_factor,
            # The scheduler waits for more than `patience` epochs.
            patience=(settings.plateau_patience or settings.epochs + 1) - 1,
            # A relative threshold takes a negative value for better than itself.
            threshold=0.0,
        )
        device = self.train.patches.device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(settings.seed + self.member)
            state = self._resume(optimizer, scheduler)
            augment = augmentation(settings, self.train.patches.input_px)
            loss = loss_function(settings.loss, settings.temperature)
            with progress(self.title, self._spots_left(state), "spots") as advance:
                while not self._finished(state):
                    self._train_epoch(state, optimizer, scheduler, loss, augment, advance)
                    self._end_epoch(state, scheduler, loss)
                    self._save_in_time(state, optimizer, scheduler)
                    self.on_epoch(state.history[-1])
        if state.best is not None:
            self.net.load_state_dict(state.best)
        return state.history

    def _spots_left(self, state: State) -> int:
        per_epoch = sum(len(batch) for batch in self._batches(0))
        return (self.settings.epochs - state.epoch) * per_epoch - state.spots

    def _finished(self, state: State) -> bool:
        if state.epoch >= self.settings.epochs:
            return True
        waited = state.epoch - 1 - state.best_epoch
        return bool(self.stop and self.settings.patience and waited >= self.settings.patience)

    def _train_epoch(
        self,
        state: State,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
        loss: Loss,
        augment: Augment,
        advance: Advance,
    ) -> None:
        source, targets = self.train.patches, self.train.targets
        self.net.train()
        began = time.monotonic()
        for spots in self._batches(state.epoch)[state.step :]:
            patches = source.normalise(augment(source.crop(spots)))
            cost = loss(
                self.net(patches, source.coords(spots)),
                targets[torch.from_numpy(spots).to(targets.device)],
            )
            optimizer.zero_grad(set_to_none=True)
            cost.backward()  # type: ignore[no-untyped-call]
            if self.settings.clip:
                nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip)
            optimizer.step()
            state.step += 1
            state.loss_sum += float(cost.detach()) * len(spots)
            state.spots += len(spots)
            self._check_finite(state.loss_sum, state)
            now = time.monotonic()
            state.seconds, began = state.seconds + now - began, now
            self._save_in_time(state, optimizer, scheduler)
            advance(len(spots))

    def _batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """The spots of an epoch in random order, in batches of nearly equal size.

        Equal sizes, because batch norm cannot learn from a last batch of one spot.
        """
        order = np.random.default_rng([self.settings.seed, self.member, epoch])
        spots = order.permutation(len(self.train.patches))
        if self.settings.epoch_spots:
            spots = spots[: self.settings.epoch_spots]
        return np.array_split(spots, math.ceil(len(spots) / self.settings.batch_size))

    def _end_epoch(self, state: State, scheduler: Any, loss: Loss) -> None:
        began = time.monotonic()
        row: Epoch = {
            "epoch": state.epoch + 1,
            "loss": state.loss_sum / state.spots,
            "stop_loss": None,
            "score": None,
            "learning_rate": float(scheduler.optimizer.param_groups[0]["lr"]),
            "seconds": state.seconds,
            "improved": False,
        }
        if self.stop is not None:
            outputs = predict(self.net, self.stop.patches, self.settings.batch_size)
            row["stop_loss"] = float(loss(outputs, self.stop.targets))
            row["score"] = self.score(outputs.cpu().numpy())
            value = -row["score"] if self.settings.monitor == "score" else row["stop_loss"]
            self._check_finite(value, state)
            scheduler.step(value)
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

    def _check_finite(self, value: float, state: State) -> None:
        if not math.isfinite(value):
            raise BadInput(
                f"{self.folder}: the loss is not finite in epoch {state.epoch + 1}; "
                "lower --learning-rate, or set --clip"
            )

    def _save_in_time(self, state: State, optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
        if time.monotonic() - state.saved_at < self.checkpoint_s:
            return
        device = self.train.patches.device
        on_cuda = device.type == "cuda"
        save_tensors(
            {
                "format": FORMAT,
                "settings": self.settings.to_json(),
                "member": self.member,
                "state": vars(state),
                "net": self.net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state(device) if on_cuda else None,
            },
            self.folder / CHECKPOINT,
        )
        state.saved_at = time.monotonic()

    def _resume(self, optimizer: torch.optim.Optimizer, scheduler: Any) -> State:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return State()
        saved = load_tensors(path)
        if (saved.get("format"), saved.get("settings"), saved.get("member")) != (
            FORMAT,
            self.settings.to_json(),
            self.member,
        ):
            raise BadInput(
                f"{path}: belongs to a training with other settings; give another folder"
            )
        self.net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])
        scheduler.load_state_dict(saved["scheduler"])
        torch.set_rng_state(saved["random"])
        if saved["random_cuda"] is not None:
            torch.cuda.set_rng_state(saved["random_cuda"], self.train.patches.device)
        # The clock of another process, or of another boot, says nothing here.
        return State(**{**saved["state"], "saved_at": time.monotonic()})


def predict(net: CompositionNet, patches: SpotPatches, batch_size: int) -> Tensor:
    """Outputs of the network for all spots, in order.

    Parameters
    ----------
    net : CompositionNet
        On the device of `patches`; is in evaluation mode afterwards.
    patches : SpotPatches
        What it looks at.
    batch_size : int
        Spots that are held at once.

    Returns
    -------
    Tensor of shape (N, T), float32, on the device of `patches`
        In the units that the network learned.
    """
    net.eval()
    with torch.inference_mode():
        outputs = [
            net(patches.normalise(patches.crop(spots)), patches.coords(spots))
            for spots in _in_order(len(patches), batch_size)
        ]
    return torch.cat(outputs)


def _in_order(n: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, n, batch_size):
        yield np.arange(start, min(start + batch_size, n))
