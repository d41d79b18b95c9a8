"""Plot loss curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from histoboost.finetune.train import Epoch
from histoboost.io import write_whole


def draw_curves(histories: Mapping[str, Sequence[Epoch]], path: Path) -> None:
    """Plot loss and score of every epoch to a PNG file, one row per network.

    `histories` are results of `Training.run` by the title of the network.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 2.6 * len(histories) + 0.4), layout="constrained")
    panels = figure.subplots(len(histories), 2, squeeze=False)
    for (title, rows), (losses, scores) in zip(histories.items(), panels, strict=True):
        epochs = [row["epoch"] for row in rows]
        mark = "." if len(rows) < 30 else None  # else a single epoch is invisible
        losses.plot(epochs, [row["loss"] for row in rows], marker=mark, label="training slides")
        losses.set(title=title, xlabel="epoch", ylabel="loss")
        if rows and rows[0]["score"] is not None:
            best = [row["epoch"] for row in rows if row["improved"]][-1]
            losses.plot(
                epochs, [row["stop_loss"] for row in rows], marker=mark, label="stopping slide"
            )
            scores.plot(epochs, [row["score"] for row in rows], marker=mark, color="C1")
            for panel in (losses, scores):
                panel.axvline(best, color="0.6", linewidth=1, linestyle="--")
            scores.set(
                title=f"best epoch: {best}",
                xlabel="epoch",
                ylabel="per-spot Spearman,\nstopping slide",
            )
        else:
            scores.set_axis_off()
        losses.legend(frameon=False)
        for panel in (losses, scores):
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.spines[["top", "right"]].set_visible(False)
    write_whole(path, lambda target: figure.savefig(target, dpi=120))
