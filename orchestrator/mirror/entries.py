"""What one run of the MLflow mirror should hold, as plain values: a pure function of the files of a run root."""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from jobs.spec import Json

#: Above so many metric keys a run the comparison page becomes slow: this many series, and this many single values.
SERIES_KEYS = 60
FINAL_KEYS = 40
#: MLflow's limits are 250, 6,000 and 8,000, and it cuts what is longer without a word; shorter here, so that pages stay readable.
KEY_LENGTH = 200
PARAM_LENGTH = 500
TAG_LENGTH = 2_000
#: The key of the run that holds the report.
SWEEP = "sweep"
_REFUSED = re.compile(r"[^/\w.\- :]+")


class Point(NamedTuple):
    """One value of a series; `time` in milliseconds since the epoch."""

    key: str
    step: int
    value: float
    time: int


class Input(NamedTuple):
    """A part of a data set that a run has used."""

    #: The name of its card.
    name: str
    digest: str
    #: training, validation, test or thresholds.
    context: str
    #: What the digest is of, as JSON.
    source: str
    #: How many images and patients, as JSON.
    profile: str
    #: Its labels, as MLflow writes columns; empty for none.
    schema: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what it is told from others by."""
        return self.name, self.digest, self.context


class Scored(NamedTuple):
    """What a value was measured on: the name and digest of an `Input`."""

    name: str
    digest: str


class Model(NamedTuple):
    """A checkpoint that a pick chose."""

    name: str
    #: The trainer that made it.
    kind: str
    #: Of training.
    step: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    #: Key of a single value of its run -> what it was measured on.
    scored: Mapping[str, Scored]

    def digest(self) -> str:
        """Return a digest of all of it."""
        scored: dict[str, Json] = {key: list(one) for key, one in self.scored.items()}
        return content_digest(as_json([self.name, self.kind, self.step, dict(self.params), dict(self.tags), scored]).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One run of the mirror."""

    #: What the run is found by: a job's id, or `SWEEP` for the sweep's own run. It is the tag `job`.
    key: str
    name: str
    #: MLflow's word: SCHEDULED, RUNNING, FINISHED, FAILED or KILLED.
    status: str
    #: Milliseconds since the epoch; `ended` is None while the job has not ended.
    started: int
    ended: int | None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    #: Tags that are written with the run and never again: what is true of the moment.
    first_tags: Mapping[str, str] = field(default_factory=dict)
    #: In the order in which they were written; what follows later is appended, never put in between.
    points: tuple[Point, ...] = ()
    #: Values that a run has once, at step 0.
    finals: Mapping[str, float] = field(default_factory=dict)
    #: Path below the run's artifacts -> content.
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    #: As artifacts, but many, and never changed once they are there: what is new comes last.
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    #: Data sets that the run has used.
    inputs: tuple[Input, ...] = ()
    #: What a pick chose of it; None where none did.
    model: Model | None = None

    def digest(self) -> str:
        """Return a digest of all that may change: a run that carries the same one needs nothing."""
        content = [
            self.name,
            self.status,
            self.ended,
            dict(self.params),
            dict(self.tags),
            self.points_digest(len(self.points)),
            dict(self.finals),
            {path: content_digest(content) for path, content in self.artifacts.items()},
            # Only where there are any, so that runs without them stay as they were sent.
            *([self.pictures_digest(len(self.pictures))] if self.pictures else []),
            *([[list(one) for one in self.inputs]] if self.inputs else []),
            *([self.model.digest()] if self.model else []),
        ]
        return content_digest(as_json(content).encode())

    def points_digest(self, count: int) -> str:
        """Return a digest of the first `count` points."""
        return content_digest(repr([tuple(point) for point in self.points[:count]]).encode())

    def pictures_digest(self, count: int) -> str:
        """Return a digest of the first `count` pictures."""
        first = [[path, content_digest(content)] for path, content in islice(self.pictures.items(), count)]
        return content_digest(as_json(first).encode())

    def metric_keys(self) -> set[str]:
        """Return every metric that the run has."""
        return {point.key for point in self.points} | set(self.finals)


def as_json(value: Json) -> str:
    """Write plain values, with text as keys, the same every time; without the search for -0.0 of `canonical_json`, a fifth of a sync."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_digest(content: bytes) -> str:
    """Return a short digest."""
    return hashlib.sha256(content).hexdigest()[:16]


@lru_cache(maxsize=65_536)
def clean_key(name: str) -> str:
    """Return a name as MLflow takes it for metrics and params; what had to be changed ends in a digest, so that names stay apart."""
    path = posixpath.normpath("/" + _REFUSED.sub("_", name)).strip("/") or "_"
    # A name that starts with two dots counts as a way up.
    found = f"_{path}" if path.startswith("..") else path
    if found == name and len(name) <= KEY_LENGTH:
        return name
    return f"{found[: KEY_LENGTH - 9].rstrip('/')}-{content_digest(name.encode())[:8]}"


def finite(metrics: Mapping[str, Json]) -> dict[str, float]:
    """Return the metrics that are finite numbers: MLflow stores an infinity as 1.8e308 and cannot compare NaN."""
    return {
        key: float(value)
        for key, value in metrics.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def is_headline(key: str, depth: int) -> bool:
    """Tell whether a metric is of the model as a whole (`val/auroc_macro`) and not of one finding (`val/auroc/edema`)."""
    return key.count("/") <= depth


@dataclass(slots=True)
class KeyBudget:
    """Admits metric keys in the order in which they appear, headlines first, whole families of findings or none of them."""

    limit: int
    depth: int = 1
    admitted: set[str] = field(default_factory=set)
    _refused: set[str] = field(default_factory=set)

    def admit(self, keys: Iterable[str]) -> set[str]:
        """Return which of the keys that appear together are in; what was decided once stays so."""
        keys = set(keys)
        fresh = keys - self.admitted
        if not fresh:
            return keys
        for key in sorted(key for key in fresh if is_headline(key, self.depth)):
            if len(self.admitted) < self.limit:
                self.admitted.add(key)
        families: dict[str, list[str]] = {}
        for key in sorted(key for key in fresh if not is_headline(key, self.depth)):
            families.setdefault(key.rpartition("/")[0], []).append(key)
        # What is of a whole source before what is of its findings.
        for family, members in sorted(families.items(), key=lambda item: item[0].count("/")):
            if family in self._refused or len(self.admitted) + len(members) > self.limit:
                self._refused.add(family)
            else:
                self.admitted.update(members)
        return keys & self.admitted


def table(columns: list[str], rows: list[list[Json]]) -> bytes:
    """Return a table as the UI shows it: JSON with `columns` and `data`."""
    return (as_json({"columns": columns, "data": rows}) + "\n").encode()
