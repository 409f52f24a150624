"""No value reaches a shell: every script is read by a real bash, with an `srun` that says what it was given."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobs.paths import RunPaths
from jobs.spec import Resources
from orchestrator.backends import base
from orchestrator.backends.base import Need, Part, Queued
from orchestrator.backends.slurm import snapshot
from orchestrator.backends.slurm.request import options_of, refuse_unwritable
from orchestrator.backends.slurm.scripts import script
from orchestrator.errors import BackendError
from orchestrator.model import ClusterConfig, Partition, SlurmSite
from tests.orchestrator.standin import chain, job

SID = "f" * 32
PYTHON = "/opt/a python/bin/python"
#: Pieces that a shell, sbatch or a search path could take for more than text.
PIECES = [
    "'",
    '"',
    "\n",
    "\r",
    "\\",
    "$(touch ran)",
    "`touch ran`",
    "; touch ran",
    "& touch ran",
    "| touch ran",
    "\n#SBATCH --wrap=x",
    "%j",
]
PIECES += [
    "${HOME}",
    "$PATH",
    "~",
    "*",
    "#",
    "!",
    " ",
    "  ",
    "\t",
    "--",
    "=",
    "{a,b}",
    "<(touch ran)",
    "> ran",
    "\0",
    "é",
    "\u2028",
    "EOF",
    ":",
    ",",
]
HOSTILE = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), min_size=1, max_size=6).map("".join)
#: Those that may stand in a line of options, however strange.
STRANGE = HOSTILE.map(lambda text: "".join(letter for letter in text if letter.isprintable() and letter != "\\") or "x")
MIXED = st.one_of(STRANGE, STRANGE, STRANGE, STRANGE, HOSTILE)
MANY = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
def shell(tmp_path: Path) -> Any:
    """Run a script in a real bash, in an empty folder; return what srun was given, and PYTHONPATH."""
    programs, here = tmp_path / "programs", tmp_path / "here"
    programs.mkdir()
    here.mkdir()
    (programs / "srun").write_text('#!/bin/bash\nprintf "%s\\0" "$PYTHONPATH" "$@" > "$TOLD"\n')
    (programs / "srun").chmod(0o755)
    told = tmp_path / "told"

    def run(text: str) -> list[str]:
        file = tmp_path / "script.sh"
        file.write_text(text, encoding="utf-8", newline="")
        env = {"PATH": f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin", "TOLD": str(told), "LC_ALL": "C.UTF-8"}
        for options in (["-n"], []):
            done = subprocess.run(["bash", *options, str(file)], cwd=here, env=env, capture_output=True, check=False)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), text
        assert list(here.iterdir()) == [], "something of a value was run"
        return told.read_bytes().decode().split("\0")[:-1]

    return run


def directives(text: str) -> dict[str, str | None]:
    """Read a script's options as sbatch does: a word a line, quotes taken away."""
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        if line.startswith("#SBATCH "):
            (word,) = shlex.split(line.removeprefix("#SBATCH "))
            name, equals, value = word.partition("=")
            assert name not in found
            found[name] = value if equals else None
    return found


def written(cluster: ClusterConfig, *, about: str = "toy", count: int = 3, needs: tuple[Need, ...] = ()) -> tuple[str, Path]:
    """Return the script of a part, and its folder; raises what `submit` raises."""
    refuse_unwritable(cluster)
    run = RunPaths(cluster.run_root)
    part = Part(elements=((("a" * 64,),),) * count, needs=needs, options=options_of(Resources(gpus=1, cpus=4), about, cluster))
    return script(run, cluster, part, ["7"], snapshot.folder_of(run, "0123456789abcdef"), sid=SID), run.submissions / SID


def config(**site: Any) -> ClusterConfig:
    return ClusterConfig(
        name="here", backend="slurm", run_root=Path("/scratch/runs"), made_root=Path("/scratch/made"), slurm=SlurmSite(**site)
    )


def expected(folder: Path, cluster: ClusterConfig, python: list[str]) -> list[str]:
    code = str(cluster.run_root / "code" / "0123456789abcdef")
    output = f"{folder}/%A_%a_%t_log.out"
    return [code, "--unbuffered", "--output", output, "--cpus-per-task=4", *python, "-u", "-m", "submitit.core._submit", str(folder)]


