"""Any damage to a store is found, named and repaired, and nothing else is changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError

N, D = 1500, 2  # two chunks, the second one padded
SLIDES, NAMES = ["S_2", "S_1"], ["net@64", "net@128"]


@pytest.fixture
def featurize(table, rows, recipe, put):
    """Store all slides and embeddings like `featurize`; returns chunks computed per unit."""

    def run(store: EmbeddingStore) -> dict[tuple[str, str], int]:
        computed = {}
        for slide in SLIDES:
            store.write_spots(table(slide, N))
            for seed, name in enumerate(NAMES):
                chunks = put(store, slide, name, rows(N, D, seed), recipe(name=name))
                if chunks:
                    computed[slide, name] = chunks
        return computed

    return run


@pytest.fixture
def intact(tmp_path, featurize) -> EmbeddingStore:
    store = EmbeddingStore(tmp_path / "store")
    featurize(store)
    return store


def flip_a_bit(rng, file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    file.write_bytes(data)


def truncate(rng, file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: rng.integers(len(data))])


def lengthen(rng, file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def delete(rng, file: Path) -> None:
    file.unlink()


def leave_a_file_beside(rng, file: Path) -> None:
    file.with_name(f"leftover-{rng.integers(1000)}.tmp").write_bytes(b"left")


def leave_an_empty_folder_beside(rng, file: Path) -> None:
    file.with_name(f"leftover-{rng.integers(1000)}").mkdir()


def zero_a_page(rng, file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[: len(data) // 2 + 1] = bytes(len(data) // 2 + 1)
    file.write_bytes(data)


KINDS = [
    flip_a_bit,
    truncate,
    lengthen,
    delete,
    leave_a_file_beside,
    leave_an_empty_folder_beside,
    zero_a_page,
]


def unit_of(path: str) -> tuple[str | None, str | None]:
    """Slide and embedding that a file of the store belongs to."""
    parts = path.split("/")
    if parts[0] != "slides" or len(parts) == 2:
        return None, None
    in_unit = len(parts) > 4 and parts[2] == "obsm" and parts[3] in NAMES
    return parts[1], parts[3] if in_unit else None


def stamps(store: EmbeddingStore) -> dict[str, tuple[int, int]]:
    top = Path(store.location)
    found = {}
    for path in top.rglob("*"):
        if path.is_file() and ".staging" not in path.parts:
            stat = path.stat()
            found[path.relative_to(top).as_posix()] = (stat.st_ino, stat.st_mtime_ns)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_random_damage_is_found_and_repaired(intact, featurize, files, seed):
    rng = np.random.default_rng(seed)
    pristine = files(intact.location)
    for _ in range(25):
        path = sorted(pristine)[rng.integers(len(pristine))]
        kind = KINDS[rng.integers(len(KINDS))]
        slide, name = unit_of(path)
        before = stamps(intact)
        kind(rng, Path(intact.location) / path)

        found = EmbeddingStore(intact.location, mode="r").verify().damaged
        assert [(d.slide, d.embedding) for d in found] == [(slide, name)], (kind, path, found)

        computed = featurize(EmbeddingStore(intact.location))
        assert set(computed) <= {(slide, name)}, (kind, path)
        for foreign in Path(intact.location).rglob("leftover-*"):  # reported and kept
            assert kind in (leave_a_file_beside, leave_an_empty_folder_beside)
            foreign.rmdir() if foreign.is_dir() else foreign.unlink()
        assert files(intact.location) == pristine, (kind, path)
        assert not intact.verify().damaged

        after = stamps(intact)
        touched = {unit_of(p) for p in after if after[p] != before[p]}
        assert touched <= {(slide, name)}, (kind, path)


@pytest.mark.parametrize("kind", [flip_a_bit, truncate, delete, zero_a_page])
def test_reading_never_gives_wrong_numbers(intact, rows, kind):
    kind(np.random.default_rng(0), Path(intact.location, "slides/S_1/obsm/net@64/c/0/0"))
    with pytest.raises(HistoboostError, match="S_1, embedding net@64: chunk 0"):
        intact.read("S_1", "net@64")
    np.testing.assert_array_equal(intact.read("S_2", "net@64"), rows(N, D, 0))


@pytest.mark.parametrize("kind", [flip_a_bit, truncate, delete, zero_a_page])
@pytest.mark.parametrize("path", ["obsm/abundance/c/0/0", "obs/spot/c/0", "zarr.json"])
def test_spot_tables_are_compared_with_their_digests_when_read(intact, kind, path):
    kind(np.random.default_rng(0), Path(intact.location, "slides/S_1", path))
    with pytest.raises(HistoboostError, match="slide S_1: .*run the same featurize again"):
        intact.spots("S_1")


@pytest.mark.parametrize("damaged", [["S_1"], ["S_2"], SLIDES])
def test_slides_with_damaged_metadata_are_named_and_keep_their_order(intact, featurize, damaged):
    for slide in damaged:
        Path(intact.location, "slides", slide, "zarr.json").unlink()
    with pytest.raises(HistoboostError, match="slide S_[12]: zarr.json is missing"):
        intact.slides()
    featurize(intact)
    assert intact.slides() == SLIDES


def test_listing_works_in_a_damaged_store(intact):
    Path(intact.location, "slides/S_1/zarr.json").unlink()
    Path(intact.location, "slides/S_2/obsm/net@128/zarr.json").unlink()
    rows = {row.name: row for row in intact.summary()}
    assert rows["net@64"].lacking == ["S_1"]
    assert not rows["net@128"].complete
