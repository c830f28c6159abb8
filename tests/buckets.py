"""
Object stores for tests: an S3 server on loopback, and what is put into buckets.
"""

from __future__ import annotations

import io
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
        import urllib.request

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
