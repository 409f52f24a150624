"""Arms, and which arm each is compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.arms import Arm, arm_labels, arms, partners, without_partner
from orchestrator.errors import ReportError
from tests.orchestrator.planning import plan_of

TEXT = """
    sweep: s
    data: chexpert
    compare: {init: [imagenet, random]}
    phases:
      pretrain: {trainer: moco_cxr, compare: {images: [real, scrambled]}, tune: {lr: [1e-5, 1e-4, 1e-3]}}
      finetune:
        trainer: classification
        compare: {after: [pretrain, none], freeze: [backbone, nothing]}
        exclude: [{after: none, init: random, freeze: backbone}]
        draws: {count: [16, 64], repeats: 2}
        pick: {metric: val/auroc_macro}
        evaluate: [{data: same, split: test}, {data: shenzhen, split: test}]
      other: {trainer: segmentation, data: jsrt, compare: {after: [pretrain, none]}, pick: {metric: val/dice},
              evaluate: [{data: same, split: test}]}
    report: {floor: true}
"""


def names(pairs: list[tuple[Arm, Arm]]) -> list[tuple[str, str]]:
    return [(arm.name, other.name) for arm, other in pairs]


def test_an_arm_is_a_phase_and_its_compare_labels(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TEXT)
    found = {arm.name: arm for arm in arms(plan)}
    assert [name for name in found if "none" in name] == [
        "finetune/init=imagenet,after=none,freeze=backbone",
        "finetune/init=imagenet,after=none,freeze=nothing",
        "finetune/init=random,after=none,freeze=nothing",
        "other/init=imagenet,after=none",
        "other/init=random,after=none",
    ]
    assert len(found) == (8 + 3) + (4 + 2) + 2
    arm = found["finetune/init=imagenet,images=real,after=pretrain,freeze=backbone"]
    assert (arm.phase, arm.cells, arm.candidates, arm.is_floor) == ("finetune", (16, 64), 3, False)
    floor = found["floor_finetune/after=floor"]
    assert (floor.cells, floor.candidates, floor.is_floor) == ((16, 64), 1, True)
    assert found["floor_other/after=floor"].cells == ()
    assert arm_labels(plan) == {"init", "images", "after", "freeze"}


def test_each_arm_is_compared_within_equal_values_of_everything_else(tmp_path: Path) -> None:
    listed = arms(plan_of(tmp_path, TEXT))
    pairs = names(partners(listed, {"after": "none"}))
    assert all(
        arm.replace("images=real,", "").replace("images=scrambled,", "").replace("pretrain", "none") == other for arm, other in pairs
    )
    assert len(pairs) == 6 + 4
    alone = [arm.name for arm in without_partner(listed, {"after": "none"})]
    assert alone == [f"finetune/init=random,images={images},after=pretrain,freeze=backbone" for images in ("real", "scrambled")]


def test_a_baseline_may_name_an_ancestors_label_or_a_phase_of_it(tmp_path: Path) -> None:
    listed = arms(plan_of(tmp_path, TEXT))
    pairs = names(partners(listed, {"images": "scrambled"}))
    assert len(pairs) == 4 + 2
    assert all("images=real" in arm and arm.replace("real", "scrambled") == other for arm, other in pairs)
    assert names(partners(listed, {"pretrain.images": "scrambled"})) == pairs


def test_phases_are_compared_where_the_baseline_says_so(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
        sweep: s
        data: d
        evaluate: [{data: same, split: test}]
        phases:
          global:
            trainer: ag_cnn
            compare: {backbone: [resnet50, densenet121]}
            pick: {metric: val/x}
            evaluate: [{data: same, split: test}]
          local: {trainer: ag_cnn, after: {global: global}, compare: {statistic: [max, l1]}, pick: {metric: val/x}}
        """,
    )
    assert names(partners(arms(plan), {"phase": "global"})) == [
        (f"local/backbone={backbone},statistic={statistic}", f"global/backbone={backbone}")
        for backbone in ("resnet50", "densenet121")
        for statistic in ("max", "l1")
    ]


