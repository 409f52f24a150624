"""Saved views of an experiment, so that the MLflow UI opens on what a study is about: draws by cell and as lines, label-efficiency curves.

A saved view is an experiment tag that the UI writes itself (`mlflow.sharedViewState.<key>`: a name, two times, and its state as deflated
JSON). The state is the UI's own, seen in MLflow 3.17; a browser test opens the views. A UI that does not know it shows its default page.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.spec import Json, Stage, canonical_json
from orchestrator.expansion.replicates import DRAW, FOLD, SEED
from orchestrator.mirror.entries import Point, clean_key
from orchestrator.mirror.names import Names
from orchestrator.model import Plan

TAG = "mlflow.sharedViewState."
CURVES, DRAWS, LINES = "orchestrate-curves", "orchestrate-draws", "orchestrate-lines"
#: The UI stamps a view with the time; ours carry the same one always, so that a view that somebody changed is told from ours.
_STAMP = 1
#: MLflow refuses longer experiment tags.
_LONGEST = 20_000
#: The column of a run's name.
_NAME = "attributes.`Run Name`"
#: Up to so many runs the cells of a study are open.
_OPEN = 60
_BOUNDS = ("_lo", "_hi")


def saved_views(plan: Plan, curves: Sequence[Point]) -> dict[str, str]:
    """Return experiment tags that hold the views: draws by cell, draws as lines, and curves once a report has some."""
    views = {CURVES: _view("Label-efficiency curves", _curves(curves))} if curves else {}
    views[DRAWS] = _view("Draws by cell", _draws(plan))
    if lines := _lines(plan):
        views[LINES] = _view("Draws as lines", lines)
    return {TAG + key: text for key, text in views.items() if len(text) <= _LONGEST}


def is_ours(tag: str | None) -> bool:
    """Tell whether a view may be written: it is not there yet, or as it was written here. One that somebody overrode is theirs."""
    if tag is None:
        return True
    try:
        return json.loads(tag).get("updatedAt") == _STAMP
    except (ValueError, AttributeError):
        return False


def view_state(tag: str) -> dict[str, Json]:
    """Return the state that a saved view holds."""
    packed = json.loads(tag)["state"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def _view(name: str, state: Mapping[str, Json]) -> str:
    packed = base64.b64encode(zlib.compress(canonical_json(state).encode())).decode()
    return canonical_json({"name": name, "createdAt": _STAMP, "updatedAt": _STAMP, "state": f"deflate;{packed}"})


def _state(**own: Json) -> dict[str, Json]:
    return {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [],
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "FIRST_20_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        **own,
    }


def _section(name: str, *, display: bool = True, generated: bool = False) -> dict[str, Json]:
    return {"uuid": name, "name": name, "display": display, "isReordered": True, "deleted": False, "isGenerated": generated}


def _chart(section: str, kind: str, keys: Sequence[str]) -> dict[str, Any]:
    return {
        "uuid": f"{section}/{kind}/{keys[0]}/{len(keys)}",
        "type": kind,
        "runsCountToCompare": 20,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "metricKey": keys[0],
        **({"selectedMetricKeys": list(keys)} if len(keys) > 1 else {}),
    }


def _line(section: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return a line chart over the step, which is the number of labelled images, on a log scale."""
    return _chart(section, "LINE", keys) | {
        "selectedMetricKeys": list(keys),
        "lineSmoothness": 0,
        "xAxisScaleType": "log",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
    }


def _curves(points: Sequence[Point]) -> dict[str, Json]:
    """Show the sweep's own run: for each measure a chart of all arms, and one with their intervals; each arm alone is folded away."""
    title = "Label-efficiency curves"
    keys = list(dict.fromkeys(point.key for point in points))
    charts: list[dict[str, Any]] = []
    families: dict[tuple[str, str], list[str]] = {}
    for key in keys:
        if not key.endswith(_BOUNDS):
            head, _, measure = key.rpartition("/")
            families.setdefault((head.rpartition("/")[0], measure), []).append(key)
    for members in families.values():
        bounds = [key + bound for key in members for bound in _BOUNDS if key + bound in keys]
        charts.append(_line(title, members))
        if bounds:
            charts.append(_line(title, [*members, *bounds]))
    arms = list(dict.fromkeys(key.rpartition("/")[0] for key in keys))
    return _state(
        searchFilter='tags."orch.kind" = "sweep"',
        compareRunCharts=charts,
        compareRunSections=[
            {**_section(title), "columns": 2, "cardHeight": 400},
            *(_section(arm, display=False, generated=True) for arm in arms),
        ],
    )


