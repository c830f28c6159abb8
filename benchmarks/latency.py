"""
How long it takes from a checkpoint's commit to the body of the loop that waits for it.

This process is the writer. It commits as Orbax does: a whole `N.orbax-checkpoint-tmp` is renamed
to `N` (for TensorFlow: a new state file is renamed to `checkpoint`). Every peer waits in a process
of its own, all of them from the beginning to the end, each in a directory of its own.

The clock is CLOCK_MONOTONIC, which all processes share. It starts right before `os.rename`, and
stops at the first statement in the body of the loop; for bare inotify, right after `os.read`.
A checkpoint is prepared well before its commit, as in a training: the peers are at rest again.

Peers that wait for events take turns, commit by commit, in random order. Peers that ask once in a
while get fewer commits, at moments spread evenly over the interval.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from operator import itemgetter
from typing import NoReturn

from _common import MILLISECOND, medians, ratio, show_goal, show_machine, show_table, spread
from _peers import FLOOR, OURS, TENSORFLOW, WAITINGS, WATCHFILES

_WARM_UP = 5  # commits that are not counted
_PATIENCE = 60.0  # seconds until a peer that says nothing is given up


def _write(directory: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)


def _prepare_orbax(directory: str, step: int) -> tuple[str, str]:
    temporary = f"{directory}/{step}.orbax-checkpoint-tmp"
    now = time.time_ns()
    metadata = {"metrics": {}, "init_timestamp_nsecs": now, "commit_timestamp_nsecs": now + 1}
    items = {"default/_METADATA": "{}", "default/manifest.ocdbt": "manifest"}
    marks = {"_CHECKPOINT_METADATA": json.dumps(metadata), "commit_success.txt": ""}
    _write(temporary, {**items, **marks})
    return temporary, f"{directory}/{step}"


def _prepare_tensorflow(directory: str, step: int) -> tuple[str, str]:
    state = f'model_checkpoint_path: "ckpt-{step}"\nall_model_checkpoint_paths: "ckpt-{step}"\n'
    data = {f"ckpt-{step}.data-00000-of-00001": "data", f"ckpt-{step}.index": "index"}
    _write(directory, {**data, "checkpoint.tmp": state})
    return f"{directory}/checkpoint.tmp", f"{directory}/checkpoint"


class Peer:
    """
    A process that waits, and the directory in which it does.

    Attributes:
        rounds: Seconds from each commit to the loop's body, of each round.
        heard: When it last heard of a checkpoint, by `time.monotonic`.
    """

    def __init__(self, title: str, root: str, number: int) -> None:
        self.title = title
        self.rounds = list[list[float]]()
        self.heard = 0.0
        self._prepare = _prepare_orbax
        if WAITINGS[title].writes == "tensorflow":
            self._prepare = _prepare_tensorflow
        self._directory = os.path.join(root, str(number))
        self._step = 0
        self._renamed = ("", "")
        self._said = (0, 0)
        os.mkdir(self._directory)
        command = [sys.executable, __file__, "--wait", title, self._directory]
        with open(f"{self._directory}.log", "wb") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)

    def close(self) -> None:
        """End its process."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def warm_up(self) -> None:
        """Commit until it answers: what comes before it waits is found by some, lost by others."""
        until, answers = time.monotonic() + _PATIENCE, 0
        while answers < _WARM_UP:
            self.prepare()
            self.commit()
            answers += self._hears(1.5)
            if time.monotonic() > until:
                self._give_up("does not answer")
        while self._hears(0.3):
            pass

    def prepare(self) -> None:
        """Write the next checkpoint, all but its commit."""
        self._step += 1
        self._renamed = self._prepare(self._directory, self._step)

    def commit(self) -> int:
        """Commit it; returns the time right before, in nanoseconds."""
        began = time.monotonic_ns()
        os.rename(*self._renamed)
        return began

    def measure(self, began: int) -> None:
        """Wait until it has heard of what was committed at *began*."""
        while self._hears(_PATIENCE):
            step, now = self._said
            if step == self._step:
                self.rounds[-1].append((now - began) / 1e9)
                return
        self._give_up(f"has lost {self._renamed[1]}")

    def _hears(self, timeout: float) -> bool:
        output = self._process.stdout
        assert output is not None
        if not select.select([output], [], [], timeout)[0]:
            return False
        line = b""
        while not line.endswith(b"\n"):  # Byte by byte: select() knows nothing of a buffer.
            byte = os.read(output.fileno(), 1)
            if not byte:
                self._give_up("has ended")
            line += byte
        step, now = line.split()
        self._said = (int(step), int(now))
        self.heard = self._said[1] / 1e9
        return True

    def _give_up(self, why: str) -> NoReturn:
        with open(f"{self._directory}.log", errors="replace") as log:
            raise SystemExit(f"{self.title} {why}:\n{log.read()[-2000:]}")


