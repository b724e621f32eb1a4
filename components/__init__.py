"""What Azure holds, one component a file."""

from components.access import Access
from components.alerts import Alerts
from components.backup import Backup
from components.image_maintenance import ImageMaintenance
from components.machines import Machines
from components.maintenance import Maintenance
from components.site import Site
from components.slots import Slots
from components.snapshots import Snapshots
from components.wave import Wave

__all__ = [
    "Access",
    "Alerts",
    "Backup",
    "ImageMaintenance",
    "Machines",
    "Maintenance",
    "Site",
    "Slots",
    "Snapshots",
    "Wave",
]
