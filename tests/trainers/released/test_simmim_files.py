"""Masked pretrainings go to SimMIM's published format and back bit for bit, with what its strict loader asks for, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.released import made_published as made
from trainers.errors import WeightsError
from trainers.parts import backbones
from trainers.released import simmim_files
from trainers.released.converting import Options, convert
from trainers.released.files import open_weights
from trainers.released.inspecting import inspect
from trainers.simmim.network import Rebuilder
from trainers.weights import fingerprint, load_backbone

#: Side of a window of `slim_swin`, and the input whose coarsest map is one.
SIZES = {4: 64, 2: 32}


def swin(window: int = 4, channels: int = 3, seed: int = 1) -> nn.Module:
    return made.random(backbones.build("slim_swin", channels, SIZES[window], window=window), seed)


def ours(folder: Path, encoder: nn.Module, channels: int = 3) -> tuple[Path, dict[str, Tensor]]:
    """Write a checkpoint of `simmim` as the train stage hands it on."""
    head = made.random(Rebuilder(token_width=24, width=192, stride=16, channels=channels, seed=0), seed=7)
    state = {f"backbone.{name}": value for name, value in encoder.state_dict().items()}
    state |= {f"head.{name}": value for name, value in head.state_dict().items()}
    torch.save(state, folder / "ours.pth")
    return folder / "ours.pth", state


def to_simmim(path: Path, **others: Any) -> dict[str, Tensor]:
    done = convert(path, Options(to="simmim", **others), {"arch": "slim_swin", "epoch": 9})
    assert done.out.endswith(".pth") and done.difference == 0.0 and done.adapted == ()
    content = torch.load(done.out, weights_only=True)
    assert content["epoch"] == 9 and content["cxr_orchestrator"]["arch"] == "slim_swin"
    return content["model"]


def naive_index(window: int) -> Tensor:
    """Return which row of its table each pair of places in a window looks up: rows first, from the farthest below."""
    places = [(row, column) for row in range(window) for column in range(window)]
    return torch.tensor([[(a - c + window - 1) * (2 * window - 1) + b - d + window - 1 for c, d in places] for a, b in places])


def naive_mask(side: int, window: int, shift: int) -> Tensor:
    """Return what is added to attention in windows shifted over the border: -100 between places that were no neighbours."""
    windows = []
    for top in range(0, side, window):
        for left in range(0, side, window):
            # What came round the border by the shift lies in the last rows and columns, and belongs to nobody else.
            places = [(row, column) for row in range(top, top + window) for column in range(left, left + window)]
            came = [(row >= side - shift, column >= side - shift) for row, column in places]
            windows.append(torch.tensor([[0.0 if one == other else -100.0 for other in came] for one in came]))
    return torch.stack(windows)


@pytest.mark.parametrize("window", SIZES)
def test_a_pretraining_of_ours_has_every_key_of_simmims_and_comes_back_bit_for_bit(window: int, tmp_path: Path) -> None:
    encoder = swin(window)
    path, state = ours(tmp_path, encoder)
    written = to_simmim(path)
    published = made.prefixed("encoder.", made.old_swin(encoder))
    assert written.keys() == {*published, "encoder.mask_token", "decoder.0.weight", "decoder.0.bias"}
    for name, value in published.items():
        if not name.endswith(("relative_position_index", "attn_mask")):
            assert torch.equal(written[name], value), name
    assert torch.equal(written["encoder.mask_token"], state["head.mask_token"])
    assert torch.equal(written["decoder.0.weight"], state["head.decoder.weight"])
    back = tmp_path / "ours.simmim.pth"
    assert inspect(back).kind == "simmim"
    again = to_simmim(back, out=tmp_path / "again.pth")
    assert again.keys() == written.keys() and all(torch.equal(again[name], value) for name, value in written.items())
    network = swin(window, seed=5)
    report = load_backbone(network, back, "slim_swin")
    assert fingerprint(network) == fingerprint(encoder) and report.missing == () and report.adapted == ()


@pytest.mark.parametrize("window", SIZES)
def test_the_tables_are_those_that_its_network_computes(window: int, tmp_path: Path) -> None:
    written = to_simmim(ours(tmp_path, swin(window))[0])
    index = [value for name, value in written.items() if name.endswith("relative_position_index")]
    assert len(index) == 5 and all(torch.equal(one, naive_index(window)) for one in index)
    masks = {name: value for name, value in written.items() if name.endswith("attn_mask")}
    # Of stages with two blocks the second is shifted; the third stage's map has two windows a side.
    assert masks.keys() == {"encoder.layers.2.blocks.1.attn_mask"}
    assert torch.equal(masks["encoder.layers.2.blocks.1.attn_mask"], naive_mask(2 * window, window, window // 2))


def test_a_published_file_goes_camewith_every_key_used(tmp_path: Path) -> None:
    path, _ = ours(tmp_path, swin())
    to_simmim(path)
    done = convert(tmp_path / "ours.simmim.pth", Options(to="simmim", out=tmp_path / "again.pth"))
    keys = open_weights(tmp_path / "ours.simmim.pth").state.keys()
    assert done.used["encoder.mask_token"] == "encoder.mask_token" and done.used["decoder.0.bias"] == "decoder.0.bias"
    # The stored tables are computed again, and are no use.
    assert set(done.dropped) == {"tables that are computed"}
    assert done.used.keys() | set(done.dropped["tables that are computed"]) == keys


def test_swin_b_has_the_names_of_the_published_one() -> None:
    """362 of the 364 entries of Microsoft's Swin-B (without its head), with windows of 6 at 192 pixels."""
    with torch.device("meta"):
        encoder = simmim_files.network("swin_base_patch4_window7_224", 3, 6)
        names = {simmim_files.name_of(name) for name in encoder.state_dict()} | simmim_files.tables(encoder).keys()
        assert names == made.prefixed("encoder.", made.old_swin(encoder)).keys() and len(names) == 362
    assert encoder.patch_embed.img_size == (192, 192)
    assert encoder.layers[0].blocks[0].attn.relative_position_bias_table.shape == (121, 4)  # type: ignore[union-attr, index]


def test_a_grey_pretraining_stays_grey(tmp_path: Path) -> None:
    written = to_simmim(ours(tmp_path, swin(channels=1), channels=1)[0])
    assert written["encoder.patch_embed.proj.weight"].shape[1] == 1 and written["decoder.0.weight"].shape[0] == 256


def refusal(path: Path, **others: Any) -> str:
    before = sorted(path.parent.iterdir())
    with pytest.raises(WeightsError) as found:
        convert(path, Options(to="simmim", **others))
    assert "\n" not in str(found.value) and sorted(path.parent.iterdir()) == before
    return str(found.value)


def test_what_is_no_masked_pretraining_of_a_swin_is_refused(tmp_path: Path) -> None:
    torch.save({f"backbone.{name}": value for name, value in swin().state_dict().items()}, tmp_path / "w.pth")
    assert "there is no mask_token in it, so it is no masked pretraining" in refusal(tmp_path / "w.pth")
    torch.save(made.small("slim_vit").state_dict(), tmp_path / "w.pth")
    assert "written for a Swin (swin_*), and this is slim_vit" in refusal(tmp_path / "w.pth")
    path, state = ours(tmp_path, swin())
    assert "--channels 1: its decoder rebuilds 3" in refusal(path, channels=1)
    assert "is named *.pth or *.pt" in refusal(path, out=tmp_path / "w.safetensors")
    torch.save({**state, "head.decoder.bias": torch.ones(12)}, path)
    assert "its decoder.bias is (12,), and that of this network (768,): it is of another pretraining" in refusal(path)
