"""Every key of a sweep: what it is for, and what its value looks like. Checks, editor completion and the reference come from here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from orchestrator.grammar.quantities import Memory, Time
from orchestrator.grammar.shapes import (
    Anything,
    Choice,
    Either,
    Flag,
    Key,
    ListOf,
    MapOf,
    Number,
    Plain,
    Record,
    Shape,
    Text,
    Variants,
    Whole,
)
from orchestrator.model import AS_PUBLISHED, Sample

MISSING = Choice(options=("refuse", "skip"))
NAME = Text(pattern=r"[a-z0-9_][a-z0-9_-]*", words="a name of lower-case letters, digits, '_' and '-'")
CARD = Text(pattern=r"[A-Za-z0-9_][A-Za-z0-9_.-]*", words="the name of a data set card")
FILE = Text(words="a path")
#: The most values of an axis, and the most replicates.
MOST = 100_000
COUNT = Whole(low=1, high=MOST)
UNITS = ("patient", "study", "image")
VALIDATION = Text(pattern=r"[A-Za-z0-9_./@-]+", words="the name of a metric such as val/auroc_macro")
MEASURE = Text(pattern=r"[A-Za-z0-9_./@-]+", words="the name of a measure such as auroc_macro")
ONE_VALIDATION = (
    "every draw is validated on the same split, which no draw makes smaller: leave `val` out. The report says on how many patients picks "
    "were validated; to pick on fewer, give the card a smaller share under `splits.patients_by_hash.val`"
)
THREE_UNITS = (
    "'unit' is three keys: draws.by is what is sampled into training, evaluate.score_per what is scored, evaluate.cluster what is resampled"
)


def _sampled(how: str, about: str, *, n_required: bool, keys: dict[str, Key]) -> Record:
    return Record(
        keys={
            "sample": Key(about=about, shape=Choice(options=(how,)), required=True),
            **keys,
            "n": Key(about="How many values; a larger n keeps the earlier ones.", shape=COUNT, required=n_required),
        }
    )


def _axis(*, n_required: bool) -> Shape:
    """Return the shape of an axis' values; in the space of a search, `n` comes from `samples`."""
    bounds = {
        "from": Key(about="The lowest value.", shape=Number(), required=True),
        "to": Key(about="The highest value.", shape=Number(), required=True),
    }
    return Either(
        words="a list of values, {from, to, steps} or {sample, n}",
        list=ListOf(item=Anything()),
        mapping=Variants(
            key="sample",
            by_value={
                "log_uniform": _sampled("log_uniform", "Drawn evenly on a log scale.", n_required=n_required, keys=bounds),
                "uniform": _sampled("uniform", "Drawn evenly.", n_required=n_required, keys=bounds),
                "normal": _sampled(
                    "normal",
                    "Drawn from a normal distribution.",
                    n_required=n_required,
                    keys={
                        "mean": Key(about="Its mean.", shape=Number(), required=True),
                        "sd": Key(about="Its standard deviation.", shape=Number(above=0), required=True),
                    },
                ),
                "choice": _sampled(
                    "choice",
                    "Drawn from a list, each value at most once.",
                    n_required=n_required,
                    keys={"of": Key(about="The list.", shape=ListOf(item=Anything()), required=True)},
                ),
            },
            otherwise=Record(
                keys={
                    **bounds,
                    "steps": Key(about="How many values, both ends included.", shape=Whole(low=2, high=MOST), required=True),
                    "scale": Key(about="linear (the default) or log.", shape=Choice(options=("log", "linear"))),
                }
            ),
        ),
    )


AXIS = _axis(n_required=True)
SPACE_AXIS = _axis(n_required=False)
ZIP = MapOf(item=AXIS, refused={"after": "'after' cannot be paired; write it as an axis of its own", "zip": "a zip cannot hold a zip"})
PARENT = Either(
    words="a phase, none, {role: phase} or {weights: file}",
    single=NAME,
    mapping=MapOf(item=NAME, special={"weights": FILE}),
)
LABELS = MapOf(item=Either(words="a value or a list of values", single=Plain(), list=ListOf(item=Plain())))
LABEL_SET = MapOf(item=Plain())
SETTINGS = MapOf(item=Anything())

