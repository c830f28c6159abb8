"""The values that users see: a checkpoint, and what a stream knows of its runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """
    A finished checkpoint: a frozen value and an `os.PathLike`.

    One in an object store has a URL as its path, and no file can be opened by that: `os.fspath`
    and `open` raise a `TypeError`, which says what to use.

    Two are equal when path and generation are: the same step saved again is another checkpoint.

    Attributes:
        path: The run's directory as the caller wrote it, plus the checkpoint's name. For a layout
            whose checkpoints are several files with one prefix (TensorFlow), that prefix.
        step: The number in the name, or None where the name has no integral one. What it counts
            is the framework's business (TensorFlow's `CheckpointManager` counts saves).
        run: The directory it came from, as the caller wrote it.
        layout: The name of the layout that recognised it, such as `"hf"`.
        generation: Tells a rewritten checkpoint from the first one at the same path. Opaque.
    """

    path: str
    step: int | None = field(compare=False)
    run: str = field(compare=False)
    layout: str = field(compare=False)
    generation: str

    def __fspath__(self) -> str:
        if is_url(self.path):
            remedy = "give ckpt.path to what reads URLs, such as obstore.store.from_url"
            raise TypeError(f"{self.path!r} is in an object store, and no file: {remedy}")
        return self.path

    def __str__(self) -> str:
        return self.path

    def _repr_html_(self) -> str:
        rows = {"path": self.path, "step": self.step, "run": self.run, "layout": self.layout}
        return table([(f"<b>{key}</b>", text(value)) for key, value in rows.items()])


@dataclass(frozen=True, slots=True)
class Missed:
    """
    A checkpoint that was seen but deleted before it could be delivered.

    Attributes:
        path: Where it was.
        step: Its step, or None.
        finished: Whether it had been seen finished. If not, it may have been an aborted save.
    """

    path: str
    step: int | None
    finished: bool


@dataclass(frozen=True, slots=True)
class SetAside:
    """
    A checkpoint that has failed too often, and is not delivered again.

    Attributes:
        path: Where it is.
        step: Its step, or None.
        attempts: How many have failed.
        reason: Why the last one did, as `failed` was told.
    """

    path: str
    step: int | None
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True)
class RunStatus:
    """
    What a stream knows of one run.

    Attributes:
        run: The directory, as the caller wrote it.
        watcher: `"inotify"`, `"poll"`, or None before the first look; `watcher_reason` says why.
        last_look: Seconds since the last look ended, or None before the first one.
        newest: The checkpoint delivered last, or None.
        queued: How many finished checkpoints wait to be delivered.
        waiting_for: What the run waits for, in words.
        unfinished: Each unfinished checkpoint's name and what it lacks.
        missed: What was seen and deleted before it could be delivered, the latest 100.
        missed_count: How many were missed altogether.
        skipped: How many were passed over (`latest_only`) or found at the start (`skip_existing`).
        unanswered: Seconds since the storage last answered, if a look hangs there; else None.
        set_aside: What has failed too often, the latest 100.
        retrying: Each checkpoint's name that has failed and is delivered again, and why it did.
        pinned: The names of those that are pinned, with `pin=`: no disk space of theirs is free.
        remedies: What you can do about it, where something needs a person.
        requests_last_hour: How many were made in the last hour, give or take five minutes; None
            where they are not paid for.
        recognised: Each layout that `auto` has taken something finished for, and the file, or what
            else, that it knew it by.
    """

    run: str
    watcher: str | None
    watcher_reason: str
    last_look: float | None
    newest: Checkpoint | None
    queued: int
    waiting_for: str
    unfinished: Mapping[str, str]
    missed: tuple[Missed, ...]
    missed_count: int
    skipped: int
    unanswered: float | None
    set_aside: tuple[SetAside, ...] = ()
    retrying: Mapping[str, str] = field(default_factory=dict[str, str])
    pinned: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
    requests_last_hour: int | None = None
    recognised: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        where = _eyes(self.watcher, self.watcher_reason, self.last_look, self.requests_last_hour)
        lines = [f"{self.run}: {self.waiting_for} ({where})", *_to_do(self.remedies)]
        lines += [f"  recognised as {layout} by {sign}" for layout, sign in self.recognised.items()]
        if self.newest is not None:
            lines.append(f"  newest delivered: {self.newest.path}")
        if self.queued:
            lines.append(f"  queued: {self.queued}")
        lines += [f"  {name}: {reason}" for name, reason in self.unfinished.items()]
        lines += [f"  missed: {missed.path}" for missed in self.missed]
        lines += [f"  {name}: has failed: {why}" for name, why in self.retrying.items()]
        lines += [f"  set aside: {each.path}: {each.reason}" for each in self.set_aside]
        if self.pinned:
            lines.append(f"  pinned: {', '.join(self.pinned)}")
        if self.skipped:
            lines.append(f"  skipped: {self.skipped}")
        return printable("\n".join(lines))


@dataclass(frozen=True, slots=True)
class PatternStatus:
    """
    What a stream knows of one pattern.

    Attributes:
        pattern: As the caller wrote it.
        runs: How many directories match now.
        watcher: `"inotify"`, `"poll"`, or None before the first look; `watcher_reason` says why.
        last_look: Seconds since the last look ended, or None before the first one.
        waiting_for: What it waits for, in words.
        unanswered: Seconds since the storage last answered, if a look hangs there; else None.
        remedies: What you can do about it, where something needs a person.
        requests_last_hour: How many were made in the last hour, give or take five minutes; None
            where they are not paid for.
    """

    pattern: str
    runs: int
    watcher: str | None
    watcher_reason: str
    last_look: float | None
    waiting_for: str
    unanswered: float | None
    remedies: tuple[str, ...] = ()
    requests_last_hour: int | None = None

    def __str__(self) -> str:
        where = _eyes(self.watcher, self.watcher_reason, self.last_look, self.requests_last_hour)
        lines = [f"{self.pattern}: {self.waiting_for} ({where})", *_to_do(self.remedies)]
        return printable("\n".join(lines))


@dataclass(frozen=True, slots=True)
class Status:
    """
    What a stream knows at one moment; prints readably, and as a table in a notebook.

    Attributes:
        runs: One `RunStatus` for each run; also for one that matched a pattern and is gone, if
            something of it was missed.
        ended: Why the stream has ended, or None while it goes on.
        patterns: One `PatternStatus` for each pattern.
    """

    runs: tuple[RunStatus, ...]
    ended: str | None = None
    patterns: tuple[PatternStatus, ...] = ()

    @property
    def requests_last_hour(self) -> int | None:
        """
        How many requests all of it has made in the last hour; None if none of them is paid for.

        What a run that has left its pattern has made does not count.
        """
        each = [run.requests_last_hour for run in self.runs]
        each += [pattern.requests_last_hour for pattern in self.patterns]
        paid = [count for count in each if count is not None]
        return sum(paid) if paid else None

    def __str__(self) -> str:
        lines = [*map(str, self.patterns), *map(str, self.runs)]
        if self.ended is not None:
            lines.append(f"ended: {self.ended}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "run,waiting for,newest,queued,unfinished,missed,set aside,skipped".split(",")
        rows = [tuple(f"<b>{title}</b>" for title in head)]
        rows += [(text(row.pattern), _waiting(row)) for row in self.patterns]
        for run in self.runs:
            unfinished = "<br>".join(text(f"{k}: {v}") for k, v in run.unfinished.items())
            newest = "" if run.newest is None else text(run.newest.path)
            missed = "<br>".join(text(missed.path) for missed in run.missed)
            aside = "<br>".join(text(f"{each.path}: {each.reason}") for each in run.set_aside)
            numbers = (text(run.queued), unfinished, missed, aside, text(run.skipped))
            rows.append((text(run.run), _waiting(run), newest, *numbers))
        if self.ended is not None:
            rows.append(("<b>ended</b>", text(self.ended)))
        return table(rows)


class FileStat(NamedTuple):
    """
    One file or directory, as the store shows it.

    Attributes:
        size: In bytes.
        mtime_ns: By the store's own clock: compare it with other times of the same store only.
        inode: 0 where the filesystem does not keep inode numbers. In a bucket, the object's ETag
            as a number.
        is_directory: True for a directory.
    """

    size: int
    mtime_ns: int
    inode: int
    is_directory: bool


def _eyes(watcher: str | None, reason: str, last_look: float | None, requests: int | None) -> str:
    """Who looks, when that was last, and what it costs."""
    seen = "never looked at" if last_look is None else f"seen {last_look:.1f} s ago"
    if requests is not None:
        seen = f"{seen}, {requests} request{'' if requests == 1 else 's'} in the last hour"
    if watcher is None:
        return f"no watcher yet, {seen}"
    return f"{watcher}: {reason}, {seen}" if reason else f"{watcher}, {seen}"


def _to_do(remedies: tuple[str, ...]) -> list[str]:
    return [f"  to do: {remedy}" for remedy in remedies]


def _waiting(row: RunStatus | PatternStatus) -> str:
    return "<br>".join(map(text, (row.waiting_for, *row.remedies)))


def is_url(path: str) -> bool:
    """Whether a path names something in an object store: `s3://bucket/runs/7b`."""
    return "://" in path


def absolute(path: str) -> str:
    """A path from the root; a URL is one. Raises `OSError` if the working directory is gone."""
    return path if is_url(path) else os.path.abspath(path)


def printable(value: str) -> str:
    """What can be printed and logged anywhere: a name that is not UTF-8 is shown with escapes."""
    return value.encode("utf-8", "backslashreplace").decode()


def text(value: object) -> str:
    """Any value as HTML text; a name that is not UTF-8 must not break the page."""
    import html  # Only notebooks need it.

    return html.escape(str(value).encode("utf-8", "replace").decode())


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of ready HTML cells as a small HTML table."""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{body}</table>"
