"""The tags by which inventory, maintenance scopes and policies find what a stack holds."""

from patchwave.config.settings import Fleet


def common(stack: str) -> dict[str, str]:
    """The tag of everything in a stack."""
    return {"patchwave-stack": stack}


def host(stack: str, name: str, fleet: Fleet) -> dict[str, str]:
    """The tags of every host of a fleet."""
    return common(stack) | {
        "patchwave-fleet": name,
        "patchwave-service": fleet.service,
        "patchwave-method": fleet.method,
        "patchwave-rollback": fleet.rollback,
    }
