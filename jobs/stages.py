"""The three stages: train, pick, evaluate. What needs torch is imported here by name and only when a stage needs it."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from jobs.catalog import Declaration, find_trainers
from jobs.checkpoints import CheckpointStore
from jobs.company import processes_of, threads_of
from jobs.host import FileHost, SilentHost, Stopped
from jobs.meeting import Meeting
from jobs.paths import JobPaths, RunPaths, write_atomically
from jobs.picking import pick
from jobs.pictures import keep_pictures, told
from jobs.records import read_job, read_record
from jobs.seat import Seat
from jobs.spec import EMBEDDED_TOO, SHUT_UNTIL_CHOICE, SPLITS_OPEN_TO, Input, JobSpec, Json, Split, Stage, canonical_json, pretty_json
from trainers.errors import DataError, Error, WeightsError

__all__ = ["Node", "Stopped", "data_root", "made_folder", "made_parts", "run_stage"]

#: `cpu` lets jobs that ask for GPUs run on CPUs: for clusters that only count GPUs, as those of tests do.
DEVICE = "ORCH_DEVICE"
#: Beside a copy of the code that was made when a job was submitted: where in the copy the folders of further trainers and cards are.
SUBMITTED = "submitted.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """All that a stage may use: the job, its files, the run it lies in, and the host."""

    spec: JobSpec
    paths: JobPaths
    run: RunPaths
    host: FileHost | SilentHost
    store: CheckpointStore
    #: The processes that run a train job together, seen from this one; None when it runs alone.
    company: Meeting | Seat | None = None

    def machine(self) -> Mapping[str, Json]:
        """Read what is true of this machine: where data, weights and user code lie.

        Code that was copied for this job comes before the place that it was copied from, where somebody may be editing.
        """
        return {**read_record(self.run.machine), **_copied_with(Path(__file__).resolve().parents[1])}

    def gpus(self) -> int:
        """Return how many GPUs of its node the job uses."""
        return 0 if os.environ.get(DEVICE) == "cpu" else self.spec.resources.gpus

    def spec_of(self, job: str) -> JobSpec:
        """Read the description of another job of this run root."""
        return read_job(self.run.job(job).job)

    def result_of(self, job: str) -> dict[str, Json]:
        """Read the result of another job of this run root."""
        return read_record(self.run.job(job).result)


def _copied_with(code: Path) -> dict[str, Json]:
    """Return which folders were copied together with the code that runs, absolute; nothing where this is no copy."""
    try:
        copied = read_record(code / SUBMITTED)
    except FileNotFoundError:
        return {}
    return {key: [str(code / folder) for folder in folders] for key, folders in copied.items()}


def run_stage(node: Node) -> dict[str, Json]:
    """Run the job's stage and return the content of `result.json`. Raises Stopped, or an error to be classified."""
    return {Stage.TRAIN: _train, Stage.PICK: _pick, Stage.EVALUATE: _evaluate}[node.spec.stage](node)


def _runtime(name: str) -> ModuleType:
    """Import a module that may import torch; by name, so that nothing reaches torch by importing `jobs`."""
    return importlib.import_module(name)


def _declaration(node: Node, machine: Mapping[str, Json], trainer: str) -> Declaration:
    found = find_trainers([Path(folder) for folder in machine.get("trainer_paths", ())])
    if trainer not in found:
        raise Error(f"trainer '{trainer}' is not on this machine; name its folder in `trainer_paths` of the cluster config")
    declaration = found[trainer]
    if node.spec.trainer == trainer and declaration.version != node.spec.trainer_version:
        raise Error(
            f"trainer '{trainer}' is version {declaration.version} here, and this job was planned for version "
            f"{node.spec.trainer_version}; plan again, or check out the code that it was planned with"
        )
    return declaration


def _pick(node: Node) -> dict[str, Json]:
    result = pick(node.spec, node.run)
    write_atomically(node.paths.choice, pretty_json(result["choice"]).encode())
    return result


# --- train -------------------------------------------------------------------------------------------------------------------------------


def _train(node: Node) -> dict[str, Json]:
    if node.company is None:
        _refuse_to_be_alone(node.spec)
    machine = node.machine()
    config, inputs = _settled(node)
    training = _runtime("trainers.training")
    declaration = _declaration(node, machine, node.spec.trainer)
    monitor = config.pop("monitor", None)
    request = training.TrainRequest(
        method=declaration.load(),
        config=declaration.configured(config),
        seed=node.spec.seed,
        threads=threads_of(node.spec.resources),
        gpus=node.gpus(),
        data=_data_request(node, machine, is_open=lambda split: split in SPLITS_OPEN_TO[Stage.TRAIN]),
        parents={item.role: _parent(node, item) for item in inputs},
        weights=_weights(node.spec, machine),
        monitor=monitor,
        group=None if node.company is None else training.Group(**node.company.facts(node.host.should_stop)),
    )
    outcome, result = training.train(request, node.host)
    if not outcome.finished:
        raise Stopped
    if isinstance(node.company, Seat):
        return {}
    result["checkpoints"] = [
        {"name": kept["name"], "epoch": kept["epoch"], "step": kept["step"], "metrics": kept["metrics"], "files": kept["files"]}
        for kept in node.store.kept()
    ]
    return {"job_id": node.spec.job_id, "stage": str(Stage.TRAIN), **_with_pictures(node, result)}


