"""`featurize --turned` and `evaluate --turned`."""

from __future__ import annotations

import json

import pytest

from histoboost.phantom import write_phantom


@pytest.fixture(scope="module")
def featurized(tmp_path_factory: pytest.TempPathFactory, run):
    """Embed phantom slides in a store of this name, with more options."""
    folder = tmp_path_factory.mktemp("turned")
    write_phantom(folder / "p.h5", spots=40)

    def featurized(name: str, *options: str):
        embed = ("--backbone", "stain-texture", "--patch", 32, *options)
        return folder / name, run("featurize", folder / "p.h5", folder / name, *embed)

    return featurized


def test_rotation_invariant_embeddings_score_the_same_when_turned(featurized, succeeds, tmp_path):
    upright, _ = featurized("upright")
    half, _ = featurized("half", "--turned", "180")
    scores = tmp_path / "s.json"
    done = succeeds("evaluate", upright, "--model", "kernel", "--json", scores, "--turned", half)
    assert "Held-out slides turned as in" in done.output
    found = json.loads(scores.read_text())
    [turned] = found["turned"].values()
    assert turned["spot_spearman"] == pytest.approx(found["mean"]["spot_spearman"], abs=0.01)


def test_slides_are_not_turned_and_aligned(featurized):
    _, done = featurized("x", "--turned", "90", "--alignment", "auto")
    assert done.exit_code == 2
    assert "--turned: alignments are of upright slides" in done.output
