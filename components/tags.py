"""The tags by which inventory, maintenance scopes and policies find what a stack holds."""

from patchwave.config.settings import Settings, Slot, Source


def common(stack: str) -> dict[str, str]:
    """The tag of everything in a stack."""
    return {"patchwave-stack": stack}


def host(
    stack: str, settings: Settings, source: Source, ring: str | None = None, slot: Slot | None = None
) -> dict[str, str]:
    """The tags of what becomes a host."""
    fleet = settings.fleet(source)
    chosen = settings.fleets[fleet]
    tags = common(stack) | {
        "patchwave-fleet": fleet,
        "patchwave-method": chosen.method,
        "patchwave-way-back": chosen.way_back,
    }
    return tags | ({"patchwave-ring": ring} if ring else {}) | ({"patchwave-slot": slot} if slot else {})
