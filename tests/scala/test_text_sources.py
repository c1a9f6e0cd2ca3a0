"""Other forms of one's own data: JSON as written, packed files, parquet, saved data sets, the hub."""

import gzip
import json

import pytest
from datasets import ClassLabel, Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from scala.labelled_text import BadRows, cut_texts, load_labelled_text, read_rows, tokenized
from scala.text_tables import Table, data_set, is_a_data_set

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
ROWS = [{"text": "A", "label": "x"}, {"text": "B", "label": "y"}, {"text": "C", "label": "x"}]


def columns(loaded) -> list[tuple]:
    names = loaded.labels
    rows = zip(loaded.dataset["sentence1"], loaded.dataset["label"], strict=True)
    return [(text, label if names is None else names[label]) for text, label in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sources")


class TestJson:
    def test_a_number_keeps_its_spelling(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"text": "A", "label": 2.50}\n{"text": "B", "label": 1e0}\n')
        assert load_labelled_text(tmp_path / "a.jsonl", task="classification").labels == ["1e0", "2.50"]
        assert columns(load_labelled_text(tmp_path / "a.jsonl")) == [("A", 2.5), ("B", 1.0)]

    @given(rows=st.lists(st.tuples(texts, texts.map(str.strip)), min_size=1), indent=st.sampled_from([None, 1]))
    def test_an_array_is_read_with_the_line_of_every_object(self, folder, rows, indent):
        text = json.dumps([{"text": text, "label": label} for text, label in rows], indent=indent)
        (folder / "array.json").write_text(text)
        read, bad = read_rows(folder / "array.json", text="text")
        assert bad == []
        assert [(row.sentence1, row.label) for row in read] == rows
        step = 0 if indent is None else 4  # {, text, label, }
        first = 1 if indent is None else 2
        assert [row.line for row in read] == [first + step * i for i in range(len(rows))]

    def test_json_may_also_be_an_object_a_line(self, tmp_path):
        (tmp_path / "a.json").write_text("\n" + "\n".join(map(json.dumps, ROWS)))
        assert [row.line for row in read_rows(tmp_path / "a.json", text="text")[0]] == [2, 3, 4]
        assert columns(load_labelled_text(tmp_path / "a.json")) == [("A", "x"), ("B", "y"), ("C", "x")]

    @pytest.mark.parametrize(
        ("content", "line", "why"),
        [
            ('[{"text": "A", "label": "x"},\n {"text": "B" "label": 1}]', 2, "not valid JSON"),
            ('[{"text": "A", "label": "x"}\n\n {"text": "B"}]', 3, "a comma or the array's ] is missing"),
            ('[{"text": "A", "label": "x"},\n', 2, "not valid JSON"),
            ('[{"text": "A", "label": "x"}]\n]', 2, "text behind the array's ]"),
            ('[{"text": "A", "label": "x"},\n["B"]]', 2, "not a JSON object"),
            ('[{"text": "A", "label": "x"},\n{"text": "A", "label": "x", "label": 1}]', 2, "twice the field 'label'"),
        ],
    )
    def test_what_is_wrong_with_an_array_is_named_by_its_line(self, tmp_path, content, line, why):
        (tmp_path / "a.json").write_text(content)
        (bad,) = read_rows(tmp_path / "a.json", text="text")[1]
        assert bad.line == line
        assert why in bad.reason


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", "text,label\nA,x\nB,y\nC,x\n"),
        ("a.TSV.GZ", "text\tlabel\nA\tx\nB\ty\nC\tx\n"),
        ("a.jsonl.gz", "\n".join(map(json.dumps, ROWS))),
        ("a.json.gz", json.dumps(ROWS)),
    ],
)
def test_packed_files_are_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(gzip.compress(content.encode()))
    assert columns(load_labelled_text(tmp_path / name)) == [("A", "x"), ("B", "y"), ("C", "x")]


