"""Where the streams write their log."""

from __future__ import annotations

import logging

logger = logging.getLogger("ckptstream.stream")
