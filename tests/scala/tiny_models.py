"""Tiny random encoders of every architecture that the injection promises to serve, and a tiny data set for them."""

import string
from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    BertTokenizer,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedModel,
    RobertaConfig,
)

VOCABULARY = 60
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
_SIZES |= {"max_position_embeddings": 40, "pad_token_id": 1}

CONFIGS = {
    "bert": BertConfig(**_SIZES),
    "roberta": RobertaConfig(**_SIZES),
    "distilbert": DistilBertConfig(
        vocab_size=VOCABULARY, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=40, pad_token_id=1
    ),
    "electra": ElectraConfig(**_SIZES, embedding_size=8),
    "albert": AlbertConfig(**_SIZES, embedding_size=8),
    "deberta-v2": DebertaV2Config(**_SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"]),
    "mpnet": MPNetConfig(**_SIZES),
    "modernbert": ModernBertConfig(**_SIZES, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3),
}


def tiny_model(name: str = "bert", seed: int = 0, dropout: float | None = None, outputs: int = 2) -> PreTrainedModel:
    config = type(CONFIGS[name])(**CONFIGS[name].to_dict())
    config.num_labels = outputs
    if dropout is not None:
        for key in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
            if hasattr(config, key):
                setattr(config, key, dropout)
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_config(config)


def tiny_data(samples: int, seed: int = 0, shortest: int = 3, longest: int = 9) -> Dataset:
    """Sequences of random length; the label says whether the first token is of the upper half of the vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for i in range(samples):
        length = int(torch.randint(shortest, longest + 1, (), generator=generator))
        ids = torch.randint(5, VOCABULARY, (length,), generator=generator).tolist()
        rows.append({"input_ids": ids, "attention_mask": [1] * length, "label": int(ids[0] > VOCABULARY // 2), "idx": i})
    return Dataset.from_list(rows)


def tiny_encoder(folder: Path) -> Path:
    """A random BERT of 20,000 weights and a tokenizer that spells words letter by letter."""
    letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *string.ascii_lowercase]
    letters += [f"##{letter}" for letter in string.ascii_lowercase]
    (folder / "vocab.txt").write_text("\n".join(letters))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = _SIZES | {"vocab_size": len(letters), "max_position_embeddings": 130, "pad_token_id": 0}
    BertModel(BertConfig(**sizes)).save_pretrained(folder)
    return folder


def collate(rows: list[dict], to: int = 0) -> dict[str, torch.Tensor]:
    """Pad to the longest row, or to `to`."""
    longest = max(to, *(len(row["input_ids"]) for row in rows))
    batch = {
        "input_ids": torch.tensor([row["input_ids"] + [1] * (longest - len(row["input_ids"])) for row in rows]),
        "attention_mask": torch.tensor([row["attention_mask"] + [0] * (longest - len(row["input_ids"])) for row in rows]),
        "labels": torch.tensor([row["label"] for row in rows]),
    }
    if "idx" in rows[0]:
        batch["idx"] = torch.tensor([row["idx"] for row in rows])
    return batch
