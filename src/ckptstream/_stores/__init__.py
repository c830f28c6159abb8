"""Where runs lie, what may be trusted there, and what a look may ask."""

from ._address import NAMELESS, SCHEMES, bucket_location, given_store
from ._bucket import BucketLocation
from ._bucket_store import BucketStore
from ._client import Client
from ._local import LocalLocation, LocalStore
from ._mounts import mount, mount_point, profile
from ._protocol import Finding, Location, Profile, Store
from ._snapshot import Snapshot
from ._urls import shown, without_secrets

__all__ = [
    "NAMELESS",
    "SCHEMES",
    "BucketLocation",
    "BucketStore",
    "Client",
    "Finding",
    "LocalLocation",
    "LocalStore",
    "Location",
    "Profile",
    "Snapshot",
    "Store",
    "bucket_location",
    "given_store",
    "mount",
    "mount_point",
    "profile",
    "shown",
    "without_secrets",
]
