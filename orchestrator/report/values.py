"""What a report holds: plain values, from which every page, table and figure is made. No number is computed anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.spec import Json, Scalar
from orchestrator.model import Contamination
from orchestrator.report.diagnostics.values import Diagnostics
from orchestrator.report.pictures.values import Picture
from orchestrator.report.stats.estimate import Estimate
from orchestrator.report.study.values import Study
from orchestrator.report.subgroups.values import Subgroups
from orchestrator.report.view_values import View as View

#: Version of the layout of `report.json`; raised when a key changes its meaning or goes away.
SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One replicate's value: a dot in a figure, a row in the ledger."""

    replicate: str
    value: float
    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One arm with one number of labels on one test set. `label` is None for the headline measure, else one finding's area."""

    test_set: str
    arm: str
    size: str
    measure: str
    label: str | None
    # the headline, flat, for people who load the JSON as a table
    estimate: float | None
    low: float | None
    high: float | None
    estimand: str
    method: str
    status: tuple[str, ...]
    n_labeled: float | None
    n_labeled_patients: float | None
    n_planned: int
    n_runs: int
    #: Replicates that the interval rests on: draws, or pretraining runs where there are fewer of those.
    n_replicates: int
    n_pretrainings: int
    #: Images a run whose structure was not found, and which count the diagonal of the image as their distance; None where there is none.
    n_penalised: float | None = None
    missing: tuple[str, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    #: Mean squares and covariances that the variance is made of.
    components: Mapping[str, float | None] = field(default_factory=dict)
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One arm less its baseline, with one number of labels on one test set."""

    test_set: str
    contrast: str
    arm: str
    baseline: str
    size: str
    measure: str
    label: str | None
    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    #: `holm` in the declared family, `benjamini_hochberg` over findings (exploratory), empty where nothing was adjusted.
    adjustment: str
    family: int
    estimand: str
    method: str
    #: matched, nested, fixed_reference, one_run, none.
    matching: str
    status: tuple[str, ...]
    n_replicates: int
    #: Replicates of either arm that have no partner and were left out.
    unmatched: tuple[str, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldArea:
    """One arm whose cases were held out fold by fold: an area within folds and the range that chance gives. No interval."""

    test_set: str
    arm: str
    label: str
    estimate: float | None
    chance_low: float | None
    chance_high: float | None
    chance_p: float | None
    assignments: int
    exact: bool
    n_folds: int
    n_planned: int
    n_positive_patients: int
    n_negative_patients: int
    status: tuple[str, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicateTest:
    """One test of a declared difference over its replicates alone; the test set is held fixed."""

    test_set: str
    contrast: str
    arm: str
    baseline: str
    size: str
    method: str
    #: Observations, or pairs that are not zero.
    n: int
    statistic: float | None
    p: float | None
    #: No data of this size and these ties can give a smaller p; 0 where the reference distribution is continuous.
    smallest_p: float | None
    df: float | None
    exact: bool
    assignments: int
    status: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapTest:
    """One declared difference of one run a side, tested by exchanging the two models patient by patient; areas under the ROC curve."""

    test_set: str
    arm: str
    baseline: str
    size: str
    measure: str
    #: None is the measure.
    label: str | None
    #: Clusters in which the two models differ, and which are therefore exchanged.
    n: int
    #: The arm's area less the baseline's.
    statistic: float | None
    p: float | None
    #: No exchange of these models can give a smaller p.
    smallest_p: float | None
    exact: bool
    assignments: int
    #: Of the same difference, from influence values.
    analytic_p: float | None
    status: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What the procedure of an original study makes of the same predictions, and what this report says there: one row of `as_published`."""

    procedure: str
    test_set: str
    size: str
    arm: str
    #: The arm that it is set against: the declared baseline, or the best arm.
    baseline: str | None
    #: None is the measure.
    label: str | None
    #: Runs that went into it.
    n_runs: int
    #: What it prints; of an arm alone, or, where bounds are of a difference, of the arm less its baseline.
    estimate: float | None = None
    #: Standard deviation over runs, divided by n.
    spread: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    #: How it is read: higher, lower, open (no difference shown), best, or empty where nothing is tested.
    claim: str = ""
    ours_estimate: float | None
    ours_low: float | None
    ours_high: float | None
    ours_estimand: str
    #: Adjusted.
    ours_p: float | None = None
    ours_claim: str = ""
    status: tuple[str, ...] = ()
    not_covered: str
    #: Where the arm is the best of a group, and its baseline that of another: the names of the two.
    groups: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelInfo:
    """How much of a finding a test set holds."""

    name: str
    title: str
    n_positive: int
    n_negative: int
    n_positive_patients: int
    n_negative_patients: int
    #: Share of bootstrap replicates in which both classes were drawn.
    valid_share: float
    in_measure: bool
    status: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmInfo:
    """One row of the headline table."""

    key: str
    title: str
    phase: str
    labels: Mapping[str, Scalar]
    #: A method that sees no network features: what a shortcut would reach.
    floor: bool
    #: Candidates of the tune axes that a pick chose among, a replicate; 0 where nobody says.
    candidates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeInfo:
    """One column of the headline table."""

    key: str
    title: str
    #: Mean over the runs that are there.
    n_labeled: float | None
    n_labeled_patients: float | None
    #: Share of its patients that a draw has in common with another one of the same pool, on average; None where nobody says.
    overlap: float | None = None
    #: Most patients that a pick of these runs was validated on.
    n_val_patients: int | None = None
    #: The fewest and the most units of a draw, where draws of one size differ in it (`draws.sizes: random`).
    drawn_range: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet:
    """One population that runs were scored on, with the arms and sizes that were."""

    key: str
    title: str
    card: str
    split: str
    unit: str
    cluster: str
    digest: str
    n_units: int
    n_patients: int
    n_clusters: int
    measure: str
    measure_title: str
    labels: tuple[LabelInfo, ...]
    arms: tuple[ArmInfo, ...]
    sizes: tuple[SizeInfo, ...]
    by_folds: bool = False
    notes: tuple[str, ...] = ()
    #: What runs left: logits, probabilities or masks.
    scores: str = "logits"
    #: Of the headline measure.
    higher_is_better: bool = True
    #: What the headline measure is where nothing is discriminated, if that is one number.
    reference: float | None = 0.5
    #: The measure by finding, what it is called, and the same two facts of it.
    label_measure: str = "auroc"
    label_measure_title: str = "AUROC"
    label_higher_is_better: bool = True
    label_reference: float | None = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A published value with its source: a row that nothing is tested against."""

    test_set: str
    title: str
    size: str
    measure: str
    value: float
    low: float | None
    high: float | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One planned evaluation, there or not. `by_label` names the checkpoints of each label, where each has its own."""

    job: str
    train_job: str | None
    trial: str
    test_set: str
    arm: str
    size: str
    replicate: str
    present: bool
    value: float | None
    n_labeled_patients: int | None
    n_labeled_images: int | None
    draw: str | None
    checkpoint: str | None
    by_label: Mapping[str, str]
    epoch: float | None
    picked: Mapping[str, Json]
    picked_value: float | None
    candidates: int
    #: How many of them a search stopped before their end.
    stopped: int
    #: How many of them diverged, collapsed, or gave no value to choose by.
    lost: int
    #: A tuned value that stands at the end of its grid: the best may lie beyond.
    at_edge: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One sentence about one declared contrast. `tone` is better, worse, open (no difference shown) or silent (no claim possible)."""

    test_set: str
    contrast: str
    size: str
    tone: str
    claim: str
    #: Names of arms in the claim.
    names: tuple[str, ...]
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a report says."""

    sweep: str
    title: str
    about: str
    made_data: bool
    sample: bool
    makes_verdicts: bool
    confidence: float
    resamples: int
    n_planned: int
    n_present: int
    test_sets: tuple[TestSet, ...]
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...]
    label_cells: tuple[Cell, ...]
    label_differences: tuple[Difference, ...]
    folds: tuple[FoldArea, ...]
    #: Operating points, calibration and curves.
    diagnostics: Diagnostics
    subgroups: Subgroups
    #: Comparisons that concern the study as a whole.
    study: Study
    ledger: tuple[LedgerRow, ...]
    verdicts: tuple[Verdict, ...]
    #: Sentences that the sweep asks for on the first page.
    notes: tuple[str, ...]
    #: What the plan said of itself: axes that collapsed, what a sample dropped.
    plan_notes: tuple[str, ...]
    warnings: tuple[str, ...]
    methods: tuple[str, ...]
    #: What the procedures of original studies make of the same predictions, where the sweep asks for it.
    as_published: tuple[Published, ...] = ()
    #: Declared differences over their replicates alone.
    replicate_tests: tuple[ReplicateTest, ...] = ()
    #: Declared differences of single models, by exchanging them.
    swap_tests: tuple[SwapTest, ...] = ()
    views: tuple[View, ...] = ()
    #: Published values, as the sweep gives them.
    references: tuple[Reference, ...] = ()
    #: Test sets of which training may have seen images, and that the sweep allows.
    contamination: tuple[Contamination, ...] = ()
    #: What else the headline's runs can be measured by, where they drew masks: one entry an arm, number of labels and measure.
    further: tuple[Cell, ...] = ()
    #: What jobs drew of a few fixed images.
    pictures: tuple[Picture, ...] = ()
    schema: int = SCHEMA
