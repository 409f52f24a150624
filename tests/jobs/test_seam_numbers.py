"""Numbers that jobs leave, computed again by other means: the label files, scikit-learn, and a network by hand."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from jobs.checkpoints import CheckpointStore
from jobs.spec import JobSpec, Stage
from tests.jobs.study import Study, label_rows, truth_of


def units_of(study: Study, split: str, per: str) -> dict[tuple[str, ...], list[dict[str, str]]]:
    """Gather the rows of a label file by unit, in their order."""
    units: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for row in label_rows(study, split):
        key = {"image": (row["Path"],), "study": (row["patient"], row["study"]), "patient": (row["patient"],)}[per]
        units[key].append(row)
    return units


PER = {"finetune": "study", "ensemble": "study", "linear": "patient", "floor": "image"}


def test_predictions_are_those_of_every_test_unit_with_a_known_truth(study: Study) -> None:
    for job in study.jobs(Stage.EVALUATE):
        per = PER[job.phase]
        table = pq.read_table(study.paths(job).predictions).to_pylist()
        found = {(row["image"], row["label"]): row["truth"] for row in table}
        assert len(found) == len(table)
        expected: dict[tuple[str, str], float] = {}
        for rows in units_of(study, "valid", per).values():
            truths = {label: truth_of(rows, label) for label in ("pleural_effusion", "cardiomegaly", "edema")}
            expected |= {(_image(rows[0]), label): truth for label, truth in truths.items() if not math.isnan(truth)}
        assert found == expected
        assert 0 in found.values() and 1 in found.values()
        result = study.result(job)
        assert result["n_units"] == len(units_of(study, "valid", per))
        assert result["n_patients"] == 16
        assert result["units"]["score_per"] == per


def _image(row: dict[str, str]) -> str:
    """Return the id of an image as the project has it: the path below the folder of the data set."""
    return row["Path"].split("/", 1)[1]


def test_the_metrics_of_every_checkpoint_are_those_of_its_stored_predictions(study: Study) -> None:
    checked = 0
    for job in study.jobs(Stage.TRAIN):
        for kept in study.result(job)["checkpoints"]:
            if job.phase == "pretrain":
                assert set(kept["files"]) == {"safetensors"}
                continue
            values = areas(study, study.store(job).file(kept["name"], "val.parquet"))
            stored = {name.removeprefix("val/auroc/"): v for name, v in kept["metrics"].items() if name.startswith("val/auroc/")}
            assert stored == pytest.approx(values, abs=1e-12)
            assert kept["metrics"]["val/auroc_macro"] == pytest.approx(np.mean(list(values.values())), abs=1e-12)
            pair = [values[name] for name in ("pleural_effusion", "cardiomegaly") if name in values]
            assert kept["metrics"]["val/auroc_pair"] == pytest.approx(np.mean(pair), abs=1e-12)
            checked += len(values)
    assert checked > 20


def areas(study: Study, file: Path) -> dict[str, float]:
    """Return scikit-learn's AUROC of stored validation logits: a study has the largest of its images."""
    logits = {row["image"]: row for row in pq.read_table(file).to_pylist()}
    units = [rows for rows in units_of(study, "train", "study").values() if _image(rows[0]) in logits]
    assert sum(map(len, units)) == len(logits)
    found: dict[str, float] = {}
    for label in ("pleural_effusion", "cardiomegaly", "edema"):
        known = [(truth_of(rows, label), max(logits[_image(row)][f"logit/{label}"] for row in rows)) for rows in units]
        truth, score = zip(*[pair for pair in known if not math.isnan(pair[0])], strict=True)
        if len(set(truth)) == 2:
            found[label] = float(roc_auc_score(truth, score))
    return found


