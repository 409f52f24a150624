"""Plans as files: `plan.json`, one job a line, sorted keys; what is read equals what was written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from jobs.paths import write_atomically
from jobs.spec import Json, spec_from_json, spec_to_json
from orchestrator.errors import LedgerError
from orchestrator.model import AxisInfo, AxisKind, Contamination, Contrast, Plan, ReportSpec

#: Version of the file's layout.
PLAN_VERSION = 1


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan durably: the old file or the new one is there, never half of one."""
    write_atomically(path, plan_text(plan).encode())


def read_plan(path: Path) -> Plan:
    """Read a plan. Raises FileNotFoundError, or LedgerError for a file that is no plan."""
    content = path.read_bytes()
    try:
        return plan_from_json(json.loads(content.decode()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LedgerError(f"{path}: not a plan ({_cause(error)}); move it away and submit the sweep again") from error


def _cause(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def plan_text(plan: Plan) -> str:
    """Return a plan's file: the same plan is the same text."""
    return "".join(_lines(plan))


def plan_from_json(content: Mapping[str, Json]) -> Plan:
    """Read a plan from parsed JSON. Raises KeyError, ValueError or TypeError when it is none."""
    if content["version"] != PLAN_VERSION:
        raise ValueError(f"layout {content['version']}, and this code reads {PLAN_VERSION}")
    return Plan(
        sweep=content["sweep"],
        about=content["about"],
        jobs=tuple(spec_from_json(job) for job in content["jobs"]),
        axes=tuple(
            AxisInfo(name=axis["name"], kind=AxisKind(axis["kind"]), phase=axis["phase"], values=tuple(axis["values"]))
            for axis in content["axes"]
        ),
        report=report_from_json(content["report"]),
        notes=tuple(content["notes"]),
        sample=content["sample"],
        made_data=content["made_data"],
        file=content["file"],
        contamination=tuple(Contamination(**item) for item in content.get("contamination", ())),
    )


def _lines(plan: Plan) -> Iterator[str]:
    head = {
        "version": PLAN_VERSION,
        "sweep": plan.sweep,
        "about": plan.about,
        "axes": [{"name": axis.name, "kind": str(axis.kind), "phase": axis.phase, "values": list(axis.values)} for axis in plan.axes],
        "report": report_to_json(plan.report),
        "notes": list(plan.notes),
        "sample": plan.sample,
        "made_data": plan.made_data,
        "file": plan.file,
    }
    if plan.contamination:
        head["contamination"] = [asdict(item) for item in plan.contamination]
    yield "{\n"
    for key in sorted(head):
        yield f"{_json(key)}: {_json(head[key])},\n"
    yield '"jobs": ['
    for index, job in enumerate(plan.jobs):
        # Not sorted: labels keep the order in which people read them.
        yield ("" if index == 0 else ",") + "\n" + _json(spec_to_json(job), sort_keys=False)
    yield "\n]\n}\n"


def _json(value: Json, *, sort_keys: bool = True) -> str:
    return json.dumps(value, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)


def report_to_json(report: ReportSpec) -> dict[str, Json]:
    """Return a report's request as plain JSON."""
    content = {item.name: _plain(getattr(report, item.name)) for item in fields(report)}
    content["contrasts"] = [dict(contrast.baseline) for contrast in report.contrasts]
    return content


def report_from_json(content: Mapping[str, Json]) -> ReportSpec:
    """Read a report's request from plain JSON."""
    given: dict[str, Any] = dict(content)
    given["contrasts"] = tuple(Contrast(baseline=labels) for labels in given["contrasts"])
    given["groups"] = {name: tuple(sets) for name, sets in given["groups"].items()}
    for name in ("subgroups", "reference", "notes", "as_published"):
        given[name] = tuple(given.get(name, ()))
    return ReportSpec(**given)


def _plain(value: Any) -> Json:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
