"""What Azure refuses of scale sets."""

from collections.abc import Iterator
from datetime import timedelta

from policy.declared import Props
from policy.service.registry import refuses
from policy.service.values import at, elapsed, number, objects, outside, plain

SCALE_SET = "compute:VirtualMachineScaleSet"

_LEARN = "https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets"
ROLLING = f"{_LEARN}-configure-rolling-upgrades"
UPGRADE = f"{_LEARN}-automatic-upgrade"
HEALTH = f"{_LEARN}-health-extension"
REPAIRS = f"{_LEARN}-automatic-instance-repairs"
SURGE = f"{_LEARN}-maxsurge"
ORCHESTRATION = f"{_LEARN}-orchestration-modes"
REST = "https://learn.microsoft.com/rest/api/compute/virtual-machine-scale-sets/create-or-update"

WATCHERS = ("ApplicationHealthLinux", "ApplicationHealthWindows")


def _upgrades_itself(props: Props) -> bool:
    return at(props, "upgradePolicy", "automaticOSUpgradePolicy", "enableAutomaticOSUpgrade") is True


def _extensions(props: Props) -> list[Props]:
    found = objects(at(props, "virtualMachineProfile", "extensionProfile", "extensions"))
    return [one for one in found if one.get("type") in WATCHERS]


def _probed(props: Props) -> bool:
    return bool(at(props, "virtualMachineProfile", "networkProfile", "healthProbe"))


@refuses(SCALE_SET, source=REST)
def scale_sets_upgrade_in_a_known_mode(props: Props) -> Iterator[str]:
    """A change of the model reaches instances in one of three ways."""
    if (mode := at(props, "upgradePolicy", "mode")) not in ("Automatic", "Manual", "Rolling"):
        yield f"upgradePolicy.mode is {mode!r}: set Rolling"


@refuses(SCALE_SET, source=REST)
def rolling_percentages_are_in_range(props: Props) -> Iterator[str]:
    """Batches and unhealthy instances are 5 to 100 %, unhealthy upgraded instances 0 to 100 %."""
    policy = at(props, "upgradePolicy", "rollingUpgradePolicy")
    for key, low in (
        ("maxBatchInstancePercent", 5),
        ("maxUnhealthyInstancePercent", 5),
        ("maxUnhealthyUpgradedInstancePercent", 0),
    ):
        if outside(value := at(policy, key), low, 100):
            yield f"rollingUpgradePolicy.{key} is {plain(value)}: set {low} to 100"


@refuses(SCALE_SET, source="https://github.com/Azure/vm-scale-sets/issues/69")
def pauses_last_ten_minutes_at_most(props: Props) -> Iterator[str]:
    """Between batches a rolling upgrade waits for up to 10 minutes."""
    if (text := at(props, "upgradePolicy", "rollingUpgradePolicy", "pauseTimeBetweenBatches")) is not None:
        pause = elapsed(text)
        if pause is None or pause > timedelta(minutes=10):
            yield f"rollingUpgradePolicy.pauseTimeBetweenBatches is {text!r}: set PT0S to PT10M"


@refuses(SCALE_SET, source=ROLLING)
def only_uniform_sets_take_back_failed_instances(props: Props) -> Iterator[str]:
    """Instances that fail on a breach of the policy are rolled back in Uniform scale sets."""
    wanted = at(props, "upgradePolicy", "rollingUpgradePolicy", "rollbackFailedInstancesOnPolicyBreach")
    if wanted is True and props.get("orchestrationMode") == "Flexible":
        yield "rollbackFailedInstancesOnPolicyBreach is true in mode Flexible: leave it out or use Uniform"


@refuses(SCALE_SET, source="https://github.com/hashicorp/terraform-provider-azurerm/issues/5430")
def rolling_upgrades_see_health(props: Props) -> Iterator[str]:
    """A rolling upgrade needs a health probe or the health extension."""
    if at(props, "upgradePolicy", "mode") == "Rolling" and not (_extensions(props) or _probed(props)):
        yield "upgradePolicy.mode is Rolling and nothing reports health: add the ApplicationHealth extension"


