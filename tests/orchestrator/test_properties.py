"""Properties of every plan: what ids depend on, and how jobs hang together."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jobs.spec import Stage, canonical_json, job_id
from orchestrator.expand import expand
from orchestrator.loading import load_sweep
from orchestrator.model import Plan
from tests.golden.trainers import CATALOG
from tests.orchestrator.planning import FakeResolver

MANY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
SCOPES = ["draw", "cell", "sweep"]
RATES = [1e-5, 3e-5, 1e-4, 2.5e-3, 1.0]

Document = dict[str, Any]


def some(values: list[Any], low: int = 1, high: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=low, max_size=high, unique=True)


@st.composite
def replicates(draw: st.DrawFn) -> Document:
    kind = draw(st.sampled_from(["none", "seeds", "fraction", "count", "kfold"]))
    if kind == "none":
        return {}
    if kind == "seeds":
        return {"seeds": draw(st.integers(1, 3))}
    if kind == "kfold":
        return {"draws": {"scheme": "kfold", "folds": draw(st.integers(2, 3)), "seed": draw(st.integers(0, 2))}}
    sizes = draw(some([0.01, 0.1, 1.0] if kind == "fraction" else [16, 64, 256], high=2))
    repeats = [draw(st.integers(1, 2)) for _ in sizes]
    return {"draws": {kind: sizes, "repeats": repeats, "nested_fractions": draw(st.booleans()), "seed": draw(st.integers(0, 2))}}


@st.composite
def pretrainings(draw: st.DrawFn) -> Document:
    phase: Document = {"trainer": "moco_cxr", "config": {"temperature": draw(st.sampled_from([0.1, 0.2, 1.0])), "epochs": 20}}
    if draw(st.booleans()):
        phase["tune"] = {"lr": draw(some(RATES))}
    if draw(st.booleans()):
        phase["compare"] = {"images": ["real", "scrambled"]}
    if draw(st.booleans()):
        phase["seeds"] = draw(st.integers(1, 2))
    if draw(st.booleans()):
        phase["pick"] = {"metric": "val/knn", "scope": draw(st.sampled_from(SCOPES))}
    return phase


@st.composite
def finetunings(draw: st.DrawFn) -> Document:
    phase: Document = {"trainer": "classification", "config": {"epochs": 10}, **draw(replicates())}
    compare: Document = {}
    if draw(st.booleans()):
        compare["freeze"] = ["backbone", "nothing"]
    if draw(st.booleans()):
        compare["data"] = draw(some(["chexpert", "rsna", "vindr"], low=2))
    if compare:
        phase["compare"] = compare
    if draw(st.booleans()):
        phase["tune"] = {"lr": draw(some(RATES)), "weight_decay": draw(some([0.0, 0.5, 1.0]))}
    phase["pick"] = {"metric": "val/auroc_macro", "scope": draw(st.sampled_from(SCOPES))}
    phase["evaluate"] = [{"data": "same", "split": "test"}, {"data": "shenzhen", "split": "test"}][: draw(st.integers(1, 2))]
    return phase


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Return a sweep as a tree of plain values; all of them expand."""
    document: Document = {"sweep": "any", "data": "chexpert", "seed": draw(st.integers(0, 3))}
    starts, archs = draw(some(["imagenet", "random", "own.pt"], low=0, high=2)), draw(some(["resnet18", "resnet50"], low=0, high=2))
    top = {key: values for key, values in (("init", starts), ("arch", archs)) if values}
    if top:
        document["compare"] = top
    finetune = draw(finetunings())
    after = draw(st.sampled_from(["pretrain", "none", "both"]))
    if after == "both":
        finetune["compare"] = {"after": ["pretrain", "none"], **finetune.get("compare", {})}
    elif after == "pretrain":
        finetune["after"] = "pretrain"
    document["phases"] = {"finetune": finetune} if after == "none" else {"pretrain": draw(pretrainings()), "finetune": finetune}
    return document


def spelled(number: float, random: Random) -> str:
    """Write a number in one of the ways that YAML 1.2 has for it."""
    ways = [repr(number), f"{number:.12e}", f"{number:.10f}" if number >= 1e-4 else f"{number:E}", f"+{number!r}"]
    if number == int(number):
        ways.append(str(int(number)))
    return next(text for text in random.sample(ways, len(ways)) if float(text) == number)


def written(value: Any, random: Random | None, indent: int = 0) -> str:
    """Write a tree as YAML; `random` shuffles keys, spells numbers differently and adds comments."""
    pad = "  " * indent
    if isinstance(value, Mapping):
        items = list(value.items())
        if random is not None:
            random.shuffle(items)
        lines: list[str] = []
        for key, item in items:
            if random is not None and random.random() < 0.3:
                lines.append(f"{pad}# {key}: {random.randint(0, 9)}\n")
            nested = isinstance(item, Mapping)
            lines.append(f"{pad}{key}:" + (f"\n{written(item, random, indent + 1)}" if nested else f" {written(item, random)}\n"))
        return "".join(lines)
    if isinstance(value, list):
        return "[" + ", ".join(f"{{{flow(item, random)}}}" if isinstance(item, Mapping) else written(item, random) for item in value) + "]"
    if isinstance(value, float) and random is not None:
        return spelled(value, random)
    return canonical_json(value) if not isinstance(value, str) else value


def flow(value: Mapping[str, Any], random: Random | None) -> str:
    return ", ".join(f"{key}: {written(item, random)}" for key, item in value.items())


