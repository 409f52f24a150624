"""The page of the presets, written from the trainers' declarations and from the files in `sweeps/presets`: `docs/presets.md`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from jobs.catalog import Declaration
from orchestrator.documents import read_document
from orchestrator.grammar.configs import fields_of
from orchestrator.key_tables import shown_value, table
from orchestrator.model import Draws, Pick

FOLDER = Path(__file__).parents[1] / "sweeps" / "presets"
_NAMES = ("paper", "release", "recommended")
#: Studies whose presets are named after them.
_STUDIES = ("benchmark",)
Presets: TypeAlias = Mapping[str, Mapping[str, tuple[Any, str]]]
_DRAWS, _PICK = Draws(), Pick()
#: What stands in a sweep and not in a trainer's config: the path of the key, its default, and what there is to say of it.
_BESIDE: tuple[tuple[str, Any, str], ...] = (
    ("compare.freeze", None, "the release's 'linear' has gradients off and BatchNorm adapting"),
    ("draws.fraction", None, "no figure shows 0.5, and the release's stream of random numbers goes through it"),
    ("draws.repeats", None, "a lone run has no interval over draws"),
    ("draws.by", _DRAWS.by, "the release draws images, so that a patient may be in a draw and outside it at once"),
    ("draws.sizes", _DRAWS.sizes, "the release lets every image in by itself: sizes differ from draw to draw"),
    ("draws.nested_fractions", _DRAWS.nested_fractions, "a comment of the release says so, and its draws are independent"),
    ("pick.metric", None, "the mean over five tasks decides, also where one of them is reported"),
    ("pick.checkpoints", _PICK.checkpoints, "the release scores the mean probability of all that it kept, and its text says the best"),
    ("pick.per", _PICK.per, "the release ranks checkpoints by task and then takes all of them; `label` keeps the ranking"),
    ("evaluate.score_per", None, "a study is scored, lateral images included"),
    ("evaluate.views", None, "by the largest logit of its images"),
)
_AFTERWORD = (
    "The start is an axis of the sweep: `compare: {init: [imagenet, random]}`. The release's ResNets 'from scratch' load the weights of",
    "ImageNet all the same, so its arms without ImageNet are `init: imagenet`. Its intervals stand beside ours with",
    "`report: {as_published: [moco_cxr]}`.",
    "",
    "Not repeated: the separate script for folders of images (learning rate 30 with Adam, the best epoch chosen on the test set),",
    "schedulers that are built and never stepped, workers that share one stream of random numbers, a choice that is NaN and stays so, and",
    "training on the partial batch at the end of an epoch (here it is left out, and the images left out change with the epoch).",
)


def presets_page(catalog: Mapping[str, Declaration]) -> str:
    """Return what every preset of some trainers sets, and why, as Markdown."""
    lines = [
        "# Presets",
        "",
        "Written from the code by `make docs`; a test holds it current.",
        "",
        "A preset is a set of config values that a trainer declares under a name. `preset: release` stands beside `trainer` in a phase;",
        "`compare: {preset: [paper, release, recommended]}` sets presets side by side, in one phase or at the top of a sweep. A value is",
        "the default, unless the preset sets it, then `config`, then an axis, then `when`. The name of a preset is a label and no part of",
        "what a job is: the same values are the same job, however they came. `sweeps/moco_cxr_presets.yaml` and",
        "`sweeps/benchmark_presets.yaml` compare the three, of MoCo-CXR and of the [benchmark of transformers](howto/benchmark.md).",
    ]
    lines += [
        "",
        "`paper` is the method as its publication tells it; where that is silent it follows the release, with what is broken there mended.",
        "`release` is what the public code does, quirks included. `recommended` is what a careful group would run at the same compute.",
    ]
    for name, declaration in catalog.items():
        if declaration.presets:
            lines += ["", f"## `{name}`", *_tables(declaration)]
    lines += ["", "## In the sweep", "", "What no config of a trainer holds stands in files that a sweep `extends`:"]
    lines += [f"`extends: presets/{file.name}`" + ("." if file == _files()[-1] else ",") for file in _files()]
    return "\n".join([*lines, "", *_beside(), "", *_AFTERWORD]) + "\n"


def _tables(declaration: Declaration) -> list[str]:
    """Return a table of the values, a row a key and a column a preset, and for each preset a table of the reasons."""
    lines: list[str] = []
    for presets in _families(declaration.presets):
        lines += _values(declaration, presets)
        for name, settings in presets.items():
            reasons = [
                (f"`{key}`", shown_value(settings[key][0]), settings[key][1]) for key in _keys(declaration, presets) if key in settings
            ]
            lines += ["", f"### `{declaration.name}`, `preset: {name}`", "", *table(("key", "value", "why"), reasons)]
    return lines


def value_tables(declaration: Declaration) -> list[str]:
    """Return the tables of the values of a trainer's presets, one for each study, a row a key and a column a preset."""
    return [line for presets in _families(declaration.presets) for line in _values(declaration, presets)]


def _values(declaration: Declaration, presets: Presets) -> list[str]:
    defaults = fields_of(declaration).defaults
    rows: list[tuple[str, ...]] = []
    for key in _keys(declaration, presets):
        values = [shown_value(settings[key][0]) if key in settings else "the default" for settings in presets.values()]
        rows.append((f"`{key}`", *values, shown_value(defaults[key]) if key in defaults else "must be given"))
    return ["", *table(("key", *presets, "default"), rows)]


def _keys(declaration: Declaration, presets: Presets) -> list[str]:
    return [key for key in fields_of(declaration).keys if any(key in settings for settings in presets.values())]


def _families(presets: Presets) -> list[Presets]:
    """Return the presets of each study that a trainer has some of, which are named `<study>_...`; plain names are one family."""
    found: dict[str, dict[str, Mapping[str, tuple[Any, str]]]] = {}
    for name, settings in presets.items():
        study = next((f"{one}_" for one in _STUDIES if name.startswith(f"{one}_")), "")
        found.setdefault(study, {})[name] = settings
    return list(found.values())


def _files() -> list[Path]:
    return [FOLDER / f"moco_cxr_{name}.yaml" for name in _NAMES]


def _beside() -> list[str]:
    phases = [read_document(file).plain()["phases"]["finetune"] for file in _files()]
    rows: list[tuple[str, ...]] = []
    for path, default, why in _BESIDE:
        usual = "the card's" if path.startswith("evaluate") else _or_none(default)
        rows.append((f"`{path}`", *(_shown(phase, path, default) for phase in phases), usual, why))
    return table(("key", *_NAMES, "default", "what there is to say"), rows)


def _or_none(default: Any) -> str:
    return "none" if default is None else shown_value(default)


def _shown(phase: Mapping[str, Any], path: str, default: Any) -> str:
    found: Any = phase
    for step in path.split("."):
        found = found[0] if isinstance(found, list) else found
        found = found.get(step, default)
    return _or_none(found)
