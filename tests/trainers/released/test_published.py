"""Files of every method that people start from load whole: each key used, or dropped with what it belongs to; anything else is refused."""

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
from trainers.errors import WeightsError
from trainers.parts import backbones
from trainers.released import architectures, fitting, formats, published
from trainers.released.converting import Options, convert
from trainers.released.files import open_weights
from trainers.released.inspecting import inspect
from trainers.weights import KeyReport, fingerprint, load_backbone

KINDS = {
    "timm_swin": "plain",
    "microsoft_swin": "plain",
    "sam": "plain",
    "imagenet_21k": "plain",
    "deit": "plain",
    "deit_distilled": "plain",
    "dino": "dino",
    "dino_backbone": "plain",
    "moco_v3_vit": "moco_v3",
    "moco_v3_resnet": "moco_v3",
    "moby": "moby",
    "mae": "mae",
    "simmim": "simmim",
    "ark": "ark",
    "ark_teacher": "ark_teacher",
}


def loaded(network: nn.Module, content: Any, folder: Path, arch: str, part: str = "") -> KeyReport:
    return load_backbone(network, made.write(content, folder / "w.pth"), arch, part)


def fresh(arch: str) -> nn.Module:
    return backbones.build(arch, 3, None if arch.startswith("deit") else 64, seed=9)


@pytest.mark.parametrize("case", made.CASES)
def test_a_published_file_gives_its_network_and_names_all_that_it_leaves(case: str, tmp_path: Path) -> None:
    arch, wanted, content, dropped = made.CASES[case]()
    network = fresh(arch)
    assert fingerprint(network) != fingerprint(wanted)
    report = loaded(network, content, tmp_path, arch)
    assert fingerprint(network) == fingerprint(wanted)
    assert (report.kind, dict(report.owners), report.missing, report.adapted) == (KINDS[case], dropped, (), ())
    keys = len(open_weights(tmp_path / "w.pth").state)
    assert len(report.loaded) + len(report.dropped) == keys and len(report.dropped) == sum(dropped.values())


@pytest.mark.parametrize("case", made.CASES)
def test_a_key_too_many_or_too_few_is_refused_by_its_name(case: str, tmp_path: Path) -> None:
    arch, _, content, _ = made.CASES[case]()
    path = made.write(content, tmp_path / "w.pth")
    opened = open_weights(path)
    prefix = formats.split(opened.state).prefix
    network = fresh(arch)
    before = fingerprint(network)
    state = made.state_of(content)
    where = state.get("teacher", state)
    # Names of the file, with its wrapper and without its entry.
    wrapper = "module." if next(iter(where)).startswith("module.") else ""
    wrapped = f"{wrapper}{prefix.removeprefix('teacher.')}"
    where[f"{wrapped}blocks.9.stranger.weight"] = torch.ones(1)
    with pytest.raises(WeightsError, match=r"keys unexpected: 1 \(blocks.9.stranger.weight\)"):
        loaded(network, content, tmp_path, arch)
    del where[f"{wrapped}blocks.9.stranger.weight"]
    stem = "conv1.weight" if arch == "slim" else "patch_embed.proj.weight"
    del where[f"{wrapped}{stem}"]
    with pytest.raises(WeightsError, match=rf"keys missing: 1 \({stem}\)"):
        loaded(network, content, tmp_path, arch)
    assert fingerprint(network) == before


@pytest.mark.parametrize(("case", "part"), [("dino", "student"), ("moco_v3_vit", "momentum"), ("moby", "key"), ("ark", "student")])
def test_the_other_network_of_a_file_is_taken_where_it_is_asked_for(case: str, part: str, tmp_path: Path) -> None:
    arch, first, content, _ = made.CASES[case]()
    network = fresh(arch)
    report = loaded(network, content, tmp_path, arch, part)
    assert fingerprint(network) == fingerprint(made.small(arch, seed=2)) != fingerprint(first)
    assert report.part == part and f", {part})" in report.sentence()
    assert {"dino": "teacher", "moco_v3_vit": "base encoder", "moby": "query encoder", "ark": "teacher"}[case] in report.owners


@pytest.mark.parametrize("init", ["ark", "ark#student", "file#student"])
def test_a_job_starts_from_the_part_that_its_config_asks_for(init: str, tmp_path: Path) -> None:
    """A plan writes the start as `file#student`, and the file under the key `init`."""
    _, _, content, _ = made.CASES["ark"]()
    path = made.write(content, tmp_path / "w.pth")
    config = Config(arch="slim_swin", channels=3, px=64, init=init)
    known = {"init": path} if init.startswith("file") else {"ark": path}
    built = train.build(Setup(config=config, seed=1, data=made_access(), labels=LABELS, weights=known, device=torch.device("cpu")))
    wanted = made.small("slim_swin", seed=2 if "student" in init else 1)
    assert fingerprint(built.module.backbone) == fingerprint(wanted)


