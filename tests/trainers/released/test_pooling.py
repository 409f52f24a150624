"""MAE's fine-tuned ViTs, which take the mean of their patches and have a norm behind it, and networks that are built that way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from tests.trainers.made_data import LABELS, made_access
from tests.trainers.released import made_published as made
from trainers.api import Setup
from trainers.classification import train
from trainers.classification.config import Config
from trainers.errors import Error, WeightsError
from trainers.parts import backbones
from trainers.released.converting import Options, convert
from trainers.released.files import open_weights
from trainers.released.inspecting import inspect
from trainers.weights import fingerprint, load_backbone


def finetuned(folder: Path, network: nn.Module) -> Path:
    """Write what MAE's fine-tuning publishes: `model` alone, `fc_norm` in place of `norm`, a head of ImageNet."""
    return made.write({"model": {**network.state_dict(), **made.layers(("head", 96, 1000))}}, folder / "mae_finetuned_vit.pth")


def fresh(pool: str = "avg", arch: str = "slim_vit") -> nn.Module:
    return backbones.build(arch, 3, 64, pool=pool, seed=9)


def test_the_mean_is_of_patches_alone_and_normed_behind() -> None:
    """As He et al. fine-tune with `--global_pool`: no norm over tokens, the class token left out, and a norm of the mean."""
    network = made.mean_pooled().eval()
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = network.get_submodule("patch_embed")(images)
        tokens = torch.cat([network.cls_token.expand(3, -1, -1), tokens], 1) + network.pos_embed  # type: ignore[operator]
        tokens = network.get_submodule("blocks")(tokens)
        mean = tokens[:, 1:].mean(1)
        centred = (mean - mean.mean(1, keepdim=True)) / (mean.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
        wanted = centred * network.fc_norm.weight + network.fc_norm.bias  # type: ignore[union-attr, operator]
        assert torch.allclose(network(images), wanted, atol=1e-4 * float(wanted.abs().max()))
    assert "norm.weight" not in network.state_dict()


def test_a_fine_tuned_file_is_read_whole_by_a_network_that_pools_as_it_does(tmp_path: Path) -> None:
    wanted, network = made.mean_pooled(), fresh()
    report = load_backbone(network, finetuned(tmp_path, wanted), "slim_vit")
    assert fingerprint(network) == fingerprint(wanted)
    assert (report.kind, dict(report.owners), report.missing) == ("plain", {"head": 2}, ())


def test_a_network_that_pools_its_class_token_refuses_it_and_says_what_to_type(tmp_path: Path) -> None:
    network = fresh("arch")
    before = fingerprint(network)
    faults = r"keys missing: 2 \(norm.weight, norm.bias\); unexpected: 2 \(fc_norm.weight, fc_norm.bias\); .* set pool: avg"
    with pytest.raises(WeightsError, match=faults):
        load_backbone(network, finetuned(tmp_path, made.mean_pooled()), "slim_vit")
    assert fingerprint(network) == before


def test_one_key_too_many_or_too_few_is_refused(tmp_path: Path) -> None:
    state = dict(made.mean_pooled().state_dict())
    bias = state.pop("fc_norm.bias")
    with pytest.raises(WeightsError, match=r"keys missing: 1 \(fc_norm.bias\)"):
        load_backbone(fresh(), made.write({"model": state}, tmp_path / "w.pth"), "slim_vit")
    # With both norms nothing tells which of them is the one that was trained.
    both = {**state, "fc_norm.bias": bias, "norm.weight": bias, "norm.bias": bias}
    for pool, stranger in (("avg", "norm.weight, norm.bias"), ("arch", "fc_norm.weight, fc_norm.bias")):
        with pytest.raises(WeightsError, match=rf"keys unexpected: 2 \({stranger}\)"):
            load_backbone(fresh(pool), made.write({"model": both}, tmp_path / "w.pth"), "slim_vit")


@pytest.mark.parametrize("case", ["mae", "dino", "moco_v3_vit", "sam"])
def test_a_pretrained_vit_starts_a_mean_without_its_norm_which_is_named(case: str, tmp_path: Path) -> None:
    """As MAE's own fine-tuning loads its pretrained files: the norm behind the mean is new."""
    _, wanted, content, dropped = made.CASES[case]()
    network = fresh()
    built = fresh().state_dict()["fc_norm.weight"]
    report = load_backbone(network, made.write(content, tmp_path / "w.pth"), "slim_vit")
    assert report.missing == ("fc_norm.weight", "fc_norm.bias") and report.owners == {**dropped, "norm in front of pooling": 2}
    ours, theirs = network.state_dict(), wanted.state_dict()
    assert torch.equal(ours["fc_norm.weight"], built)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if not name.startswith("fc_norm"))


def test_inspect_and_convert_keep_how_it_pools(tmp_path: Path) -> None:
    wanted = made.mean_pooled()
    path = finetuned(tmp_path, wanted)
    found = inspect(path)
    assert (found.arch, found.pool, found.as_json()["pool"]) == (("slim_vit",), "avg", "avg")
    done = convert(path, Options(to="cxr", keep_head=True))
    assert done.dropped == {} and len(done.used) == len(open_weights(path).state)
    assert any("pool: avg" in note for note in done.notes)
    network = fresh()
    load_backbone(network, Path(done.out), "slim_vit")
    assert fingerprint(network) == fingerprint(wanted)
    again = inspect(Path(done.out))
    assert (again.arch, again.pool) == (("slim_vit",), "avg")


def test_timms_network_with_a_mean_takes_what_is_written_for_it(tmp_path: Path) -> None:
    arch = "vit_tiny_patch16_224"
    wanted = made.random(backbones.build(arch, 3, None, pool="avg"))
    torch.save({"model": {**wanted.state_dict(), **made.layers(("head", 192, 5))}}, tmp_path / "w.pth")
    done = convert(tmp_path / "w.pth", Options(to="timm", keep_head=True))
    network = timm.create_model(arch, global_pool="avg", num_classes=5)
    network.load_state_dict(open_weights(Path(done.out)).state, strict=True)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in wanted.state_dict().items())


@pytest.mark.parametrize("arch", ["resnet18", "slim_swin", "deit_tiny_distilled_patch16_224", "vit_base_patch16_gap_224"])
def test_a_network_without_such_a_norm_is_refused(arch: str) -> None:
    with torch.device("meta"), pytest.raises(Error, match=f"config.pool: '{arch}' has no norm behind a mean of patches"):
        backbones.build(arch, 3, None, pool="avg")


def test_a_classifier_pools_as_its_config_says(tmp_path: Path) -> None:
    wanted = made.mean_pooled()
    config = Config(arch="slim_vit", channels=3, px=64, init="mae", pool="avg", layer_decay=0.5)
    known = {"mae": finetuned(tmp_path, wanted)}
    built: Any = train.build(Setup(config=config, seed=1, data=made_access(), labels=LABELS, weights=known, device=torch.device("cpu")))
    assert fingerprint(built.module.backbone) == fingerprint(wanted)
    rates = {id(one): group["lr"] for group in built.optimizer().param_groups for one in group["params"]}
    behind, deepest = built.module.backbone.fc_norm.weight, built.module.backbone.blocks[-1].mlp.fc2.weight
    # The norm is above the last block, whatever it is called.
    assert rates[id(behind)] >= rates[id(deepest)] > rates[id(built.module.backbone.cls_token)]
