"""
The S3 server of `object_store.py`: a program that keeps buckets in memory, and counts.

moto answers a listing in about 10 ms, so that a thousand runs would wait for the server and not
for their client; and it does not let objects be older than they are, as a history must be. This
one has only what the contenders ask for: ListObjectsV2 (prefix, delimiter, start-after,
continuation, 1,000 keys a page), HEAD, GET (a range, If-None-Match) and PUT. It checks no
signatures. Times are in whole seconds, as S3's are.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

CONTROL = "/-"  # what is asked there is not counted
_PAGE = 1_000  # keys
_REASONS = {200: "OK", 206: "Partial Content", 304: "Not Modified", 404: "Not Found"}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Object(NamedTuple):
    """One object; *modified* is in seconds since 1970."""

    content: bytes
    etag: str
    modified: int

    @property
    def headers(self) -> dict[str, str]:
        """What HEAD and GET say of it."""
        return {"ETag": self.etag, "Last-Modified": formatdate(self.modified, usegmt=True)}


class Answer(NamedTuple):
    """What goes back."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Request(NamedTuple):
    """What came, with the names of its headers in small letters."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Bucket:
    """
    Objects by their keys.

    Attributes:
        counts: How many requests came of each kind, and how many bytes went out.
    """

    def __init__(self) -> None:
        self.objects = dict[str, Object]()
        self.counts = Counter[str]()
        self._keys = list[str]()

    def put(self, key: str, content: bytes, modified: float) -> Object:
        """Store it whole."""
        if key not in self.objects:
            insort(self._keys, key)
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        self.objects[key] = Object(content, etag, int(modified))
        return self.objects[key]

    def fill(self, objects: list[tuple[str, int, float]]) -> None:
        """Store objects of some size and age."""
        for key, size, modified in objects:
            self.put(key, key.encode().ljust(size, b"."), modified)

    def list(self, query: Mapping[str, str]) -> bytes:
        """One page, of ListObjectsV2."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        if "continuation-token" in query:  # the first key of this page
            index = bisect_left(self._keys, query["continuation-token"])
        else:
            index = max(
                bisect_left(self._keys, prefix),
                bisect_right(self._keys, query.get("start-after", "")),
            )
        limit = min(_PAGE, int(query.get("max-keys", _PAGE)))
        contents, prefixes = list[str](), list[str]()
        while self._is_below(prefix, index) and len(contents) + len(prefixes) < limit:
            key = self._keys[index]
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                contents.append(_entry(key, self.objects[key]))
                index += 1
            else:
                common = key[:end]
                prefixes.append(f"{common}{delimiter}")
                index = bisect_left(self._keys, f"{common}{chr(ord(delimiter) + 1)}", index)
        following = self._keys[index] if self._is_below(prefix, index) else None
        return _page(query, contents, prefixes, following)

    def _is_below(self, prefix: str, index: int) -> bool:
        return index < len(self._keys) and self._keys[index].startswith(prefix)


def _entry(key: str, found: Object) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(found.modified))
    return (
        f"<Contents><Key>{key}</Key><LastModified>{moment}</LastModified>"
        f"<ETag>{found.etag.replace(chr(34), '&quot;')}</ETag><Size>{len(found.content)}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


def _page(
    query: Mapping[str, str], contents: list[str], prefixes: list[str], following: str | None
) -> bytes:
    common = [f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in prefixes]
    more = (
        "" if following is None else f"<NextContinuationToken>{following}</NextContinuationToken>"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
        f"<Prefix>{query.get('prefix', '')}</Prefix><MaxKeys>{_PAGE}</MaxKeys>"
        f"<KeyCount>{len(contents) + len(common)}</KeyCount>"
        f"<IsTruncated>{str(following is not None).lower()}</IsTruncated>{more}"
        f"{''.join(contents)}{''.join(common)}</ListBucketResult>"
    ).encode()


class Service:
    """All buckets; one is made when it is first named."""

    def __init__(self) -> None:
        self._buckets = defaultdict[str, Bucket](Bucket)

    def answer(self, request: Request) -> bytes:
        """The whole answer, as it goes over the line."""
        if request.path == CONTROL:
            return _wire(request, Answer(200, {}, json.dumps(self._control(request)).encode()))
        name, _, key = request.path.strip("/").partition("/")
        bucket = self._buckets[name]
        kind, answer = self._ask(bucket, key, request)
        data = _wire(request, answer)
        bucket.counts[kind] += 1
        if kind != "PUT":  # A trainer's; all else is the contender's.
            bucket.counts["bytes"] += len(data)
        return data

    def _control(self, request: Request) -> Any:
        order = json.loads(request.body)
        bucket = self._buckets[order["bucket"]]
        bucket.fill(order.get("objects", []))
        return bucket.counts

    @staticmethod
    def _ask(bucket: Bucket, key: str, request: Request) -> tuple[str, Answer]:
        if request.method == "PUT":
            return "PUT", Answer(200, bucket.put(key, request.body, time.time()).headers)
        if not key and request.method == "GET":
            return "list", Answer(
                200, {"Content-Type": "application/xml"}, bucket.list(request.query)
            )
        found = bucket.objects.get(key)
        if found is None:
            code = b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>"
            return request.method, Answer(404, {"Content-Type": "application/xml"}, code)
        if request.headers.get("if-none-match") == found.etag:
            return request.method, Answer(304, found.headers)
        return request.method, _content(found, request.headers.get("range", ""))


def _content(found: Object, wanted: str) -> Answer:
    match, size = _RANGE.fullmatch(wanted), len(found.content)
    if match is None:
        return Answer(200, found.headers, found.content)
    if match[1]:
        start, end = int(match[1]), min(size, int(match[2] or size) + 1)
    else:  # so many of the last bytes
        start, end = max(0, size - int(match[2])), size
    headers = {**found.headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}
    return Answer(206, headers, found.content[start:end])


def _wire(request: Request, answer: Answer) -> bytes:
    length = {} if answer.status == 304 else {"Content-Length": str(len(answer.body))}
    headers = {"Date": formatdate(usegmt=True), **answer.headers, **length}
    lines = [f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}"]
    lines += (f"{name}: {value}" for name, value in headers.items())
    head = "\r\n".join([*lines, "", ""]).encode()
    return head if request.method == "HEAD" else head + answer.body


class _Connection(asyncio.Protocol):
    """One connection, which stays open."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (request := self._parse()) is not None:
            self._transport.write(self._service.answer(request))

    def _parse(self) -> Request | None:
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return None
        self._data = rest[length:]
        method, target, _ = first.split()
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return Request(method, unquote(parts.path), query, headers, rest[:length])


async def _serve() -> None:
    service = Service()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(service), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