@refuses(SCALE_SET, source=UPGRADE)
def image_upgrades_see_health(props: Props) -> Iterator[str]:
    """An automatic image upgrade needs a health probe or the health extension."""
    if _upgrades_itself(props) and not (_extensions(props) or _probed(props)):
        yield "enableAutomaticOSUpgrade is true and nothing reports health: add the ApplicationHealth extension"


@refuses(SCALE_SET, source=HEALTH)
def health_has_one_source(props: Props) -> Iterator[str]:
    """A load balancer's probe and the health extension exclude each other, and so do two extensions."""
    extensions = _extensions(props)
    if extensions and _probed(props):
        yield "networkProfile.healthProbe stands beside the health extension: remove the probe"
    if len(extensions) > 1:
        yield f"extensionProfile has {len(extensions)} health extensions: keep one"


@refuses(SCALE_SET, source=UPGRADE)
def image_upgrades_exclude_guest_patching(props: Props) -> Iterator[str]:
    """A scale set that takes new images by itself is not patched by the platform or by Windows Update as well."""
    if not _upgrades_itself(props):
        return
    profile = at(props, "virtualMachineProfile", "osProfile")
    for system in ("linux", "windows"):
        mode = at(profile, f"{system}Configuration", "patchSettings", "patchMode")
        if mode == "AutomaticByPlatform":
            yield f"{system}Configuration.patchSettings.patchMode is {mode} beside enableAutomaticOSUpgrade: remove one"
    if (
        at(profile, "windowsConfiguration")
        and at(profile, "windowsConfiguration", "enableAutomaticUpdates") is not False
    ):
        yield "enableAutomaticUpdates is not false beside enableAutomaticOSUpgrade: set it to false"


@refuses(SCALE_SET, source=UPGRADE)
def image_upgrades_follow_the_latest_version(props: Props) -> Iterator[str]:
    """Only a reference to the latest version ever finds a newer one."""
    image = at(props, "virtualMachineProfile", "storageProfile", "imageReference")
    version = at(image, "version")
    if _upgrades_itself(props) and version not in (None, "latest"):
        yield f"imageReference.version is {version!r} beside enableAutomaticOSUpgrade: set latest"


@refuses(SCALE_SET, source=REST)
def image_upgrades_use_the_declared_policy(props: Props) -> Iterator[str]:
    """Without useRollingUpgradePolicy the platform's own limits apply, whatever is declared."""
    uses = at(props, "upgradePolicy", "automaticOSUpgradePolicy", "useRollingUpgradePolicy")
    if _upgrades_itself(props) and at(props, "upgradePolicy", "rollingUpgradePolicy") and uses is not True:
        yield "automaticOSUpgradePolicy.useRollingUpgradePolicy is not true: set it, or the platform's limits apply"


@refuses(SCALE_SET, source=REST)
def only_image_upgrades_are_deferred(props: Props) -> Iterator[str]:
    """There is nothing to defer where images do not upgrade by themselves."""
    deferred = at(props, "upgradePolicy", "automaticOSUpgradePolicy", "osRollingUpgradeDeferral")
    if deferred is True and not _upgrades_itself(props):
        yield "osRollingUpgradeDeferral is true without enableAutomaticOSUpgrade: set both or none"


@refuses(SCALE_SET, source=ORCHESTRATION)
def image_upgrades_are_for_uniform_sets(props: Props) -> Iterator[str]:
    """The pages disagree about Flexible scale sets; the one on orchestration modes says no."""
    if _upgrades_itself(props) and props.get("orchestrationMode") == "Flexible":
        yield "enableAutomaticOSUpgrade is true in mode Flexible: use Uniform"


