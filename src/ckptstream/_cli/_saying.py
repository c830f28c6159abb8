"""Lines on standard error, said without waiting for who reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Thread

from .._stores import without_secrets
from ._units import shown

_STDERR = 2
_URL = re.compile(r"\b[a-z0-9]+://\S*?(?=['\"]?[:,.;)]?(?:\s|$))")
_PATIENCE = 2.0  # seconds that nobody reads before the last of it is given up


def say(text: str) -> None:
    """Say something in one line, from any thread; of a URL not what may be secret."""
    # What is said of a URL has no options: this is for what others say, such as of a wrong word.
    text = _URL.sub(lambda found: without_secrets(found[0]), text)
    _speakers[-1](f"ckptstream: {shown(text)}")


def trace(error: BaseException | None) -> None:
    """Say where an error comes from."""
    from traceback import format_exception  # Only here: the command is to start fast.

    for line in "".join(format_exception(error)).splitlines():
        say(line)


@contextmanager
def said_by(speaker: Callable[[str], None]) -> Generator[None]:
    """While it is open, lines are given to *speaker*, who knows where there is room for them."""
    _speakers.append(speaker)
    try:
        yield
    finally:
        _speakers.remove(speaker)


@contextmanager
def speaking() -> Generator[None]:
    """
    While it is open, a thread writes what is said.

    A pipe may be full and a terminal stopped: neither must hold up evaluations, or a signal.
    """
    lines = SimpleQueue[str | None]()
    thread = Thread(target=_write_all, args=(lines,), daemon=True)
    thread.start()
    try:
        with said_by(lines.put):
            yield
    finally:
        lines.put(None)
        thread.join(_PATIENCE)


def _write_all(lines: SimpleQueue[str | None]) -> None:
    while (line := lines.get()) is not None:
        _write(line)


def _write(line: str) -> None:
    with suppress(OSError):  # It may be closed.
        os.write(_STDERR, f"{line}\n".encode())


_speakers: list[Callable[[str], None]] = [_write]
