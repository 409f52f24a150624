"""What a watcher measures: neighbours and a probe against other people's code, and labels that cannot be told."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from tests.trainers.made_data import made_access, made_rows
from trainers.data.access import Access, Rows
from trainers.errors import Diverged, Error
from trainers.parts.watching import PENALTY, TEMPERATURE, Watch, features_of, neighbour_scores, probe_scores

CONFIG = SimpleNamespace(px=32, augment="none", batch_size=7, precision="fp32")


def planted(n: int, seed: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, 12) of which one carries the label, and the label."""
    random = np.random.default_rng(seed)
    truth = (random.random(n) < 0.4).astype(np.float32)
    features = random.normal(size=(n, 12)).astype(np.float32)
    features[:, 3] += strength * truth
    return features, truth


def opened(rows: Rows, train: slice, val: slice | None) -> Access:
    """Open some rows as training and validation; a test split must stay shut."""
    splits = {"train": train, "val": val}
    return Access(
        card="made",
        label_names=rows.label_names,
        rows_of=lambda split: rows.take(np.arange(len(rows))[where]) if (where := splits[split]) is not None else None,
        store=lambda size: pytest.fail("no image is opened here"),
        is_open=lambda split: split in splits,
        policies={"uncertain": "ignore", "missing": "ignore"},
    )


@given(st.integers(2, 40), st.integers(0, 99))
def test_neighbours_vote_as_in_scikit_learn(k: int, seed: int) -> None:
    known, truth = planted(60, seed, 1.0)
    asked, _ = planted(9, seed + 1000, 1.0)
    if len(set(truth.tolist())) < 2:
        return
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda far: np.exp((1 - far) / TEMPERATURE))
    expected = theirs.fit(known, truth).predict_proba(asked)[:, 1]
    assert neighbour_scores(known, truth, asked, k=k) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_what_is_unknown_does_not_vote_and_no_length_counts() -> None:
    known, truth = planted(80, 0, 1.0)
    asked, _ = planted(20, 1, 1.0)
    unknown = truth.copy()
    unknown[::3] = np.nan
    there = ~np.isnan(unknown)
    assert np.array_equal(neighbour_scores(known, unknown, asked), neighbour_scores(known[there], truth[there], asked))
    longer = known * np.linspace(0.1, 9, 80)[:, None]
    assert neighbour_scores(longer, truth, 7 * asked) == pytest.approx(neighbour_scores(known, truth, asked), rel=1e-5)


def test_the_probe_is_scikit_learns() -> None:
    known, truth = planted(150, 0, 1.5)
    asked, _ = planted(40, 1, 1.5)
    scale = StandardScaler().fit(known.astype(np.float64))
    theirs = LogisticRegression(C=1 / PENALTY, tol=1e-10, max_iter=2000).fit(scale.transform(known.astype(np.float64)), truth)
    assert probe_scores(known, truth, asked) == pytest.approx(theirs.decision_function(scale.transform(asked.astype(np.float64))), abs=1e-5)


def test_features_that_hold_a_label_tell_it_and_others_do_not() -> None:
    rows = made_rows(400)
    watch = Watch.of(opened(rows, slice(0, 200), slice(200, 400)), 400)
    features = np.random.default_rng(5).normal(size=(400, 12)).astype(np.float32)
    features[:, 0] += 6 * rows.labels[:, 0]
    found = watch.measure(features[:200], features[200:])
    assert found["val/knn/auroc/signal"] > 0.95 and found["val/probe/auroc/signal"] > 0.98
    assert 0.35 < found["val/knn/auroc/noise"] < 0.65 and 0.35 < found["val/probe/auroc/noise"] < 0.65
    for how in ("knn", "probe"):
        assert found[f"val/{how}/auroc_macro"] == pytest.approx((found[f"val/{how}/auroc/signal"] + found[f"val/{how}/auroc/noise"]) / 2)
        assert found[f"val/{how}/auroc_not_estimable"] == 0


def test_the_same_few_images_are_watched_and_the_test_split_stays_shut() -> None:
    rows = made_rows(900)
    data = opened(rows, slice(0, 700), slice(700, 900))
    one, again = Watch.of(data, 100), Watch.of(data, 100)
    assert (len(one.train), len(one.val)) == (50, 50)
    assert np.array_equal(one.train.position, again.train.position) and np.array_equal(one.val.position, again.val.position)
    assert (np.diff(one.train.position) > 0).all() and not set(one.train.position.tolist()) & set(one.val.position.tolist())
    assert set(data.opened) == {"train", "val"}
    # Where validation is small, training has the rest of them.
    few = Watch.of(opened(rows, slice(0, 700), slice(700, 720)), 100)
    assert (len(few.train), len(few.val)) == (80, 20)


