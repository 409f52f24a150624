"""What a classifier hands out as embeddings: the features that its head sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainers.made_data import made_access
from trainers.api import Setup
from trainers.classification import train
from trainers.classification.config import Config


@pytest.mark.parametrize("freeze", ["backbone", "nothing"])
def test_an_embedding_is_what_the_head_sees_of_the_centre_also_where_ten_views_are_scored(freeze: str) -> None:
    data, found = made_access(), {}
    for views in ("centre", "ten_crop"):
        config = Config(arch="slim", px=28, crop_pct=0.875, freeze=freeze, test_views=views, batch_size=7)  # type: ignore[arg-type]
        setup = Setup(config=config, seed=3, data=data, device=torch.device("cpu"), predict_only=True, labels=("signal", "noise"))
        method = train.build(setup)
        rows = data.rows("test")
        found[views] = method.embed(rows, "backbone")
        assert found[views].dtype == np.float32 and found[views].shape == (len(rows), 192)
        if views == "centre":
            logits = found[views] @ method.module.head.weight.detach().numpy().T + method.module.head.bias.detach().numpy()
            assert np.allclose(logits, method.predict(rows).logits, atol=1e-5)
    assert np.array_equal(*found.values())
