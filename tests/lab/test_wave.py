"""Waves on real hosts: what is patched, what is taken back, and what a user notices of either."""

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.conftest import Patched, machine
from tests.laboratory import MINUTES, Laboratory, answers, descendants, wait_until

MACHINES = ("dev-machines-0", "dev-sites-0")
LIVE = ("dev-web-blue-0", "dev-web-blue-1")
IDLE = ("dev-web-green-0", "dev-web-green-1")
HOSTS = (*MACHINES, *LIVE, *IDLE)
BATCHES, ENDED = 3, ("patch", "ended")


def states(lab: Laboratory) -> dict[str, str]:
    return {host["name"]: host["state"] for host in lab.shown("evidence", "show", "--stack", "dev")["hosts"]}


def first_wave(patched: Patched) -> list[dict[str, Any]]:
    return patched.lab.records(release=patched.release)


def version(lab: Laboratory, host: str) -> str:
    return lab.ssh(host, "dpkg-query -W -f '${Version}' fieldops-desk")


def test_every_planned_host_is_patched_and_its_apt_agrees(patched: Patched) -> None:
    lab = patched.lab
    shown = lab.shown("evidence", "show", "--stack", "dev", "--release", patched.release)
    first = first_wave(patched)[0]["data"]
    assert (shown["outcome"], shown["chain"]["verified"]) == ("succeeded", True)
    assert [host["name"] for host in first["planned"]] == list(HOSTS)
    assert {host["state"] for host in shown["hosts"]} == {"patched"}
    assert "canary 3/3 healthy · rest 3/3 healthy" in patched.printed
    brought = {name for host in shown["hosts"] for name, old in host["before"].items() if host["after"][name] != old}
    for host in HOSTS:
        pending = {line.split("/")[0] for line in lab.ssh(host, "apt list --upgradable 2>/dev/null").splitlines()[1:]}
        assert not pending & brought, host
    assert len(brought) > 10


def test_every_fix_that_the_wave_brought_is_there_by_the_hosts_own_apt(patched: Patched) -> None:
    sealed = json.loads((patched.lab.project / "releases" / f"{patched.release}.json").read_bytes())
    brought = {package["name"] for package in sealed["packages"]}
    items = [item for item in patched.lab.shown("sla", "--stack", "dev")["items"] if item["package"] in brought]
    assert {item["host"] for item in items} == set(HOSTS)
    assert {(item["state"], item["overdue"]) for item in items} == {("fixed", None)}
    assert {item["severity"] for item in items} == {"high"}  # no scores come with the repository


def test_the_canary_went_first_and_one_live_host_at_a_time(patched: Patched) -> None:
    batches = [r["data"]["hosts"] for r in first_wave(patched) if is_batch(r)]
    assert batches == [list(MACHINES), [LIVE[0]], [LIVE[1], *IDLE]]


def is_batch(record: dict[str, Any]) -> bool:
    return (
        bool(record["kind"] == "phase") and record["data"]["phase"] == "patch" and record["data"]["event"] == "started"
    )


def test_a_reboot_is_a_new_boot(patched: Patched) -> None:
    rows = [r["data"] for r in first_wave(patched) if r["kind"] == "host" and r["data"]["step"] == "reboot"]
    needed = {row["host"] for row in rows if row["summary"].get("rebooted")}
    ids = {patched.lab.ssh(host, "cat /proc/sys/kernel/random/boot_id") for host in HOSTS}
    assert needed <= set(HOSTS)
    assert len(ids) == len(HOSTS)


def test_one_changed_byte_is_named(patched: Patched) -> None:
    lab = patched.lab
    assert lab.shown("evidence", "verify", "--stack", "dev", "--release", patched.release)["verified"]
    whole = lab.evidence(release=patched.release)
    copy = whole.with_name("2000-01-01.1")
    shutil.copytree(whole, copy)
    path = copy / "evidence.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[16] = lines[16].replace(b"dev", b"dew", 1)
    path.write_bytes(b"".join(lines))
    said = lab.run("patchwave", "evidence", "verify", "--stack", "dev", "--release", "2000-01-01.1", code=1)
    assert "record 17: hash does not match its content" in said
    shutil.rmtree(copy)


