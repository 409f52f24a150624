"""What a text says of an image: its report, entities that somebody found in it, or the names of its positive labels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.errors import DataError

SEPARATOR, ENTITY = "[SEP]", "[ENT]"
#: Headings are in capitals; where none is, they start with one. A line of findings, such as `Lungs: clear.`, is no heading then.
_HEADINGS = (re.compile(r"(?m)^[ \t]*([A-Z][A-Z ,/&()-]{2,60}):"), re.compile(r"(?m)^[ \t]*([A-Z][A-Za-z ]{2,40}):"))
#: Sections that say what is to be seen; all else of a report with headings is left out.
_SECTIONS = ("findings", "impression", "findings and impression", "conclusion")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def of_labels(prompts: Sequence[str]) -> str:
    """Return the text of an image with these positive labels, each followed by a separator; empty without any (UniChest)."""
    return "".join(f"{prompt} {SEPARATOR} " for prompt in prompts).strip()


def of_report(report: str) -> str:
    """Return the sentences of a report's findings and impression, one after another; empty where both are.

    Of a report with other headings alone they are those of its last paragraph, as in the public code for MIMIC-CXR's sections, and of one
    without any heading all.
    """
    parts = next((parts for heading in _HEADINGS if len(parts := heading.split(report)) > 1), [report])
    told = [text for name, text in zip(parts[1::2], parts[2::2], strict=True) if " ".join(name.lower().split()) in _SECTIONS]
    text = " ".join(told) if told else re.split(r"\n\s*\n", parts[-1].strip())[-1]
    if len(parts) == 1:
        text = report
    sentences = [one for one in _SENTENCE.split(" ".join(text.split())) if one]
    return f" {SEPARATOR} ".join(sentences)


def of_entities(item: Mapping[str, Any]) -> str:
    """Return the text of a report in the published form: names of entities by sentence, or its sentences where none was found.

    `entities` is a list of {entity: [{Entity: name}]}, `caption` a list of sentences.
    """
    found = [[str(one["Entity"]) for one in sentence.get("entity", ())] for sentence in item.get("entities", ())]
    if any(found):
        return " ".join(" ".join(f"{ENTITY} {name}" for name in names) + f" {SEPARATOR}" for names in found if names)
    return f" {SEPARATOR} ".join(str(sentence) for sentence in item.get("caption", ()))


def read_reports(path: Path) -> dict[str, dict[str, str]]:
    """Read card -> id of an image or a study -> text, from JSON: of each id a report, or its entities in the published form.

    Raises DataError naming the entry that is neither.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}): write {{card: {{study: report}}}}") from error
    if not isinstance(content, Mapping):
        raise DataError(f"{path}: is a {type(content).__name__} and no mapping: write {{card: {{study: report}}}}")
    return {str(card): _of_card(path, str(card), items) for card, items in content.items()}


def _of_card(path: Path, card: str, items: Any) -> dict[str, str]:
    if not isinstance(items, Mapping):
        raise DataError(f"{path}: {card} is a {type(items).__name__} and no mapping from an image or a study to its report")
    found: dict[str, str] = {}
    for name, item in items.items():
        try:
            found[str(name)] = of_report(item) if isinstance(item, str) else of_entities(item)
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: {card}.{name} is neither a report nor {{entities: [{{entity: [{{Entity: name}}]}}], caption: [sentence]}}"
            ) from error
    return found
