"""From anybody's files to what an analysis needs: runs, arms, and what is compared with what."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.errors import ReportError
from orchestrator.model import AS_PUBLISHED, Contrast, ReportSpec
from orchestrator.report.design import NO_REPLICATE, Place
from orchestrator.report.files.blocks import Block, read_block
from orchestrator.report.files.gather import TEST_SET, Gathered, Key, gather
from orchestrator.report.files.sheet import read_sheet
from orchestrator.report.inputs import CardFacts, Inputs
from orchestrator.report.masks import Masks
from orchestrator.report.predictions import Predictions
from orchestrator.report.results import Draw, Picked, Run
from orchestrator.report.stats.operating import thresholds_of
from orchestrator.report.values import ArmInfo

#: The label that tells arms apart, in a contrast.
ARM = "arm"
CLUSTERS = ("patient", "study", "image")
SCORES = ("logit", "probability")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of some files."""

    #: None takes the macro AUROC of scores, the Dice of masks.
    measure: str | None = None
    #: The arm that every other one is set against; None sets nothing against anything.
    baseline: str | None = None
    confidence: float = 0.95
    resamples: int = 2000
    #: What is resampled: patient, study or image; None takes patients where the files name them.
    cluster: str | None = None
    #: What a score is: logit or probability; None takes probabilities where every score lies between 0 and 1.
    scores: str | None = None
    #: Columns of the files that results are split by.
    subgroups: tuple[str, ...] = ()
    title: str = "Predictions"
    #: Studies whose own statistics are shown beside.
    as_published: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedArms:
    """Arms that have a name and nothing else."""

    names: tuple[str, ...]

    def arms(self, keys: Iterable[str]) -> tuple[ArmInfo, ...]:
        """Return some arms, numbers within names in their order."""
        return tuple(
            ArmInfo(key=name, title=name, phase="", labels={ARM: name}, floor=False, candidates=0) for name in sorted(keys, key=natural)
        )

    def pairs(self, contrast: Contrast, keys: Iterable[str]) -> list[tuple[str, str]]:
        """Return (arm, the baseline) for every other arm. Raises ReportError when no arm is called so."""
        base = str(contrast.baseline.get(ARM))
        if base not in self.names:
            near = difflib.get_close_matches(base, self.names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(self.names)}"
            raise ReportError(f"no arm is called '{base}': {hint}")
        wanted = sorted(keys, key=natural)
        return [(name, base) for name in wanted if name != base and base in wanted]


def natural(name: str) -> tuple[tuple[int, float, str], ...]:
    """Return how a name is sorted: numbers in it by their value."""
    return tuple((0, float(part), "") if part.isdecimal() else (1, 0.0, part) for part in re.split(r"(\d+)", name))


def inputs_of_files(paths: Sequence[Path], asked: Asked) -> Inputs:
    """Read some files of predictions into what is analysed. Raises ReportError on anything that cannot be trusted, naming file and row."""
    if not paths:
        raise ReportError("no file is named; type: orchestrate report --predictions FILE...")
    blocks = [(path, read_block(read_sheet(path))) for path in paths]
    found = gather(blocks)
    cluster = _cluster([block for _, block in blocks], asked)
    is_probability = _is_probability([block for _, block in blocks], asked)
    runs = [_run(one, cluster, is_probability) for one in found]
    arms = tuple(sorted({one.key.arm for one in found}, key=natural))
    _check(asked)
    contrasts = [] if asked.baseline is None else [Contrast(baseline={ARM: asked.baseline})]
    for one in contrasts:
        NamedArms(names=arms).pairs(one, arms)
    report = ReportSpec(
        measure={"default": asked.measure or ("dice" if blocks[0][1].is_masks else "auroc_macro")},
        contrasts=tuple(contrasts),
        confidence=asked.confidence,
        resamples=asked.resamples,
        subgroups=asked.subgroups,
        title=asked.title,
        as_published=asked.as_published,
    )
    return Inputs(
        sweep="predictions",
        report=report,
        runs=tuple(sorted([*runs, *_missing(runs, cluster)], key=lambda run: (run.place.target, run.trial, run.job))),
        design=NamedArms(names=arms),
        cards={TEST_SET: CardFacts(title="Test set")},
        draws_by_name=True,
        warnings=_warnings(found, cluster, asked),
    )


def _check(asked: Asked) -> None:
    if not 0.5 < asked.confidence < 1:
        raise ReportError(f"a confidence of {asked.confidence:g} makes no interval; it is above 0.5 and below 1, such as 0.95")
    if asked.resamples < 100:
        raise ReportError(f"{asked.resamples} resamples make no interval; ask for at least 100, better 2000")
    for name in asked.as_published:
        if name not in AS_PUBLISHED:
            near = difflib.get_close_matches(name, AS_PUBLISHED, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(AS_PUBLISHED)}"
            raise ReportError(f"no study '{name}' whose statistics could be shown: {hint}")


