"""What every command starts from: the cluster config, the run root, the catalogue, and a sweep with its plan."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from jobs.catalog import Declaration, find_trainers
from jobs.paths import RunPaths
from jobs.records import read_record
from jobs.spec import JobSpec, Json, Resources
from orchestrator.errors import Error
from orchestrator.expand import expand
from orchestrator.expansion.repeats import parse_repeats, with_repeats
from orchestrator.expansion.sampling import sample as cut
from orchestrator.grammar.keys import NAME
from orchestrator.loading import load_cluster, load_sweep
from orchestrator.model import ClusterConfig, Plan, Sweep
from orchestrator.plans import read_plan
from orchestrator.resolving import DiskResolver
from orchestrator.sightings import Sighting

#: Sample runs live apart from real ones, so that neither is ever taken for the other.
SAMPLE_FOLDER = "sample"
#: What a job of a sample asks for, whatever the real one needs: it must run anywhere.
SAMPLE_RESOURCES = Resources()
PREFIX_LENGTH = 6


@dataclass(frozen=True)
class Workspace:
    """One machine, one run root."""

    cluster: ClusterConfig
    sample: bool = False
    #: What named the cluster config, for a command that starts another.
    cluster_argument: str = "local"

    @classmethod
    def open(cls, cluster: str | None, *, sample: bool = False) -> Workspace:
        """Read the cluster config by name or path. Raises ClusterError."""
        name = cluster or "local"
        config = load_cluster(name)
        if sample:
            config = replace(config, run_root=config.run_root / SAMPLE_FOLDER, mlflow="")
        return cls(cluster=config, sample=sample, cluster_argument=name)

    @property
    def run(self) -> RunPaths:
        """Return the run root's paths."""
        return RunPaths(self.cluster.run_root)

    def sightings(self) -> Mapping[str, Sighting] | None:
        """Ask the scheduler where every submitted job stands; None where the files say it all, or it does not answer."""
        from orchestrator.submit import sightings

        return sightings(self.run, self.cluster)

    @cached_property
    def catalog(self) -> dict[str, Declaration]:
        """Find every trainer once."""
        return find_trainers(self.cluster.trainer_paths)

    @cached_property
    def resolver(self) -> DiskResolver:
        """Look cards, label files and weights up on this machine."""
        return DiskResolver(cluster=self.cluster, catalog=self.catalog, sample=self.sample)

    def load(self, sweep: Path) -> Sweep:
        """Load a sweep file. Raises SweepError with the place."""
        return load_sweep(sweep, catalog=self.catalog, cards=self.resolver.card)

    def plan(self, sweep: Path, *, repeats: str | None = None) -> Plan:
        """Load and expand a sweep file, with more repeats where `--repeats` asks for them. Raises SweepError with the place."""
        wanted = None if repeats is None else parse_repeats(repeats)
        loaded = self.load(sweep)
        if not self.sample:
            larger, notes = (loaded, ()) if wanted is None else with_repeats(loaded, wanted)
            plan = expand(larger, self.catalog, self.resolver)
            return replace(plan, notes=(*notes, *plan.notes)) if notes else plan
        smaller, notes = cut(loaded, self.catalog)
        if wanted is not None:
            smaller, raised = with_repeats(smaller, wanted)
            notes = (*notes, *raised)
        smaller = replace(smaller, phases=tuple(replace(phase, resources=SAMPLE_RESOURCES) for phase in smaller.phases))
        self.resolver.use_sample(smaller.sample)
        plan = expand(smaller, self.catalog, self.resolver, sampled=True)
        return replace(plan, sample=True, made_data=True, notes=(*notes, *plan.notes))

    def stored_plan(self, sweep: str) -> Plan:
        """Return the plan that was submitted under a sweep's name or file. Raises Error when there is none."""
        return read_plan(self.plan_file(sweep))

    def plan_file(self, sweep: str) -> Path:
        """Return the file of the plan that was submitted under a sweep's name or file. Raises Error when there is none."""
        name = self.sweep_name(sweep)
        path = self.run.sweep(name).plan
        if not path.exists():
            raise Error(f"sweep '{name}' was never submitted to {self.run.root}; type `orchestrate submit {sweep}`")
        return path

    def sweep_name(self, sweep: str) -> str:
        """Return a sweep's name, given its name or its file."""
        if sweep.endswith((".yaml", ".yml")):
            return load_sweep(Path(sweep), catalog=self.catalog, cards=self.resolver.card).name
        if not re.fullmatch(NAME.pattern or "", sweep):
            raise Error(f"'{sweep}' is neither a sweep file (*.yaml) nor {NAME.words}; `orchestrate status` lists the sweeps that are here")
        return sweep

    def command(self, verb: str, sweep: Path) -> str:
        """Return what to type to run a command on a sweep on this machine."""
        words = ["orchestrate", verb, str(sweep), *(["--sample"] if self.sample else [])]
        return shlex.join(words + (["--cluster", self.cluster_argument] if self.cluster_argument != "local" else []))

    def stored_plans(self) -> list[Plan]:
        """Return every submitted plan of this run root, by name."""
        return [read_plan(path) for path in self.plan_files()]

    def plan_files(self) -> list[Path]:
        """Return the files of every submitted plan of this run root, by name."""
        return sorted((self.run.root / "sweeps").glob("*/plan.json"))

    def find_job(self, prefix: str) -> JobSpec:
        """Return the one job whose id starts so. Raises Error when there is none or more than one."""
        if len(prefix) < PREFIX_LENGTH:
            raise Error(f"'{prefix}' is too short to name a job: give at least {PREFIX_LENGTH} characters of its id")
        found = {job.job_id: job for plan in self.stored_plans() for job in plan.jobs if job.job_id.startswith(prefix)}
        if not found:
            raise Error(f"no job starts with '{prefix}' in {self.run.root}; `orchestrate status` lists them")
        if len(found) > 1:
            listed = ", ".join(job.short_id for job in list(found.values())[:5])
            raise Error(f"'{prefix}' fits {len(found)} jobs: {listed}; give more of the id")
        return next(iter(found.values()))

    def machine(self) -> dict[str, Json]:
        """Return what a node needs to know of this machine besides job files (`machine.json`)."""
        config = self.cluster
        return {
            "data": _paths(config.data),
            "data_root": str(config.data_root.absolute()) if config.data_root else None,
            "made_root": str(config.made_root.absolute()),
            "weight_files": self._weight_files(),
            "trainer_paths": [str(path.absolute()) for path in config.trainer_paths],
            "card_paths": [str(path.absolute()) for path in config.card_paths],
        }

    def _weight_files(self) -> dict[str, str]:
        """Return weights files by sha256: those of this plan, and those that earlier submissions named."""
        try:
            earlier = read_record(self.run.machine).get("weight_files")
        except (FileNotFoundError, Error):
            earlier = None
        return (earlier if isinstance(earlier, dict) else {}) | {
            digest: str(path.absolute()) for digest, path in self.resolver.weight_files.items()
        }


def _paths(mapping: Mapping[str, Path]) -> dict[str, str]:
    return {name: str(path.absolute()) for name, path in mapping.items()}
