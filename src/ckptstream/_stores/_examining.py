"""What a person is told of a bucket who asks what is wrong."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from typing import Any, cast

from .._model import is_url
from ._client import PAGE, Client, storage_error
from ._protocol import Finding
from ._urls import without_secrets

_USUAL = {"s3": "Amazon S3", "gs": "Google Cloud Storage"}
_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")  # obstore does not say what it took from them
_MUCH = 2.0  # seconds: objects have times in whole ones


def examine(client: Client, prefix: str, path: str) -> Iterator[Finding]:
    """
    Make one request, in a thread, and say what its answer tells. Nothing is written.

    Args:
        client: The bucket's.
        prefix: What is listed.
        path: Its URL.
    """
    where, began = _endpoint(client, path), time.monotonic()
    try:
        found = next(client.list(prefix or None, chunk_size=PAGE), ())
    except Exception as error:
        yield from _refused(where, storage_error(error, path))
        return
    took = (time.monotonic() - began) * 1000
    yield Finding("endpoint", f"{where} answers, after {took:.0f} ms")
    yield Finding("credentials", "accepted: objects may be listed")
    yield Finding("bucket", "found")
    if not found:
        yield Finding("prefix", "nothing lies there yet", wrong=True)
        return
    yield Finding("prefix", "found")
    ahead = max(item["last_modified"].timestamp() for item in found) - time.time()
    if ahead > _MUCH:
        yield Finding("clock", f"{ahead:.0f} s ahead of this host's, or more; no harm")


def _refused(where: str, fault: OSError) -> Iterator[Finding]:
    words = fault.strerror or ""
    answered = words[:1].isdigit()  # an HTTP status
    if fault.errno == errno.EACCES:
        if answered:
            yield Finding("endpoint", f"{where} answers")
        remedy = "check them, and their right to list the bucket"
        yield Finding("credentials", f"{words}: {remedy}", wrong=True)
    elif fault.errno == errno.ENOENT:
        yield Finding("endpoint", f"{where} answers")
        yield Finding("bucket", f"{words}: check its name, and the region", wrong=True)
    else:
        verb = " answers" if answered else ""
        remedy = "" if fault.errno == errno.EPROTONOSUPPORT else ": check it"
        yield Finding("endpoint", f"{where}{verb}: {words}{remedy}", wrong=True)


def _endpoint(client: Client, path: str) -> str:
    """Where it is asked, as far as that can be seen."""
    config, kind = cast("dict[str, Any]", getattr(client, "config", {})), path.partition(":")[0]
    variables = _VARIABLES if kind == "s3" else ()
    found = [config.get("endpoint"), *map(os.environ.get, variables)]
    endpoint = next((str(each) for each in found if each), "")
    return without_secrets(endpoint) if is_url(endpoint) else _USUAL.get(kind, "Azure")
