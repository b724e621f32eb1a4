"""Who is notified when a wave leaves a host behind, and how long logs are kept."""

from typing import Annotated

from pydantic import Field

from patchwave.base.model import Model
from patchwave.config.settings.types import Email, Url


class Sms(Model):
    """A telephone that takes text messages."""

    country_code: Annotated[str, Field(pattern=r"^[1-9]\d{0,3}$")]
    number: Annotated[str, Field(pattern=r"^\d{4,14}$")]


class Alerts(Model):
    """Receivers and retention; an action group takes 1000 addresses, 10 of each other kind, a workspace 30 to 730 days.

    https://learn.microsoft.com/azure/azure-monitor/alerts/action-groups
    """

    emails: Annotated[tuple[Email, ...], Field(min_length=1, max_length=1000)]
    sms: Annotated[tuple[Sms, ...], Field(max_length=10)] = ()
    webhooks: Annotated[tuple[Url, ...], Field(max_length=10)] = ()
    retention_days: Annotated[int, Field(ge=30, le=730)]
