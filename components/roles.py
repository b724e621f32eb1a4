"""Azure's built-in roles that are given here: their ids are the same in every tenant.

https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
"""

from typing import NamedTuple


class Role(NamedTuple):
    """A built-in role, and the page that lists what it allows."""

    name: str
    id: str
    source: str


_PAGES = "https://learn.microsoft.com/azure/role-based-access-control/built-in-roles"

READER = Role("reader", "acdd72a7-3385-48ef-bd42-f606fba81ae7", f"{_PAGES}/general#reader")
CONTRIBUTOR = Role("contributor", "b24988ac-6180-42a0-ab88-20f7382dd24c", f"{_PAGES}/privileged#contributor")
MACHINE_CONTRIBUTOR = Role(
    "machine-contributor", "9980e02c-c2be-4d73-94e8-173b1dc7cf3c", f"{_PAGES}/compute#virtual-machine-contributor"
)
DISK_RESTORER = Role("disk-restorer", "b50d9833-a0cb-478e-945f-707fcc997c13", f"{_PAGES}/compute#disk-restore-operator")
SNAPSHOT_CONTRIBUTOR = Role(
    "snapshot-contributor", "7efff54f-a5b4-42b5-a1c5-5411624893ce", f"{_PAGES}/compute#disk-snapshot-contributor"
)
NETWORK_CONTRIBUTOR = Role(
    "network-contributor", "4d97b98b-1d4f-4787-a291-c67834d212e7", f"{_PAGES}/networking#network-contributor"
)
METRICS_PUBLISHER = Role(
    "metrics-publisher", "3913510d-42f4-4e42-8a64-420c390055eb", f"{_PAGES}/monitor#monitoring-metrics-publisher"
)
PATCHING_CONTRIBUTOR = Role(
    "patching-contributor",
    "cd08ab90-6b14-449c-ad9a-8f8e549482c6",
    f"{_PAGES}/management-and-governance#scheduled-patching-contributor",
)
