"""What our own checks refuse, an example each with a neighbour that they admit; the reference page is made of these."""

import functools
import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from patchwave.authorization import approvals, decision, inputs, promotion, signatures
from patchwave.authorization import emergency as emergencies
from patchwave.config.standard import StackName, load_standard
from patchwave.evidence import chain as evidence
from patchwave.releases import quarantine
from patchwave.releases import release as releases
from patchwave.releases.advisories import NOTHING
from patchwave.releases.quarantine import Entry
from patchwave.releases.release import ChangelogEntry, Release, Sealed
from patchwave.releases.waivers import Waiver
from policy.check import Context
from policy.declared import STACK, Declared
from policy.estate import ROLE
from policy.hosts import COLLECTION, MACHINE, POINT
from policy.judge import CHECKS, enforced
from tests.unit import proofs
from tests.unit.builders import AUTHOR, STANDARD, copy_desk, make_keys, pending, settings
from tests.unit.changes import Change, changed
from tests.unit.engine import declare_stack
from tests.unit.proofs import Key

OPEN = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
"""In dev's window, on a Monday."""
CLOSED = OPEN - timedelta(days=1)
STAGING = datetime(2026, 11, 25, 14, 30, tzinfo=UTC)
PROD = datetime(2026, 12, 13, 2, 0, tzinfo=UTC)
LEAD = "security-lead@dcmms.com"
PEOPLE = {role: people[0] for role, people in STANDARD.roles.items()}


def _sealed() -> Release:
    at = OPEN - timedelta(minutes=30)
    entry = ChangelogEntry(version="2-1", date=at, urgency="high", cves=("CVE-2099-0001",))
    made, _ = releases.seal(
        "2026-11-23.1",
        AUTHOR,
        Sealed(stack="dev", at=at, hosts=("dev-web-blue-0",)),
        [pending("madeup", to="2-1")],
        {("apt", "madeup"): [entry]},
        STANDARD,
        NOTHING,
    )
    assert made is not None
    return made


SEALED = _sealed()


NAMED = {"id": SEALED.id, "digest": SEALED.digest}


def world(project: Path) -> Path:
    """A project of the tests' own decisions with one sealed release that nothing ran."""
    copy_desk(project)
    releases.save(project, SEALED)
    return project


def edit(project: Path, name: str, change: Change | str) -> None:
    """Changes values of a YAML file, or writes a file."""
    path = project / name
    if isinstance(change, str):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(change, encoding="utf-8")
    else:
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(changed(before, change)), encoding="utf-8")


def keys(project: Path) -> Path:
    """A key for the runner and each person, which `policy/allowed_signers` lists."""
    folder = project / "keys"
    if not folder.exists():
        folder.mkdir()
        make_keys(folder, evidence.IDENTITY, *PEOPLE.values())
        shutil.copy(folder / "signers", project / "policy" / "allowed_signers")
    return folder


def _key(project: Path) -> Key:
    return Key(keys(project) / evidence.IDENTITY, keys(project) / "signers")


def proved(project: Path, stack: StackName, at: datetime) -> None:
    proofs.prove(project, SEALED, _key(project), stack=stack, at=at)


def attached(project: Path, stack: StackName, name: str, at: datetime) -> None:
    place = promotion.folder(project, stack, SEALED.id)
    proofs.attach(place, SEALED, _key(project), name, stack=stack, at=at)


def proved_on_dev(project: Path) -> None:
    """signed evidence from dev"""
    proved(project, "dev", OPEN)


def tested_on_dev(project: Path) -> None:
    """signed evidence from dev, functional-tests attached"""
    proved_on_dev(project)
    attached(project, "dev", "functional-tests", OPEN)


def taken_back(project: Path) -> None:
    """madeup 2-1 in quarantine"""
    fields = {"stack": "dev", "release": SEALED.id, "run": proofs.RUN, "at": OPEN, "reason": "dev-blue-0: 503"}
    quarantine.add(project, [Entry(package="madeup", version="2-1", **fields)])


