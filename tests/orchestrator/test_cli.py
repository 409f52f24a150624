"""The commands on a small sweep that really ran: what they print, what they exit with, what they leave alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import cli, json_page
from tests.orchestrator.json_fields import faults_of

SWEEP = """sweep: small
about: Does anything rank effusion on a thumbnail?
data: phantom
phases:
  floor_only:
    trainer: thumbnail
    compare: {side: [4, 8]}
    draws: {count: [24, 48], repeats: 2, nested_fractions: true}
    pick: {metric: val/auroc_macro}
    evaluate: [{data: same, split: test}]
report: {measure: auroc/pleural_effusion, baseline: {side: 4}, over: count}
sample: {n: 150, px: 32, max_jobs: 60}
"""


class Site:
    """A folder with a sweep, a cluster config and a way to type commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sweep = folder / "small.yaml"
        self.sweep.write_text(SWEEP, encoding="utf-8")
        self.config = folder / "here.yaml"
        self.config.write_text(f"backend: inline\nrun_root: {folder}/runs\nmade_root: {folder}/made\n", encoding="utf-8")

    def type(self, capsys: pytest.CaptureFixture[str], *arguments: str, cluster: bool = True) -> tuple[int, str, str]:
        """Run a command in this process; return its exit code, its output and its errors."""
        command = [*arguments, *(["--cluster", str(self.config)] if cluster else [])]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["orchestrate", *command])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        seen = capsys.readouterr()
        code = ended.value.code
        return (0 if code is None else int(code)), seen.out, seen.err


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def ran(site: Site) -> Iterator[Site]:
    """The site after its sweep ran once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["orchestrate", "submit", str(site.sweep), "--sample", "--cluster", str(site.config)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code in (0, None)
    yield site


def test_a_plan_counts_what_would_run(site: Site, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    elsewhere = Site(tmp_path)
    code, out, _ = elsewhere.type(capsys, "plan", str(elsewhere.sweep))
    assert code == 0
    assert "24 jobs" in out
    assert "+ 24 new" in out
    assert not (tmp_path / "runs" / "jobs").exists()
    code, out, _ = elsewhere.type(capsys, "plan", str(elsewhere.sweep), "--json")
    told = json.loads(out)
    assert (told["jobs"], told["counts"]["new"], told["stages"]) == (24, 24, {"evaluate": 8, "pick": 8, "train": 8})


def test_a_dry_run_prints_what_would_be_submitted_and_submits_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    here = Site(tmp_path)
    code, out, _ = here.type(capsys, "submit", str(here.sweep), "--dry-run")
    assert code == 0
    assert out.startswith("# small: 24 jobs one after the other in this process")
    assert len(out.strip().splitlines()) == 25
    assert not (tmp_path / "runs" / "submissions").exists()


def test_a_submitted_sweep_is_done_and_a_plan_says_so(ran: Site, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran.type(capsys, "status", "small", "--sample", "--json")
    status = json.loads(out)[0]
    assert (code, status["counts"]) == (0, {"SUCCEEDED": status["total"]})
    _, out, _ = ran.type(capsys, "plan", str(ran.sweep), "--sample")
    assert f"= {status['total']} done and reused" in out
    _, out, _ = ran.type(capsys, "status", "--sample")
    assert f"small: {status['total']} of {status['total']} done" in out


def test_submitting_again_runs_nothing(ran: Site, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran.type(capsys, "submit", str(ran.sweep), "--sample")
    assert code == 0
    assert "nothing left to run" in out


def test_a_changed_value_shows_as_a_change_and_says_why(ran: Site, capsys: pytest.CaptureFixture[str]) -> None:
    edited = ran.folder / "edited.yaml"
    edited.write_text(
        SWEEP.replace("    compare: {side: [4, 8]}", "    config: {penalty: 2.0}\n    compare: {side: [4, 8]}"), encoding="utf-8"
    )
    _, out, _ = ran.type(capsys, "plan", str(edited), "--sample")
    assert "~ " in out
    assert "config.penalty: 1.0 -> 2.0" in out


def test_the_report_is_written_and_printed_as_json(ran: Site, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran.type(capsys, "report", "small", "--sample")
    page = Path(out.strip().splitlines()[-1].removeprefix("report: "))
    assert (code, page.exists()) == (0, True)
    _, out, _ = ran.type(capsys, "report", "small", "--sample", "--json")
    assert json.loads(out)["sweep"] == "small"


def test_a_job_is_explained_and_its_log_printed(ran: Site, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ran.type(capsys, "status", "small", "--sample", "--json")
    job = json.loads(out)[0]["jobs"][0]["job"]
    _, out, _ = ran.type(capsys, "explain", job[:8], "--sample")
    assert out.startswith(job[:12])
    assert "state: succeeded, attempt 1" in out
    _, out, _ = ran.type(capsys, "explain", job[:8], "--sample", "--json")
    assert json.loads(out)["would_run_again"] == []
    code, _, _ = ran.type(capsys, "logs", job[:8], "--sample")
    assert code == 0


def test_one_frame_of_the_live_view_is_printed(ran: Site, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran.type(capsys, "watch", "small", "--sample", "--once")
    assert code == 0
    assert "small: " in out and "succeeded" in out
    code, out, _ = ran.type(capsys, "watch", "small", "--sample")
    assert (code, out.splitlines()[-1]) == (0, "nothing is queued or running")


def test_what_was_never_submitted_has_nothing_to_watch(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    elsewhere = Site(tmp_path)
    for command in ("status", "watch"):
        code, out, _ = elsewhere.type(capsys, command)
        assert (code, "nothing was submitted to" in out) == (0, True)


def test_logs_of_a_job_that_has_ended_end(ran: Site, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ran.type(capsys, "status", "small", "--sample", "--json")
    job = json.loads(out)[0]["jobs"][0]["job"]
    printed = ran.type(capsys, "logs", job[:8], "--sample")
    assert ran.type(capsys, "logs", job[:8], "--sample", "-f") == printed


def test_a_cluster_config_is_written_once(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, _ = site.type(capsys, "init", "mine", "--run-root", "/scratch/runs", cluster=False)
    assert (code, out.splitlines()[-1]) == (0, "written to cluster_configs/mine.yaml; check it: orchestrate doctor --cluster mine")
    written = (tmp_path / "cluster_configs" / "mine.yaml").read_text(encoding="utf-8")
    assert "backend: ray\nrun_root: /scratch/runs\n" in written
    code, _, err = site.type(capsys, "init", "mine", "--run-root", "/elsewhere", cluster=False)
    assert (code, "is there already" in err) == (2, True)
    assert (tmp_path / "cluster_configs" / "mine.yaml").read_text(encoding="utf-8") == written
    assert site.type(capsys, "init", "mine", "--run-root", "/elsewhere", "--yes", cluster=False)[0] == 0


def test_syncing_twice_changes_nothing(ran: Site, capsys: pytest.CaptureFixture[str]) -> None:
    ran.type(capsys, "sync", "small", "--sample")
    _, out, _ = ran.type(capsys, "sync", "small", "--sample", "--json")
    told = json.loads(out)["small"]
    assert (told["created"], told["updated"]) == (0, 0)
    assert told["runs"] > 0


def test_json_has_the_fields_that_its_page_tells(ran: Site, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = ran.type(capsys, "status", "small", "--sample", "--json")
    job = json.loads(out)[0]["jobs"][0]["job"]
    edited = ran.folder / "other.yaml"
    edited.write_text(SWEEP.replace("side: [4, 8]", "side: [4, 6]"), encoding="utf-8")
    text = ran.folder / "paper.md"
    text.write_text("# Results\n\nWith side 4 an AUROC of 0.11<!-- cxr: phantom/absent/24/auroc_macro -->.\n", encoding="utf-8")
    outputs = {
        "orchestrate plan": ran.type(capsys, "plan", str(edited), "--sample", "--json")[1],
        "orchestrate submit": ran.type(capsys, "submit", str(ran.sweep), "--sample", "--json")[1],
        "orchestrate status": out,
        "orchestrate explain": ran.type(capsys, "explain", job[:8], "--sample", "--json")[1],
        "orchestrate sync": ran.type(capsys, "sync", "small", "--sample", "--json")[1],
        "orchestrate doctor": ran.type(capsys, "doctor", "--json")[1],
        "orchestrate data list": ran.type(capsys, "data", "list", "--json")[1],
        "orchestrate data draws": ran.type(capsys, "data", "draws", str(ran.sweep), "--sample", "--json")[1],
        "orchestrate report --check": ran.type(capsys, "report", "small", "--check", str(text), "--sample", "--json")[1],
    }
    verified = ran.folder / "kermany16.json"
    ran.type(capsys, "data", "verify", "kermany16", "--json", str(verified))
    outputs["orchestrate data verify"] = verified.read_text(encoding="utf-8")
    # What weights commands print is held against the page where there is a file to read: test_weights_cli.
    assert set(outputs) == {command for command in json_page.COMMANDS if "weights" not in command}
    assert {name: faults_of(json.loads(text), json_page.COMMANDS[name]) for name, text in outputs.items()} == {name: [] for name in outputs}


def test_garbage_is_listed_before_anything_is_deleted(ran: Site, capsys: pytest.CaptureFixture[str]) -> None:
    results = sorted(ran.folder.glob("runs/sample/jobs/*/*/result.json"))
    code, out, _ = ran.type(capsys, "gc", "--sample")
    assert (code, "decoded images" in out) == (0, True)
    assert "could be deleted" in out
    ran.type(capsys, "gc", "--sample", "--yes")
    _, out, _ = ran.type(capsys, "gc", "--sample")
    assert "nothing to delete" in out
    assert sorted(ran.folder.glob("runs/sample/jobs/*/*/result.json")) == results


def test_data_sets_are_listed_with_their_place(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = site.type(capsys, "data", "list", "--json")
    rows = {row["card"]: row["where"] for row in json.loads(out)}
    assert rows["kermany16"] == "comes with this package"
    assert rows["phantom"] == "made here"
    assert rows["chexpert"] == "not named in the cluster config"


def test_the_shipped_radiographs_verify(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = site.type(capsys, "data", "verify", "kermany16", "--all")
    assert code == 0
    assert "16 of 16 looked at, 0 cannot be read" in out


def test_the_doctor_is_content_here(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = site.type(capsys, "doctor", "--json")
    found = {one["what"]: one for one in json.loads(out)}
    assert code == 0, out
    assert {"python", "torch", "ray", "mlflow", "cluster", "backend", "disk"} <= found.keys()


def test_the_version_is_the_package_s(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = site.type(capsys, "--version", cluster=False)
    assert (code, out.strip()) == (0, cli.__version__)


def test_what_a_person_got_wrong_is_one_message_and_exit_code_2(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = site.folder / "wrong.yaml"
    wrong.write_text(SWEEP.replace("trainer: thumbnail", "trainer: thumbnial"), encoding="utf-8")
    code, out, err = site.type(capsys, "plan", str(wrong))
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == f"{wrong}:6:14: phases.floor_only.trainer: no trainer 'thumbnial'; did you mean 'thumbnail'?"
    assert "Traceback" not in err


def test_a_fault_of_ours_keeps_its_traceback_and_is_exit_code_3(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("orchestrator.workspace.Workspace.open", break_down)
    code, _, err = site.type(capsys, "status")
    assert code == 3
    assert "ZeroDivisionError: ours" in err
    assert "This is a fault of orchestrate" in err
