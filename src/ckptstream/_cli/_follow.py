"""`ckptstream follow`: each finished checkpoint as a line."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import anyio

from .. import CheckpointStream, CursorError
from .._stream import TimeoutFn
from ._command import split
from ._ending import GRACE, Ending
from ._errors import Refused
from ._lines import Lines
from ._news import News, news_of
from ._options import add_options, stream_of
from ._parser import EXIT_CODES, Commands
from ._processes import Processes, ask

Work: TypeAlias = Callable[[CheckpointStream], Awaitable[None]]

_EXAMPLES = f"""\
Each line is a path; on a terminal its step and layout follow. What was missed, has failed or is
set aside, and whatever else needs a person, is said on standard error.

examples:
  ckptstream follow runs/7b
  ckptstream follow 'sweeps/*/checkpoints' --json
  ckptstream follow runs/7b --timeout 0 | xargs -n 1 python eval.py
  ckptstream follow runs/7b --layout 'step_{{step}}/DONE' --until-step 10000
  ckptstream follow runs/7b --timeout 600 --timeout-cmd 'python has_ended.py 7b'

{EXIT_CODES}"""


def add(commands: Commands) -> argparse.ArgumentParser:
    """Add the command."""
    parser = commands.add_parser(
        "follow",
        help="print each checkpoint as soon as it is finished",
        description="Print each checkpoint of these runs as soon as it is finished.",
        epilog=_EXAMPLES,
    )
    add_options(parser)
    text = "print an object with every field instead, one a line"
    parser.add_argument("--json", action="store_true", help=text)
    text = "asked when --timeout has expired: exit code 0 means that the training has ended"
    parser.add_argument("--timeout-cmd", metavar="COMMAND", help=text)
    text = "have the shell understand commands; what stands for a placeholder is quoted"
    parser.add_argument("--shell", action="store_true", help=text)
    parser.set_defaults(run=run)
    return parser


def run(options: argparse.Namespace) -> int:
    """Follow. Returns the exit code."""
    processes = Processes()
    stream = stream_of(options, _timeout_fn(options, processes))
    with news_of(options.debug) as news:
        return anyio.run(_follow, options, stream, processes, news)


def _timeout_fn(options: argparse.Namespace, processes: Processes) -> TimeoutFn | None:
    if options.timeout_cmd is None:
        return None
    if options.timeout is None:
        raise Refused("--timeout-cmd is never asked without --timeout: give it, in seconds")
    return partial(ask, processes, split("--timeout-cmd", options.timeout_cmd, options.shell))


async def _follow(
    options: argparse.Namespace, stream: CheckpointStream, processes: Processes, news: News
) -> int:
    ending = Ending(stream, GRACE, processes)
    work = partial(_print, Lines(options.json), news)
    fault: Exception | None = None
    async with anyio.create_task_group() as tasks:
        await tasks.start(ending.watch)
        try:
            with ending.scope:
                await _in_block(stream, work)
        except Exception as error:  # A task group would wrap it.
            fault = error
        tasks.cancel_scope.cancel()
    if fault is not None:
        raise fault
    status = stream.status()
    all_done = news.sum_up(status, ending.reason or status.ended or "")
    return int(not all_done) if ending.code is None else ending.code


async def _in_block(stream: CheckpointStream, work: Work) -> None:
    entered = False
    try:
        async with stream:
            entered = True
            await work(stream)
    except NotADirectoryError as error:
        raise Refused(str(error)) from None
    except CursorError as error:
        if entered:
            raise
        raise Refused(str(error)) from None


async def _print(lines: Lines, news: News, stream: CheckpointStream) -> None:
    async for checkpoint in stream:
        await lines.write(checkpoint)
        news.succeeded(checkpoint)
