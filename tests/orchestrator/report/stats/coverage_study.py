"""How often the report's 95 % intervals hold the truth, and how often it tells equal arms apart: repeated experiments in made worlds.

`python -m tests.orchestrator.report.stats.coverage_study` writes docs/explanation/coverage.md. Every interval and p value comes from the
functions that the report calls; nothing here computes a statistic. A cell's random numbers depend on its own description alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from orchestrator.report.stats.bootstrap import Counts, resample
from orchestrator.report.stats.inference import Answer, Question, Replicates, answer
from orchestrator.report.stats.means import independent_t, paired_t
from orchestrator.report.stats.multireader import crossed, nested
from tests.orchestrator.report.stats.made_world import Arm, World, repetitions

REPETITIONS = 4_000
SEED, CONFIDENCE, EFFECT = 2026, 0.95, 0.03
POSITIVES, RHOS, DRAWS, SPREADS = (20, 50, 150), (0.0, 0.3), (3, 5, 10), (0.006, 0.02, 0.05)
#: What is promised, in per cent, and where; everywhere else coverage is at least FLOOR, or the cell carries a status.
PROMISED_COVERAGE, PROMISED_CLAIMS, FLOOR = (93.5, 96.5), (3.5, 6.5), 90.0
PAGE = Path(__file__).parents[4] / "docs" / "explanation" / "coverage.md"


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What repetitions of one world gave: how often each thing was so, of how many."""

    so: Counter[str] = field(default_factory=Counter)
    of: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, found: bool | None) -> None:
        """Count one repetition; None is one in which there was no such number."""
        if found is not None:
            self.so[name] += bool(found)
            self.of[name] += 1

    def share(self, name: str) -> float:
        """Return a share in per cent."""
        return 100 * self.so[name] / self.of[name]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One world with how often, and with how many bootstrap resamples, it is looked at."""

    world: World
    repetitions: int
    resamples: int = 0
    words: str = ""

    @property
    def key(self) -> str:
        """Describe the cell in one line; its random numbers come from it."""
        return json.dumps([asdict(self.world), self.resamples], sort_keys=True)

    @property
    def promised(self) -> bool:
        """Tell whether coverage and false claims are promised here."""
        world = self.world
        return world.draws >= 5 and world.draw_sd <= 0.02 and world.positives >= 50

    def measure(self) -> Tally:
        """Repeat the experiment."""
        world = self.world
        patients, positives = world.patients, world.positives
        none = Counts(tiles=(), units=patients, replicates=0, seed=SEED)
        counts = resample(patients, self.resamples, SEED) if self.resamples else none
        rng, tally = np.random.default_rng([SEED, zlib.crc32(self.key.encode())]), Tally()
        alone = Question(
            confidence=CONFIDENCE, counts=counts, replicate="draws", cluster="patients", positives=positives, negatives=patients - positives
        )
        between = replace(alone, difference=True)
        for first, *others in repetitions(world, self.repetitions, rng, counts):
            _note(tally, "arm", _of_one(first, alone), world.area)
            for effect, other in zip(world.effects, others, strict=True):
                name = "null" if effect == 0.0 else "gap"
                _note(tally, name, _of_two(other, first, between, matched=world.matched), effect)
                _note_others(tally, name, other, first)
        return tally


def _of_one(arm: Arm, question: Question) -> Answer:
    """Ask as `cells.cell` does."""
    return answer(crossed(arm.values, arm.influence), (_replicates(arm),), question)


def _of_two(arm: Arm, base: Arm, question: Question, *, matched: bool) -> Answer:
    """Ask as `differences.difference` does, for matched arms and for others."""
    if not matched:
        return answer(nested(arm.values, arm.influence, base.values, base.influence), (_replicates(arm), _replicates(base)), question)
    gap = Replicates(values=arm.values - base.values, areas=arm.areas - base.areas, at_boundary=arm.at_boundary or base.at_boundary)
    return answer(crossed(gap.values, arm.influence - base.influence), (gap,), question)


def _replicates(arm: Arm) -> Replicates:
    return Replicates(values=arm.values, areas=arm.areas, at_boundary=arm.at_boundary)


def _note(tally: Tally, name: str, found: Answer, truth: float) -> None:
    head = found.headline
    tally.add(f"{name}/covered", None if head.low is None or head.high is None else head.low <= truth <= head.high)
    tally.add(f"{name}/claimed", None if head.p is None else head.p < 1 - CONFIDENCE)
    tally.add(f"{name}/status", bool(found.status))
    for one in found.estimates:
        tally.add(f"{name}/{one.method}", None if one.low is None or one.high is None else one.low <= truth <= one.high)


def _note_others(tally: Tally, name: str, arm: Arm, base: Arm) -> None:
    for test in (independent_t, paired_t):
        p = test(arm.values, base.values).p
        tally.add(f"{name}/{test.__name__}", None if p is None else p < 1 - CONFIDENCE)


def grid(count: int = REPETITIONS) -> list[Cell]:
    """Return the cells of the study: every combination, with matched and with unmatched draws."""
    return [
        Cell(
            world=World(positives=positives, draws=draws, draw_sd=sd, rho=rho, matched=matched, effects=(0.0, EFFECT)),
            repetitions=count,
        )
        for positives in POSITIVES
        for rho in RHOS
        for draws in DRAWS
        for sd in SPREADS
        for matched in (True, False)
    ]


def twins(count: int = REPETITIONS // 4) -> list[Cell]:
    """Return the cells in which the bootstrap twin is looked at too."""
    return [
        Cell(world=World(positives=50, draws=draws, draw_sd=sd, rho=0.3, effects=(EFFECT,)), repetitions=count, resamples=1000)
        for draws in DRAWS
        for sd in SPREADS
    ]


def beyond(count: int = REPETITIONS) -> list[Cell]:
    """Return cells that the grid does not hold and that people meet."""
    usual = {"positives": 50, "draws": 5, "draw_sd": 0.02, "rho": 0.3, "effects": (0.0, EFFECT)}
    high = {"area": 0.95, "draw_sd": 0.01, "effects": (0.0, 0.01)}
    asked: list[tuple[str, Mapping[str, object], int]] = [
        ("two draws", {"draws": 2}, 0),
        ("10 positive patients", {"positives": 10}, 400),
        ("5 positive patients", {"positives": 5}, 400),
        ("area .95, draws sd .01", high, 400),
        ("area .95, draws sd .01, 20 positive patients", {**high, "positives": 20}, 400),
        ("a patient in ten has 40 images", {"images": (1, 1, 1, 1, 2, 2, 2, 3, 5, 40)}, 0),
        ("arms whose draws spread differently, sd .006 and .05, not matched", {"draw_sd": 0.006, "other_sd": 0.05, "matched": False}, 0),
        ("the same, matched", {"draw_sd": 0.006, "other_sd": 0.05}, 0),
        ("mean over six findings", {"findings": 6}, 0),
    ]
    return [
        Cell(words=words, world=World(**{**usual, **changes}), repetitions=count, resamples=resamples)  # type: ignore[arg-type]
        for words, changes, resamples in asked
    ]


def run(cells: Iterable[Cell], memory: Path | None = None) -> list[tuple[Cell, Tally]]:
    """Measure cells in order; `memory` keeps what was measured, so that an interrupted study goes on."""
    known: dict[str, Tally] = {}
    if memory is not None and memory.exists():
        for line in memory.read_text(encoding="utf-8").splitlines():
            kept = json.loads(line)
            known[kept["key"]] = Tally(so=Counter(kept["so"]), of=Counter(kept["of"]))
    found: list[tuple[Cell, Tally]] = []
    for cell in cells:
        key = f"{cell.repetitions} {cell.key}"
        if key not in known:
            known[key] = cell.measure()
            if memory is not None:
                with memory.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": key, "so": known[key].so, "of": known[key].of}) + "\n")
        found.append((cell, known[key]))
    return found


def main(arguments: Sequence[str]) -> int:
    """Run the study and write its page."""
    from tests.orchestrator.report.stats.coverage_page import page

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--memory", type=Path, help="a file that keeps finished cells, so that an interrupted study goes on")
    asked = parser.parse_args(arguments)
    count: int = asked.repetitions
    parts = [run(cells, asked.memory) for cells in (grid(count), beyond(count), twins(max(1, count // 4)))]
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(page(*parts, count), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
