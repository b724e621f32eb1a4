"""A wave as resources: a few commands that carry the order out, run again only when the work changes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pulumi
from pulumi_command import local

from patchwave.authorization.inputs import gather
from patchwave.authorization.messages import require
from patchwave.base import clock
from patchwave.config.order import Addresses, Order
from patchwave.releases.release import Release


class Wave(pulumi.ComponentResource):
    """One release carried out on one stack: preflight, protect, each ring in its order, prove.

    An `up` whose order has the same work runs nothing. One that would run needs permission before any host is touched;
    from there on the wave itself decides, batch by batch. `public` are the urls of fleets, by name.
    """

    def __init__(
        self,
        name: str,
        *,
        project: Path,
        order: Order,
        release: Release,
        public: Mapping[str, pulumi.Input[str]],
        ingestion_url: pulumi.Input[str] | None,
        ingestion_rule: pulumi.Input[str] | None,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Wave", name, None, opts)
        guard = pulumi.ResourceHook(f"{name}-guard", _guard(project, order, release))
        known = pulumi.Output.all(public=dict(public), ingestion_url=ingestion_url, ingestion_rule=ingestion_rule)
        text = known.apply(lambda found: order.model_copy(update={"addresses": Addresses(**found)}).model_dump_json())
        phases = {"preflight": "preflight", "protect": "protect"}
        for ring in order.settings.rollout.ring_names:
            phases[f"patch-{ring}"] = f"patch --ring {ring}"
        for phase, arguments in (phases | {"prove": "prove"}).items():
            hooks = pulumi.ResourceHookBinding(before_create=[guard]) if phase == "preflight" else None
            command = local.Command(
                f"{name}-{phase}",
                create=f"exec patchwave wave {arguments} --stack {order.stack}",
                update="true",
                stdin=text,
                triggers=[order.work],
                opts=pulumi.ResourceOptions(parent=self, depends_on=after, hooks=hooks),
            )
            after = [command]
        self.register_outputs({"release": release.id})


def _guard(project: Path, order: Order, release: Release) -> Callable[[pulumi.ResourceHookArgs], None]:
    """Refuses at the moment when the wave would really begin; one whose work is done never gets here."""

    def guard(args: pulumi.ResourceHookArgs) -> None:
        needs, now = order.settings.rollout.batch_timeout, clock.now()
        waivers, settings, standard = order.waivers, order.settings, order.standard
        require(gather(project, order.stack, release, waivers, settings, standard=standard, needs=needs, at=now))

    return guard
