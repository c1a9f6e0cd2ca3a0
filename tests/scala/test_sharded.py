"""Leader and game on two gloo processes equal one, however the weights are spread; see sharded_training.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sharded_training
import torch

WAYS = pytest.mark.parametrize("way", ["ddp", "fsdp2", "tensor parallel"])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    script = Path(sharded_training.__file__)
    environment = os.environ | {"PYTHONPATH": str(script.parents[2])}  # this checkout, not what is installed
    done = subprocess.run(
        [*command, str(script), str(folder)], capture_output=True, text=True, timeout=240, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return torch.load(folder / "results.pt", weights_only=True)


def assert_equals_one_process(found, leader, game):
    """To the last few bits of float64: sums are taken in another order, no more."""
    start = dict(sharded_training.network().named_parameters())
    one = sharded_training.play(sharded_training.network(), leader, slice(None), game=game)
    for name, p in one["weights"].items():
        assert (p - start[name]).abs().max() > 1e-4, name
    torch.testing.assert_close(found["weights"], one["weights"], rtol=0, atol=1e-14)
    torch.testing.assert_close(found["state"], one["state"], rtol=1e-12, atol=1e-14)
    return one


@WAYS
@pytest.mark.parametrize("leader", sharded_training.LEADERS)
def test_the_leader_of_two_processes_equals_that_of_one(results, way, leader):
    assert_equals_one_process(results[way, leader, False], leader, game=False)


@WAYS
@pytest.mark.parametrize("leader", ["relative", "orthogonal"])
def test_the_game_of_two_processes_equals_that_of_one(results, way, leader):
    found = results[way, leader, True]
    one = assert_equals_one_process(found, leader, game=True)
    assert all(rise > 0 for rise in found["rises"])
    # Each process's follower answers for its own samples.
    assert found["gradients"] == one["gradients"] // (1 if way == "tensor parallel" else 2)


def test_a_sharded_checkpoint_goes_on_bit_for_bit(results):
    found = results["resumed"]
    assert found["through"]["state"]["words.weight"].keys() == {"step", "exp_avg", "exp_avg_sq", "master", "trust_ratio"}
    torch.testing.assert_close(found["resumed"], found["through"], rtol=0, atol=0)


@pytest.mark.parametrize("case", ["flat, original False", "flat, original True", "wrapped later"])
def test_flat_parameters_of_fsdp1_are_refused_by_name(results, case):
    said = results["refused"][case]
    assert said.startswith("ValueError: parameter 0 is part of a flat one of FullyShardedDataParallel (FSDP1)")
    assert "fully_shard (FSDP2)" in said


def test_what_is_of_whole_parameters_is_refused_for_spread_ones(results):
    assert "get_optimizer_state_dict and set_optimizer_state_dict" in results["refused"]["whole state"]
    for case in ("rows", "rows, exchanged"):
        assert "per_row is of whole ones: unset it" in results["refused"][case]
    assert "a sum over processes that is not summed" in results["refused"]["not summed"]
    assert "call step uncompiled" in results["refused"]["compiled"]


def test_spread_parameters_in_the_place_of_plain_ones_are_taken(results):
    """As accelerate does with an optimizer that was made before the sharding."""
    assert results["refused"]["exchanged"] == "nothing"


def test_a_number_that_is_not_finite_on_one_process_stops_all(results):
    gradient, weights = results["not finite"][::2], results["not finite"][1::2]
    assert all(said.startswith("NonFiniteLoss: the gradient's norm is nan in round 0") for said in gradient)
    assert all(said.startswith("NonFiniteLoss: the weights' norm is inf after round 0") for said in weights)
