"""What Azure holds, one component a file."""

from components.alerts import Alerts
from components.machines import Machines
from components.maintenance import Maintenance
from components.site import Site
from components.slots import Slots
from components.snapshots import Snapshots
from components.wave import Wave

__all__ = ["Alerts", "Machines", "Maintenance", "Site", "Slots", "Snapshots", "Wave"]
