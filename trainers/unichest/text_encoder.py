"""The frozen text encoder: a BERT from a file, or a small one of fixed random weights with a vocabulary of its own.

KAD's file holds `bert_model.*` and `mlp_embed.{0,2}.*`; a file of Hugging Face transformers holds the BERT alone. The small one knows the
words of `prompts.yaml` and spells out all others: texts that share words lie near to each other, and that is all that it knows.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn

from trainers.api import Setup
from trainers.errors import WeightsError
from trainers.released.files import open_weights
from trainers.unichest.config import Config
from trainers.unichest.prompts import table
from trainers.weights import load_matching

TINY = "tiny"
#: What stands in a config for no file: the small encoder, and in a sample whatever file was not there.
_OWN = (TINY, "", "stand_in")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[ENT]")
#: What reports say besides what prompts do.
_WORDS = (
    "no",
    "or",
    "and",
    "of",
    "in",
    "the",
    "is",
    "possible",
    "left",
    "right",
    "bilateral",
    "mild",
    "moderate",
    "severe",
    "acute",
    "chest",
)
#: The weights of the small encoder are one fixed draw: it stands for a file, and the seed of a run is not in it.
_SEED, _SPREAD = 20240716, 0.5
_TINY_SHAPE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 256,
}
_CHUNK = 64
_HEAD_SIZE = 64


def vocabulary() -> dict[str, int]:
    """Return the small encoder's vocabulary: signs, then letters and digits, then words, each list in a fixed order."""
    texts = [*table()["concepts"].values(), *(text for own in table()["cards"].values() for text in own.values())]
    names = [*table()["concepts"], *table()["synonyms"]]
    words = sorted({word for text in [*texts, *names, *_WORDS] for word in re.findall(r"[a-z0-9]+", text.lower())})
    signs = sorted(string.ascii_lowercase + string.digits + string.punctuation)
    pieces = [*_SPECIAL, *signs, *(f"##{sign}" for sign in signs), *(f"##{end}" for end in ("s", "es", "ed", "ing"))]
    return {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, *words]))}


