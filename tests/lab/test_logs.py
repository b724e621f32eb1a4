"""What a wave on real hosts reports, asked with the official client as the page of queries shows it."""

from tests.conftest import Patched
from tests.kusto import printed_client
from tests.lab.test_wave import HOSTS


def test_the_official_client_finds_every_host_of_the_wave(patched: Patched) -> None:
    lab = patched.lab
    lines = [line.split() for line in lab.run("python", "-c", printed_client()).splitlines()]
    assert [line[3] for line in lines] == list(HOSTS)
    assert all(line[0] == "dev" for line in lines)
    exported = [r["data"] for r in lab.records(release=patched.release) if r["kind"] == "export"]
    assert exported == [
        {"ok": True, "detail": "PatchRuns, rows: 1"},
        {"ok": True, "detail": f"PatchHosts, rows: {len(HOSTS)}"},
        {"ok": True, "detail": "PatchRuns, rows: 1"},
    ]
