"""Which store a user means: a directory, a URL, or a store of obstore's."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from ._bucket import BucketLocation
from ._client import Client
from ._urls import without_secrets

NAMELESS = "memory://"  # no name that another process would know
SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
_KINDS = {
    "S3Store": ("s3", "bucket"),
    "GCSStore": ("gs", "bucket"),
    "AzureStore": ("az", "container_name"),
}
# What obstore takes beside them, which is no text.
_RESERVED = frozenset({"client_options", "config", "credential_provider", "retry_config", "url"})
_INSTALL = "needs obstore: pip install 'ckptstream[object-store]'"


def bucket_location(name: str, url: str) -> BucketLocation:
    """
    What a URL names. Nothing is asked, and none of its options is ever shown.

    Raises:
        ModuleNotFoundError: obstore is not installed.
        ValueError: It names nothing that can be followed.
    """
    scheme, _, rest = url.partition("://")
    said = f"{name}={without_secrets(url)!r}"
    if scheme not in SCHEMES:
        meant = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}.get(scheme.lower(), scheme.lower())
        if meant in SCHEMES:
            raise ValueError(f"{said} is not known: write {meant}://")
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise ValueError(f"{said} is a URL: followed are {known}, and mounted directories")
    bucket_name = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if ":" in bucket_name or re.search(r"[\x00-\x1f\x7f\[\]]", rest):
        raise ValueError(f"{said} names no bucket: give credentials in the environment")
    parts = urlsplit(url)
    if "*" in parts.netloc:
        raise ValueError(f"{said} has a '*' in the bucket's name: name each bucket")
    if not parts.netloc or parts.fragment or ("@" in parts.netloc and scheme[:2] != "ab"):
        raise ValueError(f"{said} names no bucket: write {scheme}://bucket/path")
    prefix = parts.path.strip("/")
    if "//" in parts.path or not {".", ".."}.isdisjoint(prefix.split("/")):
        raise ValueError(f"{said} is no plain path: write it without '//', '.' and '..'")
    options = _options(said, parts.query)
    reserved = sorted(_RESERVED & options.keys())
    if reserved:
        raise ValueError(f"{said} has the option {reserved[0]!r}, which is none of a URL's")
    if sys.modules.get("obstore") is None and importlib.util.find_spec("obstore") is None:
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
    kinds = (_KINDS.get(each.__name__) for each in type(client).__mro__)
    scheme, key = next((kind for kind in kinds if kind is not None), ("", ""))
    if type(client).__name__ == "LocalStore":
        raise ValueError("checkpoint_dir=LocalStore(...) is a directory: give its path")
    if not scheme:
        return BucketLocation(f"{NAMELESS}{id(client):x}", client=client)
    bucket = f"{scheme}://{made.config.get(key)}"
    prefix = (getattr(made, "prefix", None) or "").strip("/")
    return BucketLocation(f"{bucket}/{prefix}".rstrip("/"), bucket=bucket, client=client)