def read_vocabulary(path: Path) -> dict[str, int]:
    """Read a `vocab.txt`, a piece a line. Raises WeightsError when it lacks what BERT needs."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read as a vocabulary ({error}); name the vocab.txt of the text encoder") from error
    found = {line.rstrip("\n"): index for index, line in enumerate(lines)}
    if lacking := [piece for piece in _SPECIAL[:4] if piece not in found]:
        raise WeightsError(f"{path}: has no {', '.join(lacking)}; name the vocab.txt of the text encoder")
    return found


class TextEncoder(nn.Module):
    """Texts to vectors (n, width): BERT's pooled output or its first token, then what the file has after it."""

    def __init__(self, config: Config, weights: Mapping[str, Path]) -> None:
        super().__init__()
        own = config.text in _OWN and "text" not in weights
        if own is not (config.vocabulary in _OWN and "vocabulary" not in weights):
            raise WeightsError("config.text and config.vocabulary belong together: name the weights and the vocab.txt of one text encoder")
        words = vocabulary() if own else read_vocabulary(weights["vocabulary"])
        self._pooling, self._longest, self._width = config.text_pooling, config.max_length, config.width
        self.tokenizer = BertWordPieceTokenizer(words, lowercase=config.lowercase)
        if own:
            self._build({**_TINY_SHAPE, "vocab_size": len(words)}, config.width, with_head=True)
            self._draw()
        else:
            self._read(weights["text"], config, len(words))
        self._longest = min(self._longest, self._positions)
        self.tokenizer.enable_truncation(self._longest)
        self.tokenizer.enable_padding(pad_id=words["[PAD]"])
        self.requires_grad_(False).eval()

    def _build(self, shape: Mapping[str, Any], width: int, *, with_head: bool) -> None:
        # Here and not above: the import takes seconds, and only a stage needs it.
        from transformers import BertConfig, BertModel

        hidden = shape["hidden_size"]
        self._positions = int(shape["max_position_embeddings"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            self.bert: nn.Module = BertModel(BertConfig(**shape))
            self.head: nn.Module = (
                nn.Sequential(nn.Linear(hidden, width), nn.GELU(), nn.Linear(width, width)) if with_head else nn.Identity()
            )

    @torch.no_grad()
    def _draw(self) -> None:
        """Give the small encoder weights so large that all words of a text come through to its first token."""
        generator = torch.Generator().manual_seed(_SEED)
        for name, value in self.named_parameters():
            if value.ndim > 1:
                spread = 1.0 if "embeddings.word" in name else 0.0 if "embeddings" in name else _SPREAD / value.shape[1] ** 0.5
                # Query and key at zero look at all words alike.
                value.normal_(0.0, 0.0 if re.search(r"\.(query|key)\.", name) else 2 * spread, generator=generator)

    def _read(self, path: Path, config: Config, words: int) -> None:
        """Read a BERT from a file, with its shape. Raises WeightsError when it is none, or does not fit the vocabulary or `width`."""
        state = {name.removeprefix("state_dict."): value for name, value in open_weights(path).state.items()}
        state = {name.removeprefix("module."): value for name, value in state.items()}
        if any(name.startswith("text_encoder.") for name in state):
            state = {name.removeprefix("text_encoder."): value for name, value in state.items() if name.startswith("text_encoder.")}
        prefix = next((start for start in ("bert_model.", "bert.", "") if f"{start}embeddings.word_embeddings.weight" in state), None)
        if prefix is None:
            raise WeightsError(f"{path}: holds no BERT (no key 'embeddings.word_embeddings.weight'): name the weights of a text encoder")
        bert = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        head = {name.removeprefix("mlp_embed."): value for name, value in state.items() if name.startswith("mlp_embed.")}
        shape = _shape_of(bert)
        if shape["vocab_size"] < words:
            raise WeightsError(f"{path}: knows {shape['vocab_size']} pieces and the vocabulary has {words}: they are not of one encoder")
        made = head["2.weight"].shape[0] if head else shape["hidden_size"]
        if made != config.width:
            raise WeightsError(f"{path}: makes vectors of {made}, and config.width is {config.width}: set width: {made}")
        self._build(shape, config.width, with_head=bool(head))
        unread = ("embeddings.position_ids", "cls.*") if prefix == "" else ("embeddings.position_ids",)
        load_matching(self.bert, bert, allowed_unexpected=unread, what=str(path), target="its BERT")
        if head:
            load_matching(self.head, head, what=str(path), target="its projection")

    def encode(self, texts: Sequence[str], *, noisy: bool = False) -> Tensor:
        """Return the vectors of texts, (n, width) float32, in their order; `noisy` leaves dropout on, as the release does in training."""
        parts = [self._of(texts[first : first + _CHUNK], noisy=noisy) for first in range(0, len(texts), _CHUNK)]
        return torch.cat(parts) if parts else torch.empty(0, self._width)

    @torch.no_grad()
    def _of(self, texts: Sequence[str], *, noisy: bool) -> Tensor:
        encoded = self.tokenizer.encode_batch(list(texts))
        device = next(self.bert.parameters()).device
        ids, mask = (torch.from_numpy(np.array([getattr(one, what) for one in encoded])).to(device) for what in ("ids", "attention_mask"))
        self.train(noisy)
        found = self.bert(input_ids=ids, attention_mask=mask)
        self.eval()
        pooled = found.pooler_output if self._pooling == "pooler" else found.last_hidden_state[:, 0]
        return self.head(pooled).float()


def _shape_of(bert: Mapping[str, Tensor]) -> dict[str, int]:
    pieces, hidden = bert["embeddings.word_embeddings.weight"].shape
    layers = {name.split(".")[2] for name in bert if name.startswith("encoder.layer.")}
    return {
        "vocab_size": pieces,
        "hidden_size": hidden,
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(hidden // _HEAD_SIZE, 1),
        "intermediate_size": bert["encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": bert["embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": bert["embeddings.token_type_embeddings.weight"].shape[0],
    }


def text_encoder(setup: Setup) -> TextEncoder:
    """Build a job's text encoder on its device. Raises WeightsError when its files are none, or not of one encoder."""
    return TextEncoder(setup.config, setup.weights).to(setup.device)
