"""Train a very small BERT on a dozen reviews and write it by ``save_pretrained``.

There is no code in the archive. The server finds config.json, takes the task from the architecture
that it names, and answers ``{"inputs": ...}`` as the pipeline of that task does. Nothing is
fetched: the tokenizer, too, is made here.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

GOOD = ["a lovely film", "great story and great cast", "I loved it", "the best of the year",
        "a warm and funny film", "wonderful"]  # fmt: skip
BAD = ["a dull film", "terrible story and bad cast", "I hated it", "the worst of the year",
       "a cold and boring film", "awful"]  # fmt: skip
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One that knows the words of the reviews."""
    words = sorted({word.lower() for text in GOOD + BAD for word in text.split()})
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]",
        cls_token="[CLS]", sep_token="[SEP]", model_max_length=64,
    )  # fmt: skip


def train(model_dir: Path) -> None:
    """Write all that goes into the archive: configuration, weights and tokenizer."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, id2label={0: "BAD", 1: "GOOD"},
        label2id={"BAD": 0, "GOOD": 1},
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    batch = tokenizer(GOOD + BAD, padding=True, return_tensors="pt")
    labels = torch.tensor([1] * len(GOOD) + [0] * len(BAD))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(60):
        optimizer.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(model_dir)
    tokenizer.save_pretrained(model_dir)
