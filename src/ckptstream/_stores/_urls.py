"""What may be shown of a URL."""

from __future__ import annotations

import re


def without_secrets(url: str) -> str:
    """A URL without its options, and without a password before the bucket's name."""
    scheme, _, rest = url.partition("://")
    host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    user, at, server = host.rpartition("@")
    name = "" if ":" in user else user + at
    return f"{scheme}://{name}{server}{slash}{path}"
