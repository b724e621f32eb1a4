"""The small types that the stack's decisions are written in."""

import re
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated

from pydantic import AfterValidator, Field


def _private(text: str) -> str:
    network = IPv4Network(text)
    if not network.is_private or network.prefixlen > 24:
        raise ValueError(f"{text}: write a private IPv4 network of /24 or wider")
    return text


def _address(text: str) -> str:
    IPv4Address(text)
    return text


AddressSpace = Annotated[str, AfterValidator(_private)]
Address = Annotated[str, AfterValidator(_address)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
GroupName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_(][A-Za-z0-9._()-]{0,88}[A-Za-z0-9_()-]$|^[A-Za-z0-9_()-]$")]
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
UnixPath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+$")]
UrlPath = Annotated[str, Field(pattern=r"^/[^\s#]*$")]
Unit = Annotated[str, Field(pattern=r"^[A-Za-z0-9@._:-]+$")]
Guid = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
TagName = Annotated[str, Field(pattern=r"^[^<>%&\\?/\x00-\x1f']{1,512}$")]
TagValue = Annotated[str, Field(pattern=r"^[^\x00-\x1f']{0,256}$")]
Positive = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(hours=12))]
Timeout = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(hours=1))]
Command = Annotated[tuple[Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")], ...], Field(min_length=1)]
"""A program and its arguments, without a shell."""

Percentage = Annotated[str, Field(pattern=r"^(100|[1-9]\d?)%$")]
CountOrPercent = Annotated[int, Field(ge=1)] | Percentage


def resource_id(kind: str) -> AfterValidator:
    """Admits ids of resources of a type such as Microsoft.Network/natGateways, in any case."""
    provider, *types = kind.split("/")
    names = "".join(rf"/{part}/[^/\s']+" for part in types)
    form = re.compile(
        rf"/subscriptions/[0-9a-f-]{{36}}/resourceGroups/[^/\s']+/providers/{re.escape(provider)}{names}", re.IGNORECASE
    )

    def check(text: str) -> str:
        if not form.fullmatch(text):
            raise ValueError(
                f"{text[:200]!r} is no id of {kind}: copy the resource's id, /subscriptions/…/{types[-1]}/NAME"
            )
        return text

    return AfterValidator(check)
