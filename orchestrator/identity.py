"""What a job is, which code and environment would run it, and why it would run again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from jobs.spec import JobSpec, Json, State, canonical_json, identity_payload, spec_from_json
from orchestrator.errors import IdentityError
from orchestrator.expansion.labels import label_text
from orchestrator.model import Plan

PACKAGE = "cxr-orchestrator"
#: With more differences than this, a diff is cut.
_SHOWN = 20
_SHORT_TEXT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeVersion:
    """Which code is running: for people and for provenance, never part of a job's id."""

    package: str
    git_sha: str | None = None
    dirty: bool = False

    def __str__(self) -> str:
        if self.git_sha is None:
            return self.package
        return f"{self.package}+g{self.git_sha[:12]}{'.dirty' if self.dirty else ''}"


def code_version(root: Path | None = None) -> CodeVersion:
    """Return the version of the code under `root` (default: where this package lies): the commit where there is one."""
    try:
        package = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        package = "0"
    folder = root or Path(__file__).resolve().parents[1]
    sha = _git(folder, "rev-parse", "HEAD")
    inside = _git(folder, "rev-parse", "--show-toplevel")
    if not sha or not inside or Path(inside).resolve() != folder.resolve():
        return CodeVersion(package=package)
    return CodeVersion(package=package, git_sha=sha, dirty=bool(_git(folder, "status", "--porcelain")))


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def environment_hash() -> str:
    """Return a sha256 of Python's version and of every installed distribution with its version."""
    found = {(item.metadata["Name"] or "").lower().replace("_", "-"): item.version for item in metadata.distributions()}
    content = {"python": sys.version.split()[0], "distributions": sorted(found.items())}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def config_digest(config: Mapping[str, Json]) -> str:
    """Return the sha256 of a resolved config in canonical form."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()


# --- why a job would run again


def diff_specs(stored: Mapping[str, Json], planned: JobSpec) -> list[str]:
    """Say what in a job's identity differs from a stored `job.json`, one line a difference: `config.lr: 0.001 -> 0.0001`."""
    return list(_differences("", _identity_of(stored), planned.identity()))


def _identity_of(stored: Mapping[str, Json]) -> dict[str, Json]:
    spec = spec_from_json(stored)
    return identity_payload(
        stage=spec.stage,
        trainer=spec.trainer,
        trainer_version=spec.trainer_version,
        loop_version=spec.loop_version,
        config=spec.config,
        data=spec.data,
        seed=spec.seed,
        inputs=spec.inputs,
        weights=spec.weights,
    )


def _differences(path: str, old: Json, new: Json) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys((*old, *new)):
            inner = f"{path}.{key}" if path else str(key)
            if key not in old:
                yield f"{inner}: was not there, now {_shown(new[key])}"
            elif key not in new:
                yield f"{inner}: {_shown(old[key])}, now left out"
            else:
                yield from _differences(inner, old[key], new[key])
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(_item_path(path, index), before, after)
    elif canonical_json(old) != canonical_json(new):
        yield f"{path}: {_shown(old)} -> {_shown(new)}"


def _item_path(path: str, index: int) -> str:
    if path == "trainer":
        return ("trainer", "trainer version")[index]
    return f"{path}[{index}]"


def _shown(value: Json) -> str:
    if isinstance(value, str) and len(value) == 64 and all(digit in "0123456789abcdef" for digit in value):
        return value[:12]
    text = canonical_json(value)
    return text if len(text) <= _SHORT_TEXT else f"{text[: _SHORT_TEXT - 3]}..."


def refuse_mismatch(stored: Mapping[str, Json], planned: JobSpec) -> None:
    """See that a stored `job.json` says of a job what the plan says.

    Raises IdentityError, with the difference and the two ways out, when one id stands for two things.
    """
    if stored["job_id"] != planned.job_id:
        return
    found = diff_specs(stored, planned)
    if found:
        raise IdentityError(
            f"job {planned.short_id} ({planned.trial}) is stored with another meaning: {'; '.join(found[:_SHOWN])}. "
            f"Either raise VERSION of the trainer '{planned.trainer}', so that its jobs get new ids, or pin the old value in the sweep"
        )


