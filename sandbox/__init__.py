"""The emulator of Azure on one Linux machine: engine, resource manager, hosts and load balancer."""
