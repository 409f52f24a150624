"""The page of metrics and measures, from kinds of measure and trainers: `python -m orchestrator.measure_page > docs/measures.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

from jobs.catalog import Declaration
from orchestrator.key_tables import table
from orchestrator.reference import own_trainers
from orchestrator.report.diagnostics.points import judged_by
from orchestrator.report.kinds import KINDS, Kind
from orchestrator.report.masks import Masks
from orchestrator.report.measure_words import WORDS
from orchestrator.report.stats.operating import F1, F1_ON_TEST, RULES

_HEAD = """# Metrics and measures

Written from the code by `make docs`; a test holds it current.

A **metric** is of validation. It is logged while a job trains, it decides (`pick`, `search`, `stop_on`), and its name starts with
`val/`; a name that starts with `test/` is refused there. A **measure** is of a test set. It stands in a report
(`report: {measure: ...}`), with an interval.

## Metrics of validation

`loss` in a name means that less is better, anything else that more is, unless `mode` says otherwise. A finding is written as in its
card, and a group is one of the card's ([reference](reference.md#data-sets)).
"""
#: Metrics that are made of scores and labels.
OF_LABELS = (
    ("`val/auroc_macro`", "mean AUROC over the findings that have both classes in validation"),
    ("`val/auroc/<finding>`", "AUROC of one finding"),
    ("`val/auroc_<group>`", "mean AUROC over a group of findings, such as `val/auroc_competition`"),
    ("`val/auroc_not_estimable`", "how many findings have one class alone in validation"),
    ("`val/auroc_<group>_not_estimable`", "how many findings of a group"),
    ("`val/accuracy`", "share of images whose class scores highest, on a card of classes that exclude each other"),
    ("`val/loss`", "the loss that training minimises"),
)
_OF_SOURCES = (
    ("`val/<card>/...`", "each of those above, of one source"),
    ("`val/mean_auroc`, `val/mean_loss`", "the mean over sources, each with the same weight"),
)


_AT_A_THRESHOLD = (
    "## At a threshold",
    "",
    "A report of scores has these of each finding, each run at its own threshold, with Wilson intervals of as many independent cases as",
    "the patients are worth. A threshold is chosen on the validation rows of the card that is evaluated, before its test split opens.",
    "Where validation has one class of a finding there is none, and the report names the finding. Their numbers are called",
    "`<test set>/<arm>/<size>/<rule>_<what>/<finding>`; `macro` in place of a finding is the mean over those with an F1.",
)
_ABOUT_RULES = {
    "youden": "the largest sensitivity plus specificity",
    "sensitivity_90": "the largest score with a sensitivity of at least 0.9",
    "specificity_90": "the smallest score with a specificity of at least 0.9",
    F1: "the largest F1",
    F1_ON_TEST: "the largest F1 on the test rows themselves, with `thresholds: as_published` of an evaluation; an F1 is too high there",
}


def page() -> str:
    """Return the page as Markdown."""
    catalog = own_trainers()
    lines = [_HEAD, *table(("metric", "what it is"), OF_LABELS), ""]
    several = ", ".join(f"`{name}`" for name, one in catalog.items() if one.by_source is not None)
    lines += [f"Of trainers that learn from several sources, {several}:", ""]
    lines += [*table(("metric", "what it is"), _OF_SOURCES), "", "What a trainer reports besides, or instead:", ""]
    lines += [*table(("trainer", "metric", "written"), _monitors(catalog)), "", "## Measures of a test set", ""]
    lines += [
        "`_macro` is the mean over all findings of the card, `_<group>` over one of its groups, `/<finding>` one alone; `accuracy` has one",
        "number for all classes. Intervals and tests of each are in [why these intervals](explanation/why_these_intervals.md).",
        "",
        *table(("measure", "of", "better", "what it is"), [_row(kind) for kind in KINDS.values()]),
        "",
        *_AT_A_THRESHOLD,
        "",
        *table(("rule", "the threshold of", "what a report has there"), _rules()),
    ]
    return "\n".join(lines) + "\n"


def _row(kind: Kind) -> tuple[str, str, str, str]:
    forms = [kind.name] if kind.pooled else [f"{kind.name}_macro", f"{kind.name}_<group>", f"{kind.name}/<finding>"]
    of = "masks" if kind.frame is Masks else "scores"
    names = ", ".join(f"`{name}`" for name in forms)
    return names, of, "higher" if kind.higher_is_better else "lower", f"{kind.title}. {WORDS[kind.name]}"


def _rules() -> Iterator[tuple[str, str, str]]:
    for rule in (*RULES, F1_ON_TEST):
        yield f"`{rule}`", _ABOUT_RULES[rule], ", ".join(f"`{name}`" for name in judged_by(rule))


def _monitors(catalog: Mapping[str, Declaration]) -> Iterator[tuple[str, str, str]]:
    for name, declaration in catalog.items():
        for metric, key in declaration.monitors.items():
            yield f"`{name}`", f"`{metric}`", f"with `{key}`" if key else "always"


if __name__ == "__main__":
    sys.stdout.write(page())
