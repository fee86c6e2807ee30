"""The demo: its result equals what plain loops compute, also when its processes are killed half way."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.blizzard import desk, flights, report
from examples.blizzard.flights import Flight
from examples.blizzard.ledger import Entry, Ledger, LedgerConflictError, rebooked, stranded
from examples.blizzard.report import ConservationError, Report, Totals
from examples.blizzard.run import cancelled_flights

ROOT = Path(__file__).parents[2]


def brute_force(cancelled: list[Flight]) -> dict[tuple[str, str], Totals]:
    """The report, by loops over all flights and seats."""
    schedule = list(flights.load().values())
    free = {flight.key: list(flight.free_seats) for flight in schedule if not flight.cancelled}
    seats_of: dict[str, list[tuple[str, int]]] = {}
    for flight in sorted((flight for flight in schedule if flight.cancelled), key=lambda f: (f.departs, f.key)):
        seats: list[tuple[str, int]] = []
        for other in sorted(schedule, key=lambda f: (f.departs, f.key)):
            fits = other.destination == flight.destination and other.departs > flight.departs
            while not other.cancelled and fits and free[other.key] and len(seats) < flight.passengers:
                seats.append((other.key, free[other.key].pop(0)))
        seats_of[flight.key] = seats
    result: defaultdict[tuple[str, str], Totals] = defaultdict(Totals)
    for flight in cancelled:
        # seats are given to passengers by number, so only the party at the end of the seats can be cut
        found = len(seats_of[flight.key])
        seated = max((b.first + b.size for b in desk.bookings(flight) if b.first + b.size <= found), default=0)
        result[flight.day, flight.airline] += Totals(1, 0, flight.passengers, seated)
    return dict(result)


# --- the domain -------------------------------------------------------------------------------------------------------


def test_the_data_is_the_whole_blizzard() -> None:
    schedule = flights.load()
    assert len(schedule) == 2443
    assert sum(flight.cancelled for flight in schedule.values()) == 891
    assert min(flight.seats for flight in schedule.values()) >= flights.SMALLEST_AIRLINER


def test_parties_are_all_passengers_in_order() -> None:
    for flight in cancelled_flights():
        numbers = [n for party in desk.bookings(flight) for n in range(party.first, party.first + party.size)]
        assert numbers == list(range(flight.passengers))
        assert all(1 <= party.size <= 6 for party in desk.bookings(flight))


def test_no_free_seat_is_allotted_twice_and_each_is_on_a_later_flight_there() -> None:
    schedule = flights.load()
    seats = [
        (seat, schedule[key]) for key, blocks in desk.allotments().items() for block in blocks for seat in block.seats
    ]
    assert len({seat for seat, _ in seats}) == len(seats)
    for (key, number), cancelled in seats:
        flight = schedule[key]
        assert number in flight.free_seats
        assert not flight.cancelled
        assert flight.destination == cancelled.destination
        assert flight.departs > cancelled.departs


# --- the ledger -------------------------------------------------------------------------------------------------------


def test_a_task_that_runs_twice_changes_nothing(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        for _ in range(2):
            ledger.write("task 1", "A", rebooked(0, [("X", 8), ("X", 9)]))
            ledger.write("task 2", "A", stranded(2, 1))
        assert ledger.entries() == [("A", Entry(0, "X", 8)), ("A", Entry(1, "X", 9)), ("A", Entry(2))]


@pytest.mark.parametrize(
    ("task", "cancelled", "entries"),
    [
        ("task 2", "A", rebooked(0, [("Y", 1)])),  # the passenger has a seat
        ("task 2", "A", stranded(1, 1)),
        ("task 2", "B", rebooked(0, [("Y", 1), ("X", 9)])),  # the second seat is taken
        ("task 1", "A", rebooked(0, [("X", 8), ("X", 7)])),  # the same task, but another result
    ],
)
def test_no_passenger_and_no_seat_twice(tmp_path: Path, task: str, cancelled: str, entries: list[Entry]) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.write("task 1", "A", rebooked(0, [("X", 8), ("X", 9)]))
        before = ledger.entries()
        with pytest.raises(LedgerConflictError):
            ledger.write(task, cancelled, entries)
        assert ledger.entries() == before


# --- the check --------------------------------------------------------------------------------------------------------


def honest(cancelled: list[Flight]) -> list[tuple[str, Entry]]:
    """What the ledger should hold."""
    entries = []
    for flight in cancelled:
        for party in desk.bookings(flight):
            try:
                seats = desk.seats_for(party, desk.allotments()[flight.key])
                entries += [(flight.key, entry) for entry in rebooked(party.first, seats)]
            except desk.NoSeatLeftError:
                entries += [(flight.key, entry) for entry in stranded(party.first, party.size)]
    return entries


def test_the_check_takes_what_is_right() -> None:
    cancelled = cancelled_flights(40)
    report.check(cancelled, honest(cancelled), brute_force(cancelled))


@pytest.mark.parametrize("wrong", ["lost", "doubled", "stranger", "seat twice", "seat sold", "wrong flight", "report"])
def test_the_check_finds_what_is_wrong(wrong: str) -> None:
    cancelled = cancelled_flights(40)
    entries, expected = honest(cancelled), brute_force(cancelled)
    index, (key, entry) = next((i, pair) for i, pair in enumerate(entries) if pair[1].flight is not None)
    if wrong == "lost":
        del entries[index]
    elif wrong == "doubled":
        entries.append(entries[index])
    elif wrong == "stranger":
        entries.append((next(key for key, flight in flights.load().items() if not flight.cancelled), Entry(0)))
    elif wrong == "seat twice":
        entries[index + 1] = (key, Entry(entry.passenger + 1, entry.flight, entry.seat))
    elif wrong == "seat sold":
        entries[index] = (key, Entry(entry.passenger, entry.flight, 0))
    elif wrong == "wrong flight":
        entries[index] = (key, Entry(entry.passenger, key, entry.seat))
    else:
        expected[next(iter(expected))] += Totals(rebooked=1)
    with pytest.raises(ConservationError):
        report.check(cancelled, entries, expected)


# --- the whole --------------------------------------------------------------------------------------------------------


def table(output: str) -> str:
    """The report within what the demo has printed."""
    lines = output.splitlines()
    begin = next(i for i, line in enumerate(lines) if "airline" in line)
    end = next(i for i, line in enumerate(lines) if line.startswith("three days"))
    return "\n".join(lines[begin : end + 1])


def expected_table(count: int) -> str:
    result: Report = brute_force(cancelled_flights(count))
    return report.text(result)


def demo(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return output


def until(path: Path, passengers: int, *processes: subprocess.Popen[Any]) -> None:
    """Wait until the ledger has so many, as long as the processes run."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if path.exists():
            with contextlib.closing(Ledger(path)) as ledger:
                if ledger.size() >= passengers:
                    return
        assert all(process.poll() is None for process in processes), "a process has ended"
        time.sleep(0.02)
    raise AssertionError(f"{path} never came to {passengers} passengers")


