"""Asking Resource Graph: nothing is lost when the service refuses, and half an answer is an error."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from patchwave.azure.client import ATTEMPTS, NO_SUBSCRIPTION, Arm
from patchwave.base.errors import Failed

TOKEN = {
    "access_token": "t",
    "expires_in": "86400",
    "expires_on": "9999999999",
    "resource": "r",
    "token_type": "Bearer",
}
Answer = tuple[int, dict[str, str], Any]
DROPPED: Answer = (0, {}, None)


class Service:
    """Gives the answers that a test has written down, in order, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.wanted: list[dict[str, Any]] = []
        self.slept: list[float] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                self._reply(200, {}, TOKEN)

            def do_POST(self) -> None:
                service.wanted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answer = service.answers.pop(0)
                if answer is DROPPED:
                    self.close_connection = True
                else:
                    self._reply(*answer)

            def _reply(self, status: int, headers: dict[str, str], body: Any) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def query(self, *answers: Answer, subscriptions: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        self.answers = list(answers)
        environment = {"ARM_ENDPOINT": self.endpoint, "ARM_SUBSCRIPTION_ID": "s"}
        with Arm(environment, chance=lambda: 1.0, sleep=self.slept.append) as arm:
            return arm.graph("resources | project id | order by id asc", subscriptions)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    made = Service()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", made.endpoint)
    yield made
    made.server.shutdown()
    made.server.server_close()


def page(*ids: str, total: int, follow: str | None = None, truncated: str = "false", **headers: str) -> Answer:
    body = {"totalRecords": total, "count": len(ids), "resultTruncated": truncated, "data": [{"id": i} for i in ids]}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return 200, named, body | ({"$skipToken": follow} if follow else {})


def refused(status: int, **headers: str) -> Answer:
    error = {"code": "Busy", "message": "later", "details": [{"code": "RateLimiting", "message": "throttled"}]}
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, {"error": error}


def test_pages_follow_the_token_and_repeat_the_query(service: Service) -> None:
    rows = service.query(page("a", "b", total=3, follow="next"), page("c", total=3))
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert [wanted["options"].get("$skipToken") for wanted in service.wanted] == [None, "next"]
    assert {wanted["options"]["$top"] for wanted in service.wanted} == {1000}
    assert len({(wanted["query"], *wanted["subscriptions"]) for wanted in service.wanted}) == 1
    assert service.slept == []


@pytest.mark.parametrize(("named", "scope"), [((), ["s"]), (("a", "b"), ["a", "b"])])
def test_one_call_covers_the_named_subscriptions_or_the_own_one(
    service: Service, named: tuple[str, ...], scope: list[str]
) -> None:
    service.query(page("x", total=1), subscriptions=named)
    assert [wanted["subscriptions"] for wanted in service.wanted] == [scope]


def test_subscriptions_of_which_none_can_be_read_are_named(service: Service) -> None:
    error = {"code": "BadRequest", "message": "x", "details": [{"code": NO_SUBSCRIPTION, "message": "Given: 'a'"}]}
    with pytest.raises(Failed, match=r"^subscription a, b: nothing of it can be read: give this runner's identity"):
        service.query((400, {}, {"error": error}), subscriptions=("a", "b"))


def test_no_page_is_lost_when_the_service_refuses(service: Service) -> None:
    rows = service.query(
        refused(500),
        page("a", total=3, follow="1"),
        refused(429, Retry_After="3"),
        DROPPED,
        page("b", total=3, follow="2"),
        refused(429, x_ms_user_quota_resets_after="00:00:04"),
        refused(503),
        page("c", total=3),
    )
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert [wanted["options"].get("$skipToken") for wanted in service.wanted] == [None, None, *"111", *"222"]
    assert service.slept == pytest.approx([0.25, 3.1, 0.5, 4.1, 0.5])


def test_the_last_of_the_quota_is_not_overdrawn(service: Service) -> None:
    quota = {"x_ms_user_quota_remaining": "0", "x_ms_user_quota_resets_after": "00:00:03"}
    service.query(page("a", total=2, follow="1", **quota), page("b", total=2, **quota))
    assert service.slept == pytest.approx([3.5])


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ([page("a", total=2)], "1 of 2 rows"),
        ([page(total=1)], "0 of 1 rows"),
        ([page("a", total=2, truncated="true")], "cut its answer off after 1 of 2 rows"),
        ([page("a", total=3, follow="1"), page("b", total=3, follow="1")], "the same page twice"),
        ([page("a", total=2, follow="1"), page("A", total=2)], "a row twice"),
        ([page("a", total=1, x_ms_tenant_subscription_limit_hit="true")], "more than 10,000"),
        ([refused(400)], "Busy: later RateLimiting: throttled"),
        ([refused(429, Retry_After="3600")], "Busy: later"),
        ([refused(500)] * ATTEMPTS, "Busy: later"),
        ([DROPPED] * ATTEMPTS, "is the resource manager reachable"),
    ],
)
def test_half_an_answer_is_an_error(service: Service, answers: list[Answer], complaint: str) -> None:
    with pytest.raises(Failed, match=complaint):
        service.query(*answers)
    assert service.answers == []