def _with_pictures(node: Node, result: Mapping[str, Json]) -> dict[str, Json]:
    """Return a result that names the pictures of its job; the result itself where there are none, as most methods make none."""
    plain = {key: value for key, value in result.items() if key != "captions"}
    pictures = told(node.paths.pictures, result.get("captions", {}))
    return {**plain, "pictures": pictures} if pictures else plain


def _refuse_to_be_alone(spec: JobSpec) -> None:
    asked = processes_of(spec.resources)
    if asked > 1:
        nodes, gpus = spec.resources.nodes, spec.resources.gpus
        raise Error(
            f"resources: {nodes} node(s) with {gpus} GPU(s) each are {asked} processes, and this one was started alone: use a "
            "cluster whose backend starts several processes a job (slurm), or ask for one node and one GPU"
        )


def _settled(node: Node) -> tuple[dict[str, Json], tuple[Input, ...]]:
    """Return the config and the inputs, with what an upstream pick decided filled in."""
    config = dict(node.spec.config)
    tuned_keys = config.pop("tuned_keys", None)
    tuned = [item for item in node.spec.inputs if item.role == "tuned"]
    others = tuple(item for item in node.spec.inputs if item.role != "tuned")
    if not tuned:
        return config, others
    choice = node.result_of(tuned[0].job)["choice"]
    overrides = choice["overrides"]
    if set(tuned_keys or ()) != set(overrides):
        raise Error(
            f"the pick {tuned[0].job[:12]} decided {sorted(overrides)}, and this job waits for {sorted(tuned_keys or ())}; plan again"
        )
    config.update(overrides)
    known = {item.role for item in others}
    decided = tuple(
        Input(role=role, job=job, take=_take_of(node, job)) for role, job in sorted(choice["inputs"].items()) if role not in known
    )
    return config, others + decided


def _take_of(node: Node, job: str) -> str:
    return "choice" if node.spec_of(job).stage is Stage.PICK else "last"


def _weights(spec: JobSpec, machine: Mapping[str, Json], only: tuple[str, ...] | None = None) -> dict[str, Path]:
    """Return the external files that a job names by digest, or `only` some. Raises WeightsError when one is not what it was."""
    found: dict[str, Path] = {}
    for key, digest in spec.weights.items():
        if only is not None and key not in only:
            continue
        known = machine.get("weight_files", {}).get(digest)
        if known is None:
            raise WeightsError(
                f"no file on this machine has the sha256 {digest[:12]} that '{key}' was planned with; submit the sweep again"
            )
        with Path(known).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise WeightsError(
                    f"{known} is not the file that '{key}' was planned with (sha256 {digest[:12]}); put it back, or submit the sweep again"
                )
        found[key] = Path(known)
    return found


def _parent(node: Node, item: Input) -> Any:
    """Return the `trainers.api.Parent` that an input stands for."""
    api = _runtime("trainers.api")
    job, names = _checkpoints_of(node, item)
    spec = node.spec_of(job)
    config = {key: value for key, value in _resolved_config(node, job).items() if key != "monitor"}
    return api.Parent(files=_weight_files(node, job, names), trainer=spec.trainer, config=config)


def _resolved_config(node: Node, job: str) -> dict[str, Json]:
    return node.result_of(job)["config"]


def _members_of(node: Node, item: Input) -> dict[str, list[str]]:
    """Return the checkpoints of each label, where a pick chose for each its own; nothing else."""
    result = node.result_of(item.job)
    if result["stage"] != str(Stage.PICK):
        return {}
    runs = result["choice"]["runs"]
    labels = runs[item.run if item.run is not None else next(iter(runs))].get("labels", {})
    return {label: list(chosen["checkpoints"]) for label, chosen in labels.items()}


def _checkpoints_of(node: Node, item: Input) -> tuple[str, list[str]]:
    """Return the train job and the checkpoint names that an input stands for."""
    result = node.result_of(item.job)
    if result["stage"] == str(Stage.PICK):
        runs = result["choice"]["runs"]
        chosen = runs[item.run if item.run is not None else next(iter(runs))]
        return chosen["job"], list(chosen["checkpoints"])
    kept = result["checkpoints"]
    if item.take.startswith("epoch:"):
        epoch = int(item.take.removeprefix("epoch:"))
        names = [entry["name"] for entry in kept if entry["epoch"] == epoch]
        if not names:
            raise Error(f"job {item.job[:12]} kept no checkpoint of epoch {epoch}; it has {[entry['epoch'] for entry in kept]}")
        return item.job, names
    return item.job, [max(kept, key=lambda entry: entry["step"])["name"]]


