"""What a torch optimizer owes its users: schedulers, closures, scaled gradients, groups, and clear refusals."""

import math

import numpy as np
import pytest
import torch
from lamb_cases import EVERY_PATH, advance, parameters
from torch import nn

from scala.lamb import DIALECTS, Lamb, parameter_groups

pytestmark = pytest.mark.usefixtures("no_layer_is_small")


def test_scheduler_and_late_group():
    x, y = parameters([np.array([3.0, 4.0]), np.array([0.0, 2.0])])
    optimizer = Lamb([x], lr=0.1, weight_decay=0)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 2)
    lengths = []
    for _ in range(3):
        x.grad, before = torch.ones_like(x), x.detach().clone()
        size = torch.linalg.vector_norm(before)
        optimizer.step()
        warmup.step()
        lengths.append((torch.linalg.vector_norm(x.detach() - before) / size).item())
    assert lengths == pytest.approx([0, 0.05, 0.1])

    optimizer.add_param_group({"params": [y], "lr": 0.5, "dialect": "normalized"})
    y.grad = torch.tensor([0.0, 1.0], dtype=torch.float64)
    optimizer.step()
    assert y.tolist() == pytest.approx([0, 1.5])


def test_closure_runs_with_gradients_and_its_loss_comes_back():
    [x] = parameters([np.array([1.0, 2.0])])
    optimizer = Lamb([x])

    def closure():
        optimizer.zero_grad()
        loss = (x**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 5
    assert optimizer.step(closure).item() < 5
    assert optimizer.step() is None


def test_grad_scaler_and_clipping_outside():
    [inside], [outside] = parameters([np.array([3.0, 4.0])], torch.float32), parameters([np.array([3.0, 4.0])], torch.float32)
    clipping = Lamb([inside], dialect="nvlamb")
    plain = Lamb([outside])
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for factor in (1.0, 7.0):
        clipping.zero_grad()
        (factor * inside**2).sum().backward()
        clipping.step()

        plain.zero_grad()
        scaler.scale((factor * outside**2).sum()).backward()
        scaler.unscale_(plain)
        nn.utils.clip_grad_norm_([outside], 1.0)
        scaler.step(plain)
        scaler.update()
    torch.testing.assert_close(inside, outside)


def test_gradients_are_left_as_they_were():
    x = nn.Parameter(torch.ones(3))
    x.grad = torch.full((3,), 5.0)
    Lamb([x], dialect="nvlamb").step()
    assert x.grad.tolist() == [5, 5, 5]


def test_parameter_groups_of_a_network():
    model = nn.ModuleDict({"emb": nn.Embedding(5, 3), "norm": nn.LayerNorm(3), "lin": nn.Linear(3, 5), "off": nn.Linear(3, 3)})
    model["lin"].weight = model["emb"].weight  # tied: once
    model["off"].requires_grad_(False)
    model.register_parameter("expert_bias", nn.Parameter(torch.zeros(2, 3)))
    decayed, undecayed = parameter_groups(model, weight_decay=0.1, adapt_undecayed=False)
    assert [name for name, _ in decayed["params"]] == ["emb.weight"]
    assert [name for name, _ in undecayed["params"]] == ["expert_bias", "norm.weight", "norm.bias", "lin.bias"]
    assert (decayed["weight_decay"], decayed["adapt"]) == (0.1, True)
    assert (undecayed["weight_decay"], undecayed["adapt"]) == (0.0, False)
    assert parameter_groups(model)[1]["adapt"]
    assert [len(group["params"]) for group in parameter_groups(nn.LayerNorm(3))] == [2]
    with pytest.raises(ValueError, match="Linear has no trainable parameter"):
        parameter_groups(model["off"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1e-3}, "lr must be"),
        ({"lr": math.nan}, "lr must be"),
        ({"lr": math.inf}, "lr must be"),
        ({"lr": torch.tensor(0.1)}, "not a tensor"),
        ({"betas": (1.0, 0.9)}, r"betas must be two numbers in \[0, 1\), got \(1.0, 0.9\)"),
        ({"betas": (0.9, -0.1)}, "betas must be"),
        ({"betas": (0.9,)}, "betas must be"),
        ({"eps": -1.0}, "eps must be"),
        ({"weight_decay": -0.01}, "weight_decay must be"),
        (
            {"dialect": "lamb"},
            "unknown dialect 'lamb': choose one of 'paper', 'debiased', .*'orthogonal', 'norm",
        ),
        ({"ratio_bounds": (2, 1)}, "ratio_bounds must be"),
        ({"phi_bounds": (-1, 1)}, "phi_bounds must be"),
        ({"phi_bounds": (0, 0)}, "phi_bounds must be"),
        ({"phi_bounds": 10}, "phi_bounds must be"),
        ({"dialect": "normalized", "phi_bounds": (0, 1)}, "lower bound > 0"),
        ({"layer_floor": -0.1}, "layer_floor must be"),
        ({"direction_floor": math.inf}, "direction_floor must be"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    x, y = parameters([np.ones(2), np.ones(2)])
    with pytest.raises(ValueError, match=message):
        Lamb([x], **options)
    optimizer = Lamb([x])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [y], **options})
    assert len(optimizer.param_groups) == 1