@refuses(SCALE_SET, source=SURGE)
def surging_excludes_image_upgrades_of_flexible_sets(props: Props) -> Iterator[str]:
    """Flexible scale sets do not replace instances by new ones while they upgrade images by themselves."""
    surge = at(props, "upgradePolicy", "rollingUpgradePolicy", "maxSurge")
    if surge is not None and not isinstance(surge, bool):
        yield f"rollingUpgradePolicy.maxSurge is {surge!r}: write true or false"
    if surge is True and _upgrades_itself(props) and props.get("orchestrationMode") == "Flexible":
        yield "rollingUpgradePolicy.maxSurge is true beside enableAutomaticOSUpgrade in mode Flexible: remove one"


@refuses(SCALE_SET, source=HEALTH)
def health_is_asked_by_a_known_protocol(props: Props) -> Iterator[str]:
    """Over http and https a path is needed, over tcp a port, and no path."""
    for extension in _extensions(props):
        settings = at(extension, "settings")
        protocol, path, port = (at(settings, key) for key in ("protocol", "requestPath", "port"))
        if protocol not in ("http", "https", "tcp"):
            yield f"the health extension's protocol is {protocol!r}: set http, https or tcp"
        elif protocol == "tcp" and path is not None:
            yield "the health extension has protocol tcp and a requestPath: remove the path"
        elif protocol == "tcp" and port is None:
            yield "the health extension has protocol tcp and no port: set one"
        elif protocol != "tcp" and not path:
            yield f"the health extension has protocol {protocol} and no requestPath: name the health endpoint"
        if outside(port, 1, 65535):
            yield f"the health extension's port is {plain(port)}: set 1 to 65535"


@refuses(SCALE_SET, source=HEALTH)
def health_is_asked_within_the_ranges(props: Props) -> Iterator[str]:
    """Every 5 to 60 seconds, 1 to 24 answers count, a new instance has up to 4 hours."""
    for extension in _extensions(props):
        for key, low, high in (("intervalInSeconds", 5, 60), ("numberOfProbes", 1, 24), ("gracePeriod", 1, 14400)):
            if outside(value := at(extension, "settings", key), low, high):
                yield f"the health extension's {key} is {plain(value)}: set {low} to {high}"


@refuses(SCALE_SET, source="https://github.com/hashicorp/terraform-provider-azurerm/issues/5860")
def repairs_see_health(props: Props) -> Iterator[str]:
    """What repairs unhealthy instances needs to know which ones are."""
    if at(props, "automaticRepairsPolicy", "enabled") is True and not (_extensions(props) or _probed(props)):
        yield "automaticRepairsPolicy is enabled and nothing reports health: add the ApplicationHealth extension"


@refuses(SCALE_SET, source=REPAIRS)
def repairs_wait_ten_to_ninety_minutes(props: Props) -> Iterator[str]:
    """After a change an instance has 10 to 90 minutes to become healthy."""
    if (text := at(props, "automaticRepairsPolicy", "gracePeriod")) is not None:
        grace = elapsed(text)
        if grace is None or not timedelta(minutes=10) <= grace <= timedelta(minutes=90):
            yield f"automaticRepairsPolicy.gracePeriod is {text!r}: set PT10M to PT90M"


@refuses(SCALE_SET, source=REPAIRS)
def repairs_are_a_known_action(props: Props) -> Iterator[str]:
    """An unhealthy instance is replaced, reimaged or restarted."""
    action = at(props, "automaticRepairsPolicy", "repairAction")
    if action not in (None, "Replace", "Reimage", "Restart"):
        yield f"automaticRepairsPolicy.repairAction is {action!r}: set Replace, Reimage or Restart"


@refuses(
    SCALE_SET, source="https://learn.microsoft.com/rest/api/compute/virtual-machine-scale-sets/create-or-update#sku"
)
def scale_sets_have_a_size(props: Props) -> Iterator[str]:
    """A scale set says which machines and how many; up to 1000 in one."""
    if not at(props, "sku", "name"):
        yield "sku.name is missing: name a size"
    if outside(capacity := at(props, "sku", "capacity"), 0, 1000):
        yield f"sku.capacity is {plain(capacity)}: set 0 to 1000"
    elif number(capacity) is None:
        yield "sku.capacity is missing: set the number of instances"
