"""What our own rules refuse, an example each with a neighbour that they admit; the reference page is made of these."""

import base64
import functools
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from patchwave.authorization import approvals, permission
from patchwave.authorization import emergency as emergencies
from patchwave.config import stackfile
from patchwave.config.settings import STACKS, load_stack
from patchwave.config.standard import StackName, load_standard
from patchwave.evidence import chain as evidence
from patchwave.releases import quarantine
from patchwave.releases import release as releases
from patchwave.releases.advisories import NOTHING
from patchwave.releases.quarantine import Entry
from patchwave.releases.release import ChangelogEntry, Release, Sealed
from policy import pack, wave
from policy.declared import Declared
from policy.estate import COLLECTION, MACHINE, POINT, ROLE
from policy.rule import Context, Rule, complaints
from tests.unit import proofs
from tests.unit.builders import AUTHOR, STANDARD, make_keys, pending
from tests.unit.changes import Change, changed
from tests.unit.engine import PROJECT, declare_stack
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
        Sealed(stack="dev", at=at, hosts=("dev-blue-0",)),
        [pending("madeup", to="2-1")],
        {"madeup": [entry]},
        STANDARD,
        NOTHING,
    )
    assert made is not None
    return made


SEALED = _sealed()


def world(project: Path) -> Path:
    """A project with the repository's standard and stacks, each of which names a sealed release that nothing ran."""
    for name, content in _files().items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(content)
    return project


@functools.cache
def _files() -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        (project / "policy").mkdir()
        for name in ("policy/standard.yaml", *(f"Pulumi.{stack}.yaml" for stack in STACKS)):
            shutil.copy(PROJECT / name, project / name)
        releases.save(project, SEALED)
        for stack in STACKS:
            stackfile.set_release(project, stack, SEALED.id)
        return {str(one.relative_to(project)): one.read_bytes() for one in project.rglob("*") if one.is_file()}


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
    place = permission.folder(project, stack, SEALED.id)
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


def approved(project: Path) -> None:
    """signed by the Security Lead"""
    folder = keys(project)
    chosen, calendar = releases.load(project, SEALED.id), load_stack(project, "prod").settings.calendar
    inputs = permission.gather(project, "prod", chosen, calendar, needs=timedelta(minutes=10), at=PROD, environ={})
    for role in permission.needed(inputs, "routine"):
        person = PEOPLE[role]
        approval = permission.draft(inputs, "normal", role, person, "")
        approvals.give(project, approval, folder / person, folder / "signers")


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


Files = Mapping[str, Change | str]


class Scene(NamedTuple):
    """What a rule is shown: a change of its base, changed files of the project, what was done there, and the hour."""

    change: Change = MappingProxyType({})
    files: Files = MappingProxyType({})
    done: Callable[[Path], None] | None = None
    at: datetime = OPEN


class Case(NamedTuple):
    """What a rule refuses, and what it admits beside it; the base is the program's own, where none is named."""

    rule: str
    refused: Scene
    admitted: Scene = Scene()
    base: str = ""
    stack: StackName = "prod"
    preview: bool = False


def settings(**change: Any) -> Change:
    """A change of a stack file's settings; two underscores stand for a dot."""
    return {f"config.patchwave:settings.{path.replace('__', '.')}": value for path, value in change.items()}


def _wave(phase: str, stack: StackName) -> dict[str, Any]:
    return {
        "create": f"exec patchwave wave {phase} --stack {stack}",
        "environment": {
            "PATCHWAVE_STACK": stack,
            "PATCHWAVE_RELEASE": SEALED.id,
            "PATCHWAVE_DIGEST": SEALED.digest,
        },
        "triggers": [SEALED.digest],
    }


