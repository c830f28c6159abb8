"""
Checkpoints of the simulated trainer as objects, and in which order they are uploaded.
"""

from __future__ import annotations

import io
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import anyio
from steering import drained

from ckptstream import follow
from ckptstream._stores._bucket import SETTLE
from ckptstream.testing import ManualWatcher, Operation, operations

LINK = "latest-rank0.pt.symlink"  # Composer's
POLL = 10.0  # seconds

Objects = dict[str, bytes]
Found = tuple[str, "int | None"]


class Disk:
    """
    Files by their paths, in the order in which they came to be whole; no directories, no links.
    """

    def __init__(self) -> None:
        self.files: Objects = {}

    def apply(self, operation: Operation) -> None:
        path = operation.path
        match operation.action:
            case "write":
                self.files.pop(path, None)
                self.files[path] = operation.content
            case "append":
                self.files[path] = self.files.pop(path, b"") + operation.content
            case "rename":
                self._rename(path, operation.target)
            case "symlink" if path.startswith("latest-rank"):
                # Composer uploads a file that says where it leads.
                self.files.pop(LINK, None)
                self.files[LINK] = operation.target.encode()
            case "remove" | "rmtree":
                for name in self._below(path):
                    del self.files[name]
            case _:
                pass

    def _below(self, path: str) -> list[str]:
        return [name for name in self.files if name == path or name.startswith(f"{path}/")]

    def _rename(self, path: str, target: str) -> None:
        for name in self._below(path):
            self.files.pop(f"{target}{name.removeprefix(path)}", None)
            self.files[f"{target}{name.removeprefix(path)}"] = self.files.pop(name)


@dataclass(frozen=True)
class Upload:
    """
    A layout, in how many shards, and what it cannot know of an upload.

    What is described is what lies in the checkpoint, or beside it, as a regular expression.

    Attributes:
        marker: Fits what says that it is finished.
        uncounted: Fits what the layout does not ask for.
        unproven: Fits what nothing speaks of: once the marker is there it may be absent. Unless it
            comes, with a later time than the marker's: then it is time that tells.
        together: Fits what nothing speaks of while all of it is absent.
        settled: Fits what may be absent when nothing has changed for a while.
        auto: Whether `layout="auto"` finds it in whatever order it comes.
    """

    layout: str
    shards: int = 1
    marker: str = ""
    uncounted: str = ""
    unproven: str = ""
    together: str = ""
    settled: str = ""
    auto: bool = True

    def __str__(self) -> str:
        return f"{self.layout}-{self.shards}"

    @property
    def early(self) -> str:
        """
        Fits what may be absent while nothing has told otherwise.
        """
        return f"{self.uncounted}|{self.unproven}|{self.together}"

    def step(self, step: int) -> int | None:
        """
        What the stream says of a step.
        """
        return None if self.layout in {"keras-backup", "ray"} else step

    def first(self, path: str, name: str) -> bool:
        """
        Whether this is what says that the checkpoint is finished.
        """
        return fits(self.marker, [path], name)


def fits(pattern: str, paths: Iterable[str], name: str) -> bool:
    """
    Whether all of these, in the checkpoint or beside it, are what is described.
    """
    short = (path.removeprefix(f"{name}/") for path in paths)
    return all(re.fullmatch(pattern, path) for path in short)


@dataclass
class Training:
    """
    What a framework has on its disk, save after save.
    """

    layout: str
    shards: int = 1
    disk: Disk = field(default_factory=Disk)
    kept: list[int] = field(default_factory=list[int])

    def save(self, step: int) -> tuple[str, Objects]:
        """
        The checkpoint's name, and what was written for it, in the framework's order.
        """
        before, name = dict(self.disk.files), ""
        touched = dict[str, None]()
        for operation in operations(step, self.layout, earlier=self.kept, shards=self.shards):
            self.disk.apply(operation)
            touched[operation.path] = touched[operation.target] = None
            if operation.action == "symlink":
                touched[LINK] = None
            name = operation.finishes or name
        self.kept = [*(kept for kept in self.kept if kept != step), step]
        files = self.disk.files
        written = {path: files[path] for path in files if _is_touched(path, touched, before)}
        return name, written


