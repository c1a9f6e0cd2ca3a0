"""GLUE: the nine official layouts from made-up files, the hub mocked, the real files where GLUE_DIR names them."""

import hashlib
import os
from pathlib import Path

import datasets
import pytest

from paper_repro.data.glue import GLUE_TASKS, glue_hashes, glue_task, load_glue
from scala.labelled_text import BadRows
from scala.metrics import compute_metrics_for

_MNLI = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse"
    "\tsentence1\tsentence2\t"
)
_PARSES = "7\t31e\tfiction\t( It )\t( He )\t(ROOT It)\t(ROOT He)"
_MNLI_TRAIN = (
    f"{_MNLI}label1\tgold_label\n"
    f'0\t{_PARSES}\tIt "rained.\tHe slept.\tneutral\tneutral\n'
    f"1\t{_PARSES}\tIt snowed.\tIt did not.\tcontradiction\tcontradiction\n"
)
_MNLI_DEV = (
    f"{_MNLI}label1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label\n"
    f"0\t{_PARSES}\tIt hailed.\tHe woke.\tneutral\tneutral\tneutral\tentailment\tneutral\tentailment\n"
)
_NUMBERED = "index\tsentence1\tsentence2\tlabel\n"

# Each task's train and dev files, and what must come out of them as (sentence1, sentence2, label).
LAYOUTS = {
    "cola": (
        {"train.tsv": 'x01\t1\t\tThe "cat sat.\nx02\t0\t*\tSat cat the.\n', "dev.tsv": "x03\t0\t*\tOf slept.\n"},
        {"train": [('The "cat sat.', None, 1), ("Sat cat the.", None, 0)], "validation": [("Of slept.", None, 0)]},
    ),
    "sst2": (
        {"train.tsv": 'sentence\tlabel\n"a joy \t1\nno fun \t0\n', "dev.tsv": "sentence\tlabel\nfine \t1\n"},
        {"train": [('"a joy ', None, 1), ("no fun ", None, 0)], "validation": [("fine ", None, 1)]},
    ),
    "mrpc": (
        {
            name: f'\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n{quality}\t11\t12\t" He left .\tHe went .\n'
            for name, quality in (("train.tsv", 1), ("dev.tsv", 0))
        },
        {"train": [('" He left .', "He went .", 1)], "validation": [('" He left .', "He went .", 0)]},
    ),
    "qqp": (
        {
            "train.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n5\t6\t7\tWhy?\tHow come?\t1\n",
            "dev.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n8\t9\t10\tWho?\tWhen?\t0\n",
        },
        {"train": [("Why?", "How come?", 1)], "validation": [("Who?", "When?", 0)]},
    ),
    "stsb": (
        {
            name: "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
            f'0\tnews\tfile\t2012\t0003\tnone\tnone\tA "dog.\tA hound.\t{score}\n'
            for name, score in (("train.tsv", "4.250"), ("dev.tsv", "5.000"))
        },
        {"train": [('A "dog.', "A hound.", 4.25)], "validation": [('A "dog.', "A hound.", 5.0)]},
    ),
    "mnli": (
        {"train.tsv": _MNLI_TRAIN, "dev_matched.tsv": _MNLI_DEV, "dev_mismatched.tsv": _MNLI_DEV.replace("0\t", "1\t")},
        {
            "train": [('It "rained.', "He slept.", 1), ("It snowed.", "It did not.", 2)],
            "validation_matched": [("It hailed.", "He woke.", 0)],
            "validation_mismatched": [("It hailed.", "He woke.", 0)],
        },
    ),
    "qnli": (
        {
            "train.tsv": "index\tquestion\tsentence\tlabel\n0\tWho?\tIt is he.\tentailment\n",
            "dev.tsv": 'index\tquestion\tsentence\tlabel\n0\tWhen?\tIt "is.\tnot_entailment\n',
        },
        {"train": [("Who?", "It is he.", 0)], "validation": [("When?", 'It "is.', 1)]},
    ),
    "rte": (
        {"train.tsv": f"{_NUMBERED}0\tA.\tB.\tentailment\n", "dev.tsv": f"{_NUMBERED}0\tC.\tD.\tnot_entailment\n"},
        {"train": [("A.", "B.", 0)], "validation": [("C.", "D.", 1)]},
    ),
    "wnli": (
        {"train.tsv": f"{_NUMBERED}0\tA.\tB.\t1\n", "dev.tsv": f"{_NUMBERED}0\tC.\tD.\t0\n"},
        {"train": [("A.", "B.", 1)], "validation": [("C.", "D.", 0)]},
    ),
}


