"""A cluster config from a few answers, with what the machine's scheduler says of itself as defaults."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.paths import write_atomically
from orchestrator import scheduler
from orchestrator.clusters import FOLDER, load_cluster
from orchestrator.errors import ClusterError
from orchestrator.grammar.keys import NAME
from orchestrator.model import Partition
from orchestrator.scheduler import Site

#: Asks for one value: the question, and what is taken without an answer.
Ask = Callable[[str, str], str]

LOCAL = "ray"
_PLAIN = re.compile(r"[A-Za-z_./~$][\w./~${}@+-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a person said by options; None is asked for."""

    backend: str | None = None
    run_root: str | None = None
    data_root: str | None = None
    partitions: tuple[str, ...] = ()
    account: str | None = None


def config_path(name: str) -> Path:
    """Return where a cluster config of that name goes. Raises ClusterError for what is no name."""
    if not re.fullmatch(NAME.pattern or "", name):
        raise ClusterError(
            f"'{name}' cannot name a cluster config: {NAME.words.removeprefix('a name of ')}, such as `orchestrate init site`"
        )
    return FOLDER / f"{name}.yaml"


def make(name: str, given: Answers, ask: Ask) -> str:
    """Return the text of a cluster config; what was not given is asked for. Raises ClusterError when the answers make none."""
    known = scheduler.sites()
    backend = given.backend or ask("what runs the jobs (ray, slurm or inline)", next(iter(known), LOCAL))
    site = known.get(backend)
    run_root = given.run_root or ask("where runs live" + (", on a file system that nodes see" if site else ""), "runs")
    data_root = given.data_root or ask("where data sets live, a folder each", "data")
    lines = [f"# Written by `orchestrate init {name}`; every key is in docs/reference.md.", f"backend: {_scalar(backend)}"]
    lines += [f"run_root: {_scalar(run_root)}", f"data_root: {_scalar(data_root)}"]
    if site is not None:
        lines += _of_site(site, given, ask)
    text = "\n".join(lines) + "\n"
    _refuse_broken(name, text)
    return text


def write(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a cluster config. Raises ClusterError when there is one of that name and it is not to be overwritten."""
    if path.exists() and not overwrite:
        raise ClusterError(f"{path} is there already: look at it, choose another name, or type --yes to write it anew")
    write_atomically(path, text.encode())


def _of_site(site: Site, given: Answers, ask: Ask) -> Iterator[str]:
    there = {one.name: one for one in site.partitions}
    wanted = given.partitions or _names(ask(f"partitions to use, of {', '.join(there)}", ",".join(there)))
    yield from _partitions(wanted, there)
    account = given.account if given.account is not None else ask("account to charge, empty for none", next(iter(site.accounts), ""))
    if account:
        yield f"account: {_scalar(account)}"
    yield "slurm:"
    yield f"  accounting: {json.dumps(site.accounting)}"
    if site.array_size is not None:
        yield f"  array_size: {site.array_size}"
    if site.gpu_types:
        yield f"  # gres: gpu:{site.gpu_types[0]}    # asks for GPUs of one type; there are {', '.join(site.gpu_types)}"
    yield "# limits: {gpu_hours: 500}    # the most that one sweep may use"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _partitions(wanted: Sequence[str], there: Mapping[str, Partition]) -> Iterator[str]:
    strange = [name for name in wanted if name not in there]
    if strange:
        raise ClusterError(f"there is no partition '{strange[0]}' here; --partition takes {', '.join(there)}")
    yield "partitions:"
    for one in (there[name] for name in wanted):
        memory = f"{one.memory_mb // 1024}G" if one.memory_mb >= 2048 else f"{one.memory_mb}M"
        longest = "" if one.max_time_minutes is None else f", max_time: {one.max_time_minutes}m"
        yield f"  {_scalar(one.name)}: {{gpus: {one.gpus}, cpus: {one.cpus}, memory: {memory}{longest}}}"


def _scalar(text: str) -> str:
    """Write a string so that YAML reads the same string."""
    plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS and "{" not in text
    return text if plain else json.dumps(text, ensure_ascii=False)


def _refuse_broken(name: str, text: str) -> None:
    """Raise ClusterError when the answers make no cluster config, before anything is written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            load_cluster(path)
        except ClusterError as error:
            said = f"{error.path}: {error.message}" if error.path else error.message
            raise ClusterError(f"these answers make no cluster config: {said}") from None
