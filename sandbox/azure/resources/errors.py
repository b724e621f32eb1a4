"""Azure's way of saying no."""

from __future__ import annotations

from typing import Any


class AzureError(Exception):
    """An HTTP status with Azure's code and words; it becomes the error envelope."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}

    @property
    def envelope(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message}}


def bad_request(code: str, message: str) -> AzureError:
    return AzureError(400, code, message)


def conflict(code: str, message: str) -> AzureError:
    return AzureError(409, code, message)


def not_found(resource: str, group: str) -> AzureError:
    """The words for a resource that is not there; `resource` is type/name."""
    return AzureError(
        404, "ResourceNotFound",
        f"The Resource '{resource}' under resource group '{group}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
    )  # fmt: skip


def group_not_found(group: str) -> AzureError:
    return AzureError(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")


def too_many(code: str, message: str, seconds: int, headers: dict[str, str] | None = None) -> AzureError:
    """A 429 with the time to wait."""
    return AzureError(429, code, message, {**(headers or {}), "Retry-After": str(max(1, seconds))})


def not_implemented(problem: Exception) -> AzureError:
    """For what Azure may take and the sandbox cannot judge."""
    return AzureError(501, "NotImplemented", f"Azure may know this, the sandbox does not: {problem}")
