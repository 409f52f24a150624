"""Job specs at speed: what is constant in an identity is serialised once, and every id equals `jobs.spec.job_id` of the whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jobs.catalog import Declaration
from jobs.spec import IDENTITY_VERSION, Input, JobSpec, Json, Resources, Scalar, Stage, canonical_json

#: Loop version of stages in which no loop runs.
NO_LOOP = 0


class Fragments:
    """Canonical JSON of single values, remembered."""

    def __init__(self) -> None:
        self._known: dict[tuple[type, Json], str] = {}

    def text(self, value: Json) -> str:
        """Return a value's canonical JSON."""
        kind = type(value)
        if kind not in (str, int, float, bool):
            return canonical_json(value)
        found = self._known.get((kind, value))
        if found is None:
            found = self._known[(kind, value)] = canonical_json(value)
        return found


class ConfigTemplate:
    """A resolved config most of whose values are the same for many jobs.

    A key of `before` is left out where it has that value: it came after jobs that do not name it.
    """

    def __init__(self, base: Mapping[str, Json], fragments: Fragments, before: Mapping[str, Json] | None = None) -> None:
        self._fragments = fragments
        self.base = dict(sorted(base.items()))
        self._heads = {key: f"{json.dumps(key, ensure_ascii=False)}:" for key in self.base}
        self._parts = [self._heads[key] + canonical_json(value) for key, value in self.base.items()]
        self._position = {key: index for index, key in enumerate(self.base)}
        self._before = {key: value for key, value in (before or {}).items() if key in self.base}

    def fill(self, settings: Mapping[str, Json]) -> tuple[dict[str, Json], str]:
        """Return the config with these values, and its canonical JSON. Raises KeyError for a key that the config has not."""
        parts = self._parts.copy()
        for key, value in settings.items():
            parts[self._position[key]] = self._heads[key] + self._fragments.text(value)
        config = {**self.base, **settings}
        for key in [key for key, value in self._before.items() if config[key] == value]:
            del config[key]
            parts[self._position[key]] = ""
        return config, "{" + ",".join(filter(None, parts)) + "}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A mapping of an identity with its canonical JSON."""

    value: Mapping[str, Json]
    text: str

    @classmethod
    def of(cls, value: Mapping[str, Json]) -> Content:
        """Serialise a mapping."""
        return cls(value=value, text=canonical_json(value))


EMPTY = Content(value={}, text="{}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """What a spec shows to people, and asks of machines; none of it is in the id."""

    trial: str
    labels: Mapping[str, Scalar]
    resources: Resources
    resolved: bool = True


@dataclass(slots=True, kw_only=True)
class SpecWriter:
    """Writes the specs of one phase."""

    sweep: str
    phase: str
    declaration: Declaration
    fragments: Fragments = field(default_factory=Fragments)
    _trainer: str = ""

    def __post_init__(self) -> None:
        self._trainer = canonical_json([self.declaration.name, self.declaration.version])

    def write(
        self,
        stage: Stage,
        face: Face,
        *,
        config: Content,
        data: Content = EMPTY,
        weights: Content = EMPTY,
        inputs: Sequence[Input] = (),
        seed: int = 0,
        loop: int = NO_LOOP,
    ) -> JobSpec:
        """Return a job spec with its id."""
        listed = ",".join(self._input(item) for item in inputs)
        identity = (
            f'{{"config":{config.text},"data":{data.text},"identity":{IDENTITY_VERSION},"inputs":[{listed}],"loop":{loop},'
            f'"seed":{seed},"stage":"{stage}","trainer":{self._trainer},"weights":{weights.text}}}'
        )
        return JobSpec(
            job_id=hashlib.sha256(identity.encode()).hexdigest(),
            stage=stage,
            trainer=self.declaration.name,
            trainer_version=self.declaration.version,
            loop_version=loop,
            config=config.value,
            data=data.value,
            seed=seed,
            inputs=tuple(inputs),
            weights=weights.value,
            sweep=self.sweep,
            phase=self.phase,
            trial=face.trial,
            labels=face.labels,
            resources=face.resources,
            resolved=face.resolved,
        )

    def _input(self, item: Input) -> str:
        text = self.fragments.text
        run = "null" if item.run is None else text(item.run)
        return f'[{text(item.role)},"{item.job}",{text(item.take)},{run}]'
