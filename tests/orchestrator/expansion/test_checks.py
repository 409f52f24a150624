"""What an expansion refuses, and at which place."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from jobs.catalog import Declaration
from orchestrator.errors import SweepError
from orchestrator.expand import expand
from orchestrator.loading import load_sweep
from tests.golden.trainers import CATALOG
from tests.orchestrator.planning import CHAIN, FakeResolver, plan_of, read

BAD = yaml.safe_load((Path(__file__).parents[1] / "bad_sweeps" / "expanding.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", BAD, ids=lambda case: case["name"])
def test_a_bad_sweep_is_refused_at_its_place(case: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(case["sweep"], encoding="utf-8")
    sweep = load_sweep(Path("bad.yaml"), catalog=CATALOG)
    with pytest.raises(SweepError) as raised:
        expand(sweep, CATALOG, FakeResolver())
    assert str(raised.value) == case["error"].rstrip("\n")


def test_what_the_loader_refuses_is_refused_of_a_sweep_made_by_hand_too(tmp_path: Path) -> None:
    sweep = read(tmp_path, CHAIN)
    pretrain, finetune = sweep.phases
    assert finetune.pick is not None
    wrong = {
        "phases.finetune.evaluate: evaluates without a pick": (pretrain, replace(finetune, pick=None)),
        "phases.finetune.evaluate[0].data: 'same' is no single card": (
            pretrain,
            replace(finetune, trainer="ark", data=None, sources=("d", "e"), pick=replace(finetune.pick, metric="val/mean_auroc")),
        ),
        "phases.finetune.evaluate[0].split: 'held_out' is what a fold leaves out": (
            pretrain,
            replace(finetune, evaluate=(replace(finetune.evaluate[0], split="held_out"),)),
        ),
        "phases.finetune.after: there is no phase 'pretrain'": (finetune,),
        "phases.pretrain.after: goes in a circle: pretrain after finetune after pretrain": (
            replace(pretrain, after=finetune.after),
            finetune,
        ),
        "phases.pretrain.trainer: there is no trainer 'nobody'": (replace(pretrain, trainer="nobody"), finetune),
        "phases: there is nothing to run": (),
    }
    circular = wrong["phases.pretrain.after: goes in a circle: pretrain after finetune after pretrain"]
    back = replace(circular[0].after[0], roles={"init": "finetune"})
    wrong["phases.pretrain.after: goes in a circle: pretrain after finetune after pretrain"] = (replace(pretrain, after=(back,)), finetune)
    for message, phases in wrong.items():
        with pytest.raises(SweepError, match=re.escape(message)):
            expand(replace(sweep, phases=phases), CATALOG, FakeResolver())


@dataclass(frozen=True, slots=True, kw_only=True)
class Fussy:
    """A config that looks at its fields together, and one of them has no default."""

    width: int
    height: int = 1

    def __post_init__(self) -> None:
        """Refuse what is wider than high."""
        if self.width > self.height:
            raise ValueError("width is more than height")


def test_a_trainer_may_refuse_a_combination(tmp_path: Path) -> None:
    catalog = {"fussy": Declaration(name="fussy", version=1, config=Fussy, package="x")}
    text = "sweep: s\ndata: d\nphases: {{a: {{trainer: fussy, config: {{{}}}, compare: {{height: [1, 2]}}}}}}\n"
    path = tmp_path / "fussy.yaml"
    path.write_text(text.format("width: 1"), encoding="utf-8")
    assert len(expand(load_sweep(path, catalog=catalog), catalog, FakeResolver()).jobs) == 2
    path.write_text(text.format("width: 2"), encoding="utf-8")
    with pytest.raises(SweepError, match=re.escape("phases.a.config: width is more than height (at height=1)")):
        expand(load_sweep(path, catalog=catalog), catalog, FakeResolver())
    sweep = load_sweep(path, catalog=catalog)
    (phase,) = sweep.phases
    with pytest.raises(SweepError, match="the trainer 'fussy' needs 'width': set it in config, or make it an axis"):
        expand(replace(sweep, phases=(replace(phase, config={}),)), catalog, FakeResolver())


def test_the_same_sweep_without_its_fault_expands(tmp_path: Path) -> None:
    mended = [case for case in BAD if "without" in case]
    assert len(mended) > 10
    for case in mended:
        lines = case["sweep"].splitlines()
        good = "\n".join(line for line in lines if line.strip() != case["without"])
        assert len(good) < len(case["sweep"].rstrip("\n")), case["name"]
        assert plan_of(tmp_path, good).jobs, case["name"]
