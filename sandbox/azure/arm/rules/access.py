"""What Azure Authorization refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sandbox.azure.arm.rules.change import Change, dig, refuses
from sandbox.azure.resources.errors import AzureError, bad_request, conflict
from sandbox.azure.resources.ids import PRINCIPAL, TENANT
from sandbox.azure.resources.roles import ROLES, definition_id, guid

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
TYPE = "Microsoft.Authorization/roleAssignments"


@refuses(TYPE)
def role_assignment(change: Change) -> Iterator[AzureError]:
    principal, role = str(change.at("principalId", "")), str(change.at("roleDefinitionId", ""))
    if not _GUID.fullmatch(change.name):
        yield bad_request(
            "InvalidRoleAssignmentId",
            f"The role assignment ID '{change.name}' is not valid. The role assignment ID must be a GUID.",
        )
    if guid(role) not in ROLES:
        yield bad_request(
            "RoleDefinitionDoesNotExist", f"The specified role definition with ID '{guid(role)}' does not exist."
        )
    if not _GUID.fullmatch(principal):
        yield bad_request("InvalidPrincipalId", "A valid principal ID must be provided for role assignment.")
    elif principal.lower() != PRINCIPAL and not change.at("principalType"):
        yield bad_request(
            "PrincipalNotFound",
            f"Principal {principal.replace('-', '')} does not exist in the directory {TENANT}. Check that you have the "
            "correct principal ID. If you are creating this principal and then immediately assigning a role, this "
            "error might be related to a replication delay. In this case, set the role assignment principalType "
            "property to a value, such as ServicePrincipal, User, or Group.",
        )
    if change.old is not None and (
        principal != change.was("principalId") or definition_id(role) != change.was("roleDefinitionId")
    ):
        yield conflict(
            "RoleAssignmentUpdateNotPermitted",
            "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
        )
    yield from _twice(change, principal, role)


def _twice(change: Change, principal: str, role: str) -> Iterator[AzureError]:
    """The same role for the same principal at the same scope."""
    scope = change.id.lower().rsplit("/providers/microsoft.authorization/", 1)[0]
    for row in change.view.of_type(TYPE):
        if row.key == change.id.lower() or row.key.rsplit("/providers/microsoft.authorization/", 1)[0] != scope:
            continue
        if dig(row.body, "properties.principalId") == principal and guid(
            dig(row.body, "properties.roleDefinitionId", "")
        ) == guid(role):
            yield conflict("RoleAssignmentExists", "The role assignment already exists.")
