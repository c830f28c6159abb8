"""The live view on a terminal: lines that stay, and below them what changes."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress

import anyio
from anyio.abc import TaskStatus
from rich.console import Console, ConsoleDimensions
from rich.live import Live
from rich.text import Text

from .._model import Status, printable
from ._activity import Activities
from ._errors import said_by
from ._lines import write
from ._view import View

_STDOUT, _STDERR = 1, 2
_OFTEN = 0.5  # seconds: so often it is drawn again, since ages grow and the window changes
_AT_ONCE = 0.05  # seconds: what comes within is drawn together
_SELDOM = 20  # times as long as drawing took: a thousand runs must not take a core


class Screen:
    """
    Draws what a stream knows. rich makes the text, which is written without blocking.

    Args:
        status: Asked for what the stream knows.
        activities: What has happened.
        until_step: Where all runs are to get, or None.
        evaluates: Whether anything is evaluated.
    """

    def __init__(
        self,
        status: Callable[[], Status],
        activities: Activities,
        until_step: int | None,
        evaluates: bool,
    ) -> None:
        self._status = status
        self._activities = activities
        self._until = until_step
        self._evaluates = evaluates
        self._text = io.StringIO()
        self._console = Console(file=self._text, force_terminal=True, highlight=False)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=self._view,
        )
        self._lock = anyio.Lock()
        self._width = 0

    async def run(self, task_status: TaskStatus[None]) -> None:
        """Draw it again and again, until cancelled; then it stays as it is."""
        self._measure()
        self._live.start()
        above = said_by(self.note) if os.isatty(_STDERR) else nullcontext()
        with above, suppress(OSError):
            task_status.started()
            try:
                await self._draw_for_ever()
            finally:
                with anyio.move_on_after(_OFTEN, shield=True):  # Nobody may read it any more.
                    self._live.stop()
                    await self._flush()

    async def _draw_for_ever(self) -> None:
        while True:
            began, changed = time.monotonic(), self._activities.changed
            await self._draw()
            pause = max(_OFTEN, _SELDOM * (time.monotonic() - began))
            with anyio.move_on_after(pause):
                await changed.wait()
            await anyio.sleep(min(_AT_ONCE, pause))

    async def say(self, line: str) -> None:
        """A line that stays, above what changes."""
        self.note(line)
        await self._flush()

    def note(self, line: str) -> None:
        """The same, when it is drawn the next time."""
        self._console.print(Text(printable(line)), soft_wrap=True)

    def _view(self) -> View:
        return View(self._status(), self._activities, self._until, self._evaluates)

    async def _draw(self) -> None:
        self._measure()
        self._live.refresh()
        await self._flush()

    def _measure(self) -> None:
        try:
            columns, lines = os.get_terminal_size(_STDOUT)
        except OSError:  # It is gone, and a signal will say so.
            return
        self._console.size = ConsoleDimensions(max(columns, 1), max(lines, 1))
        if self._width > columns:
            # What was drawn for a wider window stands on more lines now than rich knows of.
            self._console.clear()
        self._width = columns

    async def _flush(self) -> None:
        async with self._lock:
            text = self._text.getvalue()
            self._text.seek(0)
            self._text.truncate()
            await write(text.encode("utf-8", "replace"))
