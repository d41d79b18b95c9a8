"""Cost of listing slides and planning a run as the number of slides grows; run by `scale`.

The store has two embeddings per slide. Each slide has its own documents, but all except the first
link to the first one's tables and chunks, so that making 100,000 slides takes minutes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from histoboost.cache.layout import read_document, seal
from histoboost.cache.local import LocalBackend
from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore
from histoboost.spots import SpotTable

NAMES = ("net@64", "net@128")
SIDE = 10

#: Code measured, by row name; `store` and `data` are the store and the manifest.
CALLS = {
    "names of the slides": "EmbeddingStore(store, mode='r').slides()",
    "names of unlabelled slides": "EmbeddingStore(store, mode='r').slides(labelled=False)",
    "order of a run": "EmbeddingStore(store).orders(NAMES)",
    "cache list, no index": "main(['cache', 'list', store], standalone_mode=False)",
    "cache list": "main(['cache', 'list', store], standalone_mode=False)",
    "open DATA, make units": "list(zip(open_dataset(data).reads()))",
}

SETUP = r"""
import atexit, re, sys, time
from histoboost.cache.store import EmbeddingStore
from histoboost.cli import main
from histoboost.slides.readers import open_dataset

def print_usage():  # CPU seconds and peak memory in MB of this process alone; Linux only
    peak = re.search(r'VmHWM:\s+(\d+)', open('/proc/self/status').read())
    print(time.process_time(), int(peak[1]) / 1e3)

atexit.register(print_usage)
data, store, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
NAMES = [f'S_{at:06}' for at in range(count)]
"""


def measure_slides(counts: list[int]) -> None:
    """Print a Markdown table with CPU seconds, wall seconds and peak memory of every call."""
    print("| slides | call | CPU s | wall s | peak MB |\n|---|---|---|---|---|")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            data, store = make_data(Path(folder), count), make_slides(Path(folder), count)
            time.sleep(2)  # an index does not trust files that have just changed
            for name, call in CALLS.items():
                cpu, wall, peak = _measure(SETUP + call, data, store, count)
                print(f"| {count:,} | {name} | {cpu:.1f} | {wall:.1f} | {peak:.0f} |", flush=True)


def _measure(code: str, *arguments: object) -> tuple[float, float, float]:
    start = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    cpu, peak = map(float, done.stdout.split()[-2:])
    return cpu, time.perf_counter() - start, peak


def make_data(folder: Path, count: int) -> Path:
    """Write a manifest of `count` slides with a hundred spots each."""
    Image.fromarray(np.zeros((120, 120, 3), np.uint8)).save(folder / "one.png")
    rows = [f"{k},{10 * (k % SIDE) + 5},{10 * (k // SIDE) + 5},1,{k}" for k in range(SIDE**2)]
    (folder / "one.csv").write_text("\n".join(["spot,x,y,A,B", *rows]))
    rows = [f"S_{at:06},one.png,one.csv,one.csv,P_{at}" for at in range(count)]
    path = folder / "slides.csv"
    path.write_text("\n".join(["slide,image,spots,abundances,group", *rows]))
    return path


def make_slides(folder: Path, count: int) -> Path:
    """Write a store of `count` slides."""
    path, first = folder / "many.zarr", "S_000000"
    store, top = EmbeddingStore(path), path / "slides"
    xy = np.stack(np.divmod(np.arange(SIDE**2), SIDE), axis=1) * 10.0
    labels = np.ones((len(xy), 2), np.float32)
    store.write_spots(SpotTable(first, xy, tuple(map(str, range(len(xy)))), labels, ("A", "B")))
    for name in NAMES:
        recipe = Recipe({"slide_pixels": first, "backbone": "phantom", "patch_px": name})
        store.writer(first, name, recipe, len(xy), 4).write_all(np.ones((len(xy), 4)))
    folders = [f"slides/{first}", *(f"slides/{first}/obsm/{name}" for name in NAMES)]
    slide, *embeddings = (read_document(LocalBackend(path), each) for each in folders)
    for document in (slide, *embeddings):
        del document["attributes"]["histoboost"]["digest"]  # `seal` adds the new one
    for at in range(1, count):
        own = top / f"S_{at:06}"
        (own / "obsm").mkdir(parents=True)
        for part in (top / first).iterdir():
            if part.is_dir() and part.name != "obsm":
                (own / part.name).symlink_to(f"../{first}/{part.name}")
        for part in ("abundance", "spatial", "zarr.json"):
            (own / "obsm" / part).symlink_to(f"../../{first}/obsm/{part}")
        slide["attributes"]["histoboost"]["order"] = at
        (own / "zarr.json").write_bytes(seal(slide))
        for name, document in zip(NAMES, embeddings, strict=True):
            (own / "obsm" / name).mkdir()
            (own / "obsm" / name / "c").symlink_to(f"../../../{first}/obsm/{name}/c")
            fields = document["attributes"]["histoboost"]
            fields["recipe"]["slide_pixels"] = own.name
            fields["recipe_digest"] = Recipe(fields["recipe"]).digest
            (own / "obsm" / name / "zarr.json").write_bytes(seal(document))
    return path
