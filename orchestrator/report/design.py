"""The design of a study as a report shows it: where each evaluate job stands, and arms in order, with titles that tell them apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jobs.spec import JobSpec, Scalar, Stage
from orchestrator.arms import Arm, arm_labels, arms, is_floor, partners
from orchestrator.expansion.evaluations import TARGET
from orchestrator.expansion.points import AFTER, FLOOR
from orchestrator.expansion.replicates import DRAW, FOLD, SEED, SIZE_LABELS
from orchestrator.model import NO_PARENT, AxisKind, Contrast, Plan
from orchestrator.report.values import ArmInfo
from orchestrator.report.wording import SEPARATOR


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one evaluate job stands in the design."""

    arm: str
    phase: str
    #: Whether the arm is the no-network floor.
    floor: bool
    target: str
    size: str
    replicate: str
    fold: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A plan's labels by what they are for."""

    plan: Plan
    arm_names: frozenset[str]
    replicate_names: frozenset[str]

    @classmethod
    def of(cls, plan: Plan) -> Design:
        """Read the design off a plan."""
        replicates = {axis.name for axis in plan.axes if axis.kind is AxisKind.REPLICATE}
        return cls(plan=plan, arm_names=arm_labels(plan), replicate_names=frozenset(replicates))

    def place(self, spec: JobSpec) -> Place:
        """Sort a job's labels into arm, size and replicate."""
        own: dict[str, Scalar] = {}
        replicate: list[str] = []
        size, fold = "all", None
        for name, value in spec.labels.items():
            last = name.rpartition(".")[2]
            if name in self.arm_names and name != TARGET:
                own[name] = value
            elif last in SIZE_LABELS:
                size = f"{last}={text_of(value)}"
            elif last in (DRAW, FOLD, SEED) or name in self.replicate_names:
                replicate.append(f"{name} {text_of(value)}")
                fold = text_of(value) if last == FOLD else fold
        return Place(
            arm=Arm(phase=spec.phase, labels=own).name,
            phase=spec.phase,
            floor=is_floor(spec.phase, own),
            target=str(spec.labels.get(TARGET) or card_of(spec)),
            size=size,
            replicate=", ".join(replicate) or NO_REPLICATE,
            fold=", ".join(replicate) if fold is not None else None,
        )

    def arms(self, keys: Iterable[str]) -> tuple[ArmInfo, ...]:
        """Return some arms in the order of their axes, floor rows last, each with a title as short as tells them apart."""
        wanted = set(keys)
        listed = [arm for arm in arms(self.plan) if arm.name in wanted]
        shown = _varying([arm for arm in listed if not arm.is_floor], [AFTER, *(axis.name for axis in self.plan.axes)])
        several = len({arm.phase for arm in listed if not arm.is_floor}) > 1
        order = {axis.name: {text_of(value): index for index, value in enumerate(axis.values)} for axis in self.plan.axes}

        def rank(arm: Arm) -> tuple[object, ...]:
            along = [order.get(name, {}).get(text_of(arm.labels[name]), 999) if name in arm.labels else -1 for name in shown]
            return (arm.is_floor, along, arm.name)

        return tuple(
            ArmInfo(
                key=arm.name,
                title=_title(arm, shown, name_phase=several),
                phase=arm.phase,
                labels=dict(sorted(arm.labels.items())),
                floor=arm.is_floor,
                candidates=arm.candidates,
            )
            for arm in sorted(listed, key=rank)
        )

    def pairs(self, contrast: Contrast, keys: Iterable[str]) -> list[tuple[str, str]]:
        """Return (arm, its baseline) among some arms, in their order.

        Raises ReportError when the plan has no such pair, or an arm has two baselines.
        """
        place = {key: index for index, key in enumerate(keys)}
        found = [(arm.name, base.name) for arm, base in partners(arms(self.plan), contrast.baseline)]
        return sorted([one for one in found if one[0] in place and one[1] in place], key=lambda one: (place[one[0]], place[one[1]]))


#: What a run is called that nothing repeats.
NO_REPLICATE = "run"


def text_of(value: Scalar) -> str:
    """Write a label's value as a person would."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def contrast_text(contrast: Contrast) -> str:
    """Write a declared baseline as it stands in the sweep."""
    return ", ".join(f"{name}: {text_of(value)}" for name, value in sorted(contrast.baseline.items()))


def card_of(spec: JobSpec) -> str:
    """Return the data set that a job reads."""
    sources = spec.data.get("sources") or [{}]
    return str(sources[0].get("card", "data"))


def _varying(listed: Sequence[Arm], order: Sequence[str]) -> list[str]:
    """Return the labels in which some arms differ, or that some lack, in a given order."""
    names = {name for arm in listed for name in arm.labels}
    values = {name: {text_of(arm.labels[name]) if name in arm.labels else None for arm in listed} for name in names}
    ordered = [*(name for name in dict.fromkeys(order) if name in names), *sorted(names - set(order))]
    return [name for name in ordered if len(values[name]) > 1]


def _title(arm: Arm, shown: Sequence[str], *, name_phase: bool) -> str:
    if arm.is_floor:
        labels = {name: value for name, value in arm.labels.items() if name != AFTER and name in shown}
        return SEPARATOR.join(["thumbnail", *(_words(name, value) for name, value in labels.items())])
    words = [_words(name, arm.labels[name]) for name in shown if name in arm.labels]
    return SEPARATOR.join([*([arm.phase] if name_phase or not words else []), *words])


def _words(name: str, value: Scalar) -> str:
    if name == AFTER and value == NO_PARENT:
        return "no pretraining"
    if isinstance(value, str) and value not in ("none", "nothing", "same", FLOOR):
        return value
    return f"{name.rpartition('.')[2]} {text_of(value)}"


def pretraining_of(spec: JobSpec, by_id: Mapping[str, JobSpec]) -> str:
    """Return what names the pretraining behind a run: phase and seed of every train job upstream in another phase; empty without one."""
    seen: set[str] = set()
    waiting = [item.job for item in spec.inputs]
    while waiting:
        job = waiting.pop()
        if job in by_id and job not in seen:
            seen.add(job)
            waiting += [item.job for item in by_id[job].inputs]
    trained = (by_id[job] for job in seen if by_id[job].stage is Stage.TRAIN and by_id[job].phase != spec.phase)
    return "+".join(sorted({f"{one.phase}:{one.seed}" for one in trained}))
