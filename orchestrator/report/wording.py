"""Sentences: verdicts, warnings and methods, each made from the values that the tables show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.report.stats.estimate import Status
from orchestrator.report.values import ArmInfo, Cell, Difference, LedgerRow, SizeInfo, TestSet, Verdict

METHOD_NAMES: Mapping[str, str] = {
    "influence": "influence values",
    "t": "t over replicates",
    "obuchowski_rockette_hillis": "Obuchowski–Rockette, Hillis df",
    "patient_bootstrap": "patient bootstrap, percentile",
    "patient_bootstrap_bca": "patient bootstrap, BCa",
    "crossed_bootstrap": "crossed bootstrap, percentile",
    "newcombe": "Newcombe score interval",
    "wilson": "Wilson score interval",
    "none": "no interval",
}
STATUS_NAMES: Mapping[str, str] = {
    Status.NOT_ESTIMABLE: "not estimable",
    Status.FEW_POSITIVES: "few positives",
    Status.FEW_CASES: "few cases",
    Status.FEW_VALIDATION: "threshold from few validation cases",
    Status.CHOSEN_ON_TEST: "threshold chosen on these test rows",
    Status.AT_BOUNDARY: "a run reached 0 or 1",
    Status.ONE_RUN: "one run",
    Status.MISSING_RUNS: "runs missing",
    Status.IDENTICAL: "the same in every run",
    Status.CONSTANT: "no spread between runs",
    Status.CONSTANT_SCORES: "the same score for every case",
}
#: Between the labels in the title of an arm.
SEPARATOR = " · "
#: What is resampled, one of it.
SINGULAR: Mapping[str, str] = {"patients": "patient", "studies": "study", "images": "image"}
MADE_DATA = "Made data: the numbers mean nothing about patients."
#: Where `--sample` may have put stand-ins in the place of weights too.
SAMPLE = "Made data, and stand-ins for weights: the numbers mean nothing."
CONTAMINATION = "Training may have seen test images, which this sweep allows"


def plural(count: float, one: str, many: str | None = None) -> str:
    """Write a count with its noun."""
    return f"{count:,g} {one if count == 1 else many or one + 's'}"


def made_data(*, sample: bool) -> str:
    """Say what the numbers of made data are worth."""
    return SAMPLE if sample else MADE_DATA


def percent(share: float) -> str:
    """Write a share as a percentage that does not break over lines."""
    return f"{100 * share:g}\u202f%"


def alpha(confidence: float) -> float:
    """Return what an adjusted p must be below: 0.05 at 95 %, and not the nearest float above it."""
    return round(1 - confidence, 12)


def number(value: float | None, digits: int = 3) -> str:
    """Write an estimate, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """Write a difference with its sign, or a dash."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def p_value(value: float | None) -> str:
    """Write a p value as `0.012` or `< 0.001`."""
    if value is None:
        return "–"
    return "<\u00a00.001" if value < 0.001 else f"{value:.3f}" if value < 0.9995 else "1.000"


def estimand_words(estimand: str) -> str:
    """Write an estimand's key as words: what an interval is about."""
    words, *conditions = estimand.split("_given_")
    said = {"pretraining": "one pretraining run", "pick": "given the picked values", "borrowed_spread": "borrowed spread"}
    head = words.replace("_this_test_set", ", this test set").replace("_new_", " and new_").replace("_", " ")
    head = head.replace("these models and new", "these models, new")
    return ", ".join([head, *(said.get(condition, condition) for condition in conditions)])


def size_words(size: SizeInfo, test_set: TestSet) -> str:
    """Say how many labels a cell was trained with, as the start of a sentence."""
    if size.key == "all" and len(test_set.sizes) == 1:
        return "" if size.n_labeled_patients is None else f"With {size.n_labeled_patients:,.0f} labelled patients"
    return f"With {size.title}"


def apart(arm: str, base: str) -> tuple[str, str, str]:
    """Return two titles without what they share, and what they share: `a · x`, `b · x` are `a`, `b` and `x`."""
    left, right = arm.split(SEPARATOR), base.split(SEPARATOR)
    shared = [word for word in left if word in right]
    own = [SEPARATOR.join(word for word in words if word not in shared) for words in (left, right)]
    return (own[0], own[1], SEPARATOR.join(shared)) if all(own) else (arm, base, "")


def verdict(found: Difference, test_set: TestSet, *, confidence: float, several_sets: bool, over: str = "") -> Verdict:
    """Return the sentence for one difference: estimate, interval, what was resampled, the adjusted p and n.

    `over` says of what a difference over several test sets is.
    """
    arms = {arm.key: arm.title for arm in test_set.arms}
    size = next(size for size in test_set.sizes if size.key == found.size)
    arm, base, shared = apart(arms[found.arm], arms[found.baseline])
    both = f", both with {shared}" if shared else ""
    start, where = size_words(size, test_set), over or (f"on {test_set.title}" if several_sets else "")
    # A claim never starts with the name of an arm, whose first letter must stay as it is.
    head = f"{(', ' if over else ' ').join(words for words in (start, where) if words) or 'On this test set'}, "
    tone = tone_of(found, confidence, higher_is_better=test_set.higher_is_better)
    amount = number(abs(found.estimate)) if found.estimate is not None else "–"
    way = "higher" if (found.estimate or 0.0) > 0 else "lower"
    why = "" if test_set.higher_is_better else " (lower is better)"
    claims = {
        "better": f"{head}{arm} scores {amount} {way} than {base} in {test_set.measure_title}{both}{why}.",
        "worse": f"{head}{arm} scores {amount} {way} than {base} in {test_set.measure_title}{both}{why}.",
        "open": f"{head}no difference between {arm} and {base} is shown: {signed(found.estimate)} {test_set.measure_title}{both}.",
        "silent": f"{head}nothing can be said of {arm} against {base}{both}: {_why_silent(found)}.",
    }
    claim = claims[tone]
    return Verdict(
        test_set=found.test_set,
        contrast=found.contrast,
        size=found.size,
        tone=tone,
        claim=claim[:1].upper() + claim[1:],
        names=tuple(name for name in (arm, base, shared) if name),
        evidence=_evidence(found, test_set, confidence),
    )


