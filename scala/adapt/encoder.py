"""The encoder that is adapted: whole, from safetensors, with a head for the task; or an error that names the file at fault."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from scala.labelled_text import LabelledText
from scala.text_files import LFS_POINTER

WEIGHTS = "model.safetensors"
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model",
               "sentencepiece.bpe.model", "tokenizer.model", "spm.model")  # fmt: skip


@dataclass(frozen=True)
class Encoder:
    """A model with its tokenizer, and what its user should know of how it was loaded."""

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    notes: list[str] = field(default_factory=list)


def load_encoder(name: str, task: LabelledText) -> Encoder:
    """Load an encoder and give it a head for the task; a head of as many outputs is kept.

    Args:
        name: a folder with config.json, \\*.safetensors and the tokenizer's files, or a name on the hub.
        task: whose class names, or whose being a regression, the head gets.

    Raises:
        OSError: there is no such encoder; a file of it is missing, damaged, or not what its name says.
    """
    local = Path(name)
    if local.is_file():
        raise OSError(f"--model {name} is a file: give the folder that holds it, with config.json and the tokenizer's files")
    if local.is_dir():
        _check_folder(local)
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # hub, network and JSON have errors of many types
        raise _no_encoder(name, error) from error
    outputs = config.num_labels
    _set_task(config, task)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise whatever comes: KeyError, TypeError, Exception
        raise OSError(
            f"the tokenizer of {name!r} cannot be read ({_first_line(error)}): its files are missing or damaged; fetch them "
            "again, or save it anew by tokenizer.save_pretrained"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise OSError(f"the tokenizer of {name!r} knows no words: its vocabulary is missing (tokenizer.json or vocab.txt, ...)")
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            name,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise _no_encoder(name, error) from error
    _check_weights(name, model, found)
    notes: list[str] = []
    for key, stored, made in sorted(found["mismatched_keys"]):
        if (stored[0], made[0]) != (outputs, config.num_labels):
            raise OSError(f"{name!r} is damaged: its {key} has the shape {list(stored)}, config.json says {list(made)}")
        notes = [f"the encoder's head of {outputs} outputs is replaced by a fresh one of {config.num_labels}"]
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:  # GPT-2 and others that were not trained on batches
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise OSError(f"the tokenizer of {name!r} has no padding token: set tokenizer.pad_token and save it anew")
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return Encoder(tokenizer, model, notes)


def _set_task(config: Any, task: LabelledText) -> None:
    # Said in words: a config that was trained on another task may hold another problem_type, and so another loss.
    config.num_labels = 1 if task.labels is None else len(task.labels)
    config.problem_type = "regression" if task.labels is None else "single_label_classification"
    if task.labels is not None:
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: number for number, label in enumerate(task.labels)}


def _check_weights(name: str, model: PreTrainedModel, found: dict[str, Any]) -> None:
    # transformers starts what a file lacks at random. That is right for a head; an encoder with random layers is a damaged one.
    prefix = f"{model.base_model_prefix}."
    lost = sorted(key for key in found["missing_keys"] if key.startswith(prefix) and "pooler" not in key)
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise OSError(
            f"the weights of {name!r} lack {lost[0]}{more}: they are of another model, or only a part; fetch them again"
        )


def _no_encoder(name: str, error: Exception) -> OSError:
    where = "the folder lacks what is needed" if os.path.isdir(name) else "there is no such folder, and the hub did not give it"
    return OSError(
        f"no encoder at {name!r}: {where}. Give --model the path of a folder with config.json, *.safetensors and the "
        f"tokenizer's files, or a hub name where a hub can be reached. ({_first_line(error)})"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _check_folder(folder: Path) -> None:
    """Refuse an encoder's folder whose files are missing or damaged, before a library stumbles over them."""
    if not (folder / "config.json").exists():
        raise OSError(f"{folder} holds no config.json: give --model the folder of an encoder, as save_pretrained writes it")
    for name in ("config.json", *_TOKENIZERS):
        if (folder / name).exists():
            _check_text(folder / name)
    files = [folder / WEIGHTS]
    index = folder / f"{WEIGHTS}.index.json"
    if index.exists() and not files[0].exists():
        _check_text(index)
        shards = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {})
        files = [folder / shard for shard in sorted(set(shards.values()))]
    for file in files:
        if not file.exists() and (pickled := sorted(folder.glob("*.bin"))):
            raise OSError(
                f"{folder} holds its weights only as {pickled[0].name}, which can run code when it is opened: convert it where "
                f"you trust it, by AutoModel.from_pretrained('{folder}').save_pretrained('{folder}')"
            )
        if not file.exists():
            raise OSError(f"{file} is missing: fetch the encoder's weights again")
        _check_safetensors(file)


def _check_text(file: Path) -> None:
    content = file.read_bytes()
    damage = _strange(content[:200])
    if damage is None and file.suffix == ".json":
        try:
            json.loads(content)
        except ValueError as error:
            damage = f"is damaged or not whole ({error})"
    if damage is not None:
        raise OSError(f"{file} {damage}; fetch it again")


def _check_safetensors(file: Path) -> None:
    try:
        with safe_open(file, framework="pt"):  # looks at the header, and whether the file is as long as it says
            return
    except SafetensorError as error:
        with file.open("rb") as start:
            damage = _strange(start.read(200)) or f"is damaged or not whole ({error})"
        raise OSError(f"{file} {damage}; fetch it again") from error


def _strange(start: bytes) -> str | None:
    """What a file is by its first bytes, if it is one of the usual things that are not the file."""
    if start.startswith(LFS_POINTER.encode()):
        return "is a pointer of Git LFS, not the file itself (run 'git lfs pull' where it comes from)"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not the file itself"
    return "is empty" if not start else None


def check_tokens(encoder: Encoder, tokens: Any) -> None:
    """Refuse tokens that the encoder cannot know; note it if many are unknown words.

    Args:
        encoder: its notes get what is said of unknown words.
        tokens: a data set with the column ``input_ids``.

    Raises:
        OSError: the tokenizer is another encoder's.
    """
    counts = np.zeros(0, dtype=np.int64)
    for batch in tokens.iter(1000):  # not all tokens at once: as Python's numbers they would take much memory
        found = np.bincount(np.concatenate(batch["input_ids"]), minlength=len(counts))
        counts = found + np.pad(counts, (0, len(found) - len(counts)))
    rows = cast(Any, encoder.model.get_input_embeddings()).num_embeddings
    if len(counts) > rows:
        raise OSError(
            f"the tokenizer makes the token {len(counts) - 1}, and the encoder knows {rows}: they are not of one model"
        )
    unknown, special = encoder.tokenizer.unk_token_id, encoder.tokenizer.all_special_ids
    if unknown is None or unknown >= len(counts):
        return
    words = int(counts.sum()) - sum(int(counts[token]) for token in special if token < len(counts) and token != unknown)
    share = int(counts[unknown]) / max(1, words)
    if share == 1:
        raise OSError("the tokenizer knows no word of the texts: it is of another language, or its vocabulary is damaged")
    if share > 0.1:
        encoder.notes.append(f"{share:.0%} of the texts' tokens are unknown to the tokenizer: is it of the texts' language?")
