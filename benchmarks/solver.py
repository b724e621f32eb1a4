"""The solver over a large fleet against the plain loop that asks for each finding of each host by itself."""

import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from hashlib import sha256
from zlib import crc32

from patchwave.calendar.windows import Calendar, Freeze, Monthly, Weekly, Window
from patchwave.schedule.solver import Fix, Leg, Question, Ring, Seat, misses

RUNS = 3
HOSTS, FINDINGS, ADVISORIES = 10_000, 40, 60
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
DUE = [timedelta(days=days) for days in (1, 7, 30, 90)]
HOUR = timedelta(hours=1)
TAKES, ROOM, RESERVE = timedelta(minutes=4), timedelta(minutes=5), timedelta(minutes=5)


def question() -> Question:
    """Staging and prod, prod with all hosts; each host lacks its own choice of the advisories."""
    fixes = [Fix(f"madeup-{n}", NOW + DUE[n % 4] - n * HOUR / 3) for n in range(ADVISORIES)]
    seats = [
        Seat(
            name=f"h{host:05}",
            live=crc32(f"{host}".encode()) % 2 == 0,
            lacks=frozenset(sorted(fixes, key=lambda fix: crc32(f"{host} {fix.advisory}".encode()))[:FINDINGS]),
        )
        for host in range(HOSTS)
    ]
    canary = Ring("canary", 50, 50, TAKES, seats[:100])
    rest = Ring("rest", 300, 5000, TAKES, seats[100:])
    freeze = Freeze(
        starts=datetime(2026, 12, 20, tzinfo=UTC), ends=datetime(2027, 1, 4, tzinfo=UTC), reason="year's end"
    )
    weekly = Weekly(every="week", weekdays=("Wednesday",))
    sunday = Monthly(every="month", week="second", weekday="Tuesday", offset_days=5)
    spare = Weekly(every="week", weekdays=("Saturday", "Sunday"))
    staging = leg("staging", (Ring("rest", 10, 10, TAKES, seats[:40]),), weekly, 14, 2, weekly, freeze)
    prod = leg("prod", (canary, rest), sunday, 2, 4, spare, freeze)
    return Question((staging, prod), NOW, NOW, False, ("batch", "soak", "window", "emergency"), frozenset())


def leg(stack, rings, recurs, hour, hours, spare, freeze) -> Leg:  # type: ignore[no-untyped-def]
    starts, lasts = clock_time(hour), timedelta(hours=hours)
    usual, admitted = (
        Calendar(windows=(Window(recurrence=r, starts=starts, duration=lasts, zone="Etc/UTC"),), freezes=(freeze,))
        for r in (recurs, spare)
    )
    return Leg(
        stack=stack,
        rings=rings,
        away=200,
        away_at_most=2500,
        room=ROOM,
        reserve=RESERVE,
        before=RESERVE,
        after=timedelta(0),
        soak=timedelta(days=3),
        soak_at_least=timedelta(days=2),
        emergency_soak=HOUR,
        routine=usual.openings,
        emergency=lambda after: iter([]),
        admits=admitted.openings,
        admits_at_most=lasts,
    )


def solver(asked: Question) -> list[tuple[Fix, int, datetime | None]]:
    """Lateness and remedies, of which the lateness is compared."""
    return [(miss.fix, miss.hosts, miss.earliest) for miss in misses(asked)]


def loop(asked: Question) -> list[tuple[Fix, int, datetime | None]]:
    """Lateness only: batch by batch, host by host, finding by finding, window by window."""
    late: dict[Fix, int] = {}
    earliest: dict[Fix, datetime | None] = {}
    ready = asked.proved or asked.now
    for number, stack in enumerate(asked.legs):
        ready = max(asked.now, ready + stack.soak)
        openings = list(stack.routine(asked.now))
        batches = [batch for ring in stack.rings for batch in in_batches(ring, stack.away)]
        needs = stack.reserve + stack.room * len(batches)
        ended = ready
        for place, batch in enumerate(batches, start=1):
            for lacks in batch:
                for fix in lacks:
                    start = next(s for o in openings if (s := max(o.opens, ready)) + needs <= o.closes)
                    ended = start + stack.before + TAKES * place
                    if number == len(asked.legs) - 1:
                        late[fix] = late.get(fix, 0) + (ended > fix.due)
                        earliest[fix] = ended
        ready = ended + stack.after
    return sorted(
        ((fix, n, earliest[fix]) for fix, n in late.items() if n), key=lambda row: (row[0].due, row[0].advisory)
    )


def in_batches(ring: Ring, away: int) -> list[list[frozenset[Fix]]]:
    """A ring's hosts as a wave takes them."""
    waiting, made = list(ring.seats), []
    while waiting:
        batch, rest, lives = [], [], 0
        for seat in waiting:
            if len(batch) < ring.batch and (not seat.live or lives < away):
                batch.append(seat.lacks)
                lives += seat.live
            else:
                rest.append(seat)
        waiting = rest
        made.append(batch)
    return made


def run(way: str) -> None:
    """One way: seconds, peak megabytes, and a hash of the answer."""
    asked = question()
    began = time.monotonic()
    answer = {"solver": solver, "loop": loop}[way](asked)
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds:.3f} {peak:.0f} {len(answer)}:{sha256(repr(answer).encode()).hexdigest()}")


def main() -> None:
    """Prints medians, their ratio, and whether both found the same late fixes; each run is a process of its own."""
    if len(sys.argv) > 1:
        run(sys.argv[1])
        return
    rows: dict[str, list[list[str]]] = {"solver": [], "loop": []}
    for _ in range(RUNS):
        for way, taken in rows.items():
            ask = [sys.executable, "-m", "benchmarks.solver", way]
            taken.append(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split())
    seconds = {way: statistics.median(float(row[0]) for row in taken) for way, taken in rows.items()}
    for way, taken in rows.items():
        print(f"{way:<7} {seconds[way]:6.2f} s  {max(int(row[1]) for row in taken):4d} MB")
    answers = {row[2] for taken in rows.values() for row in taken}
    print(f"{HOSTS} hosts with {FINDINGS} findings each, {next(iter(answers)).partition(':')[0]} fixes late")
    print(f"solver / loop  {seconds['solver'] / seconds['loop']:.2f}   (at most 2 s and 300 MB are wanted)")
    print("the solver names each fix's smallest remedy as well, the loop names none")
    if len(answers) > 1:
        sys.exit("the two do not agree")


if __name__ == "__main__":
    main()
