"""Summary of a run of `featurize`."""

from __future__ import annotations

from dataclasses import dataclass, field

from histoboost.errors import pass_on

#: Loading and unaccounted time are reported from this fraction of the total on.
VISIBLE = 0.05


@dataclass
class FeaturizeSummary:
    """Summary of a run of `featurize`.

    Attributes
    ----------
    computed, kept : int
        Patches embedded in this run, and patches whose embeddings the store already held.
    seconds : dict of str to float
        Time in ``read``, ``crop``, ``forward`` and ``write``.
    load_seconds : float
        Time to read the weights and compile the engine.
    heard : list of str
        Warnings raised in another process.
    """

    slides: list[str] = field(default_factory=list)
    embeddings: list[str] = field(default_factory=list)
    computed: int = 0
    kept: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    load_seconds: float = 0.0
    wall_seconds: float = 0.0
    engine: str = ""
    device: str = ""
    heard: list[str] = field(default_factory=list)

    def add(self, other: FeaturizeSummary) -> None:
        """Add the summary of a run over some of the slides, and repeat its warnings here."""
        pass_on(other.heard)
        self.embeddings = list(dict.fromkeys([*self.embeddings, *other.embeddings]))
        self.computed += other.computed
        self.kept += other.kept
        self.load_seconds += other.load_seconds
        self.engine = self.engine or other.engine
        if other.device not in self.device.split(", "):
            self.device = ", ".join(filter(None, (self.device, other.device)))
        for step, value in other.seconds.items():
            self.seconds[step] = self.seconds.get(step, 0.0) + value

    def __str__(self) -> str:
        """Format as one line."""
        where = f"{len(self.slides)} slide{'s' if len(self.slides) != 1 else ''}"
        if not self.embeddings:
            return f"{where}: spots and abundances stored, no embeddings requested"
        names = _without_layers(self.embeddings)
        spent = self.load_seconds + sum(self.seconds.values())
        if not self.computed:
            was = "were" if len(self.embeddings) > 1 else "was"
            return f"{where}: {names} {was} complete already; nothing computed"
        rate = self.computed / max(self.wall_seconds, 1e-9)
        line = f"{where}: {names}: {self.computed:,} patches in {self.wall_seconds:,.1f} s"
        line += f" ({rate:,.1f} patches/s, {self.engine} on {self.device}"
        total = max(self.wall_seconds, spent, 1e-9)  # several processes spend more than wall time
        if self.load_seconds >= VISIBLE * total:
            line += f", loading {self.load_seconds / total:.0%}"
        for step in ("read", "crop", "forward", "write"):
            line += f", {step} {self.seconds.get(step, 0.0) / total:.0%}"
        other = (total - spent) / total
        line += f", other {other:.0%})" if other >= VISIBLE else ")"
        was = "was" if self.kept == 1 else "were"
        return line + (f"; {self.kept:,} more {was} there already" if self.kept else "")


def _without_layers(names: list[str]) -> str:
    """Join the names of embeddings, earlier layers only counted."""
    deep = {name: [n for n in names if n.startswith(f"{name}.")] for name in names}
    nested = {name for below in deep.values() for name in below}
    return ", ".join(
        name + (f" (and {len(deep[name])} earlier layers)" if deep[name] else "")
        for name in names
        if name not in nested
    )
