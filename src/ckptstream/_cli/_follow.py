"""`ckptstream follow`: each finished checkpoint as a line."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from .. import CheckpointStream, CursorError
from .._errors import UnknownOption
from .._stream import TimeoutFn
from ._command import split
from ._command_line import FileName, command, flag, value
from ._ending import GRACE, Ending
from ._errors import Refused
from ._exec import Executing, FollowOptions, Plan, without_exec
from ._lines import Lines, is_drawable, reader_has_gone
from ._news import News, news_of
from ._options import STREAM_OPTIONS, stream_of
from ._processes import Processes, ask

if TYPE_CHECKING:  # rich is for terminals, and takes its time to import.
    from ._screen import Screen

Work: TypeAlias = Callable[[CheckpointStream], Awaitable[None]]

_EXAMPLES = """\
Each line is a path; on a terminal its step and layout follow. What was missed, has failed or is
set aside, and whatever else needs a person, is said on standard error.

DIR may be in an object store, s3://bucket/runs/7b (gs://, az://), with ckptstream[object-store].
Then {path} and {run} are URLs, without options: a command has credentials from its environment.

With --exec the commands write to standard output; with --output, which keeps that in files, there
is a line for each checkpoint that is done. In COMMAND these words are replaced:
  {path} {step} {run} {layout}  as with --json; a step that is none is empty
  {generation}                 tells a checkpoint that was saved again from the first one
  {identifier}                 names a file: another one for each name in each run
Another single word in braces is refused, unless they are doubled; all other braces are text.
COMMAND is split into words as by a shell, but no shell sees it without --shell. CKPTSTREAM_SLOT in
its environment is a number from 0 to N - 1 that no other one of --jobs N has. An exit code other
than 0 is a failed attempt, made again with --retries after 10 seconds, 20, 40 ..., then set aside.
At a signal running commands are given time; what has not ended then is ended, and undone. A second
signal ends all at once.

examples:
  ckptstream follow runs/7b
  ckptstream follow 'sweeps/*/checkpoints' --json
  ckptstream follow 's3://bucket/sweeps/*' --cursor evals.db --exec 'python eval.py {path}'
  ckptstream follow runs/7b --exec 'python eval.py {path} --step {step}' --cursor evals.db
  ckptstream follow 'sweeps/*/checkpoints' --jobs 4 --output logs --cursor evals.db --retries 2 \\
      --shell --exec 'CUDA_VISIBLE_DEVICES=$CKPTSTREAM_SLOT python eval.py {path}'
  ckptstream follow runs/7b --timeout 0 | xargs -n 1 python eval.py
  ckptstream follow runs/7b --layout 'step_{step}/DONE' --until-step 10000
  ckptstream follow runs/7b --timeout 600 --timeout-cmd 'python has_ended.py 7b'

exit codes:
  0    it has ended, and all is done
  1    something has failed, was missed or is set aside
  2    a wrong call: nothing was started
  130  Ctrl-C (SIGINT); 143: SIGTERM; 129: SIGHUP
  141  nobody reads standard output any more