# The sentence columns and the class names of the hub's data sets, as its dataset card lists them.
HUB = {
    "cola": (["sentence"], ["unacceptable", "acceptable"]),
    "sst2": (["sentence"], ["negative", "positive"]),
    "mrpc": (["sentence1", "sentence2"], ["not_equivalent", "equivalent"]),
    "qqp": (["question1", "question2"], ["not_duplicate", "duplicate"]),
    "stsb": (["sentence1", "sentence2"], None),
    "mnli": (["premise", "hypothesis"], ["entailment", "neutral", "contradiction"]),
    "qnli": (["question", "sentence"], ["entailment", "not_entailment"]),
    "rte": (["sentence1", "sentence2"], ["entailment", "not_entailment"]),
    "wnli": (["sentence1", "sentence2"], ["not_entailment", "entailment"]),
}


def write(glue_dir: Path, name: str, **changed: str) -> Path:
    """Write a task's made-up files, those in ``changed`` (named without .tsv) with another content."""
    folder = glue_dir / GLUE_TASKS[name].folder
    folder.mkdir()
    for file, content in LAYOUTS[name][0].items():
        (folder / file).write_text(changed.get(file.removesuffix(".tsv"), content), encoding="utf-8")
    return folder


def triples(dataset: datasets.Dataset) -> list[tuple]:
    return [(row["sentence1"], row.get("sentence2"), row["label"]) for row in dataset]


def test_there_are_nine_tasks_with_metrics_that_exist():
    assert len(GLUE_TASKS) == len(LAYOUTS) == 9
    for task in GLUE_TASKS.values():
        compute_metrics_for(task.metrics)
        assert task.headline_metric in task.metrics
        assert not task.classes or len(task.written) == len(task.classes)
    assert {name: task.metrics for name, task in GLUE_TASKS.items() if task.metrics != ("accuracy",)} == {
        "cola": ("matthews_correlation",),
        "mrpc": ("accuracy", "f1"),
        "qqp": ("accuracy", "f1"),
        "stsb": ("pearson", "spearmanr"),
    }


def test_an_unknown_task_gets_the_nine_names():
    with pytest.raises(ValueError, match="'mnli-mm'; the tasks are: cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli"):
        glue_task("mnli-mm")


class TestOfficialFiles:
    @pytest.mark.parametrize("name", LAYOUTS)
    def test_layout(self, tmp_path, name):
        write(tmp_path, name)
        splits = load_glue(name, tmp_path)
        assert {split: triples(dataset) for split, dataset in splits.items()} == LAYOUTS[name][1]
        pair = ["sentence2"] if len(GLUE_TASKS[name].text) == 2 else []
        for dataset in splits.values():
            assert dataset.column_names == ["sentence1", *pair, "label", "idx"]
            assert list(dataset["idx"]) == list(range(len(dataset)))
            if GLUE_TASKS[name].classes:
                assert dataset.features["label"].names == list(GLUE_TASKS[name].classes)

    def test_a_missing_file_is_named_with_the_layout(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"MRPC/train\.tsv is missing.*MRPC/\{train\.tsv,dev\.tsv\}"):
            load_glue("mrpc", tmp_path)
        write(tmp_path, "mnli")
        (tmp_path / "MNLI" / "dev_mismatched.tsv").unlink()
        with pytest.raises(FileNotFoundError, match=r"MNLI/dev_mismatched\.tsv is missing"):
            load_glue("mnli", tmp_path)

    def test_wrong_labels_and_broken_rows_are_named_together(self, tmp_path):
        write(tmp_path, "rte", dev=f"{_NUMBERED}0\tA.\tB.\tmaybe\n1\tC.\tD.\n2\tE.\tF.\tentailment\n")
        with pytest.raises(BadRows) as error:
            load_glue("rte", tmp_path)
        path = tmp_path / "RTE" / "dev.tsv"
        assert f"{path}:2: unknown label 'maybe'; the labels are: entailment, not_entailment" in str(error.value)
        assert f"{path}:3: 4 fields expected, 3 found" in str(error.value)
        assert len(error.value.rows) == 2

    def test_cola_has_no_header_to_skip(self, tmp_path):
        write(tmp_path, "cola", dev="x03\t2\t*\tOf slept.\n")
        with pytest.raises(BadRows, match=r"dev\.tsv:1: unknown label '2'; the labels are: 0, 1"):
            load_glue("cola", tmp_path)

    @pytest.mark.parametrize("score", ["5.1", "-0.5", "nan", "high"])
    def test_similarity_lies_between_0_and_5(self, tmp_path, score):
        write(tmp_path, "stsb", train=LAYOUTS["stsb"][0]["train.tsv"].replace("4.250", score))
        with pytest.raises(BadRows, match=rf"train\.tsv:2: .*{score}"):
            load_glue("stsb", tmp_path)

    def test_spoilt_rows_of_qqp_are_left_out_with_a_warning(self, tmp_path):
        train = LAYOUTS["qqp"][0]["train.tsv"]
        cut = "1\t2\t3\tFirst half\n\tsecond half?\tWhat?\t1\n"
        write(tmp_path, "qqp", train=train + cut + "4\t5\t6\tWhere?\tWhither?\t1\n")
        with pytest.warns(UserWarning, match=r"leaving out 2 bad rows in .*train\.tsv(.|\n)*:3: 6 fields expected, 4 found"):
            splits = load_glue("qqp", tmp_path)
        assert triples(splits["train"]) == [("Why?", "How come?", 1), ("Where?", "Whither?", 1)]
        assert list(splits["train"]["idx"]) == [0, 1]

    def test_qqp_with_too_many_spoilt_rows_or_a_wrong_label_is_refused(self, tmp_path):
        train = LAYOUTS["qqp"][0]["train.tsv"]
        folder = write(tmp_path, "qqp", train=train + "1\t2\n" * 101)
        with pytest.raises(BadRows, match="101 bad rows"):
            load_glue("qqp", tmp_path)
        (folder / "train.tsv").write_text(train + "4\t5\t6\tWhere?\tWhither?\t2\n")
        with pytest.raises(BadRows, match="unknown label '2'"):
            load_glue("qqp", tmp_path)
        (folder / "train.tsv").write_text(train.splitlines()[0] + "\n1\t2\n")
        with pytest.raises(BadRows, match="6 fields expected, 2 found"):
            load_glue("qqp", tmp_path)

    def test_hashes_are_those_of_the_files_read(self, tmp_path):
        folder = write(tmp_path, "mnli")
        (folder / "test_matched.tsv").write_text("not read")
        hashes = glue_hashes("mnli", tmp_path)
        assert list(hashes) == ["MNLI/train.tsv", "MNLI/dev_matched.tsv", "MNLI/dev_mismatched.tsv"]
        for name, digest in hashes.items():
            assert digest == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