def test_a_pick_takes_the_best_validation_value_of_all_tune_points(study: Study) -> None:
    for job in study.jobs(Stage.PICK):
        metric = job.config["metric"]
        best: list[tuple[float, str, str]] = []
        for candidate in job.config["candidates"]:
            (train,) = candidate["runs"].values()
            kept = CheckpointStore(study.workspace.run.job(train).checkpoints).kept()
            top = max(kept, key=lambda entry: (entry["metrics"][metric], -entry["epoch"]))
            best.append((top["metrics"][metric], train, top["name"]))
        value, train, name = max(best, key=lambda item: item[0])
        (run,) = study.result(job)["choice"]["runs"].values()
        assert (run["value"], run["job"], run["checkpoints"][0]) == (value, train, name)
        assert len(job.config["candidates"]) == (2 if job.labels.get("after") == "pretrain" or job.phase == "linear" else 1)


def test_an_ensemble_is_the_mean_of_probabilities(study: Study) -> None:
    job = study.job(Stage.EVALUATE, phase="ensemble")
    result, store = study.result(job), study.store(study.job(Stage.TRAIN, phase="ensemble"))
    assert sorted(result["checkpoints"]) == ["epoch-0001", "epoch-0002", "epoch-0003"]
    # Validation, from the logits that training stored: the threshold of the choice is that of the mean.
    members = [{row["image"]: row for row in pq.read_table(store.file(n, "val.parquet")).to_pylist()} for n in result["checkpoints"]]
    choice = json.loads(study.paths(job).choice.read_text())
    for label, chosen in choice["thresholds"].items():
        known = []
        for rows in units_of(study, "train", "study").values():
            if _image(rows[0]) in members[0]:
                means = [np.mean([sigmoid(one[_image(row)][f"logit/{label}"]) for one in members]) for row in rows]
                known.append((truth_of(rows, label), max(means)))
        known = [pair for pair in known if not math.isnan(pair[0])]
        assert sigmoid(chosen["youden"]) == pytest.approx(naive_youden(known), rel=1e-6)
        assert chosen["n_pos"] == sum(truth for truth, _ in known)
    # The test split, through the network by hand.
    table = pq.read_table(study.paths(job).predictions).to_pylist()
    expected = probabilities(study, job, result["checkpoints"], store)
    assert table
    for row in table:
        by_hand = max(expected[image][row["label"]] for image in expected if image.rsplit("/", 1)[0] == row["image"].rsplit("/", 1)[0])
        assert sigmoid(row["score"]) == pytest.approx(by_hand, rel=1e-4)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def naive_youden(known: list[tuple[float, float]]) -> float:
    """Return the smallest score that maximises sensitivity + specificity, by trying every one."""
    positive, negative = [s for t, s in known if t == 1], [s for t, s in known if t == 0]

    def merit(at: float) -> int:
        return sum(s >= at for s in positive) * len(negative) + sum(s < at for s in negative) * len(positive)

    return min(sorted(s for _, s in known), key=lambda at: (-merit(at), at))


def probabilities(study: Study, job: JobSpec, names: list[str], store: CheckpointStore) -> dict[str, dict[str, float]]:
    """Return the mean probability of each test image and label over checkpoints, with a network put together here."""
    import cv2

    from trainers.parts import backbones

    root = next(study.workspace.cluster.made_root.glob("tiny-*"))
    backbone = backbones.build("slim", 1, 32).eval()
    head = torch.nn.Linear(192, 3)
    images = {_image(row): cv2.imread(str(root / row["Path"]), cv2.IMREAD_GRAYSCALE) for row in label_rows(study, "valid")}
    found: dict[str, list[torch.Tensor]] = defaultdict(list)
    for name in names:
        state = load_file(store.file(name, "safetensors"))
        backbone.load_state_dict({key.removeprefix("backbone."): v for key, v in state.items() if key.startswith("backbone.")}, strict=True)
        head.load_state_dict({key.removeprefix("head."): v for key, v in state.items() if key.startswith("head.")}, strict=True)
        with torch.no_grad():
            for image, pixels in images.items():
                view = (torch.from_numpy(pixels)[None, None].float() / 255 - 0.5020) / 0.085585
                found[image].append(torch.sigmoid(head(backbone(view))[0].double()))
    labels = study.result(job)["labels"]
    return {image: dict(zip(labels, torch.stack(each).mean(0).tolist(), strict=True)) for image, each in found.items()}
