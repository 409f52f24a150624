"""Arms: what the report sets side by side, and which arm each is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from jobs.spec import JobSpec, Scalar, Stage
from orchestrator.errors import ReportError
from orchestrator.expansion.evaluations import TARGET
from orchestrator.expansion.labels import Labels, agree, known_names, labels_text, same
from orchestrator.expansion.points import AFTER, FLOOR
from orchestrator.expansion.replicates import SIZE_LABELS
from orchestrator.model import AxisKind, Plan

PHASE = "phase"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way of doing it: a phase and its compare labels. Replicates, sizes and targets are inside an arm."""

    phase: str
    labels: Labels
    #: Sizes of the draws (fractions or counts) that the arm was trained on, in order; empty without draws.
    cells: tuple[Scalar, ...] = ()
    #: How many tune points each of its picks chose among.
    candidates: int = 1
    #: The test sets that it is evaluated on.
    targets: frozenset[str] = frozenset()

    @property
    def is_floor(self) -> bool:
        """Tell whether this is the no-network floor."""
        return is_floor(self.phase, self.labels)

    @property
    def name(self) -> str:
        """Return the arm's name for people."""
        return f"{self.phase}/{labels_text(self.labels)}" if self.labels else self.phase


def is_floor(phase: str, labels: Labels) -> bool:
    """Tell whether a job belongs to the no-network floor."""
    return phase.partition("_")[0] == FLOOR and FLOOR in (labels.get(AFTER), labels.get(f"{phase}.{AFTER}"))


def arm_labels(plan: Plan) -> frozenset[str]:
    """Return the names of the labels that tell arms apart."""
    replicates = {axis.name for axis in plan.axes if axis.kind is AxisKind.REPLICATE}
    return frozenset(axis.name for axis in plan.axes if axis.kind is AxisKind.COMPARE and axis.name not in replicates)


def arms(plan: Plan) -> list[Arm]:
    """List the arms that are evaluated, in the order of the plan."""
    by_id = plan.by_id()
    names = arm_labels(plan)
    cells: dict[tuple[str, str], dict[Scalar, None]] = {}
    targets: dict[tuple[str, str], set[str]] = {}
    found: dict[tuple[str, str], tuple[str, dict[str, Scalar], int]] = {}
    for job in plan.jobs:
        if job.stage is not Stage.EVALUATE:
            continue
        labels = {name: value for name, value in job.labels.items() if name in names and name != TARGET}
        key = (job.phase, labels_text(labels))
        tried = _candidates(by_id[job.inputs[0].job], by_id)
        targets.setdefault(key, set()).add(str(job.labels.get(TARGET)))
        found[key] = (job.phase, labels, max(tried, found[key][2] if key in found else 1))
        for name, value in job.labels.items():
            if name.rpartition(".")[2] in SIZE_LABELS and name not in names:
                cells.setdefault(key, {})[value] = None
    return [
        Arm(phase=phase, labels=labels, cells=tuple(cells.get(key, ())), candidates=tried, targets=frozenset(targets[key]))
        for key, (phase, labels, tried) in found.items()
    ]


def partners(listed: Sequence[Arm], baseline: Mapping[str, Scalar]) -> list[tuple[Arm, Arm]]:
    """Pair every arm that has the baseline's labels with the one arm that has the baseline's values and equals it otherwise.

    An arm that is evaluated on several test sets may have a partner of its own on each. Raises ReportError when the baseline is nobody's
    partner, or an arm has two on one test set.
    """
    baseline = known_names(baseline, {name for arm in listed for name in _named(arm)})
    if not any(_is_baseline(arm, baseline) for arm in listed):
        values = "; ".join(f"{name}: {', '.join(seen)}" for name, seen in _values(listed, baseline).items())
        raise ReportError(f"no arm is {labels_text(baseline)}; the arms have {values or 'no such label'}")
    pairs: list[tuple[Arm, Arm]] = []
    for arm in listed:
        if _is_baseline(arm, baseline) or not _has(arm, baseline):
            continue
        alike = [other for other in listed if _is_baseline(other, baseline) and _equal_besides(arm, other, baseline)]
        fitting = [other for other in alike if _meet(arm, other)]
        rivals = next((pair for pair in combinations(fitting, 2) if _meet(*pair)), None)
        if rivals is not None:
            both = f"{rivals[0].name} and {rivals[1].name}"
            raise ReportError(f"{arm.name} has two partners, {both}: name the label that tells them apart in the baseline")
        pairs += [(arm, other) for other in fitting]
    if not pairs:
        raise ReportError(f"the baseline {labels_text(baseline)} has no partner: no arm equals it on every other label")
    return pairs