class TestHub:
    @pytest.mark.parametrize("name", LAYOUTS)
    def test_columns_and_labels_are_those_of_the_files(self, tmp_path, monkeypatch, name):
        write(tmp_path, name)
        local = load_glue(name, tmp_path)
        text, classes = HUB[name]
        renamed = {old: new for old, new in zip(("sentence1", "sentence2"), text, strict=False) if old != new}
        label = datasets.ClassLabel(names=classes) if classes else datasets.Value("float32")
        hub = {
            split: dataset.rename_columns(renamed).cast_column("label", label).add_column("more", ["x"] * len(dataset))
            for split, dataset in local.items()
        }
        hub["test"] = hub["train"]
        asked = []
        monkeypatch.setattr(datasets, "load_dataset", lambda *args: asked.append(args) or hub)
        splits = load_glue(name, None)
        assert asked == [("nyu-mll/glue", name)]
        assert list(splits) == list(local)
        for split, dataset in splits.items():
            assert dataset.features == local[split].features
            assert triples(dataset) == triples(local[split])

    def test_out_of_reach_asks_for_glue_dir(self, monkeypatch):
        def unreachable(*args):
            raise ConnectionError("no route")

        monkeypatch.setattr(datasets, "load_dataset", unreachable)
        with pytest.raises(ConnectionError, match=r"no route.*set GLUE_DIR to a folder.*MRPC/"):
            load_glue("mrpc", None)


ROWS = {  # of the official files
    "cola": (8551, 1043),
    "sst2": (67349, 872),
    "mrpc": (3668, 408),
    "qqp": (363846, 40430),
    "stsb": (5749, 1500),
    "mnli": (392702, 9815, 9832),
    "qnli": (104743, 5463),
    "rte": (2490, 277),
    "wnli": (635, 71),
}


@pytest.mark.skipif("GLUE_DIR" not in os.environ, reason="GLUE_DIR names no folder with the official files")
@pytest.mark.parametrize("name", ROWS)
def test_real_files_have_the_official_number_of_rows(name):
    glue_dir = Path(os.environ["GLUE_DIR"])
    if not (glue_dir / GLUE_TASKS[name].folder).is_dir():
        pytest.skip(f"{glue_dir} has no {GLUE_TASKS[name].folder}")
    splits = load_glue(name, glue_dir)
    assert tuple(len(dataset) for dataset in splits.values()) == ROWS[name]
    for dataset in splits.values():
        values = set(dataset["label"])
        classes = len(GLUE_TASKS[name].classes)
        assert values == set(range(classes)) if classes else min(values) >= 0 and max(values) <= 5
