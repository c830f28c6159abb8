"""
A terminal, as a user sits at it: a pty, and an emulator that knows what is on its screen.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pyte
from commands import COMMAND, SECONDS

import ckptstream

# The terminal becomes its own, so that Ctrl-C, pressed there, is a signal for it.
_SESSION = """if True:
    import fcntl, os, sys, termios
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.execv(sys.argv[1], sys.argv[1:])
"""
_CTRL_C = b"\x03"
_USUAL = 80, 24  # columns and lines of one that does not say


class Terminal:
    """
    What runs in it, and what it shows.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], master: int, size: tuple[int, int]
    ) -> None:
        self.process = process
        self._master = master
        self._screen = pyte.Screen(*(size if all(size) else _USUAL))
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""

    @property
    def lines(self) -> list[str]:
        """
        What can be read on it.
        """
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines).rstrip()

    def wait(self, condition: Callable[[str], bool]) -> str:
        """
        Wait until the screen looks as it should.
        """
        deadline = time.monotonic() + SECONDS
        while not condition(self.text):
            assert time.monotonic() < deadline, self.text
            assert self._read(), self.text
        return self.text

    def resize(self, columns: int, lines: int) -> None:
        """
        As when somebody pulls at the window.
        """
        self._screen.resize(lines, columns)
        _set_size(self._master, (columns, lines))

    def press_ctrl_c(self) -> None:
        os.write(self._master, _CTRL_C)

    def end(self) -> int:
        """
        Wait for its end; the exit code.
        """
        deadline = time.monotonic() + SECONDS
        while self._read():
            assert time.monotonic() < deadline, self.text
        return self.process.wait(SECONDS)

    def _read(self) -> bool:
        """
        Whether it may write more.
        """
        ready, _, _ = select.select([self._master], [], [], 0.05)
        if not ready:
            return True
        data = b""
        with suppress(OSError):  # EIO: nobody has it open any more.
            data = os.read(self._master, 65536)
        self.raw += data
        self._stream.feed(data)
        return bool(data)


@contextmanager
def terminal(
    *arguments: str,
    home: Path,
    size: tuple[int, int] = (80, 24),
    environment: Mapping[str, str] | None = None,
    full: bool = False,
) -> Iterator[Terminal]:
    """
    Start the command in a terminal of so many columns and lines; a full one takes nothing more.
    """
    master, slave = pty.openpty()
    _set_size(slave, size)
    if full:
        _fill(slave)
    source = str(Path(ckptstream.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", _SESSION, *COMMAND, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=home,
        env={**os.environ, "TERM": "xterm-256color", "PYTHONPATH": source, **(environment or {})},
        start_new_session=True,
    ) as process:
        os.close(slave)
        try:
            yield Terminal(process, master, size)
        finally:
            process.kill()
            os.close(master)


def _fill(descriptor: int) -> None:
    os.set_blocking(descriptor, False)
    for size in (1000, 1, 1, 1, 1, 1, 1, 1, 1, 1):
        with suppress(BlockingIOError):
            while True:
                os.write(descriptor, b"x" * size)
        time.sleep(0.02)  # The kernel moves some of it on, and there is room again.
    os.set_blocking(descriptor, True)


def _set_size(descriptor: int, size: tuple[int, int]) -> None:
    columns, lines = size
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
