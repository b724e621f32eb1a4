"""The identity endpoint's tokens: managed identity's protocol, signed with a key of the sandbox's own."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Any

import jwt

from sandbox.azure.resources.errors import AzureError
from sandbox.azure.resources.ids import PRINCIPAL, TENANT

LIFETIME = 24 * 3600
MONITOR = "https://monitor.azure.com"
MANAGEMENT = "https://management.azure.com"
QUERIES = {"https://api.loganalytics.io", "https://api.loganalytics.azure.com"}


class Identity:
    """Issues and checks bearer tokens."""

    def __init__(self, key_file: Path, endpoint: str) -> None:
        if not key_file.exists():
            draft = key_file.with_name(f".{key_file.name}.{os.getpid()}")
            with open(draft, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(secrets.token_hex(32))
            draft.replace(key_file)
        self._key = key_file.read_text()
        self._queries = {*QUERIES, endpoint}
        self._management = {MANAGEMENT, "https://management.core.windows.net", endpoint}

    def issue(self, resource: str) -> dict[str, str]:
        """What the managed-identity endpoint answers."""
        audience = resource.rstrip("/")
        if audience not in self._management | self._queries | {MONITOR}:
            raise AzureError(
                400, "invalid_resource",
                f"AADSTS500011: The resource principal named {resource} was not found in the tenant.",
            )  # fmt: skip
        now = int(time.time())
        claims = {
            "aud": audience, "iss": f"https://sts.windows.net/{TENANT}/", "iat": now, "nbf": now, "exp": now + LIFETIME,
            "oid": PRINCIPAL, "sub": PRINCIPAL, "tid": TENANT, "idtyp": "app",
        }  # fmt: skip
        return {
            "access_token": jwt.encode(claims, self._key, algorithm="HS256"),
            "client_id": PRINCIPAL, "expires_in": str(LIFETIME), "ext_expires_in": str(LIFETIME),
            "expires_on": str(now + LIFETIME), "not_before": str(now), "resource": resource, "token_type": "Bearer",
        }  # fmt: skip

    def management(self, header: str | None) -> dict[str, Any]:
        """The claims of a request to the resource manager, or Azure's 401."""
        return self._check(header, self._management)

    def monitor(self, header: str | None) -> dict[str, Any]:
        """The claims of a request to the Logs Ingestion API, or Azure's 401."""
        return self._check(header, {MONITOR})

    def queries(self, header: str | None) -> dict[str, Any]:
        """The claims of a request to the Log Analytics query API, or its 401 and 403.

        https://learn.microsoft.com/azure/azure-monitor/logs/api/errors
        """
        try:
            return self._check(header, self._queries)
        except AzureError as refusal:
            if refusal.code != "AuthenticationFailed":
                refusal.status = 403
            raise

    def _check(self, header: str | None, audiences: set[str]) -> dict[str, Any]:
        if not header:
            raise _unauthorized("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized(
                "AuthenticationFailedInvalidHeader",
                "Authentication failed. The 'Authorization' header is provided in an invalid format.",
            )
        try:
            claims: dict[str, Any] = jwt.decode(token, self._key, algorithms=["HS256"], options={"verify_aud": False})
        except jwt.ExpiredSignatureError:
            raise _unauthorized("ExpiredAuthenticationToken", "The access token expiry is in the past.") from None
        except jwt.InvalidTokenError:
            raise _unauthorized("InvalidAuthenticationToken", "The access token is invalid.") from None
        if claims.get("aud") not in audiences:
            raise _unauthorized(
                "InvalidAuthenticationTokenAudience",
                f"The access token has been obtained for wrong audience or resource '{claims.get('aud')}'.",
            )
        return claims


def _unauthorized(code: str, message: str) -> AzureError:
    challenge = f'Bearer authorization_uri="https://login.windows.net/{TENANT}", error="invalid_token"'
    return AzureError(401, code, message, {"WWW-Authenticate": challenge})
