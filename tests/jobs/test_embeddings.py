"""Embeddings through the seam: handed out by an evaluation, read back by a probe, and shut until the choice is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import f1_score

from jobs import main
from jobs.spec import Stage
from tests.jobs.study import Study, again, label_rows, lay, said
from trainers.data import transforms
from trainers.data.access import Access
from trainers.data.images import open_store
from trainers.data.open import gallery_of
from trainers.parts import backbones
from trainers.parts.inputs import Normalizer

SWEEP = """sweep: embed
data: tiny
phases:
  linear:
    trainer: classification
    config: {arch: slim, px: 32, freeze: backbone, batch_size: 16}
    pick: {metric: val/auroc_macro}
    evaluate: [{data: same, split: test, OUTPUTS}]
"""
WITH, WITHOUT = (
    SWEEP.replace("OUTPUTS", "outputs: [predictions, embeddings, arrays], thresholds: as_published"),
    SWEEP.replace(", OUTPUTS", ""),
)
PROBE = """sweep: external
data: tiny
phases:
  external:
    trainer: embedding_probe
    config: {embeddings: "FILE"}
    pick: {metric: val/auroc_macro}
    evaluate: [{data: same, split: test}]
"""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = lay(tmp_path_factory.mktemp("embedded"), WITH)
    study.run()
    return study


def table(study: Study) -> dict[str, Any]:
    read = pq.read_table(study.paths(study.job(Stage.EVALUATE)).embeddings)
    return {name: read.column(name).to_pylist() for name in read.column_names}


def by_hand(study: Study, images: Sequence[str]) -> np.ndarray:
    """Return the features of images with the network of the kept checkpoint, one at a time."""
    from trainers.data.cards import load_card
    from trainers.data.located import locate

    train = study.job(Stage.TRAIN)
    state = load_file(study.store(train).file("epoch-0001", "safetensors"))
    network = backbones.build("slim", 1, 32)
    network.load_state_dict({name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")})
    network.eval()
    (folder,) = study.workspace.cluster.made_root.glob("tiny-*")
    place = locate(load_card("tiny", [study.folder / "cards"]), lambda _: folder, [study.folder / "cards"])
    index = place.index()
    store = open_store(gallery_of(place, index), 32, study.folder / "other_cache")
    at = {name: position for position, name in enumerate(index.images.tolist())}
    normalize, found = Normalizer("cxr", 1), []
    with torch.no_grad():
        for image in images:
            view = torch.from_numpy(transforms.plain(store, np.array([at[image]]), 32))
            found.append(network(normalize(view)).numpy()[0])
    return np.array(found)


def test_every_image_has_the_features_that_the_network_gives_it_alone(embedded: Study) -> None:
    found, result = table(embedded), embedded.result(embedded.job(Stage.EVALUATE))
    assert result["embeddings"]["images"] == {split: found["split"].count(split) for split in ("train", "val", "test")}
    assert list(found) == ["card", "image", "patient", "study", "split", "embedding"] and set(found["card"]) == {"tiny"}
    assert found["split"].count("test") == len(label_rows(embedded, "valid"))
    assert len(set(found["image"])) == len(found["image"])
    some = list(range(0, len(found["image"]), 7))
    vectors = np.array([found["embedding"][index] for index in some], np.float32)
    assert vectors.shape[1] == result["embeddings"]["dimension"] == 192
    assert np.allclose(vectors, by_hand(embedded, [found["image"][index] for index in some]), atol=1e-5)
    assert np.ptp(vectors, axis=0).max() > 0.01


def test_the_result_names_the_file_by_a_digest_of_its_content(embedded: Study) -> None:
    found, digest = table(embedded), hashlib.sha256()
    for split in ("train", "val", "test"):
        rows = [index for index, name in enumerate(found["split"]) if name == split]
        vectors = np.array([found["embedding"][index] for index in rows], np.float32)
        digest.update("\n".join([split, *(found["image"][index] for index in rows)]).encode() + vectors.tobytes())
    result = embedded.result(embedded.job(Stage.EVALUATE))
    assert result["embeddings"]["digest"] == digest.hexdigest()
    assert set(result["data"][0]["splits"]) == {"train", "val", "test"}


def test_arrays_hold_what_the_predictions_do(embedded: Study) -> None:
    job = embedded.job(Stage.EVALUATE)
    here, said = embedded.paths(job).arrays / "tiny", embedded.result(job)
    truth, probability = np.load(here / "gt.npy"), np.load(here / "pred.npy")
    images = (here / "images.txt").read_text().split()
    assert said["arrays"]["shape"] == list(truth.shape) == [said["n_units"], len(said["labels"])]
    rows = pq.read_table(embedded.paths(job).predictions).to_pylist()
    assert len(rows) == int((truth >= 0).sum())
    for row in rows:
        at = images.index(row["image"]), said["labels"].index(row["label"])
        assert truth[at] == row["truth"] and probability[at] == pytest.approx(1 / (1 + np.exp(-row["score"])), abs=1e-6)
    header, values = (line.split(",") for line in (here / "result.csv").read_text().splitlines())
    assert dict(zip(header, values, strict=True)) == {
        "metric": "AUC",
        **{label: repr(said["metrics"][f"test/tiny/auroc/{label}"]) for label in said["labels"]},
        "mean": repr(said["metrics"]["test/tiny/auroc_macro"]),
    }


def test_thresholds_as_published_are_in_the_result_and_not_in_the_choice(embedded: Study) -> None:
    job = embedded.job(Stage.EVALUATE)
    said, choice = embedded.result(job), json.loads(embedded.paths(job).choice.read_text(encoding="utf-8"))
    assert said["thresholds"] == "as_published" and set(said["thresholds_on_test"]) == set(said["labels"])
    rows = pq.read_table(embedded.paths(job).predictions).to_pandas()
    for label, found in said["thresholds_on_test"].items():
        truth, score = (rows[rows.label == label][name].to_numpy() for name in ("truth", "score"))
        assert (found["n_pos"], found["n_neg"]) == ((truth == 1).sum(), (truth == 0).sum())
        best = max(f1_score(truth, score >= limit) for limit in set(score))
        assert f1_score(truth, score >= np.float32(found["f1"])) == best
    # Validation has its own, of other cases, and is asked first.
    chosen = {label: {name: row[name] for name in ("f1", "n_pos", "n_neg")} for label, row in choice["thresholds"].items()}
    assert set(chosen) == set(said["labels"]) and chosen != said["thresholds_on_test"] and "on_test" not in str(choice)


def test_where_they_are_not_asked_for_nothing_of_a_job_changes(embedded: Study, tmp_path: Path) -> None:
    plain = again(embedded, tmp_path, WITHOUT)
    plain.run()
    job, other = plain.job(Stage.EVALUATE), embedded.job(Stage.EVALUATE)
    assert "embeddings" not in job.config and job.job_id != other.job_id
    assert plain.job(Stage.TRAIN).job_id == embedded.job(Stage.TRAIN).job_id
    assert not plain.paths(job).embeddings.exists() and not plain.paths(job).arrays.exists() and "arrays" not in plain.result(job)
    assert set(plain.result(job)["data"][0]["splits"]) == {"val", "test"}
    assert plain.paths(job).predictions.read_bytes() == embedded.paths(other).predictions.read_bytes()
    assert not {"embeddings", "thresholds", "thresholds_on_test"} & set(plain.result(job))
    assert plain.paths(job).choice.read_bytes() == embedded.paths(other).choice.read_bytes()


def test_test_images_are_embedded_after_the_choice_and_training_images_for_embeddings_alone(
    embedded: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, bool]] = []
    find = Access.find
    for name, sweep in (("with", WITH), ("without", WITHOUT)):
        study = again(embedded, tmp_path / name, sweep)
        choice = study.paths(study.job(Stage.EVALUATE)).choice

        def watched(access: Access, split: str, choice: Path = choice) -> Any:
            opened.append((split, choice.exists()))
            return find(access, split)

        study.run(study.jobs(Stage.TRAIN) + study.jobs(Stage.PICK))
        monkeypatch.setattr(Access, "find", watched)
        study.run(study.jobs(Stage.EVALUATE))
        monkeypatch.setattr(Access, "find", find)
        splits = {split for split, _ in opened}
        assert all(chosen for split, chosen in opened if split == "test")
        assert splits == ({"train", "val", "test"} if name == "with" else {"val", "test"})
        opened.clear()


def test_embeddings_of_the_test_split_before_the_choice_are_refused(
    embedded: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A choice that never reaches the disk opens nothing, though embeddings are asked for."""
    from trainers import evaluation

    study = again(embedded, tmp_path, WITH)
    study.run(study.jobs(Stage.TRAIN) + study.jobs(Stage.PICK))
    plain = evaluation.evaluate
    monkeypatch.setattr(evaluation, "evaluate", lambda request, choose, predictions: plain(request, lambda choice: None, predictions))
    job = study.job(Stage.EVALUATE)
    assert main.run(study.paths(job).job) == main.EXIT_FAILED
    assert "split 'test' of card 'tiny' is shut here" in study.last_event(job)["message"]
    assert not study.paths(job).embeddings.exists()


