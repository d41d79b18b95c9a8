"""The last line of a run of `featurize`."""

from __future__ import annotations

from histoboost.featurize.summary import FeaturizeSummary


def summary(**fields: object) -> FeaturizeSummary:
    known = {"slides": ["A", "B"], "embeddings": ["net@64"], "engine": "torch", "device": "cpu"}
    return FeaturizeSummary(**{**known, **fields})  # type: ignore[arg-type]


def test_the_summary_uses_singular_and_plural():
    assert str(summary(slides=["A"], kept=5)).startswith("1 slide: net@64 was complete already")
    assert str(summary(kept=5)).startswith("2 slides: ")
    assert "net@32, net@64 were" in str(summary(embeddings=["net@32", "net@64"], kept=5))


def test_deeper_layers_are_counted_beside_their_network():
    names = ["net@32", "net@32.b.3", "net@32.b.1.std", "net@64", "own.2"]
    line = str(summary(embeddings=names, kept=5))
    assert "net@32 (and 2 earlier layers), net@64, own.2 were complete" in line


def test_the_rate_counts_patches_of_this_run_only():
    line = str(summary(computed=100, kept=900, wall_seconds=10.0))
    assert "100 patches in 10.0 s (10.0 patches/s" in line
    assert line.endswith("; 900 more were there already")


def test_loading_and_unaccounted_time_are_reported_if_considerable():
    seconds = {"read": 1.0, "crop": 1.0, "forward": 4.0, "write": 0.0}
    line = str(summary(computed=1, load_seconds=4.0, seconds=seconds, wall_seconds=10.0))
    assert "loading 40%, read 10%, crop 10%, forward 40%, write 0%)" in line
    line = str(summary(computed=1, load_seconds=0.1, seconds=seconds, wall_seconds=6.1))
    assert "loading" not in line
    assert "other" not in line
    # Time that no step accounts for is not hidden.
    assert "other 40%)" in str(summary(computed=1, seconds=seconds, wall_seconds=10.0))
