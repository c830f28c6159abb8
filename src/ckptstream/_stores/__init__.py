"""Where runs lie, what may be trusted there, and what a look may ask."""

from ._local import LocalLocation, LocalStore
from ._mounts import mount, mount_point, profile
from ._protocol import Location, Profile, Standing, Store
from ._snapshot import Snapshot

__all__ = [
    "LocalLocation",
    "LocalStore",
    "Location",
    "Profile",
    "Snapshot",
    "Standing",
    "Store",
    "mount",
    "mount_point",
    "profile",
]
