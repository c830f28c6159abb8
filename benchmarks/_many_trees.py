"""The runs that `many_runs.py` measures on, and the commits to come to them."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Sequence
from typing import NamedTuple

from ckptstream.testing import save

OLD = 3  # checkpoints that each run holds


class Move(NamedTuple):
    """A commit to come: `os.rename(source, target)` finishes the run's checkpoint *step*."""

    source: str
    target: str
    run: str
    step: int


class Trees:
    """Runs on disk, made once and put in order after each contender."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._staging = f"{root}/staging"
        self._made = dict[str, int]()

    def grow(self, kind: str, old: int, count: int) -> str:
        """A directory with at least so many runs, `00000` and so on, of *old* checkpoints each."""
        root = f"{self._root}/{kind}-{old}"
        made = self._made.get(root, 0)
        if made < count:
            for number in range(made, count):
                self._make(f"{root}/{number:05}", kind, old)
            self._made[root] = count
            os.sync()  # so that nothing is written back while something is measured
        return root

    def prepare(self, kind: str, count: int, rounds: Sequence[int]) -> list[list[Move]]:
        """Commits to come to *count* runs: as many as each number says, spread over the runs."""
        root, steps = f"{self._root}/{kind}-{OLD}", [OLD] * count
        os.mkdir(self._staging)
        moves = list[list[Move]]()
        for commits in rounds:
            order = itertools.cycle(random.sample(range(count), count))
            moves.append([])
            for number in itertools.islice(order, commits):
                steps[number] += 1
                run, step = f"{root}/{number:05}", steps[number]
                source = f"{self._staging}/{number}-{step}"
                last = self._link(kind, step, run, source)
                moves[-1].append(Move(source, f"{run}/{last}", run, step))
        os.sync()
        return moves

    def restore(self, kind: str, moves: Sequence[Sequence[Move]]) -> None:
        """Put the runs in order again."""
        for run in {move.run for batch in moves for move in batch}:
            shutil.rmtree(run)
            self._make(run, kind, OLD)
        shutil.rmtree(self._staging)
        os.sync()

    def _make(self, run: str, kind: str, old: int) -> None:
        os.makedirs(run)
        for step in range(1, old + 1):
            last = self._link(kind, step, run, f"{run}/last")
            os.replace(f"{run}/last", f"{run}/{last}")

    def _link(self, kind: str, step: int, run: str, last: str) -> str:
        """Link a checkpoint into a run, but what finishes it to *last*; returns its name."""
        model = f"{self._root}/models/{kind}-{step}"
        if not os.path.exists(model):
            save(model, step, kind)
        *names, finishing = sorted(os.listdir(model), reverse=True)  # TensorFlow's "checkpoint"
        for name in names:
            _copy(f"{model}/{name}", f"{run}/{name}")
        _copy(f"{model}/{finishing}", last)
        return finishing


def _copy(source: str, target: str) -> None:
    if not os.path.isdir(source):
        os.link(source, target)
        return
    os.mkdir(target)
    for name in os.listdir(source):
        _copy(f"{source}/{name}", f"{target}/{name}")