# --- plan against plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A job that the edited sweep asks for in place of an earlier one, and why."""

    job: JobSpec
    before: JobSpec
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChanges:
    """A plan set against what is there: every planned job is in exactly one of the first four."""

    #: `+`: asked for the first time.
    new: tuple[JobSpec, ...] = ()
    #: `=`: done, and reused.
    reused: tuple[JobSpec, ...] = ()
    #: `~`: the same labels, another id.
    changed: tuple[Changed, ...] = ()
    #: Planned before, not done yet.
    unfinished: tuple[JobSpec, ...] = ()
    #: `-`: planned before, no longer in the sweep.
    gone: tuple[JobSpec, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


def plan_changes(plan: Plan, stored: Plan | None, states: Mapping[str, State]) -> PlanChanges:
    """Compare a plan with the one stored before, and with what is done.

    A job that changed only because its inputs did says which ones; the cause stands at the first of the chain.
    """
    before = {} if stored is None else _by_labels(stored.jobs)
    earlier_ids = {job.job_id for job in before.values()}
    planned = _by_labels(plan.jobs)
    replaced: dict[str, JobSpec] = {}
    new: list[JobSpec] = []
    reused: list[JobSpec] = []
    unfinished: list[JobSpec] = []
    changed: list[tuple[JobSpec, JobSpec]] = []
    for key, job in planned.items():
        old = before.get(key)
        if states.get(job.job_id) in (State.SUCCEEDED, State.STOPPED):
            reused.append(job)
        elif job.job_id in earlier_ids:
            unfinished.append(job)
        elif old is not None:
            changed.append((job, old))
            replaced[job.job_id] = old
        else:
            new.append(job)
    planned_ids = {job.job_id for job in plan.jobs}
    gone = [job for key, job in before.items() if job.job_id not in planned_ids and key not in planned]
    by_id = plan.by_id()
    explained = tuple(Changed(job=job, before=old, why=_why(job, old, by_id, replaced)) for job, old in changed)
    found = {"new": new, "reused": reused, "changed": explained, "unfinished": unfinished, "gone": gone}
    return PlanChanges(
        new=tuple(new),
        reused=tuple(reused),
        changed=explained,
        unfinished=tuple(unfinished),
        gone=tuple(gone),
        counts={name: len(jobs) for name, jobs in found.items()},
    )


def _by_labels(jobs: Sequence[JobSpec]) -> dict[tuple[str, ...], JobSpec]:
    return {label_key(job): job for job in jobs}


def label_key(job: JobSpec) -> tuple[str, ...]:
    """Return what a job is called, whatever its id: phase, stage and labels, whatever their order."""
    return (job.phase, str(job.stage), *sorted(f"{name}={label_text(value)}" for name, value in job.labels.items()))


def _why(job: JobSpec, old: JobSpec, by_id: Mapping[str, JobSpec], replaced: Mapping[str, JobSpec]) -> tuple[str, ...]:
    """Say why a job has another id: its own differences, or the inputs that changed before it."""
    own = [line for line in _differences("", _own(old), _own(job)) if line]
    upstream = [by_id[item.job].trial for item in job.inputs if item.job in replaced]
    if own:
        return tuple(own)
    if upstream:
        more = f" and {len(upstream) - 1} more" if len(upstream) > 1 else ""
        return (f"its input {upstream[0]} changed{more}",)
    return tuple(_differences("", old.identity(), job.identity()))


def _own(job: JobSpec) -> dict[str, Json]:
    """Return a job's identity without the ids of other jobs."""
    content = job.identity()
    content["inputs"] = [[role, take, run] for role, _, take, run in content["inputs"]]
    if "candidates" in content["config"]:
        content["config"]["candidates"] = [
            {"runs": sorted(candidate["runs"]), "overrides": candidate["overrides"], "inputs": sorted(candidate["inputs"])}
            for candidate in content["config"]["candidates"]
        ]
    return content