PHASES = ("preflight", "protect", "patch --ring canary", "patch --ring rest", "prove")
WHOLE_WAVE = {
    phase.rpartition(" ")[2]: {
        "type": wave.COMMAND,
        "props": _wave(phase, "dev"),
        "depends_on": [f"urn:{PHASES[n - 1].rpartition(' ')[2]}"] if n else [],
    }
    for n, phase in enumerate(PHASES)
}
HOST = "/subscriptions/6e14c0eb-6971-59b5-8823-2a41316928e1/resourceGroups/web"
ROLES = "/subscriptions/6e14c0eb-6971-59b5-8823-2a41316928e1/providers/Microsoft.Authorization/roleDefinitions"
CONTRIBUTOR = f"{ROLES}/b24988ac-6180-42a0-ab88-20f7382dd24c"

BASES: dict[str, dict[str, Any]] = {
    "command": {"create": "true"},
    "site": {},
    "point": {"restorePointName": "before"},
    "role": {"roleName": "patcher", "permissions": [{"actions": ["Microsoft.Compute/*"], "notActions": []}]},
    "extension": {"type": "CustomScript", "settings": {"commandToExecute": "true"}},
    "run-command": {"source": {"script": "true"}},
    "arc-extension": {"properties": {"type": "CustomScript", "settings": {"commandToExecute": "true"}}},
    "attached": {"storageProfile": {"osDisk": {"createOption": "Attach"}}, "tags": {"patchwave-stack": "prod"}},
    "wave": WHOLE_WAVE,
    "machines": {
        "vm": {"type": MACHINE, "props": {"tags": {"patchwave-host": "vm", "patchwave-way-back": "snapshot"}}},
        "points": {"type": COLLECTION, "props": {"tags": {"patchwave-protects": "vm"}}},
    },
}
TYPES = {
    "point": POINT,
    "role": ROLE,
    "attached": MACHINE,
    "extension": "azure-native:compute:VirtualMachineExtension",
    "run-command": "azure-native:compute:VirtualMachineRunCommandByVirtualMachine",
    "arc-extension": "azure-native:hybridcompute:MachineExtension",
}


@functools.cache
def declared_by_the_program(stack: StackName) -> Mapping[str, Declared]:
    """The first resource of each kind, by name."""
    found = sorted(declare_stack(stack), key=lambda one: one.name)
    return {one.type.rpartition(":")[2]: Declared(one.type, one.name, one.props) for one in reversed(found)}


def shown(case: Case, scene: Scene) -> Declared | list[Declared]:
    """The resource, or all of them, that a rule sees in a scene."""
    rule = pack.BY_NAME[case.rule]
    if not rule.types:
        table = changed(BASES[case.base], scene.change)
        return [
            Declared(one["type"], name, one["props"], f"urn:{name}", frozenset(one.get("depends_on", ())))
            for name, one in table.items()
        ]
    if rule.types[0] == wave.COMMAND and not case.base:
        return Declared(wave.COMMAND, "preflight", changed(_wave("preflight", case.stack), scene.change))
    if rule.types[0].startswith("patchwave:"):
        return Declared(rule.types[0], case.stack, {})
    if case.base in BASES:
        type_ = TYPES.get(case.base, rule.types[0])
        return Declared(type_, case.base, changed(BASES[case.base], scene.change))
    kind = case.base or rule.types[0].rpartition(":")[2]
    found = declared_by_the_program(case.stack)[kind]
    return found._replace(props=changed(found.props, scene.change))


def says(case: Case, scene: Scene, folder: Path) -> list[str]:
    """What the rule has against a scene; one that changes files has a project of its own in the folder."""
    own = bool(scene.files or scene.done)
    project = folder / (str(len(list(folder.iterdir()))) if own else "untouched")
    if not project.exists():
        world(project)
    for name, change in scene.files.items():
        edit(project, name, change)
    if scene.done:
        scene.done(project)
    context = Context(project, case.stack, scene.at, preview=case.preview)
    return asked(pack.BY_NAME[case.rule], shown(case, scene), context)


