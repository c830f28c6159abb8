"""
Ctrl-C, pressed in a real terminal while a real process waits.
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ckptstream.testing import save

GUARD = 60.0  # seconds; only a process that hangs comes near
CTRL_C = b"\x03"

PRELUDE = """
import asyncio, gc, logging, os, signal, sys, threading, time
import ckptstream, ckptstream.sync
import anyio

class Tell(logging.Handler):
    def emit(self, record):
        if "waiting for the" in record.getMessage():
            os.write(1, b"WAITS\\n")  # whole, whoever else prints

def tell():
    logging.getLogger("ckptstream").addHandler(Tell())
    logging.getLogger("ckptstream").setLevel(logging.INFO)

def others():
    # Ctrl-C inside Thread.start() leaves the name of a thread that never was.
    threads = [thread for thread in threading.enumerate() if thread.is_alive()]
    return [thread.name for thread in threads if thread is not threading.main_thread()]

def report():
    ended = time.monotonic()
    while len(others()) > HANGING and time.monotonic() < ended + 3:
        os.sched_yield()
    print("ENDED", ended, "LEFT", others(), flush=True)

HANGING = 0
run = sys.argv[1]
"""


class Terminal:
    """
    A process and the terminal it runs in.
    """

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self.descriptor = descriptor
        self.output = ""

    def read(self, pattern: str) -> re.Match[str]:
        """
        Read until the output matches.
        """
        deadline = time.monotonic() + GUARD
        while (found := re.search(pattern, self.output)) is None:
            ready, _, _ = select.select([self.descriptor], [], [], deadline - time.monotonic())
            assert ready, self.output
            self._read_some()
        return found

    def has(self, word: str) -> bool:
        """
        Whether it has come by now; does not wait.
        """
        if word not in self.output and select.select([self.descriptor], [], [], 0)[0]:
            self._read_some()
        return word in self.output

    def count(self, word: str) -> int:
        return self.output.count(word)

    def _read_some(self) -> None:
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:  # EIO: the process has gone.
            data = b""
        assert data, self.output
        self.output += data.decode()

    def press_ctrl_c(self) -> float:
        os.write(self.descriptor, CTRL_C)
        return time.monotonic()

    def exit_code(self) -> int:
        return self.process.wait(GUARD)


@contextmanager
def terminal(program: str, run: Path) -> Iterator[Terminal]:
    """
    Start a program in a pseudo-terminal of its own, which sends its Ctrl-C.
    """
    master, slave = pty.openpty()
    modes = termios.tcgetattr(slave)
    modes[3] &= ~termios.ECHO  # of ^C in the middle of a word
    modes[3] |= termios.NOFLSH  # Ctrl-C would take what was printed and not read yet
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    # A session's first terminal becomes the one that controls it.
    start = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    code = start + PRELUDE + textwrap.dedent(program)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as process:
        os.close(slave)
        try:
            yield Terminal(process, master)
        finally:
            process.kill()
            os.close(master)


def interrupted(program: str, run: Path, presses: int = 1) -> Terminal:
    """
    Press Ctrl-C when the program waits, and print how long it took to notice.
    """
    with terminal(program, run) as window:
        window.read("WAITS")
        for _ in range(presses):
            pressed = window.press_ctrl_c()
        ended = float(window.read(r"ENDED ([\d.]+) LEFT \[.*\]").group(1))
        print(f"Ctrl-C to KeyboardInterrupt: {(ended - pressed) * 1000:.1f} ms")
        window.exit_code()
    return window


WAITING = """
    gc.disable()  # What stays until it is collected stays.
    tell()
    stream = ckptstream.sync.follow(run)
    try:
        next(stream)
    except KeyboardInterrupt:
        report()
