"""What the models of a stack's settings refuse because Azure does, each with a neighbour that they admit."""

from types import MappingProxyType
from typing import NamedTuple

from tests.unit.changes import Change


class ModelCase(NamedTuple):
    """A change of the dev stack's settings (after `given`) that its models refuse, and one that they admit."""

    source: str
    refused: Change
    admitted: Change
    says: str
    given: Change = MappingProxyType({})


_LEARN = "https://learn.microsoft.com/azure"
_SETS = f"{_LEARN}/virtual-machine-scale-sets/virtual-machine-scale-sets"
_BACKUP = "https://registry.terraform.io/providers/hashicorp/azurerm/latest/docs/resources/backup_policy_vm"
_IMAGES = f"{_LEARN}/virtual-machines/virtual-machine-scale-sets-maintenance-control"
_WEIGHTS = f"{_LEARN}/traffic-manager/traffic-manager-routing-methods"
_UPDATES = "https://learn.microsoft.com/rest/api/maintenance/maintenance-configurations/create-or-update"
_GROUPS = f"{_LEARN}/azure-monitor/alerts/action-groups"

UPGRADE = {
    "fleets.web.hosts.image.version": "latest",
    "fleets.web.hosts.image_upgrade": {
        "defer": True,
        "window": {
            "recurrence": {"every": "week", "weekdays": ["Saturday"]},
            "starts": "09:00",
            "duration": "PT5H",
            "zone": "Etc/UTC",
        },
    },
}
UPGRADE_WINDOW = "fleets.web.hosts.image_upgrade.window"
REPAIRS = {"fleets.web.hosts.repairs": {"grace": "PT30M", "action": "Restart"}}
BACKUP = {"backup": {"at": "22:00", "zone": "Etc/UTC", "instant_days": 5, "days": 30, "soft_delete_days": 14}}
TRAFFIC = {
    "fleets.web.hosts.traffic_manager": {"dns_name": "desk", "ttl": "PT30S", "weights": {"blue": 900, "green": 100}}
}
WEBHOOK = {"maintenance.events": {"kind": "webhook", "url": "https://example.com/maintenance"}}
FUNCTION = {
    "maintenance.events": {
        "kind": "function",
        "id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/patching/functions/before",
    }
}
GATEWAY = {"ring": "rest", "source": "arc", "resource_group": "plant", "name": "gateway-0"}

