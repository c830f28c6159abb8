"""Which store a user means: a directory, a URL, or a store of obstore's."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from ._bucket import BucketLocation
from ._client import Client
from ._urls import without_secrets

_SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
_KINDS = {
    "S3Store": ("s3", "bucket"),
    "GCSStore": ("gs", "bucket"),
    "AzureStore": ("az", "container_name"),
}
_INSTALL = "needs obstore: pip install 'ckptstream[object-store]'"


def bucket_location(name: str, url: str) -> BucketLocation:
    """
    What a URL names. Nothing is asked, and none of its options is ever shown.

    Raises:
        ModuleNotFoundError: obstore is not installed.
        ValueError: It names nothing that can be followed.
    """
    scheme = url.partition("://")[0]
    said = f"{name}={without_secrets(url)!r}"
    if scheme not in _SCHEMES:
        known = ", ".join(f"{each}://" for each in _SCHEMES)
        raise ValueError(f"{said} is a URL: followed are {known}, and mounted directories")
    parts = urlsplit(url)
    if "*" in parts.netloc:
        raise ValueError(f"{said} has a '*' in the bucket's name: name each bucket")
    if not parts.netloc or parts.fragment or ("@" in parts.netloc and scheme[:2] != "ab"):
        raise ValueError(f"{said} names no bucket: write {scheme}://bucket/path")
    prefix = parts.path.strip("/")
    if "//" in parts.path or not {".", ".."}.isdisjoint(prefix.split("/")):
        raise ValueError(f"{said} is no plain path: write it without '//', '.' and '..'")
    options = _options(said, parts.query)
    if importlib.util.find_spec("obstore") is None:
        raise ModuleNotFoundError(f"{said} {_INSTALL}", name="obstore")
    bucket = f"{scheme}://{parts.netloc}"
    return BucketLocation(f"{bucket}/{prefix}".rstrip("/"), prefix, bucket, options)


def _options(said: str, query: str) -> Mapping[str, str]:
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    if not all(key and value for key, _, value in pairs):
        raise ValueError(f"{said} has options that are not like '?region=eu-west-1'")
    # A '+' is one, as in many a secret: no option holds a space.
    return {unquote(key): unquote(value) for key, _, value in pairs}


def given_store(client: Client) -> BucketLocation:
    """What a store that the user has made leads to: all of it is the run."""
    made = cast("Any", client)
    scheme, key = _KINDS.get(type(client).__name__, ("", ""))
    if not scheme:
        return BucketLocation(f"memory://{id(client):x}", client=client)
    bucket = f"{scheme}://{made.config.get(key)}"
    prefix = (getattr(made, "prefix", None) or "").strip("/")
    return BucketLocation(f"{bucket}/{prefix}".rstrip("/"), bucket=bucket, client=client)
