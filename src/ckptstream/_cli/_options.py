"""The options of `ckptstream.follow`, each its keyword with dashes."""

from __future__ import annotations

import argparse
import os
import re

from .. import CheckpointStream, follow
from .._stream import TimeoutFn
from ._errors import Refused

_NAMED = re.compile(r"^(\w+)=")
_FLAGS = {
    "latest_only": "only the newest that is finished; what is passed over never comes back",
    "skip_existing": "only what comes from now on; with --cursor: since the first start ever",
}
_NUMBERS = {
    "min_interval_secs": "time between two checkpoints of a run, at least",
    "timeout": "end when no new one comes for so long, after a last look; 0: what is there now",
    "poll_interval": "time between two looks where there are no events (1)",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all of them."""
    text = "a run's directory, or a pattern in quotes: 'sweeps/*/checkpoints'"
    parser.add_argument("directories", nargs="+", metavar="DIR", help=text)
    add_layout(parser)
    for name, text in _FLAGS.items():
        parser.add_argument(_dashed(name), action="store_true", help=text)
    for name, text in _NUMBERS.items():
        parser.add_argument(_dashed(name), type=float, metavar="SECONDS", help=text)
    text = "end when every run has reached this step"
    parser.add_argument("--until-step", type=int, metavar="STEP", help=text)
    text = "a file that remembers what is done: a restart goes on where it stopped"
    parser.add_argument("--cursor", metavar="FILE", help=text)
    text = "how many more attempts one gets that has failed, before it is set aside (0)"
    parser.add_argument("--retries", type=int, default=0, metavar="N", help=text)
    text = "keep what the trainer deletes until it is done; of each run N that wait (8)"
    parser.add_argument("--pin", nargs="?", type=_pins, default=False, metavar="N", help=text)
    text = "how to notice (auto)"
    choices = ("auto", "inotify", "poll")
    parser.add_argument("--watcher", choices=choices, default="auto", help=text)


def add_layout(parser: argparse.ArgumentParser) -> None:
    """Add how the framework writes."""
    text = "how they are written: hf, orbax, tensorflow ..., 'step_{step}/DONE', 'ckpt_{step}.pt'"
    parser.add_argument("--layout", default="auto", help=f"{text} (auto)")


def stream_of(options: argparse.Namespace, timeout_fn: TimeoutFn | None) -> CheckpointStream:
    """
    The stream that was asked for.

    Raises:
        Refused: It makes no sense.
    """
    cursor = None if options.cursor is None else os.path.expanduser(options.cursor)
    interval = options.min_interval_secs
    try:
        return follow(
            *map(os.path.expanduser, options.directories),
            layout=options.layout,
            latest_only=options.latest_only,
            skip_existing=options.skip_existing,
            until_step=options.until_step,
            min_interval_secs=0 if interval is None else interval,
            timeout=options.timeout,
            timeout_fn=timeout_fn,
            cursor=cursor,
            retries=options.retries,
            pin=options.pin,
            poll_interval=options.poll_interval,
            watcher=options.watcher,
        )
    except (TypeError, ValueError) as error:
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


def _pins(text: str) -> bool | int:
    return True if not text else int(text)
