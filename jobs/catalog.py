"""Which trainers exist, and what each declares without torch.

Trainers are found, in this order, in the folders of `trainer_paths` (a cluster config), through the entry-point group
`cxr_orchestrator.trainers`, and in `trainers/` itself. A declaration is the module attributes of `<package>/config.py`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import pkgutil
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from trainers.errors import Error

ENTRY_POINT_GROUP = "cxr_orchestrator.trainers"
#: The tasks of cards that say of an image which labels it has.
CLASSIFYING = ("multilabel", "multiclass")
#: What a phase calls the set of config values that its trainer declares under a name.
PRESET = "preset"
#: The config key of a trainer without labels that has its features watched on validation labels.
WATCH = "watch_every_epochs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a trainer says of itself, torch-free.

    Module attributes of `config.py`: `NAME`, `VERSION`, `Config` are required.
    `STARTS`: config keys that name a start (`init`); they belong to the parent's job when there is a parent.
    `ROLES`: the roles a parent may take (default `init`). `LABELS`: whether it learns from labels (default True), and `TASKS` of what kind:
    the `task` of the cards it can be trained and scored on (default multilabel and multiclass).
    `SAMPLE`: config overrides of `--sample`. `MONITORS`: `val/...` metrics it reports besides those of its labels, as names, or as a
    mapping from a name to the config key that turns it on; `<label>` in a name stands for any label.
    `BY_SOURCE`: set by a trainer that learns from several cards and is validated on each by itself (`val/<card>/auroc_macro`,
    `val/mean_auroc`): the names of further networks that are validated beside the one that is handed on, a tuple, mostly empty.
    `DEPARTURES`: key -> (paper's or release's value, why), for the docs. `FLOOR`: True for a no-network floor.
    `EMBEDDINGS`: what its `embed(rows, of)` can hand out: `backbone`, `projector`. `NEEDS`: those of `STARTS` whose file prediction reads
    too, and training whatever it starts from: they stay a job's own beside a parent, and a default of theirs names no file.
    `OPEN_LABELS`: True for a trainer that predicts any label of any card, learnt or not (its `train.py` has the name too).
    `PRESETS`: name -> config key -> (value, why): what `preset: <name>` of a phase lays below its `config`.
    """

    name: str
    version: int
    config: type
    package: str
    starts: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("init",)
    labels: bool = True
    tasks: tuple[str, ...] = CLASSIFYING
    sample: Mapping[str, Any] = field(default_factory=dict)
    monitors: Mapping[str, str] = field(default_factory=dict)
    departures: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, tuple[Any, str]]] = field(default_factory=dict)
    embeddings: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    floor: bool = False
    by_source: tuple[str, ...] | None = None
    open_labels: bool = False
    about: str = ""

    @property
    def before(self) -> dict[str, Any]:
        """Return the keys that came after the first results, with what those were made with: metadata `before` of a field of `Config`.

        A job that has such a value does not name the key, so jobs from before keep their ids; what is not named has this value, whatever
        the default is now.
        """
        return {item.name: item.metadata["before"] for item in fields(self.config) if "before" in item.metadata}

    def by_task(self, task: str) -> dict[str, tuple[Any, Any]]:
        """Return the keys whose default stands for another value on cards of a task, with both values: metadata `by_task` of a field."""
        told = {item.name: item for item in fields(self.config) if task in item.metadata.get("by_task", {})}
        return {name: (item.default, item.metadata["by_task"][task]) for name, item in told.items()}

    def monitored_by(self, metric: str) -> str | None:
        """Return the config key that turns a metric of `MONITORS` on, empty where it is always written; None when it is none of them."""
        for name, key in self.monitors.items():
            head, label, _ = name.partition("<label>")
            if metric == name or (label and metric.startswith(head) and len(metric) > len(head)):
                return key
        return None

    def configured(self, values: Mapping[str, Any]) -> Any:
        """Return the `Config` of a job's values. Raises TypeError for an unknown key, ValueError for a value that the trainer refuses."""
        return self.config(**{**self.before, **values})

    def load(self) -> ModuleType:
        """Import the method itself (this is where torch comes in)."""
        return importlib.import_module(f"{self.package}.train")


def declaration_of(package: str) -> Declaration:
    """Read the declaration of a trainer package. Raises AttributeError when a required name is missing, Error for a wrong preset."""
    module = importlib.import_module(f"{package}.config")
    presets = getattr(module, "PRESETS", {})
    _check_presets(presets, module.NAME, module.Config)
    return Declaration(
        name=module.NAME,
        version=module.VERSION,
        config=module.Config,
        package=package,
        starts=tuple(getattr(module, "STARTS", ())),
        roles=tuple(getattr(module, "ROLES", ("init",))),
        labels=getattr(module, "LABELS", True),
        tasks=tuple(getattr(module, "TASKS", CLASSIFYING)),
        sample=getattr(module, "SAMPLE", {}),
        monitors=_monitors(getattr(module, "MONITORS", ())),
        departures=getattr(module, "DEPARTURES", {}),
        presets=presets,
        embeddings=tuple(getattr(module, "EMBEDDINGS", ())),
        needs=tuple(getattr(module, "NEEDS", ())),
        floor=getattr(module, "FLOOR", False),
        by_source=getattr(module, "BY_SOURCE", None),
        open_labels=getattr(module, "OPEN_LABELS", False),
        about=(module.__doc__ or "").strip().split("\n")[0],
    )


