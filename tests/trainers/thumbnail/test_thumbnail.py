"""The floor learns what a few numbers can show, and nothing from features that hold no signal."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.made_data import made_access
from trainers.api import Setup, Solver
from trainers.errors import Error
from trainers.parts.metrics import measure
from trainers.thumbnail.config import FLOOR, Config
from trainers.thumbnail.train import build


def _setup(config: Config, **data: object) -> Setup:
    return Setup(config=config, seed=0, data=made_access(n=160, sizes=(100, 30), **data), device=torch.device("cpu"))  # type: ignore[arg-type]


@pytest.mark.parametrize("feature", ["thumbnail", "shape", "intensity"])
def test_each_kind_of_feature_finds_the_planted_signal(feature: str) -> None:
    solver = build(_setup(Config(px=32, features=(feature,))))  # type: ignore[arg-type]
    metrics = solver.solve()
    scores = solver.validate()
    assert isinstance(solver, Solver)
    assert scores is not None
    assert measure(scores)["val/auroc/signal"] > 0.7
    assert metrics["train/penalty/signal"] in Config().penalties


def test_a_solution_does_not_depend_on_a_random_number() -> None:
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        solver = build(_setup(Config(px=32)))
        solver.solve()
        weights.append(torch.cat([solver.module.weight.ravel(), solver.module.bias]))
    assert torch.equal(*weights)


def test_without_validation_the_one_penalty_is_used() -> None:
    solver = build(_setup(Config(px=32, penalty=7.0), val=False))
    assert solver.solve()["train/penalty/signal"] == 7.0
    assert solver.validate() is None


def test_a_solver_built_to_predict_opens_no_training_rows() -> None:
    fitted = build(_setup(Config(px=32)))
    fitted.solve()
    setup = _setup(Config(px=32))
    setup = Setup(config=setup.config, seed=0, data=setup.data, device=setup.device, predict_only=True, labels=fitted.labels)
    other = build(setup)
    other.module.load_state_dict(fitted.module.state_dict())
    rows = setup.data.rows("test")
    assert np.array_equal(other.predict(rows).logits, fitted.predict(fitted.setup.data.rows("test")).logits)
    assert set(setup.data.opened) == {"test"}


def test_an_unknown_label_is_refused_with_the_nearest() -> None:
    with pytest.raises(Error, match="did you mean 'signal'"):
        build(_setup(Config(px=32, labels=("signals",))))


@pytest.mark.parametrize("changes", [{"features": ()}, {"penalties": ()}, {"side": 0}, {"side": 65}, {"penalty": 0.0}])
def test_settings_that_no_data_can_meet_are_refused_when_planned(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Config(**changes)


def test_it_declares_itself_a_floor() -> None:
    assert FLOOR
