"""Labels come from the setup, the config or the card, and a wrong one is refused."""

import numpy as np
import pytest
import torch

from tests.trainers.made_data import made_access
from trainers.api import Setup
from trainers.classification.config import Config
from trainers.errors import Error
from trainers.parts import labels


def _setup(**changes: object) -> Setup:
    values = {"config": Config(), "seed": 0, "data": made_access(flaws=True), "device": torch.device("cpu")}
    return Setup(**{**values, **changes})  # type: ignore[arg-type]


def test_the_card_gives_the_labels_unless_the_config_or_the_setup_does() -> None:
    assert labels.outputs_of(_setup()) == ("signal", "noise")
    assert labels.outputs_of(_setup(config=Config(labels=("noise",)))) == ("noise",)
    assert labels.outputs_of(_setup(config=Config(labels=("noise",)), labels=("signal",))) == ("signal",)


def test_a_model_that_predicts_keeps_labels_that_the_card_lacks() -> None:
    assert labels.outputs_of(_setup(predict_only=True, labels=("edema", "signal"))) == ("edema", "signal")


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(Error, match="card 'made' has no label 'edema'; there are signal, noise"):
        labels.outputs_of(_setup(config=Config(labels=("edema",))))


def test_training_follows_the_policies_and_measuring_drops_what_is_uncertain() -> None:
    setup = _setup()
    setup.data.policies = {"uncertain": "ones", "missing": "ignore"}
    rows = setup.data.rows("train")
    raw = rows.labels[:, 1]
    learnt, measured = labels.learnt(rows, setup, ("noise",))[:, 0], labels.measured(rows, setup, ("noise",))[:, 0]
    assert (raw == -1).any() and np.isnan(raw).any()
    assert (learnt[raw == -1] == 1).all()
    assert np.isnan(measured[raw == -1]).all()
    assert np.isnan(learnt[np.isnan(raw)]).all()
