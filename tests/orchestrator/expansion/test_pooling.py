"""An area over several sources: it can be had without a look at any finding, and it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from orchestrator.errors import SweepError
from orchestrator.model import ClusterConfig
from orchestrator.resolving import DiskResolver
from tests.orchestrator.planning import FakeResolver, plan_of
from trainers.data.located import locate
from trainers.data.phantom.layout import write_made
from trainers.data.phantom.parameters import parameters_from

SWEEP = """\
sweep: pool
data: mimic
phases:
  finetune:
    trainer: classification
    pick: {{metric: {metric}}}
    evaluate: [{{data: {target}, split: test}}]
"""
MEMBERS = ("chexpert", "shenzhen")
#: Two hospitals of the phantom and their labelled union, as cards.
CARD = """
name: {name}
title: A source
reader: chexpert
labels: {{consolidation: Consolidation}}
primary: consolidation
score_per: image
splits: {{official: {{train/: train, valid/: test}}}}
label_files: [train.csv, valid.csv]
made:
  generator: phantom
  always: true
  parameters: {{source: {source}, patients_train: 40, patients_valid: 260, max_studies: 1, px: 32}}
"""
UNION = """
name: both
title: Two sources
labels: {consolidation: Consolidation}
primary: consolidation
score_per: image
members: {first: [train, test], second: [train, test]}
splits: {official: {first/: test, second/: test, none/: train}}
"""


@pytest.mark.parametrize(
    ("target", "metric", "unions", "sentence"),
    [
        (
            "mimic",
            "val/loss",
            {("mimic", "test"): MEMBERS},
            "sweep.yaml:7:23: phases.finetune.evaluate[0].data: 'mimic' joins chexpert and shenzhen, and prevalence differs by source, "
            "so that a score which only tells sources apart gets more than .5: score each by itself, "
            "`evaluate: [{data: chexpert, split: test}, {data: shenzhen, split: test}]`",
        ),
        ("same", "val/loss", {("mimic", "test"): MEMBERS}, "phases.finetune.evaluate[0].data: 'mimic' joins chexpert and shenzhen"),
        (
            "chexpert",
            "val/auroc_macro",
            {("mimic", "val"): MEMBERS},
            "sweep.yaml:6:20: phases.finetune.pick.metric: is taken over chexpert and shenzhen of 'mimic' at once, and prevalence differs "
            "by source, so that a score which only tells sources apart gets more than .5: use val/loss",
        ),
    ],
)
def test_an_area_over_sources_is_refused(
    tmp_path: Path, target: str, metric: str, unions: dict[tuple[str, str], tuple[str, ...]], sentence: str
) -> None:
    with pytest.raises(SweepError) as error:
        plan_of(tmp_path, SWEEP.format(target=target, metric=metric), FakeResolver(unions=unions))
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("metric", "unions"),
    [
        ("val/loss", {("mimic", "train"): MEMBERS, ("mimic", "val"): MEMBERS}),
        ("val/auroc_macro", {("mimic", "train"): MEMBERS, ("mimic", "val"): MEMBERS[:1]}),
        ("val/auroc_macro", {("mimic", "test"): MEMBERS[:1]}),
    ],
)
def test_training_on_a_union_is_not(tmp_path: Path, metric: str, unions: dict[tuple[str, str], tuple[str, ...]]) -> None:
    assert plan_of(tmp_path, SWEEP.format(target="chexpert", metric=metric), FakeResolver(unions=unions)).jobs


def test_a_released_set_of_several_sources_is_said(tmp_path: Path) -> None:
    text = SWEEP.format(target="chexpert", metric="val/loss")
    (note,) = plan_of(tmp_path, text, FakeResolver(traits={"source": "source"})).notes
    assert note.startswith("finetune: 'chexpert' was joined from several sources, and prevalence differs by source")
    assert note.endswith("ask for `subgroups: [source]` under report")
    assert not plan_of(tmp_path, text + "report: {subgroups: [source]}\n", FakeResolver(traits={"source": "source"})).notes
    assert not plan_of(tmp_path, text).notes


def test_knowing_the_source_alone_raises_a_pooled_area_and_ours_refuses_it(tmp_path: Path) -> None:
    cards = tmp_path / "cards"
    cards.mkdir()
    for name, source in (("first", 1), ("second", 2)):
        (cards / f"{name}.yaml").write_text(CARD.format(name=name, source=source), encoding="utf-8")
    (cards / "both.yaml").write_text(UNION, encoding="utf-8")
    resolver = DiskResolver(
        cluster=ClusterConfig(name="here", run_root=tmp_path / "runs", made_root=tmp_path / "made", card_paths=(cards,)), catalog={}
    )
    places: dict[str, Path] = {}
    for name in ("first", "second"):
        made = resolver.data(name).identity["made"]
        places[name] = tmp_path / "made" / name
        write_made(places[name], parameters_from(made["parameters"]))
    union = locate(resolver.card("both"), lambda name: places[name], (cards,))
    rows = union.index()
    rows = rows.take(union.split_of(rows) == "test")
    truth = rows.labels[:, 0]
    known = np.isin(truth, (0, 1))
    truth, first = truth[known], np.char.startswith(rows.images, "first/")[known]
    # A score that knows nothing but where a picture was taken.
    assert roc_auc_score(truth, first.astype(float)) > 0.53
    for side in (first, ~first):
        assert roc_auc_score(truth[side], first[side].astype(float)) == 0.5
    assert resolver.pooled("both", "test") == ("first", "second") and resolver.pooled("first", "test") == ()
    text = SWEEP.replace("data: mimic", "data: chexpert").format(target="mimic", metric="val/loss")
    with pytest.raises(SweepError, match="score each by itself"):
        plan_of(tmp_path, text, FakeResolver(unions={("mimic", "test"): resolver.pooled("both", "test")}))
