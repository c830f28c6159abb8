"""`ckptstream doctor`: what can be relied on where a run lies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import anyio

from .. import RunStatus, follow
from .._stores import mount, mount_point, profile
from .._threads import Call
from ._command_line import DIRECTORIES, command, flag
from ._errors import Refused, one_line
from ._inotify_limits import Used, used
from ._news import keep_silent
from ._options import in_dashes
from ._probe import Probed, probe
from ._units import shown

_EXAMPLES = """\
What lies in such a directory is `ckptstream ls`'s to say. Without --probe nothing is written.

examples:
  ckptstream doctor runs/7b
  ckptstream doctor runs/7b --probe

exit codes:
  0  nothing is wrong
  1  something is: its line begins with an exclamation mark
  2  a wrong call
"""
_PATIENCE = 5.0  # seconds
_SCARCE = 0.9  # of a limit
_MUCH = 0.5  # seconds: clocks that differ by less do no harm
_UNTRIED = "not tried: --probe writes two small files there, and removes them"


class _Line(NamedTuple):
    what: str
    words: str
    wrong: bool = False


_HANGS = _Line("storage", "it does not answer: streams wait for it, and ask again", wrong=True)


def _doctor(directories: tuple[str, ...], probe: bool, debug: bool) -> int:
    if not debug:
        keep_silent()  # A stream warns of what it waits for; here it is said below.
    return anyio.run(_examine, tuple(map(os.path.expanduser, directories)), probe)


async def _examine(directories: tuple[str, ...], tries: bool) -> int:
    wrong = False
    for directory in directories:
        status = await _look(directory)
        wrong |= _say(directory, await _facts(status, tries))
    with anyio.move_on_after(_PATIENCE):
        found = await Call(lambda alive: used(), lambda: "/proc").wait()
        wrong |= _say("inotify, for this user, as far as can be seen", _limits(found))
    return int(wrong)


def _say(title: str, lines: Iterable[_Line]) -> bool:
    """Whether anything is wrong."""
    print(shown(title), flush=True)
    wrong = False
    for line in lines:
        wrong |= line.wrong
        print(shown(f"{'!' if line.wrong else ' '} {line.what}: {line.words}"), flush=True)
    return wrong


async def _look(directory: str) -> RunStatus:
    """What a stream knows after its first look."""
    try:
        stream = follow(directory, timeout=0, latest_only=True)
    except (TypeError, ValueError) as error:
        raise Refused(in_dashes(error)) from None
    if stream.status().patterns:
        raise Refused(f"DIR={directory!r} is a pattern: give one run's directory")
    try:
        with anyio.move_on_after(_PATIENCE):
            await anext(stream, None)
        return stream.status().runs[0]
    except NotADirectoryError as error:
        raise Refused(str(error)) from None
    finally:
        await stream.aclose()


def _place(path: str) -> _Line:
    """By the path's text alone: what is mounted there may hang."""
    point, kind = mount(os.path.abspath(path))
    return _Line("filesystem", f"{kind}, mounted at {point}")


async def _facts(status: RunStatus, tries: bool) -> list[_Line]:
    lines = [_place(status.run)]
    if status.unanswered is not None or status.last_look is None:
        return [*lines, _HANGS]
    try:
        with anyio.fail_after(_PATIENCE):
            learn = partial(_learn, status, tries)
            lines = await Call(learn, partial(mount_point, status.run)).wait()
    except TimeoutError:
        lines.append(_HANGS)
    return lines


def _learn(status: RunStatus, tries: bool, alive: Callable[[], None]) -> list[_Line]:
    """What must be asked of the storage, in a thread."""
    lines = [_place(os.path.realpath(status.run))]
    there = os.path.isdir(status.run)
    lines.append(_Line("directory", "found" if there else status.waiting_for, wrong=not there))
    lines.append(_Line("watcher", f"{status.watcher}: {status.watcher_reason}"))
    if not there:
        return lines
    settle = profile(status.run).settle
    lines.append(_Line("settled", f"is what has not changed for {settle:g} s"))
    if not tries:
        return [*lines, _Line("events", _UNTRIED), _Line("clock", _UNTRIED)]
    try:
        return [*lines, *_probed(probe(status.run), status.watcher == "inotify")]
    except OSError as error:
        return [*lines, _Line("probe", f"nothing can be written there: {one_line(error)}")]


def _probed(found: Probed, trusted: bool) -> Iterator[_Line]:
    """*trusted*: whether events are relied on."""
    if found.event is None:
        yield _Line("events", "none came: have it polled, with --watcher poll", wrong=trusted)
    else:
        others = "" if trusted else ", but not for what other hosts do: it is polled"
        yield _Line("events", f"they come, after {found.event * 1000:.1f} ms{others}")
    words = f"{abs(found.clock):.1f} s {'ahead of' if found.clock > 0 else 'behind'} this host's"
    harmless = "; no harm, since times are compared with the storage's own clock"
    same = abs(found.clock) < _MUCH
    yield _Line("clock", "as this host's" if same else f"{words}{harmless}")
    yield _Line("hard links", "can be made: pins work" if found.links else "none: no pins")


def _limits(found: Used | None) -> Iterator[_Line]:
    if found is None:
        yield _Line("none", "not on this system: all is polled")
        return
    for what, count, limit in (
        ("instances", found.instances, found.max_instances),
        ("watches", found.watches, found.max_watches),
    ):
        scarce = count >= _SCARCE * limit
        hint = (
            f": raise fs.inotify.max_user_{what} (sysctl), else runs are polled" if scarce else ""
        )
        yield _Line(what, f"{count:,} of {limit:,} in use{hint}", wrong=scarce)


COMMAND = command(
    "doctor",
    _doctor,
    long="Say of each directory on what filesystem it lies, how it is watched, and why.",
    examples=_EXAMPLES,
    parameters=(
        DIRECTORIES,
        flag("--probe", "Try whether events arrive: write two small files there, and remove them."),
    ),
)
