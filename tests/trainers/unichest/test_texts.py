"""Prompts, texts of images and the text encoder."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.trainers.unichest.made_sources import TINY, setup_of, source
from trainers.data.access import Access
from trainers.data.cards import load_card
from trainers.data.open import open_data
from trainers.data.phantom.layout import write_made
from trainers.data.phantom.parameters import parameters_from
from trainers.errors import DataError, Error, WeightsError
from trainers.unichest.config import VERSION
from trainers.unichest.material import Material
from trainers.unichest.prompts import FILE, Prompts, table
from trainers.unichest.reports import of_entities, of_labels, of_report, read_reports
from trainers.unichest.text_encoder import TextEncoder, vocabulary

DIGEST = "1ba5368ced81f82e26f0c8036599f46ad6af0c4eb9255d82f5692d7d3af0b25d"
CARDS = ("chestxray14", "chexpert", "mimic_cxr", "vindr_28", "shenzhen", "openi", "siim", "chestxdet10", "padchest")


def test_there_are_sixty_concepts_each_with_one_text() -> None:
    texts = list(table()["concepts"].values())
    assert len(texts) == 60 and texts[:3] == ["normal", "pleural effusion", "opacity"] and texts[-1] == "Other diseases"
    assert Counter(texts).most_common(1)[0][1] == 1
    assert set(table()["synonyms"].values()) <= set(table()["concepts"])
    assert not set(table()["synonyms"]) & set(table()["concepts"])


def test_a_change_of_the_table_is_a_new_version() -> None:
    """Results hang on the table: whoever changes it raises VERSION and writes the new digest here."""
    assert (VERSION, hashlib.sha256(FILE.read_bytes()).hexdigest()) == (1, DIGEST)


def test_what_is_asked_on_a_card_are_its_own_labels_in_one_wording_or_the_cards() -> None:
    cards = {name: load_card(name).label_names for name in CARDS}
    assert all(set(own) <= set(cards[name]) for name, own in table()["cards"].items() if name in cards)
    union = Prompts().concepts([cards[name] for name in ("mimic_cxr", "chestxray14", "chexpert", "vindr_28")])
    # 14 of CheXpert and MIMIC, 7 more of ChestX-ray14, 16 more of VinDr: what they share is one concept.
    assert len(union) == 37 and {Prompts().text(concept) for concept in union} <= set(table()["concepts"].values())
    ours, theirs = Prompts(), Prompts(wording="card")
    assert (ours.text("mass", "chestxray14"), theirs.text("mass", "chestxray14")) == ("mass", "lung mass")
    assert theirs.text("other_diseases", "vindr_28") == "Other disease"
    assert ours.text("lung_opacity", "openi") == "opacity" and ours.concept("effusion") == "pleural_effusion"
    assert ours.text("kerley_lines", "padchest") == "kerley lines"
    assert Prompts(ask={"kerley_lines": "septal lines"}, wording="card").text("kerley_lines", "padchest") == "septal lines"


def test_two_labels_of_one_card_are_not_one_concept_unless_one_is_asked_otherwise() -> None:
    with pytest.raises(Error, match=r"labels 'mass' and 'pulmonary_mass' of one card are both the concept 'mass': .*ask: \{pulmonary_mass"):
        Prompts().concepts([("mass", "pulmonary_mass")])
    assert Prompts(ask={"pulmonary_mass": "mass of the lung"}).concepts([("mass", "pulmonary_mass")]) == ("mass", "pulmonary_mass")


# --- texts -------------------------------------------------------------------------------------------------------------------------------


def test_texts_of_labels_reports_and_entities() -> None:
    assert of_labels(["edema", "pneumonia"]) == "edema [SEP] pneumonia [SEP]" and of_labels([]) == ""
    report = "EXAM: chest\nINDICATION: Cough. Fever.\nFINDINGS: Left effusion.  No edema.\nIMPRESSION: Effusion."
    assert of_report(report) == "Left effusion. [SEP] No edema. [SEP] Effusion."
    assert of_report("Heart large.\nNo edema.") == "Heart large. [SEP] No edema."
    item = {
        "entities": [{"caption": "x", "entity": [{"Entity": "effusion"}, {"Entity": "left"}]}, {"caption": "y", "entity": []}],
        "caption": ["x", "y"],
    }
    assert of_entities(item) == "[ENT] effusion [ENT] left [SEP]"
    assert of_entities({"entities": [], "caption": ["x", "y"]}) == "x [SEP] y"


def test_reports_are_used_where_a_source_has_them_and_labels_elsewhere(tmp_path: Path) -> None:
    accesses = (source("alpha"), source("beta"))
    rows = accesses[0].rows("train")
    file = tmp_path / "reports.json"
    content = {"alpha": {str(rows.images[0]): "A large heart.", str(rows.studies[1]): {"entities": [], "caption": ["nothing"]}}}
    file.write_text(json.dumps(content))
    material = Material(setup_of(TINY, accesses=accesses, weights={"reports": file}), Prompts())
    texts = [material.texts[index] for index in material.text_of]
    assert texts[:2] == ["A large heart.", "nothing"]
    for row in range(2, len(rows)):
        named = [prompt for prompt, label in zip(("pleural effusion", "nodule"), rows.labels[row], strict=True) if label == 1]
        assert texts[row] == of_labels(named)
    assert "Tuberculosis [SEP]" in texts[len(rows) :]
    assert material.texts == sorted(set(texts))
    normal = Material(setup_of(replace(TINY, without_positives="normal"), accesses=accesses), Prompts())
    assert "No Finding [SEP]" in normal.texts and "" not in normal.texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "cannot be read as JSON"),
        ("[]", "is a list and no mapping"),
        ('{"alpha": []}', "alpha is a list and no mapping from an image or a study"),
        ('{"alpha": {"x": 3}}', "alpha.x is neither a report nor"),
        ('{"alpha": {"x": {"entities": [{"entity": [{"name": "y"}]}]}}}', "alpha.x is neither a report nor"),
    ],
)
def test_reports_that_are_none_are_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "reports.json"
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        read_reports(file)


@pytest.mark.parametrize(
    ("content", "message"), [({"gamma": {}}, "'gamma' is no source; there are alpha, beta"), ({"alpha": {"x": "y"}}, "none of its")]
)
def test_reports_of_nobody_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "reports.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        Material(setup_of(TINY, weights={"reports": file}), Prompts())


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (
            "FINDINGS: \n \n Lungs: clear.  Heart: large.\n \n IMPRESSION: \n \n No edema.",
            "Lungs: clear. [SEP] Heart: large. [SEP] No edema.",
        ),
        ("FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n\n FINDINGS AND IMPRESSION:  Large heart.", "Large heart."),
        ("EXAMINATION: CHEST\n \n INDICATION: Cough.\n \n As before.  No change.\n", "As before. [SEP] No change."),
        ("FINDINGS: \n \n \n \n IMPRESSION: \n", ""),
        ("Findings: Large heart.\nTechnique: AP.", "Large heart."),
        ("CHEST (PORTABLE AP):\n\n Large heart.\n\n COMPARISON/TECHNIQUE: None.\n", "None."),
    ],
)
def test_sections_are_told_by_headings_in_capitals(report: str, text: str) -> None:
    assert of_report(report) == text


def test_a_source_whose_reader_knows_of_reports_has_them_as_texts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said: list[str | None] = ["FINDINGS: A large heart.", "FINDINGS:\nIMPRESSION:", None]
    accesses = (source("alpha", reports=lambda rows: [*said, *["IMPRESSION: No edema."] * (len(rows) - 3)]), source("beta"))
    rows = accesses[0].rows("train")
    plain = Material(setup_of(TINY, accesses=accesses), Prompts())
    asked = Material(setup_of(replace(TINY, texts="reports"), accesses=accesses), Prompts())
    by_label, texts = ([one.texts[index] for index in one.text_of] for one in (plain, asked))
    assert texts[:4] == ["A large heart.", by_label[1], by_label[2], "No edema."] and set(texts[3 : len(rows)]) == {"No edema."}
    # A source without reports, and who does not ask, have the names of their labels.
    assert texts[len(rows) :] == by_label[len(rows) :] and "A large heart." not in by_label
    assert asked.told == {"alpha": len(rows) - 2, "beta": 0} and not any(plain.told.values())
    assert f"2 of {len(rows)} training images of alpha have no report" in caplog.text
    file = tmp_path / "reports.json"
    file.write_text(json.dumps({"alpha": {str(rows.images[0]): "Nothing."}}))
    both = Material(setup_of(replace(TINY, texts="reports"), accesses=accesses, weights={"reports": file}), Prompts())
    assert [both.texts[index] for index in both.text_of[:4]] == ["Nothing.", by_label[1], by_label[2], "No edema."]


def test_reports_that_nobody_has_or_that_say_nothing_are_refused() -> None:
    config = replace(TINY, texts="reports")
    with pytest.raises(
        DataError, match=r"config\.texts: none of alpha, beta has reports: name a card that does, such as .* set texts: labels"
    ):
        Material(setup_of(config), Prompts())
    silent = (source("alpha", reports=lambda rows: ["FINDINGS:"] * len(rows)), source("beta"))
    with pytest.raises(DataError, match="'alpha': no report of a training image says anything"):
        Material(setup_of(config, accesses=silent), Prompts())


def test_texts_of_real_layouts_are_read_by_their_readers(tmp_path: Path) -> None:
    """MIMIC-CXR's archive and Open-I's XML as made data, opened as a job opens them."""
    accesses = tuple(made_access(name, tmp_path) for name in ("mimic_cxr_reports", "openi"))
    config = replace(TINY, texts="reports")
    material = Material(setup_of(config, accesses=accesses), Prompts())
    rows = [access.rows("train") for access in accesses]
    for index, (name, one) in enumerate(zip(("mimic_cxr_reports", "openi"), rows, strict=True)):
        texts = [material.texts[text] for text in material.text_of[material.source == index]]
        told = [text for text in texts if text.endswith(".")]
        assert material.told[name] == len(told) > 0.5 * len(one)
        assert not any("FINDINGS" in text or "Made data" in text for text in texts)
        column = one.label_names.index("cardiomegaly")
        sick = [text for text, value in zip(texts, one.labels[:, column], strict=True) if value == 1]
        assert sick and all("cardiomegaly" in text.lower() for text in sick)


def made_access(name: str, folder: Path) -> Access:
    card = load_card(name)
    parameters = parameters_from({**card.made["parameters"], "patients_train": 16, "patients_valid": 6, "px": 32})
    made = write_made(folder / name, parameters, card.made.get("layout", card.reader))
    return open_data({"card": name, "made": made.fingerprint}, None, lambda place: made.root, folder / "cache", lambda split: True)


# --- encoder -----------------------------------------------------------------------------------------------------------------------------


def test_the_small_encoder_is_the_same_everywhere_and_knows_shared_words() -> None:
    torch.manual_seed(1)
    one = TextEncoder(TINY, {})
    torch.manual_seed(2)
    other = TextEncoder(TINY, {})
    texts = ["pleural effusion", "effusion", "cardiomegaly", "left pleural effusion"]
    vectors = one.encode(texts)
    assert torch.equal(vectors, other.encode(texts)) and not any(value.requires_grad for value in one.parameters())
    near = functional.cosine_similarity(vectors[0], vectors, dim=1)
    assert near[1] > near[2] and near[3] > near[2]
    assert list(vocabulary())[:6] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[ENT]"]
    pieces = one.tokenizer.encode("pneumomediastinum 7 [SEP]").tokens
    assert "[UNK]" not in pieces and pieces.count("[SEP]") == 2


def test_company_and_dropout_do_not_change_a_text_unless_asked_for() -> None:
    encoder = TextEncoder(TINY, {})
    together = encoder.encode(["edema", "a text that is much longer than that, with many more words of all kinds"])
    assert torch.allclose(together[0], encoder.encode(["edema"])[0], atol=1e-5)
    noisy = encoder.encode(["edema"], noisy=True)
    assert not torch.allclose(noisy, encoder.encode(["edema"], noisy=True)) and not encoder.training
    assert torch.equal(encoder.encode(["edema"]), encoder.encode(["edema"]))


def kad(folder: Path, width: int = 32) -> dict[str, Path]:
    """Write a text encoder as KAD does: `bert_model`, `mlp_embed` and a scale, and its vocabulary."""
    from transformers import BertConfig, BertModel

    words = list(vocabulary())
    bert = BertModel(BertConfig(vocab_size=len(words), hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=32))
    head = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.GELU(), torch.nn.Linear(width, width))
    state = {f"bert_model.{name}": value for name, value in bert.state_dict().items()}
    state |= {f"mlp_embed.{name}": value for name, value in head.state_dict().items()} | {"logit_scale": torch.tensor(1.0)}
    torch.save({"state_dict": state, "epoch": 3}, folder / "kad.pt")
    torch.save(bert.state_dict(), folder / "plain.pt")
    (folder / "vocab.txt").write_text("\n".join(words))
    return {"text": folder / "kad.pt", "vocabulary": folder / "vocab.txt"}


def test_kads_file_is_read_whole_and_a_plain_bert_where_the_width_is_its_own(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    files = kad(tmp_path)
    encoder = TextEncoder(replace(TINY, text="file", vocabulary="file"), files)
    state = torch.load(files["text"], weights_only=True)["state_dict"]
    bert = BertModel(
        BertConfig(vocab_size=len(vocabulary()), hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=32)
    )
    bert.load_state_dict({name.removeprefix("bert_model."): value for name, value in state.items() if name.startswith("bert_model.")})
    ids = torch.tensor([encoder.tokenizer.encode("pleural effusion").ids])
    pooled = bert.eval()(input_ids=ids).pooler_output
    expected = functional.linear(pooled, state["mlp_embed.0.weight"], state["mlp_embed.0.bias"])
    expected = functional.linear(functional.gelu(expected), state["mlp_embed.2.weight"], state["mlp_embed.2.bias"])
    assert torch.allclose(encoder.encode(["pleural effusion"]), expected, atol=1e-5)
    plain = replace(TINY, text="file", vocabulary="file", width=64)
    found = TextEncoder(plain, {**files, "text": tmp_path / "plain.pt"}).encode(["pleural effusion"])
    assert torch.allclose(found, pooled, atol=1e-5)
    first = TextEncoder(replace(plain, text_pooling="first"), {**files, "text": tmp_path / "plain.pt"}).encode(["pleural effusion"])
    assert torch.allclose(first, bert(input_ids=ids).last_hidden_state[:, 0], atol=1e-5)


def test_a_text_encoder_that_is_none_is_refused(tmp_path: Path) -> None:
    files, config = kad(tmp_path), replace(TINY, text="file", vocabulary="file")
    with pytest.raises(WeightsError, match="belong together"):
        TextEncoder(replace(TINY, text="file"), {"text": files["text"]})
    with pytest.raises(WeightsError, match=r"makes vectors of 32, and config\.width is 48: set width: 32"):
        TextEncoder(replace(config, width=48), files)
    torch.save({"fc.weight": torch.ones(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="holds no BERT"):
        TextEncoder(config, {**files, "text": tmp_path / "other.pt"})
    (tmp_path / "words.txt").write_text("a\nb")
    with pytest.raises(WeightsError, match=r"has no \[PAD\], \[UNK\], \[CLS\], \[SEP\]"):
        TextEncoder(config, {**files, "vocabulary": tmp_path / "words.txt"})
    (tmp_path / "long.txt").write_text("\n".join([*vocabulary(), *(f"word{index}" for index in range(9))]))
    with pytest.raises(WeightsError, match="they are not of one encoder"):
        TextEncoder(config, {**files, "vocabulary": tmp_path / "long.txt"})
