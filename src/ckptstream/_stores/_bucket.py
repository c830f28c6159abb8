"""Runs in object stores: S3, Google Cloud Storage, Azure, and whatever else obstore reads."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ._bucket_store import BucketStore
from ._client import Client, connect
from ._examining import examine
from ._protocol import Finding, Profile

# A checkpoint of several objects is uploaded one by one, and a large one takes its time.
SETTLE = 30.0  # seconds
POLL_INTERVAL = 60.0  # seconds


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

    Attributes:
        requests: How many were made.
    """

    path: str
    prefix: str = ""
    bucket: str = ""
    options: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    client: Client | None = field(default=None, repr=False)
    requests: int = field(default=0, repr=False, init=False)
    # What pointers held, by name, with their ETags: asked again is only whether that has changed.
    pointers: dict[str, tuple[str, bytes]] = field(
        default_factory=dict[str, "tuple[str, bytes]"], repr=False, init=False
    )

    _is_given: bool = field(default=True, repr=False)

    @property
    def why_poll(self) -> str:
        """Buckets are asked."""
        return "a bucket sends no events"

    @property
    def poll_interval(self) -> float:
        """Each request is paid for: the longest wait, where nothing is expected."""
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
        path, _, name = self.path.rpartition("/")
        return self.at(path), name

    def at(self, path: str) -> BucketLocation:
        """Another prefix of the same bucket, by its URL."""
        base = self.path[: len(self.path) - len(self.prefix)].rstrip("/")
        return replace(self, path=path, prefix=path[len(base) :].strip("/"))

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
        return BucketStore(self, self._connected(), alive)

    def _connected(self) -> Client:
        if self.client is None:
            self._is_given, self.client = False, connect(self.bucket, self.options)
        return self.client

    def described(self) -> Finding:
        """The kind of store, and the bucket."""
        scheme, _, rest = self.path.partition("://")
        return Finding("store", f"{scheme}, bucket {rest.partition('/')[0]!r}")

    def examine(self) -> list[Finding]:
        """Whether it answers, accepts the credentials, and has such a bucket: in one request."""
        try:
            client = self._connected()
        except OSError as error:
            return [self.described(), Finding("credentials", error.strerror or "", wrong=True)]
        self.requests += 1
        return [self.described(), *examine(client, self.prefix, self.path)]

    def fault(self, error: OSError) -> OSError:
        """The error says it all. Credentials may have been replaced in the environment."""
        if error.errno == errno.EACCES and self.bucket and not self._is_given:
            self.client = None
        return error
