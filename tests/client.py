"""A user who keeps asking, until it is stopped; prints each answer's slot, or its status, or what went wrong."""

import itertools
import sys
import time

import httpx


def main(url: str) -> None:
    with httpx.Client(timeout=10) as kept:
        for number in itertools.count():
            try:
                answer = kept.get(url) if number % 2 else httpx.get(url, timeout=10)
                heard = answer.json()["slot"] if is_desk(answer) else f"HTTP-{answer.status_code}"
            except httpx.HTTPError as error:
                heard = type(error).__name__
            print(heard, flush=True)
            time.sleep(0.02)


def is_desk(answer: httpx.Response) -> bool:
    """Whether the sample service answers, and not any other."""
    return answer.status_code == httpx.codes.OK and "json" in answer.headers.get("content-type", "")


main(sys.argv[1])
