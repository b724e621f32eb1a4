"""A real HTTP server on loopback that answers what a test says, and keeps what it was requests."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Web:
    """`answers` by path: a status and a body, or a function that gets the number of the request"""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"/": (200, {}), "/healthz": (200, {"status": "ok"})}
        self.other: Any = (404, {"error": "not found"})
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, str, str]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                web.requests.append((self.command, self.path, self.headers["Host"]))
                answer = web.answers.get(self.path, web.other)
                status, body = answer(len(web.requests)) if callable(answer) else answer
                payload = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {**web.headers, "Content-Length": str(len(payload))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the server's names

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