def _check_presets(presets: Mapping[str, Any], trainer: str, config: type) -> None:
    """See that presets set what the config has, to values that it takes. Raises Error."""
    known = [item.name for item in fields(config)] if presets else []
    if presets and PRESET in known:
        raise Error(f"trainer '{trainer}': a config with a key '{PRESET}' can have no PRESETS: rename the key")
    for name, settings in presets.items():
        where = f"trainer '{trainer}': PRESETS['{name}']"
        if not re.fullmatch(r"[a-z0-9_][a-z0-9_-]*", name):
            raise Error(f"{where}: a preset has a name of lower-case letters, digits, '_' and '-'")
        for key, entry in settings.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                raise Error(f"{where}: the config has no key '{key}'" + (f"; did you mean '{near[0]}'?" if near else ""))
            if not (isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], str) and entry[1]):
                raise Error(f"{where}['{key}']: write (value, why)")
        required = [item.name for item in fields(config) if _must_be_given(item) and item.name not in settings]
        try:
            if not required:
                config(**{key: value for key, (value, _) in settings.items()})
        except (TypeError, ValueError) as error:
            raise Error(f"{where}: {error}") from error


def _must_be_given(item: Field[Any]) -> bool:
    return item.init and item.default is MISSING and item.default_factory is MISSING


def _monitors(declared: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    return dict(declared) if isinstance(declared, Mapping) else dict.fromkeys(declared, "")


def find_trainers(trainer_paths: Sequence[Path] = ()) -> dict[str, Declaration]:
    """Return every trainer by name. Raises Error when two packages claim one name, or one from outside cannot be read."""
    found: dict[str, Declaration] = {}
    ours = _in_tree()
    for package in (*_in_folders(trainer_paths), *_in_entry_points(), *ours):
        declaration = declaration_of(package) if package in ours else _declaration_from_outside(package)
        other = found.setdefault(declaration.name, declaration)
        if other.package != package:
            raise Error(f"trainer '{declaration.name}' is declared by both {other.package} and {package}: rename one")
    return dict(sorted(found.items()))


def _declaration_from_outside(package: str) -> Declaration:
    """Read a declaration that somebody else wrote. Raises Error with the line at which it broke."""
    try:
        return declaration_of(package)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) else f"{last.filename}:{last.lineno}"
        raise Error(
            f"trainer package '{package}' cannot be read: {type(error).__name__}: {error} ({place}); "
            "correct its config.py, or take it out of `trainer_paths` of the cluster config"
        ) from error


def installed_with(trainer: str) -> str:
    """Return name and version of the installed package that a trainer comes from; empty for one whose code is at hand."""
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        with contextlib.suppress(Error):
            if point.dist is not None and _declaration_from_outside(point.value).name == trainer:
                return f"{point.dist.name} {point.dist.version}"
    return ""


def _in_tree() -> list[str]:
    import trainers

    return [
        f"trainers.{item.name}"
        for item in pkgutil.iter_modules(trainers.__path__)
        if item.ispkg and any((Path(path) / item.name / "config.py").is_file() for path in trainers.__path__)
    ]


def _in_entry_points() -> list[str]:
    return sorted(point.value for point in metadata.entry_points(group=ENTRY_POINT_GROUP))


def _in_folders(folders: Sequence[Path]) -> list[str]:
    packages: list[str] = []
    for folder in folders:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        for config in sorted(folder.glob("*/config.py")):
            _refuse_other_of_that_name(config.parent)
            packages.append(config.parent.name)
    return packages


def _refuse_other_of_that_name(folder: Path) -> None:
    """Raise Error when a package's name stands for other code in this process: that code would run in its place."""
    loaded, found = sys.modules.get(f"{folder.name}.config"), importlib.util.find_spec(folder.name)
    if loaded is not None and loaded.__file__ is not None:
        places = [Path(loaded.__file__).parent]
    else:
        places = [Path(place) for place in (found.submodule_search_locations or ())] if found else [folder]
    if not any(place.exists() and place.samefile(folder) for place in places):
        where = ", ".join(map(str, places)) or (found.origin if found else "")
        raise Error(f"{folder}: the name '{folder.name}' stands for {where} here, which would run in its place; rename the folder")
