"""The values that the orchestrator thinks in: a sweep as written, a plan as expanded, a cluster as configured. All frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from jobs.spec import JobSpec, Json, Resources, Scalar
from orchestrator.notify.settings import Notify

#: Marks an arm without a parent phase (`compare: {after: [pretrain, none]}`).
NO_PARENT = "none"
#: `data: same` in an evaluation: the card that the run was trained on.
SAME_DATA = "same"
DEFAULT_ROLE = "init"
#: Plans beyond this ask for `--yes`.
MANY_JOBS = 10_000


class AxisKind(StrEnum):
    """What the values of an axis are to each other, and the heart of the grammar. Three kinds and no fourth."""

    #: The report sets them side by side.
    COMPARE = "compare"
    #: Pick chooses among them on validation.
    TUNE = "tune"
    #: They are averaged with an interval and never chosen.
    REPLICATE = "replicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of a phase: `points` holds, in order, the keys that each value sets (several keys for a zip)."""

    kind: AxisKind
    keys: tuple[str, ...]
    points: tuple[Mapping[str, Json], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Replicates that are labelled subsets of the training patients."""

    scheme: str = "fraction"  # fraction | kfold | leave_pair_out
    by: str = "patient"  # patient | study | image
    #: Shares of the training pool (0, 1], or, with `counted`, numbers of units.
    fractions: tuple[float, ...] = (1.0,)
    counted: bool = False
    repeats: tuple[int, ...] = (1,)
    nested_fractions: bool = False
    #: exact: stratified, of the size that is asked for. random: each unit is in or out by itself.
    sizes: str = "exact"
    folds: int = 5
    seed: int = 0
    #: Only the first so many folds of a scheme with folds (how `--sample` cuts them); None is all of them.
    first_folds: int | None = None

    @property
    def size_label(self) -> str:
        """Return the label that carries the size: `fraction`, or `count` when sizes are numbers of units."""
        return "count" if self.counted else "fraction"


@dataclass(frozen=True, slots=True, kw_only=True)
class PickWhen:
    """What a pick takes of the runs that carry certain labels."""

    condition: Mapping[str, tuple[Scalar, ...]]
    #: Of `checkpoints`, `top` and `per`.
    settings: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """How one checkpoint, and one tune point, is chosen on validation."""

    metric: str | None = None  # starts with `val/`; None only with rule `last`
    mode: str = "max"  # max | min
    rule: str = "best"  # best | last
    checkpoints: str = "best"  # best | all
    top: int = 1
    #: run: one choice for all labels. label: each label has the checkpoints that its own AUROC ranks first.
    per: str = "run"  # run | label
    when: tuple[PickWhen, ...] = ()
    scope: str = "draw"  # draw | cell | sweep
    on: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One evaluation of a winner."""

    data: str = SAME_DATA
    split: str = "test"
    score_per: str | None = None  # image | study | patient; None takes the card's
    views: str | None = None  # max_logit | mean_prob | first; None takes the card's
    cluster: str | None = None  # patient | study | image; None takes the card's
    #: Which embeddings are handed out besides predictions: backbone | projector; None hands out none.
    embedding: str | None = None
    #: Whether truths and probabilities are written as arrays too.
    arrays: bool = False
    #: What thresholds are chosen on: None is validation; as_published adds those of the largest F1 on the test set itself.
    thresholds: str | None = None
    #: Of a model with a head for each source, whose head predicts: auto | mean | <source>; None is auto.
    heads: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """Settings for the points that carry certain labels."""

    condition: Mapping[str, tuple[Scalar, ...]]
    settings: Mapping[str, Json]
    override: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A scheduler of Ray Tune over a sampled space; parsed here, run by backends that can."""

    scheduler: str
    metric: str
    mode: str = "max"
    samples: int
    grace: int = 1
    space: tuple[Axis, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parents:
    """One alternative of what a phase follows: roles to phase names, or a weights file, or nothing at all."""

    roles: Mapping[str, str] = field(default_factory=dict)
    weights: str | None = None

    @property
    def label(self) -> str:
        """Return the value that the label `after` carries for this alternative."""
        if self.weights is not None:
            return self.weights
        return "+".join(dict.fromkeys(self.roles.values())) or NO_PARENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One training step of a study."""

    name: str
    trainer: str
    #: The trainer's preset that lies below `config`.
    preset: str | None = None
    config: Mapping[str, Json] = field(default_factory=dict)
    #: One entry: the phase always follows it. Several: an axis `after` (compare) over them.
    after: tuple[Parents, ...] = (Parents(),)
    after_is_axis: bool = False
    data: str | None = None  # a card; None when `data` is an axis or `sources` is given
    sources: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    draws: Draws | None = None
    seeds: int | None = None
    exclude: tuple[Mapping[str, tuple[Scalar, ...]], ...] = ()
    when: tuple[When, ...] = ()
    pick: Pick | None = None
    evaluate: tuple[Target, ...] = ()
    hand_on: str = "last"  # last | epoch:N, for a phase without pick
    search: Search | None = None
    resources: Resources = field(default_factory=Resources)
    fuse: bool = True
    #: True for a phase that another sweep brought in (`uses`).
    imported: bool = False
    #: The seed of the sweep that this phase was written in.
    sweep_seed: int = 0
    #: What becomes of images that are not on disk: refuse | skip.
    missing: str = "refuse"
    #: An imported phase: the top-level compare axes of its own sweep, which stand in for those of the sweep that imports it.
    #: None for a phase of the sweep itself, which follows `Sweep.compare`.
    shared: tuple[Axis, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Labels that name a baseline; every arm is set against the arm equal to it but for these labels."""

    baseline: Mapping[str, Scalar]


#: Studies whose own statistics a report can show beside ours.
AS_PUBLISHED = ("moco_cxr", "ark", "benchmark", "unichest")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSpec:
    """What the report is asked to say."""

    #: Phase name or `default` -> measure; or card name -> measure.
    measure: Mapping[str, str] = field(default_factory=lambda: {"default": "auroc_macro"})
    contrasts: tuple[Contrast, ...] = ()
    over: str | None = None
    by: str | None = None
    confidence: float = 0.95
    floor: bool = False
    margin: float | None = None
    groups: Mapping[str, tuple[Mapping[str, Scalar], ...]] = field(default_factory=dict)
    subgroups: tuple[str, ...] = ()
    reference: tuple[Mapping[str, Json], ...] = ()
    resamples: int = 2000
    #: Names of `AS_PUBLISHED`.
    as_published: tuple[str, ...] = ()
    title: str | None = None
    #: False prints estimates and no verdict sentence (a smoke test, a data set too small to claim anything).
    verdict: bool = True
    #: Sentences that the report must carry on its first page.
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How `--sample` cuts a sweep to a few minutes on made data."""

    keep: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    px: int = 64
    n: int = 240
    max_jobs: int = 40
    #: Phase -> config overrides, on top of the trainers' own `SAMPLE`.
    set: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A study as it is written."""

    name: str
    about: str = ""
    phases: tuple[Phase, ...]
    #: Top-level compare axes: set in every phase whose trainer has the key.
    compare: tuple[Axis, ...] = ()
    report: ReportSpec = field(default_factory=ReportSpec)
    sample: Sample | None = None
    allow_contamination: tuple[str, ...] = ()
    seed: int = 0
    #: Where every dotted path stands in its file, for errors found after loading.
    source: Any = None
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisInfo:
    """One label of a plan: what kind of axis it came from, in which phase, with which values in order."""

    name: str
    kind: AxisKind
    phase: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """A test set of which training has, or may have, seen images, and that the sweep allows."""

    card: str
    split: str
    #: The phase that is scored on it.
    phase: str
    trained_in: str
    trained_on: str
    why: str

    @property
    def sentence(self) -> str:
        """Return it for people."""
        return (
            f"'{self.phase}' is scored on '{self.card}' ({self.split}), and '{self.trained_in}' trains on '{self.trained_on}': {self.why}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The expanded, frozen list of jobs of a sweep, parents before children."""

    sweep: str
    about: str
    jobs: tuple[JobSpec, ...]
    axes: tuple[AxisInfo, ...]
    report: ReportSpec
    #: Sentences for people: axes that collapsed, what `--sample` dropped, tuning budgets that differ.
    notes: tuple[str, ...] = ()
    sample: bool = False
    #: True when any data set or weight file is a stand-in (made data, random stand-in weights).
    made_data: bool = False
    file: str = ""
    #: What the sweep allows that would else be refused.
    contamination: tuple[Contamination, ...] = ()

    def by_id(self) -> dict[str, JobSpec]:
        """Return the jobs by their id."""
        return {job.job_id: job for job in self.jobs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One kind of node of a cluster, as one of its nodes has it."""

    name: str
    gpus: int = 0
    cpus: int = 1
    memory_mb: int = 4096
    max_time_minutes: int | None = None
    #: What jobs ask for here instead of what the site's own keys say.
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a sweep may take of a cluster."""

    max_queued: int | None = None
    gpu_hours: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSite:
    """How a site's Slurm wants to be asked."""

    qos: str | None = None
    constraint: str | None = None
    #: Asks for GPUs by type, `--gres=<gres>:<number>`, such as `gpu:a100`; None asks by `--gpus-per-node=<number>`.
    gres: str | None = None
    #: Nodes that are never asked for.
    exclude: tuple[str, ...] = ()
    #: Whether `sacct` answers here.
    accounting: bool = True
    #: Longest array; an index never reaches it. Slurm's own default of MaxArraySize is 1001.
    array_size: int = 1000
    #: Most elements of a sweep that run at once; None is as many as there is room for.
    parallel: int | None = None
    #: Seconds before the time limit at which a job is asked to save.
    signal_lead: int = 120
    #: An array at least this long waits for the shortest of its jobs to succeed; 0 waits for nothing.
    canary: int = 10
    #: So many jobs that fail with the same traceback stop the sweep; 0 stops for nothing.
    stop_after: int = 3
    #: Submit one small job that takes up what the scheduler itself does not do again.
    keeper: bool = False
    #: Whether nodes reach the MLflow server: then an allocation sends what jobs write, while they run.
    sync: bool = False
    #: The command that starts Python on a node; None is the Python that submits, in the container where there is one.
    python: str | None = None
    #: Options of sbatch that have no key here, such as `reservation: mine`.
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeNodes:
    """What `ray_on_slurm` asks for at once: whole nodes of one partition."""

    nodes: int = 1
    time_minutes: int = 720
    #: None takes the first partition of the config.
    partition: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """One machine's facts: which backend, and where data, runs and MLflow live."""

    name: str
    backend: str = "ray"
    run_root: Path
    #: Card name -> root folder; a card that is not named here is looked for under `data_root/<card>`.
    data: Mapping[str, Path] = field(default_factory=dict)
    data_root: Path | None = None
    #: Where made data is written.
    made_root: Path
    #: `init` value or architecture -> weights file, for nodes without a network.
    weights: Mapping[str, Path] = field(default_factory=dict)
    mlflow: str = ""  # tracking URI; empty means sqlite under the run root
    partitions: tuple[Partition, ...] = ()
    account: str | None = None
    setup: tuple[str, ...] = ()
    container: str | None = None
    limits: Limits = field(default_factory=Limits)
    notify: Notify | None = None
    slurm: SlurmSite = field(default_factory=SlurmSite)
    allocation: WholeNodes = field(default_factory=WholeNodes)
    trainer_paths: tuple[Path, ...] = ()
    card_paths: tuple[Path, ...] = ()
    #: What this machine gives to `inline` and `ray`; None asks the machine.
    cpus: int | None = None
    gpus: int | None = None
