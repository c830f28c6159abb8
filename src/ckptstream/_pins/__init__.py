"""Keep a checkpoint's files alive with hard links while they are read."""

from ._blocking import BlockingPin
from ._hold import Hold, clean, take
from ._pin import Pin, pin
from ._subject import layout_of

__all__ = ["BlockingPin", "Hold", "Pin", "clean", "layout_of", "pin", "take"]
