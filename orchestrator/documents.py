"""Read YAML 1.2 files into trees of values that know where they stand.

A strict subset: no tags, no merge keys, no directives, one document, every key once and a word. Anchors and aliases are allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, ScalarNode, SequenceNode
from yaml.parser import ParserError
from yaml.reader import ReaderError
from yaml.scanner import ScannerError
from yaml.tokens import DirectiveToken

from jobs.spec import Json, Scalar
from orchestrator.errors import Place, SweepError

#: Deeper than any sweep, and shallow enough for Python's stack.
MAX_DEPTH = 40
#: Aliases multiply; a document may not unfold into more values than this.
MAX_NODES = 200_000

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
#: Line breaks of YAML 1.1 that are none in 1.2: refused, because the two would count lines differently.
_OLD_BREAKS = re.compile("[\u0085\u2028\u2029]")
_TAG = "tag:yaml.org,2002:"

Value: TypeAlias = "Scalar | tuple[Node, ...] | Mapping[str, Node]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value, where it stands, and its dotted path (`phases.finetune.when[0].if`)."""

    path: str
    value: Value
    place: Place
    #: Where its key stands, when it is a value of a mapping.
    key: Place | None = None

    @property
    def spot(self) -> Place:
        """Return where to point for this value: itself, or its key when the value only starts on a later line."""
        if self.key is not None and (self.place.file, self.place.line) != (self.key.file, self.key.line):
            return self.key
        return self.place

    @property
    def entries(self) -> Mapping[str, Node]:
        """Return the values of a mapping by key; empty for anything else."""
        return self.value if isinstance(self.value, Mapping) else {}

    @property
    def items(self) -> tuple[Node, ...]:
        """Return the items of a list; empty for anything else."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def scalar(self) -> Scalar:
        """Return a plain value; None for a list or a mapping."""
        return None if isinstance(self.value, (tuple, Mapping)) else self.value

    def get(self, key: str) -> Node | None:
        """Return the value of a key, or None."""
        return self.entries.get(key)

    def plain(self) -> Json:
        """Return the value without its places."""
        if isinstance(self.value, Mapping):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value

    def walk(self) -> Iterator[Node]:
        """Yield this node and everything under it, in order."""
        yield self
        for child in (*self.entries.values(), *self.items):
            yield from child.walk()


class Source:
    """Where every dotted path of a sweep stands."""

    def __init__(self, *trees: Node) -> None:
        self._trees = trees
        self._places: dict[str, Place] | None = None
        self._borrowed: dict[str, Source] = {}

    def borrow(self, path: str, source: Source) -> None:
        """Let another source answer for a path and all under it: a phase that another file brought."""
        self._borrowed[path] = source

    def place(self, path: str) -> Place | None:
        """Return where a dotted path stands, or its nearest ancestor that does; None for an empty source."""
        for start, source in self._borrowed.items():
            if path == start or path.startswith((f"{start}.", f"{start}[")):
                return source.place(path)
        if self._places is None:
            self._places = {node.path: node.spot for tree in reversed(self._trees) for node in tree.walk()}
        while path and path not in self._places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._places.get(path)


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2 and without tags, directives and runaway nesting."""

    depth = 0

    def resolve(self, kind: type, value: str, implicit: tuple[bool, bool]) -> str:  # type: ignore[override]
        if kind is ScalarNode:
            return _TAG + ("plain" if implicit[0] else "str")
        return _TAG + ("seq" if kind is SequenceNode else "map")

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:  # type: ignore[override]
        event = self.peek_event()
        if not isinstance(event, AliasEvent) and getattr(event, "tag", None) is not None:
            raise _wrong("a tag is not allowed here; write the value alone", event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _wrong(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)  # type: ignore[arg-type]
        self.depth -= 1
        return node

    def process_directives(self) -> object:  # type: ignore[override]
        if self.check_token(DirectiveToken):
            raise _wrong("a directive is not allowed here; leave the '%' line out", self.peek_token().start_mark)  # type: ignore[union-attr]
        return super().process_directives()


def _wrong(problem: str, mark: yaml.Mark | None) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def read_document(path: Path, error: type[SweepError] = SweepError) -> Node:
    """Read one file into a tree whose root is a mapping. Raises `error` with the place of whatever is wrong."""
    name = str(path)
    text = _text_of(path, error)
    lines = text.split("\n")

    def place(line: int, column: int) -> Place:
        return Place(name, line + 1, column + 1, lines[line] if line < len(lines) else "")

    root = _parse(text, place, error)
    if root is None:
        raise error("the file is empty", place=Place(name, 1, 1))
    node = _Builder(place, error).build(root, "", None)
    if not isinstance(node.value, Mapping):
        raise error(f"expects keys and values, got {describe(node)}", place=node.place)
    return node


def _parse(text: str, place: Callable[[int, int], Place], error: type[SweepError]) -> yaml.Node | None:
    """Return the parser's tree, or raise `error` at the place where the parser stopped."""

    def refuse(position: int) -> SweepError:
        line, start = text.count("\n", 0, position), text.rfind("\n", 0, position)
        return error(f"the character U+{ord(text[position]):04X} is not allowed here", place=place(line, position - start - 1))

    old = _OLD_BREAKS.search(text)
    if old:
        raise refuse(old.start())
    try:
        loader = _Loader(text)
    except ReaderError as wrong:
        raise refuse(wrong.position) from None
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark or loader.get_mark()
        raise error(_sentence(wrong), place=place(mark.line, mark.column)) from None
    except (ValueError, OverflowError):
        mark = loader.get_mark()
        raise error("no character has this number", place=place(mark.line, mark.column)) from None


def _text_of(path: Path, error: type[SweepError]) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise error(f"{path}: there is no such file") from None
    except OSError as wrong:
        raise error(f"{path}: cannot be read ({wrong.strerror})") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = content.count(b"\n", 0, wrong.start) + 1
        column = wrong.start - content.rfind(b"\n", 0, wrong.start)
        raise error("not UTF-8 text; save the file as UTF-8", place=Place(str(path), line, column)) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _sentence(wrong: yaml.MarkedYAMLError) -> str:
    """Say what the parser found in one sentence."""
    problem = wrong.problem or wrong.context or "cannot be read"
    if "'\\t'" in problem:
        return "a tab cannot indent; use spaces"
    if "undefined alias" in problem:
        return f"no anchor stands above for this alias: {problem.removeprefix('found undefined alias ')}"
    if "another document" in problem:
        return "a second document starts here; a file holds one"
    if problem.startswith("mapping values are not allowed"):
        return "a ':' is not expected here; is an indent wrong, or a quote missing?"
    if not isinstance(wrong, (ScannerError, ParserError)):
        return problem
    return f"not YAML: {wrong.context}: {problem}" if wrong.context and wrong.context != problem else f"not YAML: {problem}"


class _Builder:
    """Turns the parser's nodes into ours: paths, places, and the scalars of YAML 1.2."""

    def __init__(self, place: Callable[[int, int], Place], error: type[SweepError]) -> None:
        self._place = place
        self._error = error
        self._open: set[int] = set()
        self._count = 0

    def build(self, node: yaml.Node, path: str, key: Place | None) -> Node:
        """Return the tree under a parser's node. Raises the error that the document was read with."""
        place = self._at(node)
        self._count += 1
        if self._count > MAX_NODES:
            raise self._error(f"aliases unfold into more than {MAX_NODES} values", path=path, place=place)
        if isinstance(node, ScalarNode):
            return Node(path=path, value=self._scalar(node, path), place=place, key=key)
        if id(node) in self._open:
            raise self._error("an anchor may not hold an alias of itself", path=path, place=key or place)
        self._open.add(id(node))
        value = self._mapping(node, path) if isinstance(node, MappingNode) else self._list(node, path)
        self._open.discard(id(node))
        return Node(path=path, value=value, place=place, key=key)

    def _at(self, node: yaml.Node) -> Place:
        return self._place(node.start_mark.line, node.start_mark.column)

    def _list(self, node: yaml.Node, path: str) -> tuple[Node, ...]:
        return tuple(self.build(item, f"{path}[{index}]", None) for index, item in enumerate(node.value))

    def _mapping(self, node: yaml.Node, path: str) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for key_node, value_node in node.value:
            place = self._at(key_node)
            key = self._key(key_node, path, place)
            inner = f"{path}.{key}" if path else key
            if key in entries:
                before = entries[key].key
                raise self._error(f"the key stands twice; the first is in line {before.line if before else '?'}", path=inner, place=place)
            entries[key] = self.build(value_node, inner, place)
        return entries

    def _key(self, node: yaml.Node, path: str, place: Place) -> str:
        if not isinstance(node, ScalarNode):
            raise self._error("a key is a word, not a list or a mapping", path=path, place=place)
        if node.value == "<<" and node.tag == _TAG + "plain":
            raise self._error("merge keys ('<<') are not allowed; write the keys out, or use `extends`", path=path, place=place)
        key = self._scalar(node, path)
        if not isinstance(key, str):
            raise self._error(f"a key is a word; write '{node.value}' in quotes if it is one", path=path, place=place)
        return key

    def _scalar(self, node: ScalarNode, path: str) -> Scalar:
        try:
            return _whole_characters(node.value) if node.tag == _TAG + "str" else read_scalar(node.value)
        except ValueError as wrong:
            raise self._error(str(wrong), path=path, place=self._at(node)) from None


def _whole_characters(text: str) -> str:
    """Join the two halves that JSON writes some characters in. Raises ValueError for a half without the other."""
    if not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ValueError("half a character is not allowed here") from None


def read_scalar(text: str) -> Scalar:
    """Read a plain scalar by the core schema of YAML 1.2. Raises ValueError for what no config may hold: NaN, infinities."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        if len(text) > 300:
            raise ValueError("the number is too large")
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEXADECIMAL.fullmatch(text):
        return int(text[2:], 16)
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("infinities and NaN are not allowed here")
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError("the number is too large")
        return number
    return text


def merge(base: Node, over: Node) -> Node:
    """Lay one tree over another: mappings merge key by key, anything else replaces. Keys keep the base's order, new ones follow."""
    if not (isinstance(base.value, Mapping) and isinstance(over.value, Mapping)):
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return Node(path=over.path, value=merged, place=over.place, key=over.key)


def describe(node: Node) -> str:
    """Say what a value is, for `expects ..., got ...`."""
    if isinstance(node.value, Mapping):
        return "a mapping"
    if isinstance(node.value, tuple):
        return "a list"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    if isinstance(node.value, str):
        return f"'{node.value}'" if len(node.value) <= 40 else f"'{node.value[:37]}...'"
    return str(node.value)
