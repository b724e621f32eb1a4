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
from patchwave.schedule.solver import Fix, HostGroup, HostNeeds, Limit, Question, StackWave, misses

RUNS = 3
HOSTS, FINDINGS, ADVISORIES = 10_000, 40, 60
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
DUE = [timedelta(days=days) for days in (1, 7, 30, 90)]
HOUR = timedelta(hours=1)
SERVICES = ("front", "back")
TAKES, ROOM, RESERVE = timedelta(minutes=4), timedelta(minutes=5), timedelta(minutes=5)


def question_of_two_stacks() -> Question:
    """Staging and prod, prod with all hosts; each host lacks its own choice of the advisories."""
    fixes = [Fix(f"madeup-{n}", NOW + DUE[n % 4] - n * HOUR / 3) for n in range(ADVISORIES)]
    hosts = [
        HostNeeds(
            name=f"h{host:05}",
            fleet="web",
            service=SERVICES[host % 2],
            ring="rest",
            live=crc32(f"{host}".encode()) % 2 == 0,
            lacks=frozenset(sorted(fixes, key=lambda fix: crc32(f"{host} {fix.advisory}".encode()))[:FINDINGS]),
        )
        for host in range(HOSTS)
    ]
    canaries, others = ([host for host in hosts[:100] if host.service == one] for one in SERVICES)
    front, back = ([host for host in hosts[100:] if host.service == one] for one in SERVICES)
    limits = (Limit("away", 200, 2500), Limit("canary", 50, 50), Limit("rest", 300, 5000))
    groups = (
        HostGroup((1,), 0, TAKES, canaries),
        HostGroup((1,), 0, TAKES, others),
        HostGroup((2,), 0, TAKES, front),
        HostGroup((2,), 0, TAKES, back),
    )
    freeze = Freeze(
        starts=datetime(2026, 12, 20, tzinfo=UTC), ends=datetime(2027, 1, 4, tzinfo=UTC), reason="year's end"
    )
    weekly = Weekly(every="week", weekdays=("Wednesday",))
    sunday = Monthly(every="month", week="second", weekday="Tuesday", offset_days=5)
    spare = Weekly(every="week", weekdays=("Saturday", "Sunday"))
    few = (HostGroup((1,), 0, TAKES, hosts[:40]),)
    staging = wave("staging", (limits[0], Limit("rest", 10, 10)), few, weekly, 14, 2, weekly, freeze)
    prod = wave("prod", limits, groups, sunday, 2, 4, spare, freeze)
    return Question((staging, prod), NOW, NOW, False, ("batch", "soak", "window", "emergency"), frozenset())


def wave(stack, limits, groups, recurs, hour, hours, spare, freeze) -> StackWave:  # type: ignore[no-untyped-def]
    starts, lasts = clock_time(hour), timedelta(hours=hours)
    usual, admitted = (
        Calendar(windows=(Window(recurrence=r, starts=starts, duration=lasts, zone="Etc/UTC"),), freezes=(freeze,))
        for r in (recurs, spare)
    )
    return StackWave(
        stack=stack,
        limits=limits,
        groups=groups,
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


def solver(question: Question) -> list[tuple[Fix, int, datetime | None]]:
    """Lateness and remedies, of which the lateness is compared."""
    return [(miss.fix, miss.hosts, miss.earliest) for miss in misses(question)]


def loop(question: Question) -> list[tuple[Fix, int, datetime | None]]:
    """Lateness only: batch by batch, host by host, finding by finding, window by window."""
    late: dict[Fix, int] = {}
    earliest: dict[Fix, datetime | None] = {}
    ready = question.proved or question.now
    for number, stack in enumerate(question.waves):
        ready = max(question.now, ready + stack.soak)
        openings = list(stack.routine(question.now))
        batches = [batch for group in range(len(stack.groups)) for batch in in_batches(stack, group)]
        needs = stack.reserve + stack.room * len(batches)
        ended = ready
        for place, batch in enumerate(batches, start=1):
            for lacks in batch:
                for fix in lacks:
                    start = next(s for o in openings if (s := max(o.opens, ready)) + needs <= o.closes)
                    ended = start + stack.before + TAKES * place
                    if number == len(question.waves) - 1:
                        late[fix] = late.get(fix, 0) + (ended > fix.due)
                        earliest[fix] = ended
        ready = ended + stack.after
    return sorted(
        ((fix, n, earliest[fix]) for fix, n in late.items() if n), key=lambda row: (row[0].due, row[0].advisory)
    )


def in_batches(stack: StackWave, group: int) -> list[list[frozenset[Fix]]]:
    """A group's hosts as a wave takes them."""
    size, away = stack.size(group, stack.declared)
    waiting, made = list(stack.groups[group].hosts), []
    while waiting:
        batch: list[frozenset[Fix]] = []
        rest, lives = [], 0
        for host in waiting:
            if len(batch) < size and (not host.live or lives < away):
                batch.append(host.lacks)
                lives += host.live
            else:
                rest.append(host)
        waiting = rest
        made.append(batch)
    return made


def run(way: str) -> None:
    """One way: seconds, peak megabytes, and a hash of the answer."""
    made = question_of_two_stacks()
    began = time.monotonic()
    answer = {"solver": solver, "loop": loop}[way](made)
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
