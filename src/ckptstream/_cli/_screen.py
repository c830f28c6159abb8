"""The live view on a terminal: lines that stay, and below them what changes."""

from __future__ import annotations

import io
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext, suppress

import anyio
from anyio.abc import TaskStatus
from rich.console import Console, ConsoleDimensions
from rich.live import Live
from rich.segment import Segments
from rich.text import Text

from .._model import Status
from ._activity import Activities
from ._lines import Output
from ._saying import said_by
from ._units import shown
from ._view import View

_STDOUT, _STDERR = 1, 2
_OFTEN = 0.5  # seconds: so often it is drawn again, since ages grow and the window changes
_AT_ONCE = 0.05  # seconds: what comes within is drawn together
_USUAL = 80, 24  # columns and lines of a terminal that does not know how large it is
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
        self._output = Output()
        self._notes = deque[str]()
        self._width = 0

    async def run(self, task_status: TaskStatus[None]) -> None:
        """Draw it again and again, until cancelled; then it stays as it is."""
        self._measure()
        self._live.start()
        self._console.show_cursor(True)  # Who presses Ctrl-Z, or kills this, needs it.
        above = said_by(self._notes.append) if os.isatty(_STDERR) else nullcontext()
        with suppress(OSError):
            try:
                with above:
                    task_status.started()
                    await self._draw_for_ever()
            finally:
                self._print_notes()
                self._live.stop()
                with anyio.move_on_after(_OFTEN, shield=True):  # Nobody may read it any more.
                    await self._flush()

    async def _draw_for_ever(self) -> None:
        while True:
            changed = self._activities.changed
            pause = max(_OFTEN, _SELDOM * await self._draw())
            with anyio.move_on_after(pause):
                await changed.wait()
            await anyio.sleep(min(_AT_ONCE, pause))

    async def say(self, line: str) -> None:
        """A line that stays, above what changes."""
        self._notes.append(line)
        self._print_notes()
        await self._flush()

    def _print_notes(self) -> None:
        """What was said since the last time, in any thread."""
        lines = list[str]()
        while self._notes:
            lines.append(shown(self._notes.popleft()))
        if lines:
            self._console.print(Text("\n".join(lines)), soft_wrap=True)

    def _view(self) -> Segments:
        """As it is drawn for now: rich asks for it again below each line that is printed."""
        view = View(self._status(), self._activities, self._until, self._evaluates)
        return Segments(self._console.render(view))

    async def _draw(self) -> float:
        """Returns the seconds that it took, without those in which nobody read."""
        began = time.monotonic()
        self._measure()
        self._print_notes()
        self._live.refresh()
        self._text.write("\r")  # Where a terminal shows what is typed: there it moves nothing.
        took = time.monotonic() - began
        await self._flush()
        return took

    def _measure(self) -> None:
        try:
            columns, lines = os.get_terminal_size(_STDOUT)
        except OSError:  # It is gone, and a signal will say so.
            return
        columns, lines = columns or _USUAL[0], lines or _USUAL[1]
        self._console.size = ConsoleDimensions(columns, lines)
        if self._width > columns:
            # What was drawn for a wider window stands on more lines now than rich knows of.
            self._console.clear()
        self._width = columns

    async def _flush(self) -> None:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        await self._output.write(text.encode("utf-8", "replace"))
