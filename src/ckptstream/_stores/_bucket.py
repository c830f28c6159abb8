"""Runs in object stores: S3, Google Cloud Storage, Azure, and whatever else obstore reads."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from .._model import FileStat
from ._client import Client, Object, connect, objects, storage_error
from ._protocol import Profile

T = TypeVar("T")

# A checkpoint of several objects is uploaded one by one, and a large one takes its time.
SETTLE = 30.0  # seconds
POLL_INTERVAL = 10.0  # seconds
_SECOND = 1_000_000_000  # nanoseconds
_DIRECTORY = FileStat(0, 0, 0, True)


@dataclass(slots=True)
class BucketLocation:
    """
    A run's objects: those whose keys begin with one prefix.

    Args:
        path: What it is called: a URL without options.
        prefix: What stands before the names in the keys, without a slash at its end; may be empty.
        bucket: The bucket's own URL.
        options: Options of the URL, for obstore. They may be secrets.
        client: A store that the user has made; None: one is made when it is needed.
    """

    path: str
    prefix: str = ""
    bucket: str = ""
    options: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    client: Client | None = field(default=None, repr=False)

    @property
    def why_poll(self) -> str:
        """Buckets are asked."""
        return "an object store is asked, it does not tell"

    @property
    def poll_interval(self) -> float:
        """Each request is paid for."""
        return POLL_INTERVAL

    @property
    def check(self) -> tuple[str, str]:
        """What a person should check."""
        return "check the endpoint, and the credentials and their rights", "check the endpoint"

    def absolute(self) -> str:
        """The URL."""
        return self.path

    def absent(self) -> str:
        """The URL."""
        return repr(self.path)

    def above(self) -> tuple[BucketLocation, str] | None:
        """The prefix above it; None if it is the bucket."""
        if not self.prefix:
            return None
        prefix, _, name = self.prefix.rpartition("/")
        path = self.path.rpartition("/")[0]
        return replace(self, path=path, prefix=prefix), name

    def lane(self) -> str:
        """The bucket."""
        return self.bucket or self.path

    def stand(self) -> tuple[tuple[int, int], int]:
        """A prefix is always the same place; whether anything is there, a listing says."""
        return (0, 0), 0

    def profile(self) -> Profile:
        """No events, no renames; ETags serve as inodes."""
        kind = self.path.partition(":")[0]
        return Profile(kind, events=False, rename=False, inodes=True, settle=SETTLE, paid=True)

    def open(self, profile: Profile, alive: Callable[[], None]) -> BucketStore:
        """What one look asks. Raises `OSError` if no client can be made."""
        if self.client is None:
            self.client = connect(self.bucket, self.options)
        return BucketStore(self.client, self.prefix, self.path, alive)

    def fault(self, error: OSError) -> OSError:
        """The error says it all."""
        return error


class BucketStore:
    """
    One look's view of a run's objects. What a listing said holds until the look is over.

    An object's ETag, as a number, is its `FileStat.inode`. Times are in whole seconds, for a
    listing and a question for one object must say the same, which HTTP's `Last-Modified` limits.
    """

    def __init__(
        self, client: Client, prefix: str, url: str, alive: Callable[[], None] = lambda: None
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._url = url
        self._alive = alive
        self._listed: dict[str, dict[str, FileStat]] = {}
        self._marked = set[str]()  # directories for which a console has put an object

    def names(self) -> list[str]:
        """The names at the location itself. Raises `OSError` if there are none: nothing is."""
        found = self._entries("")
        if found or "" in self._marked:
            return list(found)
        if self._prefix and self._head("") is not None:
            raise NotADirectoryError(errno.ENOTDIR, "an object, not a prefix", self._url)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._url)

    def has(self, name: str) -> bool:
        """Whether there is an object or a prefix of that name."""
        return self.stat(name) is not None

    def list(self, path: str) -> tuple[str, ...]:
        """The names below a prefix, in order."""
        return tuple(sorted(self._entries(path)))

    def stat(self, path: str, *, again: bool = False) -> FileStat | None:
        """Size, time and ETag of an object, or that it is a prefix of others."""
        if again:
            return self._head(path)
        directory, _, name = path.rpartition("/")
        if directory or "" in self._listed:
            return self._entries(directory).get(name)
        # The whole run need not be listed for one name in it.
        is_directory = bool(self._entries(path)) or path in self._marked
        return _DIRECTORY if is_directory else self._head(path)

    def read(self, path: str, start: int, size: int) -> bytes | None:
        """Up to *size* bytes of an object; a negative *start* counts from its end."""
        found = self.stat(path)
        if found is None or found.is_directory:
            return None
        start = max(0, found.size + start) if start < 0 else start
        size = min(size, found.size - start)
        if size <= 0:
            return b""
        key = self._key(path)
        content = self._ask(lambda: self._client.get_range(key, start=start, length=size), path)
        return None if content is None else bytes(content)

    def pointer(self, path: str, size: int) -> bytes | None:
        """The first bytes of an object: there are no links."""
        if path not in self._entries(""):
            return None
        content = self.read(path, 0, size)
        # What it names is looked at after it was read, not before.
        self._listed.pop("", None)
        return content

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}".strip("/")

    def _entries(self, path: str) -> dict[str, FileStat]:
        """What lies one level below a prefix."""
        found = self._listed.get(path)
        if found is None:
            found = self._listed[path] = self._ask_for_entries(path)
        return found

    def _ask_for_entries(self, path: str) -> dict[str, FileStat]:
        key = self._key(path)
        listed = self._ask(lambda: self._client.list_with_delimiter(key or None), path)
        if listed is None:  # the bucket itself
            return {}
        files, directories = objects(listed)
        length = len(key) + 1 if key else 0
        found = {file["path"][length:]: _stat(file) for file in files if file["path"] != key}
        found |= dict.fromkeys((each[length:] for each in directories), _DIRECTORY)
        if len(found) < len(files) + len(directories):
            self._marked.add(path)
        return found

    def _head(self, path: str) -> FileStat | None:
        key = self._key(path)
        found: Object | None = self._ask(lambda: self._client.head(key), path)
        return None if found is None else _stat(found)

    def _ask(self, call: Callable[[], T], path: str) -> T | None:
        """The answer; None if there is no such thing. Raises `OSError`."""
        self._alive()
        url = os.path.join(self._url, path) if path else self._url
        try:
            answer = call()
        except Exception as error:
            fault = storage_error(error, url)
            if fault.errno == errno.ENOENT:
                return None
            raise fault from None
        self._alive()
        return answer


def _stat(found: Object) -> FileStat:
    # One server quotes it in one answer and not in the other.
    etag = (found["e_tag"] or "").removeprefix("W/").strip('"')
    number = int.from_bytes(hashlib.blake2b(etag.encode(), digest_size=7).digest(), "big")
    seconds = int(found["last_modified"].timestamp())
    return FileStat(found["size"], seconds * _SECOND, number if etag else 0, False)
