"""What a host does for a service: traffic, health by checks that can fail, hooks and dumps."""

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from patchwave.config.settings import services
from patchwave.config.settings.services import HealthCheck, Service, Traffic
from tests.unit.playbook_code import load
from tests.unit.web import Web

from ansible.module_utils import patchwave_apt as apt  # isort: skip
from ansible.module_utils import patchwave_data as data  # isort: skip
from ansible.module_utils import patchwave_health as health  # isort: skip
from ansible.module_utils import patchwave_hooks as hooks  # isort: skip
from ansible.module_utils import patchwave_host as host  # isort: skip
from ansible.module_utils import patchwave_options as options  # isort: skip
from ansible.module_utils import patchwave_sockets as sockets  # isort: skip
from ansible.module_utils import patchwave_traffic as traffic  # isort: skip
from ansible.module_utils import patchwave_units as units  # isort: skip

drain = load("modules", "patchwave_drain")
preflight = load("modules", "patchwave_preflight")
undrain = load("modules", "patchwave_undrain")
verify = load("modules", "patchwave_verify")
RUN = "20261123T090000Z-1a2b"


def plain(kind, **fields):
    """A part of the settings as playbooks get it."""
    return TypeAdapter(kind).validate_python(fields, strict=False).model_dump(mode="json")


def check(driver="http", **fields):
    return plain(HealthCheck, driver=driver, **fields)


def service(*checks, **fields):
    """A whole service of these checks, with deadlines of tests."""
    given_health = {"checks": checks, "interval": "PT0.01S", "deadline": "PT0.3S"}
    return plain(Service, **{"traffic": {"driver": "none"}, "health": given_health, **fields})


@pytest.fixture
def web():
    made = Web()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A lock, journals and a marker of the test's own."""
    monkeypatch.setattr(preflight, "HEALTH_DEADLINE", 0.1)
    for module in (drain, undrain, verify):
        monkeypatch.setattr(module, "host_lock", lambda owner: host.host_lock(owner, path=tmp_path / "lock"))
        monkeypatch.setattr(module, "Journal", lambda run: host.Journal(run, tmp_path))
    monkeypatch.setattr(traffic, "MARKER", tmp_path / "drained")


# -- the settings' own names ------------------------------------------------------------------------------------------

EVERY = {
    "units": ["nginx.service"],
    "config_paths": ["/etc/nginx"],
    "traffic": {"driver": "none"},
    "health": {
        "checks": [
            {"driver": "http", "url": "http://127.0.0.1/", "json_value": {"path": "a.b", "equals": True}},
            {"driver": "tcp", "port": 80},
            {"driver": "systemd"},
            {"driver": "sql", "database": "desk"},
            {"driver": "command", "command": ["true"]},
        ]
    },
    "data": [{"driver": "postgresql", "database": "desk"}],
    "hooks": {moment: [{"command": ["true"]}] for moment in ("before", "after", "undo")},
    "gates": [{"driver": "http"}],
    "max_unavailable": "50%",
    "patch_after": ["database"],
}
BALANCER = {"driver": "balancer", "port": 80, "settle": "PT1S"}
TRAFFIC = [
    BALANCER,
    {"driver": "flag", "path": "/run/drain/flag", "settle": "PT1S"},
    {"driver": "http", "drain_url": "http://127.0.0.1/d", "return_url": "http://127.0.0.1/r", "settle": "PT1S"},
    {"driver": "command", "drain": ["true"], "put_back": ["true"], "timeout": "PT1S"},
    {"driver": "none"},
]