TARGET = Record(
    keys={
        "data": Key(about="A card, or `same`: the one that the run was trained on.", shape=CARD),
        "split": Key(about="The split that is scored.", shape=Choice(options=("test", "val", "held_out"))),
        "score_per": Key(about="What is scored; the card says where this does not.", shape=Choice(options=UNITS)),
        "views": Key(about="How the images of one unit become one score.", shape=Choice(options=("max_logit", "mean_prob", "first"))),
        "cluster": Key(about="What the bootstrap resamples; patient where ids exist.", shape=Choice(options=UNITS)),
        "outputs": Key(
            about="What is written: predictions always; embeddings too, of the training, validation and scored images, as parquet; arrays: "
            "gt.npy, pred.npy and result.csv, as UniChest's test leaves them.",
            shape=ListOf(item=Choice(options=("predictions", "embeddings", "arrays"))),
        ),
        "embedding": Key(
            about="Which embeddings: the backbone's features (the default), or what the trainer's projector makes of them.",
            shape=Choice(options=("backbone", "projector")),
        ),
        "thresholds": Key(
            about="What F1 and accuracy have their thresholds from: validation (the default), or as_published: besides, the largest F1 on "
            "the test set itself, as UniChest's; marked in the result and in the report.",
            shape=Choice(options=("validation", "as_published")),
        ),
        "heads": Key(
            about="Of a model with a head a source: the card's own, or on another card the mean (auto, the default); the mean of all "
            "that have a label; or the head of one source, by its card.",
            shape=NAME,
        ),
    },
    refused={"unit": THREE_UNITS},
)
EVALUATE = ListOf(item=TARGET, words="a list such as [{data: same, split: test}]")

DRAWS = Record(
    keys={
        "fraction": Key(about="Shares of the training pool.", shape=ListOf(item=Number(above=0, most=1))),
        "count": Key(about="Numbers of units instead of shares.", shape=ListOf(item=Whole(low=1))),
        "repeats": Key(
            about="How many draws of each size: one number, or one for each size in order.",
            shape=Either(words="a whole number or a list of them", single=COUNT, list=ListOf(item=COUNT)),
        ),
        "by": Key(about="What is sampled into training.", shape=Choice(options=UNITS)),
        "nested_fractions": Key(about="Whether a smaller draw lies inside the larger one of the same number.", shape=Flag()),
        "sizes": Key(
            about="exact: stratified, as large as asked for; random: each unit is in or out by itself, as MoCo-CXR released it, from one "
            "stream through all fractions and repeats, so that others of these make every draw anew; shuffled: the first of all units in "
            "the order of random.Random(seed + draw), as the benchmark of transformers has it.",
            shape=Choice(options=("exact", "random", "shuffled")),
        ),
        "scheme": Key(about="Draws of a size, or folds.", shape=Choice(options=("fraction", "kfold", "leave_pair_out"))),
        "folds": Key(about="The number of folds of kfold.", shape=Whole(low=2, high=MOST)),
        "seed": Key(about="The seed of the draws.", shape=Whole(low=0)),
    },
    refused={
        "nested": "the key is nested_fractions (smaller draws inside larger ones); 'nested' could also mean nested cross-validation",
        "unit": THREE_UNITS,
        "val": ONE_VALIDATION,
    },
)
_TAKEN = {
    "checkpoints": Key(about="The best checkpoint, or all that were kept (an ensemble).", shape=Choice(options=("best", "all"))),
    "top": Key(about="How many of the best checkpoints.", shape=Whole(low=1)),
    "per": Key(
        about="run: checkpoints are chosen by the metric, for all labels. label: for each label by its own validation AUROC, of those "
        "that were kept (`keep_best`).",
        shape=Choice(options=("run", "label")),
    ),
}
PICK_WHEN = Record(
    keys={
        "if": Key(about="Labels that a run must carry, all of them.", shape=LABELS, required=True),
        "set": Key(about="What the pick takes of those runs.", shape=Record(keys=_TAKEN), required=True),
    }
)
PICK = Record(
    keys={
        "metric": Key(about="The validation metric that decides; starts with `val/`.", shape=VALIDATION),
        "mode": Key(about="Whether larger or smaller is better.", shape=Choice(options=("max", "min"))),
        "rule": Key(about="The best checkpoint of a run, or its last.", shape=Choice(options=("best", "last"))),
        **_TAKEN,
        "when": Key(about="What is taken otherwise of the runs that carry certain labels, in order.", shape=ListOf(item=PICK_WHEN)),
        "scope": Key(
            about="For whom one tune point is chosen: each draw, each cell of compare labels, or the sweep.",
            shape=Choice(options=("draw", "cell", "sweep")),
        ),
        "on": Key(about="The replicates that the tune grid runs on; the winner runs on the others.", shape=LABELS),
    },
    refused={"val": ONE_VALIDATION},
)
WHEN = Record(
    keys={
        "if": Key(about="Labels that a point must carry, all of them.", shape=LABELS, required=True),
        "set": Key(about="Config keys that those points get.", shape=SETTINGS, required=True),
        "override": Key(about="Whether a key that is an axis may be set; the label keeps the axis value.", shape=Flag()),
    }
)
RESOURCES = Record(
    keys={
        "gpus": Key(about="GPUs of a job on each of its nodes; one process a GPU.", shape=Whole(low=0)),
        "cpus": Key(about="CPU cores of a job on each of its nodes; also its number of threads.", shape=Whole(low=1)),
        "memory": Key(about="Memory of a job on each of its nodes, such as 32G.", shape=Memory()),
        "time": Key(about="Time limit of a job, such as 12h.", shape=Time()),
        "nodes": Key(about="Nodes of a job.", shape=Whole(low=1)),
        "pack": Key(about="Jobs that share one allocation side by side.", shape=Whole(low=1)),
    }
)
_SCHEDULER = Choice(
    options=("asha", "median"),
    refused={
        "pbt": "population based training changes a job's config while it runs, and a job here is its config; write asha or median",
        "hyperband": "hyperband holds jobs until their whole bracket is there; write asha, its form that waits for nobody",
    },
)
SEARCH = Record(
    keys={
        "scheduler": Key(about="What stops a losing trial.", shape=_SCHEDULER, required=True),
        "metric": Key(about="The validation metric that is watched; starts with `val/`.", shape=VALIDATION, required=True),
        "mode": Key(about="Whether larger or smaller is better.", shape=Choice(options=("max", "min"))),
        "samples": Key(about="How many points an arm tries.", shape=COUNT, required=True),
        "grace": Key(about="Epochs that every trial gets.", shape=Whole(low=1)),
        "space": Key(
            about="The keys that are searched, as axis values.",
            shape=MapOf(item=SPACE_AXIS, refused={"preset": "'preset' is never searched, it is set side by side; write it under compare"}),
            required=True,
        ),
    }
)
PRESETS = ListOf(item=NAME, words="a list of presets")
COMPARE = MapOf(item=AXIS, special={"zip": ZIP, "after": ListOf(item=PARENT), "data": ListOf(item=CARD), "preset": PRESETS})
TOP_COMPARE = MapOf(
    item=AXIS,
    special={"zip": ZIP, "preset": PRESETS},
    refused={name: f"'{name}' is an axis of a phase; write it under phases.<name>.compare" for name in ("after", "data")},
)
TUNE = MapOf(
    item=AXIS,
    special={"zip": ZIP},
    refused={name: f"'{name}' is never tuned, it is set side by side; write it under compare" for name in ("after", "data", "preset")},
)