def without_partner(listed: Sequence[Arm], baseline: Mapping[str, Scalar]) -> list[Arm]:
    """List the arms that have the baseline's labels and nothing to be compared with."""
    baseline = known_names(baseline, {name for arm in listed for name in _named(arm)})
    paired = {arm.name for pair in partners(listed, baseline) for arm in pair}
    return [arm for arm in listed if _has(arm, baseline) and not _is_baseline(arm, baseline) and arm.name not in paired]


def members(listed: Sequence[Arm], sets: Sequence[Mapping[str, Scalar]]) -> list[int]:
    """Return the places of the arms that carry all labels of one of the label sets; the floor is in no group that does not name it."""
    names = {name for arm in listed for name in _named(arm)}
    return [index for index, arm in enumerate(listed) if any(_is_baseline(arm, known_names(one, names)) for one in sets)]


def check_groups(listed: Sequence[Arm], groups: Mapping[str, Sequence[Mapping[str, Scalar]]]) -> None:
    """Raise ReportError for groups that cannot be set against each other: one alone, one without an arm, or two that share an arm."""
    if len(groups) == 1:
        raise ReportError(f"the group '{next(iter(groups))}' stands alone: name a second one to set it against")
    owner: dict[int, str] = {}
    for name, sets in groups.items():
        inside = members(listed, sets)
        if not inside:
            raise ReportError(f"no arm is in the group '{name}': none carries {' or '.join(labels_text(one) for one in sets)}")
        for index in inside:
            if index in owner:
                raise ReportError(f"{listed[index].name} is in two groups, '{owner[index]}' and '{name}': no arm is set against itself")
            owner[index] = name


def _named(arm: Arm) -> dict[str, Scalar]:
    return {PHASE: arm.phase, **arm.labels}


def _has(arm: Arm, baseline: Mapping[str, Scalar]) -> bool:
    """Tell whether an arm may be contrasted: it has the labels, and is no floor unless the floor is the baseline."""
    return all(name in _named(arm) for name in baseline) and (not arm.is_floor or FLOOR in baseline.values())


def _is_baseline(arm: Arm, baseline: Mapping[str, Scalar]) -> bool:
    named = _named(arm)
    return _has(arm, baseline) and all(same(named[name], value) for name, value in baseline.items())


def _equal_besides(arm: Arm, other: Arm, baseline: Mapping[str, Scalar]) -> bool:
    besides = {*baseline, PHASE} if other.is_floor else set(baseline)
    return agree(_named(arm), _named(other), besides=besides)


def _meet(arm: Arm, other: Arm) -> bool:
    """Tell whether a test set has both arms, or nobody says on which they are evaluated."""
    return bool(arm.targets & other.targets) or not (arm.targets and other.targets)


def _values(listed: Sequence[Arm], baseline: Mapping[str, Scalar]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for arm in listed:
        for name, value in _named(arm).items():
            if name in baseline:
                found.setdefault(name, {})[labels_text({name: value}).partition("=")[2]] = None
    return {name: list(seen) for name, seen in found.items()}


def _candidates(pick: JobSpec, by_id: Mapping[str, JobSpec]) -> int:
    """Return how many tune points stand behind a pick, also when the choice was made elsewhere."""
    counts = [len(pick.config["candidates"])]
    for item in pick.inputs:
        train = by_id.get(item.job)
        for upstream in train.inputs if train is not None else ():
            source = by_id.get(upstream.job)
            if upstream.role == "tuned" and source is not None:
                counts.append(len(source.config["candidates"]))
    return max(counts)
