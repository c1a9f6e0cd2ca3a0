"""Precision, and what is saved and loaded."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from lamb_cases import EVERY_PATH, advance, parameters
from torch import nn

from scala.lamb import DIALECTS, Lamb, parameter_groups

pytestmark = pytest.mark.usefixtures("no_layer_is_small")


@EVERY_PATH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_updates_below_an_ulp_are_not_lost(foreach, dtype):
    low, full = [nn.Parameter(torch.ones(8, dtype=d)) for d in (dtype, torch.float32)]
    kinds = [Lamb([p], lr=1e-5, foreach=foreach) for p in (low, full)]
    for _ in range(300):
        for p, optimizer in zip((low, full), kinds, strict=True):
            p.grad = torch.ones_like(p)
            optimizer.step()
    state = kinds[0].state[low]
    assert {value.dtype for value in state.values() if isinstance(value, torch.Tensor)} == {torch.float32}
    assert torch.equal(state["master"], full)
    assert torch.equal(low, full.to(dtype))
    assert low[0] < 1  # one step alone, 1e-5, is far below the spacing of numbers near 1


def test_the_global_norm_of_low_precision_gradients_is_not_rounded():
    x = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    x.grad = torch.ones_like(x)
    optimizer = Lamb([x], betas=(0, 0), dialect="normalized", max_grad_norm=1.0)
    optimizer.step()
    torch.testing.assert_close(optimizer.state[x]["exp_avg"], torch.full((3,), 3**-0.5), rtol=1e-6, atol=0)


@EVERY_PATH
def test_a_parameter_changed_from_outside_wins_over_its_master(foreach):
    x = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = Lamb([x], lr=1e-5, weight_decay=0, foreach=foreach)
    for value in (None, 3.0):
        if value is not None:
            x.data.fill_(value)
        x.grad = torch.ones_like(x)
        optimizer.step()
    torch.testing.assert_close(optimizer.state[x]["master"], torch.full((4,), 3.0 * (1 - 1e-5)), rtol=1e-6, atol=0)


def on_disk_and_back(state_dict):
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("dialect", DIALECTS)
@EVERY_PATH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_saved_and_loaded_it_continues_bit_for_bit(dialect, foreach, dtype):
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (4, 2), (5, 1)] if DIALECTS[dialect].orthogonal else [(3, 4), (), (5,)]
    gradients = [[rng.normal(size=shape) for shape in shapes] for _ in range(6)]
    params = parameters([rng.normal(size=shape) for shape in shapes], dtype)
    optimizer = Lamb([{"params": params[:1]}, {"params": params[1:], "adapt": False}], 0.01, dialect=dialect, foreach=foreach)
    advance(optimizer, params, gradients[:3])

    resumed = [nn.Parameter(p.detach().clone()) for p in params]
    saved = on_disk_and_back(optimizer.state_dict())
    successor = Lamb([{"params": resumed[:1]}, {"params": resumed[1:]}])
    successor.load_state_dict(saved)
    for p, q in zip(params, resumed, strict=True):
        torch.testing.assert_close(optimizer.state[p], successor.state[q], rtol=0, atol=0)

    advance(optimizer, params, gradients[3:])
    advance(successor, resumed, gradients[3:])
    for p, q in zip(params, resumed, strict=True):
        assert torch.equal(p, q)
        torch.testing.assert_close(optimizer.state[p], successor.state[q], rtol=0, atol=0)


def test_a_loaded_optimizer_shares_no_memory_with_the_one_it_came_from():
    params, twins = parameters([np.ones(3)]), parameters([np.ones(3)])
    optimizer, twin = Lamb(params), Lamb(twins)
    advance(optimizer, params, [[np.ones(3)]])
    twin.load_state_dict(optimizer.state_dict())
    before = optimizer.state[params[0]]["exp_avg"].clone()
    advance(twin, twins, [[np.ones(3)]])
    assert torch.equal(optimizer.state[params[0]]["exp_avg"], before)


def test_state_moves_between_precisions():
    start, g = [np.array([1.0, 2.0, 3.0])], [np.array([1.0, -0.5, 2.0])]
    full, low = parameters(start, torch.float32), parameters(start, torch.bfloat16)
    source, target = Lamb(full, lr=0.01), Lamb(low)
    advance(source, full, [g])
    low[0].data.copy_(full[0].data)
    target.load_state_dict(source.state_dict())
    advance(target, low, [g])
    assert target.state[low[0]]["exp_avg"].dtype == torch.float32
    advance(source, full, [g])
    torch.testing.assert_close(low[0].float(), full[0], rtol=2**-7, atol=0)


def test_hooks_of_the_user_see_and_shape_what_is_loaded():
    params, twins = parameters([np.ones(3)], torch.bfloat16), parameters([np.ones(3)], torch.bfloat16)
    optimizer, twin = Lamb(params), Lamb(twins)
    advance(optimizer, params, [[np.ones(3)]])

    def forget_momentum(_, state_dict):
        state_dict = copy.deepcopy(state_dict)
        state_dict["state"][0]["exp_avg"].zero_()
        return state_dict

    seen = []
    twin.register_load_state_dict_pre_hook(forget_momentum)
    twin.register_load_state_dict_post_hook(lambda loaded: seen.append(loaded.state[twins[0]]["exp_avg"].clone()))
    twin.load_state_dict(optimizer.state_dict())
    assert torch.equal(seen[0], torch.zeros(3))
    assert seen[0].dtype == torch.float32


def test_a_deep_copy_is_a_working_optimizer():
    model = nn.Linear(2, 2)
    twin, optimizer = copy.deepcopy((model, Lamb(model.parameters(), dialect="nvlamb")))
    for p in twin.parameters():
        p.grad = torch.ones_like(p)
    before = copy.deepcopy(list(twin.parameters()))
    optimizer.step()
    assert not any(torch.equal(p, q) for p, q in zip(twin.parameters(), before, strict=True))


def test_a_state_from_before_the_floors_loads_and_goes_on_as_it_was():
    rng = np.random.default_rng(0)
    start, gradients = [rng.normal(size=(3, 4))], [[rng.normal(size=(3, 4))] for _ in range(4)]
    whole, first, second = (parameters(start) for _ in range(3))
    advance(Lamb(whole, lr=0.1), whole, gradients)
    saved = Lamb(first, lr=0.1)
    advance(saved, first, gradients[:2])
    state = saved.state_dict()
    for group in state["param_groups"]:
        del group["layer_floor"], group["direction_floor"]
    second = parameters([p.detach() for p in first])
    loaded = Lamb(second, dialect="relative")
    loaded.load_state_dict(state)
    advance(loaded, second, gradients[2:])
    assert torch.equal(second[0], whole[0])


def test_a_state_of_other_groups_is_refused_with_the_way_out():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    older = Lamb(parameter_groups(model, dialect="debiased"))
    with pytest.raises(ValueError, match=r"2 parameter groups \(dialects: debiased\), this optimizer has 3 .*lamb_dialect"):
        Lamb(parameter_groups(model, dialect="orthogonal")).load_state_dict(older.state_dict())


def test_the_state_of_another_optimizer_is_refused():
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"param_groups\[0\] of the state_dict lacks \['adapt', 'dialect'"):
        Lamb(model.parameters()).load_state_dict(torch.optim.AdamW(model.parameters()).state_dict())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_state_whose_steps_are_plain_numbers_loads_and_goes_on_as_it_was(dialect):
    """As states were saved at first."""
    rng = np.random.default_rng(0)
    gradients = [[rng.normal(size=(3, 4))] for _ in range(4)]
    whole, first = parameters([np.ones((3, 4))]), parameters([np.ones((3, 4))])
    advance(Lamb(whole, dialect=dialect), whole, gradients)
    saved = Lamb(first, dialect=dialect)
    advance(saved, first, gradients[:2])
    state = copy.deepcopy(saved.state_dict())
    state["state"][0]["step"] = 2
    loaded = Lamb(first)
    loaded.load_state_dict(state)
    advance(loaded, first, gradients[2:])
    assert torch.equal(first[0], whole[0])
    assert loaded.state[first[0]]["step"] == 4


def damaged(entries=None, group=None):
    """A state_dict of one matrix after a step, with entries replaced (None: left out)."""
    params = parameters([np.ones((2, 3))])
    optimizer = Lamb(params)
    advance(optimizer, params, [[np.ones((2, 3))]])
    state = copy.deepcopy(optimizer.state_dict())
    changes = [(state["state"][0], name, value) for name, value in (entries or {}).items()]
    changes += [(state["param_groups"][0], name, value) for name, value in (group or {}).items()]
    for where, name, value in changes:
        if value is None:
            del where[name]
        else:
            where[name] = value
    return state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"exp_avg_sq": None}, "parameter 0 in the state_dict has no exp_avg_sq, which dialect 'debiased' needs"),
        ({"exp_avg": None, "step": None}, "has no step and no exp_avg, which"),
        ({"step": None}, "has no step"),
        ({"step": -1}, "step -1, which is no number of steps"),
        ({"step": math.nan}, "step nan, which is no number"),
        ({"step": torch.ones(2)}, "which is no number of steps"),
        ({"step": "2"}, "step '2', which is no number"),
        ({"exp_avg": torch.ones(3, 2)}, r"exp_avg of shape \(3, 2\), the parameter has shape \(2, 3\): it is of another model"),
        ({"exp_avg_sq": torch.ones(2)}, r"exp_avg_sq of shape \(2,\)"),
        ({"exp_avg_sq": [1.0]}, "exp_avg_sq of type list"),
        ({"master": torch.ones(5)}, r"master of shape \(5,\)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_nothing_is_changed(state, message):
    params = parameters([np.ones((2, 3))])
    optimizer = Lamb(params, lr=0.5)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(damaged(state))
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"dialect": "later"}, r"param_groups\[0\] of the state_dict cannot be loaded: unknown dialect 'later'"),
        ({"lr": math.nan}, "cannot be loaded: lr must be"),
        ({"params": [0, 1]}, r"has 2 parameters, this optimizer's has 1"),
        ({"per_row": None}, r"lacks \['per_row'\]"),
    ],
)
def test_groups_that_do_not_fit_are_refused(group, message):
    with pytest.raises(ValueError, match=message):
        Lamb(parameters([np.ones((2, 3))])).load_state_dict(damaged(group=group))


def test_a_state_of_matrices_is_not_loaded_into_vectors():
    params = parameters([np.ones((2, 3))])
    matrices = Lamb(params, dialect="orthogonal")
    advance(matrices, params, [[np.ones((2, 3))]])
    with pytest.raises(ValueError, match=r"cannot be loaded: parameter 0 of the group has shape \(6,\)"):
        Lamb(parameters([np.ones(6)])).load_state_dict(matrices.state_dict())


def test_what_is_no_state_dict_is_refused():
    with pytest.raises(ValueError, match=r"no state_dict of an optimizer: it has the keys \['model'\]"):
        Lamb(parameters([np.ones(2)])).load_state_dict({"model": {}})


def test_an_entry_that_a_changed_dialect_misses_is_said_before_anything_moves():
    params = parameters([np.ones(3), np.ones((2, 2))])
    optimizer = Lamb([{"params": params[:1]}, {"params": params[1:], "dialect": "normalized"}])
    gradients = [[np.ones(3), np.ones((2, 2))]]
    advance(optimizer, params, gradients)
    optimizer.param_groups[1]["dialect"] = "relative"
    before = params[0].detach().clone()
    with pytest.raises(ValueError, match="parameter 1 in the optimizer has no exp_avg_sq, which dialect 'relative' needs"):
        advance(optimizer, params, gradients)
    assert torch.equal(params[0], before)
