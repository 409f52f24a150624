"""The resolver of a real machine: digests, made data, weights, folds."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from orchestrator.errors import DataError, WeightsError
from orchestrator.model import ClusterConfig, Draws, Sample
from orchestrator.resolving import FILE, STAND_IN, Digests, DiskResolver
from trainers.data.cards import card_digest, list_cards, load_card

_IMAGE = "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"
CSV = f"Path,Sex,Age,Frontal/Lateral,AP/PA,Pleural Effusion\n{_IMAGE},Male,50,Frontal,AP,1.0\n"


def cluster(folder: Path, **more: object) -> ClusterConfig:
    return ClusterConfig(name="here", run_root=folder / "runs", made_root=folder / "made", **more)  # type: ignore[arg-type]


def resolver(folder: Path, *, sample: bool = False, **more: object) -> DiskResolver:
    return DiskResolver(cluster=cluster(folder, **more), catalog={}, sample=sample)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    root = tmp_path / "data" / "chexpert"
    root.mkdir(parents=True)
    for name in ("train.csv", "valid.csv"):
        (root / name).write_text(CSV, encoding="utf-8")
    return root


def test_a_data_set_is_its_card_and_its_label_files(tmp_path: Path, chexpert: Path) -> None:
    ref = resolver(tmp_path, data_root=tmp_path / "data").data("chexpert")
    assert ref.resolved
    assert ref.identity["card_sha256"] == card_digest(load_card("chexpert"))
    assert ref.identity["files"] == {"train.csv": sha(chexpert / "train.csv"), "valid.csv": sha(chexpert / "valid.csv")}
    assert ref.identity["split"]["patients_by_hash"] == {"val": 0.1}
    assert ref.defaults == {"score_per": "study", "views": "max_logit", "cluster": "patient"}
    assert ref.traits == {"sex": "Sex", "age": "Age", "view": "Frontal/Lateral"}
    json.dumps(ref.identity)
    (chexpert / "train.csv").write_text(CSV + CSV.splitlines()[1] + "\n", encoding="utf-8")
    assert resolver(tmp_path, data={"chexpert": chexpert}).data("chexpert").identity["files"] != ref.identity["files"]


def test_what_cards_say_of_each_other_needs_no_data(tmp_path: Path) -> None:
    here = resolver(tmp_path)
    assert here.overlap("rsna", "chestxray14", "test") == "card 'rsna' says that images of 'chestxray14' are in it"
    assert here.overlap("xrays_926k", "shenzhen", "test") == "'xrays_926k' holds train and val and test of 'shenzhen'"
    assert here.overlap("chexpert", "chestxray14", "test") == ""
    assert "chexpert" in here.pooled("xrays_926k", "train") and here.pooled("chexpert", "train") == ()


def test_data_out_of_reach_is_unresolved_and_says_why(tmp_path: Path) -> None:
    here = resolver(tmp_path, data_root=tmp_path / "nowhere")
    ref = here.data("chexpert")
    assert not ref.resolved
    assert ref.identity["files"] == {}
    assert "chexpert" in ref.problem
    assert here.first_unresolved() == ref.problem
    assert not here.made_data
    with pytest.raises(DataError, match="did you mean 'chexpert'"):
        here.data("chexprt")


def test_a_file_is_read_again_only_when_size_or_time_changed(tmp_path: Path) -> None:
    file, store = tmp_path / "labels.csv", tmp_path / "cache" / "digests.json"
    file.write_text("one", encoding="utf-8")
    digests = Digests(store)
    first = digests.of(file)
    assert first == sha(file)
    digests.save()
    content = json.loads(store.read_text(encoding="utf-8"))
    content[str(file.resolve())][-1] = "remembered"
    store.write_text(json.dumps(content), encoding="utf-8")
    assert Digests(store).of(file) == "remembered"
    about = file.stat()
    file.write_text("two", encoding="utf-8")
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert Digests(store).of(file) == sha(file), "as large and as old as before, and not the same"
    file.write_text("one", encoding="utf-8")
    store.write_text("{not json", encoding="utf-8")
    assert Digests(store).of(file) == first


def test_made_data_need_no_files(tmp_path: Path) -> None:
    here = resolver(tmp_path)
    ref = here.data("phantom")
    assert ref.resolved
    assert ref.identity["made"]["generator"] == "phantom"
    assert ref.identity["made"]["parameters"]["patients_train"] == load_card("phantom").made["parameters"]["patients_train"]
    assert "files" not in ref.identity
    assert here.made_data
    assert not (tmp_path / "made").exists()


def test_in_a_sample_every_card_is_made_small_and_of_its_own_patients(tmp_path: Path) -> None:
    here = resolver(tmp_path, sample=True)
    here.use_sample(Sample(px=48, n=90))
    made = {name: here.data(name).identity["made"]["parameters"] for name in ("chexpert", "phantom", "phantom_unlabelled")}
    assert {name: (each["patients_train"], each["patients_valid"], each["px"]) for name, each in made.items()} == {
        "chexpert": (60, 30, 48),
        "phantom": (60, 30, 48),
        "phantom_unlabelled": (90, 0, 48),
    }
    assert made["chexpert"]["seed"] != made["phantom"]["seed"]
    assert made["phantom_unlabelled"]["first_patient"] > made["phantom"]["first_patient"] + 90
    # What comes with the package is there, and real.
    assert "made" not in here.data("kermany16").identity
    assert resolver(tmp_path, data_root=tmp_path).data("chexpert").identity.get("made") is None


@pytest.mark.parametrize("name", sorted(name for name in list_cards() if load_card(name).made or load_card(name).members))
def test_a_sample_can_be_made_of_every_card(tmp_path: Path, name: str) -> None:
    ref = resolver(tmp_path, sample=True).data(name)
    assert ref.resolved
    assert ref.identity["made"]["generator"] in ("phantom", "union")


def test_folds_are_counted_from_the_data(tmp_path: Path) -> None:
    here = resolver(tmp_path)
    assert here.folds("kermany16", Draws(scheme="leave_pair_out")) == 56
    assert here.folds("chexpert", Draws(scheme="kfold", folds=7)) == 7
    with pytest.raises(DataError, match="use kfold"):
        here.folds("phantom", Draws(scheme="leave_pair_out"))


def test_a_start_is_a_word_or_a_file(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"weights")
    here = resolver(tmp_path, weights={"resnet18": own, "ours": own})
    assert here.weights("random", arch="resnet18") is None
    for value, named in (("imagenet", None), ("ours", FILE), (str(own), FILE), ("ours#key", f"{FILE}#key")):
        ref = here.weights(value, arch="resnet18")
        assert ref is not None
        assert (ref.sha256, ref.named, ref.resolved) == (sha(own), named, True)
    assert here.weight_files == {sha(own): own}
    with pytest.raises(WeightsError, match="correct the path"):
        here.weights(str(tmp_path / "gone.pt"), arch="resnet18")


def test_a_sample_has_stand_ins_for_weights_that_are_not_here(tmp_path: Path) -> None:
    here = resolver(tmp_path, sample=True)
    ref = here.weights("imagenet", arch="slim")
    assert ref is not None
    assert (ref.sha256, ref.named) == (None, STAND_IN)
    assert here.made_data
    with pytest.raises(WeightsError):
        resolver(tmp_path).weights("imagenet", arch="slim")
