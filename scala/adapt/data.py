"""What is trained on and what is scored on, from the files and data sets that the options name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from scala.adapt.encoder import Encoder, check_tokens
from scala.adapt.options import CommandOptions
from scala.labelled_text import (
    MOST_INFERRED_CLASSES,
    LabelledText,
    Source,
    cut_texts,
    load_labelled_text,
    refuse_too_long,
    tokenized,
)
from scala.text_tables import Table, data_set, is_a_data_set

HELD_OUT = 0.1
_FEWEST_TO_SPLIT = 20


@dataclass(frozen=True)
class Data:
    """A task's training set, its dev sets by name, and what its user should know of how they were made."""

    train: LabelledText
    dev: dict[str, LabelledText]
    notes: list[str]

    @property
    def kind(self) -> str:
        """Whether it is a classification or a regression."""
        return "regression" if self.train.labels is None else "classification"


@dataclass(frozen=True)
class Tokens:
    """The same as token ids."""

    train: Dataset
    dev: dict[str, Dataset]


def load_data(options: CommandOptions) -> Data:
    """Read all that is trained and scored on; without dev data a tenth of the training set is held out.

    Raises:
        ValueError: bad rows, an unknown split, options that nothing reads, or data on which no score is defined.
        OSError: a file is missing or damaged.
    """
    columns: dict[str, Any] = {"text": options.text, "text_pair": options.text_pair, "label": options.label}
    _refuse_unused(options)
    source, others = _training_source(options)
    train = load_labelled_text(source, **columns | {"task": options.task})
    notes = []
    if train.labels is not None and len(train.labels) > MOST_INFERRED_CLASSES and options.task is None:
        notes.append(
            f"the column {options.label!r} has {len(train.labels)} different labels, so as many classes; if they are none, "
            "name another --label, or write plain numbers for a regression"
        )
    kind: Any = "regression" if train.labels is None else "classification"
    dev_sources = _dev_sources(options, others)
    if dev_sources:
        known = columns | {"task": kind, "labels": train.labels}
        dev = {name: load_labelled_text(source, **known) for name, source in dev_sources.items()}
        if options.dev and options.train in options.dev and not is_a_data_set(options.train):
            notes.append("the dev file is the training file: its score says nothing of other texts")
    else:
        train, held_out, how = hold_out(train, options.train)
        dev = {"dev": held_out}
        notes.append(how)
    if train.labels is None:
        for name, part in dev.items():
            if len(set(part.dataset["label"][:])) < 2:
                raise ValueError(f"all labels of the {name} set are the same: no correlation with them is defined")
    return Data(train, dev, notes)


def _refuse_unused(options: CommandOptions) -> None:
    dev = options.dev or [options.train]
    for option, names in (("subset", [options.train, *dev]), ("train_split", [options.train]), ("dev_split", dev)):
        if getattr(options, option) is not None and not any(map(is_a_data_set, names)):
            raise ValueError(f"--{option} is for a data set, not for a file such as {names[0]}: leave it out")


def _training_source(options: CommandOptions) -> tuple[Source, dict[str, Table]]:
    """The training data, and the splits beside it if it is one of a data set."""
    if not is_a_data_set(options.train):
        return options.train, {}
    splits = data_set(options.train, options.subset)
    if "" in splits:
        if options.train_split is not None:
            raise ValueError(f"--train_split {options.train_split}: {options.train} has no splits; leave it out")
        return splits[""], {}
    name = options.train_split or "train"
    return _split(options.train, splits, name, "--train_split"), {other: splits[other] for other in splits if other != name}


def _split(name: str, splits: dict[str, Table], split: str, option: str) -> Table:
    if split not in splits:
        raise ValueError(f"{name} has no split {split!r}; give {option}, one of {', '.join(splits)}")
    return splits[split]


