"""The one table: a row is a ratio of speeds measured in one run, with both accuracies beside it."""

from __future__ import annotations

from dataclasses import dataclass

HEADER = (
    "| part | ours | against | times as fast | our accuracy | theirs | remarks |",
    "|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Row:
    """One comparison; without a `ratio`, `remarks` says why there is none."""

    part: str
    ours: str
    against: str
    #: Their time over ours: above 1, ours is the faster.
    ratio: float | None = None
    #: Least and greatest ratio over the rounds of the run, where it had several.
    spread: tuple[float, float] | None = None
    #: Per-spot and per-type Spearman.
    our_accuracy: tuple[float, float] | None = None
    their_accuracy: tuple[float, float] | None = None
    remarks: str = ""

    def markdown(self) -> str:
        """The row as a line of the table."""
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}"
        if self.spread:
            ratio += f" ({self.spread[0]:.2f} to {self.spread[1]:.2f})"
        scores = [
            "-" if score is None else f"{score[0]:.3f} / {score[1]:.3f}"
            for score in (self.our_accuracy, self.their_accuracy)
        ]
        cells = [self.part, self.ours, self.against, ratio, *scores, self.remarks]
        return f"| {' | '.join(cells)} |"
