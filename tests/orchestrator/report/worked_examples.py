"""Two made studies whose truth is known, through the report as a person gets it.

`python -m tests.orchestrator.report.worked_examples` writes docs/explanation/worked_examples.md; with `--files FOLDER` it writes the
predictions instead, for `orchestrate report --predictions`.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np

from orchestrator.model import AS_PUBLISHED
from orchestrator.report.analysis import analyse
from orchestrator.report.files.inputs import Asked, inputs_of_files
from orchestrator.report.stats.bootstrap import Counts
from orchestrator.report.stats.estimate import Estimate
from orchestrator.report.stats.intervals import p_two_sided, quantile
from orchestrator.report.stats.means import independent_t, paired_t
from orchestrator.report.stats.multireader import crossed
from orchestrator.report.stats.randomization import sign_flip
from orchestrator.report.values import Difference, Published, Report
from orchestrator.report.wording import number, p_value, signed
from tests.orchestrator.report.stats.made_world import World, repetitions, scores

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "worked_examples.md"
ARMS = ("base", "new")
#: Worlds that are looked at to say how often something happens, seeds 0 and up.
WORLDS = 400
EQUAL = World(positives=150, draws=10, draw_sd=0.006, rho=0.3, effects=(0.0,))
BETTER = World(positives=100, draws=5, draw_sd=0.02, rho=0.3, effects=(0.05,), findings=6)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One world, one seed, and what the report says of it."""

    world: World
    seed: int
    report: Report

    @property
    def ours(self) -> Difference:
        """Return the report's difference in the headline measure."""
        return self.report.differences[0]

    def estimate(self, method: str) -> Estimate:
        """Return the difference as one method has it."""
        return next(one for one in self.ours.estimates if one.method == method)

    def published(self, procedure: str, *, baseline: bool, arm: str | None = None) -> Published:
        """Return an original's row over the measure: of an arm alone, or against another."""
        rows = [one for one in self.report.as_published if one.procedure == procedure and one.label is None]
        return next(one for one in rows if (one.baseline is not None) == baseline and arm in (None, one.arm))

    def values(self, arm: str) -> np.ndarray:
        """Return an arm's value of the measure in each draw."""
        return np.array([point.value for cell in self.report.cells if cell.arm == arm for point in cell.points])


def write_files(world: World, seed: int, folder: Path) -> list[Path]:
    """Write one file of predictions an arm, and return them."""
    rng, (truth, patient) = np.random.default_rng(seed), world.truth()
    findings = [scores(world, truth, patient, rng) for _ in range(world.findings)]
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for side, arm in enumerate(ARMS):
        lines = ["image,patient,label,truth,score,draw"]
        for index, found in enumerate(findings):
            name = f"finding_{index}" if world.findings > 1 else "finding"
            for draw, of_draw in enumerate(found[side]):
                rows = zip(patient, truth, of_draw, strict=True)
                lines += [f"image{i:04d},patient{who:04d},{name},{yes},{score:.6f},{draw}" for i, (who, yes, score) in enumerate(rows)]
        path = folder / f"{arm}.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def example(world: World, seed: int) -> Example:
    """Make a study's files, and the report of them."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(world, seed, Path(folder))
        return Example(world=world, seed=seed, report=analyse(inputs_of_files(paths, Asked(baseline="base", as_published=AS_PUBLISHED))))


@dataclass(frozen=True, kw_only=True)
class Claims:
    """The p values of two equal methods in many worlds: of t-tests over draws, and of this report."""

    independent: np.ndarray
    paired: np.ndarray
    ours: np.ndarray

    @property
    def first(self) -> int:
        """Return the first seed at which the independent t-test is below .01 and this report is not below .05."""
        return int(np.flatnonzero((self.independent < 0.01) & (self.ours >= 0.05))[0])


def claims(world: World, count: int = WORLDS) -> Claims:
    """Test many worlds, each from its own seed as the examples are."""
    none = Counts(tiles=(), units=world.patients, replicates=0, seed=0)
    found: list[list[float]] = []
    for seed in range(count):
        first, second = next(repetitions(world, 1, np.random.default_rng(seed), none))
        gap = crossed(second.values - first.values, second.influence - first.influence)
        tested = [test(second.values, first.values).p for test in (independent_t, paired_t)]
        found.append([*(1.0 if p is None else p for p in tested), p_two_sided(gap.value, (gap.variance_both or 0.0) ** 0.5, gap.df_both)])
    independent, paired, ours = np.array(found).T
    return Claims(independent=independent, paired=paired, ours=ours)


def page() -> str:
    """Return the page as Markdown."""
    seen = claims(EQUAL)
    return _wrapped(_HEAD + _equal(example(EQUAL, seen.first), seen) + "\n" + _better(example(BETTER, 0)))


def _wrapped(text: str) -> str:
    """Break the lines of paragraphs; tables, headings and code stay."""
    paragraphs = [
        one if one.startswith(("#", "|", "```")) else fill(one, 140, break_on_hyphens=False) for one in text.strip().split("\n\n")
    ]
    return "\n\n".join(paragraphs) + "\n"


_HEAD = """# Two worked examples

Written by `python -m tests.orchestrator.report.worked_examples`: the data are made, so the truth is known, and every
number below is computed.

