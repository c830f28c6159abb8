"""
An S3 server of one bucket that holds many objects, and lists them page by page, as S3 does.
"""

from __future__ import annotations

import bisect
import hashlib
import secrets
import socketserver
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from xml.sax.saxutils import escape

from buckets import Server

PAGE = 1000
TIME = 1_700_000_000
ISO = "2023-11-14T22:13:20.000Z"


class Pages(Server):
    """
    The server.

    Attributes:
        keys: What it holds, in order; each object's content is its own key.
        listed: What listings say that it holds, where they are stale.
        asked: All requests.
        given: The tokens it gave for further pages, and *used* those with which they were asked
            for. They say nothing to anybody else, and are good for one listing.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.keys: list[str] = []
        self.listed: list[str] | None = None
        self.given: dict[str, str] = {}
        self.used: list[str] = []
        self.asked: list[str] = []

    def put(self, *keys: str) -> None:
        """
        Put objects there.
        """
        self.keys = sorted([*self.keys, *keys])

    def answer(self, method: str, target: str) -> bytes:
        """
        Everything that is sent for a request.
        """
        self.asked.append(target)
        parts = urllib.parse.urlsplit(target)
        key = urllib.parse.unquote(parts.path).lstrip("/").partition("/")[2]
        at = bisect.bisect_left(self.keys, key)
        headers = ""
        if not key:
            page = self.page(dict(urllib.parse.parse_qsl(parts.query)))
            status, body = ("400 Bad Request", "") if page is None else ("200 OK", page)
        elif key in self.keys[at : at + 1]:
            status, body = "200 OK", key
            headers = f"ETag: {etag(key)}\r\nLast-Modified: {formatdate(TIME, usegmt=True)}\r\n"
        else:
            status, body = "404 Not Found", ""
        content = body.encode()
        headers += f"Content-Length: {len(content)}\r\n\r\n"
        return f"HTTP/1.1 {status}\r\n{headers}".encode() + (b"" if method == "HEAD" else content)

    def page(self, query: dict[str, str]) -> str | None:
        """
        One page of a listing; None: the token is none that was given.
        """
        token = query.get("continuation-token")
        after = query.get("start-after", "")
        if token is not None:
            if token not in self.given:
                return None
            self.used.append(token)
            after = self.given[token]
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        found, keys = list[str](), self.keys if self.listed is None else self.listed
        at = max(bisect.bisect_right(keys, after), bisect.bisect_left(keys, prefix))
        while at < len(keys) and keys[at].startswith(prefix) and len(found) < PAGE:
            key = keys[at]
            below, slash, _ = key[len(prefix) :].partition(delimiter or "\0")
            if slash:
                after = f"{prefix}{below}{slash}\U0010ffff"
                at = bisect.bisect_right(keys, after)
                found.append(f"<CommonPrefixes><Prefix>{escape(prefix + below + slash)}</Prefix>")
                found[-1] += "</CommonPrefixes>"
            else:
                after, at = key, at + 1
                found.append(contents(key))
        more = at < len(keys) and keys[at].startswith(prefix)
        if more:
            token = secrets.token_hex(8)
            self.given[token] = after
            found.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
        return (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{''.join(found)}</ListBucketResult>"
        )


def contents(key: str) -> str:
    """
    What a listing says of an object.
    """
    return (
        f"<Contents><Key>{escape(key)}</Key><LastModified>{ISO}</LastModified>"
        f"<ETag>{etag(key)}</ETag><Size>{len(key)}</Size></Contents>"
    )


def etag(key: str) -> str:
    """
    As S3 makes it.
    """
    return f'"{hashlib.md5(key.encode()).hexdigest()}"'


@contextmanager
def pages() -> Iterator[Pages]:
    """
    A server of this process, at a port that is free.
    """

    class Handler(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            # http.server takes longer for a request than all that is tested here.
            while line := self.rfile.readline():
                while self.rfile.readline().strip():
                    pass
                method, target, _ = line.decode().split()
                self.wfile.write(server.answer(method, target))

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = True

    listener = Listener(("127.0.0.1", 0), Handler)
    server = Pages(f"http://127.0.0.1:{listener.server_address[1]}")
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
