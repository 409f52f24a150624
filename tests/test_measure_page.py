"""The page of metrics and measures is current and tells every one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orchestrator import measure_page, reference
from orchestrator.report.kinds import KINDS
from trainers.api import Scores
from trainers.data.access import Rows
from trainers.parts.metrics import measure

PAGE = Path(__file__).parents[1] / "docs" / "measures.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == measure_page.page(), "type: make docs"


def test_every_measure_and_every_metric_of_a_trainer_is_told() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for kind in KINDS.values():
        assert f"| `{kind.name}" in page and kind.title in page
    for name, declaration in reference.own_trainers().items():
        assert all(f"| `{name}` | `{metric}` |" in page for metric in declaration.monitors)


def test_metrics_of_labels_are_those_that_are_logged() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, 40)
    rows = Rows(
        card="made",
        images=np.array([f"i{at}" for at in range(40)]),
        patients=np.array([f"p{at}" for at in range(40)]),
        studies=np.array([f"s{at}" for at in range(40)]),
        views=np.array(["frontal"] * 40),
        labels=np.stack([first, 1 - first], axis=1).astype(np.float32),
        label_names=("a", "b"),
        position=np.arange(40),
    )
    scores = Scores(rows=rows, logits=rng.normal(size=(40, 2)).astype(np.float32), labels=("a", "b"))
    logged = measure(scores, {"group": ("a", "b")}, one_class=True)
    named = {name.replace("auroc/a", "auroc/<finding>").replace("auroc/b", "auroc/<finding>") for name in logged}
    assert {name.replace("auroc_group", "auroc_<group>") for name in named} == {path.strip("`") for path, _ in measure_page.OF_LABELS}
