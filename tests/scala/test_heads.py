"""The head of a regression starts where its labels are; without that, LAMB answers every input alike."""

import warnings

import pytest
import torch
from tiny_models import CONFIGS, collate, tiny_data, tiny_model
from torch import nn

from scala import ScalaConfig, ScalaTrainer
from scala.heads import fresh_regression_head, start_regression_head

MEAN, SPREAD = 50.0, 4.0


def regressor(name="bert"):
    return tiny_model(name, dropout=0.0, outputs=1)


def numbers(samples=64):
    """tiny_data with the numbers 46 and 54 for its classes."""
    return tiny_data(samples).map(lambda row: {"label": MEAN + SPREAD * (2.0 * row["label"] - 1)})


def answers(model, data):
    model.eval()
    with torch.no_grad():
        return model(**{k: v for k, v in collate(list(data)).items() if k not in ("labels", "idx")}).logits.squeeze(-1)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_fresh_head_answers_around_the_mean_at_the_labels_scale(name):
    model, data = regressor(name), tiny_data(16)
    before = answers(model, data)
    assert start_regression_head(model, torch.tensor([MEAN - SPREAD, MEAN + SPREAD]))
    torch.testing.assert_close(answers(model, data), MEAN + SPREAD * before)


def test_labels_that_are_all_alike_leave_the_weights():
    model, data = regressor(), tiny_data(4)
    before = answers(model, data)
    assert start_regression_head(model, torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(answers(model, data), 3 + before)


@pytest.mark.parametrize(
    "spare",
    [
        lambda: start_at(regressor(), 1.0),
        tiny_model,
        lambda: nn.Sequential(nn.Linear(3, 1, bias=False)),
        lambda: nn.Sequential(nn.LayerNorm(3)),
    ],
    ids=["trained", "two classes", "no bias", "no linear layer"],
)
def test_what_is_no_fresh_head_is_left_alone(spare):
    model = spare()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert fresh_regression_head(model) is None
    assert not start_regression_head(model, torch.tensor([1.0, 3.0]))
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def start_at(model, bias):
    nn.init.constant_(model.classifier.bias, bias)
    return model


@pytest.mark.parametrize("labels", [[], [1.0, float("nan")], [float("inf")]])
def test_labels_that_are_no_numbers_are_refused(labels):
    with pytest.raises(ValueError, match="finite numbers, at least one"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of a variance of nothing
        start_regression_head(regressor(), torch.tensor(labels))


def warnings_of(folder, model, data, collator=collate, **options):
    """What the trainer says of the head."""
    settings = {
        "per_device_train_batch_size": 32, "learning_rate": 0.02, "noise": "none", "save_strategy": "no", "disable_tqdm": True,
        "use_cpu": True, "report_to": "none", "dataloader_pin_memory": False,
    }  # fmt: skip
    config = ScalaConfig(output_dir=str(folder), **(settings | options))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ScalaTrainer(model, config, train_dataset=data, data_collator=collator).train()
    return [str(one.message) for one in caught if "start_regression_head" in str(one.message)]


def test_lamb_learns_a_regression_whose_head_starts_at_its_labels_and_no_other(tmp_path):
    data = numbers()
    labels = torch.tensor(data["label"][:]).double()
    said, errors = [], []
    for started in (True, False):
        model = regressor()
        if started:
            start_regression_head(model, labels)
        said.append(warnings_of(tmp_path, model, data, num_train_epochs=100))
        errors.append(float((answers(model, data) - labels).square().mean() / SPREAD**2))
    assert said[0] == []
    assert errors[0] < 0.5
    (warning,) = said[1]
    assert f"mean {labels.mean():.3g} and deviation {labels.std(correction=0):.3g}" in warning
    assert errors[1] > 1  # worse than the mean for everybody


@pytest.mark.parametrize("case", ["classes", "yes or no", "optim", "centred", "stream", "words"])
def test_otherwise_nothing_is_said(tmp_path, case):
    model, data, collator, options = regressor(), numbers(), collate, {}
    if case == "classes":
        model, data = tiny_model(), tiny_data(64)
    elif case == "yes or no":
        model.config.problem_type = "multi_label_classification"
        data = data.map(lambda row: {"label": [float(row["label"] > 0)]}, remove_columns="label")
    elif case == "optim":
        options = {"leader": "optim"}
    elif case == "centred":
        data = data.map(lambda row: {"label": row["label"] - MEAN})
    elif case == "stream":
        data = data.to_iterable_dataset()
    else:  # which only the collator can read
        data = data.map(lambda row: {"label": f"{row['label']} points"}, remove_columns="label")

        def collator(rows):
            return collate([{**row, "label": float(row["label"].split()[0])} for row in rows])

    assert warnings_of(tmp_path, model, data, collator, max_steps=1, remove_unused_columns=False, **options) == []
