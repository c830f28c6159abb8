"""The options of `ckptstream.follow`, each its keyword with dashes."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import click

from .. import CheckpointStream, follow
from .._stream import TimeoutFn
from ._command_line import DIRECTORIES, LAYOUT, FileName, flag, value
from ._errors import Refused

_PLACEHOLDER = re.compile(r"\{[a-z]+\}")
_NAMED = re.compile(r"^(\w+)=")


class _Pins(click.ParamType["bool | int"]):
    name = "integer"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> bool | int:
        if isinstance(value, bool):
            return value
        try:
            return int(str(value)) if value else True
        except ValueError:
            self.fail(f"{value!r} is not a number: say how many, or nothing", param, ctx)


STREAM_OPTIONS = (
    DIRECTORIES,
    LAYOUT,
    flag("--latest-only", "Only the newest finished one; what is passed over never comes back."),
    flag(
        "--skip-existing",
        "Only what comes from now on; with --cursor: since the first start ever.",
    ),
    value("--min-interval-secs", "Time between two of a run, at least.", "SECONDS", float, 0.0),
    value(
        "--timeout",
        "End when no new one comes for so long, after a last look; 0: what is there now.",
        "SECONDS",
        float,
    ),
    value(
        "--poll-interval",
        "Time between two looks where there are no events (1); in a bucket the longest (60).",
        "SECONDS",
        float,
    ),
    value("--until-step", "End when every run has reached this step.", "STEP", int),
    value(
        "--cursor",
        "A file that remembers what is done: a restart goes on where it stopped.",
        "FILE",
        FileName(directory=False),
    ),
    value(
        "--retries",
        "How many more attempts one gets that has failed, before it is set aside (0).",
        "N",
        int,
        0,
    ),
    value(
        "--pin",
        "Keep what the trainer deletes until it is done; of each run N that wait (8).",
        "[N]",
        _Pins(),
        False,
    ),
    value(
        "--watcher",
        "How to notice (auto).",
        "auto|inotify|poll",
        click.Choice(("auto", "inotify", "poll")),
        "auto",
    ),
)


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """What they say."""

    directories: tuple[str, ...]
    layout: str
    latest_only: bool
    skip_existing: bool
    min_interval_secs: float
    timeout: float | None
    poll_interval: float | None
    until_step: int | None
    cursor: str | None
    retries: int
    pin: bool | int
    watcher: Literal["auto", "inotify", "poll"]
    debug: bool


def stream_of(options: StreamOptions, timeout_fn: TimeoutFn | None) -> CheckpointStream:
    """
    The stream that was asked for.

    Raises:
        Refused: It makes no sense.
    """
    for directory in options.directories:
        if _PLACEHOLDER.fullmatch(directory):
            raise Refused(f"DIR={directory!r}: put the whole command of --exec in quotes")
    cursor = None if options.cursor is None else os.path.expanduser(options.cursor)
    with refusing():
        return follow(
            *map(os.path.expanduser, options.directories),
            layout=options.layout,
            latest_only=options.latest_only,
            skip_existing=options.skip_existing,
            until_step=options.until_step,
            min_interval_secs=options.min_interval_secs,
            timeout=options.timeout,
            timeout_fn=timeout_fn,
            cursor=cursor,
            retries=options.retries,
            pin=options.pin,
            poll_interval=options.poll_interval,
            watcher=options.watcher,
        )
    raise AssertionError  # It swallows nothing.


@contextmanager
def refusing() -> Generator[None]:
    """Have what the library says of an argument be a wrong call: raises `Refused`."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise Refused(in_dashes(error)) from None
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise Refused(in_dashes(error)) from None


def in_dashes(error: Exception) -> str:
    """What an error says of an argument, as it is written on the command line."""
    text = str(error).replace("None waits for ever", "leave it out to wait for ever")
    found = _NAMED.match(text)
    if found is None:
        return text
    name = found[1]
    shown = "DIR" if name == "checkpoint_dir" else _dashed(name)
    return f"{shown}{text[found.end(1) :]}"


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"
