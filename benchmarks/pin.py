"""
What it costs to pin a checkpoint of 64 files and 20 GB: the time until it can be read in peace.

The files are sparse, since no way that links them reads them. The floor is 64 calls of `os.link`
into a directory that is there already, and 64 of `os.unlink`. Everything else is measured with all
that belongs to it: the checkpoint is verified before and after, its directories are listed and made
anew, the pin is claimed by a locked file; in async code it happens in another thread.

Orbax's snapshot of the same is a copy. It would write all of the 20 GB, so it gets files of the
same number and names, but fewer bytes; its row says how many.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
from _common import (
    MILLISECOND,
    is_installed,
    medians,
    ratio,
    show_goal,
    show_machine,
    show_table,
    spread,
)

import ckptstream
import ckptstream.sync

_FILES = 64
_GIGABYTE = 10**9
_SNAPSHOT = "orbax.checkpoint._src.path.snapshot.snapshot"
_LIMIT = 2.0  # times the floor


class Times(NamedTuple):
    """Seconds until the files are safe, and seconds until the links are gone again."""

    pin: float
    release: float


def _make_hf(run: Path, size: int) -> None:
    """A checkpoint of Hugging Face's `Trainer` of so many bytes: sparse files in one directory."""
    final, shards = run / _NAMES["hf"], _FILES - 3
    final.mkdir(parents=True)
    names = [f"model-{shard + 1:05}-of-{shards:05}.safetensors" for shard in range(shards)]
    for name in names:
        _write_sparse(final / name, size // shards)
    weights = {f"model.layers.{tensor}.weight": names[tensor % shards] for tensor in range(400)}
    (final / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    (final / "config.json").write_text("{}")
    (final / "trainer_state.json").write_text(json.dumps({"global_step": 1000}))


def _make_orbax(run: Path, size: int) -> None:
    """One of Orbax's, in four directories."""
    final = run / _NAMES["orbax"]
    data = final / "default" / "ocdbt.process_0" / "d"
    data.mkdir(parents=True)
    stamp = {"commit_timestamp_nsecs": time.time_ns(), "init_timestamp_nsecs": time.time_ns()}
    small = {
        "_CHECKPOINT_METADATA": json.dumps(stamp),
        "commit_success.txt": "Checkpoint commit was successful to " + str(final),
        "default/_METADATA": json.dumps({"tree_metadata": {}}),
        "default/manifest.ocdbt": "manifest",
        "default/ocdbt.process_0/manifest.ocdbt": "manifest",
    }
    for name, text in small.items():
        (final / name).write_text(text)
    shards = _FILES - len(small)
    for shard in range(shards):
        _write_sparse(data / f"{shard:032x}", size // shards)


def _write_sparse(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size)


_NAMES = {"hf": "checkpoint-1000", "orbax": "1000"}
_MAKERS = {"hf": _make_hf, "orbax": _make_orbax}


async def _found(run: Path) -> ckptstream.Checkpoint:
    return await anext(ckptstream.follow(run, timeout=0))


def _files(checkpoint: str) -> list[str]:
    return [os.path.join(place, name) for place, _, names in os.walk(checkpoint) for name in names]


def _link_bare(run: Path, times: int) -> Iterator[Times]:
    [name] = os.listdir(run)
    files, target = _files(str(run / name)), run.parent / "floor"
    assert len(files) == _FILES
    for _ in range(times):
        target.mkdir()
        links = [f"{target}/{number}" for number in range(_FILES)]
        began = time.perf_counter()
        for file, link in zip(files, links, strict=True):
            os.link(file, link)
        linked = time.perf_counter()
        for link in links:
            os.unlink(link)
        yield Times(linked - began, time.perf_counter() - linked)
        target.rmdir()


def _pin_blocking(run: Path, times: int) -> Iterator[Times]:
    checkpoint = anyio.run(_found, run)
    for _ in range(times):
        began = time.perf_counter()
        with ckptstream.sync.pin(checkpoint):
            linked = time.perf_counter()
        yield Times(linked - began, time.perf_counter() - linked)


async def _pin(run: Path, times: int) -> list[Times]:
    stream, results = ckptstream.follow(run), list[Times]()
    checkpoint = await anext(stream)  # Pins are taken while a stream goes on.
    for _ in range(times):
        began = time.perf_counter()
        async with ckptstream.pin(checkpoint):
            linked = time.perf_counter()
        results.append(Times(linked - began, time.perf_counter() - linked))
    return results


async def _snapshot(run: Path) -> list[Times]:
    path = importlib.import_module("etils.epath").Path
    instance = importlib.import_module(_SNAPSHOT).create_instance
    snapshot = instance(path(run / _NAMES["orbax"]), path(run.parent / "snapshot"))
    began = time.perf_counter()
    await snapshot.create_snapshot()
    copied = time.perf_counter()
    await snapshot.release_snapshot()
    return [Times(copied - began, time.perf_counter() - copied)]


def _run_async(
    function: Callable[[Path, int], Awaitable[list[Times]]], backend: str, run: Path, times: int
) -> list[Times]:
    return anyio.run(function, run, times, backend=backend)


_FLOOR = "64 x os.link, 64 x os.unlink: the floor"
_WAYS: dict[str, Callable[[Path, int], list[Times]]] = {
    _FLOOR: lambda run, times: list(_link_bare(run, times)),
    "ckptstream.sync.pin": lambda run, times: list(_pin_blocking(run, times)),
    "ckptstream.pin, asyncio": partial(_run_async, _pin, "asyncio"),
    "ckptstream.pin, trio": partial(_run_async, _pin, "trio"),
}
Results = dict[str, list[list[Times]]]


def _measure(directory: Path, layout: str, rounds: int, times: int) -> Results:
    run = directory / layout / "run"
    _MAKERS[layout](run, 20 * _GIGABYTE)
    results: Results = {way: [] for way in _WAYS}
    for way in _WAYS.values():
        way(run, 5)  # Imports what is imported late, and fills the caches.
    for count in range(rounds):
        print(f"{layout}: round {count + 1} of {rounds}", file=sys.stderr)
        for name, way in _WAYS.items():
            gc.collect()
            results[name].append(way(run, times))
    return results


def _measure_orbax(directory: Path, rounds: int, size: int) -> list[list[Times]]:
    if not is_installed("orbax.checkpoint") or not is_installed(_SNAPSHOT):
        return []
    print("Orbax's snapshot", file=sys.stderr)
    run = directory / "copied" / "run"
    _make_orbax(run, size)
    results = [anyio.run(_snapshot, run) for _ in range(rounds)]
    shutil.rmtree(directory / "copied")
    return results


def _show(what: str, results: Results) -> float:
    """Print one table; how many times the floor the dearest pin costs."""
    floor, rows, worst = [one.pin for one in _medians(results[_FLOOR])], list[list[str]](), 0.0
    for name, rounds in results.items():
        if not rounds:
            rows.append([name, "not installed", "", ""])
            continue
        pins, releases = zip(*_medians(rounds), strict=True)
        cells = [name, spread(pins).show(MILLISECOND, 2), "", spread(releases).show(MILLISECOND, 2)]
        if name in _WAYS:
            times = ratio(pins, floor)
            cells[2] = times.show(1, 2)
            worst = max(worst, times.median)
        rows.append(cells)
    title = f"{what}: median over the rounds' medians (min-max)"
    show_table(title, ["makes them safe with", "ms", "times the floor", "release, ms"], rows)
    return worst


def _medians(rounds: list[list[Times]]) -> list[Times]:
    pins = medians([[one.pin for one in each] for each in rounds])
    releases = medians([[one.release for one in each] for each in rounds])
    return [Times(*both) for both in zip(pins, releases, strict=True)]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="time to pin a checkpoint")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--times", type=int, default=50, help="pins in each round")
    parser.add_argument("--copies", type=int, default=3, help="snapshots by Orbax")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="that Orbax copies")
    parser.add_argument("--directory", help="where to measure; default: a temporary one")
    arguments = parser.parse_args()
    size = int(arguments.gigabytes * _GIGABYTE)
    with tempfile.TemporaryDirectory(prefix="ckptstream-pin-", dir=arguments.directory) as name:
        directory, count = Path(name), (arguments.rounds, arguments.times)
        results = {layout: _measure(directory, layout, *count) for layout in _MAKERS}
        snapshots = _measure_orbax(directory, arguments.copies, size)
    results["orbax"][f"Orbax's snapshot, a copy, of {arguments.gigabytes:g} GB"] = snapshots
    show_machine("anyio", "trio", "orbax-checkpoint")
    worst = {
        layout: _show(f"{_FILES} files, 20 GB, {layout}", results[layout]) for layout in results
    }
    for layout, times in worst.items():
        goal = f"{layout}: pinning costs what {_FILES} calls of os.link cost, within 2 times"
        show_goal(goal, f"{times:.2f} times, the dearest of the three", times <= _LIMIT)


if __name__ == "__main__":
    main()
