"""Sweeps as written, and the values that come of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.spec import Resources
from orchestrator.errors import SweepError
from orchestrator.loading import load_sweep
from orchestrator.model import Axis, AxisKind, Contrast, Draws, Parents, Pick, ReportSpec, Sample, Search, Sweep, Target, When
from tests.golden.trainers import CATALOG

GOLDEN = Path(__file__).parents[1] / "golden" / "sweeps"
SHORT = "sweep: x\ndata: chexpert\nphases:\n  finetune: {trainer: classification"


def load(folder: Path, text: str, name: str = "x.yaml") -> Sweep:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return load_sweep(path, catalog=CATALOG)


def phase(folder: Path, rest: str, before: str = "") -> object:
    return load(folder, f"sweep: x\ndata: chexpert\n{before}phases:\n  finetune: {{trainer: classification{rest}}}\n").phases[-1]


def golden(name: str) -> Sweep:
    return load_sweep(GOLDEN / f"{name}.yaml", catalog=CATALOG)


def test_moco_cxr_is_read_whole() -> None:
    sweep = golden("moco_cxr")
    pretrain, finetune = sweep.phases
    assert (sweep.name, sweep.seed, sweep.file) == ("moco_cxr", 0, str(GOLDEN / "moco_cxr.yaml"))
    assert sweep.compare == (Axis(kind=AxisKind.COMPARE, keys=("init",), points=({"init": "imagenet"}, {"init": "random"})),)
    assert pretrain.config == {"arch": "resnet18", "batch_size": 16, "temperature": 0.2}
    assert pretrain.axes == (
        Axis(
            kind=AxisKind.TUNE,
            keys=("lr", "epochs"),
            points=({"lr": 1e-5, "epochs": 20}, {"lr": 1e-4, "epochs": 20}, {"lr": 1e-2, "epochs": 35}),
        ),
    )
    assert pretrain.when == (When(condition={"init": ("random",), "lr": (1e-5,)}, settings={"lr": 5e-5}, override=True),)
    assert pretrain.after == (Parents(),) and not pretrain.after_is_axis and pretrain.evaluate == () and pretrain.pick is None
    assert finetune.after == (Parents(roles={"init": "pretrain"}), Parents()) and finetune.after_is_axis
    assert finetune.axes == (Axis(kind=AxisKind.COMPARE, keys=("freeze",), points=({"freeze": "backbone"}, {"freeze": "nothing"})),)
    assert finetune.exclude == ({"after": ("none",), "init": ("random",), "freeze": ("backbone",)},)
    assert finetune.draws == Draws(fractions=(0.001, 0.01, 0.1, 1.0), repeats=(5, 5, 5, 1), nested_fractions=True)
    assert finetune.pick == Pick(metric="val/auroc_competition")
    assert finetune.evaluate == (Target(), Target(data="shenzhen"))
    assert sweep.report == ReportSpec(contrasts=(Contrast(baseline={"after": "none"}),), over="fraction")


def test_phases_of_another_sweep_bring_train_and_pick_alone(tmp_path: Path) -> None:
    load(
        tmp_path,
        "sweep: base\nseed: 7\ncompare: {init: [imagenet, random]}\nevaluate: [{data: mimic}]\n"
        "phases:\n  pretrain: {trainer: moco_cxr, data: mimic, pick: {metric: val/loss}}\n",
        "base.yaml",
    )
    sweep = load(
        tmp_path,
        "sweep: x\nseed: 3\nuses: [../base.yaml]\ndata: chexpert\ncompare: {freeze: [backbone, nothing]}\nphases:\n"
        "  finetune: {trainer: classification, after: pretrain, exclude: [{init: random, freeze: backbone}]}\n",
        "deep/x.yaml",
    )
    pretrain, finetune = sweep.phases
    assert (pretrain.name, pretrain.imported, pretrain.sweep_seed, pretrain.evaluate, pretrain.data) == ("pretrain", True, 7, (), "mimic")
    assert pretrain.pick == Pick(metric="val/loss", mode="min")
    assert pretrain.shared is not None and [axis.keys for axis in pretrain.shared] == [("init",)]
    assert (finetune.imported, finetune.sweep_seed, finetune.shared) == (False, 3, None)
    place = sweep.source.place("phases.pretrain.pick.metric")
    assert Path(place.file).name == "base.yaml" and place.line == 6


def test_two_sweeps_may_use_the_same_third(tmp_path: Path) -> None:
    load(tmp_path, "sweep: a\ndata: mimic\nphases: {pretrain: {trainer: moco_cxr}}\n", "a.yaml")
    follow = "uses: [a.yaml]\ndata: mimic\nphases: {%s: {trainer: classification, after: pretrain}}\n"
    load(tmp_path, "sweep: b\n" + follow % "b", "b.yaml")
    load(tmp_path, "sweep: c\n" + follow % "c", "c.yaml")
    sweep = load(tmp_path, "sweep: d\nuses: [b.yaml, c.yaml]\ndata: mimic\nphases: {d: {trainer: classification, after: b}}\n")
    assert [item.name for item in sweep.phases] == ["pretrain", "b", "c", "d"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            "sweep: o\ndata: mimic\nphases: {finetune: {trainer: moco_cxr}}\n",
            "x.yaml:2:8: uses[0]: o.yaml brings a phase 'finetune', which is here too",
        ),
        (
            "sweep: o\ndata: mimic\nphases: {pretrain: {trainer: mocco}}\n",
            "o.yaml:3:30: phases.pretrain.trainer: no trainer 'mocco'; did you mean 'moco_cxr'?",
        ),
        (
            "sweep: o\nuses: [x.yaml]\ndata: mimic\nphases: {p: {trainer: ark}}\n",
            "o.yaml:2:8: uses[0]: sweeps use each other in a circle: x.yaml -> o.yaml -> x.yaml",
        ),
    ],
)
def test_what_is_wrong_with_another_sweep_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("o.yaml").write_text(other)
    Path("x.yaml").write_text("sweep: x\nuses: [o.yaml]\ndata: mimic\nphases: {finetune: {trainer: classification}}\n")
    with pytest.raises(SweepError) as caught:
        load_sweep(Path("x.yaml"), catalog=CATALOG)
    assert str(caught.value).startswith(message)


def test_a_preset_lies_below_and_errors_name_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("presets").mkdir()
    Path("presets/deep.yaml").write_text("phases: {finetune: {config: {weight_decay: 0.5}}}\n")
    Path("presets/paper.yaml").write_text(
        "extends: deep.yaml\nsweep: paper\nabout: From the paper.\ndata: mimic\nphases:\n"
        "  finetune: {trainer: classification, config: {lr: 1e-4, epochs: 5}, compare: {freeze: [backbone, nothing]}}\n"
    )
    text = "sweep: x\nextends: presets/paper.yaml\nphases:\n  finetune: {config: {epochs: 9}, compare: {freeze: [nothing]}}\n"
    Path("x.yaml").write_text(text)
    sweep = load_sweep(Path("x.yaml"), catalog=CATALOG)
    found = sweep.phases[0]
    assert (sweep.name, sweep.about, found.data) == ("x", "From the paper.", "mimic")
    assert found.config == {"weight_decay": 0.5, "lr": 1e-4, "epochs": 9}
    assert found.axes == (Axis(kind=AxisKind.COMPARE, keys=("freeze",), points=({"freeze": "nothing"},)),)
    Path("presets/deep.yaml").write_text("phases:\n  finetune:\n    config:\n      wieght_decay: 0.5\n")
    with pytest.raises(SweepError) as caught:
        load_sweep(Path("x.yaml"), catalog=CATALOG)
    assert str(caught.value) == (
        "presets/deep.yaml:4:7: phases.finetune.config.wieght_decay: unknown key; did you mean 'weight_decay'?\n"
        "        wieght_decay: 0.5\n        ^"
    )


def test_the_name_of_a_study_is_not_inherited(tmp_path: Path) -> None:
    load(tmp_path, f"{SHORT}}}\n", "base.yaml")
    with pytest.raises(SweepError, match="the key 'sweep' is missing"):
        load(tmp_path, "extends: base.yaml\n", "y.yaml")


def test_numbers_take_the_type_of_their_field(tmp_path: Path) -> None:
    found = load(tmp_path, f"{SHORT}, config: {{lr: 1, epochs: 5}}, tune: {{weight_decay: [0, 1e-2]}}, pick: {{metric: val/x}}}}\n").phases[
        0
    ]
    assert repr(dict(found.config)) == "{'lr': 1.0, 'epochs': 5}"
    assert [repr(point["weight_decay"]) for point in found.axes[0].points] == ["0.0", "0.01"]


def test_lists_and_nothing_are_values_where_the_field_takes_them(tmp_path: Path) -> None:
    text = (
        "sweep: x\ndata: mimic\nphases:\n  p:\n    trainer: moco_cxr\n    config: {milestones: [1, 2], momentum_end: null}\n"
        "    compare: {milestones: [[1], [2, 3]]}\n"
    )
    with pytest.raises(SweepError, match="'milestones' stands in"):
        load(tmp_path, text)
    found = load(tmp_path, text.replace("milestones: [1, 2], ", "")).phases[0]
    assert found.config == {"momentum_end": None}
    assert found.axes[0].points == ({"milestones": [1]}, {"milestones": [2, 3]})


def test_samples_are_keyed_by_seed_and_name_alone(tmp_path: Path) -> None:
    def axes(seed: int, tune: str) -> dict[str, list[float]]:
        text = f"sweep: x\nseed: {seed}\ndata: mimic\nphases: {{p: {{trainer: moco_cxr, tune: {{{tune}}}}}}}\n"
        return {axis.keys[0]: [point[axis.keys[0]] for point in axis.points] for axis in load(tmp_path, text).phases[0].axes}

    lr = "lr: {sample: log_uniform, from: 1e-5, to: 1e-1, n: %d}"
    temperature = "temperature: {sample: uniform, from: 0.05, to: 0.5, n: 4}"
    alone = axes(0, lr % 5)
    assert axes(0, f"{temperature}, {lr % 8}")["lr"][:5] == alone["lr"]
    assert axes(1, lr % 5)["lr"] != alone["lr"]
    together = axes(0, f"{temperature}, {lr % 4}")
    assert len({round((v - 0.05) / 0.45, 6) for v in together["temperature"]}) == 4


def test_a_search_samples_one_axis_from_its_whole_space(tmp_path: Path) -> None:
    text = (
        "sweep: x\ndata: mimic\nphases:\n  p:\n    trainer: moco_cxr\n    search:\n"
        "      {scheduler: asha, samples: 6, metric: val/loss, grace: 2,\n"
        "       space: {lr: {sample: log_uniform, from: 1e-5, to: 1e-1}, images: [real, scrambled],\n"
        "               epochs: {sample: uniform, from: 5, to: 90}}}\n"
        "    pick: {metric: val/loss, mode: min}\n"
    )
    search = load(tmp_path, text).phases[0].search
    assert isinstance(search, Search)
    assert (search.scheduler, search.metric, search.mode, search.samples, search.grace) == ("asha", "val/loss", "min", 6, 2)
    (axis,) = search.space
    assert (axis.kind, axis.keys, len(axis.points)) == (AxisKind.TUNE, ("lr", "images", "epochs"), 6)
    assert all(
        1e-5 <= point["lr"] <= 1e-1 and point["images"] in ("real", "scrambled") and type(point["epochs"]) is int for point in axis.points
    )


def test_evaluations_by_default_go_to_the_last_phases(tmp_path: Path) -> None:
    sweep = load(
        tmp_path,
        "sweep: x\ndata: mimic\nevaluate: [{data: same}, {data: shenzhen, score_per: image, views: first, cluster: study}]\nphases:\n"
        "  p: {trainer: moco_cxr}\n  f: {trainer: classification, after: p, pick: {rule: last}}\n"
        "  g: {trainer: classification, pick: {rule: last}, evaluate: [{data: openi, split: val}]}\n",
    )
    shenzhen = Target(data="shenzhen", score_per="image", views="first", cluster="study")
    assert [item.evaluate for item in sweep.phases] == [(), (Target(), shenzhen), (Target(data="openi", split="val"),)]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (
            "gpus: 2, cpus: 8, memory: 32G, time: 12h, nodes: 2, pack: 4",
            Resources(gpus=2, cpus=8, memory_mb=32768, time_minutes=720, nodes=2, pack=4),
        ),
        ("time: 1-12:00:00", Resources(time_minutes=2160)),
        ("time: 12:00:01", Resources(time_minutes=721)),
        ("time: 1d2h3m", Resources(time_minutes=1563)),
        ("time: 45, memory: 500M", Resources(time_minutes=45, memory_mb=500)),
        ("memory: 1TB", Resources(memory_mb=1048576)),
    ],
)
def test_resources(tmp_path: Path, written: str, read: Resources) -> None:
    assert load(tmp_path, f"{SHORT}, resources: {{{written}}}}}\n").phases[0].resources == read


def test_parents_in_every_spelling(tmp_path: Path) -> None:
    sweep = load(
        tmp_path,
        "sweep: x\ndata: mimic\nphases:\n  global: {trainer: ag_cnn}\n  local: {trainer: ag_cnn, after: {global: global}}\n"
        "  fusion: {trainer: ag_cnn, after: {global: global, local: local}}\n"
        "  w: {trainer: classification, after: {weights: ~/release.pt}}\n"
        "  none_of_it: {trainer: classification, after: none}\n"
        "  all: {trainer: classification, compare: {after: [none, {weights: a.pt}, {init: w}]}, hand_on: {epoch: 3}, fuse: false}\n",
    )
    found = {item.name: item for item in sweep.phases}
    assert found["fusion"].after == (Parents(roles={"global": "global", "local": "local"}),)
    assert found["w"].after == (Parents(weights="~/release.pt"),)
    assert found["none_of_it"].after == (Parents(),) and not found["none_of_it"].after_is_axis
    assert [parents.label for parents in found["all"].after] == ["none", "a.pt", "w"]
    assert (found["all"].hand_on, found["all"].fuse) == ("epoch:3", False)


def test_draws_in_every_scheme(tmp_path: Path) -> None:
    def draws(text: str) -> Draws | None:
        return load(tmp_path, f"{SHORT}, draws: {{{text}}}}}\n").phases[0].draws

    assert draws("count: [64, 256], repeats: 5, by: study, seed: 2") == Draws(
        fractions=(64.0, 256.0), counted=True, repeats=(5, 5), by="study", seed=2
    )
    assert draws("scheme: kfold, folds: 3, repeats: 2") == Draws(scheme="kfold", folds=3, repeats=(2,))
    assert draws("scheme: leave_pair_out, by: patient") == Draws(scheme="leave_pair_out")


def test_a_report_and_a_sample_are_read_whole(tmp_path: Path) -> None:
    sweep = load(
        tmp_path,
        "sweep: x\ndata: mimic\nphases:\n  p: {trainer: moco_cxr, compare: {images: [real, scrambled]}}\n"
        "  f: {trainer: classification, compare: {after: [p, none]}, draws: {count: [64], repeats: 5}, pick: {rule: last},\n"
        "      evaluate: [{}]}\n"
        "report:\n  measure: {f: auroc, mimic: accuracy}\n"
        "  baseline: [{after: none}, {images: scrambled}, {after: floor}, {phase: floor}]\n"
        "  over: count\n  by: data\n  confidence: 0.9\n  floor: true\n  margin: 0.01\n  groups: {a: {after: p}, b: [{after: none}]}\n"
        "  subgroups: [sex]\n  reference: [{after: p, value: 0.8, source: the paper}]\n  resamples: 500\n"
        "  as_published: [moco_cxr, ark]\n"
        "  title: T\n  verdict: false\n  notes: [N]\n"
        "sample: {keep: {images: [real], after: [p, none]}, px: 32, n: 100, max_jobs: 10, set: {p: {epochs: 1, lr: 1}}}\n"
        "allow_contamination: [mimic]\n",
    )
    assert sweep.report == ReportSpec(
        measure={"f": "auroc", "mimic": "accuracy"},
        contrasts=tuple(
            Contrast(baseline=labels) for labels in ({"after": "none"}, {"images": "scrambled"}, {"after": "floor"}, {"phase": "floor"})
        ),
        over="count",
        by="data",
        confidence=0.9,
        floor=True,
        margin=0.01,
        groups={"a": ({"after": "p"},), "b": ({"after": "none"},)},
        subgroups=("sex",),
        reference=({"after": "p", "value": 0.8, "source": "the paper"},),
        resamples=500,
        as_published=("moco_cxr", "ark"),
        title="T",
        verdict=False,
        notes=("N",),
    )
    assert sweep.sample == Sample(
        keep={"images": ("real",), "after": ("p", "none")}, px=32, n=100, max_jobs=10, set={"p": {"epochs": 1, "lr": 1.0}}
    )
    assert sweep.allow_contamination == ("mimic",)


def test_two_phases_may_have_an_axis_of_one_name(tmp_path: Path) -> None:
    sweep = load(
        tmp_path,
        "sweep: x\ndata: mimic\nphases:\n  p: {trainer: moco_cxr, compare: {lr: [1e-4, 1e-3]}}\n"
        "  f: {trainer: classification, after: p, compare: {lr: [0.1, 0.2]}, exclude: [{p.lr: 1e-4, f.lr: 0.2}]}\n",
    )
    assert sweep.phases[1].exclude == ({"p.lr": (1e-4,), "f.lr": (0.2,)},)


def test_cards_are_asked_for_once_each(tmp_path: Path) -> None:
    asked: list[str] = []
    (tmp_path / "x.yaml").write_text(
        "sweep: x\ndata: mimic\nphases:\n  p: {trainer: ark, sources: [mimic, chexpert]}\n"
        "  f: {trainer: classification, after: p, compare: {data: [mimic, openi]}, pick: {rule: last},\n"
        "      evaluate: [{data: same}, {data: openi}]}\n"
    )
    load_sweep(tmp_path / "x.yaml", catalog=CATALOG, cards=lambda name: asked.append(name) or name)
    assert sorted(asked) == ["chexpert", "mimic", "openi"]


def test_the_order_of_keys_and_the_spelling_of_numbers_do_not_matter(tmp_path: Path) -> None:
    one = load(tmp_path, "sweep: x\ndata: mimic\nphases:\n  p: {trainer: moco_cxr, config: {lr: 1e-4, epochs: 20}}\n").phases
    two = load(
        tmp_path, "# a comment\nphases: {p: {config: {epochs: 0x14, lr: 0.0001}, 'trainer': moco_cxr}}\ndata: mimic\nsweep: x\n"
    ).phases
    assert one == two


def test_loading_stays_small() -> None:
    """A fresh process that loads a sweep reaches nothing that trains, draws or schedules."""
    code = (
        "import sys; from pathlib import Path; from tests.golden.trainers import CATALOG; from orchestrator.loading import load_sweep;"
        f"load_sweep(Path({str(GOLDEN / 'moco_cxr.yaml')!r}), catalog=CATALOG);"
        "print(sorted({'torch', 'numpy', 'pandas', 'ray', 'mlflow', 'submitit', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]"
