"""A run's evaluation, clock, trackers, rivals and result file; that it survives any kill is tested in test_demo.py."""

import dataclasses
import itertools
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Value
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from paper_repro import smoke
from paper_repro.data import acceptability, hashes, tasks
from paper_repro.data.glue import GLUE_TASKS
from paper_repro.data.tasks import load_task
from paper_repro.runs import run
from paper_repro.runs.experiment import Run, load_experiment
from paper_repro.runs.run import execute, read_result, result_file
from scala.metrics import compute_metrics_for


@pytest.fixture(scope="module")
def small(encoder):
    """One second: 32 sentences, scored on 40 of the training set; the encoder spells words, so lengths differ much."""
    return Run(
        task="acceptability", model=encoder, method="scala", seed=0, batch_size=16, micro_batch=8, epochs=2, learning_rate=1e-2,
        evaluations=2, train_examples=32, held_out=0.01,
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    return execute(small, folder), result_file(small, folder)


def test_an_encoder_that_returns_more_than_logits_is_scored_as_any(small, done, tmp_path):
    shutil.copytree(small.model, tmp_path / "encoder")
    config = tmp_path / "encoder/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"output_hidden_states": True}))
    found = execute(dataclasses.replace(small, model=str(tmp_path / "encoder")), tmp_path)
    assert found["predictions"] == done[0]["predictions"]


def ticking(start, seconds):
    """A clock that every look at it moves on."""
    ticks = itertools.count(start, seconds)
    return SimpleNamespace(perf_counter=lambda: float(next(ticks)))


def test_each_evaluation_is_made_once_and_the_last_ones_predictions_are_kept(small, tmp_path, monkeypatch):
    made = []
    loop = run.RivalTrainer.evaluation_loop

    def counted(self, dataloader, *arguments, **keywords):
        lengths = [batch["attention_mask"].sum(dim=1) for batch in dataloader]
        assert [length for batch in lengths for length in batch] == sorted(
            (length for batch in lengths for length in batch), reverse=True
        )
        made.append(keywords["metric_key_prefix"])
        return loop(self, dataloader, *arguments, **keywords)

    saved = []
    save = run.RivalTrainer._save_checkpoint
    monkeypatch.setattr(
        run.RivalTrainer, "_save_checkpoint", lambda self, *more: (saved.append(self.state.global_step), save(self, *more))
    )
    monkeypatch.setattr(run.RivalTrainer, "evaluation_loop", counted)
    result = execute(small, tmp_path)
    assert saved == [2]  # none at the end, where the result follows at once
    assert made == ["eval_held_out"] * 2
    assert [point["step"] for point in result["curve"]] == [2, 4]


def test_predictions_are_in_the_splits_own_order(small, done, tmp_path, monkeypatch):
    result, _ = done
    split = load_task("acceptability", train_examples=32, held_out=0.01).evaluation["held_out"]
    assert result["labels"] == list(split["label"])
    assert len(set(map(len, split["sentence1"]))) > 10
    assert result["score"] == pytest.approx(np.mean(np.equal(result["predictions"], result["labels"])))
    # The same model, scored in the split's own order.
    argsort = np.argsort
    monkeypatch.setattr(run.np, "argsort", lambda values, **how: argsort(np.arange(len(values)) if how else values))
    unsorted = execute(small, tmp_path)
    assert unsorted["predictions"] == result["predictions"]
    assert unsorted["score"] == result["score"]


def test_the_clock_of_the_whole_run_contains_that_of_training_and_goes_on_after_a_kill(small, done, tmp_path, monkeypatch):
    result, _ = done
    for earlier, later in zip(result["curve"], result["curve"][1:], strict=False):
        assert earlier["wall_seconds"] < later["wall_seconds"]
    assert all(point["wall_seconds"] > point["train_seconds"] > 0 for point in result["curve"])
    first = 0.0
    with monkeypatch.context() as patch:
        patch.setattr(run, "time", ticking(0, 100))

        def killed(self, args, state, control, **kwargs):
            nonlocal first
            if state.global_step == 3:
                first = max(entry.get("wall_seconds", 0.0) for entry in state.log_history)
                raise KeyboardInterrupt

        patch.setattr(run._Clock, "on_step_begin", killed)
        patch.setattr(run._Clock, "on_step_end", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            execute(small, tmp_path)
    monkeypatch.setattr(run, "time", ticking(-1_000_000, 1))  # another process's clock starts anywhere
    resumed = execute(small, tmp_path)
    assert resumed["curve"][0]["wall_seconds"] == first >= 100
    assert first < resumed["curve"][1]["wall_seconds"] < first + 100
    assert resumed["predictions"] == result["predictions"]


def test_a_tracker_gets_the_metrics_keeps_its_files_and_changes_no_name(small, tmp_path, monkeypatch):
    seen = []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            (tmp_path / args.output_dir / "runs").mkdir(exist_ok=True)
            seen.append((args.run_name, set(logs)))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "comet_ml", Tracker)
    execute(small, tmp_path, report_to=["comet_ml"])
    folder = result_file(small, tmp_path).with_suffix("")
    assert {name for name, _ in seen} == {small.identity}
    keys = set().union(*(logged for _, logged in seen))
    assert {"loss", "noise_norm", "eval_held_out_accuracy", "wall_seconds", "gradient_evaluations"} <= keys
    assert [path.name for path in folder.iterdir()] == ["runs"]


def test_unknown_trackers_are_refused(small, tmp_path):
    with pytest.raises(ValueError, match="papyrus is not supported"):
        execute(small, tmp_path, report_to=["papyrus"])


@pytest.mark.parametrize(
    ("options", "each"),
    [
        ({"rival": "sam"}, 2),
        ({"rival": "freelb", "noise_steps": 3, "leader": "optim", "optim": "adamw_torch"}, 3),
        ({"gradient_checkpointing": True}, 2),
    ],
)
def test_the_options_of_a_toml_reach_the_rivals(small, tmp_path, options, each):
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    (tmp_path / "experiment.toml").write_text(
        f'model = "{small.model}"\ntrain_examples = 32\nheld_out = 0.01\nmicro_batch = 8\nbatch_size = 16\nepochs = 2\n'
        + "evaluations = 1\n[methods.one]\n" + "\n".join(lines)
    )  # fmt: skip
    (one,) = load_experiment(tmp_path / "experiment.toml", "acceptability")
    assert execute(one, tmp_path)["cost"]["gradient_evaluations"] == 32 + 32 * each


def test_dropout_reaches_the_model(small, tmp_path):
    trainers = {}
    for dropout in (None, 0.0, 0.4):
        one = dataclasses.replace(small, dropout=dropout)
        task = load_task("acceptability", train_examples=32, held_out=0.01)
        trainers[dropout] = run._trainer(one, task, tmp_path, 8)[0].model
    rates = {
        key: {module.p for module in model.modules() if type(module).__name__ == "Dropout"} for key, model in trainers.items()
    }
    assert rates == {None: {0.1}, 0.0: {0.0}, 0.4: {0.4}}


# --- reading a result ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero_head", [False, True])
def test_a_regressions_head_starts_at_its_labels_unless_told(small, tmp_path, monkeypatch, zero_head):
    def numbers(part):
        return part.cast_column("label", Value("float32")).map(lambda row: {"label": row["label"] + 100})

    task = load_task(small.task, train_examples=32, held_out=0.01)
    task = dataclasses.replace(
        task,
        train=numbers(task.train),
        evaluation={name: numbers(part) for name, part in task.evaluation.items()},
        labels=None,
        metric="pearson",
        compute_metrics=compute_metrics_for(["pearson"]),
    )
    monkeypatch.setattr(run, "load_task", lambda *_, **__: task)
    seen = []

    class Look(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            seen.append(model.classifier.bias.item())

    result = execute(dataclasses.replace(small, task="stsb", zero_head=zero_head), tmp_path, callbacks=[Look()])
    assert seen == pytest.approx([0.0 if zero_head else np.mean(task.train["label"][:])])
    assert np.mean(result["predictions"]) == pytest.approx(seen[0], abs=3)


@pytest.fixture
def on_files(small, encoder, tmp_path):
    """A finished run on GLUE files and an encoder of its own."""
    smoke._files(GLUE_TASKS["sst2"], tmp_path / "glue")
    one = dataclasses.replace(
        small, task="sst2", model=str(shutil.copytree(encoder, tmp_path / "encoder")), train_examples=0, held_out=0.0, epochs=1
    )
    return one, execute(one, tmp_path / "out", str(tmp_path / "glue"))


def test_a_result_of_other_data_is_not_returned(on_files, tmp_path, monkeypatch):
    one, result = on_files
    out, data, glue_dir = tmp_path / "out", tmp_path / "glue/SST-2/dev.tsv", str(tmp_path / "glue")
    assert execute(one, out, glue_dir)["predictions"] == result["predictions"]
    read = []
    monkeypatch.setattr(hashes.hashlib, "file_digest", lambda *_: read.append(1))
    execute(one, out, glue_dir)
    assert not read, "each file is hashed once a process"
    monkeypatch.undo()
    before = data.read_text()
    data.write_text(before.replace("\t1", "\t0", 1))
    with pytest.raises(ValueError, match=r"SST-2/dev\.tsv was \w{12}, and is \w{12}; delete that file .* GLUE_DIR") as error:
        execute(one, out, glue_dir)
    assert str(result_file(one, out)) in str(error.value)
    execute(one, out)  # the hub's copy is not at hand
    execute(one, out, str(tmp_path))  # nor are files that are not there
    data.write_text(before)
    assert execute(one, out, glue_dir)["predictions"] == result["predictions"]


def test_a_result_of_other_weights_is_not_returned(on_files, tmp_path):
    one, _ = on_files
    weights = tmp_path / "encoder/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"the weights of .*encoder was") as error:
        execute(one, tmp_path / "out", str(tmp_path / "glue"))
    assert str(result_file(one, tmp_path / "out")) in str(error.value)
    shutil.rmtree(tmp_path / "encoder")
    execute(one, tmp_path / "out", str(tmp_path / "glue"))  # nothing at hand to compare


def test_a_result_of_other_generated_sentences_is_not_returned(small, done, monkeypatch):
    _, path = done
    assert execute(small, path.parent)["task"]["source"]["generator"] == "paper_repro.acceptability"
    generated = acceptability.generate()
    other = dataclasses.replace(generated["dev"][0], label=1 - generated["dev"][0].label)
    monkeypatch.setattr(acceptability, "generate", lambda: {**generated, "dev": [other, *generated["dev"][1:]]})
    tasks._embedded_hash.cache_clear()
    with pytest.raises(ValueError, match="sha256 was"):
        execute(small, path.parent)
    tasks._embedded_hash.cache_clear()


def test_a_result_is_read_as_it_was_written(done):
    result, path = done
    assert read_result(path) == json.loads(json.dumps(result))


def spoilt(change):
    def write(path, text):
        content = json.loads(text)
        change(content)
        path.write_text(json.dumps(content))

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path, text: path.write_text(text[:-100]), "is damaged"),
        (lambda path, text: path.write_bytes(b"\xff" + text.encode()), "is damaged"),
        (lambda path, text: path.write_text("[]"), r"is damaged \(the result is '\[\]', of a wrong kind"),
        (spoilt(lambda r: r.pop("score")), "the result has no 'score'"),
        (spoilt(lambda r: r.update(score=float("nan"))), "score is 'nan', of a wrong kind"),
        (spoilt(lambda r: r.update(score="0.8")), "score is '0.8', of a wrong kind"),
        (spoilt(lambda r: r.update(score=True)), "score is 'True', of a wrong kind"),
        (spoilt(lambda r: r["task"].pop("metric")), "task has no 'metric'"),
        (spoilt(lambda r: r["cost"].pop("gradient_evaluations")), "cost has no 'gradient_evaluations'"),
        (spoilt(lambda r: r["curve"][1].pop("train_seconds")), r"curve\[1\] has no 'train_seconds'"),
        (spoilt(lambda r: r["curve"][0].pop("eval_held_out_accuracy")), r"curve\[0\] has no 'eval_held_out_accuracy'"),
        (spoilt(lambda r: r.update(curve=[])), "curve is empty"),
        (spoilt(lambda r: r["predictions"].pop()), "not as many predictions as labels"),
        (spoilt(lambda r: r.update(further=[])), r"further is '\[\]', of a wrong kind"),
        (spoilt(lambda r: r.update(further={"b": {"score": 1, "predictions": [1]}})), "b has no 'labels'"),
        (
            spoilt(lambda r: r.update(further={"b": {"score": 1, "predictions": [1], "labels": []}})),
            "not as many predictions as labels",
        ),
        (spoilt(lambda r: r["predictions"].append(None)), r"predictions\[40\] is 'None'"),
        (spoilt(lambda r: r.pop("settings")), "no 'settings'"),
        (spoilt(lambda r: r["settings"].update(colour="red")), "not the settings of a run"),
        (spoilt(lambda r: r["settings"].update(epochs=-1)), "epochs = -1: input should be greater"),
        (spoilt(lambda r: r["settings"].update(seed=1)), "holds the result of another run; by its settings its name is accept"),
    ],
)
def test_damaged_and_foreign_files_are_named(done, tmp_path, write, message):
    _, path = done
    copy = tmp_path / path.name
    write(copy, path.read_text())
    with pytest.raises(ValueError, match=message) as error:
        read_result(copy)
    assert str(copy) in str(error.value)
