"""What may be shown of a URL."""

from __future__ import annotations

import re


def without_secrets(url: str) -> str:
    """A URL without its options, and without a password before the bucket's name."""
    scheme, _, rest = url.partition("://")
    # A secret may hold any characters, these included.
    rest = re.sub(r"\A[^@/?#]*:.*@", "", rest, flags=re.DOTALL)
    return f"{scheme}://" + re.split(r"[?#]", rest, maxsplit=1)[0]


def shown(value: object) -> str:
    """What a user gave, in an error: of a URL, also one with a slash too few, nothing secret."""
    text = repr(value)
    if ":/" not in text:
        return text
    if not isinstance(value, str):
        return f"<{type(value).__name__}>"
    scheme, _, rest = value.partition(":/")
    url = without_secrets(f"{scheme}://{rest.removeprefix('/')}")
    return repr(url if "://" in value else url.replace("://", ":/", 1))
