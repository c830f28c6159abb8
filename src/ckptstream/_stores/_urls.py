"""What may be shown of a URL."""

from __future__ import annotations

import re


def without_secrets(url: str) -> str:
    """A URL without its options, and without a password before the bucket's name."""
    scheme, _, rest = url.partition("://")
    # A secret may hold any characters, these included.
    rest = re.sub(r"\A[^@/?#]*:.*@", "", rest, flags=re.DOTALL)
    return f"{scheme}://" + re.split(r"[?#]", rest, maxsplit=1)[0]