def test_the_demo_prints_what_loops_compute() -> None:
    assert table(finish(demo("--flights", "30"))) == expected_table(30)


def test_the_demo_killed_half_way_goes_on_to_the_same_report(tmp_path: Path) -> None:
    count = 60
    half = sum(flight.passengers for flight in cancelled_flights(count)) // 2
    arguments = ("--dir", str(tmp_path), "--flights", str(count))
    first = demo(*arguments)
    until(tmp_path / "ledger.db", half // 2, first)
    first.kill()
    first.communicate()
    second = demo(*arguments, "--resume")
    until(tmp_path / "ledger.db", half, second)
    second.kill()
    second.communicate()
    assert table(finish(demo(*arguments, "--resume"))) == expected_table(count)


def test_runs_on_one_cluster_do_not_meet(kafka_cluster: Any) -> None:
    for _ in range(2):
        assert table(finish(demo("--flights", "3", "--brokers", kafka_cluster.bootstrap_servers))) == expected_table(3)


def test_an_earlier_run_is_not_mixed_up_with_a_new_one(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.db").close()
    refused = demo("--dir", str(tmp_path), "--flights", "1")
    _, errors = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert "--resume" in errors


@contextlib.contextmanager
def running(module: str, arguments: tuple[str, ...]) -> Iterator[subprocess.Popen[Any]]:
    """A process of the demo, which is killed in the end."""
    command = [sys.executable, "-m", f"examples.blizzard.{module}", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def killed_and_restarted(directory: Path, count: int, arguments: tuple[str, ...]) -> str:
    """The output of the demo whose manager and workers are killed half way, and started again."""
    total = sum(flight.passengers for flight in cancelled_flights(count))
    shared = ("--dir", str(directory), *arguments)
    seeker = None
    try:
        with running("manager", shared) as manager, running("worker", shared) as worker:
            seeker = demo("--elsewhere", "--flights", str(count), *shared)
            until(directory / "ledger.db", total // 2, seeker, manager, worker)
            manager.kill()
            worker.kill()
        with contextlib.closing(Ledger(directory / "ledger.db")) as ledger:
            assert ledger.size() < total, "they were not killed half way"
        with running("manager", shared), running("worker", shared):
            return finish(seeker)
    finally:
        if seeker is not None:
            seeker.kill()
            seeker.communicate()


def test_manager_and_worker_killed_on_the_embedded_log(tmp_path: Path) -> None:
    assert table(killed_and_restarted(tmp_path, 60, ())) == expected_table(60)


def test_manager_and_worker_killed_on_a_cluster(tmp_path: Path, kafka_cluster_3: Any) -> None:
    arguments = ("--brokers", kafka_cluster_3.bootstrap_servers, "--name", kafka_cluster_3.unique("blizzard"))
    assert table(killed_and_restarted(tmp_path, 40, arguments)) == expected_table(40)
