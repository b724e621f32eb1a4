"""A user who keeps asking, until it is told to stop; prints the slot of each answer, or what went wrong."""

import itertools
import sys
import time

import httpx


def main(url: str) -> None:
    with httpx.Client(timeout=10) as kept:
        for number in itertools.count():
            try:
                answer = kept.get(url) if number % 2 else httpx.get(url, timeout=10)
                said = answer.json()["slot"] if answer.status_code == httpx.codes.OK else f"HTTP-{answer.status_code}"
            except httpx.HTTPError as error:
                said = type(error).__name__
            print(said, flush=True)
            time.sleep(0.02)


main(sys.argv[1])
