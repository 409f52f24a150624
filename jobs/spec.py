"""The shared vocabulary of the seam: stages, splits, job descriptions, events and states.

Standard library only, so that the command line, the node and the tests can all import it in a millisecond.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None
#: Anything `json` can write, with string keys.
Json: TypeAlias = Any

#: Version of what a job id is computed from; bumped only when the meaning of an id changes.
IDENTITY_VERSION = 1
SHORT_ID = 12


class Stage(StrEnum):
    """What a job does."""

    TRAIN = "train"
    PICK = "pick"
    EVALUATE = "evaluate"


class Split(StrEnum):
    """A part of a data set. `held_out` is the test part of a fold (k-fold, leave-pair-out)."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"
    HELD_OUT = "held_out"


#: The one table of which stage may open which split. Evaluate opens `val` first and a test split only once the choice is written.
SPLITS_OPEN_TO: Mapping[Stage, tuple[Split, ...]] = {
    Stage.TRAIN: (Split.TRAIN, Split.VAL),
    Stage.PICK: (Split.VAL,),
    Stage.EVALUATE: (Split.VAL, Split.TEST, Split.HELD_OUT),
}
#: What an evaluate job that hands out embeddings opens besides; of these its predictions hold nothing.
EMBEDDED_TOO = frozenset({Split.TRAIN})
#: Splits that stay shut until `choice.json` is on disk.
SHUT_UNTIL_CHOICE = frozenset({Split.TEST, Split.HELD_OUT})


class EventKind(StrEnum):
    """What happened to a job."""

    INTENDED = "INTENDED"
    SUBMITTED = "SUBMITTED"
    STARTED = "STARTED"
    CHECKPOINTED = "CHECKPOINTED"
    SUCCEEDED = "SUCCEEDED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class FailureKind(StrEnum):
    """Why an attempt ended without a result; `orchestrator.policy` says what follows from each."""

    PREEMPTED = "PREEMPTED"
    TIMEOUT = "TIMEOUT"
    NODE_FAIL = "NODE_FAIL"
    HOST_OOM = "HOST_OOM"
    CUDA_OOM = "CUDA_OOM"
    DIVERGED = "DIVERGED"
    COLLAPSED = "COLLAPSED"
    BAD_DATA = "BAD_DATA"
    DISK_FULL = "DISK_FULL"
    ERROR = "ERROR"
    LOST = "LOST"


#: Failures that a pick counts as a candidate that lost, instead of waiting for it.
LOSING_FAILURES = frozenset({FailureKind.DIVERGED, FailureKind.COLLAPSED})


class State(StrEnum):
    """Where a job stands: a fold over its events and what the scheduler says."""

    NEW = "NEW"
    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    #: Started, not ended, and nobody is running it any more: it continues from its checkpoint.
    INTERRUPTED = "INTERRUPTED"
    UNKNOWN = "UNKNOWN"

    @property
    def is_final(self) -> bool:
        """Tell whether no further event is expected without somebody acting."""
        return self in _FINAL


