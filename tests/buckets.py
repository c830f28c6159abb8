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

import anyio
import pytest
from observing import SECONDS

from ckptstream import Checkpoint, CheckpointStream, follow

SECRET = "the-secret-of-the-test"
LAYOUT = "step_{step}/DONE"
QUICK = 0.02  # seconds between two looks

Answer = tuple[int, dict[str, str], bytes]


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


def finish(store: Any, *steps: int, below: str = "") -> None:
    """
    Upload checkpoints, their markers last.
    """
    for step in steps:
        put(store, f"{below}step_{step}/model.bin", b"weights")
        put(store, f"{below}step_{step}/DONE")


def quick(*runs: Any, **options: Any) -> CheckpointStream:
    """
    A stream that asks often.
    """
    return follow(*runs, **{"layout": LAYOUT, "poll_interval": QUICK, **options})


async def take(stream: CheckpointStream, count: int) -> list[Checkpoint]:
    """
    What comes next, which comes soon.
    """
    with anyio.fail_after(SECONDS):
        return [await anext(stream) for _ in range(count)]


class Proxy:
    """
    Passes requests on to an S3 server, unless it is told to do something else.

    Attributes:
        status: What it answers with; None: what the server says.
        code: What it then says is wrong.
        listing: What becomes of a listing. "cut": the connection ends in its middle; "truncated":
            its second half is missing.
        asked: All requests.
        holding: How many requests wait for `release`, after `hold`.
        port: Where it listens.
    """

    def __init__(self, server: Server, port: int = 0) -> None:
        self.status: int | None = None
        self.code = "Wrong"
        self.listing = ""
        self.asked: list[str] = []
        self.holding = 0
        self._released = threading.Event()
        self._released.set()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy.asked.append(f"{self.command} {self.path}")
                proxy.wait()
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

        self._handler = Handler
        self.port = port
        self.listen()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def listen(self) -> None:
        """
        From now on; at the same port as before.
        """
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), self._handler)
        self.port = self._http.server_port
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def hold(self) -> None:
        """
        Let requests wait from now on.
        """
        self._released.clear()

    def release(self) -> None:
        """
        Answer them.
        """
        self._released.set()

    def wait(self) -> None:
        """
        As long as requests are held.
        """
        self.holding += 1
        self._released.wait()
        self.holding -= 1

    def answer(self, url: str, asked: http.server.BaseHTTPRequestHandler) -> Answer:
        """
        Status, headers and body.
        """
        if self.status is not None:
            words = f"<Code>{self.code}</Code><Message>{SECRET}</Message>"
            body = f"<Error>{words}</Error>".encode()
            return self.status, {"Content-Length": str(len(body))}, body
        answer = status, headers, body = passed_on(url, asked)
        if not self.listing or "list-type=2" not in url:
            return answer
        half = body[: len(body) // 2]
        if self.listing == "truncated":
            headers["Content-Length"] = str(len(half))
        return status, headers, half

    def close(self) -> None:
        """
        Nobody listens there any more.
        """
        self.release()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def passed_on(url: str, asked: http.server.BaseHTTPRequestHandler) -> Answer:
    """
    What the server says.
    """
    names = ("Range", "Authorization", "If-None-Match", "x-amz-date", "x-amz-content-sha256")
    kept = {key: asked.headers[key] for key in names if asked.headers[key]}
    request = urllib.request.Request(url, headers=kept, method=asked.command)
    try:
        found = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        found = error
    with found:
        names = ("Content-Length", "Content-Range", "ETag", "Last-Modified", "Content-Type")
        headers = {name: found.headers[name] for name in names if found.headers[name]}
        return found.status or 500, headers, found.read()