MODEL_CASES: tuple[ModelCase, ...] = (
    ModelCase(
        f"{_SETS}-configure-rolling-upgrades",
        {"fleets.web.hosts.rolling.max_batch_percent": 4},
        {"fleets.web.hosts.rolling.max_batch_percent": 5},
        "rolling.max_batch_percent",
    ),
    ModelCase(
        f"{_SETS}-configure-rolling-upgrades",
        {"fleets.web.hosts.rolling.max_unhealthy_percent": 101},
        {"fleets.web.hosts.rolling.max_unhealthy_percent": 100},
        "rolling.max_unhealthy_percent",
    ),
    ModelCase(
        f"{_SETS}-configure-rolling-upgrades",
        {"fleets.web.hosts.rolling.max_unhealthy_upgraded_percent": 101},
        {"fleets.web.hosts.rolling.max_unhealthy_upgraded_percent": 0},
        "rolling.max_unhealthy_upgraded_percent",
    ),
    ModelCase(
        "https://github.com/Azure/vm-scale-sets/issues/69",
        {"fleets.web.hosts.rolling.pause": "PT10M1S"},
        {"fleets.web.hosts.rolling.pause": "PT10M"},
        "rolling.pause",
    ),
    ModelCase(
        f"{_SETS}-configure-rolling-upgrades",
        {"fleets.web.hosts.rolling.max_batch_percent": 51},
        {"fleets.web.hosts.rolling.max_batch_percent": 50},
        "the first batch would abort",
    ),
    ModelCase(
        f"{_SETS}-health-extension",
        {"fleets.web.hosts.balancer.probe.interval": "PT4S"},
        {"fleets.web.hosts.balancer.probe.interval": "PT1M"},
        "probe.interval",
    ),
    ModelCase(
        f"{_SETS}-health-extension",
        {"fleets.web.hosts.balancer.probe.threshold": 25},
        {"fleets.web.hosts.balancer.probe.threshold": 24},
        "probe.threshold",
    ),
    ModelCase(
        f"{_SETS}-health-extension",
        {"fleets.web.hosts.balancer.probe.port": 65536},
        {"fleets.web.hosts.balancer.probe.port": 8080},
        "probe.port",
    ),
    ModelCase(
        f"{_LEARN}/virtual-machines/maintenance-configurations",
        {"calendar.windows.0.duration": "PT1H59M"},
        {"calendar.windows.0.duration": "PT2H"},
        "too short for InGuestPatch",
    ),
    ModelCase(
        _UPDATES,
        {"calendar.windows.0.zone": "Antarctica/Troll"},
        {"calendar.windows.0.zone": "Europe/Berlin"},
        "has no Windows name",
    ),
    ModelCase(
        _UPDATES, {"backup.zone": "Antarctica/Troll"}, {"backup.zone": "Asia/Tokyo"}, "has no Windows name", BACKUP
    ),
    ModelCase(_IMAGES, {f"{UPGRADE_WINDOW}.duration": "PT4H59M"}, {}, "too short for OSImage", UPGRADE),
    ModelCase(
        _IMAGES,
        {f"{UPGRADE_WINDOW}.recurrence": {"every": "month", "week": "second", "weekday": "Sunday"}},
        {},
        "by the day or week",
        UPGRADE,
    ),
    ModelCase(f"{_SETS}-automatic-upgrade", {"fleets.web.hosts.image.version": "1.0.0"}, {}, "write latest", UPGRADE),
    ModelCase(_IMAGES, {f"{UPGRADE_WINDOW}.recurrence.weekdays": ["Friday"]}, {}, "in the middle of a wave", UPGRADE),
    ModelCase(
        _WEIGHTS,
        {"fleets.web.hosts.traffic_manager.weights.blue": 1001},
        {"fleets.web.hosts.traffic_manager.weights.blue": 1000},
        "weights.blue",
        TRAFFIC,
    ),
    ModelCase(
        _WEIGHTS,
        {"fleets.web.hosts.traffic_manager.weights.blue": 0},
        {"fleets.web.hosts.traffic_manager.weights.green": 0},
        "the live slot is blue",
        TRAFFIC,
    ),
    ModelCase(
        _WEIGHTS,
        {"fleets.web.hosts.traffic_manager.weights.green": 901},
        {"fleets.web.hosts.traffic_manager.weights.green": 900},
        "the live slot is blue",
        TRAFFIC,
    ),
    ModelCase(
        f"{_SETS}-automatic-instance-repairs",
        {"fleets.web.hosts.repairs.grace": "PT9M"},
        {"fleets.web.hosts.repairs.grace": "PT90M"},
        "repairs.grace",
        REPAIRS,
    ),
    ModelCase(
        f"{_SETS}-automatic-instance-repairs",
        {"fleets.web.hosts.repairs.action": "Reboot"},
        {"fleets.web.hosts.repairs.action": "Reimage"},
        "repairs.action",
        REPAIRS,
    ),
    ModelCase(
        _WEIGHTS, {"fleets.web.hosts.traffic_manager.weights.green": ...}, {}, "blue and green one each", TRAFFIC
    ),
    ModelCase(
        f"{_LEARN}/update-manager/unsupported-workloads",
        {"fleets.web.method": "update_manager"},
        {"fleets.web.method": "image"},
        "does not patch scale sets",
    ),
    ModelCase(
        f"{_LEARN}/virtual-machines/virtual-machines-create-restore-points",
        {"fleets.sites.rollback": "restore_point"},
        {"fleets.machines.rollback": "restore_point"},
        "Azure takes none of arc",
    ),
    ModelCase(_UPDATES, {"maintenance.linux": ["Others"]}, {"maintenance.linux": ["Other"]}, "maintenance.linux.0"),
    ModelCase(
        _UPDATES,
        {"maintenance.windows": ["Drivers"]},
        {"maintenance.windows": ["Definition", "Tools"]},
        "maintenance.windows.0",
    ),
    ModelCase(
        "https://github.com/Azure/azure-rest-api-specs/issues/27222",
        {"maintenance.reboot": "Always"},
        {"maintenance.reboot": "Never"},
        "maintenance.reboot",
    ),
    ModelCase(
        f"{_LEARN}/virtual-machines/troubleshoot-maintenance-configurations",
        {"maintenance.assigned": [GATEWAY, GATEWAY]},
        {"maintenance.assigned": [GATEWAY]},
        "is named twice",
    ),
    ModelCase(
        f"{_LEARN}/event-grid/end-point-validation-event-grid-events-schema",
        {"maintenance.events.url": "http://example.com"},
        {},
        "maintenance.events.url",
        WEBHOOK,
    ),
    ModelCase(
        f"{_LEARN}/event-grid/handler-functions",
        {"maintenance.events.id": "/sites/patching"},
        {},
        "maintenance.events.id",
        FUNCTION,
    ),
    ModelCase(_BACKUP, {"backup.instant_days": 31}, {"backup.instant_days": 30}, "backup.instant_days", BACKUP),
    ModelCase(_BACKUP, {"backup.days": 6}, {"backup.days": 7}, "backup.days", BACKUP),
    ModelCase(_BACKUP, {"backup.weeks": 0}, {"backup.weeks": 1}, "backup.weeks", BACKUP),
    ModelCase(_BACKUP, {"backup.months": 10000}, {"backup.months": 9999}, "backup.months", BACKUP),
    ModelCase(_BACKUP, {"backup.at": "22:15"}, {"backup.at": "22:30"}, "the half hour", BACKUP),
    ModelCase(
        f"{_LEARN}/backup/secure-by-default",
        {"backup.soft_delete_days": 13},
        {"backup.soft_delete_days": 180},
        "backup.soft_delete_days",
        BACKUP,
    ),
    ModelCase(
        f"{_LEARN}/azure-monitor/logs/data-retention-configure",
        {"alerts.retention_days": 29},
        {"alerts.retention_days": 30},
        "alerts.retention_days",
    ),
    ModelCase(
        _GROUPS,
        {"alerts.sms": [{"country_code": "49", "number": "15550100100"}] * 11},
        {"alerts.sms": [{"country_code": "49", "number": "15550100100"}] * 10},
        "alerts.sms",
    ),
    ModelCase(
        _GROUPS,
        {"alerts.sms": [{"country_code": "+49", "number": "15550100100"}]},
        {"alerts.sms": [{"country_code": "1", "number": "5550100"}]},
        "alerts.sms.0.country_code",
    ),
    ModelCase(
        _GROUPS,
        {"alerts.webhooks": ["https://example.com"] * 11},
        {"alerts.webhooks": ["https://example.com"]},
        "alerts.webhooks",
    ),
    ModelCase(
        "https://learn.microsoft.com/rest/api/authorization/role-assignments/create",
        {"runner": {"principal_id": "runner"}},
        {"runner": {"principal_id": "8f2d1c4a-6c1b-4a3d-b0d7-2e9a54c3f6b8"}},
        "runner.principal_id",
    ),
)