def _weight_files(node: Node, job: str, names: list[str]) -> tuple[Path, ...]:
    store = CheckpointStore(node.run.job(job).checkpoints)
    return tuple(store.file(name, "safetensors") for name in names)


# --- evaluate ----------------------------------------------------------------------------------------------------------------------------


def _evaluate(node: Node) -> dict[str, Json]:
    machine = node.machine()
    job, names = _checkpoints_of(node, node.spec.inputs[0])
    members = _members_of(node, node.spec.inputs[0])
    #: Only where it was asked for, so that other results are what they were.
    by_label: dict[str, Json] = {"checkpoints_by_label": members} if members else {}
    trained, train_result = node.spec_of(job), node.result_of(job)
    declaration = _declaration(node, machine, trained.trainer)
    config = {key: value for key, value in _resolved_config(node, job).items() if key != "monitor"}
    evaluation = _runtime("trainers.evaluation")
    chosen: list[bool] = []
    embedded = node.spec.config.get("embeddings")
    opened = (*SPLITS_OPEN_TO[Stage.EVALUATE], *(EMBEDDED_TOO if embedded else ()))

    def is_open(split: str) -> bool:
        return split in opened and (split not in SHUT_UNTIL_CHOICE or bool(chosen))

    def choose(choice: Mapping[str, Json]) -> None:
        write_atomically(node.paths.choice, pretty_json({**choice, "train_job": job, "checkpoints": names, **by_label}).encode())
        chosen.append(True)

    request = evaluation.EvaluateRequest(
        method=declaration.load(),
        config=declaration.configured(config),
        threads=node.spec.resources.cpus,
        gpus=node.gpus(),
        data=_data_request(node, machine, is_open=is_open),
        files=_weight_files(node, job, names),
        members={label: tuple(names.index(name) for name in own) for label, own in members.items()},
        labels=tuple(train_result["labels"]),
        split=Split(node.spec.config["split"]),
        units={key: node.spec.config.get(key) for key in ("score_per", "views", "cluster")},
        traits=node.spec.config.get("traits", {}),
        keep_pictures=lambda pictures: keep_pictures(node.paths.pictures, pictures),
        learnt_from=train_result.get("learnt_from", {}),
        heads=node.spec.config.get("heads", "auto"),
        embeddings=(embedded, node.paths.embeddings) if embedded else None,
        thresholds_as_published=node.spec.config.get("thresholds") == "as_published",
        arrays=node.paths.arrays if node.spec.config.get("arrays") else None,
        weights=_weights(trained, machine, only=declaration.needs),
    )
    result = _with_pictures(node, evaluation.evaluate(request, choose, node.paths.predictions))
    if node.spec.contamination:
        result = {**result, "contamination": list(node.spec.contamination)}
    return {"job_id": node.spec.job_id, "stage": str(Stage.EVALUATE), "train_job": job, "checkpoints": names, **by_label, **result}


# --- data --------------------------------------------------------------------------------------------------------------------------------


def _data_request(node: Node, machine: Mapping[str, Json], *, is_open: Callable[[str], bool]) -> Any:
    opening = _runtime("trainers.training")
    sources = node.spec.data["sources"]
    return opening.DataRequest(
        sources=tuple(sources),
        draw=node.spec.data.get("draw"),
        roots=lambda source, place: data_root(source, place, machine),
        cache=node.run.cache,
        is_open=is_open,
        card_paths=tuple(Path(folder) for folder in machine.get("card_paths", ())),
    )


def data_root(source: Mapping[str, Json], place: str, machine: Mapping[str, Json]) -> Path:
    """Return the folder where a data reference's files are on this machine; `place` is the card's name for it.

    Raises DataError saying what to type.
    """
    if source.get("made"):
        part = next((part for part in made_parts(source) if place in (part["card"], part["made"].get("place"))), None)
        return made_folder(part or source, Path(machine["made_root"]))
    if place in machine.get("data", {}):
        return Path(machine["data"][place])
    if machine.get("data_root"):
        return Path(machine["data_root"]) / place
    raise DataError(f"no folder is known for data '{place}': name it under `data:` in the cluster config, `data: {{{place}: /path/to/it}}`")


def made_parts(source: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    """Return what a made source consists of: itself, or the members of a union."""
    members = source["made"].get("members")
    return [source] if members is None else [{"card": name, "made": made} for name, made in members.items()]


def made_folder(source: Mapping[str, Json], made_root: Path) -> Path:
    """Return where a made data set lies: a folder named after everything that determines it."""
    digest = hashlib.sha256(canonical_json(source["made"]).encode()).hexdigest()[:12]
    return made_root / f"{source['card']}-{digest}"
