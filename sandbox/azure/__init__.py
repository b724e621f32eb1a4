"""The emulator of Azure: a resource manager with Azure's wire shapes, refusals and long-running operations."""
