"""A wave as resources: a few commands that run playbooks, re-run only by another release or other waivers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pulumi
from pulumi_command import local

from patchwave.authorization import permission
from patchwave.base import clock
from patchwave.config.settings import Settings
from patchwave.config.standard import StackName
from patchwave.releases.release import Release
from patchwave.releases.waivers import Waiver


class Wave(pulumi.ComponentResource):
    """One release carried out on one stack: preflight, protect, each ring in its order, prove.

    An `up` that brings no other release and no other waivers runs nothing; an `up` that would run needs permission at
    that moment.
    """

    def __init__(
        self,
        name: str,
        *,
        project: Path,
        stack: StackName,
        settings: Settings,
        release: Release,
        waivers: Sequence[Waiver],
        public_url: pulumi.Input[str],
        ingestion_url: pulumi.Input[str],
        ingestion_rule: pulumi.Input[str],
        after: list[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Wave", name, None, opts)
        guard = pulumi.ResourceHook(f"{name}-guard", _guard(project, stack, settings, release))
        phases = [("preflight", "preflight"), ("protect", "protect")]
        phases += [(f"patch-{ring.name}", f"patch --ring {ring.name}") for ring in settings.rollout.rings]
        for phase, arguments in [*phases, ("prove", "prove")]:
            command = local.Command(
                f"{name}-{phase}",
                create=f"exec patchwave wave {arguments} --stack {stack}",
                environment={
                    "PATCHWAVE_STACK": stack,
                    "PATCHWAVE_RELEASE": release.id,
                    "PATCHWAVE_DIGEST": release.digest,
                    "PATCHWAVE_WAIVERS": " ".join(waiver.id for waiver in waivers),
                    "PATCHWAVE_PUBLIC_URL": public_url,
                    "PATCHWAVE_INGESTION_URL": ingestion_url,
                    "PATCHWAVE_INGESTION_RULE": ingestion_rule,
                },
                triggers=[release.digest, *(waiver.mark for waiver in waivers)],
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=after,
                    hooks=pulumi.ResourceHookBinding(before_create=[guard], before_update=[guard]),
                ),
            )
            after = [command]
        self.register_outputs({"release": release.id})


def _guard(
    project: Path, stack: StackName, settings: Settings, release: Release
) -> Callable[[pulumi.ResourceHookArgs], None]:
    """Refuses at the moment when something would really run; an unchanged wave never gets here."""

    def guard(args: pulumi.ResourceHookArgs) -> None:
        needs, now = settings.rollout.host_takes, clock.now()
        permission.require(permission.gather(project, stack, release, settings.calendar, needs=needs, at=now))

    return guard
