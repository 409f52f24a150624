"""Chains: replicates of two arms, each followed through every number of labels, and which of them belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.report import cells
from orchestrator.report.board import Board, Scored
from orchestrator.report.cells import Group, Planned
from orchestrator.report.stats.curves import Chains
from orchestrator.report.stats.inference import Question, Replicates
from orchestrator.report.values import SizeInfo, TestSet

#: One replicate at every size, in the order of the sizes: one group of runs each.
Chain = tuple[Group, ...]
#: The same before replicates are grouped: one run each.
Runs = tuple[Scored, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """The chains of an arm and of its baseline. Matched: `a[i]` and `b[i]` saw the same labelled patients."""

    sizes: tuple[SizeInfo, ...]
    a: tuple[Chain, ...]
    b: tuple[Chain, ...]
    matched: bool
    #: Sizes that no chain can be followed through, each with why.
    left_out: tuple[str, ...] = ()
    #: Chains with a gap.
    incomplete: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Tell whether there are two sizes and two chains of each arm."""
        return len(self.sizes) > 1 and min(len(self.a), len(self.b)) > 1


def pair_chains(arm: Mapping[str, Planned], base: Mapping[str, Planned], test_set: TestSet, board: Board) -> Paired:
    """Follow replicates through the sizes at which both arms have two runs and more; `arm` and `base` are their cells by size."""
    used, left_out = _used(arm, base, test_set, board)
    sides = [_complete([cell[size.key] for size in used], board) if used else {} for cell in (arm, base)]
    incomplete = tuple(name for cell, chains in zip((arm, base), sides, strict=True) for name in _gaps(cell, used, chains, board))
    pairs = _matched(*sides)
    if pairs:
        a, b = _grouped(pairs)
    else:
        a, b = (_alone(list(side.values())) for side in sides)
    return Paired(sizes=tuple(used), a=a, b=b, matched=bool(pairs), left_out=left_out, incomplete=incomplete)


def position(size: SizeInfo) -> float | None:
    """Return the number of labels of a size, patients where they are known."""
    return size.n_labeled_patients if size.n_labeled_patients is not None else size.n_labeled


def x_of(sizes: Sequence[SizeInfo]) -> np.ndarray:
    """Return the logarithms of the numbers of labels, to the base 2: a step of one is a doubling."""
    return np.log2([float(position(size) or 0) for size in sizes])


def stacked(chains: Sequence[Chain]) -> tuple[Chains, np.ndarray]:
    """Return values and influence by chain and size, and bootstrap areas (chains, sizes, replicates), of the measure."""
    values = np.array([[group.value(None) for group in chain] for chain in chains])
    influence = np.stack([np.stack([group.influence(None) for group in chain]) for chain in chains])
    return Chains(values=values, influence=influence), np.stack([np.stack([group.replicates(None) for group in chain]) for chain in chains])


def question_of(paired: Paired, board: Board, test_set: TestSet, confidence: float) -> Question:
    """Return what is asked of chains: new ones, and new patients."""
    every = [one for side in (paired.a, paired.b) for chain in side for group in chain for one in group.members]
    positives, negatives = cells.fewest(board.labels, None)
    many = max((paired.a, paired.b), key=len)
    first = [chain[0] for chain in many]
    sides = [[one for chain in side for group in chain for one in group.members] for side in (paired.a, paired.b)]
    return Question(
        confidence=confidence,
        counts=board.counts,
        replicate=cells.replicate_word([one for group in first for one in group.members], first),
        cluster=test_set.cluster,
        given=tuple(dict.fromkeys(word for side in sides for word in cells.given(side))) if every else (),
        positives=positives,
        negatives=negatives,
        clusters=board.clusters,
        difference=True,
        scale=board.kind.scale,
    )


def at_boundary(chains: Sequence[Chain]) -> bool:
    """Tell whether any run's area is exactly 0 or 1."""
    return any(cells.at_boundary(chain, None) for chain in chains)


def read(chains: Sequence[Chain], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, Replicates]:
    """Return one number a chain, its influence, and what the bootstrap makes of it."""
    known, areas = stacked(chains)
    values, influence = known.read(weights)
    drawn = np.einsum("dkb,k->db", areas, weights, optimize=False)
    return values, influence, Replicates(values=values, areas=drawn, at_boundary=at_boundary(chains))


