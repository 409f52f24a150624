"""One real Slurm cluster for all tests of this folder, cleared after each test that used it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, running_cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "slurm" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.needs("slurm"))


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    """Three nodes with two GPUs each, accounting, and the partitions normal, preemptible and urgent."""
    # pytest's own temporary folders are too deep for the unix sockets of Slurm.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, running_cluster(Path(folder)) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _cleared(request: pytest.FixtureRequest) -> Iterator[None]:
    cluster: Cluster | None = request.getfixturevalue("slurm") if "slurm" in request.fixturenames else None
    yield
    if cluster is not None:
        cluster.clear()
