"""`orchestrate report --predictions`: what a person types, and what comes of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from orchestrator import cli
from tests.orchestrator.report.files.made_files import having, joined, scores, write


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["orchestrate", "report", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    seen = capsys.readouterr()
    return int(ended.value.code or 0), seen.out, seen.err


def test_a_report_of_files_needs_no_sweep_and_no_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        write(tmp_path / f"{arm}.csv", joined(*(having(scores(separation, seed=draw + seed), draw=draw) for draw in range(3))))
        for arm, separation, seed in (("moco", 2.2, 10), ("imagenet", 0.6, 20))
    ]
    out = tmp_path / "out"
    options = ["--baseline", "imagenet", "--out", str(out), "--resamples", "200", "--title", "Ours"]
    code, said, _ = typed(capsys, "--predictions", *map(str, files), *options)
    assert code == 0
    assert "moco scores 0." in said
    assert "higher than imagenet" in said
    assert said.strip().endswith(f"report: {out / 'report.html'}")
    assert {"report.html", "report.md", "report.json", "provenance.json"} <= {path.name for path in out.iterdir()}
    origin = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    assert [one["sha256"] for one in origin["files"]] == [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Every file with its sha256 is in" in page
    assert "<h1>Ours</h1>" in page
    code, said, _ = typed(capsys, "--predictions", str(files[0]), "--predictions", str(files[1]), *options, "--json")
    assert (code, json.loads(said)["title"]) == (0, "Ours")


def test_what_a_person_mistypes_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, wanted in (
        ([], "name one sweep, such as `orchestrate report quickstart`, or files: orchestrate report --predictions FILE..."),
        (["one", "two"], "name one sweep"),
        (["quickstart", "--baseline", "x"], "--baseline goes with --predictions; a sweep says it in its file"),
        (["quickstart", "--resample", "image"], "--resample goes with --predictions"),
        (["quickstart", "--as-published", "ark"], "--as-published goes with --predictions"),
        (["quickstart", "--out", "x"], "--out goes with --predictions"),
        (["--predictions", str(tmp_path / "none.csv")], "none.csv: there is no such file"),
    ):
        code, said, wrong = typed(capsys, *arguments)
        assert (code, said) == (2, "")
        assert wanted in wrong
        assert len(wrong.splitlines()) == 1


def test_two_files_of_one_model_each_are_exchanged_patient_by_patient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        write(tmp_path / f"{arm}.csv", scores(gap, seed=seed, cases=20, images_a_patient=2))
        for arm, gap, seed in (("a", 2.0, 1), ("b", 0.5, 2))
    ]
    code, said, _ = typed(
        capsys, "--predictions", *map(str, files), "--baseline", "b", "--out", str(tmp_path / "out"), "--resamples", "200", "--json"
    )
    (found,) = json.loads(said)["swap_tests"]
    assert code == 0
    assert found["exact"]
    assert (found["n"], found["assignments"]) == (10, 2**10)
    assert found["smallest_p"] >= 2 / 2**10
    assert "Two models, exchanged" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
