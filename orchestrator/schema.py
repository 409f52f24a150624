"""The JSON Schema of sweeps, for completion and hints in editors: `python -m orchestrator.schema > sweeps/schema.json`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from jobs.catalog import PRESET, Declaration, find_trainers
from jobs.spec import pretty_json
from orchestrator.grammar.configs import fields_of
from orchestrator.grammar.keys import SWEEP
from orchestrator.grammar.shapes import Schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Trainers from elsewhere are known to whoever installed them, and not to a file that is shared.
_TREE = "trainers."


def sweep_schema(catalog: Mapping[str, Declaration]) -> Schema:
    """Return the JSON Schema of a sweep: the grammar's keys, and for each trainer the keys of its config and axes.

    A file that a sweep `extends` may lack what the sweep itself has, so the schema asks for the name alone.
    """
    schema = SWEEP.schema()
    schema["required"] = ["sweep"]
    phase = schema["properties"]["phases"]["additionalProperties"]
    phase.pop("required")
    about = "; ".join(f"{name}: {declaration.about.rstrip('.')}" for name, declaration in sorted(catalog.items()))
    phase["properties"]["trainer"] = {"anyOf": [{"enum": sorted(catalog)}, {"type": "string"}], "description": about or "The method."}
    phase["allOf"] = [_if_trainer(name, catalog[name].presets) for name in sorted(catalog)]
    configs = {f"{name}_{part}": made for name in sorted(catalog) for part, made in _of_trainer(catalog[name]).items()}
    return {"$schema": DIALECT, "title": "A sweep", **schema, "$defs": configs}


def _if_trainer(name: str, presets: Iterable[str]) -> Schema:
    config = {"$ref": f"#/$defs/{name}_config"}
    axes = {"$ref": f"#/$defs/{name}_axes"}
    when = {"items": {"properties": {"set": config}}}
    properties: Schema = {"config": config, "compare": axes, "tune": axes, "when": when}
    if presets:
        properties |= {PRESET: {"enum": list(presets)}}
    return {"if": {"properties": {"trainer": {"const": name}}, "required": ["trainer"]}, "then": {"properties": properties}}


def _of_trainer(declaration: Declaration) -> Schema:
    """Return the schemas of a trainer's config, and of the names that its axes may have."""
    config = fields_of(declaration).schema()
    keys = config["properties"]
    values = {key: {name: part for name, part in said.items() if name != "default"} for key, said in keys.items()}
    axes = {key: {"if": {"type": "array"}, "then": {"items": item}} for key, item in values.items()}
    for key, said in values.items():
        if "description" in said:
            axes[key]["description"] = said.pop("description")
    if declaration.presets:
        axes[PRESET] = {"items": {"enum": list(declaration.presets)}}
    special: Schema = {"after": {}, "data": {}, "zip": {"properties": axes, "additionalProperties": False}}
    return {"config": config, "axes": {"type": "object", "properties": axes | special, "additionalProperties": False}}


def main() -> None:
    """Write the schema of the tree's own trainers to standard output."""
    catalog = {name: declaration for name, declaration in find_trainers().items() if declaration.package.startswith(_TREE)}
    sys.stdout.write(pretty_json(sweep_schema(catalog)))


if __name__ == "__main__":
    main()
