"""A damaged, partial or foreign encoder gives an error that names the file and the way out; a whole one gets the right head."""

import json
import shutil

import pytest
import torch
from datasets import Dataset
from own_data import line, write_files
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from scala import adapt
from scala.adapt.encoder import check_tokens, load_encoder
from scala.labelled_text import LabelledText

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
PAGE = b"<!DOCTYPE html><html><body>Not found</body></html>"
TASK = LabelledText(Dataset.from_dict({"label": [0, 1]}), ["no", "yes"])
REGRESSION = LabelledText(Dataset.from_dict({"label": [0.0, 1.0]}), None)


@pytest.fixture
def folder(encoder, tmp_path):
    shutil.copytree(encoder, tmp_path / "encoder")
    (tmp_path / "encoder" / "vocab.txt").unlink()  # tokenizer.json has it all
    return tmp_path / "encoder"


def sharded(folder):
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    shards = {"model-1-of-2.safetensors": names[:9], "model-2-of-2.safetensors": names[9:]}
    for shard, keys in shards.items():
        save_file({key: weights[key] for key in keys}, folder / shard, {"format": "pt"})
    found = {"metadata": {}, "weight_map": {key: shard for shard, keys in shards.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(found))
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "model-2-of-2.safetensors"]
)
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (POINTER, "is a pointer of Git LFS, not the file itself (run 'git lfs pull'"),
        (PAGE, "is a web page, not the file itself"),
        (None, "is damaged or not whole"),
        (b"", "is empty"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(folder, name, content, why):
    if name.startswith("model-"):
        sharded(folder)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(OSError, match=name) as error:
        load_encoder(str(folder), TASK)
    assert why in str(error.value)
    assert str(error.value).endswith("fetch it again")


def test_the_command_says_it_without_a_traceback(folder, tmp_path, capsys):
    (folder / "model.safetensors").write_bytes(POINTER)
    assert adapt.main(line(write_files(tmp_path), str(folder))) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {folder}/model.safetensors is a pointer of Git LFS")
    assert "Traceback" not in said


def lose(name):
    return lambda folder: (folder / name).unlink()


def only_pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def lose_a_shard(folder):
    sharded(folder)
    (folder / "model-2-of-2.safetensors").unlink()


def change_weights(change):
    def changed(folder):
        weights = load_file(folder / "model.safetensors")
        save_file(change(weights), folder / "model.safetensors", {"format": "pt"})

    return changed


def change_config(**options):
    def changed(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | options))

    return changed


def no_vocabulary(folder):
    for path in (*folder.glob("vocab*"), folder / "tokenizer.json"):
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lose("config.json"), "holds no config.json"),
        (lose("model.safetensors"), "model.safetensors is missing: fetch"),
        (only_pickled, "only as pytorch_model.bin, which can run code when it is opened: convert it"),
        (lose_a_shard, "model-2-of-2.safetensors is missing"),
        (no_vocabulary, "knows no words: its vocabulary is missing"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "the tokenizer of .* cannot be read"),
        (change_weights(lambda w: {k: w[k] for k in w if "layer.1" not in k}), r"lack bert\.encoder\.layer\.1\..* and 15 more"),
        (change_weights(lambda w: {f"other.{k}": v for k, v in w.items()}), "they are of another model"),
        (change_config(hidden_size=32), "is damaged: its .* has the shape"),
        (change_config(model_type="no-such-model"), "no encoder at"),
        (change_config(auto_map={"AutoModelForSequenceClassification": "code.Model", "AutoConfig": "code.Config"},
                       model_type="own"), "no encoder at"),
    ],
)  # fmt: skip
def test_a_partial_or_strange_folder_gets_a_clear_error(folder, damage, why, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody is there to answer"))
    damage(folder)
    with pytest.raises(OSError, match=why):
        load_encoder(str(folder), TASK)


def test_a_file_is_no_folder_and_a_name_no_hub_has_is_named(folder):
    with pytest.raises(OSError, match="is a file: give the folder that holds it"):
        load_encoder(str(folder / "model.safetensors"), TASK)
    with pytest.raises(OSError, match="there is no such folder, and the hub did not give it"):
        load_encoder("no/such-encoder", TASK)


def test_shards_are_read(folder):
    whole = load_encoder(str(folder), TASK).model.base_model.state_dict()
    sharded(folder)
    parts = load_encoder(str(folder), TASK).model.base_model.state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def saved_with_a_head(folder, outputs, **options):
    config = AutoConfig.from_pretrained(folder, num_labels=outputs, **options)
    model = AutoModelForSequenceClassification.from_pretrained(folder, config=config)
    model.save_pretrained(folder / "trained")
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder / "trained")
    return model


