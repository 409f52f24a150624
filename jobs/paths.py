"""Every file name of a run, in one place.

RUN_ROOT/
  lock                                  held for milliseconds by a client that decides and records
  machine.json                          where data, weights and user code are on this machine: what a node needs besides job.json
  sweeps/<sweep>/                       plan.json, report/, STOP, failures/, usage/
  code/<digest>/                        the code of a submission that outlives its client
  submissions/<sid>.json                one intent a submission
  jobs/<id[:2]>/<id>/                   job.json, result.json, choice.json, predictions.parquet, embeddings.parquet,
                                        arrays/<card>/, checkpoints/, pictures/
    attempts/<n>/                       claim, events.jsonl, metrics.jsonl, stdout, env.json, traceback.txt, stop, failed_nodes;
                                        where several processes run the job, stdout.<rank> and traceback.<rank>.txt of each but the
                                        first
    meetings/<key>.json                 where the first of several processes awaits the others
  cache/                                decoded images and digests; deletable
  mlflow/                               mlflow.db and artifacts; deletable, rebuilt by `orchestrate sync`
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AttemptPaths:
    """The files of one attempt of a job."""

    folder: Path

    @property
    def number(self) -> int:
        return int(self.folder.name)

    @property
    def job(self) -> JobPaths:
        """Return the files of the job that this is an attempt of."""
        return JobPaths(self.folder.parents[1])

    @property
    def claim(self) -> Path:
        return self.folder / "claim"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def stdout(self) -> Path:
        return self.folder / "stdout"

    @property
    def env(self) -> Path:
        return self.folder / "env.json"

    @property
    def traceback(self) -> Path:
        return self.folder / "traceback.txt"

    def stdout_of(self, rank: int) -> Path:
        """Return where a process that is not the first of its job writes what it prints."""
        return self.folder / f"stdout.{rank}"

    def traceback_of(self, rank: int) -> Path:
        """Return where a process that is not the first of its job writes why it failed."""
        return self.folder / f"traceback.{rank}.txt"

    @property
    def stop(self) -> Path:
        return self.folder / "stop"

    @property
    def failed_nodes(self) -> Path:
        return self.folder / "failed_nodes"


@dataclass(frozen=True, slots=True)
class JobPaths:
    """The files of one job."""

    folder: Path

    @property
    def job(self) -> Path:
        return self.folder / "job.json"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def choice(self) -> Path:
        return self.folder / "choice.json"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions.parquet"

    @property
    def embeddings(self) -> Path:
        return self.folder / "embeddings.parquet"

    @property
    def arrays(self) -> Path:
        return self.folder / "arrays"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def attempts_folder(self) -> Path:
        return self.folder / "attempts"

    def attempt(self, number: int) -> AttemptPaths:
        """Return the paths of attempt `number`, counted from 1."""
        return AttemptPaths(self.attempts_folder / str(number))

    def meeting(self, key: str) -> Path:
        """Return where the processes of one start of this job find each other."""
        return self.folder / "meetings" / f"{key}.json"

    def attempts(self) -> list[AttemptPaths]:
        """List the attempts on disk, oldest first."""
        try:
            names = [name for name in os.listdir(self.attempts_folder) if name.isdigit()]
        except FileNotFoundError:
            return []
        return [self.attempt(number) for number in sorted(map(int, names))]


@dataclass(frozen=True, slots=True)
class SweepPaths:
    """The files of one sweep."""

    folder: Path

    @property
    def plan(self) -> Path:
        return self.folder / "plan.json"

    @property
    def report(self) -> Path:
        return self.folder / "report"

    @property
    def stop(self) -> Path:
        return self.folder / "STOP"

    @property
    def failures(self) -> Path:
        return self.folder / "failures"

    @property
    def usage(self) -> Path:
        return self.folder / "usage"

    @property
    def told(self) -> Path:
        return self.folder / "told"


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The files of a run root."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def machine(self) -> Path:
        return self.root / "machine.json"

    @property
    def submissions(self) -> Path:
        return self.root / "submissions"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow"

    def sweep(self, name: str) -> SweepPaths:
        """Return the paths of a sweep by its name."""
        return SweepPaths(self.root / "sweeps" / name)

    def job(self, job_id: str) -> JobPaths:
        """Return the paths of a job by its full id."""
        return JobPaths(self.root / "jobs" / job_id[:2] / job_id)


def run_of(job_file: Path) -> RunPaths:
    """Return the run root that a `job.json` lies in."""
    return RunPaths(job_file.resolve().parents[3])


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a write that fails say which file it was: the system names none when a disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(error.filename).parent == path.parent:
            error.filename = str(path)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write aside, fsync, rename and fsync the folder, so that a reader sees the old file or the new one. Raises OSError naming it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path), open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