def _cluster(blocks: Sequence[Block], asked: Asked) -> str:
    """Decide what is resampled. Raises ReportError when a file does not say what is asked for, or only some say who is who."""
    if asked.cluster is not None and asked.cluster not in CLUSTERS:
        raise ReportError(f"'{asked.cluster}' cannot be resampled; choose {', '.join(CLUSTERS)}")
    lacking = {what: [one.sheet.name for one in blocks if what not in one.owners] for what in ("patient", "study")}
    if lacking["study"] and asked.cluster == "study":
        raise ReportError(f"{lacking['study'][0]}: has no column 'study', so studies cannot be resampled; add it, or resample patients")
    if lacking["patient"] and (asked.cluster == "patient" or len(lacking["patient"]) < len(blocks)):
        raise ReportError(f"{lacking['patient'][0]}: has no column 'patient'; add it, so that images of a patient are resampled together")
    return asked.cluster or ("image" if lacking["patient"] else "patient")


def _is_probability(blocks: Sequence[Block], asked: Asked) -> bool:
    """Decide what scores are, for all files at once. Raises ReportError when they cannot be what is said."""
    if asked.scores is not None and asked.scores not in SCORES:
        raise ReportError(f"a score is no '{asked.scores}'; choose {' or '.join(SCORES)}")
    scored = [(one, one.values["score"]) for one in blocks if not one.is_masks]
    outside = [(one, np.flatnonzero((score < 0) | (score > 1))) for one, score in scored]
    beyond = next(((one, int(rows[0])) for one, rows in outside if len(rows)), None)
    if asked.scores == "probability" and beyond is not None:
        block, row = beyond
        raise ReportError(f"{block.sheet.at(row)}: 'score' is {block.values['score'][row]:g}, which is no probability; say --scores logit")
    return asked.scores == "probability" or (asked.scores is None and beyond is None)


def _run(one: Gathered, cluster: str, is_probability: bool) -> Run:
    key = one.key
    digest = hashlib.sha256("\x1f".join((key.test_set, key.arm, key.size, key.replicate, one.test.frame_digest())).encode())
    for name in one.test.of_label():
        digest.update(np.ascontiguousarray(getattr(one.test, name)).tobytes())
    return Run(
        job=digest.hexdigest(),
        trial=_trial(key),
        source=", ".join(one.files),
        card=key.test_set,
        split="test",
        unit="image",
        cluster=cluster,
        place=_place(key),
        pretraining="",
        result={"test_digest": one.test.units_digest(), "n_units": len(one.test.units)},
        draw=Draw(sha256=one.draw, patients=None, images=one.n_labeled),
        picked=Picked(tuned={}),
        predictions=_told(one.test, is_probability),
        validation=None if one.validation is None else _told(one.validation, is_probability),
        **_thresholds(one.validation),
    )


def _thresholds(validation: Predictions | Masks | None) -> dict[str, Any]:
    """Choose thresholds on the rows of split val, as a trainer does before it opens the test split."""
    if not isinstance(validation, Predictions):
        return {}
    known = {label: validation.truth[:, column] >= 0 for column, label in enumerate(validation.labels)}
    columns = {
        label: (validation.truth[known[label], column], validation.score[known[label], column])
        for column, label in enumerate(validation.labels)
    }
    return {
        "thresholds": {label: thresholds_of(*column) for label, column in columns.items()},
        "validation_counts": {label: (int((truth == 1).sum()), int((truth == 0).sum())) for label, (truth, _) in columns.items()},
    }


def _told(found: Predictions | Masks, is_probability: bool) -> Predictions | Masks:
    return found if isinstance(found, Masks) else replace(found, is_probability=is_probability)


def _place(key: Key) -> Place:
    return Place(arm=key.arm, phase="", floor=False, target=key.test_set, size=key.size, replicate=key.replicate, fold=None)


def _trial(key: Key) -> str:
    size = "" if key.size == "all" else f", {key.size.replace('=', ' ')}"
    return key.arm + size + ("" if key.replicate == NO_REPLICATE else f", {key.replicate}")


def _missing(runs: Sequence[Run], cluster: str) -> list[Run]:
    """Return the runs that an arm lacks: draws that another arm has with the same number of labels, where the arm has draws at all."""
    present: dict[tuple[str, str, str], set[str]] = {}
    draws: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        if run.draw.sha256 is not None:
            present.setdefault((run.place.target, run.place.arm, run.place.size), set()).add(run.place.replicate)
            draws.setdefault((run.place.target, run.place.size), set()).add(run.place.replicate)
    gaps = [
        Key(test_set=test_set, arm=arm, size=size, replicate=replicate)
        for (test_set, arm, size), there in present.items()
        for replicate in draws[test_set, size] - there
    ]
    return [_gap(key, cluster) for key in gaps]


def _gap(key: Key, cluster: str) -> Run:
    return Run(
        job=hashlib.sha256("\x1f".join((key.test_set, key.arm, key.size, key.replicate)).encode()).hexdigest(),
        trial=_trial(key),
        source="in no file",
        card=key.test_set,
        split="test",
        unit="image",
        cluster=cluster,
        place=_place(key),
        pretraining="",
        result=None,
        draw=Draw(sha256=None, patients=None, images=None),
        picked=Picked(tuned={}),
        predictions=None,
    )


def _warnings(found: Sequence[Gathered], cluster: str, asked: Asked) -> tuple[str, ...]:
    said: list[str] = []
    if cluster == "image" and asked.cluster is None:
        said.append(
            "The files name no patients, so every image is resampled as if it were of another patient: where patients have several images, "
            "intervals are too narrow. A column `patient` puts that right."
        )
    if asked.baseline is None and len({one.key.arm for one in found}) > 1:
        said.append("No arm is set against another: name one with `--baseline ARM`.")
    return tuple(said)
