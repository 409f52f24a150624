"""A weights file is opened without running anything in it, or refused in one sentence that says what to do."""

from __future__ import annotations

import argparse
import contextlib
import fractions
import pickle
import random
import re
import struct
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trainers.errors import WeightsError
from trainers.released.files import PICKLED, SAFETENSORS, ZIPPED, open_weights
from trainers.released.inspecting import inspect

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as found:
        open_weights(path)
    assert str(found.value).startswith(str(path)) and "\n" not in str(found.value)
    return str(found.value)


class Runs:
    """A pickle that would write a file when it is loaded by an unguarded unpickler."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["w.pth", "w.pth.tar", "w.pt", "w.pkl", "w.safetensors", "w"])
def test_a_file_is_told_by_its_content_and_not_by_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for container in (ZIPPED, PICKLED, SAFETENSORS):
        if container == SAFETENSORS:
            save_file(STATE, path)
        else:
            torch.save({"state_dict": STATE, "epoch": 3}, path, _use_new_zipfile_serialization=container == ZIPPED)
        opened = open_weights(path)
        assert opened.container == container
        assert opened.state.keys() == STATE.keys()
        assert all(torch.equal(opened.state[key], value) for key, value in STATE.items())


@pytest.mark.parametrize("entry", ["state_dict", "model", "model_state", "model_state_dict", ""])
def test_the_state_dict_is_found_where_programs_put_it(tmp_path: Path, entry: str) -> None:
    torch.save({entry: STATE, "epoch": 3} if entry else {**STATE, "epoch": 3}, tmp_path / "w.pth")
    opened = open_weights(tmp_path / "w.pth")
    assert (opened.entries, dict(opened.beside), opened.without_tensor) == ((entry,) if entry else (), {"epoch": 3}, ())


def test_numbers_of_numpy_are_values(tmp_path: Path) -> None:
    torch.save({"model_state": STATE, "ckpt_info": {"auroc": np.float64(0.75), "n": np.int64(3)}}, tmp_path / "w.pth")
    assert open_weights(tmp_path / "w.pth").beside == {"ckpt_info": {"auroc": 0.75, "n": 3}}


def test_numbers_of_the_numpy_of_1_are_values(tmp_path: Path) -> None:
    torch.save({"model_state": STATE, "auroc": np.float64(0.75)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "w.pth").read_bytes()
    assert content.count(b"numpy._core.multiarray") == 1
    (tmp_path / "w.pth").write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert open_weights(tmp_path / "w.pth").beside == {"auroc": 0.75}


def test_a_value_that_is_no_tensor_inside_the_state_dict_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {**STATE, "_extra_state": 3}}, tmp_path / "w.pth")
    assert open_weights(tmp_path / "w.pth").without_tensor == ("_extra_state",)


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path, new: bool) -> None:
    mark = tmp_path / "it_ran"
    torch.save({"state_dict": STATE, "args": Runs(mark)}, tmp_path / "w.pth", _use_new_zipfile_serialization=new)
    said = refusal(tmp_path / "w.pth")
    assert "holds Python objects (" in said and "can run code" in said and "torch.save(model.state_dict(), ...)" in said
    assert not mark.exists()
    # The file is what it claims to be: without the guard it does run.
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert mark.exists()


def test_the_object_that_is_refused_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "args": fractions.Fraction(1, 3)}, tmp_path / "w.pth")
    assert "holds Python objects (fractions.Fraction)" in refusal(tmp_path / "w.pth")


class CfgNode(dict[str, object]):
    """Settings as yacs pickles them: a dict with attributes."""


@pytest.mark.parametrize("new", [True, False])
def test_settings_beside_the_weights_are_read_as_plain_values(tmp_path: Path, new: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """argparse.Namespace (DINO, MAE, DeiT) and yacs' CfgNode (Swin, SimMIM, MoBY) lie beside the weights of training checkpoints."""
    monkeypatch.setattr(CfgNode, "__module__", "yacs.config")
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", types.ModuleType("yacs.config"))
    monkeypatch.setattr(sys.modules["yacs.config"], "CfgNode", CfgNode, raising=False)
    config = CfgNode(MODEL=CfgNode(TYPE="swin"), SEED=0)
    config.__dict__["__immutable__"] = True
    content = {"model": STATE, "args": argparse.Namespace(lr=1, arch="vit_small"), "config": config}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=new)
    monkeypatch.undo()
    opened = open_weights(tmp_path / "w.pth")
    assert opened.entries == ("model",) and opened.state.keys() == STATE.keys()
    assert opened.beside["config"] == {"MODEL": {"TYPE": "swin"}, "SEED": 0}
    assert type(opened.beside["args"]) is OrderedDict and type(opened.beside["config"]["MODEL"]) is OrderedDict


def test_a_pickle_that_torch_did_not_write_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"weight": np.zeros(3)}))
    assert "a pickle that torch.save did not write" in refusal(tmp_path / "w.pkl")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"epoch,loss\n1,0.5\n",
        b"PK\x03\x04 torn",
        b"\x80\x02 torn",
        struct.pack("<Q", 2**40) + b"{",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 9) + b'{"a": 1, ',
        b"<html>404</html>",
    ],
)
def test_what_is_no_weights_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    assert re.search("cannot be read as weights|holds no state dict|is damaged, or a pickle", refusal(path))


@pytest.mark.parametrize("container", [ZIPPED, PICKLED, SAFETENSORS])
def test_a_truncated_file_is_one_sentence_wherever_it_is_cut(tmp_path: Path, container: str) -> None:
    whole, path = tmp_path / "whole", tmp_path / "w.pth"
    if container == SAFETENSORS:
        save_file(STATE, whole)
    else:
        torch.save({"state_dict": STATE, "epoch": 3}, whole, _use_new_zipfile_serialization=container == ZIPPED)
    content = whole.read_bytes()
    for cut in [*range(0, len(content), max(len(content) // 40, 1)), len(content) - 1]:
        path.write_bytes(content[:cut])
        refusal(path)


def test_other_places_and_other_contents_are_refused(tmp_path: Path) -> None:
    assert "there is no such weights file" in refusal(tmp_path / "none.pth")
    assert "cannot be read (Is a directory)" in refusal(tmp_path)
    for name, content in (("list", [1, 2]), ("numbers", {"epoch": 3}), ("empty", {"state_dict": {}})):
        torch.save(content, tmp_path / name)
        assert "holds no state dict" in refusal(tmp_path / name)


@pytest.mark.parametrize("container", [ZIPPED, PICKLED, SAFETENSORS])
def test_a_file_with_changed_bytes_is_inspected_or_refused(tmp_path: Path, container: str) -> None:
    whole, path = tmp_path / "whole", tmp_path / "w.pth"
    state = {"module.encoder_q.conv1.weight": torch.ones(4, 3, 3, 3), "module.encoder_q.fc.weight": torch.ones(2, 4)}
    if container == SAFETENSORS:
        save_file(state, whole)
    else:
        beside = {"epoch": 3, "arch": "resnet18", "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}}
        torch.save({"state_dict": state, **beside}, whole, _use_new_zipfile_serialization=container == ZIPPED)
    content, draws = whole.read_bytes(), random.Random(0)
    opened = 0
    for _ in range(200):
        changed = bytearray(content)
        for _ in range(draws.choice([1, 2, 5])):
            changed[draws.randrange(min(len(content), 700))] = draws.randrange(256)
        path.write_bytes(bytes(changed))
        with contextlib.suppress(WeightsError):
            opened += inspect(path).tensors > 0
    assert 0 < opened < 200
