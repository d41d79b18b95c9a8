"""Any sequence of operations leaves the same content as in a plain dictionary."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from histoboost.cache import index
from histoboost.cache.store import EmbeddingStore, Recipe, SpotTable
from histoboost.errors import HistoboostError

N, D = 1100, 2  # two chunks
SLIDES = st.sampled_from(["S_2", "S_1"])
NAMES = st.sampled_from(["a@1", "b@2"])
SEEDS = st.integers(0, 1)


def rows(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((N, D)).astype(np.float16)


def table(slide: str) -> SpotTable:
    xy = np.arange(2 * N, dtype=float).reshape(N, 2)
    return SpotTable(slide, xy, tuple(map(str, range(N))), group=slide)


class Killed(BaseException):
    """Stands for SIGKILL."""


class StoreMachine(RuleBasedStateMachine):
    """A store, and dictionaries of its expected content."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = EmbeddingStore(self.folder / "store")
        self.slides: list[str] = []
        self.units: dict[tuple[str, str], int] = {}
        self.staged: dict[tuple[str, str, int], int] = {}

    def teardown(self):
        shutil.rmtree(self.folder)

    def seed_of(self, name: str) -> int | None:
        """Seed of an embedding, the same on all slides, as in a recipe."""
        return next((seed for (_, other), seed in self.units.items() if other == name), None)

    @rule(slide=SLIDES)
    def write_spots(self, slide):
        self.store.write_spots(table(slide))
        if slide not in self.slides:
            self.slides.append(slide)

    @precondition(lambda self: self.slides)
    @rule(slide=SLIDES, name=NAMES, seed=SEEDS, chunks=st.integers(0, 2), publish=st.booleans())
    def write(self, slide, name, seed, chunks, publish):
        if slide not in self.slides:
            return
        taken = self.seed_of(name)
        if taken is not None and taken != seed:
            with pytest.raises(HistoboostError, match="different recipe"):
                self.store.writer(slide, name, Recipe({"seed": seed}), N, D)
            return
        writer = self.store.writer(slide, name, Recipe({"seed": seed}), N, D)
        assert writer.published == ((slide, name) in self.units)
        if writer.published:
            assert writer.missing == []
            assert writer.publish() is False
            self.staged.pop((slide, name, seed), None)  # leftovers of a dead process
            return
        staged = self.staged.get((slide, name, seed), 0)
        assert len(writer.missing) == 2 - staged
        for part in writer.missing[:chunks]:
            writer.write(part, rows(seed)[part])
        staged = min(2, staged + chunks)
        self.staged[slide, name, seed] = staged
        if publish and staged == 2:
            assert writer.publish() is True
            self.units[slide, name] = seed
            del self.staged[slide, name, seed]
        elif publish:
            with pytest.raises(HistoboostError, match="chunks are missing"):
                writer.publish()

    @precondition(lambda self: self.slides)
    @rule(
        slide=SLIDES,
        name=NAMES,
        call=st.sampled_from(["rename", "link", "fsync", "replace"]),
        nth=st.integers(0, 3),
    )
    def die_while_publishing(self, slide, name, call, nth):
        """Kill a process during publication."""
        if slide not in self.slides or self.seed_of(name) == 1 or (slide, name) in self.units:
            return
        writer = self.store.writer(slide, name, Recipe({"seed": 0}), N, D)
        for part in writer.missing:
            writer.write(part, rows(0)[part])
        self.staged[slide, name, 0] = 2
        calls = iter(range(nth))

        def dying(*args, **kwargs):
            if next(calls, None) is None:
                raise Killed
            return original(*args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            original = getattr(shutil.os, call)
            patch.setattr(f"histoboost.cache.local.os.{call}", dying)
            # A dead process cleans up nothing.
            patch.setattr("histoboost.cache.local.shutil.rmtree", lambda *a, **k: None)
            with contextlib.suppress(Killed):
                writer.publish()
            writer._hold.release()  # the kernel does
        if (slide, name) in self.visible():
            self.units[slide, name] = 0
        if not self.holds_staged(slide, name):
            del self.staged[slide, name, 0]

    @rule(slide=SLIDES, name=NAMES)
    def read(self, slide, name):
        if (slide, name) in self.units:
            expected = rows(self.units[slide, name])
            np.testing.assert_array_equal(self.store.read(slide, name), expected)
            assert self.store.width(slide, name) == D
        else:
            with pytest.raises(HistoboostError, match="no slide|no embedding"):
                self.store.read(slide, name)

    @precondition(lambda self: self.units)
    @rule(name=NAMES, slide=st.none() | SLIDES)
    def remove(self, name, slide):
        affected = [s for s, n in self.units if n == name and slide in (None, s)]
        if affected:
            assert sorted(self.store.remove(name, slide)) == sorted(affected)
            for each in affected:
                del self.units[each, name]
        else:
            with pytest.raises(HistoboostError, match="no embedding|no slide"):
                self.store.remove(name, slide)

    @precondition(lambda self: self.slides)
    @rule(slide=SLIDES)
    def remove_slide(self, slide):
        if slide in self.slides:
            assert self.store.remove(slide=slide) == [slide]
            self.slides.remove(slide)
            self.units = {key: seed for key, seed in self.units.items() if key[0] != slide}

    @precondition(lambda self: self.slides)
    @rule()
    def import_arrays(self):
        made = self.folder / "arrays"
        made.mkdir(exist_ok=True)
        for path in made.iterdir():
            path.unlink()
        for slide in self.slides:
            np.save(made / f"{slide}.npy", rows(9))
        stored = self.store.import_arrays("imported", made)
        assert sorted(stored) == sorted(
            slide for slide in self.slides if (slide, "imported") not in self.units
        )
        self.units.update({(slide, "imported"): 9 for slide in self.slides})

    @precondition(lambda self: self.units)
    @rule(which=st.integers(0, 9), chunk=st.integers(0, 1), cut=st.booleans())
    def damage_and_repair(self, which, chunk, cut):
        (slide, name), seed = sorted(self.units.items())[which % len(self.units)]
        if name == "imported":
            return
        path = self.folder / f"store/slides/{slide}/obsm/{name}/c/{chunk}/0"
        path.write_bytes(path.read_bytes()[:-7] + (b"" if cut else b"7654321"))
        with pytest.raises(HistoboostError, match=f"chunk {chunk} "):
            self.store.read(slide, name)
        (damage,) = self.store.verify().damaged
        assert (damage.slide, damage.embedding) == (slide, name)
        writer = self.store.writer(slide, name, Recipe({"seed": seed}), N, D)
        # Even if a dead process left it staged: the damaged file has both names.
        assert [part.start for part in writer.missing] == [1024 * chunk]
        assert writer.write_all(rows(seed))
        self.staged.pop((slide, name, seed), None)

    @rule()
    def collect(self):
        self.store.gc()
        self.staged.clear()

    @rule()
    def open_again(self):
        self.store = EmbeddingStore(self.folder / "store")

    def holds_staged(self, slide: str, name: str) -> bool:
        """Whether this embedding has a staging folder."""
        notes = (self.folder / "store/.staging").glob("unit-*/unit.json")
        staged = [json.loads(path.read_text()) for path in notes]
        return (slide, name) in [(note["slide"], note["embedding"]) for note in staged]

    def visible(self) -> set[tuple[str, str]]:
        return {(s, name) for s in self.store.slides() for name in self.store.embeddings(s)}

    @invariant()
    def has_the_expected_content(self):
        assert self.store.slides() == self.slides
        assert self.visible() == set(self.units)
        listed = {(slide, row.name) for row in self.store.summary() for slide in row.slides}
        assert listed == set(self.units)

    @invariant()
    def is_intact(self):
        if self.slides:
            found = self.store.verify()
            assert not found.damaged
            assert found.checked == len(self.slides) + len(self.units)


@pytest.mark.parametrize(
    ("examples", "steps"), [(12, 25), pytest.param(300, 60, marks=pytest.mark.soak)]
)
def test_any_sequence_of_operations_leaves_the_expected_content(examples: int, steps: int):
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(index, "LEAST_SLIDES", 0)  # index this small store, too
        patch.setattr(index, "SETTLED_NS", 0)
        run_state_machine_as_test(
            StoreMachine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
