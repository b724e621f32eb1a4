"""Calls to the resource manager: operations with polling, restore points, disks, repairs."""
