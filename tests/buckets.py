"""
Object stores for tests: an S3 server on loopback, and what is put into buckets.
"""

from __future__ import annotations

import http.server
import io
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

SECRET = "the-secret-of-the-test"


@dataclass(frozen=True)
class Server:
    """
    An S3 server.
    """

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """
        What a user would have set.
        """
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def store(self, bucket: str, **options: Any) -> Any:
        """
        A store of obstore's in a bucket.
        """
        from obstore.store import S3Store

        return S3Store(
            bucket,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id="test",
            secret_access_key=SECRET,
            client_options={"allow_http": True},
            **options,
        )

    def make_bucket(self, name: str) -> None:
        """
        obstore makes none.
        """
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        request.add_header("Content-Length", "0")
        with urllib.request.urlopen(request) as answer:
            assert 200 == answer.status


@contextmanager
def moto() -> Iterator[Server]:
    """
    A server of this process, at a port that is free.
    """
    pytest.importorskip("obstore")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield Server(f"http://{host}:{port}")
    finally:
        server.stop()


def put(store: Any, path: str, content: bytes = b"x") -> None:
    """
    Put an object there, as one whole.
    """
    store.put(path, io.BytesIO(content), use_multipart=False)


class Proxy:
    """
    Passes requests on to an S3 server, unless it is told to answer something else.

    `status` is what it answers with; None: what the server says.
    """

    def __init__(self, server: Server, port: int = 0) -> None:
        self.status: int | None = None
        self.asked: list[str] = []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy.asked.append(f"{self.command} {self.path}")
                status, headers, body = proxy.answer(server.endpoint + self.path, self)
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._http.server_port}"

    def answer(
        self, url: str, asked: http.server.BaseHTTPRequestHandler
    ) -> tuple[int, dict[str, str], bytes]:
        """
        Status, headers and body.
        """
        if self.status is not None:
            body = f"<Error><Code>Wrong</Code><Message>{SECRET}</Message></Error>".encode()
            return self.status, {"Content-Length": str(len(body))}, body
        kept = {key: asked.headers[key] for key in ("Range", "Authorization") if asked.headers[key]}
        request = urllib.request.Request(url, headers=kept, method=asked.command)
        try:
            found = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            found = error
        with found:
            names = ("Content-Length", "Content-Range", "ETag", "Last-Modified", "Content-Type")
            headers = {name: found.headers[name] for name in names if found.headers[name]}
            return found.status or 500, headers, found.read()

    def close(self) -> None:
        """
        Nobody listens there any more.
        """
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
