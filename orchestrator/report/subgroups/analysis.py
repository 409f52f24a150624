"""Every arm and every declared difference in each declared subgroup, by the same machinery as on the whole test set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from orchestrator.report.board import Board, within
from orchestrator.report.cells import cell
from orchestrator.report.differences import difference
from orchestrator.report.parts import Part
from orchestrator.report.stats.estimate import FEW, Status
from orchestrator.report.stats.multiplicity import benjamini_hochberg
from orchestrator.report.subgroups.parting import MOST, Parted, part, traits_of
from orchestrator.report.subgroups.values import Subgroup, SubgroupEstimate, Subgroups
from orchestrator.report.values import Cell, Difference


def subgroups_of(parts: Sequence[Part], columns: Sequence[str], confidence: float) -> Subgroups:
    """Part every test set by every declared column and answer each subgroup; a column that is not there is said."""
    groups: list[Subgroup] = []
    estimates: list[SubgroupEstimate] = []
    notes: list[str] = []
    for one in parts:
        known = {column: None if one.board is None else traits_of(one.board, column) for column in columns}
        silent: dict[str, list[str]] = {}
        for column in columns:
            if known[column] is None:
                silent.setdefault(_why_not(one, column), []).append(f"'{column}'")
        notes += [f"{one.test_set.title}: no subgroups by {' or '.join(names)}, because {why}." for why, names in silent.items()]
        for column, texts in known.items():
            if one.board is None or texts is None:
                continue
            parted = part(column, texts)
            if parted is None or not parted.values:
                many = f"has more than {MOST} values that are no numbers" if parted is None else "is empty throughout"
                notes.append(f"{one.test_set.title}: column '{column}' {many}, so it makes no subgroups.")
                continue
            unknown = int((texts == "").sum())
            if unknown:
                notes.append(
                    f"{one.test_set.title}: column '{column}' is not known of {unknown:,} of {len(texts):,} units; they are in no subgroup."
                )
            found = list(_answered(one, one.board, column, parted, confidence))
            groups += [group for group, _ in found]
            estimates += [estimate for _, made in found for estimate in made if estimate.baseline is None]
            estimates += _adjusted([estimate for _, made in found for estimate in made if estimate.baseline is not None])
    return Subgroups(groups=tuple(groups), estimates=tuple(estimates), notes=tuple(notes))


def _why_not(one: Part, column: str) -> str:
    if one.board is None:
        return "nothing was scored"
    if any(column in scored.frame.traits for scored in one.board.scored.values()):
        return "runs disagree about it; evaluate them on one version of the data"
    have = sorted({name for scored in one.board.scored.values() for name in scored.frame.traits})
    hint = f"they have {', '.join(have)}" if have else "name it under `traits` in the card and submit the sweep again: it evaluates again"
    return f"the predictions have no such column; {hint}"


def _answered(one: Part, board: Board, column: str, parted: Parted, confidence: float) -> Iterator[tuple[Subgroup, list[SubgroupEstimate]]]:
    test_set = one.test_set
    options = {"measure": test_set.measure, "cluster": test_set.cluster, "confidence": confidence}
    overall = sum(label.in_measure for label in board.labels)
    by_place = {(each.arm, each.size): each for each in one.planned}
    for value in parted.values:
        inner = within(board, parted.of_unit == value)
        findings = sum(label.in_measure for label in inner.labels)
        status = (Status.NOT_ESTIMABLE,) if inner.clusters < 2 or not findings else (Status.FEW_CASES,) if inner.clusters < FEW else ()
        group = Subgroup(
            test_set=test_set.key,
            column=column,
            value=value,
            n_units=len(inner.frame.units),
            n_clusters=inner.clusters,
            n_findings=findings,
            n_findings_overall=overall,
            status=tuple(str(word) for word in status),
        )
        made = [_of_cell(cell(each, inner, None, **options), group) for each in one.planned]
        for each in one.differences:
            sides = (by_place[each.arm, each.size], by_place[each.baseline, each.size])
            made.append(_of_difference(difference(sides, inner, None, contrast=each.contrast, **options), group))
        yield group, made


def _of_cell(one: Cell, group: Subgroup) -> SubgroupEstimate:
    return SubgroupEstimate(
        test_set=group.test_set,
        column=group.column,
        value=group.value,
        arm=one.arm,
        baseline=None,
        contrast="",
        size=one.size,
        measure=one.measure,
        estimate=one.estimate,
        low=one.low,
        high=one.high,
        p=None,
        p_adjusted=None,
        family=0,
        estimand=one.estimand,
        method=one.method,
        n_replicates=one.n_replicates,
        status=_joined(one.status, group.status),
    )


def _of_difference(one: Difference, group: Subgroup) -> SubgroupEstimate:
    return SubgroupEstimate(
        test_set=group.test_set,
        column=group.column,
        value=group.value,
        arm=one.arm,
        baseline=one.baseline,
        contrast=one.contrast,
        size=one.size,
        measure=one.measure,
        estimate=one.estimate,
        low=one.low,
        high=one.high,
        p=one.p,
        p_adjusted=None,
        family=0,
        estimand=one.estimand,
        method=one.method,
        n_replicates=one.n_replicates,
        status=_joined(one.status, group.status),
    )


def _joined(own: Sequence[str], group: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, (*own, *group))))


def _adjusted(found: Sequence[SubgroupEstimate]) -> list[SubgroupEstimate]:
    """Adjust p values over the subgroups of one difference."""
    families: dict[tuple[str, str, str, str], list[SubgroupEstimate]] = {}
    for one in found:
        families.setdefault((one.contrast, one.arm, str(one.baseline), one.size), []).append(one)
    return [one for family in families.values() for one in _adjusted_family(family)]


def _adjusted_family(family: Sequence[SubgroupEstimate]) -> list[SubgroupEstimate]:
    """Adjust by Benjamini-Hochberg; differences of one run a side claim nothing and are in no family."""
    inside = [index for index, one in enumerate(family) if one.p is not None and Status.ONE_RUN not in one.status]
    changed = dict(zip(inside, benjamini_hochberg([family[index].p or 0.0 for index in inside]), strict=True))
    return [replace(one, p_adjusted=changed[index], family=len(inside)) if index in changed else one for index, one in enumerate(family)]