def test_the_floor_is_compared_with_only_when_it_is_the_baseline(tmp_path: Path) -> None:
    listed = arms(plan_of(tmp_path, TEXT))
    assert not any(arm.is_floor or other.is_floor for arm, other in partners(listed, {"after": "none"}))
    # Each phase has a floor on its own test sets, and is set against no other.
    assert {(arm.phase, other.name) for arm, other in partners(listed, {"after": "floor"})} == {
        ("finetune", "floor_finetune/after=floor"),
        ("other", "floor_other/after=floor"),
    }
    rootless = TEXT.split("      other:")[0].replace("after: [pretrain, none], freeze", "freeze")
    bare = rootless.replace("exclude: [{after: none, init: random, freeze: backbone}]", "after: pretrain")
    one = plan_of(tmp_path, bare + "    report: {floor: true}\n")
    with pytest.raises(ReportError, match="has no partner"):
        partners(arms(one), {"after": "floor"})
    plain = plan_of(tmp_path, TEXT.split("      other:")[0] + "    report: {floor: true}\n")
    pairs = partners(arms(plain), {"after": "floor"})
    assert {other.name for _, other in pairs} == {"floor/after=floor"}
    assert len(pairs) == 11


def test_an_arm_on_several_test_sets_has_a_partner_of_its_own_on_each(tmp_path: Path) -> None:
    text = """
        sweep: s
        phases:
          together: {trainer: ark, sources: [chexpert, shenzhen], pick: {metric: val/mean_auroc},
                     evaluate: [{data: chexpert, split: test}, {data: shenzhen, split: test}]}
          alone: {trainer: ark, compare: {data: [chexpert, shenzhen]}, pick: {metric: val/mean_auroc},
                  evaluate: [{data: EVALUATED, split: test}]}
    """
    listed = arms(plan_of(tmp_path, text.replace("EVALUATED", "same")))
    assert {arm.name: sorted(arm.targets) for arm in listed} == {
        "together": ["chexpert", "shenzhen"],
        "alone/data=chexpert": ["chexpert"],
        "alone/data=shenzhen": ["shenzhen"],
    }
    assert names(partners(listed, {"phase": "alone"})) == [("together", "alone/data=chexpert"), ("together", "alone/data=shenzhen")]
    both = arms(plan_of(tmp_path, text.replace("EVALUATED", "chexpert")))
    with pytest.raises(ReportError, match="together has two partners, alone/data=chexpert and alone/data=shenzhen"):
        partners(both, {"phase": "alone"})
    apart = [replace(arm, targets=frozenset(["vindr"])) if arm.phase == "together" else arm for arm in listed]
    with pytest.raises(ReportError, match="has no partner"):
        partners(apart, {"phase": "alone"})


def test_what_is_wrong_with_a_baseline_is_said(tmp_path: Path) -> None:
    listed = arms(plan_of(tmp_path, TEXT))
    with pytest.raises(ReportError) as raised:
        partners(listed, {"freeze": "half"})
    assert str(raised.value) == "no arm is freeze=half; the arms have freeze: backbone, nothing"
    with pytest.raises(ReportError, match="no arm is colour=red; the arms have no such label"):
        partners(listed, {"colour": "red"})


def test_tuning_behind_a_winner_that_was_chosen_elsewhere_is_counted(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
        sweep: s
        data: d
        phases:
          a:
            trainer: classification
            tune: {lr: [1e-3, 1e-2, 1e-1, 1]}
            seeds: 3
            pick: {metric: val/x, scope: cell, on: {seed: 0}}
            evaluate: [{data: same, split: test}]
        """,
    )
    assert [(arm.name, arm.candidates) for arm in arms(plan)] == [("a", 4)]