def cut_off(project: Path) -> None:
    """a wave that was cut off in a batch"""
    started = {"stack": "dev", "release": SEALED.id, "digest": SEALED.digest, "waivers": []}
    batch = {"phase": "patch", "event": "started", "batch": 1}
    with evidence.Chain.open(promotion.folder(project, "dev", SEALED.id)) as chain:
        for kind, data in (("wave-started", started), ("phase", batch)):
            chain.append(kind, proofs.RUN, data, at=OPEN)


def approved(project: Path) -> None:
    """signed by the Security Lead"""
    folder = keys(project)
    gathered = inputs.from_files(project, "prod", SEALED, needs=timedelta(minutes=10), at=PROD, environ={})
    for role in decision.needed(gathered, "routine"):
        person = PEOPLE[role]
        approval = signatures.draft(gathered, "normal", role, person, "")
        approvals.give(project, approval, folder / person, folder / "signers")


def proved_and_approved(project: Path) -> None:
    """proved on staging, signed by the Security Lead"""
    proved(project, "staging", PROD - timedelta(days=10))
    attached(project, "staging", "integration-tests", PROD - timedelta(days=9))
    approved(project)


def emergency_opened(project: Path) -> None:
    """an emergency, bound to the release"""
    _emergency(project, ["fix-obtained"])


def emergency_prepared(project: Path) -> None:
    """an emergency, bound to the release, each step before dev recorded"""
    _emergency(project, [step.id for step in load_standard(project).emergency.before("dev")])


def _emergency(project: Path, steps: list[str]) -> None:
    standard, folder = load_standard(project), keys(project)
    by = emergencies.Signer(who=LEAD, key=folder / LEAD, signers=folder / "signers")
    facts = emergencies.Facts(advisory="CVE-2099-0001", cvss=9.8, exploit="seen", affects="all hosts", disclosed=CLOSED)
    place = emergencies.home(project) / emergencies.open_(project, facts, standard.emergency.criteria, by, CLOSED)
    for step in steps:
        bound = {"release": SEALED.id, "digest": SEALED.digest} if step == "fix-obtained" else {}
        emergencies.step(place, emergencies.read(place, folder / "signers", CLOSED), step, bound, by, CLOSED)


def waiver(expires: str) -> str:
    """A waiver's file."""
    return yaml.safe_dump(
        {
            "id": "W-1",
            "scope": {"packages": ["madeup"], "stacks": ["dev"]},
            "severity": "high",
            "owner": "team@dcmms.com",
            "reason": "The vendor's agent breaks with the new library",
            "granted": "2026-11-16T09:00:00Z",
            "expires": expires,
            "approved_by": [{"role": "Security Lead", "person": LEAD}],
        },
        sort_keys=False,
    )


def waived(expires: str) -> Change:
    """A stack that relies on that waiver, as its file stands."""
    named = Waiver.model_validate_json(json.dumps(yaml.safe_load(waiver(expires)))).reference
    return {"waivers": [named.model_dump()]}


Files = Mapping[str, Change | str]


class Scene(NamedTuple):
    """What a check is shown: a change of its base, changed files of the project, what was done there, and the time."""

    change: Change = MappingProxyType({})
    files: Files = MappingProxyType({})
    done: Callable[[Path], None] | None = None
    at: datetime = OPEN


class Case(NamedTuple):
    """What a check refuses, and what it admits beside it; the base is the program's own, where none is named."""

    check: str
    refused: Scene
    admitted: Scene = Scene()
    base: str = ""
    stack: StackName = "prod"


HOST = "/subscriptions/6e14c0eb-6971-59b5-8823-2a41316928e1/resourceGroups/web"
ROLES = "/subscriptions/6e14c0eb-6971-59b5-8823-2a41316928e1/providers/Microsoft.Authorization/roleDefinitions"
CONTRIBUTOR = f"{ROLES}/b24988ac-6180-42a0-ab88-20f7382dd24c"

