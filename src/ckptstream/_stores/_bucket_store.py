"""One look's questions to a bucket: as few requests as can be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol, TypeVar

from .._model import FileStat
from ._client import PAGE, Client, Object, fetch, fetch_if_other, objects, storage_error
from ._objects import DIRECTORY, Entries, Tree, etag, file_stat

T = TypeVar("T")

_FEW = 4  # directories that are listed one by one
_PAGES_AFTER = 3  # of a listing from some name on, before all names are listed instead


class Prefix(Protocol):
    """
    Where a run lies in a bucket, and what is kept of it from one look to the next.

    Attributes:
        path: Its URL.
        prefix: What stands before the names in the keys, without a slash at its end; may be empty.
        requests: How many were made.
        pointers: What pointers held, by name, with their ETags.
    """

    requests: int

    @property
    def path(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def pointers(self) -> dict[str, tuple[str, bytes]]: ...


class BucketStore:
    """
    One look's view of a run's objects. What it was told of one of them holds until it is over.

    An object's ETag, as a number, is its `FileStat.inode`. Times are in whole seconds, for a
    listing and a question for one object must say the same, which HTTP's `Last-Modified` limits.
    """

    def __init__(
        self, place: Prefix, client: Client, alive: Callable[[], None] = lambda: None
    ) -> None:
        self._place = place
        self._client = client
        self._alive = alive
        self._listed: dict[str, Entries] = {}
        self._is_whole = False  # every directory is listed
        self._marked = set[str]()  # directories for which a console has put an object
        self._told: dict[str, FileStat | None] = {}  # what single objects were when asked for
        self._has_pointed = False

    def names(self) -> list[str]:
        """The names at the location itself. Raises `OSError` if there are none: nothing is."""
        if self._has_pointed:
            # What a pointer names is looked at after it was read, not before.
            self._has_pointed = False
            self._listed.pop("", None)
        found = self._entries("")
        if found or "" in self._marked:
            return list(found)
        place = self._place
        if place.prefix and self._head("") is not None:
            raise NotADirectoryError(errno.ENOTDIR, "an object, not a prefix", place.path)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place.path)

    def names_after(self, name: str) -> list[str] | None:
        """
        The names that come after one in the order of keys; None if that is not to be had cheaply.

        Some servers ignore from where they are to list, which is why all are compared. What lies
        in *name* itself is passed over.
        """
        first = f"{name}0"  # after everything below `name/`, for `/` comes before `0`
        found = dict[str, None]()
        try:
            for number, page in enumerate(self._pages(offset=first)):
                for item in page:
                    here = self._relative(item["path"]).partition("/")[0]
                    if here.encode() < first.encode():
                        return None
                    found[here] = None
                if number == _PAGES_AFTER:
                    return None
        except OSError:
            return None  # A key with an odd part may lie where nobody looks.
        return list(found)

    def expect(self, names: Collection[str]) -> None:
        """These will be asked about: where one listing of all is less than one of each, take it."""
        top = self._listed.get("", {})
        unknown = [
            name
            for name in names
            if top.get(name, DIRECTORY).is_directory and name not in self._listed
        ]
        if self._is_whole or len(unknown) <= _FEW:
            return
        found = Tree()
        try:
            for number, page in enumerate(self._pages(), 1):
                found.add((self._relative(item["path"]), item) for item in page)
                self._alive()
                if number >= len(unknown):
                    return  # Files in many small parts: it has cost as much as listing each.
        except OSError:
            return  # A key with an odd part may lie where nobody looks.
        self._listed = found.listed
        # An object that a console has put there for a directory looks like an empty file.
        here = self._listed[""]
        here |= {name: DIRECTORY for name in here if top.get(name) is DIRECTORY}
        self._is_whole = True

    def has(self, name: str) -> bool:
        """Whether there is an object or a prefix of that name."""
        return self.stat(name) is not None

    def list(self, path: str) -> tuple[str, ...]:
        """The names below a prefix, in order."""
        return tuple(sorted(self._entries(path)))

    def stat(self, path: str, *, again: bool = False) -> FileStat | None:
        """Size, time and ETag of an object, or that it is a prefix of others."""
        if path in self._told:
            return self._told[path]
        directory, _, name = path.rpartition("/")
        if directory in self._listed or self._is_whole:
            return self._entries(directory).get(name)
        if again:
            return self._head(path)
        if directory:
            return self._entries(directory).get(name)
        # The whole run need not be listed for one name in it.
        is_directory = bool(self._entries(path)) or path in self._marked
        return DIRECTORY if is_directory else self._head(path)

    def extent(self, path: str) -> tuple[int, int]:
        """How many bytes lie at or below a path, by listings, and when the last of it was put."""
        found = self.stat(path)
        files = [found] if found is not None and not found.is_directory else self._below(path)
        size, newest = 0, 0
        for file in files:
            size, newest = size + file.size, max(newest, file.mtime_ns)
        return size, newest

    def _below(self, path: str) -> Iterator[FileStat]:
        if not self._is_whole:
            yield from (file_stat(item) for page in self._pages(path) for item in page)
            return
        for name, found in self._entries(path).items():
            if found.is_directory:
                yield from self._below(f"{path}/{name}")
            else:
                yield found

    def read(self, path: str, start: int, size: int) -> bytes | None:
        """Up to *size* bytes of an object; a negative *start* counts from its end."""
        found = self.stat(path)
        if found is None or found.is_directory:
            return None
        start = max(0, found.size + start) if start < 0 else start
        size = min(size, found.size - start)
        if size <= 0:
            return b""
        answer = self._ask(lambda: fetch(self._client, self._key(path), start, size), path)
        # Of what is newer than the listing, the look is told that it is: see `Snapshot.still`.
        new = None if answer is None else answer.found
        self._told[path] = None if new is None else file_stat(new)
        return None if answer is None else answer.content

    def pointer(self, path: str, size: int) -> bytes | None:
        """
        The first bytes of an object: there are no links.

        Where it was read before, the question is whether it has changed since; another one beside
        it is asked for when a listing shows it.
        """
        pointers = self._place.pointers
        known = pointers.get(path)
        if known is None and path not in self._listed.get("", () if pointers else (path,)):
            return None
        tag = "" if known is None else known[0]
        answer = self._ask(lambda: fetch_if_other(self._client, self._key(path), tag, size), path)
        if answer is None:
            pointers.pop(path, None)
            return None
        if answer.found is not None:
            known = pointers[path] = etag(answer.found), answer.content
            self._has_pointed = True
        return b"" if known is None else known[1]

    def _key(self, path: str) -> str:
        return f"{self._place.prefix}/{path}".strip("/")

    def _relative(self, key: str) -> str:
        prefix = self._place.prefix
        return key[len(prefix) + 1 :] if prefix else key

    def _entries(self, path: str) -> Entries:
        """What lies one level below a prefix."""
        found = self._listed.get(path)
        if found is None:
            found = self._listed[path] = {} if self._is_whole else self._ask_for_entries(path)
        return found

    def _ask_for_entries(self, path: str) -> Entries:
        key = self._key(path)
        listed = self._ask(lambda: self._client.list_with_delimiter(key or None), path)
        if listed is None:  # the bucket itself
            return {}
        files, directories = objects(listed)
        # Beside the first page.
        self._place.requests += max(0, len(files) + len(directories) - 1) // PAGE
        length = len(key) + 1 if key else 0
        found = {file["path"][length:]: file_stat(file) for file in files if file["path"] != key}
        found |= dict.fromkeys((each[length:] for each in directories), DIRECTORY)
        if len(found) < len(files) + len(directories):
            self._marked.add(path)
        return found

    def _pages(self, path: str = "", offset: str | None = None) -> Iterator[Sequence[Object]]:
        """All objects of the run, or below a path; a request for each page; from a name on."""
        key, start = self._key(path), None if offset is None else self._key(offset)
        listing = self._client.list(key or None, offset=start, chunk_size=PAGE)
        page = self._ask(lambda: next(listing, None), "")
        while page is not None:
            yield page
            page = self._ask(lambda: next(listing, None), "")
            self._place.requests -= page is None  # That there are no more, the last one said.

    def _head(self, path: str) -> FileStat | None:
        found = self._ask(lambda: self._client.head(self._key(path)), path)
        self._told[path] = None if found is None else file_stat(found)
        return self._told[path]

    def _ask(self, call: Callable[[], T], path: str) -> T | None:
        """The answer to one request; None if there is no such thing. Raises `OSError`."""
        self._alive()
        self._place.requests += 1
        try:
            answer = call()
        except BaseException as error:
            url = os.path.join(self._place.path, path) if path else self._place.path
            fault = storage_error(error, url)
        else:
            self._alive()
            return answer
        if fault.errno == errno.ENOENT:
            return None
        raise fault
