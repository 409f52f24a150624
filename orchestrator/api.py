"""Studies from Python: what the commands do, for notebooks and scripts (`from orchestrator.api import Sweep`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.paths import naming
from jobs.spec import JobSpec, Stage
from orchestrator import tracking
from orchestrator.errors import Error
from orchestrator.expansion.evaluations import TARGET
from orchestrator.mirror.outcomes import measures_of, read_json
from orchestrator.model import MANY_JOBS, Plan
from orchestrator.report.design import Design, card_of
from orchestrator.report.results import draw_of
from orchestrator.running import run_plan, sync_plan, write_report
from orchestrator.status import Status, status_of
from orchestrator.submit import Summary
from orchestrator.workspace import Workspace

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Sweep"]


@dataclass(frozen=True)
class Sweep:
    """One study: a sweep file on a cluster; small and on made data where it is a sample."""

    file: Path
    workspace: Workspace
    #: More draws, as `--repeats` takes them.
    repeats: str | None = None

    @classmethod
    def load(cls, file: str | os.PathLike[str], *, cluster: str | None = None, sample: bool = False, repeats: str | None = None) -> Sweep:
        """Read a sweep file for a cluster config; without a name that of ORCHESTRATE_CLUSTER, or `local`.

        Raises SweepError with the place of what is wrong in the sweep, ClusterError for the config.
        """
        workspace = Workspace.open(cluster or os.environ.get("ORCHESTRATE_CLUSTER") or None, sample=sample)
        workspace.load(Path(file))
        return cls(file=Path(file), workspace=workspace, repeats=repeats)

    def plan(self) -> Plan:
        """Return every job of the study: ids, labels, configs and inputs. Raises SweepError with the place."""
        return self.workspace.plan(self.file, repeats=self.repeats)

    def submit(self, *, wait: bool = True, many: bool = False, quiet: bool = False) -> Summary:
        """Submit what is missing, follow it to the end where `wait` says so, write the report and bring MLflow up to date.

        Ray and inline are always followed. Safe to repeat. Raises Error for more than 10,000 jobs without `many`, and for a study that
        this machine can never run.
        """
        planned = self.plan()
        if len(planned.jobs) > MANY_JOBS and not many:
            raise Error(
                f"{planned.file}: expands to {len(planned.jobs):,} jobs, more than {MANY_JOBS:,}: submit(many=True) submits them all"
            )
        with naming(self.workspace.run.root):
            return run_plan(planned, self.workspace, self.file, wait=wait, quiet=quiet)

    def status(self) -> Status:
        """Return where every job stands; the scheduler is asked where there is one."""
        from orchestrator.ledger import states

        planned = self.plan()
        polled = self.workspace.sightings()
        return status_of(planned, states(self.workspace.run, [job.job_id for job in planned.jobs], polled=polled, details=True))

    def sync(self) -> tracking.Synced:
        """Bring MLflow up to what the files say. Raises TrackingError."""
        return sync_plan(self.plan(), self.workspace)

    def report(self) -> Path:
        """Write the confidence-interval report and return its page. Raises ReportError when nothing was evaluated yet."""
        folder, _ = write_report(self.plan(), self.workspace)
        return folder / "report.html"

    def jobs(self) -> DataFrame:
        """Return a row for each job: id, phase, stage, labels, state, attempt, failure, seconds."""
        from pandas import DataFrame

        planned = self.plan()
        rows = zip(planned.jobs, self.status().jobs, strict=True)
        return DataFrame(
            [
                {"job": spec.short_id, "phase": spec.phase, "stage": str(spec.stage), **spec.labels}
                | {"state": str(row.state), "attempt": row.attempt, "failure": row.failure, "seconds": row.seconds}
                for spec, row in rows
            ]
        )

    def results(self) -> DataFrame:
        """Return a row for each planned evaluation, and a column for each label and each measure.

        Columns are `job`, `phase`, `arm`, the sweep's labels, `card`, `split`, `n_labeled` (images) and `n_labeled_patients`, `train_job`,
        and the measures by name, such as `auroc_macro` and `auroc/effusion`. What has not been evaluated yet has NaN there.
        """
        from pandas import DataFrame

        planned = self.plan()
        design = Design.of(planned)
        return DataFrame([self._row(spec, design) for spec in planned.jobs if spec.stage is Stage.EVALUATE])

    def _row(self, spec: JobSpec, design: Design) -> Mapping[str, Any]:
        run = self.workspace.run
        result = read_json(run.job(spec.job_id).result)
        train_job = (result or {}).get("train_job")
        trained = read_json(run.job(train_job).result) if train_job else None
        draw = draw_of(result, trained)
        labels = {name: value for name, value in spec.labels.items() if name != TARGET}
        return {
            "job": spec.short_id,
            "phase": spec.phase,
            "arm": design.place(spec).arm,
            **labels,
            "card": card_of(spec),
            "split": spec.config.get("split"),
            "n_labeled": draw.images,
            "n_labeled_patients": draw.patients,
            "train_job": train_job[:12] if train_job else None,
            **(measures_of(result) if result else {}),
        }