def _dev_sources(options: CommandOptions, others: dict[str, Table]) -> dict[str, Source]:
    """The dev data by the names that scores go by."""
    found: dict[str, Source] = {}
    if options.dev is None:
        wanted = options.dev_split or [name for name in others if name.startswith(("validation", "dev"))]
        for split in wanted:
            found[split] = _split(options.train, others, split, "--dev_split")
        return found if len(found) != 1 else {"dev": next(iter(found.values()))}
    for name, called in zip(options.dev, dev_names(options.dev), strict=True):
        if not is_a_data_set(name):
            found[called] = name
            continue
        splits = data_set(name, options.subset)
        if "" in splits:
            found[called] = splits[""]
            continue
        wanted = options.dev_split or [split for split in splits if split.startswith(("validation", "dev"))]
        if not wanted:
            raise ValueError(f"{name} has no split named validation or dev; give --dev_split, one of {', '.join(splits)}")
        for split in wanted:
            found[f"{called}-{split}"] = _split(name, splits, split, "--dev_split")
    return found if len(found) != 1 else {"dev": next(iter(found.values()))}


def dev_names(paths: Sequence[str]) -> list[str]:
    """Names for files by which scores go: their own without suffixes, and as many of their folders' as tell them apart.

    Raises:
        ValueError: a file is named twice.
    """
    whole = [Path(path).parts for path in paths]
    short = [(*folders, name.partition(".")[0] or name) for *folders, name in whole]
    for parts in (short, whole):
        for taken in range(1, max(map(len, parts)) + 1):
            names = ["-".join(part[-taken:]) for part in parts]
            if len(set(names)) == len(names):
                return names
    raise ValueError(f"--dev names a file twice: {', '.join(paths)}")


def hold_out(train: LabelledText, name: str) -> tuple[LabelledText, LabelledText, str]:
    """Hold out a tenth: of every class alike, where classes are large enough for that.

    Args:
        train: the whole training set.
        name: the training file, for the error.

    Returns:
        What is left to train on, what is held out, and a sentence on how it was chosen.

    Raises:
        ValueError: there are too few rows.
    """
    rows = len(train.dataset)
    if rows < _FEWEST_TO_SPLIT:
        raise ValueError(f"{name} has only {rows} rows, too few to hold some out; give --dev")
    how = f"a tenth of {name} is held out as dev set"
    split = {"test_size": HELD_OUT, "seed": 0}
    if train.labels is None:
        parts = train.dataset.train_test_split(**split)
    else:
        (smallest, fewest), *_ = reversed(Counter(train.dataset["label"][:]).most_common())
        if fewest < 2:
            how += f", at random: there is only one example of the class {train.labels[smallest]!r}"
        elif len(train.labels) > math.ceil(rows * HELD_OUT):
            how += f", at random: there are more classes ({len(train.labels)}) than examples in it"
        if ":" in how:
            parts = train.dataset.train_test_split(**split)
        else:
            how += ", the same share of every class"
            parts = train.dataset.train_test_split(**split, stratify_by_column="label")
    return LabelledText(parts["train"], train.labels), LabelledText(parts["test"], train.labels), how


def tokenize(data: Data, encoder: Encoder, max_length: int) -> Tokens:
    """Turn the texts into token ids; what was cut is counted in the data's notes.

    Raises:
        ValueError: max_length leaves no room for text, or exceeds the encoder's positions.
        OSError: the tokenizer is not of this encoder, or knows no word of the texts.
    """
    pair = "sentence2" in data.train.dataset.column_names
    frame = encoder.tokenizer.num_special_tokens_to_add(pair=pair)
    if max_length < frame + 1 + pair:
        raise ValueError(
            f"--max_length must be {frame + 1 + pair} or more: this tokenizer puts {frame} tokens of its own around the text, "
            "and the usual is 128"
        )
    made: list[Dataset] = []
    for name, part in [("training", data.train), *data.dev.items()]:
        tokens = tokenized(part.dataset, encoder.tokenizer, max_length)
        refuse_too_long(tokens, encoder.model.config)
        cut, longest = cut_texts(part.dataset, tokens, encoder.tokenizer, max_length)
        if cut:
            how_many = f"{cut:,} of {len(tokens):,} {name} texts were cut at {max_length} tokens (--max_length)"
            data.notes.append(f"{how_many}; the longest has {longest:,}")
        made.append(tokens)
    train, *others = made
    check_tokens(encoder, train)
    # Batches of like lengths need little padding; the order of the dev sets shows nowhere.
    dev = {}
    for name, tokens in zip(data.dev, others, strict=True):
        lengths = [len(ids) for ids in tokens["input_ids"]]
        dev[name] = tokens.select(sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True))
    return Tokens(train, dev)