def asked(rule: Rule, shown: Declared | list[Declared], context: Context) -> list[str]:
    """What a rule complains of with its parameters as they are for the stack."""
    return complaints(rule, shown, context, pack.enforced(rule, context, {}).parameters)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


WINDOW = "config.patchwave:settings.calendar.windows.0"
PROD_FILE, DEV_FILE, STAGING_FILE = "Pulumi.prod.yaml", "Pulumi.dev.yaml", "Pulumi.staging.yaml"
POLICY = "upgradePolicy.rollingUpgradePolicy"
PROFILE = "virtualMachineProfile"
IMAGE = "storageProfile.imageReference"
PATCHING = "osProfile.linuxConfiguration.patchSettings"
PLATFORM = "automaticByPlatformSettings.bypassPlatformSafetyChecksOnUserSchedule"
WINDOWS = {"enableAutomaticUpdates": False, "patchSettings": {"patchMode": "Manual"}}
BY_PLATFORM = {"patchMode": "AutomaticByPlatform"}
SOFT_DELETE = "properties.securitySettings.softDeleteSettings.softDeleteState"
SCOPE = "ConfigurationAssignmentsForResourceGroup"
STACK_TAG = "filter.tagSettings.tags.patchwave-stack"
RING_TAG = "filter.tagSettings.tags.patchwave-ring"
EVERYONE = ",".join(PEOPLE.values())
SIGNERS = f"{EVERYONE} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIADAweR0VGOXXfqzebiY37cSh1vUDb02dJbLet0ERd3T\n"