"""


_TEXTS = {
    "--exec": "Run this for each; {path} and others are replaced, see below; exit code 0: done.",
    "--output": "Keep what each command writes, in a file of its own, rather than pass it through.",
    "--timeout-cmd": "Asked when --timeout has expired; exit code 0: the training has ended.",
}
_PARAMETERS = (
    *STREAM_OPTIONS,
    flag("--json", "Print an object with every field instead, one a line."),
    value("--exec", _TEXTS["--exec"], "COMMAND"),
    value("--jobs", "How many commands run at once (1).", "N", int),
    value("--output", _TEXTS["--output"], "DIR", FileName(directory=True)),
    value(
        "--grace",
        f"What running commands are given after a signal, before they are ended ({GRACE:g}).",
        "SECONDS",
        float,
    ),
    value("--timeout-cmd", _TEXTS["--timeout-cmd"], "COMMAND"),
    flag("--shell", "Have the shell understand commands; what is put in for {path} is quoted."),
)


def _follow(**given: Any) -> int:
    options, processes = FollowOptions(**given), Processes()
    timeout_fn = _timeout_fn(options, processes)
    if options.exec is None:
        without_exec(options)
    grace = GRACE if options.grace is None else options.grace
    if not 0 <= grace < math.inf:
        raise Refused(f"--grace={grace} is not a length of time: give seconds, 0 or more")
    stream = stream_of(options, timeout_fn)
    plan = None if options.exec is None else Plan(options)  # The last: it makes a directory.
    with news_of(options.debug) as news:
        following = _Following(stream, grace, processes, news)
        return anyio.run(following.run, plan, options)


COMMAND = command(
    "follow",
    _follow,
    long="Print each checkpoint of these runs as soon as it is finished.",
    examples=_EXAMPLES,
    parameters=_PARAMETERS,
)


def _timeout_fn(options: FollowOptions, processes: Processes) -> TimeoutFn | None:
    if options.timeout_cmd is None:
        return None
    if options.timeout is None:
        raise Refused("--timeout-cmd is never asked without --timeout: give it, in seconds")
    return partial(ask, processes, split("--timeout-cmd", options.timeout_cmd, options.shell))


class _Following:
    def __init__(
        self, stream: CheckpointStream, grace: float, processes: Processes, news: News
    ) -> None:
        self._stream = stream
        self._grace = grace
        self._processes = processes
        self._news = news

    async def run(self, plan: Plan | None, options: FollowOptions) -> int:
        """Until it ends; the exit code."""
        ending = Ending(self._stream, self._grace, self._processes)
        screen = self._screen(plan, options)
        lines = Lines(options.json, None if screen is None else screen.say)
        work: Work = partial(self._print, lines)
        if plan is not None:
            work = Executing(plan, self._processes, ending, lines, self._news).all
        lonely = reader_has_gone if plan is None and screen is None else anyio.sleep_forever
        await _until(ending, screen, lonely, partial(_in_block, self._stream, work))
        status = self._stream.status()
        all_done = self._news.sum_up(status, ending.reason or status.ended or "")
        return int(not all_done) if ending.code is None else ending.code

    def _screen(self, plan: Plan | None, options: FollowOptions) -> Screen | None:
        """None where there is no room for one: commands may write all over a terminal."""
        if options.json or (plan is not None and plan.output is None) or not is_drawable():
            return None
        from ._activity import Activities
        from ._screen import Screen

        activities = self._news.activities = Activities(self._stream.engine.handed.written)
        evaluates = plan is not None
        return Screen(self._stream.status, activities, options.until_step, evaluates)

    async def _print(self, lines: Lines, stream: CheckpointStream) -> None:
        async for checkpoint in stream:
            self._news.arrived(checkpoint, evaluated=False)
            await lines.write(checkpoint)
            self._news.succeeded(checkpoint)


async def _until(
    ending: Ending,
    screen: Screen | None,
    lonely: Callable[[], Awaitable[None]],
    work: Callable[[], Awaitable[None]],
) -> None:
    """Work until the end, until a signal ends it, or until nobody reads."""
    fault: Exception | None = None

    async def notice() -> None:
        nonlocal fault
        await lonely()
        fault = BrokenPipeError()
        ending.scope.cancel()

    async with anyio.create_task_group() as tasks:
        await tasks.start(ending.watch)
        tasks.start_soon(notice)
        if screen is not None:
            await tasks.start(screen.run)
        try:
            with ending.scope:
                await work()
        except Exception as error:  # A task group would wrap it.
            fault = error
        tasks.cancel_scope.cancel()
    if fault is not None:
        raise fault


async def _in_block(stream: CheckpointStream, work: Work) -> None:
    entered = False
    try:
        async with stream:
            entered = True
            await work(stream)
    except (NotADirectoryError, UnknownOption) as error:
        raise Refused(str(error)) from None
    except CursorError as error:
        if entered:
            raise
        raise Refused(str(error)) from None