def test_training_images_without_a_known_label_are_passed_over() -> None:
    rows = made_rows(100)
    rows.labels[10:50] = np.nan
    rows.labels[50:60] = -1
    watch = Watch.of(opened(rows, slice(0, 70), slice(70, 100)), 200)
    assert watch.train.position.tolist() == [*range(10), *range(60, 70)]


def test_a_label_of_one_class_is_named_and_has_no_number(caplog: pytest.LogCaptureFixture) -> None:
    rows = made_rows(100)
    rows.labels[70:, 1] = 0
    data = opened(rows, slice(0, 70), slice(70, 100))
    with caplog.at_level(logging.WARNING):
        watch = Watch.of(data, 100)
    assert "of which too few have and have not: noise. No number is given for these; raise watch_images" in caplog.text
    found = watch.measure(*(np.random.default_rng(0).normal(size=(n, 4)) for n in (70, 30)))
    assert watch.facts() == {"train": 70, "val": 30, "labels": ["signal", "noise"], "not_estimable": ["noise"]}
    assert "val/knn/auroc/noise" not in found and found["val/probe/auroc_not_estimable"] == 1
    assert found["val/knn/auroc_macro"] == found["val/knn/auroc/signal"]
    rows.labels[70:, 0] = 1
    nothing = Watch.of(opened(rows, slice(0, 70), slice(70, 100)), 100).measure(*(np.zeros((n, 4)) for n in (70, 30)))
    assert nothing == {"val/knn/auroc_not_estimable": 2, "val/probe/auroc_not_estimable": 2}


def test_what_cannot_be_watched_is_refused() -> None:
    rows = made_rows(40)
    with pytest.raises(Error, match=r"card 'made' has no validation images to watch: set it to 0, or pretrain on a card that has a 'val'"):
        Watch.of(opened(rows, slice(0, 40), None), 100)
    bare = replace(rows, labels=np.zeros((40, 0), np.float32), label_names=())
    with pytest.raises(Error, match=r"config.watch_every_epochs: card 'made' has no labels to watch"):
        Watch.of(opened(bare, slice(0, 20), slice(20, 40)), 100)
    rows.labels[:20] = np.nan
    with pytest.raises(Error, match="no training image of card 'made' has a known label"):
        Watch.of(opened(rows, slice(0, 20), slice(20, 40)), 100)


class Means(nn.Module):
    """Two features a view, and a BatchNorm that would give away a train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, views: Tensor) -> Tensor:
        assert not self.training
        flat = views.flatten(1).float()
        return self.norm(torch.stack([flat.mean(1), flat[:, 0]], dim=1))


def test_features_are_of_each_image_in_its_order_and_leave_the_network_as_it_was() -> None:
    data = made_access(n=60)
    rows, store, network = data.rows("train"), data.images(32), Means()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = features_of(network, network, 2, store, rows, CONFIG)
    assert network.training and all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    expected = [store.image(int(position)).mean() for position in rows.position]
    assert found[:, 0] == pytest.approx(np.array(expected) / np.sqrt(1 + network.norm.eps), rel=1e-5)


def test_features_that_are_not_finite_end_the_run() -> None:
    data, network = made_access(n=60), Means()
    network.norm.weight.data.fill_(torch.nan)
    with pytest.raises(Diverged, match="features are not finite; lower lr"):
        features_of(network, network, 2, data.images(32), data.rows("train"), CONFIG)


def test_nothing_random_is_drawn() -> None:
    data, network = made_access(n=60), Means()
    before = torch.get_rng_state(), np.random.get_state()[1]
    watch = Watch.of(data, 40)
    watch.measure(*(features_of(network, network, 2, data.images(32), rows, CONFIG) for rows in (watch.train, watch.val)))
    assert torch.equal(torch.get_rng_state(), before[0]) and np.array_equal(np.random.get_state()[1], before[1])


def test_a_probe_that_finds_no_solution_costs_its_number_and_not_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lost(*arguments: Any, **others: Any) -> None:
        raise Error("the logistic solver stopped")

    monkeypatch.setattr("trainers.parts.logistic.fit", lost)
    watch = Watch.of(opened(made_rows(100), slice(0, 60), slice(60, 100)), 100)
    found = watch.measure(*(np.random.default_rng(0).normal(size=(len(rows), 4)) for rows in (watch.train, watch.val)))
    assert found["val/probe/auroc_not_estimable"] == 2 and found["val/knn/auroc_not_estimable"] == 0
    assert "watching: 'signal' has no probe: the logistic solver stopped" in caplog.text
