"""
The command, as a user starts it: a process of its own.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

COMMAND = [sys.executable, "-W", "error", "-m", "ckptstream"]
SECONDS = 60.0  # only a failure takes so long

# A trainer in a process of its own: the run's directory, the layout, then each step.
TRAIN = """
import sys
from ckptstream.testing import save
for step in sys.argv[3:]:
    save(sys.argv[1], int(step), sys.argv[2])
"""


def ckptstream(*arguments: str, home: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """
    Run it to its end.
    """
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=home,
        capture_output=True,
        input=stdin,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def shell(line: str, home: Path) -> subprocess.CompletedProcess[str]:
    """
    A line as it is typed, where `ckptstream` is the command.
    """
    function = f'ckptstream() {{ {" ".join(COMMAND)} "$@"; }}\n'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", function + line],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def train(run: Path, *steps: int, layout: str = "hf") -> None:
    """
    Have another process save these, and wait for it.
    """
    command = [sys.executable, "-c", TRAIN, str(run), layout, *map(str, steps)]
    subprocess.run(command, check=True, timeout=SECONDS)


class Started:
    """
    A command that runs.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self._streams = {"out": process.stdout, "err": process.stderr}
        self._read = {"out": b"", "err": b""}

    def line(self, stream: str = "out", holding: str = "") -> str:
        """
        The next line that holds this, and is read then.
        """
        while True:
            while b"\n" not in self._read[stream]:
                self._read[stream] += self._some(self._streams[stream])
            line, _, self._read[stream] = self._read[stream].partition(b"\n")
            if holding in line.decode():
                return line.decode()

    def _some(self, stream: IO[bytes]) -> bytes:
        ready, _, _ = select.select([stream], [], [], SECONDS)
        assert ready, self._read
        data = os.read(stream.fileno(), 65536)
        assert data, self._read
        return data

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, list[str], list[str]]:
        """
        Wait for its end: the exit code, and the lines that were not read.
        """
        out, err = self.process.communicate(timeout=SECONDS)
        texts = (self._read["out"] + out).decode(), (self._read["err"] + err).decode()
        return self.process.returncode, texts[0].splitlines(), texts[1].splitlines()


@contextmanager
def started(*arguments: str, home: Path, before: str = "") -> Iterator[Started]:
    """
    Start it; *before*: what a shell does first.
    """
    command = [*COMMAND, *arguments]
    if before:
        command = ["sh", "-c", f'{before}; exec "$@"', "sh", *command]
    with subprocess.Popen(
        command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield Started(process)
        finally:
            if process.poll() is None:
                process.kill()


def wait_for(path: Path) -> str:
    """
    Wait for a file that another process writes; what is in it, as soon as that ends a line.
    """
    deadline = time.monotonic() + SECONDS
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, path
        time.sleep(0.01)
    return path.read_text()