_FINAL = frozenset({State.SUCCEEDED, State.STOPPED, State.FAILED, State.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one job asks of a machine; GPUs, CPUs and memory are those of one node. Never part of a job's identity."""

    gpus: int = 0
    cpus: int = 1
    memory_mb: int = 4096
    time_minutes: int = 60
    nodes: int = 1
    pack: int = 1
    #: Whether train, pick and evaluate of one point share an allocation.
    fuse: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One upstream job and what of it is used.

    `take` is `choice` (the checkpoint that a pick chose), `last` (the last checkpoint of a train job), `epoch:N`, or
    `result` (a pick reading its candidates). `run` names one replicate of a pick that decided for several.
    """

    role: str
    job: str
    take: str = "choice"
    run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One fact to establish: everything that determines its result, and a little for people.

    `config` is the resolved config of the stage (see docs/structure.md): for train the trainer's, defaults included; for pick the
    rule and its candidates; for evaluate the units and the split. `data` names cards, digests, split rule and draw.
    `sweep`, `phase`, `trial`, `labels`, `resources`, `resolved` and `contamination` are for people and machines, and not in the id.
    """

    job_id: str
    stage: Stage
    trainer: str
    trainer_version: int
    loop_version: int
    config: Mapping[str, Json]
    data: Mapping[str, Json]
    seed: int
    inputs: tuple[Input, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    # not in the id
    sweep: str
    phase: str
    trial: str
    labels: Mapping[str, Scalar] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    #: False while a data set or weights file is out of reach, so that `job_id` is provisional and nothing can be submitted.
    resolved: bool = True
    #: Why images that an evaluate job is scored on may have been seen in training, which the sweep allows; a sentence each.
    contamination: tuple[str, ...] = ()

    @property
    def short_id(self) -> str:
        """Return the first 12 characters of the id, as shown to people."""
        return self.job_id[:SHORT_ID]

    def identity(self) -> dict[str, Json]:
        """Return exactly what the id is a hash of."""
        return identity_payload(
            stage=self.stage,
            trainer=self.trainer,
            trainer_version=self.trainer_version,
            loop_version=self.loop_version,
            config=self.config,
            data=self.data,
            seed=self.seed,
            inputs=self.inputs,
            weights=self.weights,
        )


def identity_payload(
    *,
    stage: Stage,
    trainer: str,
    trainer_version: int,
    loop_version: int,
    config: Mapping[str, Json],
    data: Mapping[str, Json],
    seed: int,
    inputs: tuple[Input, ...],
    weights: Mapping[str, str],
) -> dict[str, Json]:
    """Return the mapping whose canonical JSON is hashed into a job id."""
    return {
        "identity": IDENTITY_VERSION,
        "stage": str(stage),
        "trainer": [trainer, trainer_version],
        "loop": loop_version,
        "config": dict(config),
        "data": dict(data),
        "seed": seed,
        "inputs": [[i.role, i.job, i.take, i.run] for i in inputs],
        "weights": dict(weights),
    }


def job_id(payload: Mapping[str, Json]) -> str:
    """Hash an identity payload into a job id (sha256, 64 hexadecimal digits)."""
    return hashlib.sha256(canonical_json(payload).encode()).hexdigest()


def canonical_json(value: Json) -> str:
    """Write a value as JSON with sorted keys, no spaces and no -0.0; equal values give equal text.

    Raises ValueError for NaN and infinities, which no config may hold.
    """
    return json.dumps(_positive_zero(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def pretty_json(value: Json) -> str:
    """Write a value as JSON for files: sorted, indented, one newline at the end."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _positive_zero(value: Json) -> Json:
    if isinstance(value, float):
        return 0.0 if value == 0.0 and math.copysign(1.0, value) < 0 else value
    if isinstance(value, Mapping):
        return {str(k): _positive_zero(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_positive_zero(v) for v in value]
    return value


def spec_to_json(spec: JobSpec) -> dict[str, Json]:
    """Return the content of `job.json`."""
    return {
        "job_id": spec.job_id,
        "stage": str(spec.stage),
        "trainer": spec.trainer,
        "trainer_version": spec.trainer_version,
        "loop_version": spec.loop_version,
        "config": dict(spec.config),
        "data": dict(spec.data),
        "seed": spec.seed,
        "inputs": [{"role": i.role, "job": i.job, "take": i.take, "run": i.run} for i in spec.inputs],
        "weights": dict(spec.weights),
        "sweep": spec.sweep,
        "phase": spec.phase,
        "trial": spec.trial,
        "labels": dict(spec.labels),
        "resources": {name: getattr(spec.resources, name) for name in Resources.__dataclass_fields__},
        "resolved": spec.resolved,
        **({"contamination": list(spec.contamination)} if spec.contamination else {}),
    }


def spec_from_json(content: Mapping[str, Json]) -> JobSpec:
    """Read the content of `job.json`. Raises KeyError when a field is missing."""
    return JobSpec(
        job_id=content["job_id"],
        stage=Stage(content["stage"]),
        trainer=content["trainer"],
        trainer_version=content["trainer_version"],
        loop_version=content["loop_version"],
        config=content["config"],
        data=content["data"],
        seed=content["seed"],
        inputs=tuple(Input(**item) for item in content["inputs"]),
        weights=content["weights"],
        sweep=content["sweep"],
        phase=content["phase"],
        trial=content["trial"],
        labels=content["labels"],
        resources=Resources(**content["resources"]),
        resolved=content["resolved"],
        contamination=tuple(content.get("contamination", ())),
    )
