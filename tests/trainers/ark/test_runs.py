"""Ark in whole runs, which learn, resume and repeat, and what it predicts on which card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.ark.made_sources import CARDS, TINY, VAL, setup_of, source
from tests.trainers.ark.test_ark import ready, run
from trainers.api import Scores, Setup, Trainer
from trainers.ark import train
from trainers.ark.config import Config
from trainers.errors import DataError, Error
from trainers.weights import fingerprint


def test_both_networks_learn_and_are_validated_on_every_source(tmp_path: Path) -> None:
    config = replace(TINY, epochs=12, lr=0.1)
    host, outcome, method = run(setup_of(config), tmp_path)
    assert outcome.finished and isinstance(method, Trainer)
    last = outcome.metrics
    for network in ("", "student/"):
        assert last[f"val/{network}mean_auroc"] == pytest.approx(
            np.mean([last[f"val/{card}/{network}auroc_macro"] for card in CARDS]), abs=1e-12
        )
    assert last["val/alpha/auroc/signal"] > 0.9 and last["val/alpha/student/auroc/signal"] > 0.9
    assert last["val/gamma/auroc_macro"] > 0.9
    losses = host.values("epoch/supervised")
    assert losses[-1] < 0.8 * losses[0]
    assert host.values("epoch/consistency_weight")[-1] > 0.4
    assert [set(access.opened) for access in method.material.accesses] == [{"train", "val"}] * 3


def test_the_weights_that_are_handed_on_are_the_teachers_or_the_students(tmp_path: Path) -> None:
    config = replace(TINY, epochs=1)
    _, _, teacher = run(setup_of(config), tmp_path / "teacher")
    _, _, student = run(setup_of(replace(config, export="student")), tmp_path / "student")
    assert teacher.exported is teacher.teacher and student.exported is student.module
    assert fingerprint(teacher.module) == fingerprint(student.module) != fingerprint(teacher.teacher)
    assert set(student.validate()) == {*CARDS, *(f"{card}/teacher" for card in CARDS)}
    alone = ready(replace(config, consistency=0.0, export="student"))
    assert not alone.needs_teacher and set(alone.validate()) == set(CARDS)


@pytest.mark.parametrize("stop", [1, 4, 6, 9, 12, 15])
def test_a_run_that_is_stopped_in_a_pass_or_between_two_goes_on_to_the_same_bytes(tmp_path: Path, stop: int) -> None:
    config = replace(TINY, epochs=2, ema="pass" if stop % 2 else "step", schedule="cosine_of_val_loss")
    whole, _, _ = run(setup_of(config), tmp_path / "whole")
    _, outcome, _ = run(setup_of(config), tmp_path / "cut", stop_after=stop)
    assert not outcome.finished
    resumed, outcome, _ = run(setup_of(config), tmp_path / "cut")
    assert outcome.finished and resumed.digests["epoch-0002"] == whole.digests["epoch-0002"]
    assert resumed.logged[-1] == whole.logged[-1]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    config = replace(TINY, epochs=1)
    digests = [run(setup_of(config, seed=seed), tmp_path / name)[0].digests for seed, name in ((1, "a"), (1, "b"), (2, "c"))]
    assert digests[0] == digests[1] != digests[2]


def test_a_batch_may_be_cut_where_batchnorm_has_groups(tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, bn_images=4)
    whole, _, one = run(setup_of(config), tmp_path / "whole")
    cut, _, other = run(setup_of(replace(config, micro_batch=4)), tmp_path / "cut")
    assert cut.values("epoch/loss") == [pytest.approx(value, rel=1e-4) for value in whole.values("epoch/loss")]
    for name, value in one.module.state_dict().items():
        assert torch.allclose(value, other.module.state_dict()[name], rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize("mode", ["concurrent", "single_head"])
def test_the_ablations_run_and_learn(tmp_path: Path, mode: Any) -> None:
    config = replace(TINY, mode=mode, epochs=10, lr=0.1)
    _, outcome, method = run(setup_of(config), tmp_path)
    assert outcome.metrics["val/alpha/student/auroc/signal"] > 0.8
    if mode == "single_head":
        labels = ("signal", "noise", "other", "dark", "middle", "bright")
        assert method.outputs.heads == {"all": labels}
        assert {name for name in method.module.state_dict() if name.startswith("heads.")} == {"heads.all.weight", "heads.all.bias"}


def test_one_source_alone_is_learnt_from_and_predicts_others_by_the_names_that_they_share(tmp_path: Path) -> None:
    config = replace(TINY, only="beta", epochs=1)
    _, outcome, method = run(setup_of(config), tmp_path)
    assert set(method.outputs.heads) == {"beta"} and method.steps_per_epoch == 3
    assert {name.split("/")[1] for name in outcome.metrics if name.startswith("val/")} == {
        "beta", "student", "mean_auroc", "mean_loss", "mean_auroc_not_estimable", "mean_loss_not_estimable"
    }  # fmt: skip
    assert [set(access.opened) for access in method.setup.sources] == [set(), {"train", "val"}, set()]
    assert evaluating(config, "alpha").labels == ("signal",) and evaluating(config, "beta").labels == ("signal", "other")
    with pytest.raises(Error, match=r"config.only: there is no source 'bta'; did you mean 'beta'\?"):
        train.build(setup_of(replace(TINY, only="bta")))


# --- predicting --------------------------------------------------------------------------------------------------------------------------


def evaluating(config: Config, card: str, *, labels: tuple[str, ...] | None = None, heads: str = "auto") -> train.Ark:
    """Return a method that is built to predict a card with what was trained on alpha, beta and gamma."""
    trained = setup_of(config)
    access = source(card if card in CARDS else "alpha", labels=labels)
    access.card = card
    setup = Setup(
        config=config,
        seed=0,
        data=access,
        sources=(access,),
        predict_only=True,
        labels=trained.labels,
        learnt_from=trained.learnt_from,
        heads=heads,
        device=torch.device("cpu"),
    )
    return train.build(setup)


def predicted(method: train.Ark) -> Scores:
    return method.predict(method.setup.data.rows("val"))


def test_a_source_is_predicted_by_its_own_head() -> None:
    for card, (labels, _, _) in CARDS.items():
        method = evaluating(TINY, card)
        scores = predicted(method)
        assert scores.labels == method.labels == labels and scores.logits.shape == (VAL, len(labels))
        assert scores.exclusive == (card == "gamma")
        assert method.asked() == {label: [card] for label in labels}
        probability = 1 / (1 + np.exp(-scores.logits.astype(np.float64)))
        assert np.allclose(probability.sum(1), 1, atol=1e-5) == (card == "gamma")


def test_another_card_takes_each_label_from_all_heads_that_have_it_by_name() -> None:
    method = evaluating(TINY, "elsewhere", labels=("signal", "other"))
    scores = predicted(method)
    assert scores.labels == ("signal", "other") and not scores.exclusive
    views = torch.from_numpy(method.setup.data.images(32)._store.images[48 : 48 + VAL, None])  # type: ignore[attr-defined]
    method.module.eval()
    with torch.no_grad():
        embedding = method.module.embed(views)
        alpha, beta = (torch.sigmoid(method.module.logits(embedding, card).double()) for card in ("alpha", "beta"))
    mean = (alpha[:, 0] + beta[:, 0]) / 2
    assert method.asked() == {"signal": ["alpha", "beta"], "other": ["beta"]}
    assert np.allclose(scores.logits[:, 0], torch.logit(mean).numpy(), atol=1e-5)
    assert np.allclose(scores.logits[:, 1], torch.logit(beta[:, 1]).numpy(), atol=1e-5)
    assert evaluating(TINY, "elsewhere", labels=("unheard", "other")).labels == ("other",)


def test_an_evaluation_may_ask_for_the_mean_or_for_the_head_of_another_source() -> None:
    alpha, beta, mean = (evaluating(TINY, "alpha", heads=heads) for heads in ("alpha", "beta", "mean"))
    assert alpha.asked() == {"signal": ["alpha"], "noise": ["alpha"]}
    assert beta.labels == ("signal",) and beta.asked() == {"signal": ["beta"]}
    assert mean.asked() == {"signal": ["alpha", "beta"], "noise": ["alpha"]}
    p = [1 / (1 + np.exp(-predicted(method).logits[:, 0].astype(np.float64))) for method in (alpha, beta, mean)]
    assert np.allclose((p[0] + p[1]) / 2, p[2], atol=1e-6) and not np.allclose(p[0], p[1])
    assert (
        predicted(evaluating(TINY, "gamma", heads="gamma")).exclusive and not predicted(evaluating(TINY, "gamma", heads="mean")).exclusive
    )
    with pytest.raises(Error, match="heads: there is none for 'delta'"):
        evaluating(TINY, "alpha", heads="delta")


def test_a_card_that_shares_no_label_is_refused() -> None:
    with pytest.raises(DataError, match="card 'elsewhere' has no label that a source of the model has"):
        evaluating(TINY, "elsewhere", labels=("unheard", "unseen"))


def test_embeddings_are_those_before_and_after_the_projector_and_the_heads_read_the_latter() -> None:
    method = evaluating(TINY, "alpha")
    rows = method.setup.data.rows("val")
    before, after = method.embed(rows, "backbone"), method.embed(rows, "projector")
    assert before.shape == (VAL, 192) and after.shape == (VAL, 16) and before.dtype == after.dtype == np.float32
    state = method.module.state_dict()
    weight, bias = (state[f"projector.{name}"].numpy() for name in ("weight", "bias"))
    assert np.allclose(after, before @ weight.T + bias, atol=1e-5)
    weight, bias = (state[f"heads.alpha.{name}"].numpy() for name in ("weight", "bias"))
    assert np.allclose(predicted(method).logits, after @ weight.T + bias, atol=1e-5)
