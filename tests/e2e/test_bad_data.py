"""Data and weights that are not what they should be: one sentence, exit code 2, and what was done is kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.main import EXIT_FAILED
from jobs.spec import Stage
from tests.e2e.lab import FLOOR, ROOT, Lab, assert_said, make_data

CLASSIFIER = """sweep: probe
data: chexpert
phases:
  probe:
    trainer: classification
    config: {{arch: resnet18, px: 32, labels: [pleural_effusion, cardiomegaly], freeze: backbone, init: {init}}}
    draws: {{count: [24], repeats: 1}}
    pick: {{metric: val/loss, mode: min}}
    evaluate: [{{data: same, split: test}}]
report: {{measure: auroc/pleural_effusion}}
"""


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("real"))


@pytest.fixture
def lab(tmp_path: Path, real: Path) -> Lab:
    return Lab(tmp_path / "lab", real)


# --- the folder --------------------------------------------------------------------------------------------------------------------------


def test_a_missing_root_is_named_when_planned_and_refused_when_submitted(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    why = (
        f"data set 'chexpert' is not at {lab.data} (no such folder): "
        "put its place into your cluster config, such as 'data: {chexpert: /path/to/chexpert}'"
    )
    assert_said(lab.type("plan", lab.sweep), 0, f"unresolved: {why}")
    said = lab.type("submit", lab.sweep)
    assert_said(said, 2)
    assert said.err == f"6 of 6 jobs cannot be submitted: {why}\n"
    assert not (lab.folder / "runs" / "jobs").exists()


def test_a_data_set_without_a_place_says_what_to_write(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", data=None)
    lab.configure(data=None)
    why = "no folder is known for data 'chexpert': name it under `data:` in the cluster config, `data: {chexpert: /path/to/it}`"
    assert_said(lab.type("submit", lab.sweep), 2, why)


def test_a_root_without_its_label_file_is_refused(lab: Lab) -> None:
    (lab.data / "train.csv").unlink()
    assert_said(
        lab.type("submit", lab.sweep),
        2,
        f"data set 'chexpert' has no train.csv in {lab.data}: is this the folder that holds train.csv, valid.csv?",
    )


# --- label files -------------------------------------------------------------------------------------------------------------------------


def _without_a_column(text: str) -> str:
    return text.replace("Pleural Effusion", "Effusion, pleural".replace(", ", "_"), 1)


def _with_a_strange_label(text: str) -> str:
    header, first, rest = text.split("\n", 2)
    cells = first.split(",")
    cells[header.split(",").index("Pleural Effusion")] = "maybe"
    return "\n".join([header, ",".join(cells), rest])


def _with_a_short_line(text: str) -> str:
    header, first, rest = text.split("\n", 2)
    return "\n".join([header, first[: first.index(",")], rest])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_without_a_column, "train.csv: has no column 'Pleural Effusion' (it has Path, Sex, Age"),
        (_with_a_strange_label, "train.csv:2: 'Pleural Effusion' is 'maybe', and may be 1, 0, -1 or nothing"),
        (_with_a_short_line, "train.csv:2: has 1 fields, the header has 19"),
        (lambda text: "", "train.csv: is empty: copy it again from the release of 'chexpert'"),
        (lambda text: text.split("\n", 1)[0] + "\n", "has no training image"),
    ],
    ids=["no column", "strange label", "short line", "empty", "no row"],
)
def test_a_wrong_label_file_fails_every_job_with_one_sentence(lab: Lab, change: Callable[[str], str], sentence: str) -> None:
    file = lab.data / "train.csv"
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")
    said = lab.type("submit", lab.sweep)
    assert_said(said, 2, sentence, "(the data are not what their card says: put the data right, then `resume`)")
    assert said.out.count("failed: ") == 1, "each kind of failure is told once"
    assert f"when that is put right: orchestrate resume {lab.sweep} --cluster {lab.config}" in said.out
    verified = lab.type("data", "verify", "chexpert")
    assert_said(verified, *((0, "warning  train: has no image") if "image" in sentence else (2, f"error    {lab.data / sentence}")))


def test_a_label_file_put_right_is_new_jobs_that_run(lab: Lab) -> None:
    file = lab.data / "train.csv"
    good = file.read_text(encoding="utf-8")
    file.write_text(_with_a_strange_label(good), encoding="utf-8")
    assert lab.type("submit", lab.sweep).code == 2
    failed = {job.job_id for job in lab.jobs()}
    file.write_text(good, encoding="utf-8")
    assert_said(lab.type("submit", lab.sweep), 0, "6 succeeded")
    assert not failed & {job.job_id for job in lab.jobs()}


# --- images ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "is a truncated JPEG (it has no end marker): copy it again"),
        (lambda path: path.write_bytes(b""), "is empty (0 bytes): copy it again from the release"),
        (
            lambda path: path.write_bytes(b"<html>404 Not Found</html>"),
            "cannot be decoded (it is no image of a kind that is known here): copy it again",
        ),
    ],
    ids=["truncated", "empty", "no image"],
)
def test_a_bad_image_stops_what_needs_it_and_nothing_else(lab: Lab, damage: Callable[[Path], object], sentence: str) -> None:
    image = sorted((lab.data / "valid").rglob("*.jpg"))[3]
    good = image.read_bytes()
    damage(image)
    assert_said(lab.type("submit", lab.sweep), 2, f"image {image} {sentence}", "2 failed, 4 succeeded")
    assert_said(lab.type("data", "verify", "chexpert", "--all"), 2, f"image {image} {sentence}", "1 cannot be read")
    kept = lab.results()
    assert len(kept) == 4, "training and picks do not open test images"
    assert_said(lab.type("submit", lab.sweep), 2, f"image {image} {sentence}", "nothing left to run")
    image.write_bytes(good)
    assert_said(lab.type("resume", lab.sweep), 0, "2 jobs run", "6 succeeded", "report: ")
    assert {job: lab.results()[job] for job in kept} == kept
    assert (lab.attempts(Stage.TRAIN), lab.attempts(Stage.EVALUATE)) == ([1, 1], [2, 2])


def test_a_missing_test_image_stops_evaluations_until_it_is_there_or_skipped(lab: Lab) -> None:
    images = sorted((lab.data / "valid").rglob("*.jpg"))
    content = images[3].read_bytes()
    images[3].unlink()
    sentence = f"lacks 1 of {len(images)} images: {images[3].relative_to(lab.data).as_posix()}: copy them again from the release"
    assert_said(lab.type("submit", lab.sweep), 2, sentence, "2 failed, 4 succeeded")
    assert_said(lab.type("data", "verify", "chexpert", "--all"), 2, f"image {images[3]} is missing: copy it again from the release")
    skipping = lab.write("skipping.yaml", FLOOR.replace("data: chexpert", "data: chexpert\nmissing: skip"))
    assert_said(lab.type("submit", skipping), 0, "6 succeeded")
    images[3].write_bytes(content)
    assert_said(lab.type("resume", lab.sweep), 0, "2 jobs run", "6 succeeded", "report: ")


def test_a_folder_that_may_not_be_read_is_a_sentence(lab: Lab) -> None:
    closed = lab.data / "valid"
    closed.chmod(0)
    try:
        said = lab.spawn("submit", lab.sweep, humble=True)
    finally:
        closed.chmod(0o755)
    assert_said(said, 2, f"folder {closed}", "cannot be listed (Permission denied): check the disk and the permissions", "4 succeeded")


def test_a_label_file_that_may_not_be_read_is_a_sentence(lab: Lab) -> None:
    file = lab.data / "train.csv"
    file.chmod(0)
    said = lab.spawn("submit", lab.sweep, humble=True)
    assert_said(said, 2, f"{file}: permission denied; correct its permissions")


# --- what was planned and what is there --------------------------------------------------------------------------------------------------


def _run_by_hand(lab: Lab, job: str) -> tuple[int, str]:
    """Run a submitted job the way that a scheduler does, hours after it was planned."""
    command = [sys.executable, "-m", "jobs", "run", str(lab.run.job(job).job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, lab.type("explain", job[:12]).out


def _fail_for_now(lab: Lab) -> str:
    """Submit while a test image is missing; return an evaluate job that is left."""
    image = sorted((lab.data / "valid").rglob("*.jpg"))[0]
    content = image.read_bytes()
    image.unlink()
    assert lab.type("submit", lab.sweep).code == 2
    image.write_bytes(content)
    return lab.jobs(Stage.EVALUATE)[0].job_id


def test_a_label_file_that_changed_since_the_plan_is_refused_by_the_job(lab: Lab) -> None:
    job = _fail_for_now(lab)
    file = lab.data / "valid.csv"
    good = file.read_text(encoding="utf-8")
    file.write_text(good + "\n", encoding="utf-8")
    code, told = _run_by_hand(lab, job)
    assert code == EXIT_FAILED
    assert f"valid.csv of data set 'chexpert' at {lab.data} has changed since the job was planned" in told
    assert "plan and submit the sweep again, which makes new jobs, or put the file back" in told
    file.write_text(good, encoding="utf-8")
    assert _run_by_hand(lab, job)[0] == 0


def test_a_card_that_changed_since_the_plan_is_refused_by_the_job(lab: Lab) -> None:
    cards = lab.folder / "cards"
    cards.mkdir()
    card = cards / "mine.yaml"
    text = (ROOT / "trainers/data/cards/chexpert.yaml").read_text(encoding="utf-8").replace("name: chexpert", "name: mine\nroot: chexpert")
    card.write_text(text, encoding="utf-8")
    lab.configure(card_paths=[str(cards)])
    lab.sweep = lab.write("floor.yaml", FLOOR.replace("data: chexpert", "data: mine"))
    job = _fail_for_now(lab)
    card.write_text(text.replace("score_per: study", "score_per: image"), encoding="utf-8")
    code, told = _run_by_hand(lab, job)
    assert code == EXIT_FAILED
    assert "card 'mine' has changed since the job was planned" in told
    assert "or put the card back" in told
    assert_said(lab.type("plan", lab.sweep), 0, "~ 6 changed", "card_sha256: ")


# --- weights -----------------------------------------------------------------------------------------------------------------------------


def _probe(lab: Lab, init: str | Path) -> Path:
    return lab.write("probe.yaml", CLASSIFIER.format(init=init))


def test_a_checkpoint_of_another_architecture_is_refused_key_by_key(lab: Lab) -> None:
    import torch

    from trainers.parts import backbones

    file = lab.folder / "resnet34.pth"
    torch.save(backbones.build("resnet34", 3, None).state_dict(), file)
    said = lab.type("submit", _probe(lab, file))
    assert_said(said, 2, f"{file} does not fit arch 'resnet18': keys unexpected: ", "layer1.2.conv1.weight")
    assert_said(said, 2, "its keys and shapes are those of 'resnet34': give that architecture (put that right, then `resume`)")
    assert "read the log" not in said.text
    good = lab.folder / "resnet18.pth"
    torch.save(backbones.build("resnet18", 3, None).state_dict(), good)
    assert_said(lab.type("submit", _probe(lab, good)), 0, "3 succeeded")
    file.unlink()
    good.unlink()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PK\x03\x04 cut short", "cannot be read as weights (damaged, or another format); fetch or write the file again"),
        (b"", "cannot be read as weights (damaged, or another format); fetch or write the file again"),
        (b"<html>404 Not Found</html>", "cannot be read as weights (damaged, or another format); fetch or write the file again"),
    ],
    ids=["torn", "empty", "other"],
)
def test_a_damaged_checkpoint_is_a_sentence(lab: Lab, content: bytes, sentence: str) -> None:
    file = lab.folder / "start.pth"
    file.write_bytes(content)
    assert_said(lab.type("submit", _probe(lab, file)), 2, f"{file}: {sentence}")
    assert_said(lab.type("weights", "inspect", file, cluster=False), 2, str(file))


def test_a_start_that_is_not_there_is_refused_when_planned(lab: Lab) -> None:
    said = lab.type("plan", _probe(lab, "/nowhere/start.pth"))
    assert_said(said, 2, "there is no file /nowhere/start.pth; correct the path, or write `init: random`")


def test_imagenet_without_network_and_file_says_exactly_what_to_do_when_planned(lab: Lab) -> None:
    """The cache of a person's own machine is left out of it."""
    for command in ("plan", "submit"):
        said = lab.spawn(
            command, _probe(lab, "imagenet"), env={"HF_HUB_CACHE": str(lab.folder / "hub"), "HF_HOME": str(lab.folder / "hub")}
        )
        assert_said(
            said, 2, "init 'imagenet' for resnet18: the weights are not on this machine; fetch model.safetensors of timm/resnet18.<tag>"
        )
        assert_said(said, 2, "and set `weights: {resnet18: <file>}` in the cluster config")
    assert not lab.run.root.exists() or not (lab.run.root / "jobs").exists()
