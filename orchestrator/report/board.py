"""One test set and every run on it: the same rows, the same resamples, and per run the numbers that all answers are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.errors import ReportError
from orchestrator.report.frames import Frame, first_disagreement
from orchestrator.report.kinds import KINDS, Kind, Measured
from orchestrator.report.measures import label_infos, members
from orchestrator.report.results import Run
from orchestrator.report.stats.bootstrap import Counts, engine_for, resample
from orchestrator.report.values import LabelInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One run with its measures by finding; under None the headline measure, absent when it cannot be made."""

    run: Run
    #: What it was scored on, in the order of the board's.
    frame: Frame
    areas: Mapping[str | None, Measured]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a test set is asked."""

    kind: Kind
    #: The findings that the measure is over.
    wanted: tuple[str, ...]
    #: What is resampled: patient, study or image.
    by: str
    resamples: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One test set with all runs that are there."""

    frame: Frame
    asked: _Asked
    #: Of the headline measure.
    kind: Kind
    counts: Counts
    #: The cluster of each unit of the frame, as codes from 0.
    cluster: np.ndarray
    clusters: int
    labels: tuple[LabelInfo, ...]
    scored: Mapping[str, Scored]
    #: Findings that only some runs score, and which therefore no run is compared on.
    left_out: tuple[str, ...]

    def kind_of(self, label: str | None) -> Kind:
        """Return the kind of the headline measure (None), or of a finding's."""
        return KINDS[self.kind.by_finding] if label is not None and self.kind.pooled else self.kind


def check_same_rows(runs: Sequence[Run], title: str) -> None:
    """Refuse runs that were scored on different rows. Raises ReportError naming the runs of the smaller group."""
    digests: dict[str, list[Run]] = {}
    for run in runs:
        digests.setdefault(str((run.result or {}).get("test_digest", "")), []).append(run)
    if len(digests) > 1:
        groups = sorted(digests.values(), key=lambda group: (len(group), group[0].name))
        odd, usual = groups[0], groups[-1]
        raise ReportError(
            f"test set {title}: {_names(odd)} scored {_rows(odd[0])}, and {_names(usual)} {_rows(usual[0])}; they cannot be compared"
            f"{_where(odd[0], usual[0])}. Evaluate them on the same split of the same card"
        )


def _names(runs: Sequence[Run]) -> str:
    named = ", ".join(run.name for run in runs[:3])
    return named if len(runs) <= 3 else f"{named} and {len(runs) - 3} more"


def _where(run: Run, other: Run) -> str:
    if run.predictions is None or other.predictions is None:
        return ""
    found = first_disagreement(run.predictions, other.predictions, (run.name, other.name))
    return f": {found}" if found else ""


def _rows(run: Run) -> str:
    result = run.result or {}
    count = result.get("n_units", result.get("n_images", "?"))
    return f"{count} units (digest {str(result.get('test_digest', 'none'))[:12]})"


def lay_out(
    runs: Sequence[Run], *, title: str, measure: str, groups: Mapping[str, Sequence[str]], cluster: str, resamples: int, seed: int = 0
) -> Board:
    """Align runs on one frame and compute their areas. Raises ReportError when they were not scored on the same rows and truths."""
    check_same_rows(runs, title)
    if len({type(run.predictions) for run in runs}) > 1:
        raise ReportError(f"test set {title}: some of its runs left scores and others masks; give them different test sets")
    every = [one.labels for run in runs if (one := run.predictions) is not None]
    common = [label for label in every[0] if all(label in labels for labels in every)]
    if not common:
        raise ReportError(f"test set {title}: its runs share no label, so nothing can be compared; give their phases the same labels")
    frames = {run.job: run.predictions.only(common) for run in runs if run.predictions is not None}
    first = frames[runs[0].job]
    for run in runs[1:]:
        if frames[run.job].frame_digest() != first.frame_digest():
            raise ReportError(
                f"test set {title}: {run.name} and {runs[0].name} scored the same units against different truths or patients"
                f"{_where(run, runs[0])}. One of them is from another version of the data: evaluate both again"
            )
    kind, wanted = members(measure, first, groups)
    left_out = tuple(sorted({label for labels_ in every for label in labels_} - set(common)))
    asked = _Asked(kind=kind, wanted=wanted, by=cluster, resamples=resamples, seed=seed)
    return _board({run.job: run for run in runs}, frames, asked, left_out)


def within(board: Board, rows: np.ndarray) -> Board:
    """Return some units of a test set, a boolean mask (units,), as a test set of their own: other clusters, other resamples."""
    frames = {job: one.frame.rows(rows) for job, one in board.scored.items()}
    return _board({job: one.run for job, one in board.scored.items()}, frames, board.asked, board.left_out)


def redrawn(board: Board, counts: Counts) -> dict[str, Measured]:
    """Return the headline measure of every run that has one, by job, over other resamples of the board's clusters."""
    areas = {job: _areas(one.frame, board.cluster, counts, board.labels, board.asked.kind) for job, one in board.scored.items()}
    return {job: found[None] for job, found in areas.items() if None in found}


def _board(runs: Mapping[str, Run], frames: Mapping[str, Frame], asked: _Asked, left_out: tuple[str, ...]) -> Board:
    frames = {job: frames[job] for job in runs}
    first = next(iter(frames.values()))
    codes = first.clusters(asked.by)
    work = len(codes) * len(first.labels) * len(runs) * asked.resamples
    counts = resample(int(codes.max()) + 1, asked.resamples, asked.seed, engine=engine_for(work))
    labels = label_infos(first, codes, counts, asked.kind, asked.wanted)
    return Board(
        frame=first,
        asked=asked,
        kind=asked.kind,
        counts=counts,
        cluster=codes,
        clusters=counts.units,
        labels=labels,
        scored={
            job: Scored(run=run, frame=frame, areas=_areas(frame, codes, counts, labels, asked.kind))
            for (job, run), frame in zip(runs.items(), frames.values(), strict=True)
        },
        left_out=left_out,
    )


def _areas(frame: Frame, cluster: np.ndarray, counts: Counts, labels: Sequence[LabelInfo], kind: Kind) -> dict[str | None, Measured]:
    by_finding = KINDS[kind.by_finding] if kind.pooled else kind
    found = {label.name: by_finding.of(frame, column, cluster, counts) for column, label in enumerate(labels)}
    areas: dict[str | None, Measured] = {name: _placed(one, by_finding) for name, one in found.items() if one is not None}
    if kind.pooled:
        whole = kind.of(frame, 0, cluster, counts)
        return areas if whole is None else {**areas, None: _placed(whole, kind)}
    inside = [areas[label.name] for label in labels if label.in_measure and label.name in areas]
    return {**areas, None: _placed(_mean(inside), kind)} if inside else areas


def _placed(one: Measured, kind: Kind) -> Measured:
    return replace(one, at_end=kind.scale.at_end(one.value))


def _mean(areas: Sequence[Measured]) -> Measured:
    """Average over findings; a replicate averages those in which both classes were drawn, which are the same for every run."""
    drawn = np.stack([area.replicates for area in areas])
    valid = np.isfinite(drawn)
    with np.errstate(invalid="ignore"):
        replicates = np.where(valid, drawn, 0.0).sum(axis=0) / valid.sum(axis=0)
    return Measured(
        value=float(np.mean([area.value for area in areas])),
        influence=np.mean([area.influence for area in areas if area.influence is not None], axis=0),
        replicates=replicates,
        constant=any(area.constant for area in areas),
        penalised=sum(area.penalised for area in areas),
    )
