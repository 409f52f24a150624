"""Positions of another grid or window: SimMIM's geometric tables, bicubic ones, embeddings, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from timm.layers import resample_abs_pos_embed  # pyright: ignore[reportPrivateImportUsage]

from tests.trainers.released import made_published as made
from trainers.errors import WeightsError
from trainers.parts import backbones
from trainers.released import positions
from trainers.weights import load_backbone


def test_simmims_positions_for_window_6_among_those_of_7() -> None:
    """SimMIM, utils.py: (1 - q^5) / (1 - q) = 6."""
    q = positions.ratio(11, 13)
    assert q == pytest.approx(1.0912813, abs=1e-6)
    assert (1 - q**5) / (1 - q) == pytest.approx(6, abs=1e-4)
    found = positions.offsets(11, 13)
    assert found[6:] == pytest.approx([1, 2.0912813, 3.2821762, 4.5817775, 6.0000081], abs=1e-5)
    assert np.array_equal(found, -found[::-1])


def test_a_geometric_table_is_a_cubic_spline_through_the_old_one() -> None:
    """Against one-dimensional not-a-knot splines, along one axis and then the other."""
    table = torch.randn(121, 3, generator=torch.Generator().manual_seed(1))
    found = positions.table_of_window(table, 6, (7, 7), 0, "geometric")
    at, wanted = positions.offsets(11, 13), np.arange(-6, 7)
    for head in range(3):
        values = table[:, head].reshape(11, 11).double().numpy()
        by_row = CubicSpline(at, values, axis=0, bc_type="not-a-knot")(wanted)
        both = CubicSpline(at, by_row, axis=1, bc_type="not-a-knot")(wanted)
        assert found[:, head].reshape(13, 13).numpy() == pytest.approx(both, abs=1e-5)


def test_a_geometric_table_keeps_cubics_as_they_are_and_the_nearest_offsets_to_the_bit() -> None:
    at = positions.offsets(11, 13)
    wanted = np.arange(-6.0, 7)
    for power in ((1, 0), (2, 1), (3, 3)):
        table = torch.from_numpy(np.outer(at ** power[0], at ** power[1]).reshape(-1, 1)).float()
        truth = np.outer(wanted ** power[0], wanted ** power[1])
        found = positions.table_of_window(table, 6, (7, 7), 0, "geometric").reshape(13, 13).numpy()
        assert found == pytest.approx(truth, rel=2e-5, abs=1e-3)
        assert found[6, 6] == pytest.approx(float(table.reshape(11, 11)[5, 5]), abs=1e-6)


def test_a_smaller_window_keeps_the_middle_of_a_geometric_table() -> None:
    table = torch.randn(169, 2, generator=torch.Generator().manual_seed(2))
    found = positions.table_of_window(table, 7, (2, 2), 0, "geometric").reshape(3, 3, 2)
    assert torch.allclose(found, table.reshape(13, 13, 2)[5:8, 5:8], atol=1e-5)


@pytest.mark.parametrize("method", ["geometric", "bicubic"])
def test_rows_of_tokens_that_are_no_patches_stay(method: str) -> None:
    """BEiT's last three rows are for its class token."""
    table = torch.randn(52, 2, generator=torch.Generator().manual_seed(3))
    found = positions.table_of_window(table, 4, (6, 6), 3, method)  # type: ignore[arg-type]
    assert found.shape == (124, 2) and torch.equal(found[-3:], table[-3:])


def test_a_bicubic_table_keeps_a_constant_and_differs_from_a_geometric_one() -> None:
    assert torch.allclose(positions.table_of_window(torch.full((121, 2), 0.5), 6, (7, 7), 0, "bicubic"), torch.full((169, 2), 0.5))
    table = torch.randn(121, 1, generator=torch.Generator().manual_seed(4))
    one, other = (positions.table_of_window(table, 6, (7, 7), 0, method) for method in ("bicubic", "geometric"))
    assert not torch.allclose(one, other, atol=0.05)


