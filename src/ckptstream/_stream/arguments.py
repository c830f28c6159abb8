"""Bad input is refused at the door: every argument that a user gives is checked here."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar, cast

from .._model import is_url
from .._stores import Location
from .._watchers import Watcher
from ..layouts import Layout, PointerLayout, pointer_layouts
from .places import path_text

T = TypeVar("T")

TimeoutFn: TypeAlias = Callable[[], "bool | Awaitable[bool]"]
WatcherChoice: TypeAlias = 'Literal["auto", "inotify", "poll"] | Watcher'

Done: TypeAlias = Literal["next", "explicit"]

PINS = 8  # checkpoints of a run that are pinned before their turn comes


@dataclass(frozen=True, slots=True)
class Options:
    """What `follow` was asked for, checked."""

    layout: Layout
    latest_only: bool = False
    skip_existing: bool = False
    until_step: int | None = None
    min_interval_secs: float = 0.0
    timeout: float | None = None
    timeout_fn: TimeoutFn | None = None
    poll_interval: float | None = None  # None: as the storage is
    watcher: WatcherChoice = "auto"
    cursor: str | None = None
    done: Done = "next"
    retries: int = 0
    pin: int = 0  # how many checkpoints of a run, beside the next one; 0: none at all
    pointers: tuple[PointerLayout, ...] = field(init=False)
    pointer_names: tuple[str, ...] = field(init=False)

    def may_be_part(self, name: str) -> bool:
        """Whether a name may be part of a checkpoint, or a pointer's."""
        if name in self.pointer_names:
            return True
        try:
            return self.layout.match(name) is not None
        except Exception:
            return True  # Not for whoever reads the events: the look raises it to its own caller.

    @property
    def needs_block(self) -> bool:
        """Whether there is something to open and to close, in a block."""
        return self.cursor is not None or bool(self.pin)

    @property
    def polls(self) -> bool:
        """Whether no events are wanted."""
        return self.watcher == "poll"

    @property
    def why_poll(self) -> str:
        """Why a directory is polled where there is nothing to watch with."""
        return "as asked" if self.watcher == "poll" else "no inotify here"

    def __post_init__(self) -> None:
        # Found out once: it takes longer than all else that is done to find a checkpoint.
        pointers = pointer_layouts(self.layout)
        object.__setattr__(self, "pointers", pointers)
        object.__setattr__(self, "pointer_names", tuple(each.pointer for each in pointers))


def seconds(name: str, value: object) -> float:
    """A time in seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r} is not a number: give seconds as an int or a float")
    if not (0 <= value <= sys.float_info.max):
        hint = "None waits for ever" if name == "timeout" else "give seconds, 0 or more"
        raise ValueError(f"{name}={value!r} is not a length of time: {hint}")
    return float(value)


def optional_seconds(name: str, value: object) -> float | None:
    """A time in seconds, or None."""
    return None if value is None else seconds(name, value)


def flag(name: str, value: object) -> bool:
    """True or False and nothing that merely looks like it."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not True or False")
    return value


def cursor_file(name: str, value: object) -> str | None:
    """The path of a cursor file, or None."""
    if value is None:
        return None
    path = path_text(name, value)
    if path.endswith("/") or path in {".", ".."}:
        raise ValueError(f"{name}={path!r} is a directory: name a file, such as 'evals.db'")
    return path


def done_choice(name: str, value: object, cursor: object) -> Done:
    """When a checkpoint is done."""
    if value not in ("next", "explicit"):
        raise ValueError(f"{name}={value!r} is not known: use 'next' or 'explicit'")
    if value == "explicit" and cursor is None:
        raise ValueError(f"{name}={value!r} has nowhere to write it down: give a cursor= file")
    return value


def count(name: str, value: object, least: int) -> int:
    """How many."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} is not a number of times: give an int")
    if value < least:
        raise ValueError(f"{name}={value!r} is too few: give {least} or more")
    return value


def pins(name: str, value: object, runs: Iterable[Location]) -> int:
    """How many checkpoints of a run are pinned before their turn comes; 0: pins are not wanted."""
    if value is False:
        return 0
    if not isinstance(value, int):
        raise TypeError(f"{name}={value!r} is neither True nor False, nor a number of checkpoints")
    remote = next((run.path for run in runs if is_url(run.path)), None)
    if remote is not None:
        remedy = "leave it out, and have the trainer keep more checkpoints"
        raise ValueError(f"{name}={value!r}: an object store has no links ({remote!r}): {remedy}")
    return PINS if value is True else count(name, value, least=1)


def one_argument(name: str, value: T) -> T:
    """A callable for a checkpoint."""
    if not callable(value):
        raise TypeError(f"{name}={value!r} cannot be called: give a function of a checkpoint")
    return value


def step(name: str, value: object) -> int | None:
    """A step, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} is not a step: give an int, or None")
    if value < 0:
        raise ValueError(f"{name}={value!r} is negative: steps count from 0")
    return value


def timeout_function(name: str, value: object) -> TimeoutFn | None:
    """A callable without arguments, or None."""
    if value is None:
        return None
    if not callable(value):
        raise TypeError(f"{name}={value!r} cannot be called: give a function without arguments")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return cast("TimeoutFn", value)  # Some built-ins do not tell; the call itself will.
    try:
        signature.bind()
    except TypeError as error:
        raise TypeError(f"{name}={value!r} cannot be called without arguments: {error}") from None
    return cast("TimeoutFn", value)


def watcher_choice(name: str, value: object) -> WatcherChoice:
    """How to notice: a name, or a watcher for tests."""
    if isinstance(value, str):
        if value == "inotify" and sys.platform != "linux":
            raise ValueError(f"{name}='inotify' needs Linux: use 'auto' or 'poll'")
        if value not in {"auto", "inotify", "poll"}:
            raise ValueError(f"{name}={value!r} is not known: use 'auto', 'inotify' or 'poll'")
        return cast("WatcherChoice", value)
    if not all(hasattr(value, method) for method in ("subscribe", "submit", "wait")):
        raise TypeError(f"{name}={value!r} is no watcher: use 'auto', 'inotify' or 'poll'")
    return cast("WatcherChoice", value)  # As far as can be told: it is for tests.


def state_file(name: str, value: object, layout: object) -> str:
    """The name of TensorFlow's state file."""
    if value is None:
        return "checkpoint"
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r} is not a file's name")
    if not value or "/" in value:
        raise ValueError(f"{name}={value!r} is not a name in the directory itself")
    if layout not in ("auto", "tensorflow"):
        raise ValueError(f"{name}={value!r} is TensorFlow's: layout={layout!r} has no state file")
    return value