def test_switching_the_slot_loses_no_request(patched: Patched) -> None:
    lab = patched.lab
    url = lab.url()
    assert answers(url)["slot"] == "blue"
    with lab.edited("live: blue", "live: green"):
        with lab.requests() as seen:
            lab.sandbox("up")
            wait_until(lambda: answers(url)["slot"] == "green", 30, "an answer from green")
        assert set(seen) == {"blue", "green"}
        assert seen.index("green") > 0
        assert "blue" not in seen[-10:]
    with lab.requests() as seen:
        lab.sandbox("up")
    assert set(seen) == {"blue", "green"}


def test_a_new_update_runs_a_wave_of_its_own_only(patched: Patched) -> None:
    lab = patched.lab
    lab.sandbox("fault", "none")
    lab.sandbox("up")
    shown = lab.shown("evidence", "show", "--stack", "dev")
    assert lab.release() != patched.release
    assert {name for host in shown["hosts"] for name in host["after"]} == {"fieldops-desk"}
    assert set(states(lab).values()) == {"patched"}
    assert {version(lab, host) for host in HOSTS} == {shown["hosts"][0]["after"]["fieldops-desk"]}


def waive(lab: Laboratory, package: str, host: str, *, days: float) -> None:
    """A waiver for one package on one host of dev, which ends so many days from now."""
    now = datetime.now(UTC)
    waiver = {
        "id": "W-1",
        "scope": {"packages": [package], "stacks": ["dev"], "hosts": [host]},
        "severity": "high",
        "owner": "team@dcmms.com",
        "reason": "The site's display driver is certified for this version only",
        "granted": (now - timedelta(days=1)).isoformat(),
        "expires": (now + timedelta(days=days)).isoformat(),
        "approved_by": [{"role": "Security Lead", "person": "security-lead@dcmms.com"}],
    }
    path = lab.project / "waivers" / "W-1.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(waiver), encoding="utf-8")


def test_a_waiver_holds_its_package_on_its_host_and_lets_it_go_when_it_ends(patched: Patched) -> None:
    lab, host = patched.lab, "dev-sites-0"
    old = version(lab, host)
    lab.ssh("dev-machines-0", "apt-mark hold tzdata")
    lab.sandbox("fault", "none")
    waive(lab, "fieldops-desk", host, days=10)
    lab.sandbox("up")
    named = lab.release()
    assert states(lab) == {name: "held" if name == host else "patched" for name in HOSTS}
    assert (version(lab, host), lab.ssh(host, "apt-mark showhold").split()) == (old, ["fieldops-desk"])
    assert "waivers:" in (lab.project / "Pulumi.dev.yaml").read_text(encoding="utf-8")
    lab.sandbox("up")
    assert len([r for r in lab.records() if r["kind"] == "wave-started"]) == 1
    waive(lab, "fieldops-desk", host, days=-0.01)
    lab.sandbox("up")
    assert lab.release() == named
    assert states(lab) == {name: "patched" if name == host else "already-current" for name in HOSTS}
    assert version(lab, host) == version(lab, HOSTS[0]) != old
    assert lab.ssh(host, "apt-mark showhold") == ""
    assert lab.ssh("dev-machines-0", "apt-mark showhold; apt-mark unhold tzdata").split()[0] == "tzdata"


def test_what_breaks_a_host_is_taken_back_and_stays_away(patched: Patched) -> None:
    """The machine goes back by its restore point, with its data; the site by downgrade."""
    lab, machine = patched.lab, MACHINES[0]
    old, rows = {host: version(lab, host) for host in HOSTS}, count(lab, machine)
    boot = lab.ssh(machine, "cat /proc/sys/kernel/random/boot_id")
    printed = lab.sandbox("up", "--fault", "crash", code=1)
    assert printed.splitlines()[-1].startswith("patchwave: ")
    assert "rolled-back" in printed.splitlines()[-1]
    restored = [(r["data"]["host"], r["data"]["method"], r["data"]["ok"]) for r in lab.records() if is_restore(r)]
    assert restored == [(MACHINES[0], "restore_point", True), (MACHINES[1], "downgrade", True)]
    assert states(lab) == {host: "failed-restored" if host in MACHINES else "not-attempted" for host in HOSTS}
    assert ({host: version(lab, host) for host in HOSTS}, count(lab, machine)) == (old, rows)
    assert lab.ssh(machine, "cat /proc/sys/kernel/random/boot_id") != boot
    assert lab.ssh(machine, "curl -sf http://127.0.0.1/healthz").count('"Healthy"') == 1
    assert lab.shown("evidence", "verify", "--stack", "dev")["verified"]
    (held,) = json.loads((lab.project / "releases" / "quarantine.json").read_text(encoding="utf-8"))["entries"]
    assert (held["package"], held["stack"], held["release"]) == ("fieldops-desk", "dev", lab.release())
    left = lab.shown("seal", "--stack", "dev")
    assert left["release"] is None
    assert [(one["name"], one["to"]) for one in left["left_out"]] == [("fieldops-desk", held["version"])]
    lab.sandbox("up", code=3)
    assert len([r for r in lab.records() if r["kind"] == "wave-started"]) == 1


