"""What is said of a study as a whole, as plain values beside those of single cells and differences."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.report.stats.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPoint:
    """One chain's own value: a replicate followed through every number of labels."""

    replicate: str
    #: None where a factor lies outside of what was measured.
    value: float | None
    #: `above`, `below`, or empty.
    beyond: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveDifference:
    """One number for two whole curves, an arm less its baseline.

    `kind` is `area_between` (the mean difference over the logarithm of the number of labels) or `trend` (what the difference gains with
    every doubling of the labels).
    """

    test_set: str
    contrast: str
    arm: str
    baseline: str
    measure: str
    kind: str
    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    adjustment: str
    family: int
    estimand: str
    method: str
    #: matched or nested, over chains; none when there are no two chains through two sizes.
    matching: str
    status: tuple[str, ...]
    #: Sizes that the curves are read at.
    sizes: tuple[str, ...]
    n_chains: int
    #: Sizes that were left out, each with why.
    left_out: tuple[str, ...] = ()
    #: Chains of either arm that have a gap and were left out.
    incomplete: tuple[str, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    points: tuple[ChainPoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """How many times as many labels the baseline needs to score as the arm does with one number of labels."""

    test_set: str
    contrast: str
    arm: str
    baseline: str
    size: str
    measure: str
    #: None where the baseline's curve has no such value.
    factor: float | None
    #: `above`: the baseline never reaches the value with the labels that were tried; `below`: it has it with the fewest of them.
    beyond: str
    #: The fewest and the most labels that the baseline was tried with, as factors: nothing is said beyond them.
    lowest: float
    highest: float
    #: An end that lies outside of what was measured is None.
    low: float | None
    high: float | None
    estimand: str
    method: str
    matching: str
    status: tuple[str, ...]
    n_chains: int
    points: tuple[ChainPoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The half width that is expected with other numbers."""

    replicates: int
    #: Test patients as a multiple of those there are.
    patients: float
    half_width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceSplit:
    """The variance of one replicate's value by its sources, of an arm or of a difference, and what would narrow the interval."""

    test_set: str
    arm: str
    #: None for an arm by itself.
    baseline: str | None
    contrast: str | None
    size: str
    measure: str
    estimand: str
    n_replicates: int
    #: Variances: of a draw, of the patients on all draws alike, and of what patients do to one draw alone.
    draw: float
    patient: float
    interaction: float
    half_width: float
    #: The half width that no number of draws goes below.
    limit: float
    forecasts: tuple[Forecast, ...]
    #: Replicates up to which one more narrows the interval by a twentieth or more.
    enough: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoreDraws:
    """Draws that are worth adding: what `--repeats` takes, and why."""

    option: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginVerdict:
    """One declared difference against the margin of the sweep."""

    test_set: str
    contrast: str
    arm: str
    baseline: str
    size: str
    measure: str
    margin: float
    estimate: float | None
    estimand: str
    #: equivalent, not_worse, not_shown, or silent where it cannot be tested.
    outcome: str
    status: tuple[str, ...]
    #: The interval of level 1 - 2 alpha, which two one-sided tests look at.
    low: float | None = None
    high: float | None = None
    p_equivalent: float | None = None
    p_equivalent_adjusted: float | None = None
    p_not_worse: float | None = None
    p_not_worse_adjusted: float | None = None
    family: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDifference:
    """One arm less another of all pairs; `p_adjusted` is by max-t over all pairs and numbers of labels of the test set."""

    test_set: str
    arm: str
    baseline: str
    size: str
    measure: str
    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    family: int
    estimand: str
    method: str
    matching: str
    status: tuple[str, ...]
    n_replicates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChoice:
    """Which arm of a group validation chose in one replicate."""

    group: str
    replicate: str
    arm: str
    #: Its validation metric; None where the group has one arm and nothing is chosen.
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDifference:
    """The best arm of one group less the best of another, each chosen on validation in every replicate."""

    test_set: str
    group: str
    other: str
    size: str
    measure: str
    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    adjustment: str
    family: int
    estimand: str
    method: str
    matching: str
    status: tuple[str, ...]
    n_replicates: int
    #: Arms that each side chose among with this number of labels.
    n_arms: int
    n_arms_other: int
    #: The validation metric, and on how many patients it was measured.
    chosen_by: str
    n_val_patients: int | None
    #: Why nothing is chosen.
    reason: str = ""
    choices: tuple[GroupChoice, ...] = ()
    #: Replicates in which an arm of a group is missing, so that nothing is chosen.
    left_out: tuple[str, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    points: tuple[ChainPoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRank:
    """The place of one arm among those with as many labels, the first being the best, and how it moves over resamples."""

    test_set: str
    arm: str
    size: str
    measure: str
    #: By the estimate.
    rank: int
    mean_rank: float
    #: Places that hold the arm at the report's confidence.
    low: int
    high: int
    #: Share of resamples in which it is first; ties share.
    first: float
    #: The same of every place.
    shares: tuple[float, ...]
    estimand: str
    #: Whether all arms share their draws, which are then redrawn together.
    matched: bool
    n_replicates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Borrowed:
    """What an interval of a lone run would be if draws spread as they do with fewer labels: an assumption, and no headline."""

    test_set: str
    arm: str
    #: None for an arm by itself.
    baseline: str | None
    contrast: str | None
    size: str
    measure: str
    estimate: float
    low: float
    high: float
    se: float
    df: float | None
    estimand: str
    #: The number of labels whose draws lend their spread, and how many draws it has.
    from_size: str
    n_replicates: int
    #: The interval over patients alone, which the run has of its own.
    own_low: float | None
    own_high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """An arm, or a declared difference, averaged over test sets with equal weights."""

    test_sets: tuple[str, ...]
    arm: str
    title: str
    #: None for an arm by itself.
    baseline: str | None
    baseline_title: str | None
    #: The arm of each test set: one and the same, or, where each test set's card is what was trained on, another on each.
    arms: tuple[str, ...]
    baseline_arms: tuple[str, ...]
    contrast: str | None
    size: str
    measure: str
    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    adjustment: str
    family: int
    estimand: str
    method: str
    #: As of a difference; empty for an arm.
    matching: str
    status: tuple[str, ...]
    n_replicates: int
    #: Clusters of all test sets, and how many of them are in two and more.
    n_clusters: int
    n_shared: int
    #: Replicates that a test set, or the other arm, lacks.
    missing: tuple[str, ...] = ()
    estimates: tuple[Estimate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """All that is said of a study as a whole."""

    curve_differences: tuple[CurveDifference, ...] = ()
    equivalences: tuple[Equivalence, ...] = ()
    variance_splits: tuple[VarianceSplit, ...] = ()
    more_draws: MoreDraws | None = None
    margins: tuple[MarginVerdict, ...] = ()
    pairs: tuple[PairDifference, ...] = ()
    groups: tuple[GroupDifference, ...] = ()
    ranks: tuple[ArmRank, ...] = ()
    borrowed: tuple[Borrowed, ...] = ()
    averages: tuple[Average, ...] = ()
