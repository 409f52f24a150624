"""Holds what a command prints with `--json` against the fields that its page tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: A field that is told with these words may be absent.
SOMETIMES = ("only where", "with `--efficiency`")


def faults_of(value: Any, fields: Mapping[str, str]) -> list[str]:
    """Return the paths that are printed and not told, and those that are told and not printed though what holds them is."""
    walked = dict(_walk(value, "", fields))
    untold = [path for path in walked if path and not _is_told(path, fields)]
    held = {path for path, item in walked.items() if isinstance(item, dict) and (item or not path)}
    missing = [
        path
        for path, about in fields.items()
        if path not in walked and _holder(path) in held and not path.endswith(">") and not any(words in about for words in SOMETIMES)
    ]
    return [*(f"not told: {path}" for path in untold), *(f"not printed: {path}" for path in missing if not missing_list(path, walked))]


def missing_list(path: str, walked: Mapping[str, Any]) -> bool:
    """Tell whether a path is that of the items of a list which is printed, and empty."""
    return path.endswith("[]") and path.removesuffix("[]") in walked


def _walk(value: Any, path: str, fields: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    yield path, value
    if path and not any(other != path and other.startswith((f"{path}.", f"{path}[]")) for other in fields):
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, _named(path, key, fields), fields)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, f"{path}[]", fields)


def _named(path: str, key: str, fields: Mapping[str, str]) -> str:
    """Return the path of a key, by its name or as any key where the page tells of any."""
    plain = f"{path}.{key}" if path else key
    if _is_told(plain, fields):
        return plain
    start = f"{path}.<" if path else "<"
    free = next((other for other in fields if other.startswith(start)), None)
    if free is None:
        return plain
    return free[: free.index(">") + 1]


def _is_told(path: str, fields: Mapping[str, str]) -> bool:
    return any(other == path or other.startswith((f"{path}.", f"{path}[]")) for other in fields)


def _holder(path: str) -> str:
    """Return the path of the mapping that a field stands in."""
    head, dot, _ = path.removesuffix("[]").rpartition(".")
    return head if dot else ""
