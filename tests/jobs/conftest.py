"""A whole study that tests of the seam look at."""

from __future__ import annotations

import pytest

from jobs import main
from tests.jobs.study import WHOLE, Study, lay, run_alone, said


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Run a whole study, each job in a process of its own. Tests may run its jobs again and add jobs, and leave what is there."""
    laid = lay(tmp_path_factory.mktemp("study"), WHOLE)
    for job in laid.plan.jobs:
        assert run_alone(laid.paths(job).job) == main.EXIT_DONE, said(laid.paths(job))
    return laid
