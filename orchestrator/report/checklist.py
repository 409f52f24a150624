"""What reporting guidelines ask for, where this report answers it, and what is left to the authors. Topics are in our words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.report.values import Report

#: The editions that the topics follow; item numbers stand in their own forms.
EDITIONS = (
    "CLAIM: 2024 update (Tejani et al., Radiology: Artificial Intelligence 2024)",
    "TRIPOD+AI: 2024 (Collins et al., BMJ 2024;385:e078378)",
    "STARD-AI: 2025 (Sounderajah et al., Nature Medicine 2025)",
)
_ALL = "CLAIM, TRIPOD+AI, STARD-AI"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One topic of the checklist. `place` is empty where the authors must fill it."""

    guidelines: str
    topic: str
    place: str
    left: str

    @property
    def state(self) -> str:
        """Say who has answered: the report, the report in part, or nobody yet."""
        return "authors" if not self.place else "in part" if self.left else "filled"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Topic:
    guidelines: str
    topic: str
    #: Where the report answers, and whether it does.
    place: str = ""
    holds: Callable[[Report], object] = bool
    #: What the authors must add even where the report answers.
    left: str = ""


_TOPICS = (
    _Topic(guidelines=_ALL, topic="Title and abstract name the kind of study and of model", left="the text itself"),
    _Topic(guidelines=_ALL, topic="Clinical background, intended use and users", left="the text itself"),
    _Topic(
        guidelines=_ALL, topic="Objective of the study", place="head of the page", holds=lambda one: one.about, left="the clinical question"
    ),
    _Topic(guidelines=_ALL, topic="Sources of data, dates, setting, who was eligible", left="from the data set's own paper"),
    _Topic(guidelines="CLAIM, TRIPOD+AI", topic="Preprocessing, selection of subsets, missing data", left="the card and the sweep say how"),
    _Topic(guidelines=_ALL, topic="Reference standard: how labels came about", left="from the data set's own paper"),
    _Topic(
        guidelines="CLAIM, TRIPOD+AI",
        topic="How data were parted, and that no patient is on two sides",
        place="Methods, Ledger of runs",
        holds=lambda one: any(row.draw for row in one.ledger),
        left="how the test set was set apart",
    ),
    _Topic(guidelines="CLAIM, TRIPOD+AI, STARD-AI", topic="How the size of the sample was decided", left="the reason for it"),
    _Topic(
        guidelines="CLAIM, TRIPOD+AI",
        topic="Model, its start and its training",
        place="sweep and provenance.json",
        holds=lambda one: one.ledger,
        left="the architecture in words",
    ),
    _Topic(
        guidelines="CLAIM, TRIPOD+AI",
        topic="How the final model was chosen, and among how many",
        place="Ledger of runs; Tuned over in the headline table",
        holds=lambda one: one.ledger,
    ),
    _Topic(guidelines="CLAIM, TRIPOD+AI", topic="Software and versions", place="Provenance, provenance.json"),
    _Topic(guidelines=_ALL, topic="Measures of performance", place="headline table, Methods", holds=lambda one: one.cells or one.folds),
    _Topic(
        guidelines=_ALL,
        topic="Uncertainty and significance: what is random, which test, how adjusted",
        place="Methods; every table",
        holds=lambda one: one.cells,
    ),
    _Topic(
        guidelines="CLAIM, STARD-AI",
        topic="How many patients and images were scored, and with each finding",
        place="head of the page, By finding",
        holds=lambda one: any(test_set.labels for test_set in one.test_sets),
        left="the flow of patients up to the test set",
    ),
    _Topic(guidelines=_ALL, topic="Who the patients are: age, sex, other characteristics", left="from the data set's own paper"),
    _Topic(
        guidelines=_ALL,
        topic="Performance with intervals, also by finding",
        place="headline table, By finding",
        holds=lambda one: any(cell.low is not None for cell in one.cells),
    ),
    _Topic(
        guidelines="CLAIM, TRIPOD+AI",
        topic="Evaluation on data from elsewhere",
        place="a section for each test set",
        holds=lambda one: len({test_set.card for test_set in one.test_sets}) > 1,
    ),
    _Topic(
        guidelines="CLAIM, TRIPOD+AI, STARD-AI",
        topic="What was planned and is missing",
        place="Before you trust a number, Ledger of runs",
        holds=lambda one: one.ledger,
    ),
    _Topic(guidelines="TRIPOD+AI, STARD-AI", topic="Fairness: performance in groups of patients", left="the groups, and what follows"),
    _Topic(guidelines="CLAIM, STARD-AI", topic="Failure analysis: what kinds of case go wrong", left="reading the cases"),
    _Topic(guidelines=_ALL, topic="Limitations, and what follows for practice", left="the text itself"),
    _Topic(guidelines=_ALL, topic="Where protocol, code, weights and data can be had; funding; ethics", left="the text itself"),
)


def answers(report: Report) -> tuple[Answer, ...]:
    """Return every topic with the place that answers it in this report."""
    return tuple(_answer(topic, report) for topic in _TOPICS)


def _answer(topic: _Topic, report: Report) -> Answer:
    place = topic.place if topic.place and (topic.holds is bool or topic.holds(report)) else ""
    left = topic.left or ("" if place else "not in this report")
    return Answer(guidelines=topic.guidelines, topic=topic.topic, place=place, left=left)


def text(report: Report) -> str:
    """Return `checklist.md`."""
    rows = [f"| {one.topic} | {one.guidelines} | {one.state} | {one.place or '–'} | {one.left or '–'} |" for one in answers(report)]
    lines = [
        f"# Checklist: {report.title}",
        "",
        "What reporting guidelines ask of such a study, where the report answers it, and what the authors must add.",
        "Topics are in our words; the guideline's own form has the items and their numbers.",
        "",
        *(f"- {edition}" for edition in EDITIONS),
        "",
        "| topic | asked by | state | where in the report | for the authors |",
        "| :-- | :-- | :-- | :-- | :-- |",
        *rows,
    ]
    return "\n".join(lines) + "\n"
