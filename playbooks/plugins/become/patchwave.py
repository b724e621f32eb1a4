"""Makes root of whomever the ssh configuration has logged in: nothing for root, sudo for anybody else."""

from __future__ import annotations

from typing import Any

from ansible.plugins.become import BecomeBase

DOCUMENTATION = """
name: patchwave
short_description: Root as root is, by sudo as anybody else
description:
  - The user is known to the ssh configuration alone, so whether sudo is needed shows on the host. Sudo must
    not need a password.
options:
  become_user:
    description: Always root.
    default: root
    vars: [{name: ansible_become_user}]
author: Patchwave
"""


class BecomeModule(BecomeBase):  # type: ignore[misc]
    """Ansible's entry to the change of user."""

    name = "patchwave"
    missing = ("sudo: a password is required",)

    def build_become_command(self, cmd: str, shell: Any) -> str:
        super().build_become_command(cmd, shell)
        if not cmd:
            return cmd
        return f'$(test "$(id -u)" = 0 || echo sudo -H -n) {self._build_success_command(cmd, shell)}'
