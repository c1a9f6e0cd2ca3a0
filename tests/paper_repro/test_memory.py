import dataclasses
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paper_repro.data.tasks import load_task
from paper_repro.runs import run
from paper_repro.runs.experiment import Run
from paper_repro.runs.memory import heaviest_step, largest_that_fits, micro_batches
from paper_repro.runs.run import execute


@pytest.mark.parametrize(
    ("batch_size", "micro_batch", "processes", "sizes"),
    [
        (32, 32, 1, [32, 16, 8, 4, 2, 1]),
        (32, 32, 2, [16, 8, 4, 2, 1]),  # a batch that several processes share
        (15, 15, 1, [15, 5, 1]),
        (1024, 96, 1, [64, 32, 16, 8, 4, 2, 1]),
    ],
)
def test_sizes_divide_the_share_of_each_process(batch_size, micro_batch, processes, sizes):
    assert list(micro_batches(batch_size, micro_batch, processes)) == sizes


def test_the_first_that_fits():
    tried = []

    def trial(size):
        tried.append(size)
        if size > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert largest_that_fits(trial, micro_batches(64, 64)) == 8
    assert tried == [64, 32, 16, 8]


def test_nothing_fits():
    def trial(size):
        raise torch.OutOfMemoryError(f"CUDA out of memory at {size}")

    with pytest.raises(
        torch.OutOfMemoryError, match=r"not even micro-batches of 1 fit.*memory at 1.*gradient_checkpointing = true"
    ):
        largest_that_fits(trial, micro_batches(4, 4))


def test_other_errors_are_not_hidden():
    def trial(size):
        raise RuntimeError("another")

    with pytest.raises(RuntimeError, match="another"):
        largest_that_fits(trial, micro_batches(4, 4))


GRADIENTS = 20
FAULTS = f"""
import resource, sys, torch
from paper_repro.runs.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({GRADIENTS}):
    gradient = torch.zeros(2**24)
    del gradient
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that gives memory back")
def test_freed_memory_is_kept_for_the_next_gradient():
    """Nearly every gradient: where a small object came to lie just behind one, glibc takes new memory for the next."""
    said = {how: int(subprocess.check_output([sys.executable, "-c", FAULTS, how], text=True)) for how in ("keep", "leave")}
    pages = GRADIENTS * 4 * 2**24 // resource.getpagesize()
    assert said["keep"] < pages / 4
    assert said["leave"] > pages / 2 or _huge_pages(), "else this test shows nothing"


def _huge_pages():
    """Whether a page of the system's own choice is large: then a gradient has few."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return setting.exists() and "[always]" in setting.read_text()


@pytest.fixture(scope="module")
def small(encoder):
    return Run(
        task="acceptability", model=encoder, method="scala", seed=0, batch_size=16, micro_batch=8, epochs=2, learning_rate=1e-2,
        evaluations=1, train_examples=32, held_out=0.01,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({"noise": "none"}, 1),
        ({}, 2),
        ({"rival": "sam", "gradient_checkpointing": True}, 2),
        ({"rival": "freelb", "noise_steps": 3}, 3),
        ({"rival": "smart"}, 3),
    ],
    ids=str,
)
def test_the_heaviest_step_has_the_longest_samples_and_all_the_methods_passes(small, tmp_path, options, passes):
    one = dataclasses.replace(small, options=options)
    task = load_task("acceptability", train_examples=32, held_out=0.01)
    trainer, _ = run._trainer(one, task, tmp_path, 8)
    longest, shapes = max(len(ids) for ids in trainer.train_dataset["input_ids"]), []

    def see(_model, _inputs, named):
        if torch.is_grad_enabled():  # not where a pass only looks for the embeddings, and ends there
            shapes.append(tuple(named["input_ids"].shape))

    trainer.model.register_forward_pre_hook(see, with_kwargs=True)
    heaviest_step(trainer)
    assert shapes == [(8, longest)] * 2 * passes
    assert trainer.game.gradient_evaluations == 8 * 2 * passes
    assert trainer.game.leader.state  # so the second step had it in memory
    if "gradient_checkpointing" in options:
        assert trainer.model.is_gradient_checkpointing


def test_a_run_uses_what_fits_says_so_and_keeps_its_name_and_steps(small, tmp_path, monkeypatch, capsys):
    plain = execute(small, tmp_path / "plain")
    assert plain["cost"]["micro_batch"] == 8

    def heaviest(trainer):
        if trainer.args.per_device_train_batch_size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run, "heaviest_step", heaviest)
    assert execute(small, tmp_path / "cpu")["cost"]["micro_batch"] == 8  # nothing is tried without a GPU
    monkeypatch.setattr(run.torch.accelerator, "is_available", lambda: True)
    found = execute(small, tmp_path / "gpu")
    assert found["cost"]["micro_batch"] == 2
    assert found["settings"] == plain["settings"]
    for key in ("steps", "gradient_evaluations"):
        assert found["cost"][key] == plain["cost"][key]
    assert "micro-batches of 2, not 8; still 16 a step" in capsys.readouterr().out