def test_the_dialect_of_matrices_refuses_what_is_none():
    with pytest.raises(ValueError, match=r"shape \(4,\), and dialect 'orthogonal' is of matrices: use .*parameter_groups"):
        Lamb(nn.LayerNorm(4).parameters(), dialect="orthogonal")
    with pytest.raises(ValueError, match="whole matrices: unset per_row"):
        Lamb([nn.Parameter(torch.ones(2, 2))], dialect="orthogonal", per_row=True)


def test_parameters_it_cannot_move_are_refused():
    with pytest.raises(ValueError, match=r"parameter 'z' of the group is torch.complex64"):
        Lamb([("z", nn.Parameter(torch.zeros(2, dtype=torch.complex64)))])
    with pytest.raises(ValueError, match=r"parameter 1 of the group is torch.int64"):
        Lamb([torch.zeros(2), torch.zeros(2, dtype=torch.int64)])
    with pytest.raises(ValueError, match="parameter 0 of the group is a scalar and has no rows"):
        Lamb([torch.zeros(())], per_row=True)


@EVERY_PATH
def test_sparse_gradients_are_refused_before_anything_moves(foreach):
    dense, embedding = nn.Linear(2, 2), nn.Embedding(4, 2, sparse=True)
    model = nn.ModuleDict({"dense": dense, "embedding": embedding})
    optimizer = Lamb(model.named_parameters(), foreach=foreach)
    dense(embedding(torch.tensor([1, 2]))).sum().backward()
    before = dense.weight.detach().clone()
    with pytest.raises(RuntimeError, match=r"sparse gradients, and parameter 'embedding.weight'"):
        optimizer.step()
    assert torch.equal(dense.weight, before)


@EVERY_PATH
@pytest.mark.parametrize("dialect", DIALECTS)
def test_maximize_goes_up_where_the_gradient_of_the_negative_goes_down(dialect, foreach):
    rng = np.random.default_rng(0)
    start, gradients = [rng.normal(size=(3, 4))], [[rng.normal(size=(3, 4))] for _ in range(3)]
    up, down = parameters(start), parameters(start)
    advance(Lamb(up, dialect=dialect, foreach=foreach, maximize=True), up, gradients)
    advance(Lamb(down, dialect=dialect, foreach=foreach), down, [[-g for g in step] for step in gradients])
    assert torch.equal(up[0], down[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fused": True}, r"no fused=True: leave it out \(on a CPU the fused kernels are used by themselves"),
        ({"fused": False}, "foreach=False is the path without them"),
        ({"capturable": True}, r"torch.compile\(optimizer.step\)"),
        ({"differentiable": True}, "scala.lamb.lamb_step is the arithmetic"),
        ({"decoupled_weight_decay": False}, "for an L2 penalty add it to the loss"),
    ],
)
def test_what_torchs_optimizers_take_and_lamb_has_not_is_refused_with_the_way_out(options, message):
    x, y = parameters([np.ones(2), np.ones(2)])
    with pytest.raises(ValueError, match=message):
        Lamb([x], **options)
    with pytest.raises(ValueError, match=message):
        Lamb([x]).add_param_group({"params": [y], **options})


def test_their_values_that_are_lambs_are_taken():
    x, y = parameters([np.ones(2)] * 2)
    theirs = Lamb([x], fused=None, capturable=False, differentiable=False, decoupled_weight_decay=True)
    assert theirs.defaults == Lamb([y]).defaults


def test_flattened_layers_in_the_place_of_whole_ones_are_refused():
    """As DeepSpeed's ZeRO does to an optimizer that it is given."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = Lamb(parameter_groups(model))
    flat = nn.Parameter(torch.cat([p.detach().flatten() for p in model.parameters()]))
    flat.grad = torch.ones_like(flat)
    optimizer.param_groups[0]["params"] = [flat]
    with pytest.raises(ValueError, match=r"a vector of 26 entries that Lamb was not given: DeepSpeed's ZeRO .*fully_shard"):
        optimizer.step()

    cut = nn.Parameter(torch.zeros(0))
    cut.ds_id = 0  # stage 3, also before an optimizer is made
    with pytest.raises(ValueError, match="a part that DeepSpeed's ZeRO cut"):
        Lamb([cut])


def test_copies_in_another_precision_in_the_place_of_layers_are_taken():
    """As mixed-precision wrappers do."""
    x, b = parameters([np.ones((2, 3)), np.ones(3)], torch.bfloat16)
    optimizer = Lamb([x, b])
    masters = [nn.Parameter(p.detach().float()) for p in (x, b)]
    optimizer.param_groups[0]["params"] = masters
    advance(optimizer, masters, [[np.ones((2, 3)), np.ones(3)]])
    assert all((p < 1).all() for p in masters)
