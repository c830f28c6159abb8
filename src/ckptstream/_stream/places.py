"""Which runs a user names, and which paths."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeAlias

from .._model import is_url
from .._stores import (
    NAMELESS,
    SCHEMES,
    Client,
    LocalLocation,
    Location,
    bucket_location,
    given_store,
    shown,
    without_secrets,
)

StrPath: TypeAlias = "str | os.PathLike[str]"
RunPath: TypeAlias = "StrPath | Client"


def is_pattern(path: str) -> bool:
    """Whether a path stands for all directories that match it."""
    return "*" in path


def hint(path: str) -> str:
    """What is added where a path leads nowhere that was meant for a shell, most likely."""
    strange = next((character for character in "?[{" if character in path), None)
    return "" if strange is None else f" ('*' is the only wildcard, {strange!r} is none)"


def directory(name: str, value: object) -> str:
    """The path of one directory as text, as the caller wrote it."""
    path = path_text(name, value)
    if is_pattern(path):
        raise ValueError(f"{name}={shown(path)} is a pattern: only follow() takes one")
    return path


def path_text(name: str, value: object) -> str:
    """A path or a pattern as text."""
    given = f"{name}={shown(value)}"
    if not isinstance(value, (str, os.PathLike)):
        remedy = "give a str or an os.PathLike"
        if isinstance(value, Iterable) and not isinstance(value, bytes):
            remedy = f"give each as an argument of its own, follow(*{name}s)"
        raise TypeError(f"{given} is not a path: {remedy}")
    path = os.fspath(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not isinstance(path, str):
        raise TypeError(f"{given} is a path of bytes: use os.fsdecode() on it")
    if not path:
        remedy = "name a file" if name == "cursor" else "name a directory, '.' for the current one"
        raise ValueError(f"{name}='' is empty: {remedy}")
    scheme, slash, _ = path.partition(":/")
    if slash and scheme in SCHEMES and not is_url(path):
        raise ValueError(
            f"{name}={shown(path)} has one slash: write {scheme}://, or './' before it"
        )
    if "\0" in path:
        raise ValueError(f"{name}={shown(path)} holds a null character: no path can")
    if path == "~" or path.startswith("~/"):
        raise ValueError(
            f"{name}={path!r} is not expanded: give os.path.expanduser({path!r}), "
            "or './~' for a directory of that name"
        )
    if is_url(path) and name == "cursor":
        raise ValueError(f"{name}={shown(path)} is a URL: name a file")
    return path


def location(name: str, value: object) -> Location:
    """
    Where one run lies; not where several do.

    Raises:
        ModuleNotFoundError: It is in an object store, and obstore is not installed.
    """
    found = _place(name, value)
    if is_pattern(found.path):
        raise ValueError(f"{name}={found.path!r} is a pattern: only follow() takes one")
    return found


def locations(values: tuple[object, ...]) -> list[Location]:
    """What `follow` was given, patterns too; what is given twice is one run."""
    if not values:
        raise TypeError("checkpoint_dirs=() is empty: name at least one directory")
    found = [_one_or_more("checkpoint_dir", value) for value in values]
    named = {each.path: each for each in found}
    twice = next((each.path for each in found if named[each.path] != each), None)
    if twice is not None:
        remedy = "follow them in two streams"
        raise ValueError(f"checkpoint_dir={twice!r} is given with two kinds of access: {remedy}")
    return list({each.path.rstrip("/"): each for each in reversed(found)}.values())[::-1]


def _one_or_more(name: str, value: object) -> Location:
    found = _place(name, value)
    path = found.path
    parts = path.split("/") if is_pattern(path) else []
    if any("**" in part for part in parts):
        raise ValueError(f"{name}={path!r} holds '**': write a '*' for each level, such as '*/*'")
    if parts and ".." in parts[next(i for i, part in enumerate(parts) if "*" in part) :]:
        raise ValueError(f"{name}={path!r} goes up again after a '*': write it without '..'")
    return found


def _place(name: str, value: object) -> Location:
    if isinstance(value, Client):
        return given_store(value)
    path = path_text(name, value)
    return bucket_location(name, path) if is_url(path) else LocalLocation(path)


def check_names(cursor: str | None, runs: Iterable[Location]) -> None:
    """That a cursor would know each run again."""
    if cursor is not None and any(run.path.startswith(NAMELESS) for run in runs):
        remedy = "give the URL, or a store that has a bucket"
        raise ValueError(f"cursor={cursor!r} cannot name a run in such a store: {remedy}")


def changed_path(name: str, value: object) -> str:
    """What has changed, for `wake`."""
    path = path_text(name, value)
    return without_secrets(path) if is_url(path) else path
