"""Every command that a page shows is run: the tutorial's in its order, others on the study that it leaves and on files made here."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml

from orchestrator import cli
from tests.orchestrator.report.files.made_files import scores, write
from tests.test_commands_in_docs import AT_ONCE, ENDS, PAGES, ROOT, blocks, shown
from tests.trainers.released import made_files

TUTORIAL = ROOT / "docs" / "tutorial.md"
#: Which take `--sample`, so that the same commands take seconds.
SMALL = ("plan", "submit", "resume", "status", "report", "sync", "watch", "cancel", "logs", "explain")
#: What goes on until somebody ends it (tests/browser opens it), and what asks a machine with Slurm (tests/slurm).
ELSEWHERE = ("ui", "init")
NAMES = {yaml.safe_load(path.read_text(encoding="utf-8"))["sweep"] for path in (ROOT / "sweeps").glob("*.yaml")} | {"moco_cxr"}
JOB = "3fa9c1"
#: Draws of the pages' studies, and those of the tutorial's.
REPEATS = re.compile(r"^[0-9.]+=\d+(,[0-9.]+=\d+)*$")


def typed(words: list[str]) -> str:
    """Run a command in this process and return what it printed. Fails unless it exits with 0."""
    said, wrong = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(wrong):
        patch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code in (0, None), f"{shlex.join(words)}\n{said.getvalue()}{wrong.getvalue()}"
    return said.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder with the tutorial's sweep, a cluster config, and the files that pages speak of, and stay in it."""
    folder = tmp_path_factory.mktemp("reader")
    text = TUTORIAL.read_text(encoding="utf-8")
    (sweep,) = ["\n".join(lines) for language, lines in blocks(text) if language == "yaml"]
    (folder / "first.yaml").write_text(sweep, encoding="utf-8")
    (folder / "here.yaml").write_text("backend: inline\nrun_root: runs\nmade_root: made\n", encoding="utf-8")
    made_files.moco(folder / "r8w-00001.pth.tar", "resnet18")
    for name, gain, seed in (
        ("moco", 2.0, 1), ("imagenet", 1.0, 2), ("examples/equal/base", 1.0, 3), ("examples/equal/new", 1.0, 4),
        ("examples/better/base", 1.0, 5), ("examples/better/new", 2.0, 6),
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / f"{name}.csv", scores(gain, seed=seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def printed(place: Path) -> str:
    """Return what the plan of the tutorial's sweep prints on a machine without a cluster config, as a reader's is."""
    return typed(["orchestrate", "plan", "first.yaml"])


@pytest.fixture(scope="module")
def said(place: Path, printed: str) -> Iterator[dict[str, str]]:
    """Type the tutorial's commands in their order, small, and return what each printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORCHESTRATE_CLUSTER", "here.yaml")
        found: dict[str, str] = {}
        for line in shown(TUTORIAL.read_text(encoding="utf-8")):
            words = shlex.split(line, comments=True)
            if words[1] not in ELSEWHERE:
                found[line] = typed([*words, *(["--sample"] if words[1] in SMALL else [])])
        yield found


def test_the_tutorial_prints_the_plan_that_there_is(printed: str) -> None:
    (page,) = re.findall(r"\$ orchestrate plan first\.yaml\n((?:[^$`].*\n)+)```", TUTORIAL.read_text(encoding="utf-8"))
    assert page == printed


def test_the_tutorial_does_what_it_says(said: dict[str, str]) -> None:
    # `--sample` keeps the draws with 16 patients alone: half of the jobs.
    assert "= 18 done and reused" in said["orchestrate plan first.yaml      # now `= 36 done and reused`"]
    assert "runs/sample/sweeps/first/report/report.html" in said["orchestrate report first"]
    more = said["orchestrate plan first.yaml --repeats 16=3"]
    assert "= 18 done and reused" in more and re.search(r"\+ 9 new", more)
    assert json.loads(typed(["orchestrate", "sync", "first", "--sample", "--json"]))["first"]["updated"] == 0


def here(line: str, folder: Path) -> list[str]:
    """Return the words of a page's command, with a study, data and cluster that are here; none where other tests run it."""
    words = shlex.split(line, comments=True)
    words = words[: next((at for at, word in enumerate(words) if word in ENDS), len(words))]
    if len(words) < 2 or words[1] in (*ELSEWHERE, *AT_ONCE):
        return []
    if words[1:3] == ["data", "verify"]:
        words[3] = "kermany16"  # the one real set that comes along
    for at, word in enumerate(words):
        if word.startswith("sweeps/"):
            words[at] = "first.yaml"
        elif word in NAMES and at == 2:
            words[at] = "first"
        elif words[at - 1] == "--cluster":
            words[at] = "here.yaml"
        elif REPEATS.match(word):
            words[at] = "16=3"
        elif word == JOB:
            words[at] = next((folder / "runs" / "sample" / "jobs").glob("*/*")).name[:12]
    small = words[1] in SMALL and "--predictions" not in words and "--sample" not in words
    return [*words, *(["--sample"] if small else [])]


def lines() -> list[str]:
    """Return every command that a page but the tutorial shows, once."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES if page != TUTORIAL]
    return list(dict.fromkeys(line.split(" #")[0].strip() for text in texts for line in shown(text)))


def cite(folder: Path) -> None:
    """Write a paper that cites a number of the report as it is now: more draws change it."""
    with (folder / "runs/sample/sweeps/first/report/report.csv").open(encoding="utf-8", newline="") as file:
        number = next(row for row in csv.DictReader(file) if row["estimate"])
    (folder / "paper.tex").write_text(f"\\cxr{{{number['key']}}}{{{float(number['estimate']):.3f}}}\n", encoding="utf-8")


def test_what_other_pages_show_can_be_typed(place: Path, said: dict[str, str]) -> None:
    distinct = dict.fromkeys(tuple(here(line, place)) for line in lines())
    for words in distinct:
        if "--check" in words:
            cite(place)
        if words:
            typed(list(words))
    assert len(distinct) > 30