PHASE = Record(
    keys={
        "trainer": Key(about="The method.", shape=Text(pattern=r"[A-Za-z0-9_.-]+", words="the name of a trainer"), required=True),
        "preset": Key(about="A set of config values that the trainer declares under a name; it lies below `config`.", shape=NAME),
        "config": Key(about="Keys of the trainer's config; what is left out takes the trainer's default.", shape=SETTINGS),
        "after": Key(about="The phase that this one follows, {role: phase} for several, or {weights: file}.", shape=PARENT),
        "data": Key(about="The data set card; the sweep's `data` by default.", shape=CARD),
        "sources": Key(about="The cards of a phase that trains on many.", shape=ListOf(item=CARD)),
        "missing": Key(about="What becomes of images that are not on disk; the sweep's `missing` by default.", shape=MISSING),
        "compare": Key(about="Axes that the report sets side by side.", shape=COMPARE),
        "tune": Key(about="Axes that pick chooses on, by validation.", shape=TUNE),
        "exclude": Key(about="Label sets; a point that carries all labels of one is left out.", shape=ListOf(item=LABELS)),
        "draws": Key(about="Replicates that are labelled subsets of the training patients.", shape=DRAWS),
        "seeds": Key(about="How many replicates that differ in the training seed.", shape=COUNT),
        "when": Key(about="Settings for the points that carry certain labels, in order.", shape=ListOf(item=WHEN)),
        "pick": Key(about="How a checkpoint, and a tune point, is chosen on validation.", shape=PICK),
        "evaluate": Key(about="What winners are evaluated on.", shape=EVALUATE),
        "hand_on": Key(
            about="The checkpoint that a phase without pick hands on: last (the default) or {epoch: N}.",
            shape=Either(
                words="last or {epoch: N}",
                single=Choice(options=("last",), said="last or {epoch: N}"),
                mapping=Record(keys={"epoch": Key(about="The epoch, from 1.", shape=Whole(low=1), required=True)}),
            ),
        ),
        "search": Key(about="A scheduler of Ray Tune over a sampled space.", shape=SEARCH),
        "resources": Key(about="What a job asks of a machine; never part of what it is.", shape=RESOURCES),
        "fuse": Key(about="Whether train, pick and evaluate of one point share an allocation.", shape=Flag()),
    }
)
GROUP = Either(words="a label set or a list of them", list=ListOf(item=LABEL_SET), mapping=LABEL_SET)
REPORT = Record(
    keys={
        "measure": Key(
            about="The headline measure: auroc, ap, brier, accuracy, dice or hd95, then `_macro`, `_<group>` or `/<finding>`; or one for "
            "each phase or card, with `default`.",
            shape=Either(words="a measure, or {phase or card: measure}", single=MEASURE, mapping=MapOf(item=MEASURE)),
        ),
        "baseline": Key(about="Labels of the arm that the others are set against, or a list of such label sets.", shape=GROUP),
        "over": Key(about="The label on the horizontal axis of the curves.", shape=Text()),
        "by": Key(about="The label that tables are grouped by.", shape=Text()),
        "confidence": Key(about="The confidence level of intervals.", shape=Number(above=0.5, below=1)),
        "floor": Key(about="Whether the no-network arm is added on the same draws and test sets.", shape=Flag()),
        "margin": Key(about="The margin of equivalence.", shape=Number(above=0)),
        "groups": Key(about="Groups of arms: the best of one against the best of another, by validation.", shape=MapOf(item=GROUP)),
        "subgroups": Key(about="Columns of the data that results are split by.", shape=ListOf(item=Text())),
        "reference": Key(
            about="Published values with their source, shown and never tested against.",
            shape=ListOf(item=MapOf(item=Anything(), required={"source": "Say where the published value is from."})),
        ),
        "as_published": Key(
            about="Studies whose own statistics are shown beside: what their procedure makes of the same runs, and what it does not cover.",
            shape=ListOf(item=Choice(options=AS_PUBLISHED)),
        ),
        "resamples": Key(about="Bootstrap resamples.", shape=Whole(low=100)),
        "title": Key(about="The title of the page.", shape=Text()),
        "verdict": Key(about="Whether the report draws conclusions at all.", shape=Flag()),
        "notes": Key(about="Sentences that the report must carry on its first page.", shape=ListOf(item=Text())),
    }
)
_SAMPLE = Sample()
SAMPLE = Record(
    keys={
        "keep": Key(about="Axis -> the values that stay.", shape=LABELS),
        "px": Key(about=f"Short side of the images ({_SAMPLE.px}).", shape=Whole(low=8)),
        "n": Key(about=f"Made patients ({_SAMPLE.n}).", shape=Whole(low=8)),
        "max_jobs": Key(about=f"Most jobs ({_SAMPLE.max_jobs}).", shape=Whole(low=1)),
        "set": Key(about="Phase -> config keys, on top of the trainer's own sample settings.", shape=MapOf(item=SETTINGS)),
    }
)