def _used(
    arm: Mapping[str, Planned], base: Mapping[str, Planned], test_set: TestSet, board: Board
) -> tuple[list[SizeInfo], tuple[str, ...]]:
    """Return the sizes that chains can be followed through, fewest labels first, and why others cannot."""
    used: dict[float, SizeInfo] = {}
    left_out: list[str] = []
    for size in test_set.sizes:
        if size.key not in arm or size.key not in base:
            continue
        sides, at = (arm[size.key], base[size.key]), position(size)
        why = _why_not(sides, board)
        if why or not at:
            left_out.append(f"{size.title}: {why or 'the number of labels is not known'}")
        elif at in used:
            left_out.append(f"{size.title}: as many labels as {used[at].title}")
        else:
            used[at] = size
    return [used[at] for at in sorted(used)], tuple(left_out)


def _why_not(sides: Sequence[Planned], board: Board) -> str:
    if min(len(side.runs) for side in sides) == 1:
        return "one run"
    return "fewer than two runs are there" if min(len(_scored(side, board)) for side in sides) < 2 else ""


def _scored(planned: Planned, board: Board) -> list[Scored]:
    return [one for one in planned.present(board) if None in one.areas and one.areas[None].influence is not None]


def _complete(by_size: Sequence[Planned], board: Board) -> dict[str, Runs]:
    """Return, by replicate, its runs at every size; a replicate with a gap is none."""
    known = [{one.run.place.replicate: one for one in _scored(planned, board)} for planned in by_size]
    return {name: tuple(one[name] for one in known) for name in known[0] if all(name in one for one in known)}


def _gaps(cell: Mapping[str, Planned], used: Sequence[SizeInfo], chains: Mapping[str, object], board: Board) -> list[str]:
    names = dict.fromkeys(run.place.replicate for size in used for run in cell[size.key].runs)
    arm = next((planned.arm for planned in cell.values()), "")
    return [f"{arm}: {name}" for name in names if name not in chains]


def _matched(a: Mapping[str, Runs], b: Mapping[str, Runs]) -> list[tuple[Runs, Runs]]:
    """Pair chains whose labelled patients are the same wherever draws differ; nothing when that does not tell chains apart."""
    differing = _differing([*a.values(), *b.values()])
    keyed: list[dict[tuple[str | None, ...], Runs]] = []
    for side in (a, b):
        own = {tuple(chain[index].run.draw.sha256 for index in differing): chain for chain in side.values()}
        if not differing or len(own) < len(side) or any(None in key for key in own):
            return []
        keyed.append(own)
    return [(chain, keyed[1][key]) for key, chain in keyed[0].items() if key in keyed[1]]


def _differing(chains: Sequence[Runs]) -> list[int]:
    """Return the sizes at which not every chain has the same patients: with all of them there are only seeds to tell chains apart."""
    return [index for index in range(len(chains[0]) if chains else 0) if len({chain[index].run.draw.sha256 for chain in chains}) > 1]


def _grouped(pairs: Sequence[tuple[Runs, Runs]]) -> tuple[tuple[Chain, ...], tuple[Chain, ...]]:
    """Make replicates of matched chains: one a pair, or one a pretraining when there are several but fewer of them than pairs."""
    behind = [f"{one[0].run.pretraining}|{other[0].run.pretraining}" for one, other in pairs]
    keys = sorted(set(behind))
    if not 2 <= len(keys) < len(pairs):
        return tuple(_chain([one]) for one, _ in pairs), tuple(_chain([other]) for _, other in pairs)
    rows = [[pair for pair, key in zip(pairs, behind, strict=True) if key == wanted] for wanted in keys]
    names = [f"pretraining {index}" for index in range(len(keys))]
    return (
        tuple(_chain([one for one, _ in row], name) for row, name in zip(rows, names, strict=True)),
        tuple(_chain([other for _, other in row], name) for row, name in zip(rows, names, strict=True)),
    )


def _alone(chains: Sequence[Runs]) -> tuple[Chain, ...]:
    """Make replicates of one side's chains, by the same rule."""
    keys = sorted({chain[0].run.pretraining for chain in chains if chain[0].run.pretraining})
    if not 2 <= len(keys) < len(chains):
        return tuple(_chain([chain]) for chain in chains)
    return tuple(
        _chain([chain for chain in chains if chain[0].run.pretraining == key], f"pretraining {index}") for index, key in enumerate(keys)
    )


def _chain(members: Sequence[Runs], name: str = "") -> Chain:
    named = name or members[0][0].run.place.replicate
    return tuple(Group(name=named, members=tuple(one[index] for one in members)) for index in range(len(members[0])))
