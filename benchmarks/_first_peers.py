"""Other packages' calls for the latest checkpoint, each in a process of its own."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from _common import is_installed


class Call(NamedTuple):
    """
    One way to ask for the latest checkpoint.

    Attributes:
        ask: Asks in a directory; anything but an answer is an error.
        needs: The module that must be installed for it.
        reads: Whose checkpoints it understands.
    """

    ask: Callable[[str], object]
    needs: str
    reads: str


def _tensorflow(run: str) -> object:
    return importlib.import_module("tensorflow").train.latest_checkpoint(run)


def _orbax(run: str) -> object:
    manager = importlib.import_module("orbax.checkpoint").CheckpointManager(run)
    try:
        return manager.latest_step()
    finally:
        manager.close()


PEERS: dict[str, Call] = {
    "tf.train.latest_checkpoint": Call(_tensorflow, "tensorflow", "tensorflow"),
    "Orbax's CheckpointManager(run).latest_step()": Call(_orbax, "orbax.checkpoint", "orbax"),
}


class Peer:
    """A process that asks when it is told to."""

    def __init__(self, name: str, run: str) -> None:
        self.name = name
        self._process: subprocess.Popen[str] | None = None
        if is_installed(PEERS[name].needs):
            self._process = subprocess.Popen(
                [sys.executable, __file__, name, run],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self.ask()  # Imports what is imported late.

    def ask(self) -> float:
        """The processor time that it took; not a number if it is not installed."""
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            return float("nan")
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End its process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _serve(name: str, run: str) -> None:
    for _ in sys.stdin:
        began = time.process_time()
        answer = PEERS[name].ask(run)
        seconds = time.process_time() - began
        assert answer is not None, run
        print(seconds, flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
