"""The small types that the stack's decisions are written in."""

from datetime import timedelta
from ipaddress import IPv4Network
from typing import Annotated

from pydantic import AfterValidator, Field


def _private(text: str) -> str:
    network = IPv4Network(text)
    if not network.is_private or network.prefixlen > 24:
        raise ValueError(f"{text}: write a private IPv4 network of /24 or wider")
    return text


AddressSpace = Annotated[str, AfterValidator(_private)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
UnixPath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+$")]
Unit = Annotated[str, Field(pattern=r"^[A-Za-z0-9@._:-]+$")]
Guid = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Positive = Annotated[int, Field(ge=1)]
Duration = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(hours=12))]