@pytest.fixture(autouse=True)
def _python(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("sys.executable", PYTHON)
    yield


@MANY
@given(text=HOSTILE)
@example(text='it\'s "x" $(touch ran) `touch ran`; touch ran # é')
def test_a_run_root_is_one_word_or_is_refused(shell: Any, text: str) -> None:
    cluster = replace(config(), run_root=Path("/scratch") / text.replace("/", "").strip("."))
    path = str(cluster.run_root)
    try:
        made, folder = written(cluster)
    except BackendError as error:
        assert not path.isprintable() or any(letter in path for letter in "%:\\"), error
        return
    assert path.isprintable() and not any(letter in path for letter in "%:\\")
    assert shell(made) == expected(folder, cluster, [PYTHON])
    assert directives(made)["--output"] == f"{folder}/%A_%a_0_log.out"


@MANY
@given(values=st.fixed_dictionaries(dict.fromkeys(("account", "qos", "constraint", "exclude", "extra", "partition"), MIXED)))
def test_what_a_site_is_asked_is_one_word_or_is_refused(shell: Any, values: dict[str, str]) -> None:
    # A list of nodes holds no empty name.
    nodes = tuple(filter(None, (values["exclude"],)))
    site = {"qos": values["qos"], "constraint": values["constraint"], "exclude": nodes}
    cluster = replace(
        config(**site, extra={"reservation": values["extra"], "exclusive": "true"}),
        account=values["account"],
        partitions=(Partition(name=values["partition"], gpus=1, cpus=4),),
    )
    bad = [key for key, text in values.items() if not text.isprintable() or "\\" in text]
    try:
        made, folder = written(cluster)
    except BackendError as error:
        assert bad, error
        return
    assert not bad
    told = directives(made)
    asked = {key: text for key, text in values.items() if key not in ("extra", "exclude")}
    assert {key: told[f"--{key}"] for key in asked} == asked and told.get("--exclude", "") == values["exclude"]
    assert told["--reservation"] == ("" if values["extra"] == "true" else values["extra"]) and told["--exclusive"] is None
    assert shell(made) == expected(folder, cluster, [PYTHON])


@MANY
@given(image=HOSTILE, data=HOSTILE)
def test_a_container_and_what_is_bound_are_one_word_each(shell: Any, image: str, data: str) -> None:
    cluster = replace(
        config(python="python3 -X utf8"), container=image.replace("\0", ""), data={"x": Path("/data") / data.replace("\0", "")}
    )
    try:
        made, folder = written(cluster)
    except BackendError:
        assert any(letter in str(cluster.data["x"]) for letter in ",:")
        return
    binds = ",".join(dict.fromkeys(map(str, (cluster.run_root, cluster.made_root, cluster.data["x"]))))
    assert cluster.container is not None
    apptainer = ["apptainer", "exec", "--nv", "--bind", binds, cluster.container, "python3", "-X", "utf8"]
    assert shell(made) == expected(folder, cluster, apptainer)


@MANY
@given(text=HOSTILE, other=HOSTILE)
def test_no_value_of_a_sweep_is_in_a_script(shell: Any, text: str, other: str) -> None:
    cluster = replace(config(), run_root=Path("/scratch/runs"))
    plain = [replace(job(str(number)), sweep="toy") for number in range(3)]
    evil = [
        replace(one, trial=text, labels={text: other, "name": text}, config={text: other}, data={"x": text}, weights={text: other})
        for one in plain
    ]
    made, same = (
        base.load(cluster).render("toy", [Queued(spec=one, attempt=1, resources=one.resources) for one in jobs]).text
        for jobs in (evil, plain)
    )
    assert made == same


@MANY
@given(sweep=HOSTILE, phase=HOSTILE)
def test_the_name_of_a_sweep_and_its_phases_are_a_comment(shell: Any, sweep: str, phase: str) -> None:
    cluster = config()
    made, folder = written(cluster, about=f"{sweep} {phase} train")
    comment = directives(made)["--comment"]
    assert comment is not None and comment.isprintable() and "\\" not in comment and len(comment) <= 120
    clean = "".join(letter if letter.isprintable() and letter != "\\" else " " for letter in f"{sweep} {phase} train")
    assert clean.startswith(comment)
    assert shell(made) == expected(folder, cluster, [PYTHON])


def test_setup_lines_are_the_sites_own_shell(shell: Any) -> None:
    cluster = replace(config(), setup=("export PYTHONPATH=/site", "if true; then", "  A=$(echo b)", "fi"))
    made, folder = written(cluster)
    said = shell(made)
    assert said[0] == f"{cluster.run_root}/code/0123456789abcdef:/site"
    assert said[1:] == expected(folder, cluster, [PYTHON])[1:]


def test_what_others_must_find_again_cannot_be_set() -> None:
    for name in ("job-name", "output", "array", "dependency", "wait", "wrap", "parsable", "kill-on-invalid-dep"):
        with pytest.raises(BackendError, match=f"slurm: extra: '{name}' is set for every submission; leave it out"):
            refuse_unwritable(config(extra={name: "x"}))
    with pytest.raises(BackendError, match=r"'account' has a place of its own: `account:`; leave it out here"):
        refuse_unwritable(config(extra={"account": "x"}))
    with pytest.raises(BackendError, match=r"cluster 'here': run_root: '%' in /a%b means something in Slurm's names of output files"):
        refuse_unwritable(replace(config(), run_root=Path("/a%b")))


def test_a_chain_asks_for_no_more_time_than_the_nodes_that_hold_it_give() -> None:
    chained = [replace(one, resources=Resources(gpus=1, time_minutes=200)) for one in chain("a")]
    nodes = (Partition(name="gpu", gpus=1, cpus=4, max_time_minutes=240), Partition(name="cpu", cpus=4, max_time_minutes=9000))
    jobs = [Queued(spec=one, attempt=1, resources=one.resources) for one in chained]
    (part,) = base.load(replace(config(), partitions=nodes)).render("toy", jobs).parts
    assert (part.options["time"], part.options["partition"], part.terms["minutes"]) == (240, "gpu", 240)
    (part,) = base.load(config()).render("toy", jobs).parts
    assert part.options["time"] == 200 + 200 + 60
    with pytest.raises(BackendError, match=r"'gpu' has at most 240 minutes.*lower `resources:` of the phase"):
        longer = [replace(one, resources=Resources(gpus=1, time_minutes=241)) for one in jobs]
        base.load(replace(config(), partitions=nodes)).render("toy", longer)


def test_needs_name_what_was_submitted_before() -> None:
    made, _ = written(
        config(), needs=(Need(kind="afterok", part=0, index=3), Need(kind="afterany", native="99"), Need(kind="afterok", native="5"))
    )
    assert directives(made)["--dependency"] == "afterok:7_3:5,afterany:99"