def _phases(phase: Record) -> MapOf:
    return MapOf(
        item=phase,
        pattern=NAME.pattern,
        key_words=NAME.words,
        refused={
            "none": "'none' is not a phase name: it stands for the arm without a parent; rename the phase",
            "default": "'default' is not a phase name: report.measure uses it; rename the phase",
        },
    )


SWEEP = Record(
    keys={
        "sweep": Key(about="The name of the study.", shape=NAME, required=True),
        "about": Key(about="The question, in a sentence.", shape=Text()),
        "extends": Key(about="A file that this one is laid over: mappings merge, lists and values replace.", shape=FILE),
        "uses": Key(about="Sweep files whose phases are imported, with their job ids.", shape=ListOf(item=FILE)),
        "data": Key(about="The card that is every phase's default.", shape=CARD),
        "missing": Key(
            about="What becomes of images that are not on disk: refuse (the default), or skip, which leaves them out and says so in the "
            "report.",
            shape=MISSING,
        ),
        "seed": Key(about="The seed that every training seed comes from.", shape=Whole(low=0)),
        "compare": Key(about="Axes set in every phase whose trainer has the key, so that arms share them.", shape=TOP_COMPARE),
        "evaluate": Key(about="The default of the phases that nobody comes after.", shape=EVALUATE),
        "phases": Key(about="The training steps of the study, by name.", shape=_phases(PHASE), required=True),
        "report": Key(about="What the report is asked to say.", shape=REPORT),
        "sample": Key(about="How `--sample` cuts the sweep to a few minutes on made data.", shape=SAMPLE),
        "allow_contamination": Key(
            about="Cards that may be scored although training may have seen images of theirs; results and report say so.",
            shape=ListOf(item=CARD),
        ),
    }
)


def sweep_with(config_keys: Iterable[str]) -> Record:
    """Return the grammar with a sentence for a config key that stands beside `config` instead of under it."""
    misplaced = {key: f"'{key}' is a key of the trainer's config; write it under config, compare or tune" for key in config_keys}
    phase = replace(PHASE, refused={**misplaced, **PHASE.refused})
    phases = replace(SWEEP.keys["phases"], shape=_phases(phase))
    return replace(SWEEP, keys={**SWEEP.keys, "phases": phases})
