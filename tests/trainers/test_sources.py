"""Several sources: each is validated by itself and kept with its numbers, and the means have equal weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.trainers.made_data import LABELS, made_access, made_rows
from tests.trainers.test_training import CARD, POLICIES, TINY, request_of
from tests.trainers.toy import FolderHost
from trainers.api import Scores, Setup, Source
from trainers.data.access import Access
from trainers.errors import Diverged, Error
from trainers.sources import measured_by_source
from trainers.training import DataRequest, measured, train

SIZES = {"small": 20, "large": 60}


class EachSource:
    """A solver that scores every source by the truth of its second label, less where `blurred`."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.module = setup, torch.nn.Linear(2, 2)
        self.blurred = {"small": 0.3, "large": 0.9}

    def solve(self) -> dict[str, float]:
        return {}

    def validate(self) -> Mapping[str, Scores]:
        found = {access.card: self._scored(access, self.blurred[access.card]) for access in self.setup.sources}
        return found | {f"{access.card}/student": self._scored(access, 0.0) for access in self.setup.sources}

    def _scored(self, access: Access, blur: float) -> Scores:
        rows = access.rows("val")
        noise = np.random.default_rng(len(rows)).normal(size=rows.labels.shape)
        logits = np.nan_to_num(np.abs(rows.labels)) * (1 - blur) + blur * noise
        return Scores(rows=rows, logits=logits.astype(np.float32), labels=rows.label_names)

    def predict(self, rows: Any) -> Scores:
        raise AssertionError


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, Access]:
    found: dict[str, Access] = {}

    def open_source(request: DataRequest, source: Mapping[str, Any]) -> Access:
        n = SIZES[source["card"]]
        access = made_access(n=80 + n, px=32, seed=n, sizes=(40, n), flaws=True)
        access._is_open, access.card = request.is_open, source["card"]
        found[source["card"]] = access
        return access

    monkeypatch.setattr(DataRequest, "open", open_source)
    monkeypatch.setattr(DataRequest, "card", lambda request, source: replace(CARD, name=source["card"]))
    return found


def method() -> ModuleType:
    module = ModuleType("method")
    module.build = EachSource  # type: ignore[attr-defined]
    return module


def sources(*cards: str) -> tuple[dict[str, str], ...]:
    return tuple({"card": card} for card in cards)


def test_each_source_is_measured_and_kept_and_the_means_weigh_them_equally(tmp_path: Path, opened: dict[str, Access]) -> None:
    host = FolderHost(tmp_path)
    _, result = train(request_of(method(), TINY, sources=sources("small", "large")), host)
    (kept,) = host.store.kept()
    metrics = kept["metrics"]
    for card, access in opened.items():
        scores = EachSource(Setup(config=None, seed=0, data=access, sources=(access,), device=torch.device("cpu")))._scored(
            access, {"small": 0.3, "large": 0.9}[card]
        )
        alone = measured(CARD, POLICIES, scores)
        assert {name: metrics[name.replace("val/", f"val/{card}/")] for name in alone} == alone
        table = pq.read_table(host.store.file(kept["name"], f"{card}.val.parquet")).to_pydict()
        assert len(table["image"]) == SIZES[card]
        assert np.array_equal(np.array(table["logit/noise"], np.float32), scores.logits[:, 1])
        assert len(pq.read_table(host.store.file(kept["name"], f"{card}.student.val.parquet"))) == SIZES[card]
    for network, infix in (("", ""), ("student/", "/student")):
        for mean, metric in (("mean_auroc", "auroc_macro"), ("mean_loss", "loss")):
            each = [metrics[f"val/{card}{infix}/{metric}"] for card in SIZES]
            assert metrics[f"val/{network}{mean}"] == pytest.approx(sum(each) / 2, abs=1e-12)
            assert metrics[f"val/{network}{mean}_not_estimable"] == 0
    assert metrics["val/student/mean_auroc"] == 1.0 > metrics["val/mean_auroc"]
    assert not {name for name in metrics if name.startswith(("val/auroc", "val/loss"))}
    labels = {"labels": list(LABELS), "task": "multilabel"}
    assert result["learnt_from"] == {"small": labels, "large": labels} and result["labels"] == list(LABELS)


def test_a_source_without_a_value_is_left_out_of_the_mean_named_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows = made_rows(8)
    one_class = replace(rows, labels=np.ones_like(rows.labels))
    scores = {
        "usual": Scores(rows=rows, logits=rows.labels, labels=LABELS),
        "one_class": Scores(rows=one_class, logits=rows.labels, labels=LABELS),
    }
    with caplog.at_level(logging.WARNING):
        found = measured_by_source(lambda card, one: measured(CARD, POLICIES, one), scores)
    assert found["val/mean_auroc"] == found["val/usual/auroc_macro"] == 1.0
    assert found["val/mean_auroc_not_estimable"] == 1 and found["val/mean_loss_not_estimable"] == 0
    assert found["val/one_class/auroc_not_estimable"] == 2 and "val/one_class/auroc_macro" not in found
    assert "val/mean_auroc is the mean without one_class" in caplog.text


def test_no_source_with_a_value_is_no_mean_and_not_a_zero() -> None:
    rows = made_rows(8)
    one_class = replace(rows, labels=np.ones_like(rows.labels))
    scores = {"only": Scores(rows=one_class, logits=rows.labels, labels=LABELS)}
    found = measured_by_source(lambda card, one: measured(CARD, POLICIES, one), scores)
    assert "val/mean_auroc" not in found and found["val/mean_auroc_not_estimable"] == 1


def test_scores_that_are_not_finite_end_a_run_of_several_sources_too(tmp_path: Path, opened: dict[str, Access]) -> None:
    class Broken(EachSource):
        def _scored(self, access: Access, blur: float) -> Scores:
            found = super()._scored(access, blur)
            found.logits[0, 0] = np.nan
            return found

    module = method()
    module.build = Broken  # type: ignore[attr-defined]
    with pytest.raises(Diverged, match="scores that are not finite"):
        train(request_of(module, TINY, sources=sources("small", "large")), FolderHost(tmp_path))


def test_the_setup_says_what_every_source_has_and_the_labels_are_those_of_all(tmp_path: Path, opened: dict[str, Access]) -> None:
    seen: list[Setup] = []

    class Looking(EachSource):
        def __init__(self, setup: Setup) -> None:
            super().__init__(setup)
            seen.append(setup)

    module = method()
    module.build = Looking  # type: ignore[attr-defined]
    train(request_of(module, TINY, sources=sources("small", "large")), FolderHost(tmp_path))
    assert seen[0].learnt_from == {card: Source(labels=LABELS, task="multilabel") for card in ("small", "large")}
    assert seen[0].labels == LABELS


def test_a_card_that_is_named_twice_is_refused(tmp_path: Path, opened: dict[str, Access]) -> None:
    with pytest.raises(Error, match="a card is named twice among small, small"):
        train(request_of(method(), TINY, sources=sources("small", "small")), FolderHost(tmp_path))