def without_none(value):
    if isinstance(value, dict):
        return {key: without_none(part) for key, part in value.items() if part is not None}
    return [without_none(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("way", TRAFFIC, ids=lambda way: way["driver"])
def test_a_service_reaches_a_module_as_the_settings_have_it(way):
    written = plain(Service, **{**EVERY, "traffic": way})
    result = ArgumentSpecValidator({"service": options.SERVICE}).validate({"service": written})
    assert not result.error_messages
    assert without_none(result.validated_parameters["service"]) == without_none(written)


@pytest.mark.parametrize("left_out", ["settle", "port"])
def test_an_option_that_a_driver_needs_is_not_defaulted(left_out):
    written = plain(Service, **{**EVERY, "traffic": BALANCER})
    del written["traffic"][left_out]
    assert ArgumentSpecValidator({"service": options.SERVICE}).validate({"service": written}).error_messages


def names_of(*models):
    return {name for model in models for name in model.model_fields}


def test_modules_know_every_name_of_the_settings_and_no_other():
    spec = options.SERVICE["options"]
    ways = (services.BalancerTraffic, services.FlagTraffic, services.HttpTraffic, services.CommandTraffic)
    kinds = (services.HttpHealth, services.TcpHealth, services.SqlHealth, services.CommandHealth)
    assert set(spec) == names_of(Service)
    assert set(spec["traffic"]["options"]) == names_of(*ways)
    assert set(spec["health"]["options"]) == names_of(services.Health)
    assert set(spec["health"]["options"]["checks"]["options"]) == names_of(*kinds)
    assert set(spec["data"]["options"]) == names_of(services.Postgresql)
    assert set(spec["hooks"]["options"]) == names_of(services.Hooks)
    assert set(options.PREFLIGHT["options"]) == names_of(services.Preflight)


@given(st.timedeltas(timedelta(milliseconds=1), timedelta(days=30)))
def test_a_duration_of_the_settings_is_read_as_it_was_written(duration):
    text = TypeAdapter(timedelta).dump_python(duration, mode="json")
    assert host.seconds(text) == pytest.approx(duration.total_seconds(), abs=1e-6)


@pytest.mark.parametrize("bad", ["", "P", "PT", "60", "PT1", "P1M", "-PT1S", "PT1S\n", "PT1S; id"])
def test_what_is_no_duration_is_refused(bad):
    with pytest.raises(host.StepError, match="duration"):
        host.seconds(bad)


# -- health -----------------------------------------------------------------------------------------------------------


def problem_of(web, path="/healthz", *, drained=False, **fields):
    one = check(url=f"{web.url}{path}", **fields)
    return health.check_once(one, (), drained=drained).problem


OK = {"path": "status", "equals": "ok"}
ANSWERS = [
    ((200, b"fine"), {}, ""),
    ((204, b""), {"status": [200, 204]}, ""),
    ((200, {"status": "ok"}), {"json_value": OK}, ""),
    ((200, {"checks": {"database": 1}}), {"json_value": {"path": "checks.database", "equals": 1}}, ""),
    ((500, b"fine"), {}, "HTTP 500"),
    ((302, b""), {}, "HTTP 302"),
    ((200, b"fine"), {"json_value": OK}, "status is 'None'"),
    ((200, {"status": "bad"}), {"json_value": OK}, "status is 'bad'"),
    ((200, ["ok"]), {"json_value": OK}, "status is 'None'"),
    ((200, {"status": 1}), {"json_value": {"path": "status", "equals": True}}, "status is '1'"),
    ((200, {"status": {"x": "ok"}}), {"json_value": OK}, "status is"),
    ((200, b"[" * 60000), {"json_value": OK}, "status is 'None'"),
    ((200, b'{"status": ' + b"9" * 60000 + b"}"), {"json_value": OK}, "status is"),
    ((200, b'{"status": "ok", "pad": "' + b"x" * 70000 + b'"}'), {"json_value": OK}, "status is 'None'"),
    ((200, b"\xff\xfe\x00"), {"json_value": OK}, "status is 'None'"),
]


@pytest.mark.parametrize(("answer", "fields", "problem"), ANSWERS)
def test_an_answer_is_healthy_by_its_status_and_what_else_the_check_names(web, answer, fields, problem):
    web.answers["/healthz"] = answer
    found = problem_of(web, **fields)
    assert problem in found
    assert bool(found) is bool(problem)


def test_a_header_is_compared_by_its_value(web):
    assert "header X-State is None" in problem_of(web, header="X-State: ready")
    web.headers["x-state"] = "ready"
    assert not problem_of(web, header="X-State: ready")


def test_the_host_header_is_the_checks_own_and_a_redirect_is_not_followed(web):
    web.headers["Location"] = f"{web.url}/"
    web.answers["/healthz"] = (301, b"")
    assert "HTTP 301" in problem_of(web, host="shop.example.org")
    assert web.requests == [("GET", "/healthz", "shop.example.org")]


def test_a_refused_probe_is_well_only_on_a_drained_host(web):
    web.answers["/healthz"] = (503, {"status": "draining"})
    assert not problem_of(web, drained=True, drained_status=503, json_value=OK)
    assert "HTTP 503" in problem_of(web, drained=False, drained_status=503, json_value=OK)
    assert "HTTP 503" in problem_of(web, drained=True, json_value=OK)


def test_an_endpoint_that_trickles_is_given_up(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle():
            connection, _ = server.accept()
            with contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                for _ in range(100):
                    connection.sendall(b"X: y\r\n")
                    time.sleep(0.05)

        threading.Thread(target=trickle, daemon=True).start()
        began = time.monotonic()
        answer = health.request(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=0.3)
    assert "no complete answer in 0.3 s" in answer.error
    assert time.monotonic() - began < 2


def test_a_certificate_is_checked_for_the_name_that_is_asked_for(tmp_path, monkeypatch):
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9"]
    made += ["-subj", "/CN=x", "-addext", "subjectAltName=DNS:shop.example.org", "-keyout", "key", "-out", "cert"]
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    tls = Web()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    tls.server.socket = context.wrap_socket(tls.server.socket, server_side=True)
    url = tls.url.replace("http:", "https:")
    try:
        assert "certificate" in health.request(url, host="shop.example.org").error
        assert health.request(url, verify_tls=False).status == 200
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
        assert health.request(url, host="shop.example.org:8443").status == 200
        assert "certificate" in health.request(url, host="other.example.org").error
    finally:
        tls.close()


def test_a_port_is_well_when_it_accepts_wherever_it_listens():
    with socket.create_server(("127.0.0.2", 0)) as server:
        port = server.getsockname()[1]
        assert sockets.listening(port) == ["127.0.0.2"]
        assert not health.check_once(check("tcp", port=port), (), drained=False).problem
    assert "nothing listens" in health.check_once(check("tcp", port=port), (), drained=False).problem


def test_a_command_is_well_when_it_ends_with_0_and_in_time():
    assert not health.check_once(check("command", command=["true"]), (), drained=False).problem
    assert "exit 3" in health.check_once(check("command", command=["sh", "-c", "exit 3"]), (), drained=False).problem
    hangs = check("command", command=["sleep", "30"], timeout="PT0.2S")
    assert "did not end within 0.2 s" in health.check_once(hangs, (), drained=False).problem
    missing = health.check_once(check("command", command=["/no/such/program"]), (), drained=False).problem
    assert "No such file" in missing


def unit(name, active="active", *parts):
    return units.Unit(name, active, parts, "", "")


@pytest.mark.parametrize(
    ("there", "problem"),
    [
        ([unit("nginx.service")], ""),
        ([unit("nginx.service"), unit("desk.service", "failed")], "desk.service is not active"),
        ([unit("nginx.service", "activating")], "nginx.service is not active"),
        ([], "none of the service's units is on this host: nginx.service, desk.service"),
    ],
)
def test_units_are_well_when_those_that_are_on_the_host_are_active(monkeypatch, there, problem):
    monkeypatch.setattr(units, "units", lambda names: there)
    found = health.check_once(check("systemd"), ["nginx.service", "desk.service"], drained=False).problem
    assert found == problem


ROWS = [
    ([["1"]], None, ""),
    ([["ok", "x"]], "ok", ""),
    ([["t"]], "f", "gives 't'"),
    ([], None, "0 rows"),
    ([["1"], ["2"]], None, "2 rows"),
]


@pytest.mark.parametrize(("rows", "equals", "problem"), ROWS)
def test_a_query_is_well_by_its_one_row(monkeypatch, rows, equals, problem):
    monkeypatch.setattr(data, "query", lambda *_, **__: rows)
    found = health.check_once(check("sql", database="desk", equals=equals), (), drained=False).problem
    assert problem in found
    assert bool(found) is bool(problem)


def test_all_checks_must_be_well_in_a_row_and_errors_after_the_first_are_counted(web):
    web.answers["/healthz"] = lambda number: (503, {}) if number in (1, 4) else (200, {})
    whole = service({"driver": "http", "url": f"{web.url}/healthz"}, {"driver": "http", "url": f"{web.url}/"})
    result = health.sample(whole["health"], (), drained=False, deadline=3)
    assert (result.good, result.errors, result.warm_up, result.problem) == (3, 1, 1, "")
    assert result.median_ms is not None


def test_health_that_never_comes_ends_at_the_deadline_with_the_reason(web):
    web.answers["/"] = (500, b"")
    whole = service({"driver": "http", "url": f"{web.url}/healthz"}, {"driver": "http", "url": f"{web.url}/"})
    began = time.monotonic()
    result = health.sample(whole["health"], (), drained=False)
    assert "HTTP 500" in result.problem
    assert (result.good, result.median_ms) == (0, None)
    assert time.monotonic() - began < 3


def test_a_check_of_a_value_must_be_able_to_fail_and_a_plain_page_need_not(web):
    web.headers["X-State"] = "ready"
    everything = {"driver": "http", "url": f"{web.url}/healthz"}
    with_value = {**everything, "json_value": OK}
    assert not health.proves_nothing(service(with_value)["health"])
    web.other = (200, {"status": "ok"})
    assert "proves nothing" in health.proves_nothing(service(with_value)["health"])
    assert "proves nothing" in health.proves_nothing(service({**everything, "header": "X-State: ready"})["health"])
    assert not health.proves_nothing(service(everything)["health"])


def test_the_baseline_is_that_of_the_first_http_check(web):
    assert health.baseline(service({"driver": "tcp", "port": 1})["health"], 3) is None
    assert health.baseline(service({"driver": "http", "url": f"{web.url}/none"})["health"], 2) is None
    two = service({"driver": "tcp", "port": web.port}, {"driver": "http", "url": f"{web.url}/"})
    assert health.baseline(two["health"], 3) > 0


# -- the process is new -----------------------------------------------------------------------------------------------


@pytest.fixture
def process():
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child.pid
        child.kill()


def shown(monkeypatch, pid, active="active"):
    monkeypatch.setattr(
        units,
        "_show",
        lambda name, *_: {
            "ActiveState": active if name != "gone.service" else "inactive",
            "MainPID": str(pid),
            "ActiveEnterTimestampMonotonic": str(int((time.monotonic() - 100) * 1e6)),
        },
    )
    monkeypatch.setattr(units, "processes", list)


def test_a_stopped_units_process_must_have_started_after_the_change(monkeypatch, process):
    shown(monkeypatch, process)
    found, now = [unit("desk.service"), unit("gone.service")], time.time()
    assert not units.old_process(found, ["desk.service", "gone.service"], now)
    assert "as before the change" in units.old_process(found, ["desk.service"], now + 60)
    assert not units.old_process(found, [], now + 60)
    assert not units.old_process(found, ["desk.service"], None)


def test_a_unit_without_a_process_and_the_parts_of_a_unit_are_judged_by_systemd(monkeypatch):
    shown(monkeypatch, 0)
    umbrella = [unit("postgresql.service", "active", "postgresql@15-main.service")]
    assert "postgresql.service still runs" in units.old_process(umbrella, ["postgresql.service"], time.time())
    assert not units.old_process(umbrella, ["postgresql.service"], time.time() - 200)


def test_no_process_of_the_service_may_use_a_replaced_file(monkeypatch, process):
    shown(monkeypatch, 0)
    monkeypatch.setattr(units, "processes", lambda: [process])
    monkeypatch.setattr(units, "unit_of", lambda pid: "postgresql@15-main.service")
    monkeypatch.setattr(units, "mapped_files", lambda pid: ({"/usr/lib/libssl.so.3"}, {"/usr/lib/libssl.so.3"}))
    found = [unit("postgresql.service", "active", "postgresql@15-main.service")]
    assert "still uses the replaced libssl.so.3" in units.old_process(found, [], None)
    assert not units.old_process([unit("nginx.service")], [], None)


# -- traffic ----------------------------------------------------------------------------------------------------------


def way(driver, **fields):
    return plain(Traffic, driver=driver, **{"settle": "PT0.3S", **fields} if driver != "command" else fields)


def flag(tmp_path, **fields):
    return way("flag", path=str(tmp_path / "deep" / "draining"), **fields)


def counted(tmp_path, web, **fields):
    return flag(tmp_path, statistics_url=f"{web.url}/statz", refused_probes=2, **fields)


def test_a_flag_names_its_run_and_other_peoples_are_theirs(tmp_path):
    marker = traffic.Marker.of(flag(tmp_path))
    assert marker.owner() is None
    marker.put(RUN)
    assert marker.owner() == RUN
    marker.path.write_text("the operator\n")
    assert marker.owner() == traffic.SOMEONE_ELSE
    marker.remove()
    assert marker.owner() is None
    with pytest.raises(host.StepError):
        traffic.Marker("relative/draining")


def test_a_host_is_drained_when_the_balancer_knows_and_nobody_is_served(tmp_path, web):
    web.answers["/statz"] = lambda number: (200, {"refused": 40 + number, "in_flight": 0 if number > 4 else 1})
    outcome = traffic.drain(counted(tmp_path, web, settle="PT5S"), RUN, live=True)
    assert outcome.problem == ""
    assert len(web.requests) == 5


STATISTICS = [
    ((200, {"refused": 9, "in_flight": 0}), "0 of 2 probes refused"),
    ((200, {"refused": 9, "in_flight": 1}), "1 requests in flight"),
    ((200, {"refused": True, "in_flight": 0}), "lack refused"),
    ((200, {"refused": "9", "in_flight": None}), "no statistics"),
    ((200, ["refused"]), "no statistics"),
    ((500, {}), "no statistics: HTTP 500"),
]


@pytest.mark.parametrize(("answer", "problem"), STATISTICS)
def test_a_host_that_is_not_drained_says_why(tmp_path, web, answer, problem):
    web.answers["/statz"] = answer
    assert problem in traffic.drain(counted(tmp_path, web), RUN, live=True).problem


def test_counters_that_begin_anew_with_the_drain_are_counted_from_zero(tmp_path, web):
    web.answers["/statz"] = lambda number: (200, {"refused": 90 if number == 1 else number, "in_flight": 0})
    assert not traffic.drain(counted(tmp_path, web, settle="PT5S"), RUN, live=True).problem


def test_without_statistics_the_time_to_settle_is_waited_for_on_hosts_that_users_reach(tmp_path):
    for live, least, most in ((True, 0.3, 5), (False, 0, 0.3)):
        began = time.monotonic()
        traffic.drain(flag(tmp_path), RUN, live=live)
        traffic.put_back(flag(tmp_path), live=False, was_drained=True)()
        assert least <= time.monotonic() - began < most


def test_an_http_drain_asks_and_believes_only_success(web, tmp_path):
    urls = {"drain_url": f"{web.url}/drain", "return_url": f"{web.url}/return"}
    web.answers |= {"/drain": (204, b""), "/return": (500, b"")}
    traffic.drain(way("http", **urls), RUN, live=False)
    assert traffic.Marker.of(way("http", **urls)).owner() == RUN
    with pytest.raises(host.StepError, match="HTTP 500, not a status of 2xx"):
        traffic.put_back(way("http", **urls), live=False, was_drained=True)
    assert [line[:2] for line in web.requests] == [("POST", "/drain"), ("POST", "/return")]


def test_a_command_drains_puts_back_and_may_not_hang(tmp_path):
    state = tmp_path / "state"
    programs = {"drain": ["sh", "-c", f"echo away > {state}"], "put_back": ["rm", str(state)]}
    by_command = way("command", **programs, timeout="PT5S")
    traffic.drain(by_command, RUN, live=True)
    assert state.read_text() == "away\n"
    traffic.put_back(by_command, live=True, was_drained=True)()
    assert not state.exists()
    with pytest.raises(host.StepError, match=r"did not end within 0\.2 s"):
        traffic.drain(way("command", **{**programs, "drain": ["sleep", "30"]}, timeout="PT0.2S"), RUN, live=True)


def table(tmp_path, monkeypatch, *rows):
    """A table of the kernel's with these rows of peer and state, all at port 80 of 10.0.0.4."""
    path = tmp_path / "tcp"
    lines = [f"   {at}: 0400000A:0050 {peer} {state} 00000000:00000000" for at, (peer, state) in enumerate(rows)]
    path.write_text("  sl  local_address rem_address   st\n" + "".join(f"{line}\n" for line in lines))
    monkeypatch.setattr(sockets, "TABLES", (path, tmp_path / "tcp6"))


SOMEBODY, PLATFORM, LOOPBACK = "0909000A:C350", "10813FA8:C351", "0100007F:C352"


def test_connections_of_other_machines_are_waited_for_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(traffic, "PAUSE", 0.01)
    balanced = way("balancer", port=80)
    table(tmp_path, monkeypatch, (PLATFORM, "01"), (LOOPBACK, "01"), (SOMEBODY, "06"))
    assert "no client is connected" in traffic.drain(balanced, RUN, live=True).detail
    table(tmp_path, monkeypatch, (SOMEBODY, "01"))
    outcome = traffic.drain(balanced, RUN, live=True)
    assert "1 connection left after 0.3 s" in outcome.detail
    assert not outcome.problem
    assert sockets.clients(80, "01") == {("10.0.9.9", 50000)}
    assert not sockets.clients(81, "01")


def test_a_host_is_back_when_somebody_connects_anew(tmp_path, monkeypatch):
    balanced = way("balancer", port=80, settle="PT0.5S")
    table(tmp_path, monkeypatch, (SOMEBODY, "06"))
    wait = traffic.put_back(balanced, live=True, was_drained=True)
    assert "no client has connected yet" in wait().detail
    table(tmp_path, monkeypatch, (SOMEBODY, "06"), ("0A09000A:C350", "01"))
    assert "the balancer uses it" in wait().detail


# -- the steps --------------------------------------------------------------------------------------------------------

RELEASE = {"digest": "d" * 64, "packages": []}


def step(tmp_path, monkeypatch, whole, *, upgrades=True, **more):
    plan = type("Plan", (), {"upgrades": upgrades})
    monkeypatch.setattr(apt, "plan_for", lambda release: (plan, {}, "amd64"))
    params = {"method": "apt", "run_id": RUN, "release": RELEASE, "service": whole, "purpose": "patch", "live": False}
    params["stage"] = "all"
    return drain.work({**params, **more})


def hook(*command, timeout="PT5S"):
    return {"command": command, "timeout": timeout}


def test_a_host_without_work_stays_in_service(tmp_path, monkeypatch):
    whole = service({"driver": "tcp", "port": 1}, traffic=flag(tmp_path))
    assert step(tmp_path, monkeypatch, whole, upgrades=False)["needed"] is False
    assert step(tmp_path, monkeypatch, whole, purpose="restore")["needed"] is False
    assert traffic.Marker.of(whole["traffic"]).owner() is None


def test_a_failed_drain_puts_the_host_back_and_one_before_a_restore_goes_on(tmp_path, monkeypatch):
    broken = way("command", drain=["false"], put_back=["touch", str(tmp_path / "back")], timeout="PT5S")
    whole = service({"driver": "tcp", "port": 1}, traffic=broken)
    with pytest.raises(host.StepError, match="put back into service, nothing was changed") as failed:
        step(tmp_path, monkeypatch, whole)
    assert failed.value.detail["returned"] is True
    assert (tmp_path / "back").exists()
    assert traffic.Marker.of(broken).owner() is None
    host.Journal(RUN, tmp_path).open().write("transaction", "failed")
    assert "exit 1" in step(tmp_path, monkeypatch, whole, purpose="restore")["problem"]
    assert traffic.Marker.of(broken).owner() == RUN


def test_other_peoples_drain_is_left_alone(tmp_path, monkeypatch):
    whole = service({"driver": "tcp", "port": 1}, traffic=flag(tmp_path))
    marker = traffic.Marker.of(whole["traffic"])
    marker.put(RUN)
    marker.path.write_text("the operator\n")
    with pytest.raises(host.StepError, match="by someone else"):
        step(tmp_path, monkeypatch, whole)
    assert not preflight.services_healthy(whole)[0]
    with pytest.raises(host.StepError, match="by someone else"):
        back(whole)
    assert marker.path.read_text() == "the operator\n"


def test_a_drain_that_a_run_left_behind_makes_no_host_unfit(tmp_path, web):
    web.answers["/healthz"] = (503, {})
    whole = service({"driver": "http", "url": f"{web.url}/healthz", "drained_status": 503}, traffic=flag(tmp_path))
    assert not preflight.services_healthy(whole)[0]
    traffic.Marker.of(whole["traffic"]).put(RUN)
    ok, detail = preflight.services_healthy(whole)
    assert ok
    assert f"drained by run {RUN}" in detail


def back(whole, **more):
    return undrain.work(
        {"run_id": RUN, "service": whole, "live": False, "disks_swapped": False, "stage": "all", **more}
    )


def test_a_host_that_is_not_healthy_in_service_is_drained_again(tmp_path, web):
    whole = service({"driver": "http", "url": f"{web.url}/healthz"}, traffic=flag(tmp_path))
    marker = traffic.Marker.of(whole["traffic"])
    marker.put(RUN)
    web.answers["/healthz"] = (503, {})
    with pytest.raises(host.StepError, match="drained again") as failed:
        back(whole)
    assert failed.value.detail["drained_again"] is True
    assert marker.owner() == RUN
    web.answers["/healthz"] = (200, {})
    assert back(whole)["changed"] is True
    assert marker.owner() is None
    assert back(whole)["changed"] is False
    assert host.Journal(RUN, tmp_path).read("undrain")["state"] == "done"


def test_the_runner_changes_pools_between_two_stages(tmp_path, monkeypatch):
    whole = service({"driver": "command", "command": ["true"]}, traffic=BALANCER)
    begun = step(tmp_path, monkeypatch, whole, stage="begin")
    assert (begun["needed"], begun["owner"], begun["settled"]) == (True, None, False)
    assert step(tmp_path, monkeypatch, whole, stage="finish")["needed"] is True
    assert back(whole, stage="begin")["drained"] is True
    assert back(whole, stage="finish")["changed"] is True
    assert back(whole, stage="begin")["drained"] is False
    assert back(whole, stage="begin", disks_swapped=True)["drained"] is True
    step(tmp_path, monkeypatch, whole, stage="begin")
    step(tmp_path, monkeypatch, whole, stage="cancel")
    assert traffic.Marker.of(whole["traffic"]).owner() is None


def test_hooks_before_a_change_run_once_and_in_order(tmp_path, monkeypatch):
    log = tmp_path / "log"
    before = [hook("sh", "-c", f"echo {name} >> {log}") for name in ("one", "two")]
    whole = service({"driver": "tcp", "port": 1}, hooks={"before": before})
    for _ in range(2):
        result = step(tmp_path, monkeypatch, whole)
    assert [(row["program"], row["ok"]) for row in result["hooks"]] == [("sh", True)] * 2
    assert all(0 < row["seconds"] < 5 for row in result["hooks"])
    assert log.read_text() == "one\ntwo\n"


def test_a_hook_that_hangs_is_ended_with_its_session_and_what_was_done_is_undone(tmp_path, monkeypatch):
    pids, undone = tmp_path / "pids", tmp_path / "undone"
    hangs = hook("sh", "-c", f"sleep 60 & echo $! > {pids}; wait", timeout="PT0.3S")
    whole = service({"driver": "tcp", "port": 1}, hooks={"before": [hangs], "undo": [hook("touch", str(undone))]})
    with pytest.raises(host.StepError, match=r"^hook before: sh did not end within 0\.3 s.*put back") as failed:
        step(tmp_path, monkeypatch, whole)
    assert "\n" not in str(failed.value)
    assert failed.value.detail["hooks"][0]["ok"] is False
    assert not host.alive(int(pids.read_text()))
    assert undone.exists()


@pytest.mark.parametrize(
    ("program", "line"),
    [(["sh", "-c", "echo why >&2; exit 3"], "hook after: sh: why"), (["/no/such"], "hook after: /no/such")],
)
def test_a_hook_that_fails_is_one_line(tmp_path, program, line):
    whole = service({"driver": "tcp", "port": 1}, hooks={"after": [hook(*program)]})
    with pytest.raises(host.StepError, match=line):
        hooks.run_hooks(host.Journal(RUN, tmp_path), whole, "after")


def proved(tmp_path, monkeypatch, whole, since="transaction", **result):
    monkeypatch.setattr(apt, "native_architecture", lambda: "amd64")
    monkeypatch.setattr(apt, "installed_packages", lambda native: {})
    monkeypatch.setattr(apt, "interrupted", lambda: "")
    monkeypatch.setattr(units, "units", lambda names: [unit(name) for name in names])
    if result:
        host.Journal(RUN, tmp_path).open().write(since, "done", result=result)
    return verify.work({"method": "apt", "run_id": RUN, "service": whole, "since": since})


def test_hooks_run_after_a_change_and_when_it_was_taken_back(tmp_path, monkeypatch, web):
    made = {name: hook("touch", str(tmp_path / name)) for name in ("after", "undo")}
    whole = service({"driver": "http", "url": f"{web.url}/"}, hooks={name: [one] for name, one in made.items()})
    assert proved(tmp_path, monkeypatch, whole)["hooks"] == []
    assert proved(tmp_path, monkeypatch, whole, since="restore")["hooks"] == []
    have = versions_of(monkeypatch, "1")
    result = proved(tmp_path, monkeypatch, whole, after=have)
    assert [row["program"] for row in result["hooks"]] == ["touch"]
    assert (tmp_path / "after").exists()
    assert not (tmp_path / "undo").exists()
    proved(tmp_path, monkeypatch, whole, since="restore", after={})
    assert (tmp_path / "undo").exists()


def versions_of(monkeypatch, version):
    monkeypatch.setattr(verify.Prover, "versions", lambda self: self.note("versions", "", version))
    return {"openssl": version}


def test_a_host_that_cannot_be_proved_well_fails_with_what_was_found(tmp_path, monkeypatch, web):
    whole = service({"driver": "http", "url": f"{web.url}/gone"}, units=["desk.service"])
    with pytest.raises(host.StepError, match=r"health: http: .*HTTP 404") as failed:
        proved(tmp_path, monkeypatch, whole)
    assert [row["name"] for row in failed.value.detail["checks"]] == [
        "boot",
        "versions",
        "health",
        "services",
        "processes",
    ]


# -- data -------------------------------------------------------------------------------------------------------------


def postgres(monkeypatch, clusters, answers):
    """A host with these clusters as its tool lists them, and what each port answers."""
    wanted = []

    def run(argv, *, timeout, **_):
        wanted.append(list(argv))
        if argv[0] == "pg_lsclusters":
            return host.Done(tuple(argv), 0, clusters, "")
        port = int(next(one for one in argv if one.startswith("--port=")).partition("=")[2])
        return host.Done(tuple(argv), 0, answers[port], "")

    monkeypatch.setattr(data, "run", run)
    monkeypatch.setattr(data.shutil, "which", lambda program, path: f"/usr/bin/{program}")
    return wanted


TWO = (
    "13 old  5433 online          postgres /d /l\n"
    "15 main 5432 online,recovery postgres /d /l\n"
    "15 off  5434 down            postgres /d /l\n"
)
PLACES = [
    ({}, "t\x1ft\n", "standby"),
    ({}, "f\x1ft\n", "primary"),
    ({}, "f\x1ff\n", "absent"),
    ({"cluster": "13/old"}, "f\x1ft\n", "primary"),
    ({"cluster": "16/none"}, "", "absent"),
    ({"port": 5999}, "", "absent"),
]


@pytest.mark.parametrize(("setting", "answer", "state"), PLACES)
def test_a_database_is_dumped_where_its_primary_is_and_nowhere_else(monkeypatch, setting, answer, state):
    wanted = postgres(monkeypatch, TWO, {5432: answer, 5433: answer})
    found = data.find(plain(services.Postgresql, driver="postgresql", database="desk", **setting))
    assert found.state == state
    assert "desk" in found.detail or "no cluster" in found.detail
    if setting.get("cluster") == "13/old":
        assert "--port=5433" in wanted[-1]


def test_a_cluster_that_is_down_is_not_taken_for_one_without_the_database(monkeypatch):
    postgres(monkeypatch, TWO, {})
    setting = plain(services.Postgresql, driver="postgresql", database="desk", cluster="15/off")
    found: dict[str, str] = {}
    with pytest.raises(host.StepError, match="15/off is down"):
        preflight.backup([setting], found)
    assert found == {}


@pytest.mark.parametrize(("text", "starts"), [("# how\nauto\n", True), ("disabled\n", False), (" manual\n", False)])
def test_a_cluster_that_is_not_meant_to_run_holds_nothing(tmp_path, monkeypatch, text, starts):
    assert data._starts_by_itself("15/off", tmp_path)
    (tmp_path / "15" / "off").mkdir(parents=True)
    (tmp_path / "15" / "off" / "start.conf").write_text(text)
    assert data._starts_by_itself("15/off", tmp_path) is starts
    postgres(monkeypatch, TWO, {})
    monkeypatch.setattr(data, "_starts_by_itself", lambda cluster: starts)
    by_port = plain(services.Postgresql, driver="postgresql", database="desk", port=5434)
    with pytest.raises(host.StepError, match="start it") if starts else contextlib.nullcontext():
        assert data.find(by_port).state == "absent"


def test_a_host_without_postgresql_has_nothing_to_dump(monkeypatch):
    monkeypatch.setattr(data.shutil, "which", lambda program, path: None)
    found: dict[str, str] = {}
    ok, detail = preflight.backup([plain(services.Postgresql, driver="postgresql", database="desk")], found)
    assert ok
    assert found == {"desk": "absent"}
    assert "not on this host" in detail


@pytest.mark.parametrize("bad", ["desk'", "desk; drop", "-h evil", "host=evil", "", "x\ny"])
def test_a_hostile_database_name_reaches_no_program(monkeypatch, bad):
    wanted = postgres(monkeypatch, TWO, {})
    with pytest.raises(host.StepError, match="not a plain name"):
        data.query("select 1", database=bad, port=5432)
    with pytest.raises(host.StepError, match="not a plain name"):
        data.find({"database": bad, "cluster": None, "port": 5432})
    assert all(argv[0] == "pg_lsclusters" for argv in wanted)


def test_rows_of_a_query_are_split_by_what_no_text_has(monkeypatch):
    postgres(monkeypatch, TWO, {5432: "a|b\x1fc\nd\x1e2\x1f3\n"})
    assert data.query("select", database="desk", port=5432) == [["a|b", "c\nd"], ["2", "3"]]
    assert Path(traffic.MARKER).name == "drained"
