"""`ckptstream doctor`: what can be relied on where a run lies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import anyio

from .. import RunStatus, follow
from .._errors import UnknownOption
from .._stores import Finding, Location
from .._stream import shortest
from .._stream.places import hint, is_pattern, locations
from .._threads import Call
from ._command_line import DIRECTORIES, command, flag
from ._errors import Refused, one_line
from ._inotify_limits import Used, used
from ._news import keep_silent
from ._options import refusing
from ._probe import Probed, probe
from ._units import shown

_EXAMPLES = """\
What lies in such a directory is `ckptstream ls`'s to say. Without --probe nothing is written, and
never in an object store, s3://bucket/runs/7b.

examples:
  ckptstream doctor runs/7b
  ckptstream doctor runs/7b --probe
  ckptstream doctor s3://bucket/runs/7b

exit codes:
  0  nothing is wrong
  1  something is: its line begins with an exclamation mark
  2  a wrong call
"""
_PATIENCE = 5.0  # seconds
_PATIENCE_PAID = 15.0  # of a server: longer than it is given to take a connection
_SCARCE = 0.9  # of a limit
_MUCH = 0.5  # seconds: clocks that differ by less do no harm
_NO_PROBE = "nothing is written in an object store: it has no events and no links to try"
_UNTRIED = "not tried: --probe writes two small files there, and removes them"


_HANGS = Finding("storage", "it does not answer: streams wait for it, and ask again", wrong=True)


def _doctor(directories: tuple[str, ...], probe: bool, debug: bool) -> int:
    if not debug:
        keep_silent()  # A stream warns of what it waits for; here it is said below.
    return anyio.run(_examine, tuple(map(os.path.expanduser, directories)), probe)


async def _examine(directories: tuple[str, ...], tries: bool) -> int:
    wrong = False
    locations = [_location(directory) for directory in directories]
    for location, directory in zip(locations, directories, strict=True):
        wrong |= _say(location.path, await _facts(location, directory, tries))
    if all(location.why_poll for location in locations):
        return int(wrong)
    with anyio.move_on_after(_PATIENCE):
        found = await Call(lambda alive: used(), lambda: "/proc").wait()
        wrong |= _say("inotify, for this user, as far as can be seen", _limits(found))
    return int(wrong)


def _say(title: str, lines: Iterable[Finding]) -> bool:
    """Whether anything is wrong."""
    print(shown(title), flush=True)
    wrong = False
    for line in lines:
        wrong |= line.wrong
        print(shown(f"{'!' if line.wrong else ' '} {line.what}: {line.words}"), flush=True)
    return wrong


def _location(directory: str) -> Location:
    with refusing():
        [location] = locations((directory,))
        if is_pattern(location.path):
            raise Refused(f"DIR={location.path!r} is a pattern: give one run's directory")
        return location
    raise AssertionError  # It swallows nothing.


async def _look(directory: str) -> RunStatus:
    """What a stream knows after its first look."""
    stream = follow(directory, timeout=0, latest_only=True)
    try:
        with anyio.move_on_after(_PATIENCE):
            await anext(stream, None)
        return stream.status().runs[0]
    except NotADirectoryError as error:
        raise Refused(str(error)) from None
    finally:
        await stream.aclose()


async def _facts(location: Location, directory: str, tries: bool) -> list[Finding]:
    paid, lines = location.requests is not None, [location.described()]
    patience = _PATIENCE_PAID if paid else _PATIENCE
    try:
        with anyio.fail_after(patience):
            found = await Call(lambda _: location.examine(), location.lane, remote=paid).wait()
        lines = [_hinted(line, location.path) for line in found]
        status = await _look(directory)
        if status.unanswered is not None or status.last_look is None:
            return [*lines, _HANGS]
        lines.append(Finding("watcher", f"{status.watcher}: {status.watcher_reason}"))
        with anyio.fail_after(patience):
            learn = partial(_of_bucket if paid else _of_directory, location, status, tries)
            lines += await Call(learn, location.lane).wait()
    except UnknownOption as error:
        raise Refused(str(error)) from None
    except TimeoutError:
        lines.append(_HANGS)
    return lines


def _hinted(line: Finding, path: str) -> Finding:
    return line._replace(words=f"{line.words}{hint(path)}") if line.wrong else line


def _of_bucket(
    location: Location, status: RunStatus, tries: bool, alive: Callable[[], None]
) -> list[Finding]:
    longest, made = location.poll_interval, (location.requests or 0)
    often = f"every {shortest(longest):g} to {longest:g} s, most often while one is expected"
    lines = [
        Finding("polled", f"{often}; --poll-interval sets the longest"),
        _settled(location),
        Finding("requests", f"{made + (status.requests_last_hour or 0)}, to find this out"),
    ]
    return [*lines, Finding("probe", _NO_PROBE)] if tries else lines


def _settled(location: Location) -> Finding:
    settle = location.profile().settle
    return Finding("settled", f"is what has not changed for {settle:g} s")


def _of_directory(
    location: Location, status: RunStatus, tries: bool, alive: Callable[[], None]
) -> list[Finding]:
    """What must be asked of the storage, in a thread."""
    if not os.path.isdir(location.path):
        return []
    lines = [_settled(location)]
    if not tries:
        return [*lines, Finding("events", _UNTRIED), Finding("clock", _UNTRIED)]
    try:
        return [*lines, *_probed(probe(location.path), status.watcher == "inotify")]
    except OSError as error:
        return [*lines, Finding("probe", f"nothing can be written there: {one_line(error)}")]


def _probed(found: Probed, trusted: bool) -> Iterator[Finding]:
    """*trusted*: whether events are relied on."""
    if found.event is None:
        yield Finding("events", "none came: have it polled, with --watcher poll", wrong=trusted)
    else:
        others = "" if trusted else ", but not for what other hosts do: it is polled"
        yield Finding("events", f"they come, after {found.event * 1000:.1f} ms{others}")
    words = f"{abs(found.clock):.1f} s {'ahead of' if found.clock > 0 else 'behind'} this host's"
    harmless = "; no harm, since times are compared with the storage's own clock"
    same = abs(found.clock) < _MUCH
    yield Finding("clock", "as this host's" if same else f"{words}{harmless}")
    yield Finding("hard links", "can be made: pins work" if found.links else "none: no pins")


def _limits(found: Used | None) -> Iterator[Finding]:
    if found is None:
        yield Finding("none", "not on this system: all is polled")
        return
    for what, count, limit in (
        ("instances", found.instances, found.max_instances),
        ("watches", found.watches, found.max_watches),
    ):
        scarce = count >= _SCARCE * limit
        hint = (
            f": raise fs.inotify.max_user_{what} (sysctl), else runs are polled" if scarce else ""
        )
        yield Finding(what, f"{count:,} of {limit:,} in use{hint}", wrong=scarce)


COMMAND = command(
    "doctor",
    _doctor,
    long="Say of each directory or URL where it lies, how it is watched, and why.",
    examples=_EXAMPLES,
    parameters=(
        DIRECTORIES,
        flag("--probe", "Try whether events arrive: write two small files there, and remove them."),
    ),
)
