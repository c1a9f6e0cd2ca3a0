"""The leader's arithmetic: every dialect against its formulas and its peers."""

import importlib
import importlib.util
import math
import sys
import types
from pathlib import Path

import lamb_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lamb_cases import EVERY_DIALECT, EVERY_PATH, FEWER, advance, assert_close, parameters, runs
from torch import nn

from scala.lamb import DIALECTS, Dialect, Lamb

pytestmark = pytest.mark.usefixtures("no_layer_is_small")


def import_from(folder: Path, module: str) -> types.ModuleType:
    """Import one module of a folder, relative imports included, without running the package around it."""
    package = types.ModuleType(f"_alone_{folder.name}_{module}")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.{module}")


def peer_lamb(package: str, subfolder: str) -> type[torch.optim.Optimizer]:
    # timm needs torchvision and torch_optimizer needs pytorch_ranger to be imported whole; their Lamb needs neither.
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed: its Lamb cannot be compared with ours")
    return import_from(Path(spec.submodule_search_locations[0]) / subfolder, "lamb").Lamb


@EVERY_DIALECT
@EVERY_PATH
@FEWER
@given(run=runs())
def test_dialect_equals_its_formulas(dialect, foreach, run):
    start, gradients, options = run
    params = parameters(start)
    groups = [{"params": params[::2]}, {"params": params[1::2]}]  # the global norm must see both
    advance(Lamb(groups, dialect=dialect, foreach=foreach, **options), params, gradients)

    assert_close(params, getattr(reference, dialect)(start, gradients, **options))


@given(run=runs())
def test_paper_equals_torch_optimizer(run):
    start, gradients, options = run
    ours, theirs = parameters(start), parameters(start)
    advance(Lamb(ours, dialect="paper", **options), ours, gradients)
    advance(peer_lamb("torch_optimizer", "")(theirs, **options), theirs, gradients)
    assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"dialect": "debiased"}, {"max_grad_norm": None}),
        ({"dialect": "nvlamb"}, {}),
        ({"dialect": "clipped", "ratio_bounds": (0, 1), "max_grad_norm": 1.0}, {"trust_clip": True}),
    ],
    ids=["debiased", "nvlamb", "clipped"],
)
@given(run=runs())
def test_dialect_equals_timm(ours, theirs, run):
    start, gradients, options = run
    mine, timms = parameters(start), parameters(start)
    advance(Lamb(mine, **ours, **options), mine, gradients)
    optimizer = peer_lamb("timm", "optim")(timms, always_adapt=True, foreach=False, **theirs, **options)
    advance(optimizer, timms, gradients)
    assert_close(mine, timms)


@given(run=runs())
def test_without_adaptation_it_is_adamw(run):
    start, gradients, options = run
    ours, theirs = parameters(start), parameters(start)
    advance(Lamb(ours, adapt=False, **options), ours, gradients)
    advance(torch.optim.AdamW(theirs, **options), theirs, gradients)
    assert_close(ours, theirs, 1e-11)


@pytest.mark.parametrize(
    ("dialect", "displacement"),
    [("paper", 0.2), ("debiased", 0.2), ("nvlamb", 0.2), ("clipped", 0.2), ("relative", 0.2), ("normalized", 0.05)],
)
def test_first_step_of_a_constant_layer(dialect, displacement):
    """|x| = 4 and u is constant, so lr * |x| / sqrt(4) an entry: not the 2.0 of implementations that correct after."""
    x = nn.Parameter(torch.full((4,), 2.0, dtype=torch.float64))
    advance(Lamb([x], lr=0.1, weight_decay=0.01, dialect=dialect), [x], [[np.ones(4)]])
    torch.testing.assert_close(x.detach(), torch.full_like(x, 2 - displacement), rtol=1e-12, atol=0)


@EVERY_DIALECT
@EVERY_PATH
@FEWER
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(0.1, 20))
def test_step_length_ignores_the_gradient_scale(dialect, foreach, seed, gradient_scale, weight_scale):
    rng = np.random.default_rng(seed)
    start = rng.normal(size=(3, 4)) * weight_scale
    [x] = params = parameters([start])
    free = {"ratio_bounds": (0, math.inf), "phi_bounds": (0.5, 8), "direction_floor": 0}
    optimizer = Lamb(params, lr=0.1, weight_decay=0, dialect=dialect, foreach=foreach, **free)
    advance(optimizer, params, [[rng.normal(size=(3, 4)) * gradient_scale]])
    length = np.linalg.norm(x.detach().numpy() - start)
    assert length == pytest.approx(0.1 * np.clip(np.linalg.norm(start), 0.5, 8), rel=1e-9)


@EVERY_DIALECT
@EVERY_PATH
def test_no_direction_no_move(dialect, foreach):
    start = [np.arange(6.0).reshape(2, 3), np.zeros(4), np.array(3.0)]
    params = parameters(start)
    optimizer = Lamb(params, lr=1.0, weight_decay=0, dialect=dialect, foreach=foreach)
    advance(optimizer, params, [[np.zeros_like(x) for x in start]] * 2)
    for p, x in zip(params, start, strict=True):
        assert np.array_equal(p.detach().numpy(), x)
    if not DIALECTS[dialect].direction_floor:
        assert [ratio.item() for ratio in optimizer.trust_ratios().values()] == [1, 1, 1]


