"""What a run of `featurize` did, in one line."""

from __future__ import annotations

from dataclasses import dataclass, field

from histoboost.errors import pass_on


@dataclass
class FeaturizeSummary:
    """What a run of `featurize` did.

    Attributes
    ----------
    slides : list of str
    embeddings : list of str
    computed : int
        Patches embedded in this run.
    kept : int
        Patches whose embedding the store held already.
    seconds : dict of str to float
        Time in ``read``, ``crop``, ``forward`` and ``write``.
    wall_seconds : float
    engine, device : str
    heard : list of str
        What another process had to warn of.
    """

    slides: list[str] = field(default_factory=list)
    embeddings: list[str] = field(default_factory=list)
    computed: int = 0
    kept: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    wall_seconds: float = 0.0
    engine: str = ""
    device: str = ""
    heard: list[str] = field(default_factory=list)

    def add(self, other: FeaturizeSummary) -> None:
        """Count in what a run over some of the slides did, and repeat its warnings here."""
        pass_on(other.heard)
        self.computed += other.computed
        self.kept += other.kept
        self.engine = self.engine or other.engine
        if other.device not in self.device.split(", "):
            self.device = ", ".join(filter(None, (self.device, other.device)))
        for step, value in other.seconds.items():
            self.seconds[step] = self.seconds.get(step, 0.0) + value

    def __str__(self) -> str:
        """One line for people."""
        where = f"{len(self.slides)} slides"
        if not self.embeddings:
            return f"{where}: spots and abundances stored, no embeddings asked for"
        names = ", ".join(self.embeddings)
        if not self.computed:
            return f"{where}: {names} were complete already; nothing computed"
        rate = self.computed / max(self.wall_seconds, 1e-9)
        line = f"{where}: {names}: {self.computed:,} patches in {self.wall_seconds:,.1f} s"
        line += f" ({rate:,.1f} patches/s, {self.engine} on {self.device}"
        # Several processes spend more seconds than the clock on the wall shows.
        everything = max(self.wall_seconds, sum(self.seconds.values()))
        for step in ("read", "crop", "forward", "write"):
            share = self.seconds.get(step, 0.0) / max(everything, 1e-9)
            line += f", {step} {share:.0%}"
        line += ")"
        return line + (f"; {self.kept:,} were there already" if self.kept else "")