CASES = (
    Case("waves-name-what-they-run", Scene({"environment.PATCHWAVE_STACK": "qa"}), stack="dev"),
    Case("waves-name-what-they-run", Scene({"environment": ...}), stack="dev"),
    Case("waves-name-what-they-run", Scene({"create": "patchwave  wave preflight --stack prod"}), stack="dev"),
    Case("waves-name-what-they-run", Scene({"create": "python -m patchwave.cli wave all --stack dev"}), stack="dev"),
    Case(
        "waves-name-what-they-run",
        Scene(files={DEV_FILE: {"config.patchwave:release": "2026-11-01.1"}}),
        Scene({"create": "cat evidence/patchwave/wave.html", "environment": {}}),
        stack="dev",
    ),
    Case("waves-bring-what-is-sealed", Scene({"environment.PATCHWAVE_DIGEST": "e" * 64}), stack="dev"),
    Case("waves-start-in-an-open-window", Scene(at=CLOSED), stack="dev"),
    Case(
        "waves-bring-what-the-stack-before-proved",
        Scene(at=STAGING),
        Scene(at=STAGING, done=proved_on_dev),
        stack="staging",
    ),
    Case(
        "waves-meet-the-criteria-before-them",
        Scene(at=STAGING, done=proved_on_dev),
        Scene(at=STAGING, done=tested_on_dev),
        stack="staging",
    ),
    Case("waves-bring-nothing-from-quarantine", Scene(done=taken_back), stack="dev"),
    Case("waves-have-their-quorum", Scene(at=PROD), Scene(at=PROD, done=approved)),
    Case(
        "emergencies-follow-their-plan",
        Scene(at=CLOSED, done=emergency_opened),
        Scene(at=CLOSED, done=emergency_prepared),
        stack="dev",
    ),
    Case(
        "waves-rely-on-waivers-that-count",
        Scene(files={DEV_FILE: {"config.patchwave:waivers": ["W-1"]}, "waivers/W-1.yaml": waiver(f"{CLOSED:%FT%TZ}")}),
        Scene(
            files={DEV_FILE: {"config.patchwave:waivers": ["W-1"]}, "waivers/W-1.yaml": waiver("2026-12-01T09:00:00Z")}
        ),
        stack="dev",
    ),
    Case(
        "slas-can-be-met",
        Scene(),
        Scene(
            files={
                PROD_FILE: settings(
                    calendar__extra=[
                        {"starts": "2026-11-28T02:00:00Z", "ends": "2026-11-28T02:45:00Z", "reason": "in time"}
                    ]
                )
            }
        ),
        preview=True,
    ),
    Case(
        "missed-slas-are-named",
        Scene(files={"policy/standard.yaml": {"remedies": []}}),
        Scene(),
        preview=True,
    ),
    Case("waves-run-again-only-for-another-release", Scene({"triggers": ["now"]}), stack="dev"),
    Case("waves-leave-nothing-to-destroy", Scene({"delete": "patchwave stop --stack dev"}), stack="dev"),
    Case(
        "waves-leave-nothing-to-destroy",
        Scene({"delete": "patchwave wave prove --stack dev"}),
        Scene({"delete": "rm -f marker"}),
        base="command",
    ),
    Case("waves-go-ring-by-ring", Scene({"rest.depends_on": ["urn:protect"]}), base="wave", stack="dev"),
    Case("waves-go-ring-by-ring", Scene({"canary": ...}), base="wave", stack="dev"),
    Case(
        "waves-go-ring-by-ring",
        Scene({"again": WHOLE_WAVE["prove"]}),
        Scene({"other": {"type": "a:b:C", "props": {}}, "rest.depends_on": ["urn:protect", "urn:canary"]}),
        base="wave",
        stack="dev",
    ),
    Case(
        "waves-go-ring-by-ring",
        Scene({"prove.props.create": "patchwave wave patch --ring all --stack dev"}),
        base="wave",
        stack="dev",
    ),
    Case(
        "windows-are-no-wider-than-the-standard",
        Scene(files={PROD_FILE: {f"{WINDOW}.starts": "03:00"}}),
        Scene(files={PROD_FILE: {f"{WINDOW}.starts": "03:00", f"{WINDOW}.duration": "PT3H"}}),
    ),
    Case(
        "windows-are-no-wider-than-the-standard",
        Scene(
            files={
                PROD_FILE: settings(
                    calendar__extra=[
                        {"starts": "2026-11-24T02:00:00Z", "ends": "2026-11-24T03:00:00Z", "reason": "a Tuesday"}
                    ]
                )
            }
        ),
    ),
    Case(
        "a-canary-goes-first",
        Scene(files={PROD_FILE: settings(rollout__rings__0__hosts=["*-{live}-*"])}),
        Scene(files={PROD_FILE: settings(rollout__rings__0__hosts=["*-{live}-0", "*-{live}-1"])}),
    ),
    Case(
        "a-canary-goes-first",
        Scene(files={PROD_FILE: settings(rollout__rings__0__hosts=["*-vm-0"])}),
        Scene(files={PROD_FILE: settings(rollout__rings__0__hosts=["*-vm-0", "*-{live}-0"])}),
    ),
    Case(
        "a-canary-goes-first",
        Scene(files={PROD_FILE: settings(rollout__rings=[{"name": "rest", "hosts": ["*"], "batch": 1}])}),
    ),
    Case(
        "batches-leave-enough-to-answer",
        Scene(files={PROD_FILE: settings(rollout__live_out_of_service=4)}),
        Scene(files={PROD_FILE: settings(rollout__live_out_of_service=3)}),
    ),
    Case(
        "failures-stay-within-the-target",
        Scene(files={PROD_FILE: settings(rollout__failure_budget=1)}),
        Scene(files={PROD_FILE: settings(rollout__failure_budget=1, slots__instances=24)}),
    ),
    Case(
        "restore-points-outlast-the-soak",
        Scene(files={STAGING_FILE: settings(snapshots__keep="P1D")}),
        Scene(files={STAGING_FILE: settings(snapshots__keep="P2D")}),
        stack="staging",
    ),
    Case("approvals-can-be-given", Scene(), Scene(files={"policy/allowed_signers": SIGNERS})),
    Case("stacks-name-a-release", Scene(files={DEV_FILE: {"config.patchwave:release": ...}}), stack="dev"),
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
    Case("what-is-patched-names-its-stack", Scene({"tags.patchwave-stack": "dev"}), Scene({"tags": ...})),
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
        Scene({"vm.props.tags.patchwave-way-back": "downgrade", "points": ...}),
        base="machines",
    ),
    Case(
        "the-way-back-covers-each-disk",
        Scene({"tags.patchwave-way-back": "disk_snapshot", "storageProfile.dataDisks": [{"lun": 0}]}),
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
    Case("schedules-select-only-their-own-stack", Scene({STACK_TAG: ["prod", "dev"]})),
    Case("schedules-select-only-their-own-stack", Scene({STACK_TAG: ["dev"]})),
    Case("schedules-select-only-their-own-stack", Scene({"filter.tagSettings.filterOperator": "Any"})),
    Case("schedules-select-one-ring", Scene({RING_TAG: ["canary", "rest"]}), Scene({RING_TAG: ["rest"]})),
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
    Case(
        "scripts-hold-no-secrets",
        Scene({"create": "DB_PASSWORD=correct-horse ./migrate"}),
        Scene({"create": 'DB_PASSWORD="$PASSWORD" ./migrate'}),
        base="command",
    ),
    Case(
        "scripts-hold-no-secrets",
        Scene({"osProfile.customData": _encoded("#!/bin/sh\necho root:hunter22 | chpasswd\n")}),
        Scene({"osProfile.customData": _encoded("#!/bin/sh\npasswd --lock root\n")}),
        base="VirtualMachine",
    ),
    Case(
        "scripts-hold-no-secrets",
        Scene({"properties.settings.commandToExecute": "az login --service-principal -u x --password Zx8~q1"}),
        Scene({"properties.settings.commandToExecute": "az login --identity"}),
        base="arc-extension",
    ),
    Case(
        "environments-hold-only-marked-secrets",
        Scene({"environment": {"DB_PASSWORD": "correct-horse"}}),
        Scene({"environment": {"DB_PASSWORD_FILE": "/run/secrets/db", "PWD": "/srv"}}),
        base="command",
    ),
    Case(
        "environments-hold-only-marked-secrets",
        Scene({"environment": {"DATABASE": "postgresql://app:correct-horse@db/app"}}),
        Scene({"environment": {"DATABASE": "postgresql://app@db/app"}}),
        base="command",
    ),
    Case(
        "scripts-pin-what-they-fetch",
        Scene({"create": "apt-get install -y --no-install-recommends nginx=1.22.1-9 curl"}),
        Scene({"create": "apt-get install -y --no-install-recommends nginx=1.22.1-9 curl=7.88.1-10"}),
        base="command",
    ),
    Case(
        "scripts-pin-what-they-fetch",
        Scene({"settings.script": _encoded("curl -fsSL https://get.example.com | sudo -E bash -\n")}),
        Scene({"settings.script": _encoded("curl -fsSL https://get.example.com/v1.tar.gz | tar xz\n")}),
        base="extension",
    ),
    Case(
        "scripts-pin-what-they-fetch",
        Scene({"userData": _encoded("#cloud-config\npackages: [nginx, [curl, 7.88.1-10]]\n")}),
        Scene(
            {"userData": _encoded("#cloud-config\npackages: [[nginx, 1.22.1-9]]\nruncmd: [[echo, apt, install, x]]\n")}
        ),
        base="VirtualMachine",
    ),
    Case(
        "scripts-pin-what-they-fetch",
        Scene({"source.script": "pip install requests"}),
        Scene({"source.script": "pip install --require-hashes -r requirements.txt"}),
        base="run-command",
    ),
    Case(
        "hosts-bring-no-unattended-upgrades",
        Scene({f"{PROFILE}.osProfile.customData": _encoded("#cloud-config\npackages: [unattended-upgrades]\n")}),
        Scene({f"{PROFILE}.osProfile.customData": _encoded("#!/bin/sh\napt-get purge -y unattended-upgrades\n")}),
    ),
)