def _lines(plan: Plan) -> dict[str, Json] | None:
    """Show every run that a pick chose as a line through its labels and its measures (parallel coordinates); None without a measure.

    The UI leaves out runs that lack one of the axes, so they are the labels that all runs of evaluated phases have.
    """
    title = "Draws as lines"
    metrics, shown = headline_metrics(plan), _evaluated(plan)
    if not metrics or not shown:
        return None
    drawn = [job for job in plan.jobs if job.stage is Stage.TRAIN and job.phase in shown]
    shared = [label for label in next(iter(shown.values())) if all(job.labels.get(label) is not None for job in drawn)]
    params = [clean_key(next(iter(shown.values()))[label]) for label in shared if label.rpartition(".")[2] not in (DRAW, SEED, FOLD)]
    chart = {
        **_chart(title, "PARALLEL", metrics),
        "selectedParams": [*(["phase"] if len(shown) > 1 else []), *params],
        "selectedMetrics": metrics,
        "showAllRuns": True,
    }
    return _state(
        **_by_replicate(shown),
        searchFilter='tags.picked = "true"',
        runsHiddenMode="SHOWALL",
        compareRunCharts=[chart],
        compareRunSections=[{**_section(title), "columns": 1, "cardHeight": 500}],
    )


def _by_replicate(shown: Mapping[str, Mapping[str, str]]) -> dict[str, Json]:
    """Let the first draw of every cell come first: the UI takes a hundred runs at a time, and so all cells are among the first."""
    repeats = [param for params in shown.values() for label, param in params.items() if label.rpartition(".")[2] in (DRAW, SEED, FOLD)]
    return {"orderByKey": f"params.`{clean_key(repeats[0])}`", "orderByAsc": True} if repeats else {}


def _folded(plan: Plan, shown: Mapping[str, object]) -> dict[str, Json]:
    """Show the cells of a large study as one line each, to be opened; those of a small one are open."""
    names = Names.of(plan)
    cells = [names.cell(job) for job in plan.jobs if job.stage is Stage.TRAIN and job.phase in shown]
    return {"groupsExpanded": {f"tag.cell.{cell}": False for cell in cells}} if len(cells) > _OPEN else {}


def _evaluated(plan: Plan) -> dict[str, dict[str, str]]:
    """Return the params of the labels of each phase that is evaluated."""
    phases = {job.phase for job in plan.jobs if job.stage is Stage.EVALUATE}
    return {phase: dict(params) for phase, params in Names.of(plan).params.items() if phase in phases}


def _draws(plan: Plan) -> dict[str, Json]:
    """Show the runs that a pick chose, grouped by what replicates share, with the mean of each group in a chart."""
    title = "Mean over draws"
    metrics = headline_metrics(plan)
    shown = _evaluated(plan) or Names.of(plan).params
    labels = {label: param for params in shown.values() for label, param in params.items()}
    repeats = [param for label, param in labels.items() if label.rpartition(".")[2] in (DRAW, SEED, FOLD)]
    params = dict.fromkeys([*(param for param in labels.values() if param not in repeats), "n_labeled", *repeats])
    columns = [f"params.`{clean_key(name)}`" for name in params] + [f"metrics.`{key}`" for key in metrics]
    grouped = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "cell"}]}
    return _state(
        **_by_replicate(shown),
        searchFilter='tags.picked = "true"' if metrics else "",
        **_folded(plan, shown),
        selectedColumns=columns,
        # So that the name of a cell can be read; the UI takes the widths of columns that have a place.
        columnOrder=[_NAME],
        columnWidths={_NAME: 360},
        groupBy=grouped,
        compareRunCharts=[_chart(title, "BAR", [key]) for key in metrics],
        compareRunSections=[_section(title)],
    )


def headline_metrics(plan: Plan) -> list[str]:
    """Return the metrics that a study is about: its measure on every test set."""
    found: dict[str, None] = {}
    for job in plan.jobs:
        if job.stage is Stage.EVALUATE:
            card = str((job.data.get("sources") or [{}])[0].get("card", ""))
            wanted = plan.report.measure
            measure = wanted.get(card) or wanted.get(job.phase) or wanted.get("default") or "auroc_macro"
            found[clean_key(f"{job.config.get('split', 'test')}/{card}/{measure}")] = None
    return list(found)