"""


def test_sync_stream_waits(run: Path) -> None:
    """
    It ends with `KeyboardInterrupt` and leaves no thread.
    """
    window = interrupted(WAITING, run)

    assert "LEFT []" in window.output
    assert "Traceback" not in window.output


def test_sync_stream_polls(run: Path) -> None:
    """
    Also where there are no events.
    """
    window = interrupted(WAITING.replace("(run)", "(run, watcher='poll')"), run)

    assert "LEFT []" in window.output


def test_sync_wait_for_new_checkpoint(run: Path) -> None:
    """
    The functions are interrupted like the streams.
    """
    program = """
        tell()
        try:
            ckptstream.sync.wait_for_new_checkpoint(run)
        except KeyboardInterrupt:
            report()
    """

    assert "LEFT []" in interrupted(program, run).output


def test_uncaught_it_ends_the_process(run: Path) -> None:
    """
    A script that catches nothing ends with its traceback.
    """
    program = """
        tell()
        for checkpoint in ckptstream.sync.follow(run):
            pass
    """
    with terminal(program, run) as window:
        window.read("WAITS")
        window.press_ctrl_c()
        window.read("KeyboardInterrupt")
        assert 0 != window.exit_code()


def test_twice(run: Path) -> None:
    """
    The second Ctrl-C may find the clean-up under way.
    """
    program = """
        def interrupt(*_):
            presses.append(1)
            if len(presses) <= 2:
                raise KeyboardInterrupt

        gc.disable()
        presses = []
        signal.signal(signal.SIGINT, interrupt)
        tell()
        stream = ckptstream.sync.follow(run)
        try:
            try:
                next(stream)
            finally:
                while len(presses) < 2:
                    time.sleep(1)
        except KeyboardInterrupt:
            pass
        report()
    """
    with terminal(program, run) as window:
        window.read("WAITS")
        # The system may make one signal of two that come so close.
        while not window.has("ENDED"):
            window.press_ctrl_c()
        window.read(r"LEFT \[.*\]")

    assert "LEFT []" in window.output


def test_while_a_look_hangs(run: Path) -> None:
    """
    Storage that does not answer holds nobody back; its thread is a daemon.
    """
    program = """
        import ckptstream._stores._local as local

        def listdir(path):
            os.write(1, b"WAITS\\n")  # whole, whoever else prints
            threading.Event().wait()

        local.os.listdir = listdir
        HANGING = 1
        try:
            next(ckptstream.sync.follow(run))
        except KeyboardInterrupt:
            report()
    """
    window = interrupted(program, run)

    assert "LEFT ['ckptstream-look']" in window.output


def test_stream_goes_on_afterwards(run: Path) -> None:
    """
    An interrupted call loses no checkpoint.
    """
    program = """
        tell()
        stream = ckptstream.sync.follow(run)
        try:
            next(stream)
        except KeyboardInterrupt:
            report()
        print("FOUND", next(stream).step, flush=True)
    """
    with terminal(program, run) as window:
        window.read("WAITS")
        save(run, 7)
        window.press_ctrl_c()
        window.read("FOUND 7")


def test_at_any_moment(run: Path) -> None:
    """
    Whatever a call does when Ctrl-C comes, also while its event loop starts: the next one works.
    """
    program = """
        save = __import__("ckptstream.testing").testing.save
        save(run, 1)
        interrupts = told = 0
        while told < 100:
            try:
                if not told:
                    print("READY", flush=True)
                while told < 100:
                    if told < interrupts:
                        told += 1
                        print("INTERRUPT", flush=True)
                    assert [1] == [c.step for c in ckptstream.sync.follow(run, timeout=0)]
            except KeyboardInterrupt:
                interrupts += 1
        report()
    """
    lost = 0
    with terminal(program, run) as window:
        window.read("READY")
        while (told := window.count("INTERRUPT")) < 100:
            window.press_ctrl_c()
            deadline = time.monotonic() + 3
            while window.count("INTERRUPT") == told and time.monotonic() < deadline:
                window.has("LEFT")
            lost += window.count("INTERRUPT") == told
        window.read(r"LEFT \[.*\]")

    assert "LEFT []" in window.output
    # Python itself loses one that comes while it runs the callback of a weak reference.
    assert lost <= 3


def test_sigterm_handler_may_close_the_stream(run: Path) -> None:
    """
    It runs in the thread that waits.
    """
    program = """
        tell()
        stream = ckptstream.sync.follow(run)
        signal.signal(signal.SIGTERM, lambda *_: stream.close())
        print("FOUND", list(stream), stream.status().ended, flush=True)
        report()
    """
    with terminal(program, run) as window:
        window.read("WAITS")
        window.process.terminate()
        window.read(r"FOUND \[\] it was closed")
        window.read(r"LEFT \[\]")


ASYNC = """
    async def main():
        tell()
        async for checkpoint in ckptstream.follow(run):
            pass

    try:
        START
    except KeyboardInterrupt:
        interrupted = True
    assert interrupted
    gc.collect()  # Event loops' own tracebacks.
    report()
"""


@pytest.mark.parametrize(
    "start",
    [
        "asyncio.run(main())",
        "__import__('uvloop').run(main())",
        "__import__('trio').run(main)",
        "anyio.run(main, backend='trio')",
    ],
)
def test_async_stream_waits(run: Path, start: str) -> None:
    """
    The event loop ends with `KeyboardInterrupt`, and nothing else.
    """
    window = interrupted(ASYNC.replace("START", start), run)

    assert "LEFT []" in window.output
    assert "Traceback" not in window.output


@pytest.mark.parametrize("start", ["asyncio.run(main())", "__import__('trio').run(main)"])
def test_async_stream_while_a_look_hangs(run: Path, start: str) -> None:
    """
    Neither the loop nor the process waits for the storage.
    """
    program = f"""
        import ckptstream._stores._local as local

        def listdir(path):
            os.write(1, b"WAITS\\n")  # whole, whoever else prints
            threading.Event().wait()

        local.os.listdir = listdir
        HANGING = 1

        async def main():
            await anext(ckptstream.follow(run))

        try:
            {start}
        except KeyboardInterrupt:
            report()
    """
    window = interrupted(program, run)

    assert "LEFT ['ckptstream-look']" in window.output
    assert "Traceback" not in window.output
