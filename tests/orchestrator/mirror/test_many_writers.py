"""Many clients that mirror at once into a store that nobody has used yet: nothing fails, is lost, stands twice or in another experiment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.model import Plan
from orchestrator.plans import write_plan
from tests.orchestrator.mirror.children import at_once, in_child
from tests.orchestrator.mirror.mirrored import export
from tests.orchestrator.mirror.played import Player, plan_of
from tests.orchestrator.mirror.servers import Postgres, mlflow_server, postgres

#: Of so many clients, a half has a sweep of its own, and the others come in fours with the same sweep from other run roots.
WRITERS = (8, 24)
SWEEP = """
sweep: {name}
about: Which of two draws is it?
data: phantom
phases:
  finetune:
    trainer: classification
    config: {{arch: slim, px: 64, init: random, epochs: {epochs}}}
    draws: {{fraction: [0.1], repeats: [2], by: patient, seed: 0}}
    pick: {{metric: val/auroc_macro}}
    evaluate: [{{data: same, split: test}}]
"""


@dataclass(frozen=True, slots=True)
class Writer:
    """A client: whose files it mirrors."""

    plan: Plan
    run: RunPaths

    def sync(self, uri: str) -> tracking.Synced:
        return tracking.sync(self.plan, self.run, uri=uri)


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> list[Writer]:
    """Return as many clients as the largest test has."""
    folder = tmp_path_factory.mktemp("writers")
    found: list[Writer] = []
    for number in range(max(WRITERS)):
        # 0..3 share sweep 0, 4 to 7 have their own; and so on.
        name = f"shared{number // 8}" if number % 8 < 4 else f"own{number}"
        # Each sweep trains differently, so that no job is of two of them.
        plan = plan_of(folder / name, SWEEP.format(name=name, epochs=sum(map(ord, name)) * 100 + number * (number % 8 >= 4)))
        run = RunPaths(folder / f"root{number}")
        if number % 8 in (1, 2, 3):
            subprocess.run(["cp", "-a", str(found[number - number % 8].run.root), str(run.root)], check=True)
        else:
            Player(run=run, epochs=2).play(plan.jobs)
        found.append(Writer(plan, run))
    return found


@pytest.fixture(scope="module")
def expected(writers: Sequence[Writer], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what each experiment holds when one client after the other writes."""
    folder = tmp_path_factory.mktemp("undisturbed")

    def undisturbed() -> dict[str, Any]:
        store = f"sqlite:///{folder / 'mlflow.db'}"
        for writer in writers:
            writer.sync(store)
        return {writer.plan.sweep: export(writer.run, writer.plan.sweep, uri=store) for writer in writers}

    return in_child(undisturbed, folder)


def check(writers: Sequence[Writer], expected: dict[str, Any], store: str, folder: Path) -> None:
    """Let all of them write at once, and look at what is there."""
    synced = at_once([partial(writer.sync, store) for writer in writers], folder / "writers")
    names = [writer.plan.sweep for writer in writers]
    assert len({one.experiment for one in synced}) == len(set(names))
    found = in_child(lambda: {name: export(writers[0].run, name, uri=store) for name in set(names)}, folder / "reader")
    # Every run is where its tag says that it belongs, every sweep has its own two draws, each of them once, whole.
    for name, runs in found.items():
        assert {one["tags"]["sweep"] for one in runs.values()} == {name}
        assert runs == expected[name]
    again = at_once([partial(writer.sync, store) for writer in writers[:4]], folder / "again")
    assert Counter((one.created, one.updated, one.replaced, one.removed) for one in again) == {(0, 0, 0, 0): 4}


@pytest.mark.parametrize("count", [8, pytest.param(24, marks=pytest.mark.slow)])
def test_into_a_file(writers: list[Writer], expected: dict[str, Any], count: int, tmp_path: Path) -> None:
    check(writers[:count], expected, f"sqlite:///{tmp_path / 'shared' / 'mlflow.db'}", tmp_path)


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


@pytest.mark.needs("postgres")
@pytest.mark.slow
@pytest.mark.parametrize("count", WRITERS)
def test_into_a_database(writers: list[Writer], expected: dict[str, Any], count: int, tmp_path: Path, database: Postgres) -> None:
    """A database of its own is made here, by whoever of them comes first."""
    check(writers[:count], expected, database.database(f"direct{count}"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("count", WRITERS)
def test_into_a_server(writers: list[Writer], expected: dict[str, Any], count: int, tmp_path: Path) -> None:
    with mlflow_server(tmp_path / "server", f"sqlite:///{tmp_path / 'server' / 'mlflow.db'}") as address:
        check(writers[:count], expected, address, tmp_path)


@pytest.mark.slow
def test_as_people_type_it(writers: list[Writer], expected: dict[str, Any], tmp_path: Path) -> None:
    """Whole commands, each with its own start of Python and MLflow, on a database that does not exist."""
    store, count = f"sqlite:///{tmp_path / 'mlflow.db'}", 8
    processes: list[subprocess.Popen[bytes]] = []
    for number, writer in enumerate(writers[:count]):
        write_plan(writer.run.sweep(writer.plan.sweep).plan, writer.plan)
        config = tmp_path / f"site{number}.yaml"
        config.write_text(f"backend: inline\nrun_root: {writer.run.root}\nmlflow: '{store}'\n")
        command = [sys.executable, "-m", "orchestrator", "sync", writer.plan.sweep, "--cluster", str(config)]
        processes.append(subprocess.Popen(command, cwd=Path(tracking.__file__).parents[1], env={**os.environ, "OMP_NUM_THREADS": "1"}))
    assert [process.wait() for process in processes] == [0] * count
    names = {writer.plan.sweep for writer in writers[:count]}
    found = in_child(lambda: {name: export(writers[0].run, name, uri=store) for name in names}, tmp_path / "reader")
    assert found == {name: expected[name] for name in names}


@pytest.mark.needs("postgres")
@pytest.mark.slow
@pytest.mark.parametrize("count", WRITERS)
def test_into_a_server_over_a_database(
    writers: list[Writer], expected: dict[str, Any], count: int, tmp_path: Path, database: Postgres
) -> None:
    with mlflow_server(tmp_path / "server", database.database(f"served{count}")) as address:
        check(writers[:count], expected, address, tmp_path)