def test_a_head_of_other_outputs_is_replaced_and_it_is_said(folder):
    trained = saved_with_a_head(folder, 3)
    found = load_encoder(str(folder / "trained"), TASK)
    assert found.notes == ["the encoder's head of 3 outputs is replaced by a fresh one of 2"]
    assert found.model.classifier.weight.shape == (2, 16)
    assert torch.equal(found.model.bert.pooler.dense.weight, trained.bert.pooler.dense.weight)


def test_a_head_of_as_many_outputs_is_kept(folder):
    trained = saved_with_a_head(folder, 2)
    found = load_encoder(str(folder / "trained"), TASK)
    assert found.notes == []
    assert torch.equal(found.model.classifier.weight, trained.classifier.weight)


@pytest.mark.parametrize(("task", "problem"), [(TASK, "single_label_classification"), (REGRESSION, "regression")])
def test_the_loss_is_the_tasks_whatever_the_encoder_was_trained_on(folder, task, problem):
    saved_with_a_head(folder, 2, problem_type="multi_label_classification")
    model = load_encoder(str(folder / "trained"), task).model
    labels = torch.tensor(task.dataset["label"][:])
    out = model(input_ids=torch.tensor([[2, 7, 3], [2, 8, 3]]), labels=labels)
    assert model.config.problem_type == problem
    if task.labels:
        assert float(out.loss) == pytest.approx(float(torch.nn.functional.cross_entropy(out.logits, labels)))
    else:
        assert float(out.loss) == pytest.approx(float((out.logits[:, 0] - labels).square().mean()))


def test_tokens_that_the_encoder_does_not_have_are_refused(folder):
    found = load_encoder(str(folder), TASK)
    with pytest.raises(OSError, match="the tokenizer makes the token 99, and the encoder knows 58: they are not of one model"):
        check_tokens(found, Dataset.from_dict({"input_ids": [[2, 99, 3]]}))


def test_texts_of_unknown_words_are_refused_and_many_unknown_words_are_said(folder):
    found = load_encoder(str(folder), TASK)
    unknown = found.tokenizer.unk_token_id
    check_tokens(found, Dataset.from_dict({"input_ids": [[2, *[7] * 9, unknown, 3]]}))
    assert found.notes == []
    check_tokens(found, Dataset.from_dict({"input_ids": [[2, 7, 7, 7, unknown, 3]]}))
    assert found.notes == ["25% of the texts' tokens are unknown to the tokenizer: is it of the texts' language?"]
    with pytest.raises(OSError, match="knows no word of the texts"):
        check_tokens(found, Dataset.from_dict({"input_ids": [[2, unknown, 3]]}))


def test_a_tokenizer_without_padding_pads_by_its_end_or_is_refused(folder):
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text()) | {"pad_token": None, "eos_token": "[SEP]"}
    file.write_text(json.dumps(settings))
    found = load_encoder(str(folder), TASK)
    assert found.tokenizer.pad_token == "[SEP]"
    file.write_text(json.dumps(settings | {"eos_token": None}))
    with pytest.raises(OSError, match="has no padding token"):
        load_encoder(str(folder), TASK)
