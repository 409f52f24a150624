"""The plan says how often features are computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from jobs.catalog import Declaration
from tests.golden.trainers import CATALOG
from tests.orchestrator.planning import plan_of

SWEEP = """
sweep: s
data: chexpert
compare: {init: [imagenet, random]}
phases:
  pretrain: {trainer: moco_cxr}
  probe:
    trainer: probing
    config: {packed: PACKED}
    compare: {after: [pretrain, none]}
    draws: {fraction: [0.1, 1.0], repeats: [3, 1], seed: 0}
    pick: {rule: last}
    evaluate: [{data: same, split: test}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    arch: str = "resnet18"
    init: str = "random"
    packed: bool = field(default=False, metadata={"before": False})


def notes(folder: Path, packed: str) -> list[str]:
    declared = Declaration(name="probing", version=1, config=Probing, package="nowhere", starts=("init",))
    with patch.dict(CATALOG, {"probing": declared}):
        return [note for note in plan_of(folder, SWEEP.replace("PACKED", packed)).notes if "packed" in note]


def test_what_shares_features_is_counted_and_what_starts_at_random_shares_none(tmp_path: Path) -> None:
    # Two pretrainings and the weights of ImageNet serve four draws each; a start at random is another one for each of three seeds.
    (note,) = notes(tmp_path, "true")
    assert note.startswith("probe: packed: 16 jobs share features, which are computed 6 times")


def test_nothing_is_said_where_nothing_is_packed(tmp_path: Path) -> None:
    assert notes(tmp_path, "false") == []
