"""What Azure refuses, or leaves undone, of resources that belong together."""

from collections.abc import Iterator, Sequence

from policy.declared import Declared, Props
from policy.service import machines, maintenance, scale_sets
from policy.service.registry import refuses_together
from policy.service.values import at, items, table

MACHINE = f"azure-native:{machines.MACHINE}"
SCALE_SET = f"azure-native:{scale_sets.SCALE_SET}"
CONFIGURATION = f"azure-native:{maintenance.CONFIGURATION}"
SCOPES = (f"azure-native:{maintenance.IN_GROUP}", f"azure-native:{maintenance.IN_SUBSCRIPTION}")


@refuses_together(source=machines.PREREQUISITES)
def scheduled_machines_are_patched_by_their_schedule(resources: Sequence[Declared]) -> Iterator[str]:
    """A machine that a dynamic scope selects hands its patching over; otherwise it is not patched, or not only then."""
    filters = [table(at(one.props, "filter")) for one in resources if one.type in SCOPES]
    for machine in resources:
        if machine.type == MACHINE and any(_selects(filter_, machine.props) for filter_ in filters):
            configurations = [at(machine.props, "osProfile", f"{name}Configuration") for name in ("linux", "windows")]
            if not any(_handed_over(one) for one in configurations):
                yield (
                    f"{machine.name}: a schedule selects it: set patchMode AutomaticByPlatform and "
                    "bypassPlatformSafetyChecksOnUserSchedule true"
                )


@refuses_together(source=f"{maintenance.OVERVIEW}#os-image")
def image_windows_are_of_sets_that_upgrade_themselves(resources: Sequence[Declared]) -> Iterator[str]:
    """A window of scope OSImage does nothing for scale sets without automatic image upgrades."""
    windows = [r for r in resources if r.type == CONFIGURATION and r.props.get("maintenanceScope") == "OSImage"]
    sets = [r.props for r in resources if r.type == SCALE_SET] if windows else []
    policies = (at(props, "upgradePolicy", "automaticOSUpgradePolicy") for props in sets)
    if sets and not any(at(policy, "enableAutomaticOSUpgrade") is True for policy in policies):
        for window in windows:
            yield f"{window.name}: no scale set has enableAutomaticOSUpgrade: set it, or leave the window out"


def _selects(filter_: Props, machine: Props) -> bool:
    kinds = [str(one).lower() for one in items(filter_.get("resourceTypes"))]
    wanted = table(at(filter_, "tagSettings", "tags"))
    if not wanted or (kinds and "microsoft.compute/virtualmachines" not in kinds):
        return False
    tags = table(machine.get("tags"))
    found = [tags.get(key) in items(values) for key, values in wanted.items()]
    return any(found) if at(filter_, "tagSettings", "filterOperator") == "Any" else all(found)


def _handed_over(configuration: Props | None) -> bool:
    patching = at(configuration, "patchSettings")
    bypass = at(patching, "automaticByPlatformSettings", "bypassPlatformSafetyChecksOnUserSchedule")
    return at(patching, "patchMode") == "AutomaticByPlatform" and bypass is True