def _round_of_events(peers: Sequence[Peer], commits: int) -> None:
    for peer in peers:
        peer.rounds.append([])
    for _ in range(commits):
        for peer in random.sample(peers, len(peers)):
            peer.prepare()
            time.sleep(random.uniform(0.01, 0.03))
            peer.measure(peer.commit())


def _round_of_asking(peers: Sequence[Peer], commits: int) -> None:
    for peer in peers:
        peer.rounds.append([])
    offset = random.random()
    for count in range(commits):
        for peer in peers:
            peer.prepare()
        # All ask once a second, counted from what they last heard (watchfiles every 50 ms).
        earliest, phase = time.monotonic() + 0.5, (count + offset) / commits
        moments = list[tuple[float, Peer]]()
        for peer in peers:
            since = peer.heard + phase
            moments.append((since + math.ceil(earliest - since), peer))
        committed = list[tuple[Peer, int]]()
        for moment, peer in sorted(moments, key=itemgetter(0)):
            time.sleep(max(0.0, moment - time.monotonic()))
            committed.append((peer, peer.commit()))
        for peer, began in committed:
            peer.measure(began)


def _show(peers: dict[str, Peer]) -> None:
    of = {title: medians(peer.rounds) for title, peer in peers.items()}
    rows = list[list[str]]()
    for title in WAITINGS:
        if title not in of:
            rows.append([title, "not installed", "", ""])
            continue
        times = spread(of[title]).show(MILLISECOND)
        commits = str(sum(map(len, peers[title].rounds)))
        rows.append([title, commits, times, ratio(of[title], of[FLOOR]).show(digits=2)])
    what = "From commit to the body of the loop: median over the rounds' medians (min-max)"
    show_table(what, ["waits with", "commits", "ms", "times the floor"], rows)
    for ours in OURS:
        if ours not in of:
            continue
        floor = ratio(of[ours], of[FLOOR])
        goal = f"{ours}: at most 2.5 times bare inotify"
        show_goal(goal, floor.show(digits=2), floor.median <= 2.5)
        for peer, least in ((WATCHFILES, 75), (TENSORFLOW, 500)):
            goal = f"{ours}: at least {least} times faster than {peer}"
            if peer not in of:
                show_goal(goal, "not installed", None)
                continue
            faster = ratio(of[peer], of[ours])
            show_goal(goal, faster.show(digits=0), faster.median >= least)


def _measure(rounds: int, commits: int, asked: int) -> None:
    titles = [title for title, waiting in WAITINGS.items() if waiting.installed]
    with tempfile.TemporaryDirectory(prefix="ckptstream-latency-") as root:
        peers = {title: Peer(title, root, number) for number, title in enumerate(titles)}
        try:
            for peer in peers.values():
                peer.warm_up()
            asking = [peer for title, peer in peers.items() if WAITINGS[title].asks]
            told = [peer for title, peer in peers.items() if not WAITINGS[title].asks]
            for count in range(rounds):
                print(f"round {count + 1} of {rounds}", file=sys.stderr)
                _round_of_events(told, commits)
                _round_of_asking(asking, asked)
        finally:
            for peer in peers.values():
                peer.close()
    needs = [waiting.needs.replace(".", "-") for waiting in WAITINGS.values()]
    show_machine(*needs, "tensorflow-cpu")
    _show(peers)


def main() -> None:
    """Measure, or be one of the processes that wait."""
    parser = argparse.ArgumentParser(description="time from a checkpoint's commit to the loop")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--commits", type=int, default=40, help="of peers told, in each round")
    parser.add_argument("--asked", type=int, default=8, help="of peers that ask, in each round")
    parser.add_argument("--wait", nargs=2, metavar=("PEER", "DIRECTORY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.wait is not None:
        title, directory = arguments.wait
        WAITINGS[title].wait(directory)
    else:
        _measure(arguments.rounds, arguments.commits, arguments.asked)


if __name__ == "__main__":
    main()
