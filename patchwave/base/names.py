"""Names, versions and digests as Debian, rpm and MITRE spell them, for everything that comes from outside."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

PackageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9+._-]+$")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+:~^_-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Cve = Annotated[str, Field(pattern=r"^CVE-\d{4}-\d{4,}$")]


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of a document without its digest."""
    body = {key: value for key, value in content.items() if key != "digest"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
