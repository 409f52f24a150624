"""Cluster configs: one machine's facts, read from `cluster_configs/<name>.yaml`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.documents import Node, read_document
from orchestrator.errors import ClusterError
from orchestrator.grammar.faults import Faults, suggest
from orchestrator.grammar.keys import CARD, FILE, NAME
from orchestrator.grammar.quantities import Memory, Time, memory_mb, time_minutes
from orchestrator.grammar.shapes import Choice, Flag, Key, ListOf, MapOf, Number, Record, Text, Whole
from orchestrator.model import ClusterConfig, Limits, Partition, SlurmSite, WholeNodes
from orchestrator.notify.settings import Notify

FOLDER = Path("cluster_configs")
SHIPPED = Path(__file__).parent.parent / FOLDER
DEFAULT = "local"
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}]*)\}|(?P<plain>[A-Za-z_][A-Za-z0-9_]*))")

PARTITION = Record(
    keys={
        "gpus": Key(about="GPUs of a node.", shape=Whole(low=0)),
        "cpus": Key(about="CPU cores of a node.", shape=Whole(low=1), required=True),
        "memory": Key(about="Memory of a node, such as 500G.", shape=Memory(), required=True),
        "max_time": Key(about="Longest job, such as 2-00:00:00.", shape=Time()),
        "account": Key(about="The account that is charged here, when it is another.", shape=Text()),
        "qos": Key(about="The quality of service here, when it is another.", shape=Text()),
        "constraint": Key(about="Features that a node must have here, when they are others.", shape=Text()),
    }
)
LIMITS = Record(
    keys={
        "max_queued": Key(
            about="Most jobs of a sweep in the queue at once; the rest waits for the next submit, or for who waits.", shape=Whole(low=1)
        ),
        "gpu_hours": Key(about="Most GPU-hours that a sweep may take.", shape=Number(above=0)),
    }
)
SLURM = Record(
    keys={
        "qos": Key(about="The quality of service that jobs ask for.", shape=Text()),
        "constraint": Key(about="Features that a node must have.", shape=Text()),
        "gres": Key(
            about="How GPUs are asked for by type, such as gpu:a100; by --gpus-per-node when left out.",
            shape=Text(pattern=r"[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?", words="a resource and its type, such as gpu:a100"),
        ),
        "exclude": Key(about="Nodes that are never asked for.", shape=ListOf(item=Text())),
        "accounting": Key(about="Whether sacct answers here; true by default.", shape=Flag()),
        "array_size": Key(about="Longest array: MaxArraySize of the site less one; 1000 by default.", shape=Whole(low=1, high=4_000_000)),
        "parallel": Key(about="Most elements of a sweep that run at once.", shape=Whole(low=1)),
        "signal_lead": Key(about="Seconds before the time limit at which a job is asked to save; 120 by default.", shape=Whole(low=30)),
        "canary": Key(
            about="An array at least this long waits for the shortest of its jobs to succeed; 10 by default, 0 for never.",
            shape=Whole(low=0),
        ),
        "stop_after": Key(
            about="So many jobs that fail with the same traceback stop the sweep; 3 by default, 0 for never.", shape=Whole(low=0)
        ),
        "keeper": Key(about="Whether a small job goes on with what Slurm itself does not do again.", shape=Flag()),
        "sync": Key(
            about="Whether nodes reach the MLflow server of `mlflow:`: then an allocation sends to it while jobs run.", shape=Flag()
        ),
        "python": Key(about="The command that starts Python on a node.", shape=Text()),
        "extra": Key(
            about="Further options of sbatch, by name; `true` for one that takes no value.",
            shape=MapOf(item=Text(), pattern=r"[a-z][a-z0-9-]*", key_words="an option of sbatch without its dashes"),
        ),
    }
)
NOTIFY = Record(
    keys={
        "webhook_env": Key(
            about="The environment variable that holds the address of a webhook (Slack, Mattermost, Teams, ntfy, ...).",
            shape=Text(pattern=r"[A-Za-z_][A-Za-z0-9_]*", words="the name of an environment variable; the address itself is a secret"),
        ),
        "webhook_file": Key(about="A file that holds that address, for your eyes only.", shape=FILE),
        "webhook_as": Key(
            about="How the line is posted: as JSON under this name (Discord wants `content`), or `plain`; `text` by default.",
            shape=Choice(options=("text", "content", "plain")),
        ),
        "email": Key(
            about="Who gets an e-mail.", shape=ListOf(item=Text(pattern=r"[^@\s,<>]+@[^@\s,<>]+", words="an address such as me@lab.org"))
        ),
        "email_from": Key(
            about="Who the e-mail is from; the first of `email` by default.",
            shape=Text(pattern=r"[^@\s,<>]+@[^@\s,<>]+", words="an address such as me@lab.org"),
        ),
        "smtp": Key(
            about="The mail server, such as mail.lab.org:25; this machine's sendmail by default.",
            shape=Text(pattern=r"[A-Za-z0-9.-]+(:[0-9]+)?", words="a machine and a port, such as mail.lab.org:25"),
        ),
        "on": Key(about="What is told; all three by default.", shape=ListOf(item=Choice(options=("end", "failure", "budget")))),
        "nodes": Key(
            about="Whether compute nodes reach the webhook or the mail server: then a last Slurm job tells when nobody waits.",
            shape=Flag(),
        ),
    }
)
ALLOCATION = Record(
    keys={
        "nodes": Key(about="Nodes of the allocation, whole; 1 by default.", shape=Whole(low=1)),
        "time": Key(about="Time limit of the allocation, such as 12h, which is the default.", shape=Time()),
        "partition": Key(about="Partition of the nodes; the first of the config by default.", shape=Text()),
    }
)
CLUSTER = Record(
    keys={
        "about": Key(about="What this machine is.", shape=Text()),
        "backend": Key(about="What runs the jobs.", shape=Choice(options=("ray", "slurm", "inline", "ray_on_slurm"))),
        "run_root": Key(about="Where runs live; the truth is in here.", shape=FILE, required=True),
        "made_root": Key(about="Where made data are written; run_root/made by default.", shape=FILE),
        "data_root": Key(about="Where data sets lie, each in a folder named after its card.", shape=FILE),
        "data": Key(about="Where single data sets lie, by card.", shape=MapOf(item=FILE, pattern=CARD.pattern, key_words=CARD.words)),
        "weights": Key(about="Weight files for nodes without a network: `init` value or architecture -> file.", shape=MapOf(item=FILE)),
        "mlflow": Key(about="MLflow tracking URI; a database under run_root by default.", shape=Text()),
        "partitions": Key(about="Kinds of node, by name.", shape=MapOf(item=PARTITION)),
        "account": Key(about="The account that jobs are charged to.", shape=Text()),
        "setup": Key(about="Shell lines that run before a job.", shape=ListOf(item=Text())),
        "container": Key(about="The container image that jobs run in.", shape=Text()),
        "limits": Key(about="What a sweep may take.", shape=LIMITS),
        "notify": Key(about="Who is told in one line how a sweep ended.", shape=NOTIFY),
        "slurm": Key(about="How this site's Slurm wants to be asked.", shape=SLURM),
        "allocation": Key(about="What ray_on_slurm asks Slurm for at once.", shape=ALLOCATION),
        "trainer_paths": Key(about="Folders with further trainers.", shape=ListOf(item=FILE)),
        "card_paths": Key(about="Folders with further data set cards.", shape=ListOf(item=FILE)),
        "cpus": Key(about="CPU cores for ray and inline; all of the machine by default.", shape=Whole(low=1)),
        "gpus": Key(about="GPUs for ray and inline; all of the machine by default.", shape=Whole(low=0)),
    }
)


def load_cluster(name_or_path: str | Path = DEFAULT, *, search: Sequence[Path] = (FOLDER, SHIPPED)) -> ClusterConfig:
    """Read a cluster config by name, or by path where it ends in `.yaml`. Raises ClusterError with the place of what is wrong.

    Relative paths are taken from the working directory; `~` and environment variables are filled in.
    """
    path = _find(name_or_path, search)
    tree = read_document(path, ClusterError)
    faults = Faults(ClusterError)
    if not re.fullmatch(NAME.pattern or "", path.stem):
        raise ClusterError(f"{path}: a cluster config is named by {NAME.words.removeprefix('a name of ')}, such as site.yaml")
    CLUSTER.check(tree, faults)
    faults.raise_first()
    config = _read(path.stem, tree, faults)
    faults.raise_first()
    return config


def _find(name_or_path: str | Path, search: Sequence[Path]) -> Path:
    given = str(name_or_path)
    if given.endswith((".yaml", ".yml")):
        return Path(given)
    for folder in search:
        path = folder / f"{given}.yaml"
        if path.is_file():
            return path
    known = sorted({file.stem for folder in search for file in folder.glob("*.yaml")})
    raise ClusterError(f"no cluster config '{given}'{suggest(given, known, what='there are')}")


def _read(name: str, tree: Node, faults: Faults) -> ClusterConfig:
    def path(key: str) -> Path | None:
        node = tree.get(key)
        return _path(node, faults) if node else None

    def paths(key: str) -> tuple[Path, ...]:
        node = tree.get(key)
        return tuple(_path(item, faults) for item in node.items) if node else ()

    def places(key: str) -> Mapping[str, Path]:
        node = tree.get(key)
        return {card: _path(item, faults) for card, item in node.entries.items()} if node else {}

    def plain(key: str, default: Any) -> Any:
        node = tree.get(key)
        return default if node is None else node.plain()

    _refuse_sync_of_files(tree, faults)
    run_root = _path(tree.entries["run_root"], faults)
    return ClusterConfig(
        name=name,
        backend=plain("backend", "ray"),
        run_root=run_root,
        made_root=path("made_root") or run_root / "made",
        data_root=path("data_root"),
        data=places("data"),
        weights=places("weights"),
        mlflow=plain("mlflow", ""),
        partitions=tuple(_partition(key, spec) for key, spec in plain("partitions", {}).items()),
        account=plain("account", None),
        setup=tuple(plain("setup", ())),
        container=_filled(tree.entries["container"], faults) if tree.get("container") else None,
        limits=Limits(**plain("limits", {})),
        notify=_notify(tree.get("notify"), faults),
        slurm=_slurm(plain("slurm", {})),
        allocation=_allocation(plain("allocation", {})),
        trainer_paths=paths("trainer_paths"),
        card_paths=paths("card_paths"),
        cpus=plain("cpus", None),
        gpus=plain("gpus", None),
    )


def _refuse_sync_of_files(tree: Node, faults: Faults) -> None:
    """Refuse nodes that would write into a database: a file on a shared disk does not stand it, another wants its driver."""
    from orchestrator.mirror.stores import is_server

    site = tree.get("slurm")
    asked, store = site.get("sync") if site else None, tree.get("mlflow")
    if asked is not None and asked.plain() is True and not is_server(str(store.plain()) if store else ""):
        faults.add(asked, "nodes send to a server only; name one, `mlflow: http://...`, or leave `sync` out and type `orchestrate sync`")


def _notify(node: Node | None, faults: Faults) -> Notify | None:
    """Read who is told. What would tell nobody, or says the webhook twice, is refused."""
    if node is None:
        return None
    named = {"webhook_env", "webhook_file", "email"} & set(node.entries)
    if not named:
        faults.add(node, "nobody is named; write `webhook_env`, `webhook_file` or `email`")
    if {"webhook_env", "webhook_file"} <= named:
        faults.add(node.entries["webhook_file"], "the webhook's address is in `webhook_env` already; keep one of the two")
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in node.plain().items()}
    file = node.get("webhook_file")
    if file is not None:
        given["webhook_file"] = _path(file, faults)
    return Notify(**given)


def _allocation(spec: Mapping[str, Any]) -> WholeNodes:
    given = {key: value for key, value in spec.items() if key != "time"}
    return WholeNodes(**given, time_minutes=time_minutes(spec.get("time")) or WholeNodes().time_minutes)


def _slurm(spec: Mapping[str, Any]) -> SlurmSite:
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in spec.items()}
    return SlurmSite(**given)


def _partition(name: str, spec: Mapping[str, Any]) -> Partition:
    return Partition(
        name=name,
        gpus=spec.get("gpus", 0),
        cpus=spec["cpus"],
        memory_mb=memory_mb(spec["memory"]) or 0,
        max_time_minutes=time_minutes(spec.get("max_time")),
        account=spec.get("account"),
        qos=spec.get("qos"),
        constraint=spec.get("constraint"),
    )


def _path(node: Node, faults: Faults) -> Path:
    """Return a path with `~` and variables filled in, absolute."""
    return Path(os.path.abspath(Path(_filled(node, faults)).expanduser()))  # noqa: PTH100 (resolving would follow links that a person chose)


def _filled(node: Node, faults: Faults) -> str:
    """Return a text with variables filled in."""
    text = str(node.value)
    for found in _VARIABLE.finditer(text):
        variable = found["braced"] or found["plain"]
        if not variable:
            faults.add(node, f"'{found[0]}' names no environment variable; write ${{NAME}}, or the path out")
            return text
        if variable not in os.environ:
            faults.add(node, f"the environment variable {variable} is not set; export it, or write the path out")
            return text
    return _VARIABLE.sub(lambda found: os.environ[found["braced"] or found["plain"]], text)