@pytest.mark.parametrize(
    ("case", "how"), [("simmim", "geometric"), ("moby", "bicubic"), ("ark_teacher", "bicubic"), ("timm_swin", "geometric")]
)
def test_a_swin_of_another_size_takes_the_tables_and_says_so(case: str, how: str, tmp_path: Path) -> None:
    arch, wanted, content, _ = made.CASES[case]()
    network = backbones.build(arch, 3, 32, seed=9)
    report = load_backbone(network, made.write(content, tmp_path / "w.pth"), arch)
    assert report.adapted == (f"1 relative-position table, window 4 -> 2 ({how})",) and report.adapted[0] in report.sentence()
    ours, theirs = network.state_dict(), wanted.state_dict()
    changed = [name for name in ours if ours[name].shape != theirs[name].shape]
    assert changed == ["layers.3.blocks.0.attn.relative_position_bias_table"]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name not in changed)
    assert torch.equal(ours[changed[0]], positions.table_of_window(theirs[changed[0]], 4, (2, 2), 0, how))  # type: ignore[arg-type]


def test_a_vit_of_another_size_takes_the_embedding_as_timm_does(tmp_path: Path) -> None:
    arch, wanted, content, _ = made.CASES["mae"]()
    network = backbones.build(arch, 3, 32, seed=9)
    report = load_backbone(network, made.write(content, tmp_path / "w.pth"), arch)
    assert report.adapted == ("pos_embed 8x8 -> 4x4 patches (bicubic)",)
    before, after = wanted.state_dict()["pos_embed"], network.state_dict()["pos_embed"]
    assert torch.equal(after, resample_abs_pos_embed(before, [4, 4])) and torch.equal(after[:, :1], before[:, :1])


def test_our_own_checkpoint_of_another_size_takes_them_too(tmp_path: Path) -> None:
    """A pretraining at one size hands on to a fine-tuning at another."""
    for arch, said in (("slim_vit", "pos_embed 4x4 -> 8x8 patches (bicubic)"), ("slim_swin", "1 relative-position table, window 2 -> 4")):
        small = made.small(arch, px=32)
        made.write({f"backbone.{name}": value for name, value in small.state_dict().items()}, tmp_path / "w.pth")
        report = load_backbone(backbones.build(arch, 3, 64), tmp_path / "w.pth", arch)
        assert report.adapted[0].startswith(said) and len(report.adapted) == 1


def test_positions_that_are_no_square_or_of_another_width_are_refused(tmp_path: Path) -> None:
    state = made.small("slim_vit").state_dict()
    made.write({**state, "pos_embed": torch.zeros(1, 60, 96)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"of another shape: 1 \(pos_embed \(1, 60, 96\) for \(1, 65, 96\)\)"):
        load_backbone(backbones.build("slim_vit", 3, 64), tmp_path / "w.pth", "slim_vit")
    state = made.small("slim_swin").state_dict()
    name = "layers.0.blocks.0.attn.relative_position_bias_table"
    for shape in ((50, 1), (169, 2), (36, 1)):
        made.write({**state, name: torch.zeros(shape)}, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=r"of another shape: 1 \(layers.0.blocks.0.attn.relative_position_bias_table"):
            load_backbone(backbones.build("slim_swin", 3, 64), tmp_path / "w.pth", "slim_swin")


def test_patches_of_another_size_are_refused_and_not_resampled(tmp_path: Path) -> None:
    """timm would make 8 pixels of 16 without a word."""
    state = {**made.small("slim_vit").state_dict(), "patch_embed.proj.weight": torch.zeros(96, 3, 16, 16)}
    made.write({**state, "head.weight": torch.zeros(2, 96), "head.bias": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"of another shape: 1 \(patch_embed.proj.weight \(96, 3, 16, 16\) for \(96, 3, 8, 8\)\)"):
        load_backbone(backbones.build("slim_vit", 3, 64), tmp_path / "w.pth", "slim_vit")