BASES: dict[str, dict[str, Any]] = {
    "point": {"restorePointName": "before"},
    "role": {"roleName": "patcher", "permissions": [{"actions": ["Microsoft.Compute/*"], "notActions": []}]},
    "attached": {"storageProfile": {"osDisk": {"createOption": "Attach"}}, "tags": {"patchwave-stack": "prod"}},
    "scope": {"filter": {"tagSettings": {"filterOperator": "All", "tags": {"patchwave-stack": ["prod"]}}}},
    "machines": {
        "vm": {"type": MACHINE, "props": {"tags": {"patchwave-host": "vm", "patchwave-rollback": "restore_point"}}},
        "points": {"type": COLLECTION, "props": {"tags": {"patchwave-protects": "vm"}}},
    },
}
TYPES = {"point": POINT, "role": ROLE, "attached": MACHINE}


def urn(stack: str, type_: str, name: str) -> str:
    """The URN of what the root component declares."""
    chain = type_ if type_ == STACK else f"{STACK}${type_}"
    return f"urn:pulumi:{stack}::patchwave::{chain}::{name}"


def released(stack: StackName) -> dict[str, Any]:
    """What the root component publishes beside the mock engine's record, which leaves out nulls."""
    return {"release": NAMED, "settings": settings(stack).model_dump(mode="json")}


def rings(canaries: int) -> list[dict[str, Any]]:
    """Rings whose first has so many hosts."""
    return [{"name": "canary", "hosts": canaries, "batch": 1}, {"name": "rest", "hosts": "rest", "batch": 1}]


@functools.cache
def declared_by_the_program(stack: StackName) -> Mapping[str, Declared]:
    """The first resource of each kind, by name; the root component has the sealed release."""
    found = {}
    for one in sorted(declare_stack(stack), key=lambda one: one.name, reverse=True):
        props = one.props | released(stack) if one.type == STACK else one.props
        found[one.type.rpartition(":")[2]] = Declared(one.type, one.name, props, urn(stack, one.type, one.name))
    return found


def shown(case: Case, scene: Scene) -> Declared | list[Declared]:
    """The resource, or all of them, that a check sees in a scene."""
    check = CHECKS[case.check]
    if not check.types:
        table = changed(BASES[case.base], scene.change)
        return [Declared(one["type"], name, one["props"]) for name, one in table.items()]
    if case.base in BASES:
        type_ = TYPES.get(case.base, check.types[0])
        props = changed(BASES[case.base], scene.change)
        return Declared(type_, case.base, props, urn(case.stack, type_, case.base))
    found = declared_by_the_program(case.stack)[case.base or check.types[0].rpartition(":")[2]]
    return found._replace(props=changed(found.props, scene.change))


def says(case: Case, scene: Scene, folder: Path) -> list[str]:
    """What the check has against a scene; one that changes files has a project of its own in the folder."""
    own = bool(scene.files or scene.done)
    project = folder / (str(len(list(folder.iterdir()))) if own else "untouched")
    if not project.exists():
        world(project)
    for name, change in scene.files.items():
        edit(project, name, change)
    if scene.done:
        scene.done(project)
    return found(case.check, shown(case, scene), Context(project, scene.at, preview=True), case.stack)


def found(name: str, shown: Declared | list[Declared], context: Context, stack: str) -> list[str]:
    """What a check has against what it is shown, with its parameters as they are for the stack."""
    check = CHECKS[name]
    return check.complaints(shown, context, enforced(check, context, stack, {}).parameters)


POLICY = "upgradePolicy.rollingUpgradePolicy"
PROFILE = "virtualMachineProfile"
IMAGE = "storageProfile.imageReference"
PATCHING = "osProfile.linuxConfiguration.patchSettings"
PLATFORM = "automaticByPlatformSettings.bypassPlatformSafetyChecksOnUserSchedule"
WINDOWS = {"enableAutomaticUpdates": False, "patchSettings": {"patchMode": "Manual"}}
BY_PLATFORM = {"patchMode": "AutomaticByPlatform"}
SOFT_DELETE = "properties.securitySettings.softDeleteSettings.softDeleteState"
STACK_TAG = "filter.tagSettings.tags.patchwave-stack"
RING_TAG = "filter.tagSettings.tags.patchwave-ring"
EVERYONE = ",".join(PEOPLE.values())
SIGNERS = f"{EVERYONE} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIADAweR0VGOXXfqzebiY37cSh1vUDb02dJbLet0ERd3T\n"
WINDOW = "settings.calendar.windows.0"
WEB_RINGS = "settings.fleets.web.rings"
EXPIRED, VALID = f"{CLOSED:%FT%TZ}", "2026-12-01T09:00:00Z"
THURSDAY = {"starts": "2026-11-26T02:00:00Z", "ends": "2026-11-26T03:05:00Z", "reason": "earlier"}
SATURDAY = {"starts": "2026-11-28T02:00:00Z", "ends": "2026-11-28T03:05:00Z", "reason": "in time"}