def test_a_part_that_a_file_has_not_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    _, _, content, _ = made.CASES["dino"]()
    with pytest.raises(WeightsError, match=r"w.pth: there is no part 'key' in .* DINO, which has teacher and student: name one of them"):
        loaded(fresh("slim_vit"), content, tmp_path, "slim_vit", "key")
    _, _, content, _ = made.CASES["ark_teacher"]()
    with pytest.raises(WeightsError, match=r"there is no part 'student' in a teacher that Ark released, which has teacher"):
        loaded(fresh("slim_swin"), content, tmp_path, "slim_swin", "student")
    _, _, content, _ = made.CASES["dino"]()
    del content["student"]
    with pytest.raises(WeightsError, match=r"without a key 'student.backbone.\*'"):
        loaded(fresh("slim_vit"), content, tmp_path, "slim_vit", "student")


def test_a_file_without_one_key_of_the_network_is_refused_and_says_what_it_is(tmp_path: Path) -> None:
    """Ark's raw training file, which its own fine-tuning loads nothing of without a word, is one key away from this."""
    network = fresh("slim")
    before = fingerprint(network)
    _, _, content, _ = made.CASES["ark"]()
    with pytest.raises(WeightsError, match=r"none of its 86 keys \(.*\) is one of arch 'slim'; .* those of 'slim_swin': give that"):
        loaded(network, content, tmp_path, "slim")
    assert fingerprint(network) == before


@pytest.mark.parametrize("by", ["beit", "simmim"])
def test_a_shared_table_goes_to_every_block_and_the_norm_after_pooling_is_left_as_built(by: str, tmp_path: Path) -> None:
    """BEiT and SimMIM pretrain ViTs with one table for all blocks and a norm over tokens; timm's BEiT has a table a block and fc_norm."""
    wanted = made.small_beit()
    state = made.beit_pretraining(wanted)
    lm_head = {**made.layers(("lm_head", 48, 16)), "mask_token": torch.ones(1, 1, 48)}
    content = {"model": {**state, **lm_head} if by == "beit" else made.simmim(wanted, state)}
    network = made.small_beit(seed=5)
    as_built = network.state_dict()["fc_norm.weight"].clone()
    report = loaded(network, content, tmp_path, "beit_base_patch16_224")
    owners = {"tables that are computed": 1, "norm in front of pooling": 2, "mask token": 1}
    assert report.kind == by and report.owners == {**owners, **({"token head": 2} if by == "beit" else {"decoder": 2})}
    assert report.missing == ("fc_norm.weight", "fc_norm.bias")
    ours, theirs = network.state_dict(), wanted.state_dict()
    table = "blocks.{}.attn.relative_position_bias_table"
    assert torch.equal(ours[table.format(0)], theirs[table.format(0)]) and torch.equal(ours[table.format(1)], ours[table.format(0)])
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if not name.startswith(("fc_norm", "blocks.1.attn.rel")))
    assert torch.equal(ours["fc_norm.weight"], as_built)


def test_a_fine_tuned_beit_has_a_table_a_block_and_its_own_norm(tmp_path: Path) -> None:
    wanted, network = made.small_beit(), made.small_beit(seed=5)
    index = {f"blocks.{at}.attn.relative_position_index": torch.zeros(17, 17) for at in range(2)}
    content = {"model": {**wanted.state_dict(), **index, **made.layers(("head", 48, 7))}}
    report = loaded(network, content, tmp_path, "beit_base_patch16_224")
    assert fingerprint(network) == fingerprint(wanted)
    assert report.owners == {"head": 2, "tables that are computed": 2} and report.missing == ()


@pytest.mark.parametrize("arch", ["resnet18", "densenet121"])
def test_unichests_trunk_is_taken_once(arch: str, tmp_path: Path) -> None:
    trunk, entries = made.unichest(arch)
    network = random_as(arch)
    report = loaded(network, {**entries, "config": {"batch_size": 8}, "epoch": 3}, tmp_path, arch)
    ours = network.state_dict()
    plain = trunk.state_dict()
    assert all(torch.equal(value, plain[name]) for name, value in ours.items())
    again = sum(not name.startswith("classifier.") for name in plain) if arch == "densenet121" else len(ours)
    wanted = {"same trunk again": again, "projection": 4, "text encoder": 4, "query decoders": 5, "unused ImageNet head": 2}
    assert {owner.removeprefix("the "): count for owner, count in report.owners.items()} == wanted


def random_as(arch: str) -> nn.Module:
    return backbones.build(arch, 3, None, seed=9)