def test_a_probe_on_the_file_scores_as_the_classifier_on_the_same_frozen_network(embedded: Study, tmp_path: Path) -> None:
    file = embedded.paths(embedded.job(Stage.EVALUATE)).embeddings
    probe = again(embedded, tmp_path, PROBE.replace("FILE", str(file)))
    train, evaluate = probe.job(Stage.TRAIN), probe.job(Stage.EVALUATE)
    assert train.weights == {"embeddings": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert train.config["embeddings"] == "file"
    probe.run()
    ours, theirs = (pq.read_table(study.paths(study.job(Stage.EVALUATE)).predictions) for study in (probe, embedded))
    for column in ("image", "patient", "study", "label", "truth"):
        assert ours.column(column).to_pylist() == theirs.column(column).to_pylist()
    assert np.allclose(ours.column("score").to_numpy(), theirs.column("score").to_numpy(), atol=1e-4)
    assert np.ptp(ours.column("score").to_numpy()) > 0.1
    result = probe.result(train)["embeddings"]
    assert (result["dimension"], result["joined_by_file_name"]) == (192, 0)
    assert result["used"] + result["unused"] == result["vectors"] and result["unused"] > 0
    assert f"{result['vectors']:,} vectors of 192 numbers" in said(probe.paths(train))
    assert probe.result(evaluate)["test_digest"] == embedded.result(embedded.job(Stage.EVALUATE))["test_digest"]


def test_another_table_is_another_job_and_a_table_that_changed_is_refused(embedded: Study, tmp_path: Path) -> None:
    file = tmp_path / "mine.parquet"
    file.write_bytes(embedded.paths(embedded.job(Stage.EVALUATE)).embeddings.read_bytes())
    probe = again(embedded, tmp_path / "one", PROBE.replace("FILE", str(file)))
    read = pq.read_table(file)
    pq.write_table(read.slice(1), file)
    other = again(embedded, tmp_path / "other", PROBE.replace("FILE", str(file)))
    assert other.job(Stage.TRAIN).job_id != probe.job(Stage.TRAIN).job_id
    assert main.run(probe.paths(probe.job(Stage.TRAIN)).job) == main.EXIT_FAILED
    assert "is not the file that 'embeddings' was planned with" in probe.last_event(probe.job(Stage.TRAIN))["message"]
    assert main.run(other.paths(other.job(Stage.TRAIN)).job) == main.EXIT_FAILED
    assert "1 of " in (message := other.last_event(other.job(Stage.TRAIN))["message"]) and "have no vector, the first are" in message
    assert read.column("image")[0].as_py() in message


def test_the_spec_of_a_probe_says_nothing_of_the_place_of_its_table(embedded: Study, tmp_path: Path) -> None:
    file = embedded.paths(embedded.job(Stage.EVALUATE)).embeddings
    copied = tmp_path / "elsewhere.parquet"
    copied.write_bytes(file.read_bytes())
    one, other = (again(embedded, tmp_path / name, PROBE.replace("FILE", str(path))) for name, path in (("a", file), ("b", copied)))
    assert [job.job_id for job in one.plan.jobs] == [job.job_id for job in other.plan.jobs]
    assert str(copied) not in json.dumps([dict(job.config) for job in other.plan.jobs])