CASES = (
    Case(
        "settings-keep-within-the-standard",
        Scene({f"{WINDOW}.starts": "03:00"}),
        Scene({f"{WINDOW}.starts": "03:00", f"{WINDOW}.duration": "PT3H"}),
    ),
    Case(
        "settings-keep-within-the-standard",
        Scene({"settings.calendar.extra": [THURSDAY]}),
        Scene({"settings.calendar.extra": [SATURDAY]}),
    ),
    Case(
        "settings-keep-within-the-standard",
        Scene({"settings.snapshots.keep": "P1D"}),
        Scene({"settings.snapshots.keep": "P2D"}),
        stack="staging",
    ),
    Case("settings-keep-within-the-standard", Scene({f"{WINDOW}.startz": "03:00"})),
    Case("settings-keep-within-the-standard", Scene({"stack": "qa"})),
    Case("what-is-declared-is-what-was-reviewed", Scene({"release.digest": "e" * 64}), Scene({"release": ...})),
    Case("what-is-declared-is-what-was-reviewed", Scene({"standard": "e" * 64})),
    Case("what-is-declared-is-what-was-reviewed", Scene({"stack": "dev"})),
    Case(
        "waivers-count",
        Scene(waived(EXPIRED), {"waivers/W-1.yaml": waiver(EXPIRED)}),
        Scene(waived(VALID), {"waivers/W-1.yaml": waiver(VALID)}),
        stack="dev",
    ),
    Case("waivers-count", Scene(waived(VALID)), stack="dev"),
    Case("a-canary-goes-first", Scene({WEB_RINGS: rings(4)}), Scene({WEB_RINGS: rings(3)})),
    Case(
        "a-canary-goes-first",
        Scene({"settings.rollout.rings.0.hosts": "26%"}),
        Scene({"settings.rollout.rings.0.hosts": "25%"}),
    ),
    Case(
        "a-canary-goes-first",
        Scene({WEB_RINGS: rings(1)[1:]}),
        Scene({WEB_RINGS: rings(1)[1:], "settings.fleets.web.patch_after": ["machines"]}),
    ),
    Case(
        "batches-leave-enough-to-answer",
        Scene({"settings.services.desk.max_unavailable": 4}),
        Scene({"settings.services.desk.max_unavailable": 3}),
    ),
    Case(
        "batches-leave-enough-to-answer",
        Scene({"settings.services.desk.max_unavailable": "51%"}),
        Scene({"settings.services.desk.max_unavailable": "100%", "settings.services.desk.traffic": {"driver": "none"}}),
    ),
    Case("approvals-can-be-given", Scene(), Scene(files={"policy/allowed_signers": SIGNERS})),
    Case("stacks-name-a-release", Scene({"release": ...}), stack="dev"),
    Case("waves-are-permitted", Scene(at=CLOSED), stack="dev"),
    Case("waves-are-permitted", Scene(at=STAGING), Scene(at=STAGING, done=tested_on_dev), stack="staging"),
    Case("waves-are-permitted", Scene(at=STAGING, done=proved_on_dev), Scene({"release": ...}), stack="staging"),
    Case("waves-are-permitted", Scene(done=taken_back), stack="dev"),
    Case("waves-are-permitted", Scene(at=CLOSED), Scene(at=CLOSED, done=cut_off), stack="dev"),
    Case("waves-are-permitted", Scene(at=PROD), Scene(at=PROD, done=proved_and_approved)),
    Case(
        "waves-are-permitted",
        Scene(at=CLOSED, done=emergency_opened),
        Scene(at=CLOSED, done=emergency_prepared),
        stack="dev",
    ),
    Case("slas-can-be-met", Scene(), Scene({"settings.calendar.extra": [SATURDAY]})),
    Case("missed-slas-are-named", Scene({}, {"policy/standard.yaml": {"remedies": []}}), Scene()),
    Case("scale-sets-watch-application-health", Scene({f"{PROFILE}.extensionProfile": ...})),
    Case(
        "scale-sets-watch-application-health",
        Scene({f"{PROFILE}.extensionProfile.extensions.0.publisher": "Somebody"}),
        Scene({f"{PROFILE}.extensionProfile.extensions.0.type": "ApplicationHealthWindows"}),
    ),
    Case("scale-sets-upgrade-in-batches", Scene({"upgradePolicy.mode": "Automatic"})),
    Case("scale-sets-upgrade-in-batches", Scene({"upgradePolicy": ...})),
    Case(
        "scale-sets-roll-within-the-standard",
        Scene({f"{POLICY}.maxBatchInstancePercent": 51.0}),
        Scene({f"{POLICY}.maxBatchInstancePercent": 50.0}),
    ),
    Case(
        "scale-sets-roll-within-the-standard",
        Scene({f"{POLICY}.maxUnhealthyInstancePercent": ...}),
        Scene({f"{POLICY}.maxUnhealthyInstancePercent": 50}),
    ),
    Case(
        "scale-sets-roll-within-the-standard",
        Scene({f"{POLICY}.maxUnhealthyUpgradedInstancePercent": "20"}),
        Scene({f"{POLICY}.maxUnhealthyUpgradedInstancePercent": 0}),
    ),
    Case(
        "scale-sets-go-back-by-themselves",
        Scene({f"{POLICY}.rollbackFailedInstancesOnPolicyBreach": False}),
        Scene({f"{POLICY}.rollbackFailedInstancesOnPolicyBreach": ..., "orchestrationMode": "Flexible"}),
    ),
    Case("what-is-patched-names-its-stack", Scene({"tags.patchwave-stack": "dev"})),
    Case("what-is-patched-names-its-stack", Scene({"tags": ...}), base="MaintenanceConfiguration"),
    Case("what-is-patched-names-its-stack", Scene({"tags.patchwave-stack": "qa"}), base="VirtualMachine"),
    Case("hosts-can-be-found", Scene({"tags.patchwave-fleet": ...})),
    Case("hosts-can-be-found", Scene({"tags.patchwave-host": ""}), base="VirtualMachine"),
    Case(
        "hosts-are-entered-by-key",
        Scene({f"{PROFILE}.osProfile.linuxConfiguration.disablePasswordAuthentication": False}),
        Scene({f"{PROFILE}.osProfile.linuxConfiguration": ..., f"{PROFILE}.osProfile.windowsConfiguration": {}}),
    ),
    Case(
        "hosts-are-entered-by-key",
        Scene({"osProfile.adminPassword": "x"}),
        base="VirtualMachine",
    ),
    Case(
        "hosts-are-entered-by-key",
        Scene({"storageProfile.osDisk.createOption": "FromImage"}),
        base="attached",
    ),
    Case(
        "images-are-pinned",
        Scene({f"{PROFILE}.{IMAGE}": {"publisher": "Debian", "offer": "debian-12", "sku": "12", "version": "latest"}}),
        Scene(
            {
                f"{PROFILE}.{IMAGE}": {
                    "publisher": "Debian",
                    "offer": "debian-12",
                    "sku": "12",
                    "version": "0.20260101.1",
                }
            }
        ),
    ),
    Case(
        "images-are-pinned",
        Scene({f"{IMAGE}": {"id": f"{HOST}/providers/Microsoft.Compute/galleries/fieldops/images/web"}}),
        Scene({f"{IMAGE}": {"id": f"{HOST}/providers/Microsoft.Compute/galleries/fieldops/images/web/Versions/1.0.0"}}),
        base="VirtualMachine",
    ),
    Case(
        "images-are-pinned",
        Scene({f"{IMAGE}": {"communityGalleryImageId": "/CommunityGalleries/fieldops/Images/web/Versions/latest"}}),
        Scene({f"{IMAGE}": {"id": f"{HOST}/providers/Microsoft.Compute/images/web-1"}}),
        base="VirtualMachine",
    ),
    Case(
        "images-are-pinned",
        Scene({f"{PROFILE}.{IMAGE}": {}}),
        Scene({f"{PROFILE}.{IMAGE}": {}, "upgradePolicy.automaticOSUpgradePolicy.enableAutomaticOSUpgrade": True}),
    ),
    Case(
        "images-are-not-replaced-unattended",
        Scene({"upgradePolicy.automaticOSUpgradePolicy.enableAutomaticOSUpgrade": True}),
        Scene({"upgradePolicy.automaticOSUpgradePolicy.enableAutomaticOSUpgrade": True, "tags.patchwave-stack": "dev"}),
    ),
    Case("images-are-not-replaced-unattended", Scene({"upgradePolicy.automaticOSUpgradePolicy": ...})),
    Case(
        "hosts-are-not-patched-unattended",
        Scene({f"{PROFILE}.osProfile.windowsConfiguration": {"enableAutomaticUpdates": True}}),
        Scene({f"{PROFILE}.osProfile.windowsConfiguration": WINDOWS}),
    ),
    Case(
        "hosts-are-not-patched-unattended",
        Scene({f"{PATCHING}.patchMode": "ImageDefault"}),
        Scene({f"{PATCHING}.patchMode": "ImageDefault", "tags.patchwave-stack": "dev"}),
        base="VirtualMachine",
    ),
    Case("hosts-are-not-patched-unattended", Scene({PATCHING: ...}), base="VirtualMachine"),
    Case("hosts-are-not-patched-unattended", Scene({f"{PATCHING}.{PLATFORM}": False}), base="VirtualMachine"),
    Case(
        "hosts-are-not-patched-unattended",
        Scene({"osProfile.windowsConfiguration": {"patchSettings": {"patchMode": "AutomaticByOS"}}}),
        base="attached",
    ),
    Case(
        "machines-can-go-back",
        Scene({"points.props.tags.patchwave-protects": "another"}),
        Scene({"vm.props.tags.patchwave-rollback": "downgrade", "points": ...}),
        base="machines",
    ),
    Case(
        "rollback-covers-each-disk",
        Scene({"tags.patchwave-rollback": "disk_snapshot", "storageProfile.dataDisks": [{"lun": 0}]}),
        Scene({"storageProfile.dataDisks": [{"lun": 0}]}),
    ),
    Case(
        "restore-points-leave-out-no-disk", Scene({"excludeDisks": [{"id": "a"}]}), Scene({"excludeDisks": []}), "point"
    ),
    Case(
        "schedules-keep-within-the-standard",
        Scene({"startDateTime": "2026-12-01 04:31"}),
        Scene({"startDateTime": "2026-12-01 04:30"}),
    ),
    Case(
        "schedules-keep-within-the-standard",
        Scene({"recurEvery": "1Month Second Tuesday Offset4"}),
        Scene({"recurEvery": "2Months Second Tuesday Offset5"}),
    ),
    Case("schedules-keep-within-the-standard", Scene({"startDateTime": ...})),
    Case("schedules-keep-within-the-standard", Scene({"startDateTime": "2026-12-01 02:00:00"})),
    Case(
        "schedules-keep-within-the-standard",
        Scene({"recurEvery": "12Months day31", "startDateTime": "2026-02-01 02:00"}),
    ),
    Case(
        "schedules-keep-within-the-standard",
        Scene({"maintenanceScope": "OSImage"}),
        Scene({"maintenanceScope": "Host"}),
    ),
    Case(
        "schedules-keep-within-the-standard",
        Scene({"duration": "02:01"}),
        Scene({"startDateTime": "2026-12-01 15:00"}),
        stack="dev",
    ),
    Case("schedules-keep-within-the-standard", Scene({"startDateTime": "2026-12-01 15:31"}), stack="dev"),
    Case(
        "schedules-bring-security-and-critical",
        Scene({"installPatches.linuxParameters.classificationsToInclude": ["Critical"]}),
        Scene({"installPatches.linuxParameters.classificationsToInclude": ["Critical", "Other", "Security"]}),
    ),
    Case(
        "schedules-bring-security-and-critical",
        Scene({"installPatches.linuxParameters": {"classificationsToInclude": []}}),
        Scene(
            {
                "installPatches.linuxParameters": {
                    "classificationsToInclude": [],
                    "packageNameMasksToInclude": ["openssl"],
                }
            }
        ),
    ),
    Case(
        "schedules-bring-security-and-critical",
        Scene({"installPatches": {"rebootSetting": "IfRequired"}}),
        Scene({"installPatches": ..., "maintenanceScope": "OSImage"}),
    ),
    Case(
        "schedules-reboot-when-a-fix-needs-it",
        Scene({"installPatches.rebootSetting": "Never"}),
        Scene({"installPatches.rebootSetting": "Always"}),
    ),
    Case("schedules-select-only-their-own-stack", Scene({STACK_TAG: ["prod", "dev"]}), base="scope"),
    Case("schedules-select-only-their-own-stack", Scene({STACK_TAG: ["dev"]}), base="scope"),
    Case("schedules-select-only-their-own-stack", Scene({"filter.tagSettings.filterOperator": "Any"}), base="scope"),
    Case("schedules-select-one-ring", Scene({RING_TAG: ["canary", "rest"]}), Scene({RING_TAG: ["rest"]}), base="scope"),
    Case(
        "alerts-reach-somebody",
        Scene({"emailReceivers": [], "smsReceivers": ..., "webhookReceivers": ...}),
        Scene({"emailReceivers": [], "smsReceivers": ...}),
    ),
    Case("alerts-reach-somebody", Scene({"enabled": False}), Scene({"enabled": ...})),
    Case("alerts-do-something", Scene({"actions": ...}), Scene({"actions": ..., "kind": "LogToMetric"})),
    Case(
        "records-are-kept",
        Scene({"retentionInDays": 364.0}),
        Scene({"retentionInDays": 365.0}),
        base="Workspace",
    ),
    Case("records-are-kept", Scene({"retentionInDays": ...}), stack="dev", base="Workspace"),
    Case("records-are-kept", Scene({"retentionInDays": 30}), Scene({"retentionInDays": -1}), base="Table"),
    Case("deleted-backups-can-be-had-back", Scene({SOFT_DELETE: "Disabled"}), Scene({SOFT_DELETE: "AlwaysON"})),
    Case("deleted-backups-can-be-had-back", Scene({"properties": ...})),
    Case(
        "traffic-goes-only-where-it-is-answered",
        Scene({"loadBalancingRules.0.probe": ...}),
        Scene({"loadBalancingRules": []}),
    ),
    Case(
        "nobody-is-given-the-right-to-give",
        Scene({"roleDefinitionId": f"{ROLES}/8E3AF657-A8FF-443C-A75C-2FE8C4BCB635"}),
        Scene({"roleDefinitionId": CONTRIBUTOR}),
    ),
    Case(
        "nobody-is-given-the-right-to-give",
        Scene({"permissions.0.actions": ["*"]}),
        Scene({"permissions.0": {"actions": ["*"], "notActions": ["Microsoft.Authorization/*/Write"]}}),
        base="role",
    ),
    Case(
        "contributors-are-of-one-resource",
        Scene({"roleDefinitionId": CONTRIBUTOR, "scope": HOST}),
        Scene({"roleDefinitionId": CONTRIBUTOR, "scope": f"{HOST}/providers/Microsoft.Compute/virtualMachines/a"}),
    ),
    Case(
        "contributors-are-of-one-resource",
        Scene({"roleDefinitionId": CONTRIBUTOR, "scope": "/providers/Microsoft.Management/managementGroups/all"}),
    ),
)