def _is_touched(path: str, touched: Mapping[str, None], before: Objects) -> bool:
    above = (path[: match.start()] for match in re.finditer("/", path))
    return path not in before or path in touched or not touched.keys().isdisjoint(above)


ORDERS = ("framework", "reversed", "by name", "marker first")


def ordered(order: str, objects: Objects, upload: Upload, name: str) -> list[str]:
    """
    In which order the objects are uploaded: one of `ORDERS`, or a number for one at random.
    """
    paths = list(objects)
    match order:
        case "framework":
            return paths
        case "reversed":
            return paths[::-1]
        case "by name":
            return sorted(paths)
        case "marker first":
            return sorted(paths, key=lambda path: not upload.first(path, name))
        case _:
            return random.Random(int(order)).sample(paths, len(paths))


@dataclass(frozen=True)
class Got:
    """
    An answer with an object's content.
    """

    meta: Any
    content: bytes

    def bytes(self) -> bytes:
        return self.content


class Bucket:
    """
    An object store in this process, in which objects come at the times that a test says.
    """

    def __init__(self) -> None:
        from obstore.store import MemoryStore

        self._store = MemoryStore()
        self._times: dict[str, int] = {}
        self._etags: dict[str, str | None] = {}
        self.now = 1_800_000_000

    def put(self, path: str, content: bytes) -> None:
        self._store.put(path, io.BytesIO(content), use_multipart=False)
        self._times[path] = self.now
        self._etags.pop(path, None)

    def copy(self, path: str, other: str) -> None:
        """
        As an upload of the same content does it: with the same ETag.
        """
        self._store.copy(path, other)
        self._times[other] = self.now
        self._etags[other] = self._store.head(path)["e_tag"]

    def list_with_delimiter(self, prefix: str | None = None) -> Any:
        listed = self._store.list_with_delimiter(prefix)
        objects = [self._dated(each) for each in listed["objects"]]
        return {"objects": objects, "common_prefixes": listed["common_prefixes"]}

    def head(self, path: str) -> Any:
        return self._dated(self._store.head(path))

    def list(
        self, prefix: str | None = None, *, offset: str | None = None, chunk_size: int = 50
    ) -> Iterator[list[Any]]:
        for page in self._store.list(prefix, offset=offset, chunk_size=chunk_size):
            yield [self._dated(each) for each in page]

    def get(self, path: str, *, options: Any = None) -> Got:
        answer = self._store.get(path, options=options)
        return Got(self._dated(answer.meta), bytes(answer.bytes()))

    def _dated(self, found: Any) -> Any:
        when = datetime.fromtimestamp(self._times[found["path"]], timezone.utc)
        etag = self._etags.get(found["path"], found["e_tag"])
        return {**found, "last_modified": when, "e_tag": etag}


class Slow(Bucket):
    """
    One in which each object comes a second after the one before.
    """

    def put(self, path: str, content: bytes) -> None:
        self.now += 1
        super().put(path, content)


class Follower:
    """
    A stream over a bucket, and what came of it.
    """

    def __init__(self, layout: str, bucket: Any) -> None:
        self.bucket = bucket
        self.watcher = ManualWatcher(events=False)
        self.stream = follow(bucket, layout=layout, watcher=self.watcher, poll_interval=POLL)
        self.came: list[Found] = []

    async def look(self) -> list[Found]:
        """
        What has come now.
        """
        self.stream.wake()
        found = await drained(self.stream, self.watcher)
        new = [(each.path.rpartition("/")[2], each.step) for each in found]
        self.came += new
        return new

    async def wait(self) -> list[Found]:
        """
        What has come after all has settled.
        """
        found = list[Found]()
        for _ in range(5):
            await anyio.sleep(SETTLE + POLL)
            if isinstance(self.bucket, Bucket):
                self.bucket.now += int(SETTLE + POLL)
            found += await self.look()
        return found