"""


def _percent(p: np.ndarray) -> str:
    return f"{100 * float((p < 0.05).mean()):.1f} %"


def _range(one: Estimate | Published | Difference, *, sign: bool = True) -> str:
    write = signed if sign else number
    return f"{write(one.low)} to {write(one.high)}"


def _said(one: Example) -> str:
    ours, tone = one.ours, one.report.verdicts[0].tone
    read = {"open": "no difference is shown", "better": "`new` is better", "worse": "`base` is better"}[tone]
    return (
        f"`new` less `base` {signed(ours.estimate)}, 95 % CI {_range(ours)} for new draws and new patients (Obuchowski–Rockette, Hillis); "
        f"p {p_value(ours.p_adjusted)}: {read}."
    )


def _world(world: World) -> str:
    truth, _ = world.truth()
    return (
        f"{world.patients:,} test patients with {len(truth):,} images, {world.positives} of them positive; images of one patient are alike "
        f"(correlation {world.rho:g}). Each method was trained on {world.draws} draws of labelled patients, the same draws for both."
    )


def _commands(name: str, *studies: str) -> str:
    asked = " ".join(f"--as-published {study}" for study in studies)
    return f"""```
python -m tests.orchestrator.report.worked_examples --files examples
orchestrate report --predictions examples/{name}/base.csv examples/{name}/new.csv --baseline base {asked}
```"""


def _equal(one: Example, seen: Claims) -> str:
    world = one.world
    of_arm = {arm: f"`{arm}` {number(one.values(arm).mean())} ± {number(one.values(arm).std())}" for arm in ARMS}
    better, other = sorted(ARMS, key=lambda arm: -one.values(arm).mean())
    draws, patients, both = (number(one.estimate(method).se, 4) for method in ("t", "influence", "obuchowski_rockette_hillis"))
    among = int((seen.independent[: one.seed + 1] < 0.05).sum())
    return f"""## Two equal methods, and a t-test that tells them apart

**The truth.** {_world(world)} Both methods have a mean AUROC of {world.area:.2f} over draws in the population:
the difference is 0. The seed is {one.seed}, the first at which the independent t-test gives p < .01 and this
report sees no difference.

{_commands("equal", "ark")}

**As published** (Ark, benchmark of transformers). {of_arm[better]}, {of_arm[other]}; independent t-test over
{world.draws} runs each, p {p_value(one.published("ark", baseline=True).p)}: "significant".

**This report.** {_said(one)}

**Why.** All {world.draws} runs of a method were scored on the same {world.patients:,} patients. What these patients
happen to do to a method they do to all its runs, so runs lie close together around a mean that is off: the
standard error of the difference is {draws} over new draws on this test set, {patients} over new patients with
these draws, and {both} over both. The t-test knows the first alone. More runs make it surer of the same mistake.

**How often.** In {len(seen.ours)} such worlds (seeds 0 to {len(seen.ours) - 1}) of two equal methods, the
independent t-test claims a difference in {_percent(seen.independent)}, the paired one in {_percent(seen.paired)},
and this report in {_percent(seen.ours)}; 5 % is what .05 promises. Of the {one.seed + 1} seeds up to the one
above, the independent t-test calls {among} significant.
"""


def _better(one: Example) -> str:
    world, ours, truth = one.world, one.ours, one.world.effects[0]
    moco, unichest = one.published("moco_cxr", baseline=True), one.published("unichest", baseline=False, arm="new")
    flipped = sign_flip(np.array([point.value for point in ours.points]))
    cell = next(item for item in one.report.cells if item.arm == "new")
    fixed = next(item for item in cell.estimates if item.method == "influence")
    rows = [
        ("these models, new patients", one.estimate("influence")),
        ("new draws, this test set", one.estimate("t")),
        ("new draws, new patients (the headline)", one.estimate("obuchowski_rockette_hillis")),
        ("new draws, new patients, by crossed bootstrap", one.estimate("crossed_bootstrap")),
    ]
    table = "\n".join(f"| {words} | {_range(found)} | {number(found.se, 4)} | {_df(found)} |" for words, found in rows)
    return f"""## A method that is better, asked three questions

**The truth.** {_world(world)} `new` is better by {signed(truth, 2)} in mean AUROC over {world.findings} findings.
The seed is {one.seed}.

{_commands("better", "moco_cxr", "unichest")}

**This report.** {_said(one)}

| 95 % interval for | difference | standard error | df |
|:--|--:|--:|--:|
{table}

Each answers a question of its own, and only the last two speak of the method on new patients. The true
difference is {signed(truth)}.

**As published.** MoCo-CXR's procedure resamples images as if each were of another patient, with the {world.draws}
draws held fixed: {signed(moco.estimate)} ({_range(moco)}), the bootstrap mean and not the statistic, which is
{signed(ours.estimate)}. UniChest's takes the first run of `new` and prints {number(unichest.estimate)}
({_range(unichest, sign=False)}): bounds of findings averaged, at 90 %. Stretched to 95 % they are
{_times(unichest, fixed):.1f} times as wide as our interval for these models on new patients
({_range(fixed, sign=False)}), which is of all {world.draws} runs.

**What {world.draws} draws cannot do alone.** A sign-flip test over the {world.draws} differences gives p
{p_value(flipped.p)}; whatever the draws had given, it could not have given less than {flipped.smallest_p:.4f}.
What lies below leans on a model of the variance, which the [coverage study](coverage.md) looks at.
"""


def _times(theirs: Published, ours: Estimate) -> float:
    """Return how many times as wide a 90 % interval is as one of 95 %, once it is stretched to that."""
    stretch = quantile(0.95, math.inf) / quantile(0.90, math.inf)
    return stretch * ((theirs.high or 0.0) - (theirs.low or 0.0)) / ((ours.high or 0.0) - (ours.low or 0.0))


def _df(one: Estimate) -> str:
    return "–" if one.df is None else f"{one.df:,.1f}"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or the examples' files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="write the predictions there, and no page")
    parser.add_argument("--out", type=Path, default=PAGE)
    asked = parser.parse_args(arguments)
    if asked.files is None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(page(), encoding="utf-8")
        return 0
    write_files(EQUAL, claims(EQUAL).first, asked.files / "equal")
    write_files(BETTER, 0, asked.files / "better")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
