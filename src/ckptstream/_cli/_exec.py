"""`--exec`: a command for each checkpoint, some at a time."""

from __future__ import annotations

import heapq
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import anyio

from .. import Checkpoint, CheckpointStream
from .._model import is_url
from .._stores import without_secrets
from ._command import Template, environment
from ._ending import SIGNALS as ENDING
from ._ending import Ending
from ._errors import NOBODY_READS, Refused, one_line
from ._lines import Lines, fields, identifier
from ._news import News
from ._options import StreamOptions
from ._processes import Processes

_NOT_STARTED = 127  # the exit code that a shell has for it
_TOGETHER = 1.0  # seconds within which a signal reaches all processes
_NEED_EXEC = ("jobs", "output", "grace", "pin")


@dataclass(frozen=True, kw_only=True)
class FollowOptions(StreamOptions):
    """What was said of a stream, and of commands."""

    json: bool
    exec: str | None
    jobs: int | None
    output: str | None
    grace: float | None
    timeout_cmd: str | None
    shell: bool


class Plan:
    """
    What `--exec` was told, before anything is started.

    Raises:
        Refused: It makes no sense.
    """

    def __init__(self, options: FollowOptions) -> None:
        self.template = Template("--exec", options.exec or "", options.shell)
        self.jobs: int = 1 if options.jobs is None else options.jobs
        if self.jobs < 1:
            raise Refused(f"--jobs={self.jobs} is too few: give 1 or more")
        output = options.output
        self.output = None if output is None else os.path.expanduser(output)
        if options.json and output is None:
            raise Refused("--json has nowhere to go, for commands write there: give --output DIR")
        if self.output is not None:
            self._make(self.output)

    @staticmethod
    def _make(directory: str) -> None:
        if is_url(directory):
            said = f"--output={without_secrets(directory)!r}"
            raise Refused(f"{said} is a URL: name a directory, from which to upload what you want")
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as error:
            raise Refused(f"--output: {one_line(error)}: name another directory") from None
        if not os.access(directory, os.W_OK | os.X_OK):
            raise Refused(f"--output={directory!r} cannot be written: name another directory")


def without_exec(options: FollowOptions) -> None:
    """Raises `Refused` if anything was said of commands though there are none."""
    for name in _NEED_EXEC:
        if getattr(options, name) not in (None, False):
            raise Refused(f"--{name} is for commands: give --exec COMMAND, too")
    if options.shell and options.timeout_cmd is None:
        raise Refused("--shell is for commands: give --exec COMMAND, too")


class Executing:
    """Runs the commands of one stream."""

    def __init__(
        self, plan: Plan, processes: Processes, ending: Ending, lines: Lines, news: News
    ) -> None:
        self._plan = plan
        self._processes = processes
        self._ending = ending
        self._lines = lines
        self._news = news
        self._slots = list(range(plan.jobs))
        self._begun = 0  # evaluations, and not ended yet
        self._undone = 0  # of those: what waits to be cancelled

    async def all(self, stream: CheckpointStream) -> None:
        """Until the stream ends."""
        await stream.for_each(partial(self._evaluate, stream), self._plan.jobs)

    async def _evaluate(self, stream: CheckpointStream, checkpoint: Checkpoint) -> None:
        self._begun += 1
        try:
            await self._settle(stream, checkpoint)
        finally:
            self._begun -= 1
            self._news.left(checkpoint)
            self._leave()

    async def _settle(self, stream: CheckpointStream, checkpoint: Checkpoint) -> None:
        try:
            self._news.arrived(checkpoint, evaluated=True)
            with self._slot() as slot:
                code, reason = await self._attempt(checkpoint, slot)
            if code != 0 and await self._is_ending(code):
                self._undone += 1
                self._leave()
                await anyio.sleep_forever()  # What is cancelled is undone.
        except anyio.get_cancelled_exc_class():
            self._news.undone += 1
            raise
        if code != 0:
            self._news.failed(checkpoint)
            await stream.failed(checkpoint, reason)
            return
        await stream.done(checkpoint)
        self._news.succeeded(checkpoint)
        if self._plan.output is not None:
            await self._tell(checkpoint)

    async def _is_ending(self, code: int) -> bool:
        """
        Whether a command may have failed only because all is about to end.

        Whoever stops a service or a job sends its signal to all processes: the command's end may
        be known here before our own.
        """
        if -code in ENDING:
            with anyio.move_on_after(_TOGETHER):
                await self._ending.begun.wait()
        return self._ending.begun.is_set()

    def _leave(self) -> None:
        """When all the others have ended, nothing is waited for any longer."""
        if self._undone and self._undone == self._begun:
            self._ending.scope.cancel()

    @contextmanager
    def _slot(self) -> Generator[int]:
        """The lowest number that no other command has."""
        slot = heapq.heappop(self._slots)
        try:
            yield slot
        finally:
            heapq.heappush(self._slots, slot)

    async def _attempt(self, checkpoint: Checkpoint, slot: int) -> tuple[int, str]:
        """Run the command; its exit code, and what is to be said of one that is not 0."""
        command, env = self._plan.template.fill(fields(checkpoint)), environment(slot)
        try:
            if self._plan.output is None:
                code = await self._processes.run(command, env=env)
                return code, _reason(code)
            path = os.path.join(self._plan.output, f"{identifier(checkpoint)}.log")
            # What an earlier attempt has written stays.
            async with await anyio.open_file(path, "ab") as file:
                output = file.wrapped.fileno()
                code = await self._processes.run(command, env=env, output=output)
                return code, f"{_reason(code)}: see {path!r}"
        except OSError as error:
            return _NOT_STARTED, f"it cannot be started: {one_line(error)}"

    async def _tell(self, checkpoint: Checkpoint) -> None:
        try:
            await self._lines.write(checkpoint)
        except BrokenPipeError:
            await self._ending.begin("nobody reads standard output any more", NOBODY_READS)
        except OSError as error:
            await self._ending.begin(f"standard output: {one_line(error)}", 1)


def _reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"ended by {signal.Signals(-code).name}"
    return f"ended by signal {-code}"
