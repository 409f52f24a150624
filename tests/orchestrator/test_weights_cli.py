"""`orchestrate weights`: what is printed for people and for machines, and what a mistake ends in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from orchestrator import cli, json_page
from orchestrator.weights_files import told_of
from tests.orchestrator.json_fields import faults_of
from tests.trainers.released import made_files
from trainers.parts import backbones
from trainers.states import write_weights


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["orchestrate", "weights", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    seen = capsys.readouterr()
    return int(ended.value.code or 0), seen.out, seen.err


@pytest.fixture
def published(tmp_path: Path) -> Path:
    made_files.moco(tmp_path / "mnn-00001.pth.tar", "mnasnet1_0", old=True)
    return tmp_path / "mnn-00001.pth.tar"


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A checkpoint where a run keeps it, with its manifest and its job."""
    folder = tmp_path / "jobs" / "ab" / "abcdef" / "checkpoints"
    folder.mkdir(parents=True)
    module = torch.nn.Module()
    module.backbone = backbones.build("slim", 1, None, seed=3)
    module.head = torch.nn.Linear(192, 128)
    write_weights(module, folder / "epoch-0002.safetensors")
    (folder / "epoch-0002.json").write_text('{"epoch": 2}', encoding="utf-8")
    job = {"trainer": "moco_cxr", "config": {"arch": "slim", "channels": 1, "lr": 0.003}}
    (folder.parent / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return folder / "epoch-0002.safetensors"


def test_inspect_says_what_a_file_is(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys, "inspect", str(published))
    assert code == 0
    for line in (
        "format     a pretraining checkpoint of MoCo, by MoCo-CXR",
        "arch       mnasnet_100, by its shapes; stated: mnasnet1_0",
        "head       projection, mlp: 1280 -> 1280 -> 128",
        "input      3 channels",
        "training   epoch 20, lr 1e-06",
        "tensors    634: 312 query encoder, 4 head, 316 key encoder, 2 queue",
        "name       published by MoCo-CXR: MNASNet (by its letters), start not known, lr 0.0001; nothing in the file says otherwise",
    ):
        assert line in out
    code, out, _ = typed(capsys, "inspect", str(published), "--json")
    assert json.loads(out)["arch"] == ["mnasnet_100"]
    assert faults_of(json.loads(out), json_page.WEIGHTS_INSPECT) == []


def test_a_name_that_lies_is_a_warning(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = published.rename(published.with_name("d1w-0001.pth.tar"))
    code, out, _ = typed(capsys, "inspect", str(other))
    assert code == 0
    assert "warning    the name says densenet121, the shapes are those of mnasnet_100" in out
    assert "warning    the name says lr 0.001, the optimizer's is 1e-06" in out
    assert "otherwise" not in out


def test_convert_prints_what_became_of_every_key(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys, "convert", str(published), "--to", "torchvision")
    assert code == 0
    written = published.with_name("mnn-00001.torchvision.pth")
    assert out.startswith(f"{written}: mnasnet_100 as torchvision, 3 channels")
    for line in (
        "used       312 keys",
        "dropped    4 head: ",
        "dropped    316 key encoder: module.encoder_k.layers.0.weight",
        "dropped    2 queue",
    ):
        assert line in out
    assert "dropped    beside the state dict: epoch, arch, optimizer" in out
    code, out, _ = typed(capsys, "convert", str(published), "--to", "torchvision", "--overwrite", "--json")
    said = json.loads(out)
    assert said["used"]["module.encoder_q.layers.0.weight"] == "layers.0.weight"
    assert len(said["dropped"]["key encoder"]) == 316
    assert faults_of(said, json_page.WEIGHTS_CONVERT) == []


def test_a_mistake_is_one_sentence_and_code_2(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = typed(capsys, "convert", str(published), "--to", "facebook_moco")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "networks whose head is called fc" in err
    code, out, err = typed(capsys, "inspect", str(published.with_name("none.pth")))
    assert (code, out) == (2, "") and "there is no such weights file" in err
    code, out, err = typed(capsys, "convert", str(published))
    assert code == 2 and "--to" in err


def test_our_checkpoint_becomes_a_released_one_with_what_its_job_knows(ours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys, "inspect", str(ours))
    assert code == 0
    assert "arch       slim, by its shapes; stated: slim" in out
    assert "head       projection, one layer: 192 -> 128" in out
    assert "training   epoch 2, lr 0.003" in out and "input      1 channel\n" in out
    code, out, _ = typed(capsys, "convert", str(ours), "--to", "cxr", "--keep-head", "--channels", "3")
    assert code == 0 and "changed    conv1.weight 1 -> 3 input channels" in out
    assert "note       the weights of one channel are repeated" in out


def test_only_a_checkpoint_where_a_run_keeps_it_is_told_of_by_a_job(ours: Path, tmp_path: Path) -> None:
    assert told_of(ours) == {"trainer": "moco_cxr", "arch": "slim", "lr": 0.003, "epoch": 2}
    assert told_of(tmp_path / "epoch-0002.safetensors") == {}
    (ours.parent.parent / "job.json").write_text("not json", encoding="utf-8")
    assert told_of(ours) == {}
