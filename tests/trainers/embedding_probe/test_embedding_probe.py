"""The probe on vectors: its solver against scikit-learn, its steps against a plain loop in torch, its schedule against torch's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from jobs.catalog import find_trainers
from tests.trainers.made_data import LABELS, made_access
from tests.trainers.made_host import run
from trainers.api import Setup
from trainers.data.access import Access
from trainers.embedding_probe import train
from trainers.embedding_probe.config import PRESETS, Config
from trainers.errors import Error
from trainers.parts import labels

CPU = torch.device("cpu")
SIZES = {"n": 60, "sizes": (30, 15)}
RELEASE = Config(embeddings="file", **{key: value for key, (value, _) in PRESETS["release"].items()})


def table(folder: Path, dimension: int = 6) -> tuple[Path, np.ndarray]:
    """Write vectors in which label `signal` is planted, for every made image in another order."""
    rows = made_access(**SIZES)
    images = np.concatenate([rows.rows(split).images for split in ("train", "val", "test")])
    truth = np.concatenate([rows.rows(split).labels[:, 0] for split in ("train", "val", "test")])
    values = np.random.default_rng(0).normal(size=(len(images), dimension)).astype(np.float32)
    values[:, 0] += 2 * truth
    order = np.random.default_rng(1).permutation(len(images))
    folder.mkdir(exist_ok=True)
    np.savez(folder / "table.npz", ids=images[order], vectors=values[order])
    return folder / "table.npz", values


def setup(config: Config, file: Path, access: Access | None = None, **more: Any) -> Setup:
    data = made_access(**SIZES) if access is None else access
    return Setup(config=config, seed=1, data=data, weights={"embeddings": file}, device=CPU, **more)


def test_the_solution_is_that_of_scikit_learn_on_standardised_vectors(tmp_path: Path) -> None:
    file, values = table(tmp_path)
    made = setup(Config(embeddings="file", penalties=(3.0,)), file)
    _, _, probe = run(train, made, tmp_path)
    rows = made.data.rows("train")
    x = (values[:30] - values[:30].astype(np.float64).mean(0)) / values[:30].astype(np.float64).std(0)
    test = (values[45:] - values[:30].astype(np.float64).mean(0)) / values[:30].astype(np.float64).std(0)
    logits = probe.predict(made.data.rows("test")).logits
    for column in range(len(LABELS)):
        theirs = LogisticRegression(C=1 / 3, tol=1e-10, max_iter=10_000).fit(x, rows.labels[:, column])
        assert np.allclose(logits[:, column], theirs.decision_function(test), atol=1e-5)
    assert probe.facts()["embeddings"]["vectors"] == 60


def test_released_steps_are_those_of_a_plain_loop_with_torchs_schedule(tmp_path: Path) -> None:
    """Adam in double precision, batches of 512 with what is left, CosineAnnealingLR(T_max=1000, eta_min=1) stepped by epoch."""
    file, values = table(tmp_path)
    config = replace(RELEASE, epochs=12, batch_size=8)
    made = setup(config, file)
    probe = train.build(made)
    weight, bias = (value.detach().clone().requires_grad_() for value in (probe.module.weight, probe.module.bias))
    assert weight.dtype == torch.float64
    _, _, trained = run(train, setup(config, file), tmp_path)
    optimizer = torch.optim.Adam([weight, bias], lr=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000, eta_min=1)
    x, y = torch.from_numpy(values[:30]).double(), torch.from_numpy(labels.learnt(made.data.rows("train"), made, LABELS)).double()
    assert isinstance(probe, train.Stepped) and probe.steps_per_epoch == 4
    for epoch in range(12):
        seen = 0
        for batch in probe.batches(epoch):
            assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4 * probe.learning_rate_factor(4 * epoch), rel=1e-9)
            seen += len(batch["features"])
            optimizer.zero_grad()
            loss = torch.nn.BCELoss()(torch.sigmoid(batch["features"] @ weight.T + bias), batch["targets"])
            loss.backward()
            optimizer.step()
        assert seen == len(x) == len(y)
        schedule.step()
    assert torch.allclose(trained.module.weight, weight, atol=1e-9) and torch.allclose(trained.module.bias, bias, atol=1e-9)


def test_the_released_rate_rises_as_its_scheduler_makes_it(tmp_path: Path) -> None:
    file, _ = table(tmp_path)
    probe = train.build(setup(RELEASE, file))
    assert isinstance(probe, train.Stepped) and probe.steps_per_epoch == 1
    rates = [1e-4 * probe.learning_rate_factor(step) for step in range(101)]
    assert (
        rates[0] == pytest.approx(1e-4) and rates[100] == pytest.approx(0.0246, abs=5e-5) and rates[99] == pytest.approx(0.0241, abs=5e-5)
    )
    ours = train.build(setup(replace(RELEASE, lr_end=0.0, lr_epochs=0), file))
    assert isinstance(ours, train.Stepped) and ours.learning_rate_factor(100) == pytest.approx(0.0, abs=1e-12)


def test_every_vector_is_seen_once_an_epoch_in_another_order(tmp_path: Path) -> None:
    file, values = table(tmp_path)
    probe = train.build(setup(replace(RELEASE, batch_size=8), file))
    assert isinstance(probe, train.Stepped)
    epochs = [torch.cat([batch["features"] for batch in probe.batches(epoch)]) for epoch in (0, 1)]
    assert not torch.equal(*epochs)
    for seen in epochs:
        assert sorted(map(tuple, seen.float().tolist())) == sorted(map(tuple, values[:30].tolist()))
    later = torch.cat([batch["features"] for batch in probe.batches(1, start=2)])
    assert torch.equal(later, epochs[1][16:])


def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    file, _ = table(tmp_path)
    config = replace(RELEASE, epochs=4, batch_size=8, lr=0.05)
    whole, _, _ = run(train, setup(config, file), tmp_path / "whole")
    _, outcome, _ = run(train, setup(config, file), tmp_path / "cut", stop_after=6)
    assert not outcome.finished
    resumed, _, _ = run(train, setup(config, file), tmp_path / "cut")
    assert resumed.digests["epoch-0004"] == whole.digests["epoch-0004"]


@pytest.mark.parametrize("config", [Config(embeddings="file"), replace(RELEASE, lr=0.02, epochs=20)], ids=["lbfgs", "adam"])
def test_it_finds_what_is_planted(config: Config, tmp_path: Path) -> None:
    file, _ = table(tmp_path)
    _, outcome, _ = run(train, setup(config, file), tmp_path)
    assert outcome.metrics["val/auroc/signal"] > 0.8


def test_a_stand_in_needs_no_table_and_a_job_without_one_is_refused(tmp_path: Path) -> None:
    config = Config(embeddings="stand_in")
    made = Setup(config=config, seed=1, data=made_access(**SIZES), device=CPU)
    _, _, probe = run(train, made, tmp_path)
    assert probe.facts() == {} and np.isfinite(probe.predict(made.data.rows("test")).logits).all()
    with pytest.raises(Error, match="is no table of this job: name a parquet, csv or npz file"):
        train.build(replace(made, config=Config(embeddings="file")))


def test_it_declares_what_prediction_needs() -> None:
    declaration = find_trainers()["embedding_probe"]
    assert declaration.needs == declaration.starts == ("embeddings",) and declaration.roles == ()
