"""Embeddings of Ark: the teacher's or the student's, before or after the projector, of one view of each image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.trainers.ark.made_sources import TINY, setup_of, source
from tests.trainers.ark.test_ark import run
from trainers.api import Setup
from trainers.ark import train as ark
from trainers.data import transforms
from trainers.states import write_weights


@pytest.mark.parametrize("export", ["teacher", "student"])
def test_an_embedding_is_the_forward_pass_of_the_network_that_is_handed_on(export: str, tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, ema="pass", export=export)
    _, _, method = run(setup_of(config), tmp_path / "ark")
    write_weights(method.exported, tmp_path / "kept.safetensors")
    access = source("alpha")
    settings: dict[str, Any] = {"predict_only": True, "labels": access.label_names, "learnt_from": method.setup.learnt_from}
    again = ark.build(Setup(config=config, seed=0, data=access, sources=(access,), device=torch.device("cpu"), **settings))
    again.module.load_state_dict(load_file(tmp_path / "kept.safetensors"))
    rows = access.rows("val")
    network = (method.teacher if export == "teacher" else method.module).eval()
    views = torch.from_numpy(transforms.plain(access.images(32), rows.position, 32))
    with torch.no_grad():
        wanted = {"backbone": network.features(views).numpy(), "projector": network.embed(views).numpy()}
    for of, values in wanted.items():
        found = again.embed(rows, of)
        assert found.dtype == np.float32 and np.allclose(found, values, atol=1e-5), of
    assert wanted["backbone"].shape == (20, 192) and wanted["projector"].shape == (20, 16)
    with torch.no_grad():
        by_hand = network.logits(torch.from_numpy(wanted["projector"]), "alpha").numpy()
    assert np.allclose(again.predict(rows).logits, by_hand, atol=1e-4)


def test_without_a_projector_both_are_the_same(tmp_path: Path) -> None:
    _, _, method = run(setup_of(replace(TINY, epochs=1, projector="none")), tmp_path)
    rows = method._access("alpha").rows("val")
    assert np.array_equal(method.embed(rows, "backbone"), method.embed(rows, "projector"))
