"""What is really submitted: the very text of the dry run, from any folder, and with the code that was there then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.events import read_events
from jobs.paths import RunPaths
from jobs.spec import Resources, State
from orchestrator import intents
from orchestrator.backends import base
from orchestrator.backends.base import Queued
from orchestrator.model import ClusterConfig, Plan
from orchestrator.submit import preview, submit
from tests.orchestrator.standin import chain, job, plan
from tests.slurm import client
from tests.slurm.cluster import Cluster

#: What a shell, Slurm or Python might make something else of.
HOSTILE = 'it\'s "a" $(touch ran) `touch ran` ; touch ran & #b *?[x] ~ {a,b} é'
NO_SID = "0" * 12


@pytest.fixture(autouse=True)
def _on_the_cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)


def sections(text: str) -> list[str]:
    """Return the scripts of a dry run."""
    return [part.partition("\n")[2] for part in text.split("\n# --- PART-")[1:]]


def submitted(run: RunPaths) -> list[tuple[intents.Intent, str]]:
    """Return every intent with the script that sbatch was given, in the order of submission."""
    found = sorted((held.intent for held in intents.open_intents(run)), key=lambda intent: int(intent.native["id"]))  # type: ignore[index]
    scripts = [sorted(intents.folder(run, intent.sid).glob("[0-9]*_submission.sh")) for intent in found]
    assert all(len(files) == 1 for files in scripts)
    return [(intent, files[0].read_text(encoding="utf-8")) for intent, files in zip(found, scripts, strict=True)]


def study() -> Plan:
    """Make chains and rows that follow one another: every kind of dependency, in arrays and alone."""
    parents = [job(f"parent{number}", resources=Resources(cpus=1, time_minutes=7)) for number in range(3)]
    later = [job(f"{one.trial}/{number}", (one,), phase="later") for one in parents for number in range(2)]
    own = [job(f"{one.trial}/own", (one,), phase="own") for one in later]
    packed = [job(f"packed{number}", resources=Resources(cpus=1, memory_mb=1000, pack=2)) for number in range(4)]
    last = job("last", (*own, packed[0]), phase="last")
    return plan(*parents, *later, *own, *packed, last, *(one for name in "ab" for one in chain(name)))


def held(folder: Path) -> ClusterConfig:
    return client.config(folder, parallel=7, extra={"hold": "true", "mail-type": "NONE"}, canary=3)


def test_what_is_submitted_is_what_the_dry_run_said(tmp_path: Path, slurm: Cluster) -> None:
    cluster, over = held(tmp_path), study()
    run = RunPaths(cluster.run_root)
    said = sections(preview(over, run, base.load(cluster)).submission.text)
    client.hand_over(over, cluster, wait=False)
    sent = submitted(run)
    natives = [str(intent.native["id"]) for intent, _ in sent if intent.native]
    assert len(said) == len(sent) >= 4
    for text, (intent, script) in zip(said, sent, strict=True):
        for number in range(len(natives), 0, -1):
            text = text.replace(f"PART-{number}", natives[number - 1])
        text = text.replace(f"submissions/{NO_SID}", f"submissions/{intent.sid}").replace(f"orch-{NO_SID}", intent.name)
        assert script.rstrip("\n") == text.rstrip("\n")
    shown = slurm.job(natives[0])
    assert shown["JobState"] == "PENDING" and shown["Reason"] == "JobHeldUser"


def test_every_kind_of_waiting_comes_to_its_end(tmp_path: Path) -> None:
    cluster, over = client.config(tmp_path, canary=3, array_size=4), study()
    kinds = {need.kind for part in base.load(cluster).render("toy", list_of(over)).parts for need in part.needs}
    assert kinds == {"aftercorr", "afterok", "afterany"}
    done = client.hand_over(over, cluster, wait=True)
    assert done.counts == {State.SUCCEEDED: len(over.jobs)}
    assert set(map(tuple, client.ran(over, cluster).values())) == {(1,)}


def list_of(over: Plan) -> list[Queued]:
    return [Queued(spec=one, attempt=1, resources=one.resources) for one in over.jobs]


def test_a_run_root_of_any_name_is_no_more_than_a_name(tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE
    cluster, over = client.config(folder), plan(*chain("a"), *chain("b"))
    done = client.hand_over(over, cluster, wait=True)
    assert done.counts == {State.SUCCEEDED: 6}
    assert not list(tmp_path.rglob("ran")) and not (client.ROOT / "ran").exists()
    logs = sorted(path.name.partition("_")[2] for path in (cluster.run_root / "submissions").glob("*/*_log.out"))
    assert logs == ["0_0_log.out", "1_0_log.out"]


def test_values_of_a_sweep_reach_no_shell(tmp_path: Path) -> None:
    evil = "\n".join(("$(touch ran)", "`touch ran`", "'; touch ran; '", '"; touch ran; "', "#SBATCH --wrap=false", "EOF"))
    one = replace(job("a", config={"text": evil, "seconds": 0.0}), trial=evil, labels={"text": evil})
    done = client.hand_over(plan(one), client.config(tmp_path), wait=True)
    assert done.counts == {State.SUCCEEDED: 1}
    assert not list(tmp_path.rglob("ran")) and not (client.ROOT / "ran").exists()


def test_sbatch_reads_quotes_as_a_shell_does(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path, extra={"hold": "true", "mail-type": "FAIL", "mail-user": HOSTILE})
    client.hand_over(plan(job("a")), cluster, wait=False)
    ((intent, _),) = submitted(RunPaths(cluster.run_root))
    assert intent.native is not None
    shown = slurm.run("scontrol", "show", "job", intent.native["id"]).stdout
    assert f"MailUser={HOSTILE} MailType" in shown, shown


def trainer(folder: Path, says: str) -> None:
    """Write a trainer that tells, in the words of its failure, which code ran and from where."""
    folder.mkdir(exist_ok=True)
    (folder / "config.py").write_text(
        "from dataclasses import dataclass\nNAME, VERSION = 'mine', 1\n\n\n@dataclass(frozen=True)\nclass Config:\n    name: str = ''\n",
        encoding="utf-8",
    )
    (folder / "train.py").write_text(
        f"import jobs, orchestrator, trainers\nwhere = [module.__path__[0] for module in (jobs, orchestrator, trainers)]\n"
        f"raise ValueError(f'{says}: {{where}}')\n",
        encoding="utf-8",
    )


def test_a_queued_job_runs_the_code_of_its_submission(tmp_path: Path, slurm: Cluster) -> None:
    methods = tmp_path / "methods"
    methods.mkdir()
    trainer(methods / "mine", "as submitted")
    cluster = replace(held(tmp_path), setup=(), trainer_paths=(methods,))
    run, one = RunPaths(cluster.run_root), replace(job("a"), trainer="mine", trainer_version=1)
    machine = {"trainer_paths": [str(methods)], "card_paths": []}
    submit(plan(one), run, cluster, base.load(cluster), machine=machine, wait=False)
    trainer(methods / "mine", "edited meanwhile")
    (intent, _), *others = submitted(run)
    assert intent.native is not None and not others
    slurm.run("scontrol", "release", intent.native["id"])
    attempt = run.job(one.job_id).attempt(1)
    slurm.wait_until(lambda: [event for event in read_events(attempt.events) if event["kind"] == "FAILED"], timeout=120, what="for the job")
    message = read_events(attempt.events)[-1]["message"]
    code = run.root / "code" / intent.terms["code"]
    assert message == f"ValueError: as submitted: {[str(code / name) for name in ('jobs', 'orchestrator', 'trainers')]}"