def is_restore(record: dict[str, Any]) -> bool:
    return bool(record["kind"] == "restore")


def test_what_breaks_a_live_host_is_taken_back_and_nobody_notices(patched: Patched) -> None:
    lab = patched.lab
    first = "        patch_after: [desk]\n"
    with lab.edited("traffic: {driver: none}\n", f"traffic: {{driver: none}}\n{first}"), lab.requests() as seen:
        lab.sandbox("up", "--fault", "crash", code=1)
    assert states(lab) == {host: "failed-restored" if host == LIVE[0] else "not-attempted" for host in HOSTS}
    assert set(seen) == {"blue"}


def count(lab: Laboratory, host: str) -> int:
    query = "select count(*) from work_orders"
    return int(lab.ssh(host, f"cd / && sudo -u postgres psql -qAt fieldops -c '{query}'"))


def killed(lab: Laboratory, reached: Callable[[], bool], what: str) -> None:
    """An `up` that is killed, with everything below it, as soon as it has come so far."""
    running = subprocess.Popen(
        lab.command("up"), cwd=lab.project, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True
    )
    wait_until(reached, 10 * MINUTES, what)
    for pid in descendants(running.pid):
        subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(pid)], check=False, capture_output=True)
    running.wait()
    assert lab.shown("evidence", "show", "--stack", "dev")["outcome"] is None


def test_a_wave_that_was_killed_twice_is_finished_although_its_window_has_closed(patched: Patched) -> None:
    lab, closed = patched.lab, patched.lab.opening() + timedelta(hours=5)
    lab.sandbox("fault", "none")
    known = lab.release()

    def ended() -> int:
        return sum(r["kind"] == "phase" and (r["data"]["phase"], r["data"]["event"]) == ENDED for r in lab.records())

    killed(lab, lambda: lab.release() != known and any(map(is_batch, lab.records())), "the first batch")
    killed(lab, lambda: ended() == BATCHES, "the last batch's end")
    lab.sandbox("up", "--at", closed.isoformat())
    shown = lab.shown("evidence", "show", "--stack", "dev")
    assert (shown["outcome"], shown["chain"]["verified"]) == ("succeeded", True)
    assert datetime.fromisoformat(shown["ended"]) >= closed
    assert len([r for r in lab.records() if r["kind"] == "wave-started"]) == 1
    assert set(states(lab).values()) == {"patched"}
    for host in HOSTS:
        assert "install ok installed" in lab.ssh(host, "dpkg-query -W -f '${Status}' fieldops-desk; dpkg --audit")


def test_staging_takes_what_dev_has_proved(patched: Patched) -> None:
    lab = patched.lab
    days_later = {"PATCHWAVE_CLOCK_SHIFT": str(4 * 86400)}
    found = lab.shown("evidence", "criteria", "--stack", "dev", **days_later)["criteria"]
    met = {one["name"]: one for one in found}
    assert set(met) == {"gates", "latency", "functional-tests"}
    assert met["functional-tests"]["detail"].startswith("pass, runner")
    printed = lab.sandbox("up", "--stack", "staging")
    started = lab.records("staging")[0]["data"]
    assert started["digest"] == lab.records("dev")[0]["data"]["digest"]
    soak = next(r["data"] for r in lab.records("staging") if r["kind"] == "decision")["decision"]["soak"]
    assert (soak["required_seconds"], soak["shortened"]) == (86400, True)
    assert lab.shown("evidence", "replay", "--stack", "staging")["allowed"]
    assert lab.shown("evidence", "show", "--stack", "staging")["outcome"] == "succeeded"
    assert "verified" in printed


def test_down_leaves_the_machine_as_it_was(patched: Patched, before: dict[str, str]) -> None:
    lab = patched.lab
    lab.sandbox("down")
    assert machine() == before
    left = subprocess.run(["pgrep", "-af", str(lab.project)], capture_output=True, text=True, check=False).stdout
    assert left == ""
    assert lab.sandbox("down")
