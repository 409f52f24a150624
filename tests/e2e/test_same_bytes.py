"""The same study is the same bytes after everything was killed in the middle. (`tests/slurm/test_conformance.py`: on every backend.)"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

from tests.e2e.conftest import Site, kill_everything, short_quickstart, wait_for


def test_killed_in_the_middle_and_run_again_gives_the_same_report(
    tmp_path: Path, site: Callable[[str, str], Site], started: list[Popen[str]]
) -> None:
    sweep = str(short_quickstart(tmp_path))
    undisturbed = site("undisturbed", "inline")
    assert undisturbed.run("submit", sweep, "--sample").returncode == 0
    expected = undisturbed.results(sample=True)
    for share in (0.1, 0.6):
        killed = site(f"killed-{share}", "ray")
        # The moment differs from run to run of the suite by the seed of the day, and is printed when the test fails.
        target = max(1, round(share * len(expected) * random.uniform(0.8, 1.2)))
        process = killed.start("submit", sweep, "--sample")
        started.append(process)
        assert wait_for(lambda killed=killed, target=target: len(killed.results(sample=True)) >= target, process), "it ended too early"
        assert kill_everything(process) > 3
        left = killed.results(sample=True)
        assert len(left) < len(expected)
        done = killed.run("submit", sweep, "--sample")
        assert done.returncode == 0, done.stdout + done.stderr
        after = killed.results(sample=True)
        assert {job: after[job] for job in left} == left
        assert after == expected
        assert killed.report("short", sample=True) == undisturbed.report("short", sample=True)
