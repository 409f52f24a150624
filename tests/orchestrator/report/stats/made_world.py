"""A made world whose truth is known: patients, draws and arms with areas under the ROC curve that can be written down.

Scores are normal with variance 1. A positive image scores higher by a separation; a draw of an arm has a separation of its own, so its
area is `Phi(separation / sqrt 2)`, and over draws areas have exactly the mean and the standard deviation that the world asks for. Noise has
parts that all models share (a hard image is hard for everybody), that an arm has in all its draws, that a draw has in all matched arms, and
that is a model's own; each part is the patient's by a share `rho`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, stats

from orchestrator.report.stats.bootstrap import Counts, auroc_replicates
from orchestrator.report.stats.influence import influence

PREVALENCE = 0.15
#: Shares of the variance of a score: every model, an arm, a draw in all matched arms, a model alone.
EVERYBODY, ARM, DRAW, OWN = 0.45, 0.25, 0.10, 0.20


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One population, and how two arms are trained and tested in it."""

    #: Patients with a positive image; 85 of 100 patients have none.
    positives: int
    draws: int
    #: Standard deviation over draws of an arm's area in the population.
    draw_sd: float
    rho: float
    matched: bool = True
    area: float = 0.80
    #: What the second arm's mean area has over the first's, on the same patients and draws for each.
    effects: tuple[float, ...] = (0.0,)
    #: The second arm's, where it differs.
    other_sd: float | None = None
    #: Images of the patients of a class, in turn; half of a positive patient's images are positive, rounded up.
    images: tuple[int, ...] = (1, 1, 2, 4)
    #: Findings that a measure averages, of the same patients, with noise and luck of their own.
    findings: int = 1

    @property
    def patients(self) -> int:
        """Return how many patients the test set has."""
        return self.positives + round(self.positives * (1 - PREVALENCE) / PREVALENCE)

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the truth and the patient of each image, (images,) each."""
        sizes = [self.images[index % len(self.images)] for index in range(self.positives)]
        sizes += [self.images[index % len(self.images)] for index in range(self.patients - self.positives)]
        truth: list[int] = []
        for patient, size in enumerate(sizes):
            marked = (size + 1) // 2 if patient < self.positives else 0
            truth += [1] * marked + [0] * (size - marked)
        return np.array(truth, np.int8), np.repeat(np.arange(self.patients), sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What the report knows of one arm: areas (draws,), influence values (draws, patients), bootstrap areas (draws, resamples)."""

    values: np.ndarray
    influence: np.ndarray
    areas: np.ndarray
    at_boundary: bool


@cache
def separation(area: float, draw_sd: float) -> tuple[float, float]:
    """Return mean and standard deviation over draws of a separation whose areas have mean `area` and standard deviation `draw_sd`."""
    node, weight = np.polynomial.hermite_e.hermegauss(101)
    weight = weight / weight.sum()

    def mean_for(spread: float) -> float:
        return float(stats.norm.ppf(area)) * math.sqrt(2 + spread**2)

    def excess(spread: float) -> float:
        areas = stats.norm.cdf((mean_for(spread) + spread * node) / math.sqrt(2))
        return math.sqrt(float(weight @ (areas - area) ** 2)) - draw_sd

    spread = float(optimize.brentq(excess, 1e-9, 20.0, xtol=1e-14)) if draw_sd > 0 else 0.0  # type: ignore[arg-type]
    return mean_for(spread), spread


def repetitions(world: World, count: int, rng: np.random.Generator, counts: Counts) -> Iterator[list[Arm]]:
    """Yield, `count` times, the first arm and the second at each effect: new patients, new draws, new models."""
    truth, patient = world.truth()
    for _ in range(count):
        findings = [
            [_arm(truth, patient, one, world.patients, counts) for one in scores(world, truth, patient, rng)] for _ in range(world.findings)
        ]
        yield [_mean(arms) for arms in zip(*findings, strict=True)]


def scores(world: World, truth: np.ndarray, patient: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Return one finding's scores (draws, images) of the first arm and of the second at each effect."""

    def noise(share: float, models: int) -> np.ndarray:
        of_patient = rng.standard_normal((models, world.patients))[:, patient] if world.rho else 0.0
        of_image = rng.standard_normal((models, len(truth)))
        return math.sqrt(share) * (math.sqrt(world.rho) * of_patient + math.sqrt(1 - world.rho) * of_image)

    everybody, of_arm, draws = noise(EVERYBODY, 1), noise(ARM, 2), world.draws
    of_draw = [noise(DRAW, draws)] * 2 if world.matched else [noise(DRAW, draws), noise(DRAW, draws)]
    # Half of what a draw does to the area it does to both matched arms.
    shared, apart = rng.standard_normal(draws), rng.standard_normal((2, draws))
    luck = (shared + apart) / math.sqrt(2) if world.matched else apart
    # The same noise and luck at every effect, so that effects differ by nothing else.
    base = [everybody + of_arm[side] + of_draw[side] + noise(OWN, draws) for side in (0, 1)]
    wanted = [(0, world.area, world.draw_sd), *((1, world.area + effect, world.other_sd or world.draw_sd) for effect in world.effects)]
    levels = [(side, *separation(area, sd)) for side, area, sd in wanted]
    return [base[side] + (mean + spread * luck[side])[:, None] * truth for side, mean, spread in levels]


def _arm(truth: np.ndarray, patient: np.ndarray, of_draws: np.ndarray, patients: int, counts: Counts) -> Arm:
    moved = [influence(truth, score, patient, patients) for score in of_draws]
    areas = [auroc_replicates(truth, score, patient, counts) if counts.replicates else np.empty(0) for score in of_draws]
    known = [one for one in moved if one is not None]
    values = np.array([one.auroc for one in known])
    return Arm(
        values=values,
        influence=np.stack([one.values for one in known]),
        areas=np.stack(areas),
        at_boundary=bool(np.isin(values, (0.0, 1.0)).any()),
    )


def _mean(findings: Sequence[Arm]) -> Arm:
    if len(findings) == 1:
        return findings[0]
    return Arm(
        values=np.mean([one.values for one in findings], axis=0),
        influence=np.mean([one.influence for one in findings], axis=0),
        areas=np.mean([one.areas for one in findings], axis=0),
        at_boundary=any(one.at_boundary for one in findings),
    )