def test_unichests_resnet_has_as_many_entries_as_published() -> None:
    with torch.device("meta"):
        trunk, entries = made.unichest("resnet50")
    image = {name: value for name, value in entries["image_encoder"].items() if not name.startswith("res_l")}
    assert len(image) + 4 == 642 and len(trunk.state_dict()) == 320
    parts = formats.split({f"image_encoder.{name}": value for name, value in image.items()})
    assert parts.kind == "unichest" and architectures.recognise(parts) == ("resnet50",)


def test_swin_b_of_timm_0_5_has_the_published_counts() -> None:
    """364 entries with 24 indices and 11 masks; every key of today's network is among them, and only the head is not needed."""
    with torch.device("meta"):
        network = timm.create_model("swin_base_patch4_window7_224", num_classes=0)
        whole = timm.create_model("swin_base_patch4_window7_224", num_classes=1000)
        task = timm.create_model("swin_base_patch4_window7_224", num_classes=14)
        state = made.old_swin(network, classes=1000)
        ark6 = {
            **state,
            "projector.weight": torch.empty(1376, 1024),
            "projector.bias": torch.empty(1376),
            **{f"omni_heads.{at}.weight": torch.empty(n, 1376) for at, n in enumerate((14, 14, 14, 3, 6, 1))},
            **{f"omni_heads.{at}.bias": torch.empty(n) for at, n in enumerate((14, 14, 14, 3, 6, 1))},
        }
    assert [sum(p.numel() for p in one.parameters()) for one in (whole, task)] == [87_768_224, 86_757_574]
    assert len(state) == 364
    assert [sum(name.endswith(one) for name in state) for one in ("relative_position_index", "attn_mask")] == [24, 11]
    learnt = sum(value.numel() for name, value in ark6.items() if not name.endswith(("relative_position_index", "attn_mask")))
    assert learnt == 89_250_228
    for content, kind in ((state, "plain"), (ark6, "ark_teacher")):
        parts = formats.split(content, heads=("head.fc", "head"))
        found, _ = fitting.named(parts, network.state_dict().keys())
        assert parts.kind == kind and found.state.keys() == network.state_dict().keys()
        assert {owner: len(keys) for owner, keys in found.dropped.items()} == {"tables that are computed": 35}
        assert architectures.recognise(parts) == ("swin_base_patch4_window7_224",)


@pytest.mark.parametrize("case", [case for case in made.CASES if case != "deit_distilled"])
def test_inspect_and_convert_know_every_format(case: str, tmp_path: Path) -> None:
    arch, wanted, content, dropped = made.CASES[case]()
    path = made.write(content, tmp_path / "w.pth")
    keys = open_weights(path).state.keys()
    found = inspect(path)
    assert (found.kind, found.arch, found.channels) == (KINDS[case], (arch,), 3)
    assert sum(found.parts.values()) == found.tensors == len(keys)
    assert found.backbone_parameters == sum(p.numel() for p in wanted.parameters())
    done = convert(path, Options(to="cxr"))
    assert {owner: len(gone) for owner, gone in done.dropped.items()} == dropped
    assert done.used.keys() | {key for gone in done.dropped.values() for key in gone} == keys
    assert len(done.used) + sum(dropped.values()) == len(keys) and not any(to.startswith("(") for to in done.used.values())
    network = fresh(arch)
    load_backbone(network, Path(done.out), arch)
    assert fingerprint(network) == fingerprint(wanted)


def test_convert_takes_the_part_that_is_asked_for(tmp_path: Path) -> None:
    _, _, content, _ = made.CASES["ark"]()
    path = made.write(content, tmp_path / "w.pth")
    done = convert(path, Options(to="cxr", part="student"))
    network = fresh("slim_swin")
    load_backbone(network, Path(done.out), "slim_swin")
    assert fingerprint(network) == fingerprint(made.small("slim_swin", seed=2))
    assert done.part == "student" and inspect(Path(done.out)).made_from["part"] == "student"


def test_the_table_is_consistent() -> None:
    """Each kind once, each with a sign but the last, and no part named twice."""
    kinds = [one.kind for one in published.FORMATS]
    assert len(set(kinds)) == len(kinds) == len(published.BY_KIND)
    assert [one.kind for one in published.FORMATS if not one.signs] == ["plain"] == kinds[-1:]
    elsewhere = {
        "upernet",
        "beit",
        "unichest",
        "unichest_densenet",
        "chexnet",
        "moco",
        "moco_cxr_finetuned",
        "cxr-orchestrator",
        "efficientnet_pytorch",
    }
    assert set(KINDS.values()) | elsewhere == set(kinds)
    assert set(published.PART_NAMES) == {"teacher", "student", "base", "momentum", "query", "key"}
