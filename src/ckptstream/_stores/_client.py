"""Object stores by `obstore`: how one is made from a URL, and what its errors say."""

from __future__ import annotations

import errno
import os
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypedDict, cast, runtime_checkable

from .._errors import UnknownOption


class Object(TypedDict):
    """What `obstore.ObjectMeta` says of one object."""

    path: str
    last_modified: datetime
    size: int
    e_tag: str | None
    version: str | None


@runtime_checkable
class Client(Protocol):
    """What is used of a store of obstore's."""

    def list_with_delimiter(self, prefix: str | None = None) -> Any:
        """The objects and the common prefixes one level below."""
        ...

    def list(
        self, prefix: str | None = None, *, offset: str | None = None, chunk_size: int = 50
    ) -> Any:
        """All objects below, in the order of their keys, in chunks."""
        ...

    def head(self, path: str) -> Any:
        """What one object is."""
        ...

    def get(self, path: str, *, options: Any = None) -> Any:
        """Some of its bytes, with what it is."""
        ...


PAGE = 1000  # what one request lists at most

# By default a call to a server that is stuck is held up for three minutes.
_CLIENT = {"timeout": "10s", "connect_timeout": "5s"}
_RETRY: Any = {"max_retries": 1, "retry_timeout": timedelta(seconds=10)}
_CLIENT_KEYS = frozenset(
    "allow_http allow_invalid_certificates connect_timeout pool_idle_timeout proxy_ca_certificate "
    "proxy_excludes proxy_url timeout user_agent".split()
)
_VARIABLES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_", "abfs": "AZURE_", "abfss": "AZURE_"}
_ERRORS = {401: errno.EACCES, 403: errno.EACCES}
# Who gives credentials may say 404, too: that nothing is there only the store can say.
_ABSENT = re.compile(
    r"NoSuchBucket|NoSuchKey|ContainerNotFound|BlobNotFound|notFound|bucket does not exist"
)
_EXPIRED = frozenset({"ExpiredToken", "InvalidToken", "RequestExpired", "TokenRefreshRequired"})
_WORDS = (
    ("ConnectionRefused", errno.ECONNREFUSED, "the server refuses connections"),
    ("169.254.", errno.EACCES, "no credentials were found"),
    ("metadata.google.internal", errno.EACCES, "no credentials were found"),
    ("TimedOut", errno.ETIMEDOUT, "the server does not answer in time"),
    ("timed out", errno.ETIMEDOUT, "the server does not answer in time"),
    ("dns error", errno.EHOSTUNREACH, "the server's name is not known"),
    ("BadScheme", errno.EPROTONOSUPPORT, "plain http is refused: set {}ALLOW_HTTP=true"),
    ("MissingAccount", errno.EACCES, "no account: set AZURE_STORAGE_ACCOUNT_NAME"),
    ("IncompleteBody", errno.EIO, "the answer broke off"),
    ("InvalidListResponse", errno.EIO, "the answer is no listing"),
    ("Unauthenticated {", errno.EACCES, "no credentials were given"),
    ("InvalidPath", errno.EINVAL, "a key has an empty or an odd part, as in 'a//b'"),
    ("error sending request", errno.EIO, "the connection to the server broke"),
)
_UNKNOWN = "the object store raised"

_clients: weakref.WeakValueDictionary[tuple[object, ...], Client] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def connect(url: str, options: Mapping[str, str]) -> Client:
    """
    The store at a URL, in a thread; runs in the same bucket share one, with its connections.

    Args:
        url: The bucket's.
        options: As `obstore.store.from_url` and its `client_options` take them. What they do not
            say comes from the environment.

    Raises:
        OSError: It cannot be made, as without an account's name.
        UnknownOption: One of them it does not know.
    """
    # Credentials are no part of the key: only a hash of them is kept.
    key = (url, hash(frozenset(options.items())), hash(frozenset(os.environ.items())))
    with _lock:
        client = _clients.get(key)
        if client is None:
            client = _clients[key] = _connect(url, options)
        return client