class TestTables:
    def test_parquet_and_a_saved_data_set(self, tmp_path):
        data = Dataset.from_list(ROWS)
        data.to_parquet(tmp_path / "a.parquet")
        data.save_to_disk(tmp_path / "saved")
        for source in (tmp_path / "a.parquet", tmp_path / "saved", Table("rows", data)):
            assert columns(load_labelled_text(source)) == [("A", "x"), ("B", "y"), ("C", "x")]

    def test_named_classes_keep_their_order(self, tmp_path):
        data = Dataset.from_list([{"text": "A", "label": 0}, {"text": "B", "label": 2}])
        data = data.cast_column("label", ClassLabel(names=["positive", "mixed", "negative"]))
        data.to_parquet(tmp_path / "a.parquet")  # the names are in the schema
        loaded = load_labelled_text(tmp_path / "a.parquet")
        assert loaded.labels == ["positive", "mixed", "negative"]
        assert list(loaded.dataset["label"]) == [0, 2]

    def test_numbers_make_a_regression(self):
        data = Dataset.from_dict({"text": ["A", "B"], "label": [0.5, 3.0]})
        assert columns(load_labelled_text(Table("scores", data))) == [("A", 0.5), ("B", 3.0)]

    def test_bad_rows_are_named_by_their_number(self):
        data = Dataset.from_dict({"text": ["A", None, "C", ""], "label": [1.5, 2.0, float("nan"), 3.0]})
        with pytest.raises(BadRows) as error:
            load_labelled_text(Table("scores", data))
        assert [tuple(row) for row in error.value.rows] == [
            (2, "'text' is None, not a text"),
            (3, "'label' is NaN, not a label"),
            (4, "'text' is empty"),
        ]
        assert "scores, row 2: 'text' is None" in str(error.value)

    def test_hidden_labels_of_a_test_set_are_named(self):
        data = Dataset.from_list([{"text": "A", "label": -1}, {"text": "B", "label": 1}])
        data = data.cast_column("label", ClassLabel(num_classes=2))
        with pytest.raises(BadRows, match="row 1: the class -1 is none of 0 to 1"):
            load_labelled_text(Table("test", data))

    def test_a_missing_column_is_named(self):
        with pytest.raises(ValueError, match="rows: no column 'sentence'; the columns are: text, label"):
            load_labelled_text(Table("rows", Dataset.from_list(ROWS)), text="sentence")

    def test_splits_of_a_saved_data_set(self, tmp_path):
        DatasetDict(train=Dataset.from_list(ROWS), test=Dataset.from_list(ROWS[:1])).save_to_disk(tmp_path / "saved")
        splits = data_set(str(tmp_path / "saved"))
        assert {name: len(table.dataset) for name, table in splits.items()} == {"train": 3, "test": 1}
        with pytest.raises(ValueError, match="holds the splits train, test; load one"):
            load_labelled_text(tmp_path / "saved")
        with pytest.raises(ValueError, match="--subset is for a data set of the hub"):
            data_set(str(tmp_path / "saved"), "sst2")

    def test_a_hub_out_of_reach_says_how_to_go_on_without(self):
        with pytest.raises(OSError, match=r"no file or folder 'some/data', and the hub gave .*save_to_disk\('folder'\)"):
            data_set("some/data")

    @pytest.mark.parametrize(
        ("name", "is_one"),
        [("some/data", True), ("imdb", True), ("train.csv", False), ("train.csv.gz", False), ("a.parquet", False),
         ("no/such/train.jsonl", False), ("train.txt", False), ("../data", False), ("a b", False)],
    )  # fmt: skip
    def test_names_of_the_hub_are_told_from_missing_files(self, name, is_one):
        assert is_a_data_set(name) == is_one


@pytest.mark.parametrize("pair", [False, True])
def test_cut_texts_are_counted(encoder, pair):
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    words = ["abcdef", "abcdefg", "abc", "abcdefghij"]  # a token a letter, and [CLS], [SEP]
    columns = {"sentence1": words, "label": [0, 1, 0, 1]} | ({"sentence2": ["ab"] * 4} if pair else {})
    data = Dataset.from_dict(columns)
    longest = 11 if pair else 8
    assert cut_texts(data, tokenized(data, tokenizer, longest), tokenizer, longest) == (2, longest + 4)
    assert cut_texts(data, tokenized(data, tokenizer, 20), tokenizer, 20) == (0, 0)
