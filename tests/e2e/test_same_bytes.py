"""The same study is the same bytes after everything was killed in the middle. (`tests/slurm/test_conformance.py`: on every backend.)"""

from __future__ import annotations

import random
from collections.abc import Callable
from subprocess import Popen

import pytest

from tests.e2e.conftest import Site, kill_everything, wait_for

SWEEP = "sweeps/quickstart.yaml"


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_killed_in_the_middle_and_run_again_gives_the_same_report(
    share: float, site: Callable[[str, str], Site], started: list[Popen[str]]
) -> None:
    undisturbed, killed = site("undisturbed", "inline"), site("killed", "ray")
    assert undisturbed.run("submit", SWEEP, "--sample").returncode == 0
    expected = undisturbed.results(sample=True)
    # The moment differs from run to run of the suite by the seed of the day, and is printed when the test fails.
    target = max(1, round(share * len(expected) * random.uniform(0.8, 1.2)))
    process = killed.start("submit", SWEEP, "--sample")
    started.append(process)
    assert wait_for(lambda: len(killed.results(sample=True)) >= target, process), "it ended before it could be killed"
    assert kill_everything(process) > 3
    left = killed.results(sample=True)
    assert len(left) < len(expected)
    done = killed.run("submit", SWEEP, "--sample")
    assert done.returncode == 0, done.stdout + done.stderr
    after = killed.results(sample=True)
    assert {job: after[job] for job in left} == left
    assert after == expected
    assert killed.report("quickstart", sample=True) == undisturbed.report("quickstart", sample=True)
