"""What the command trains and scores on: any form of file, splits, a stratified tenth, and what it says of them."""

import gzip
import json
from collections import Counter

import pytest
from datasets import ClassLabel, Dataset, DatasetDict
from own_data import line, write_files

from scala import adapt
from scala.adapt.data import dev_names, hold_out, load_data
from scala.adapt.options import CommandOptions
from scala.labelled_text import LabelledText


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path)


def rows_of(path):
    head, *rows = [row.split(",") for row in path.read_text().splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


def named(dataset):
    return dataset.cast_column("answer", ClassLabel(names=["yes", "no"]))


def options(files, **more):
    usual = {"model": "m", "train": str(files / "train.csv"), "dev": [str(files / "dev.csv")], "text": "a", "label": "answer"}
    return CommandOptions(**usual | more)


@pytest.mark.parametrize(
    "name", ["train.csv.gz", "train.tsv", "train.jsonl", "train.json", "train.json.gz", "train.parquet", "saved"]
)
def test_the_model_does_not_depend_on_the_form_of_the_file(files, encoder, name):
    rows = rows_of(files / "train.csv")
    texts = {
        ".csv": (files / "train.csv").read_text(),
        ".tsv": (files / "train.csv").read_text().replace(",", "\t"),
        ".jsonl": "\n".join(map(json.dumps, rows)),
        ".json": json.dumps(rows, indent=1),
    }
    if name == "saved":
        Dataset.from_list(rows).save_to_disk(files / name)
    elif name == "train.parquet":
        Dataset.from_list(rows).to_parquet(files / name)
    else:
        content = texts["." + name.split(".")[1]].encode()
        (files / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    for source, output in (("train.csv", "from_csv"), (name, "out")):
        more = {"train": str(files / source), "output": str(files / output), "num_train_epochs": "1"}
        assert adapt.main(line(files, encoder, **more)) == 0
    weights = [(files / output / "model.safetensors").read_bytes() for output in ("from_csv", "out")]
    assert weights[0] == weights[1]


class TestSplits:
    @pytest.fixture
    def saved(self, files):
        train, dev = (named(Dataset.from_list(rows_of(files / f"{name}.csv"))) for name in ("train", "dev"))
        splits = {"train": train, "validation_matched": dev, "validation_other": dev.select(range(5)), "test": dev}
        DatasetDict(splits).save_to_disk(files / "saved")
        return str(files / "saved")

    def test_a_data_set_brings_its_own_dev_sets_and_class_names(self, files, saved):
        data = load_data(options(files, train=saved, dev=None))
        assert data.train.labels == ["yes", "no"]
        assert {name: len(part.dataset) for name, part in data.dev.items()} == {"validation_matched": 12, "validation_other": 5}

    def test_splits_can_be_named(self, files, saved):
        data = load_data(options(files, train=saved, dev=None, train_split="validation_matched", dev_split=["test"]))
        assert {name: len(part.dataset) for name, part in data.dev.items()} == {"dev": 12}
        assert len(data.train.dataset) == 12

    def test_dev_may_be_another_data_set(self, files, saved):
        data = load_data(options(files, dev=[saved, str(files / "dev.csv")]))
        assert list(data.dev) == ["saved-validation_matched", "saved-validation_other", "dev"]

    @pytest.mark.parametrize(
        ("more", "why"),
        [
            ({"train_split": "training"}, "has no split 'training'; give --train_split, one of train, validation_matched"),
            ({"dev_split": ["dev"]}, "has no split 'dev'; give --dev_split, one of"),
            ({"subset": "sst2"}, "--subset is for a data set of the hub"),
        ],
    )
    def test_what_is_not_there_is_named(self, files, saved, more, why):
        with pytest.raises(ValueError, match=why):
            load_data(options(files, train=saved, dev=None, **more))

    @pytest.mark.parametrize("more", [{"subset": "sst2"}, {"train_split": "train"}, {"dev_split": ["dev"]}])
    def test_options_that_a_file_does_not_have_are_refused(self, files, more):
        with pytest.raises(ValueError, match=r"is for a data set, not for a file such as .*csv: leave it out"):
            load_data(options(files, **more))

    def test_a_data_set_without_splits_has_none_to_name(self, files):
        Dataset.from_list(rows_of(files / "train.csv")).save_to_disk(files / "plain")
        with pytest.raises(ValueError, match="has no splits; leave it out"):
            load_data(options(files, train=str(files / "plain"), train_split="train"))

    def test_a_name_on_the_hub_without_a_hub(self, files, encoder, capsys):
        assert adapt.main(line(files, encoder, train="nyu-mll/glue", subset="sst2", dev=None)) == 1
        said = capsys.readouterr().err
        assert "no file or folder 'nyu-mll/glue', and the hub gave no data set of that name" in said
        assert "save_to_disk('folder') saves it: give that folder" in said


class TestHeldOut:
    def labelled(self, counts):
        names = [f"class-{number}" for number in range(len(counts))]
        labels = [number for number, count in enumerate(counts) for _ in range(count)]
        data = Dataset.from_dict({"sentence1": [f"text {i}" for i in range(len(labels))], "label": labels})
        return LabelledText(data.cast_column("label", ClassLabel(names=names)), names)

    def test_every_class_gives_the_same_share(self):
        train, dev, how = hold_out(self.labelled([300, 80, 20]), "t.csv")
        assert Counter(dev.dataset["label"]) == {0: 30, 1: 8, 2: 2}
        assert Counter(train.dataset["label"]) == {0: 270, 1: 72, 2: 18}
        assert not set(train.dataset["sentence1"]) & set(dev.dataset["sentence1"])
        assert how == "a tenth of t.csv is held out as dev set, the same share of every class"

    @pytest.mark.parametrize(
        ("counts", "why"),
        [([50, 49, 1], "at random: there is only one example of the class 'class-2'"), ([2] * 20, "more classes (20) than")],
    )
    def test_where_a_class_is_too_small_it_is_said(self, counts, why):
        train, dev, how = hold_out(self.labelled(counts), "t.csv")
        assert why in how
        assert len(dev.dataset) * 9 == len(train.dataset)

    def test_a_class_that_no_row_has_is_no_hindrance(self):
        loaded = self.labelled([50, 50])
        names = [*loaded.labels, "class-2"]
        loaded = LabelledText(loaded.dataset.cast_column("label", ClassLabel(names=names)), names)
        assert Counter(hold_out(loaded, "t.csv")[1].dataset["label"]) == {0: 5, 1: 5}

    def test_it_is_said_by_the_command(self, files, encoder, capsys):
        assert adapt.main(line(files, encoder, dev=None)) == 0
        assert "note: a tenth of" in capsys.readouterr().out

    def test_few_rows_are_refused(self):
        with pytest.raises(ValueError, match="only 19 rows, too few to hold some out; give --dev"):
            hold_out(self.labelled([10, 9]), "t.csv")


def test_what_was_cut_is_counted_and_said(files, encoder, capsys):
    assert adapt.main(line(files, encoder, max_length="8")) == 0
    said = capsys.readouterr().out
    assert "note: 40 of 40 training texts were cut at 8 tokens (--max_length); the longest has 11" in said
    assert "note: 12 of 12 dev texts were cut at 8 tokens" in said
    assert adapt.main(line(files, encoder, output=str(files / "whole"))) == 0
    assert "were cut" not in capsys.readouterr().out


@pytest.mark.parametrize(("pair", "least"), [(None, 3), ("b", 5)])
def test_the_least_length_leaves_a_token_of_every_text(files, encoder, capsys, pair, least):
    assert adapt.main(line(files, encoder, text_pair=pair, max_length=str(least - 1))) == 1
    assert f"--max_length must be {least} or more" in capsys.readouterr().err
    assert adapt.main(line(files, encoder, text_pair=pair, max_length=str(least), num_train_epochs="1")) == 0


def test_many_classes_are_said(files, encoder, capsys):
    rows = "".join(f"word {'abcdefghij'[i % 10]},name-{i % 25}\n" for i in range(50))
    (files / "many.csv").write_text("a,answer\n" + rows)
    more = {"train": str(files / "many.csv"), "dev": str(files / "many.csv"), "max_steps": "1"}
    assert adapt.main(line(files, encoder, **more)) == 0
    said = capsys.readouterr().out
    assert "note: the column 'answer' has 25 different labels, so as many classes" in said
    assert "note: the dev file is the training file: its score says nothing of other texts" in said
    assert "name-0, name-1, name-10" in said
    assert "name-9" not in said
    sure = options(files, train=more["train"], dev=[more["train"]], task="classification")
    assert not any("different labels" in note for note in load_data(sure).notes)


def test_dev_sets_may_be_called_as_the_training_set_is(files, encoder, capsys):
    for name in ("train", "training"):
        (files / "dev" / name).mkdir(parents=True)
        (files / "dev" / f"{name}.csv").write_text((files / "dev.csv").read_text())
    dev = [str(files / "dev" / f"{name}.csv") for name in ("train", "training")]
    assert adapt.main(line(files, encoder, dev=dev, num_train_epochs="1")) == 0
    assert "40 training and 12 train and 12 training examples" in capsys.readouterr().out
    assert set(json.loads((files / "out" / "scores.json").read_text())) == {"train", "training"}
    rows = json.loads((files / "out" / "data.json").read_text())
    assert (rows["train"]["rows"], rows["dev"]["train"]["rows"]) == (40, 12)


def test_numbers_with_a_comma_are_asked_about(files, encoder, capsys):
    (files / "train.csv").write_text("a,answer\n" + "".join(f'word,"3,{i}"\n' for i in range(40)))
    assert adapt.main(line(files, encoder, dev=None)) == 1
    said = capsys.readouterr().err
    assert "train.csv:2 has the label '3,0': if it is a number, write it with a decimal point (3.14)" in said
    assert "--task" in said


@pytest.mark.parametrize("task", [None, "regression"])
def test_label_smoothing_of_a_regression_is_refused_before_the_encoder_is_loaded(files, capsys, task):
    assert adapt.main(line(files, "no-encoder", label="score", task=task, label_smoothing_factor="0.1")) == 1
    assert "--label_smoothing_factor is for classes, and this is a regression" in capsys.readouterr().err


def test_equal_labels_of_a_dev_set_are_refused_before_the_encoder_is_loaded(files, capsys):
    head, row, *_ = (files / "dev.csv").read_text().splitlines()
    (files / "dev.csv").write_text("\n".join([head, row, row]) + "\n")
    assert adapt.main(line(files, "no-encoder", label="score")) == 1
    assert "all labels of the dev set are the same: no correlation with them is defined" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/dev.csv"], ["dev"]),
        (["x/matched.csv.gz", "x/mismatched.tsv"], ["matched", "mismatched"]),
        (["x/dev.csv", "y/dev.csv", "y/other.csv"], ["x-dev", "y-dev", "y-other"]),
        (["dev.csv", "y/dev.csv"], ["dev", "y-dev"]),
        (["x/dev.csv", "x/dev.tsv"], ["dev.csv", "dev.tsv"]),
    ],
)
def test_scores_go_by_the_files_names(paths, names):
    assert dev_names(paths) == names


def test_a_dev_file_given_twice_is_refused():
    with pytest.raises(ValueError, match="--dev names a file twice"):
        dev_names(["x/dev.csv", "x/dev.csv"])
