"""Asks the public endpoint the way a user does, so that gates judge what users see."""

import statistics
import threading
import time
from types import TracebackType
from typing import Self

import httpx

from patchwave.schedule.rollout import Sample

TIMEOUT = 5.0


class Prober:
    """Asks steadily while it is entered; `sample` tells what has been seen since the last call."""

    def __init__(self, url: str, pause: float = 0.1) -> None:
        self._url = url
        self._pause = pause
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._times: list[float] = []
        self._failed = 0
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def sample(self, at_least: int = 0, deadline: float = 30.0) -> Sample:
        """What was seen since the last call, waiting (up to the deadline in seconds) for that many answers."""
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            with self._lock:
                if len(self._times) + self._failed >= at_least:
                    break
            time.sleep(self._pause)
        with self._lock:
            times, failed = self._times, self._failed
            self._times, self._failed = [], 0
        median = statistics.median(times) * 1000 if times else None
        return Sample(asked=len(times) + failed, failed=failed, median_ms=median)

    def _ask(self) -> None:
        with httpx.Client(timeout=TIMEOUT) as client:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    good = client.get(self._url).is_success
                except httpx.TransportError:
                    good = False
                with self._lock:
                    if good:
                        self._times.append(time.monotonic() - began)
                    else:
                        self._failed += 1
                self._over.wait(self._pause)
