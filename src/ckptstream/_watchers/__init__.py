"""Hints that something changed: inotify where it can be trusted, shared by a whole event loop."""

from ._hints import Alarm, Listener, Meaning
from ._loop import LoopWatcher, Subscription, Watcher, current_watcher

__all__ = [
    "Alarm",
    "Listener",
    "LoopWatcher",
    "Meaning",
    "Subscription",
    "Watcher",
    "current_watcher",
]