@EVERY_PATH
def test_a_layer_at_zero_leaves_it(foreach):
    def step_from_zero(**options):
        [x] = params = parameters([np.zeros(4)])
        optimizer = Lamb(params, lr=0.1, betas=(0, 0), eps=0, foreach=foreach, **options)
        advance(optimizer, params, [[np.array([1.0, -4.0, 2.0, -2.0])]])
        return x.detach().tolist()

    assert step_from_zero(dialect="debiased") == pytest.approx([-0.1, 0.1, -0.1, 0.1])  # ratio 1
    assert step_from_zero(dialect="debiased", phi_bounds=(0.5, 1)) == pytest.approx([-0.025, 0.025, -0.025, 0.025])
    assert step_from_zero(dialect="normalized", phi_bounds=(0.5, 1)) == pytest.approx([-0.01, 0.04, -0.02, 0.02])


@EVERY_PATH
def test_touched_rows_of_a_table_move_as_far_as_any_other_layer(foreach):
    """A batch touches 4 of 400 rows. Whole-table normalisation gives them the step of all: sqrt(400 / 4) times as far."""

    def moved(dialect):
        table, layer = params = parameters([np.ones((400, 3)), np.ones((4, 3))])
        gradient = np.zeros((400, 3))
        gradient[:4] = 1.0
        advance(Lamb(params, lr=0.1, weight_decay=0, dialect=dialect, foreach=foreach), params, [[gradient, np.ones((4, 3))]])
        assert torch.equal(table[4:], torch.ones(396, 3, dtype=table.dtype))
        return (1 - table[0, 0].item()) / (1 - layer[0, 0].item())

    assert moved("debiased") == pytest.approx(10)
    assert moved("relative") == pytest.approx(1)


@EVERY_PATH
def test_gradients_that_cancel_shorten_the_step_of_the_relative_dialect_alone(foreach):
    """LAMB gives every layer its full step, also where the gradient is nothing but noise."""
    rng = np.random.default_rng(0)
    gradients = [[rng.normal(size=1000)] for _ in range(50)]  # no direction in them

    def last_step(dialect):
        params = parameters([np.ones(1000)])
        optimizer = Lamb(params, lr=1e-3, weight_decay=0, dialect=dialect, foreach=foreach)
        advance(optimizer, params, gradients[:-1])
        before = params[0].detach().clone()
        advance(optimizer, params, gradients[-1:])
        return float((params[0].detach() - before).norm() / before.norm() / 1e-3)

    assert last_step("debiased") == pytest.approx(1, rel=1e-3)
    assert 0.1 < last_step("relative") < 0.4  # sqrt((1 - beta_1) / (1 + beta_1)) = 0.23 for independent gradients


@EVERY_PATH
def test_floors_are_of_root_mean_squares(foreach):
    """A layer of any size: its step is lr * max(rms(x), layer_floor) / max(rms(u), direction_floor) * u."""
    start = [np.full((2, 3), 0.1), np.zeros(5)]
    params = parameters(start)
    optimizer = Lamb(params, lr=0.1, betas=(0, 0), eps=0, weight_decay=0, layer_floor=0.5, direction_floor=2.0, foreach=foreach)
    advance(optimizer, params, [[np.ones_like(x) for x in start]])
    for p, x in zip(params, start, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), x - 0.1 * 0.5 / 2.0, rtol=1e-12)


@EVERY_PATH
def test_normalized_keeps_no_second_moment_and_ignores_eps_and_beta2(foreach):
    rng = np.random.default_rng(0)
    start, gradients = [rng.normal(size=3)], [[rng.normal(size=3)] for _ in range(3)]
    results = []
    for beta2, eps in [(0.999, 1e-6), (0.0, 7.0)]:
        params = parameters(start)
        optimizer = Lamb(params, betas=(0.9, beta2), eps=eps, dialect="normalized", foreach=foreach)
        advance(optimizer, params, gradients)
        assert set(optimizer.state[params[0]]) == {"step", "exp_avg", "trust_ratio"}
        results.append(params[0].detach().numpy())
    assert np.array_equal(*results)


@EVERY_PATH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_subnormal_gradient_cannot_throw_a_layer_away(foreach, dtype):
    """Gradients of saturated functions: 1 / |u| overflows, and infinity times a tiny u is still infinity."""
    x = nn.Parameter(torch.ones(1, dtype=dtype))
    x.grad = torch.full_like(x, torch.finfo(dtype).tiny / 100)
    Lamb([x], lr=0.1, betas=(0, 0), weight_decay=0, dialect="normalized", foreach=foreach).step()
    assert 0.9 <= x.item() <= 1


@EVERY_PATH
def test_a_dialect_of_ones_own(foreach, monkeypatch):
    monkeypatch.setitem(DIALECTS, "momentum", Dialect(second_moment=False))
    [x] = params = parameters([np.array([3.0, 4.0])])
    optimizer = Lamb(params, 0.1, weight_decay=0.5, dialect="momentum", phi_bounds=(1, 1), adapt=False, foreach=foreach)
    advance(optimizer, params, [[np.array([1.0, 2.0])]])
    assert x.tolist() == pytest.approx([3 - 0.1 * (1 + 1.5), 4 - 0.1 * (2 + 2)])  # m^ = g at the first step