def tone_of(found: Difference, confidence: float, *, higher_is_better: bool = True) -> str:
    """Say what a difference means once it is adjusted: better, worse, open, or silent where no claim about a method is possible."""
    if found.p_adjusted is None or found.estimate is None:
        return "silent"
    if found.p_adjusted >= alpha(confidence):
        return "open"
    return "better" if (found.estimate > 0) == higher_is_better else "worse"


def _why_silent(found: Difference) -> str:
    if Status.IDENTICAL in found.status:
        return "the two arms rank every case alike"
    if found.matching == "none":
        return "runs of one of them are not there"
    if Status.ONE_RUN in found.status:
        return "one run of either is not a method"
    return "the difference cannot be estimated"


def _evidence(found: Difference, test_set: TestSet, confidence: float) -> str:
    parts: list[str] = []
    if found.low is not None:
        parts.append(f"{percent(confidence)} CI {signed(found.low)} to {signed(found.high)}, {estimand_words(found.estimand)}")
    elif found.estimate is not None:
        parts.append(f"difference {signed(found.estimate)}, no interval")
    if found.p_adjusted is not None:
        family = f", {found.family} in the family" if found.family > 1 else ""
        parts.append(f"Holm-adjusted p\u00a0{_equals(p_value(found.p_adjusted))} (raw {p_value(found.p)}{family})")
    parts.append(_replicates(found))
    parts.append(plural(test_set.n_clusters, f"test {SINGULAR[test_set.cluster]}", f"test {test_set.cluster}"))
    if found.low is not None:
        parts.append(METHOD_NAMES.get(found.method, found.method))
    if Status.MISSING_RUNS in found.status:
        parts.append("some planned runs are missing")
    return "; ".join(part for part in parts if part)


def _equals(text: str) -> str:
    return (text if text.startswith("<") else f"= {text}").replace(" ", "\u00a0")


def replicate_noun(estimand: str) -> str:
    """Return the singular of what an estimand replicates."""
    for word in ("seed", "pretraining"):
        if estimand.startswith(f"new_{word}s"):
            return word
    return "draw"


def _replicates(found: Difference) -> str:
    noun = replicate_noun(found.estimand)
    words = {
        "matched": f"{found.n_replicates} matched {noun}{'s' if found.n_replicates != 1 else ''}",
        "nested": f"{found.n_replicates} {noun}{'s' if found.n_replicates != 1 else ''} an arm, not matched",
        "fixed_reference": f"{plural(found.n_replicates, noun)} against a fixed reference",
        "one_run": "one run an arm",
    }
    return words.get(found.matching, "")


def warnings(cells: Sequence[Cell], test_sets: Sequence[TestSet], ledger: Sequence[LedgerRow]) -> tuple[str, ...]:
    """Return what a reader must know before trusting a number."""
    found: list[str] = []
    gone = [row for row in ledger if not row.present]
    if gone:
        are = "is" if len(gone) == 1 else "are"
        planned = plural(len(ledger), "planned evaluation")
        found.append(f"{len(gone)} of {planned} {are} not there: the cells are marked, and the rest is reported as it is.")
    for test_set in test_sets:
        found += _budget_warning(test_set.arms)
        left = [label.title for label in test_set.labels if Status.NOT_ESTIMABLE in label.status and not label.in_measure]
        if left:
            inside = sum(label.in_measure for label in test_set.labels)
            found.append(
                f"{test_set.title}: {', '.join(left)} cannot be estimated (too few patients of a class), so the {test_set.measure_title} "
                f"is over {inside} of {inside + len(left)} findings."
            )
    edges = sorted({f"{row.arm}: {edge}" for row in ledger for edge in row.at_edge})
    if edges:
        rows = sum(bool(row.at_edge) for row in ledger)
        values = ", ".join(sorted({edge for row in ledger for edge in row.at_edge}))
        found.append(
            f"{plural(rows, 'pick')} stand at the end of a tuned grid ({values}): the best value may lie beyond it; widen the grid."
        )
    most = max(ledger, key=lambda row: row.stopped, default=None)
    if most is not None and most.stopped:
        found.append(
            f"A search stopped up to {most.stopped} of {plural(most.candidates, 'candidate')} a pick before their end, and which ones "
            "depends on which ran first: the winner is the best of those that ran on."
        )
    if any(cell.n_pretrainings == 1 for cell in cells):
        found.append(
            "Pretrained arms rest on one pretraining run each: their intervals do not hold how much another pretraining would differ."
        )
    return tuple(dict.fromkeys(found))


def _budget_warning(arms: Sequence[ArmInfo]) -> list[str]:
    playing = [arm for arm in arms if not arm.floor]
    most, least = max(playing, key=lambda arm: arm.candidates, default=None), min(playing, key=lambda arm: arm.candidates, default=None)
    if most is None or least is None or most.candidates <= 2 * least.candidates:
        return []
    return [
        f"Tuning was unequal: {most.title} chose among {plural(most.candidates, 'candidate')} a replicate and {least.title} among "
        f"{least.candidates}; part of a difference may be the search."
    ]
