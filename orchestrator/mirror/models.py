"""The checkpoint that a pick chose, as a model that MLflow lists: where its file lies and what it is, without a copy of the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jobs.paths import RunPaths
from jobs.spec import JobSpec
from orchestrator.mirror.entries import TAG_LENGTH, Model, Scored
from orchestrator.mirror.outcomes import Outcome

#: Letters that MLflow refuses in the name of a model.
_REFUSED = re.compile(r"""[/:.%"']+""")


def model_of(
    spec: JobSpec,
    run: RunPaths,
    result: Mapping[str, Any] | None,
    outcome: Outcome,
    *,
    name: str,
    params: Mapping[str, str],
    scored: Mapping[str, Scored],
) -> Model | None:
    """Return the model of a train job that a pick chose; None for every other job, and until the job itself has ended.

    Several chosen checkpoints (`top`, or one a label) are one model: they are scored together.
    """
    if result is None or not outcome.picked:
        return None
    kept = {str(one["name"]): one for one in result.get("checkpoints", ())}
    chosen = dict.fromkeys([*outcome.checkpoints, *(name for names in outcome.by_label.values() for name in names)])
    folder = run.job(spec.job_id).checkpoints.relative_to(run.root)
    files = [(folder / str(file["file"]), file) for one in chosen if one in kept for file in kept[one]["files"].values()]
    tags = {
        "job": spec.job_id,
        "checkpoint": outcome.checkpoint,
        "file": "; ".join(str(path) for path, _ in files),
        "sha256": "; ".join(str(file["sha256"]) for _, file in files if file.get("sha256")),
        "mlflow.note.content": _note(spec, [str(path) for path, _ in files]),
    }
    return Model(
        name=_REFUSED.sub("_", name),
        kind=spec.trainer,
        step=max((int(kept[one].get("step") or 0) for one in chosen if one in kept), default=0),
        params=params,
        tags={key: value[:TAG_LENGTH] for key, value in tags.items() if value},
        scored=scored,
    )


def _note(spec: JobSpec, files: list[str]) -> str:
    """Return what the page of a model says first."""
    if not files:
        return "Its weights are not kept any more."
    listed = "\n".join(f"- `{file}`" for file in files)
    first = files[0]
    return (
        f"Chosen on validation among the checkpoints of job `{spec.short_id}`. The weights stay where training wrote them, below the "
        f"run root:\n\n{listed}\n\nWhat is in one of them: `orchestrate weights inspect RUN_ROOT/{first}`"
    )