def _connect(url: str, options: Mapping[str, str]) -> Client:
    from obstore.exceptions import UnknownConfigurationKeyError
    from obstore.store import from_url

    # Given some, obstore asks the environment for none of them.
    prefix = _VARIABLES[url.partition(":")[0]]
    named = {key: os.environ.get(prefix + key.upper()) for key in sorted(_CLIENT_KEYS)}
    client: Any = {**_CLIENT, **{key: value for key, value in named.items() if value is not None}}
    client |= {key: value for key, value in options.items() if key in _CLIENT_KEYS}
    config: Any = {key: value for key, value in options.items() if key not in _CLIENT_KEYS}
    # What obstore raises holds the options' values: it is let go before anything is raised here.
    fault: Exception
    try:
        return cast("Client", from_url(url, client_options=client, retry_config=_RETRY, **config))
    except UnknownConfigurationKeyError:
        fault = UnknownOption(url, list(options))
    except BaseException as error:
        fault = storage_error(error, url)
        if options and (fault.strerror or "").startswith(_UNKNOWN):
            fault = UnknownOption(url, list(options))
    raise fault


def storage_error(error: BaseException, url: str) -> OSError:
    """
    What an error of obstore's means, without its text: that may hold a signed URL.

    Raises:
        Exception: *error* itself, if it is none of obstore's.
    """
    module = type(error).__module__.partition(".")[0]
    if module == "pyo3_runtime":  # A panic of its own, such as for an endpoint without a scheme.
        return OSError(errno.EINVAL, "obstore fails: is the endpoint a URL?", url)
    foreign = module not in {"obstore", "builtins"}
    if foreign or not (isinstance(error, (OSError, ValueError)) or _is_base(error)):
        raise error
    text = str(error)
    status = re.search(r"status code: ([0-9]{3})([A-Za-z ]{0,40})", text)
    if status is not None:
        code = re.search(r"<Code>([A-Za-z]{1,60})</Code>", text)
        words = f"{status[1]}{status[2].rstrip()}" + ("" if code is None else f", {code[1]}")
        number = _ERRORS.get(int(status[1]), errno.EIO)
        if isinstance(error, FileNotFoundError) or (status[1] == "404" and _ABSENT.search(text)):
            number = errno.ENOENT
        elif code is not None and code[1] in _EXPIRED:
            number = errno.EACCES
        return OSError(number, words, url)
    if isinstance(error, OSError):
        return OSError(error.errno or errno.ENOENT, "not there", url)
    for sign, number, words in _WORDS:
        if sign in text:
            variables = _VARIABLES.get(url.partition(":")[0], "AWS_")
            return OSError(number, words.format(variables), url)
    return OSError(errno.EIO, f"{_UNKNOWN} {type(error).__name__}", url)


def _is_base(error: BaseException) -> bool:
    from obstore.exceptions import BaseError

    return isinstance(error, BaseError)


def objects(listed: Any) -> tuple[Sequence[Object], Sequence[str]]:
    """The objects and the common prefixes of a listing."""
    return listed["objects"], listed["common_prefixes"]


class Fetched(NamedTuple):
    """
    What was read of an object.

    Attributes:
        found: What it is; None if it is still what it was.
        content: The bytes.
    """

    found: Object | None
    content: bytes


def fetch(client: Client, key: str, start: int, size: int) -> Fetched:
    """Some bytes of an object, which must have the first of them."""
    answer = client.get(key, options={"range": (start, start + size)})
    return Fetched(answer.meta, bytes(answer.bytes()))


def fetch_if_other(client: Client, key: str, etag: str, size: int) -> Fetched:
    """Up to the first *size* bytes of an object, unless its ETag is that one."""
    from obstore.exceptions import NotModifiedError

    try:
        answer = client.get(key, options={"if_none_match": etag} if etag else None)
    except NotModifiedError:
        return Fetched(None, b"")
    if answer.meta["size"] > size:  # Its bytes have not been sent yet.
        return fetch(client, key, 0, size)
    return Fetched(answer.meta, bytes(answer.bytes()))
