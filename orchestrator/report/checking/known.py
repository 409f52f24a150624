"""The numbers of a report by name, and the words by which a text speaks of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import ReportError
from orchestrator.report import published_lines
from orchestrator.report.keys import Keys, slug
from orchestrator.report.lines import CITED, Line, lines
from orchestrator.report.values import Report

#: Words for a measure in a text, by the start of its key. A macro average is no other measure than its parts.
MEASURE_WORDS: Mapping[str, tuple[str, ...]] = {
    "auroc": ("auroc", "auc", "roc auc"),
    "ap": ("average precision", "auprc", "ap"),
    "brier": ("brier",),
    "ece": ("ece", "calibration error"),
    "dice": ("dice",),
    "hd95": ("hd95", "hausdorff"),
    "sensitivity": ("sensitivity",),
    "specificity": ("specificity",),
    "ppv": ("ppv", "precision"),
    "npv": ("npv",),
    "f1": ("f1",),
    "accuracy": ("accuracy",),
    "interquartile_mean": ("middle half", "interquartile mean", "iqm"),
    "probability_of_improvement": ("probability of improvement",),
}

#: What a number beside an arm means only where a text says so, by kind of row: the word for it among measures.
_BY_WORD: Mapping[str, str] = {
    "interquartile_mean": "interquartile_mean",
    "interquartile_mean_difference": "interquartile_mean",
    "probability_of_improvement": "probability_of_improvement",
}
#: What is over all numbers of labels; everything else belongs to one.
_OVER_ALL = ("area_between", "trend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a piece of text speaks of. An empty set says nothing."""

    arms: frozenset[str] = frozenset()
    sizes: frozenset[str] = frozenset()
    findings: frozenset[str] = frozenset()
    measures: frozenset[str] = frozenset()
    test_sets: frozenset[str] = frozenset()

    def __or__(self, other: Context) -> Context:
        """Return what two pieces speak of together."""
        return Context(
            arms=self.arms | other.arms,
            sizes=self.sizes | other.sizes,
            findings=self.findings | other.findings,
            measures=self.measures | other.measures,
            test_sets=self.test_sets | other.test_sets,
        )

    @property
    def is_specific(self) -> bool:
        """Tell whether a number here is surely one of the report: an arm is named, and what was measured, or with how many labels."""
        return bool(self.arms) and bool(self.sizes or self.measures or self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A report as a text may cite it."""

    #: Every number by its name; None is a number that could not be estimated.
    numbers: Mapping[str, float | None]
    rows: tuple[Line, ...]
    #: (words, which field of a context, what it adds there), longest first.
    vocabulary: tuple[tuple[tuple[str, ...], str, str], ...]
    #: Numbers that say how a study was made, not what came out.
    settings: frozenset[float]
    #: An arm's short name, or its title as words -> its key.
    arms: Mapping[str, str]

    def named(self, name: str) -> float | None:
        """Return the number of a name. Raises ReportError with the nearest names for one that the report does not have."""
        if name not in self.numbers:
            near = " or ".join(repr(one) for one in difflib.get_close_matches(name, self.numbers, n=2, cutoff=0.6))
            hint = f"did you mean {near}?" if near else "names stand in the column `key` of report.csv"
            raise ReportError(f"'{name}' names no number of the report; {hint}")
        return self.numbers[name]

    def called(self, name: str, arm: str) -> Known:
        """Return this with another name for an arm. Raises ReportError for an arm that the report does not have."""
        key = self.arms.get(slug(arm))
        if key is None:
            near = difflib.get_close_matches(slug(arm), self.arms, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(self.arms)}"
            raise ReportError(f"'{arm}' is no arm of the report; {hint}")
        return replace(self, vocabulary=_longest([*self.vocabulary, (words_of(name), "arms", key)]))

    def context(self, words: Sequence[str]) -> Context:
        """Return what some words speak of, the longest names first, each word once."""
        left = list(words)
        found: dict[str, set[str]] = {}
        for wanted, field, value in self.vocabulary:
            for start in range(len(left) - len(wanted) + 1):
                if tuple(left[start : start + len(wanted)]) == wanted:
                    found.setdefault(field, set()).add(value)
                    left[start : start + len(wanted)] = [""] * len(wanted)
        return Context(**{field: frozenset(values) for field, values in found.items()})

    def candidates(self, context: Context) -> list[tuple[str, float]]:
        """Return the numbers, with their names, that a piece of text may mean."""
        found: list[tuple[str, float]] = []
        for row in self.rows:
            if _matches(row, context):
                found += [(row.key if part == "estimate" else f"{row.key}.{part}", value) for part, value in _parts(row)]
                if row.kind == "difference" and row.estimate is not None:
                    found.append((f"{row.key}.abs", abs(row.estimate)))
        return found


def _matches(row: Line, context: Context) -> bool:
    if row.kind in published_lines.KINDS:
        return False
    word = _BY_WORD.get(row.kind)
    if word is not None and word not in context.measures:
        return False
    measures = context.measures - set(_BY_WORD.values())
    pair = {row.arm} if row.baseline is None else {row.arm, row.baseline}
    # A difference is meant where both of its arms are named, or one arm alone; a cell where its arm is.
    arms = pair & context.arms if row.baseline is None or len(context.arms) == 1 else pair <= context.arms
    return bool(
        arms
        and (not context.sizes or row.size in context.sizes or row.kind in _OVER_ALL)
        and (row.label in context.findings if context.findings else row.label is None or row.kind == "fold")
        and (not measures or any(row.measure.startswith(one) for one in measures))
        and (not context.test_sets or row.test_set in context.test_sets)
    )


def _parts(row: Line) -> list[tuple[str, float]]:
    # Standard errors and degrees of freedom are cited by name: beside an arm a number is an estimate, an end or a p.
    return [(part, value) for part in CITED if part not in ("se", "df") and (value := getattr(row, part)) is not None]


def known(report: Report) -> Known:
    """Return a report as texts may cite it."""
    rows = lines(report)
    numbers: dict[str, float | None] = dict(_counts(report))
    for row in rows:
        numbers[row.key] = row.estimate
        numbers |= {f"{row.key}.{part}": getattr(row, part) for part in CITED[1:]}
        if row.kind == "difference":
            numbers[f"{row.key}.abs"] = None if row.estimate is None else abs(row.estimate)
    keys = Keys.of(report.test_sets)
    arms = {name: arm for (_, arm), name in keys.arms.items()}
    shares = {float(size.key.partition("=")[2]) for one in report.test_sets for size in one.sizes if size.key.startswith("fraction=")}
    return Known(
        numbers=numbers,
        rows=rows,
        vocabulary=_longest(_vocabulary(report)),
        settings=frozenset({round(1 - report.confidence, 12), report.confidence, *shares, *_of_others(report)}),
        arms=arms,
    )


def _of_others(report: Report) -> Iterable[float]:
    """Yield published values as a page writes them: they are no results of this report."""
    for one in report.references:
        yield from (round(value, 3) for value in (one.value, one.low, one.high) if value is not None)


def _counts(report: Report) -> Iterable[tuple[str, float]]:
    yield "n_planned", report.n_planned
    yield "n_present", report.n_present
    for one in report.test_sets:
        for name in ("n_units", "n_patients", "n_clusters"):
            yield f"{slug(one.key)}/{name}", getattr(one, name)
        for label in one.labels:
            for name in ("n_positive", "n_negative", "n_positive_patients", "n_negative_patients"):
                yield f"{slug(one.key)}/{label.name}/{name}", getattr(label, name)


def _vocabulary(report: Report) -> Iterable[tuple[tuple[str, ...], str, str]]:
    for one in report.test_sets:
        yield words_of(one.title), "test_sets", one.key
        yield words_of(one.key), "test_sets", one.key
        for arm in one.arms:
            yield words_of(arm.title), "arms", arm.key
        for label in one.labels:
            yield words_of(label.title), "findings", label.name
        for size in one.sizes:
            yield from ((words, "sizes", size.key) for words in _size_words(size.key, size.title))
    for measure, said in MEASURE_WORDS.items():
        for word in said:
            yield words_of(word), "measures", measure


def _size_words(key: str, title: str) -> Iterable[tuple[str, ...]]:
    """Return the ways in which a text says how many labels there were."""
    yield words_of(title)
    name, _, value = key.partition("=")
    if name == "fraction":
        share = f"{100 * float(value):g}"
        yield from (
            words_of(f"{share} % {noun}") for noun in ("of the labels", "of labels", "labels", "of the data", "labelled", "labeled")
        )
        yield words_of(f"{share} %")
    elif name == "count":
        nouns = ("labelled", "labeled", "labels", "patients", "labelled patients", "labeled patients", "labelled images", "images")
        yield from (words_of(f"{float(value):g} {noun}") for noun in nouns)
        yield ("n", "=", *words_of(value))


def _longest(vocabulary: Iterable[tuple[tuple[str, ...], str, str]]) -> tuple[tuple[tuple[str, ...], str, str], ...]:
    known = {entry for entry in vocabulary if entry[0]}
    return tuple(sorted(known, key=lambda entry: (-len(entry[0]), entry)))


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text as they are compared: small letters, digits with their points, `%` and `=`; nothing of TeX's own."""
    plain = re.sub(r"\\(?:textperiodcentered|cdot)\b|\\[,;:! ]|[\u00a0\u202f]", " ", text)
    plain = re.sub(r"\\[a-zA-Z]+\*?", " ", plain.replace(r"\%", "%").replace(r"\_", " ").replace(r"\&", "&"))
    found = re.findall(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[%=]", plain.lower().replace("_", " "))
    return tuple(word.replace(",", "") if word[0].isdigit() else word for word in found)
