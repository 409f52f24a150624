"""Weights files as the commands show them: what is known of a checkpoint from its job, and reports as lines."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from jobs.spec import Json

#: So many keys of a part are named on a line; `--json` has all.
_NAMED = 3
_KEYS_OF_A_JOB = ("arch", "lr")


def released(module: str) -> ModuleType:
    """Import a module of `trainers.released`; by name, because it needs torch and planning must not."""
    return importlib.import_module(f"trainers.released.{module}")


def told_of(path: Path) -> dict[str, Json]:
    """Return what a run knows of one of its checkpoints: `trainer`, `arch`, `lr` of its job, `epoch` of its manifest. Empty for others."""
    job = _read(path.parent.parent / "job.json")
    manifest = _read(path.with_suffix(".json"))
    config = job.get("config")
    if not isinstance(config, Mapping) or "trainer" not in job or path.parent.name != "checkpoints":
        return {}
    told = {name: config[name] for name in _KEYS_OF_A_JOB if name in config}
    return {**told, "trainer": job["trainer"], **({"epoch": manifest["epoch"]} if "epoch" in manifest else {})}


def _read(path: Path) -> Mapping[str, Json]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}


def lines_of_summary(found: Mapping[str, Any]) -> list[str]:
    """Return an inspected file for people."""
    rows = [*_about_the_file(found), *_about_the_network(found), *_about_the_name(found)]
    lines = [f"{title:<10} {text}" for title, text in rows]
    lines += [f"warning    {text}" for text in found["disagreements"]]
    if found["not_finite"]:
        lines.append(f"warning    values that are not finite, in {found['not_finite']:,} of the tensors")
    return lines


def _about_the_file(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "file", f"{found['path']}, {found['file_bytes'] / 1e6:,.1f} MB, {found['container']}"
    yield "sha256", found["sha256"]
    author = f", by {found['written_by']} (its queue, optimizer and head)" if found["written_by"] else ""
    yield "format", found["title"] + author
    if found["made_from"]:
        made = found["made_from"]
        yield "made from", f"{made.get('source_name')} (sha256 {str(made.get('source_sha256'))[:12]}), part {made.get('part')}"


def _about_the_network(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    arch = " or ".join(found["arch"]) or "none that is known here"
    yield "arch", f"{arch}, by its shapes" + (f"; stated: {found['stated_arch']}" if found["stated_arch"] else "")
    if found["pool"] == "avg":
        yield "pool", "avg: the mean of its patches, and a norm behind it"
    head = found["head"]
    if head is None:
        yield "head", "none"
    else:
        sizes = " -> ".join(str(size) for size in (head["layers"][0][0], *(outputs for _, outputs in head["layers"])))
        yield "head", f"{head['role'] or 'projection or classifier'}, {'mlp' if head['mlp'] else 'one layer'}: {sizes}"
    yield "input", _channels(found["channels"]) if found["channels"] else "not known: its first convolution is none that is known here"
    stored = [f"epoch {found['epoch']}"] if found["epoch"] is not None else []
    stored += [f"lr {found['lr']:g}"] if found["lr"] is not None else []
    if stored:
        yield "training", ", ".join(stored)
    yield "tensors", f"{found['tensors']:,}: " + ", ".join(f"{count:,} {what}" for what, count in found["parts"].items())
    yield "parameters", f"{found['backbone_parameters']:,} in the backbone"
    if found["beside"]:
        yield "beside", ", ".join(found["beside"])


def _about_the_name(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    name = found["name"]
    if name is not None:
        yield "name", name["says"] + ("" if found["disagreements"] else "; nothing in the file says otherwise")


def lines_of_conversion(done: Mapping[str, Any]) -> list[str]:
    """Return a conversion for people."""
    size = f"{_channels(done['channels'])}, {done['file_bytes'] / 1e6:,.1f} MB"
    lines = [f"{done['out']}: {done['arch']} as {done['to']}, {size}, sha256 {done['sha256']}"]
    lines.append(f"used       {len(done['used']):,} keys")
    lines += [f"dropped    {len(keys):,} {what}: {_some(keys)}" for what, keys in done["dropped"].items()]
    if done["left_behind"]:
        lines.append(f"dropped    beside the state dict: {', '.join(done['left_behind'])}")
    if done["filled"]:
        lines.append(f"filled     {len(done['filled']):,} counters that the file lacks: {_some(done['filled'])}")
    lines += [f"changed    {text}" for text in done["adapted"]]
    lines.append(f"checked    a fresh network took every key; its features of random images differ by {done['difference']:.2g} at most")
    return lines + [f"note       {text}" for text in done["notes"]]


def _channels(count: int) -> str:
    return f"{count} channel{'s' if count > 1 else ''}"


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_NAMED]) + (", ..." if len(keys) > _NAMED else "")
