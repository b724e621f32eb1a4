"""What Azure's access control refuses."""

import re
from collections.abc import Iterator

from policy.declared import Props
from policy.service.registry import refuses

ASSIGNMENT = "authorization:RoleAssignment"
REST = "https://learn.microsoft.com/rest/api/authorization/role-assignments/create"
NEW = "https://learn.microsoft.com/azure/role-based-access-control/troubleshooting"

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
PRINCIPALS = ("User", "Group", "ServicePrincipal", "ForeignGroup", "Device")


@refuses(ASSIGNMENT, source=REST)
def role_assignments_are_named_by_a_guid(props: Props) -> Iterator[str]:
    """A role assignment's name is a GUID; one that is drawn anew in every preview replaces the assignment."""
    if not _GUID.fullmatch(name := str(props.get("roleAssignmentName"))):
        yield f"roleAssignmentName is {name!r}: write a GUID that is the same in every preview, such as a uuid5"


@refuses(ASSIGNMENT, source=NEW)
def role_assignments_say_what_the_principal_is(props: Props) -> Iterator[str]:
    """With principalType, the service does not fail on a principal that it does not see yet."""
    if (kind := props.get("principalType")) not in PRINCIPALS:
        yield f"principalType is {kind!r}: set ServicePrincipal, Group or User"
