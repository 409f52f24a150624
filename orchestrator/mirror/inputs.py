"""Data sets of a trial: which splits its jobs opened, as inputs that MLflow lists beside a run, with a digest each.

A digest is of what was opened and of nothing else: the card, its label files, its split rule, the draw where there is one, and which labels
were read. Two runs whose training input has the same digest have learnt from the same images. No path is in it, so that it is the same on
every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from jobs.spec import JobSpec, Json, Split
from orchestrator.mirror.entries import Input, Scored, as_json, clean_key, content_digest
from orchestrator.mirror.outcomes import Outcome, named_of, picked_of

#: What MLflow's page calls the part that a data set played.
_CONTEXTS: Mapping[str, str] = {Split.TRAIN: "training", Split.VAL: "validation", Split.TEST: "test", Split.HELD_OUT: "test"}
#: The validation split of a test set: an evaluation chooses thresholds on it.
THRESHOLDS = "thresholds"
#: Parts that follow a draw; the others are the same for every draw.
_DRAWN = (Split.TRAIN, Split.HELD_OUT)
#: What a source is, as MLflow keeps what no address leads to: `mlflow.data` reads it back. It refuses a longer one.
_LONGEST_SOURCE = 60_000


def used_by(spec: JobSpec, result: Mapping[str, Any] | None, outcome: Outcome) -> tuple[tuple[Input, ...], dict[str, Scored]]:
    """Return what a train job and the evaluations of its model have opened, in that order; nothing of what has not ended yet.

    A part that was opened twice stands there once, as what it was first. With it comes what each single value of the trial
    (`outcomes.finals_of`) was measured on, by its key, where that is one data set.
    """
    found: dict[tuple[str, str], Input] = {}
    scored: dict[str, Scored] = {}

    def keep(one: Input, context: str) -> None:
        found.setdefault((one.name, one.digest), one._replace(context=context))

    own = list(_opened(spec, result or {}))
    for split, one in own:
        keep(one, _CONTEXTS.get(split, split))
    validation = [one for split, one in own if split == Split.VAL]
    if len(validation) == 1:
        scored |= dict.fromkeys(map(clean_key, picked_of(outcome)), Scored(validation[0].name, validation[0].digest))
    for evaluation, told in sorted(outcome.evaluations, key=lambda each: each[0].job_id):
        for split, one in _opened(evaluation, told):
            keep(one, _CONTEXTS.get(split, split) if split == told["split"] else THRESHOLDS)
            if (split, one.name) == (told["split"], told["card"]):
                scored |= dict.fromkeys(map(clean_key, named_of(evaluation, told)), Scored(one.name, one.digest))
    return tuple(found.values()), scored


def _opened(spec: JobSpec, result: Mapping[str, Any]) -> Iterator[tuple[str, Input]]:
    """Yield every split that a job opened, of every data set."""
    sources = {str(source.get("card")): source for source in spec.data.get("sources", ())}
    columns = _columns(tuple(map(str, result.get("labels") or ())))
    for opened in result.get("data", ()):
        card = str(opened["card"])
        for split, counts in opened.get("splits", {}).items():
            facts = _facts(sources.get(card) or {"card": card}, split, opened)
            whole, profile = as_json({"tags": facts}), as_json(counts)
            digest = content_digest("\n".join((whole, profile, columns)).encode())
            yield split, Input(card, digest, "", whole if len(whole) <= _LONGEST_SOURCE else _short(facts, digest), profile, columns)


def _facts(source: Mapping[str, Json], split: str, opened: Mapping[str, Any]) -> dict[str, Json]:
    facts: dict[str, Json] = {**source, "part": split}
    draw, left_out = opened.get("draw") or {}, (opened.get("left_out") or {}).get(split) or {}
    if split in _DRAWN and draw.get("sha256"):
        facts["draw_sha256"] = str(draw["sha256"])
    if left_out.get("images"):
        facts["left_out"] = dict(left_out)
    return facts


def _short(facts: Mapping[str, Json], digest: str) -> str:
    """Return what names a part whose label files are too many to be listed."""
    kept = {key: value for key, value in facts.items() if key in ("card", "card_sha256", "part", "draw_sha256")}
    return as_json({"tags": {**kept, "digest": digest}})


@lru_cache(maxsize=64)
def _columns(labels: tuple[str, ...]) -> str:
    listed: list[Json] = [{"name": label, "type": "double", "required": False} for label in labels]
    return as_json({"mlflow_colspec": listed}) if listed else ""
