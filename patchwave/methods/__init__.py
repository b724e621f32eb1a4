"""Which hosts a stack has, and Ansible on them."""
