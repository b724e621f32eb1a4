"""The options of a service as modules declare them: the same names as in the stack's settings, nothing respelled."""

from __future__ import annotations

from typing import Any

Option = dict[str, Any]


def _one(kind: str, **more: Any) -> Option:
    return {"type": kind, **more}


def _list(kind: str, **more: Any) -> Option:
    return {"type": "list", "elements": kind, **more}


def _dict(options: Option, **more: Any) -> Option:
    return {"type": "dict", "options": options, **more}


def _dicts(options: Option, **more: Any) -> Option:
    return {"type": "list", "elements": "dict", "options": options, **more}


_PROGRAM = _list("str", required=True)
_HOOK = {"command": _PROGRAM, "timeout": _one("str", required=True)}

TRAFFIC = _dict(
    {
        "driver": _one("str", required=True, choices=["balancer", "flag", "http", "command", "none"]),
        "pools": _list("str"),
        "port": _one("int"),
        "settle": _one("str"),
        "path": _one("str"),
        "statistics_url": _one("str"),
        "refused_probes": _one("int"),
        "drain_url": _one("str"),
        "return_url": _one("str"),
        "method": _one("str"),
        "drain": _list("str"),
        "put_back": _list("str"),
        "timeout": _one("str"),
    },
    required=True,
    required_if=[
        ["driver", "balancer", ["pools", "port", "settle"]],
        ["driver", "flag", ["path", "statistics_url", "refused_probes", "settle"]],
        ["driver", "http", ["drain_url", "return_url", "method", "settle"]],
        ["driver", "command", ["drain", "put_back", "timeout"]],
    ],
)

CHECKS = _dicts(
    {
        "driver": _one("str", required=True, choices=["http", "tcp", "systemd", "sql", "command"]),
        "url": _one("str"),
        "host": _one("str"),
        "status": _list("int"),
        "drained_status": _one("int"),
        "json_value": _dict({"path": _one("str", required=True), "equals": _one("raw", required=True)}),
        "header": _one("str"),
        "verify_tls": _one("bool"),
        "port": _one("int"),
        "database": _one("str"),
        "query": _one("str"),
        "equals": _one("str"),
        "command": _list("str"),
        "timeout": _one("str"),
    },
    required=True,
    required_if=[
        ["driver", "http", ["url", "status", "verify_tls"]],
        ["driver", "tcp", ["port"]],
        ["driver", "sql", ["database", "port", "query"]],
        ["driver", "command", ["command", "timeout"]],
    ],
)

SERVICE = _dict(
    {
        "units": _list("str", required=True),
        "config_paths": _list("str", required=True),
        "traffic": TRAFFIC,
        "health": _dict(
            {
                "checks": CHECKS,
                "samples": _one("int", required=True),
                "interval": _one("str", required=True),
                "deadline": _one("str", required=True),
            },
            required=True,
        ),
        "data": _dicts(
            {
                "driver": _one("str", required=True, choices=["postgresql"]),
                "database": _one("str", required=True),
                "cluster": _one("str"),
                "port": _one("int", required=True),
            },
            required=True,
        ),
        "hooks": _dict({moment: _dicts(_HOOK, required=True) for moment in ("before", "after", "undo")}, required=True),
        "gates": _list("dict", required=True),
        "max_unavailable": _one("raw", required=True),
        "patch_after": _list("str", required=True),
    },
    required=True,
)

PREFLIGHT = _dict(
    {
        "disk_free_mb": _one("int", required=True),
        "clock_skew": _one("str", required=True),
        "reboot_deadline": _one("str", required=True),
    },
    required=True,
)

METHOD = _one("str", choices=["apt", "dnf"], required=True)
RELEASE = _one("dict", required=True)
RUN = _one("str", required=True)
