"""The lab: the real engine, hosts, network and package mirror behind the emulator."""
