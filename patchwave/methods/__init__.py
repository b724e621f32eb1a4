"""How packages are changed: Ansible on the hosts, and each method's order of versions."""
