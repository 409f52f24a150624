"""What runs and their params are called: short names, cells, and labels that a phase shares with the phase before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.spec import JobSpec, Scalar, Stage
from orchestrator.arms import Arm, arm_labels
from orchestrator.expansion.labels import label_text, same
from orchestrator.expansion.points import AFTER
from orchestrator.expansion.replicates import DRAW, FOLD, SEED, SIZE_LABELS
from orchestrator.mirror.entries import TAG_LENGTH
from orchestrator.model import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How a plan's runs are named."""

    arm_names: frozenset[str]
    #: Phase -> labels that differ between its train jobs.
    varying: Mapping[str, frozenset[str]]
    #: Phase -> label -> param.
    params: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, plan: Plan) -> Names:
        """Read names off the train jobs of a plan."""
        phases: dict[str, list[JobSpec]] = {}
        for spec in plan.jobs:
            if spec.stage is Stage.TRAIN:
                phases.setdefault(spec.phase, []).append(spec)
        origins = {axis.name: axis.phase for axis in plan.axes}
        return cls(
            arm_names=arm_labels(plan),
            varying={phase: _varying(listed) for phase, listed in phases.items()},
            params={phase: _params(phase, listed, origins) for phase, listed in phases.items()},
        )

    def run_name(self, spec: JobSpec) -> str:
        """Return a short name such as `finetune-pretrain-0.01-d03`: the phase, what tells its arms apart, the size, the replicate."""
        arm: list[str] = []
        last: list[str] = []
        for name, value in spec.labels.items():
            plain = name.rpartition(".")[2]
            if plain in (DRAW, FOLD, SEED):
                last.append(f"{plain[0]}{value:02d}" if isinstance(value, int) else f"{plain[0]}{_short(value)}")
            elif plain in SIZE_LABELS:
                last.insert(0, _short(value))
            elif name not in self.varying[spec.phase]:
                continue
            elif plain == AFTER:
                arm.insert(0, _short(value))
            else:
                arm.append(_short(value) if name in self.arm_names and isinstance(value, str) else f"{plain}={_short(value)}")
        return "-".join([spec.phase, *arm, *last])[:240]

    def cell(self, spec: JobSpec) -> str:
        """Return what replicates share, as the report calls it: the arm, and the number of labels."""
        arm = Arm(phase=spec.phase, labels={name: value for name, value in spec.labels.items() if name in self.arm_names}).name
        plain = {name.rpartition(".")[2]: value for name, value in spec.labels.items()}
        sizes = [f"{name}={value:g}" for name in sorted(SIZE_LABELS) if isinstance(value := plain.get(name), (int, float))]
        return "|".join([arm, *sizes])[:TAG_LENGTH]


def _short(value: Scalar) -> str:
    """Return a label's value for a name: of a path its last part."""
    return " ".join(label_text(value).rpartition("/")[2].split())[:60] or "none"


def _varying(listed: Sequence[JobSpec]) -> frozenset[str]:
    names = {name for spec in listed for name in spec.labels}
    return frozenset(name for name in names if len({label_text(spec.labels[name]) if name in spec.labels else None for spec in listed}) > 1)


def _params(phase: str, listed: Sequence[JobSpec], origins: Mapping[str, str]) -> dict[str, str]:
    """Return what each label's param is called.

    A label of an earlier phase whose key this phase has too, with a value of its own, carries that phase's name: the learning rate of
    a pretraining is `pretrain.lr`, so that `lr` stays what this very run was trained with.
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys(name for spec in listed for name in spec.labels):
        clashes = any(name in spec.labels and name in spec.config and not same(spec.labels[name], spec.config[name]) for spec in listed)
        if name in SIZE_LABELS:
            found[name] = f"label_{name}"
        elif clashes and origins.get(name, phase) != phase:
            found[name] = f"{origins[name]}.{name}"
        else:
            found[name] = name
    return found