def planned(document: Document, random: Random | None = None, resolver: FakeResolver | None = None) -> Plan:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.yaml"
        path.write_text(written(document, random), encoding="utf-8")
        sweep = load_sweep(path, catalog=CATALOG)
    return expand(sweep, CATALOG, resolver or FakeResolver())


def ids(plan: Plan, *stages: Stage) -> set[str]:
    return {job.job_id for job in plan.jobs if not stages or job.stage in stages}


@MANY
@given(documents(), st.randoms(use_true_random=False))
def test_ids_do_not_depend_on_how_a_sweep_is_written(document: Document, random: Random) -> None:
    assert ids(planned(document, random)) == ids(planned(document))


@MANY
@given(documents(), st.data())
def test_adding_points_changes_only_what_a_larger_choice_decides(document: Document, data: st.DataObject) -> None:
    axes = [
        (axis, key)
        for phase in document["phases"].values()
        for axis in (phase.get("compare", {}), phase.get("tune", {}))
        for key in axis
        if key in ("lr", "weight_decay", "data")
    ]
    assume(axes)
    before = planned(document)
    axis, key = data.draw(st.sampled_from(range(len(axes))).map(axes.__getitem__))
    axis[key] = [*axis[key], "mimic" if key == "data" else 0.123]
    kept = ids(planned(document))
    assert len(kept) > len(before.jobs)
    by_id = before.by_id()
    for job in before.jobs:
        if job.job_id in kept:
            continue
        # It is a choice among more than before, or follows one; on its own, nothing changes.
        lost_inputs = [by_id[item.job] for item in job.inputs if item.job not in kept]
        assert lost_inputs or job.stage is Stage.PICK
        if not lost_inputs and key == "data":
            assert job.config["scope"] == "sweep"


@MANY
@given(documents(), st.data())
def test_ids_change_with_whatever_determines_the_result(document: Document, data: st.DataObject) -> None:
    before = planned(document)
    what = data.draw(st.sampled_from(["card", "seed", "version", "config", "default"]))
    if what == "card":
        after = planned(document, resolver=FakeResolver(salt="other files"))
    elif what == "seed":
        after = planned({**document, "seed": document["seed"] + 1})
    elif what == "config":
        for phase in document["phases"].values():
            phase["config"]["px"] = 17
        after = planned(document)
    else:
        after = with_other_trainers(document, what)
    assert not ids(before) & ids(after)
    assert len(before.jobs) == len(after.jobs)


def with_other_trainers(document: Document, what: str) -> Plan:
    """Expand with trainers of another version, or with another default that no sweep here sets."""
    catalog = dict(CATALOG)
    for name in ("moco_cxr", "classification"):
        old = catalog[name]
        if what == "version":
            catalog[name] = replace(old, version=old.version + 1)
        else:
            changed = type("Config", (old.config,), {"__annotations__": {"px": "int"}, "px": 999, "__module__": old.config.__module__})
            catalog[name] = replace(old, config=dataclass(frozen=True, kw_only=True)(changed))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.yaml"
        path.write_text(written(document, None), encoding="utf-8")
        return expand(load_sweep(path, catalog=CATALOG), catalog, FakeResolver())


@MANY
@given(documents())
def test_how_jobs_hang_together(document: Document) -> None:
    plan = planned(document)
    check_ids(plan)
    check_order(plan)
    check_that_losers_are_not_evaluated(plan)
    check_that_arms_share_draws_and_seeds(plan)


def check_ids(plan: Plan) -> None:
    """Ids are unique, and the hash of the identity; every label is an axis."""
    assert len(ids(plan)) == len(plan.jobs)
    assert all(job.job_id == job_id(job.identity()) for job in plan.jobs)
    assert all(job.labels.keys() <= {axis.name for axis in plan.axes} | {"target"} for job in plan.jobs)


def check_order(plan: Plan) -> None:
    """Every input is in the plan, and comes before what needs it."""
    seen: set[str] = set()
    for job in plan.jobs:
        assert {item.job for item in job.inputs} <= seen
        seen.add(job.job_id)


def check_that_losers_are_not_evaluated(plan: Plan) -> None:
    """A test split is reached through a choice only, once for each run, and every run of the last phase is in one choice."""
    by_id = plan.by_id()
    scored: set[tuple[str, str | None, str]] = set()
    for job in plan.jobs:
        upstream = [by_id[item.job] for item in job.inputs]
        assert all(parent.stage is not Stage.EVALUATE for parent in upstream)
        if job.stage is not Stage.EVALUATE:
            assert "split" not in job.config
            continue
        (item,) = job.inputs
        (pick,) = upstream
        assert (pick.stage, item.take) == (Stage.PICK, "choice")
        assert all(item.run in candidate["runs"] for candidate in pick.config["candidates"])
        place = (pick.job_id, item.run, canonical_json([job.data, job.config["split"]]))
        assert place not in scored
        scored.add(place)
    decided = [item.job for job in plan.jobs if job.stage is Stage.PICK for item in job.inputs]
    assert len(decided) == len(set(decided))
    assert {job.job_id for job in plan.jobs if job.phase == "finetune" and job.stage is Stage.TRAIN} <= set(decided)


def check_that_arms_share_draws_and_seeds(plan: Plan) -> None:
    """The same draw has the same patients and the same training seed, whatever the arm."""
    found: dict[str, set[str]] = {}
    for job in plan.jobs:
        if job.phase == "finetune" and job.stage is Stage.TRAIN and job.data["draw"] is not None:
            key = canonical_json([job.labels.get(name) for name in ("fraction", "count", "draw", "fold")])
            found.setdefault(key, set()).add(canonical_json([job.data["draw"], job.seed]))
    assert all(len(each) == 1 for each in found.values())
