from __future__ import annotations

from pathlib import Path

from ops.bench.processes import Reading, read


def a_process(proc: Path, pid: int, parent: int, *, ticks: tuple[int, int, int, int], private_kb: int = 0) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} (a (b) c) S {parent} 0 0 0 0 0 0 0 0 0 {' '.join(map(str, ticks))} 20 0")
    (folder / "status").write_text(f"Name:\ta\nVmRSS:\t999999 kB\nRssAnon:\t   {private_kb} kB\n")


def test_a_process_counts_with_all_that_it_started(tmp_path: Path):
    a_process(tmp_path, 10, 1, ticks=(100, 50, 25, 25), private_kb=1024)
    a_process(tmp_path, 11, 10, ticks=(100, 0, 0, 0), private_kb=2048)
    a_process(tmp_path, 12, 11, ticks=(100, 0, 0, 0), private_kb=1024)
    a_process(tmp_path, 20, 1, ticks=(900, 0, 0, 0))

    reading = read({"web": 10}, tmp_path)

    assert reading == Reading({"web": 4.0}, {"web": 4.0})


def test_a_process_that_is_gone_reads_as_nothing(tmp_path: Path):
    assert read({"web": 10}, tmp_path) == Reading({"web": 0}, {"web": 0})


def test_what_was_spent_between_two_readings():
    before, after = Reading({"web": 1.5}, {}), Reading({"web": 2.75, "new": 0.5}, {})

    assert after.since(before) == {"web": 1.25, "new": 0.5}
