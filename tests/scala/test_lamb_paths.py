"""Rows, groups, and the fast paths against the plain one."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lamb_cases import EVERY_DIALECT, EVERY_PATH, FAST_PATHS, FEWER, ROWS, advance, assert_close, parameters, runs
from torch import nn

from scala.lamb import DIALECTS, Lamb, parameter_groups

pytestmark = pytest.mark.usefixtures("no_layer_is_small")


@EVERY_DIALECT
@FEWER
@given(run=runs(ROWS))
def test_rows_equal_separate_optimizers(dialect, run):
    start, gradients, options = run
    start = [np.concatenate([x, np.zeros_like(x[:1])]) for x in start]  # one row starts at zero
    gradients = [[np.concatenate([g, g[:1]]) for g in step] for step in gradients]
    options |= {"dialect": dialect, "max_grad_norm": math.inf}

    together = parameters(start)
    optimizer = Lamb(together, per_row=True, **options)
    advance(optimizer, together, gradients)
    for i, x in enumerate(start):
        rows = [parameters([row])[0] for row in x]
        for b, row in enumerate(rows):
            alone = Lamb([row], **options)
            advance(alone, [row], [[step[i][b]] for step in gradients])
            torch.testing.assert_close(optimizer.trust_ratios()[i][b], alone.trust_ratios()[0], rtol=1e-11, atol=0)
        assert_close([together[i]], [torch.stack(rows)])


@EVERY_DIALECT
@FAST_PATHS
@FEWER
@given(st.integers(0, 1000))
def test_fast_paths_equal_plain(dialect, foreach, seed):
    """Ragged shapes, mixed dtypes, gradients missing now and then, empty groups, no entries, decay and adaptation off."""
    rng = np.random.default_rng(seed)
    shapes = [(3, 4), (), (5,), (0, 2), (1, 1, 1), (2, 3), (7,)]  # the one without entries is no layer
    dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.float32, torch.float16, torch.float32, torch.bfloat16]
    start = [rng.normal(size=shape) for shape in shapes]
    gradients = [[rng.normal(size=shape) if rng.random() < 0.7 else None for shape in shapes] for _ in range(4)]

    outcomes = []
    for path in (False, foreach):
        params = [parameters([x], dtype)[0] for x, dtype in zip(start, dtypes, strict=True)]
        groups = [
            {"params": params[:4]},
            {"params": []},
            {"params": params[4:5], "adapt": False},
            {"params": params[5:], "weight_decay": 0.0, "lr": 0.3},
        ]
        optimizer = Lamb(groups, lr=0.1, dialect=dialect, foreach=path)
        advance(optimizer, params, gradients)
        outcomes.append((params, optimizer))

    (plain, one), (fast, other) = outcomes
    for p, q in zip(plain, fast, strict=True):
        assert one.state[p].keys() == other.state[q].keys()
        torch.testing.assert_close(one.state[p], other.state[q])
        torch.testing.assert_close(p, q)
    assert one.trust_ratios().keys() == other.trust_ratios().keys() <= {0, 1, 2, 5, 6}


BOUNDS = st.sampled_from([None, (0.0, math.inf), (0.5, 2.0), (3.0, 3.0)])


@EVERY_DIALECT
@FEWER
@given(
    run=runs(),
    piece=st.integers(1, 20),
    small=st.sampled_from([0, 0, 4, 20]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    adapt=st.booleans(),
    floors=st.sampled_from([(None, None), (0.0, 0.5), (0.3, 0.0), (2.0, 2.0)]),
    ratio_bounds=BOUNDS,
    phi_bounds=BOUNDS,
    max_grad_norm=st.sampled_from([None, 0.5, 1e3, math.inf]),
    data=st.data(),
)
def test_fused_equals_plain(dialect, run, piece, small, dtype, adapt, floors, ratio_bounds, phi_bounds, max_grad_norm, data):
    """However layers are cut into pieces or put together. The tolerance is for some ten roundings an entry and path."""
    if dialect == "normalized" and phi_bounds == (0.0, math.inf):
        phi_bounds = None  # refused
    start, gradients, options = run
    turned = [data.draw(st.booleans()) for _ in start]  # not contiguous
    missing = [[data.draw(st.integers(0, 4)) == 0 for _ in start] for _ in gradients]
    gradients = [[None if gone else g for g, gone in zip(*step, strict=True)] for step in zip(gradients, missing, strict=True)]
    options |= {"adapt": adapt, "ratio_bounds": ratio_bounds, "phi_bounds": phi_bounds, "max_grad_norm": max_grad_norm}
    options |= dict(zip(("layer_floor", "direction_floor"), floors, strict=True))
    outcomes = []
    for foreach in (False, None):
        params = parameters(start, dtype)
        for p, turn in zip(params, turned, strict=True):
            if turn:
                p.data = p.data.mT.contiguous().mT if p.ndim > 1 else p.data.repeat_interleave(2)[::2].view(p.shape)
        optimizer = Lamb(
            [{"params": params[:3]}, {"params": []}, {"params": params[3:]}], dialect=dialect, foreach=foreach, **options
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scala.lamb.layers.PIECE", piece)
            patch.setattr("scala.lamb.fused.SMALL", small)
            advance(optimizer, params, gradients)
        outcomes.append((params, optimizer))

    (plain, one), (fused, other) = outcomes
    tolerance = 30 * len(gradients) * torch.finfo(dtype).eps
    scale = max([1.0, *(p.detach().abs().max().item() for p in plain)])
    for p, q in zip(plain, fused, strict=True):
        torch.testing.assert_close(q, p, rtol=tolerance, atol=tolerance * scale)
        assert one.state[p].keys() == other.state[q].keys()
        for name in one.state[p].keys() & {"step", "exp_avg", "exp_avg_sq"}:
            torch.testing.assert_close(other.state[q][name], one.state[p][name], rtol=tolerance, atol=tolerance)


def test_the_norms_of_a_large_layer_are_not_rounded():
    """torch's own float32 sum of so many squares is 5e-4 off; the sum over pieces is not."""
    start = torch.randn(2**23 + 5, generator=torch.Generator().manual_seed(0))
    x = nn.Parameter(start.clone())
    x.grad = torch.where(start > 0, 1.0, -1.0)
    optimizer = Lamb([x], betas=(0, 0), eps=0, weight_decay=0)
    optimizer.step()
    expected = start.double().norm() / math.sqrt(x.numel())
    torch.testing.assert_close(optimizer.trust_ratios()[0].double(), expected, rtol=3e-5, atol=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_layer_does_not_depend_on_its_neighbours_in_a_batch(seed):
    rng = np.random.default_rng(seed)
    start, gradients = [[rng.normal(size=n) for n in (3, 1000, 5, 5, 1, 1000, 5)] for _ in range(2)]
    together = parameters(start, torch.float32)
    optimizer = Lamb(together)
    advance(optimizer, together, [gradients])
    for p, ratio, x, g in zip(together, optimizer.trust_ratios().values(), start, gradients, strict=True):
        [alone] = params = parameters([x], torch.float32)
        single = Lamb(params)
        advance(single, params, [[g]])
        assert torch.equal(p, alone)
        assert torch.equal(ratio, single.trust_ratios()[0])


@pytest.mark.parametrize("angle", [1e-3, 1e-2, 0.3])
def test_a_direction_that_the_decay_almost_cancels(angle):
    """Then ||r + lambda x|| is far smaller than either, and must not be the difference of their squares."""
    direction, other = torch.randn(2, 10_000, generator=torch.Generator().manual_seed(0))
    r = direction.sign()  # what LAMB makes of any gradient of these signs
    outcomes = []
    for foreach in (False, None):
        p = nn.Parameter(angle * other - r)
        p.grad = direction.clone()
        optimizer = Lamb([p], lr=0.1, betas=(0.0, 0.0), eps=0.0, weight_decay=1.0, foreach=foreach)
        optimizer.step()
        outcomes.append((p.detach(), optimizer.trust_ratios()[0]))
    (plain, one), (fused, two) = outcomes
    torch.testing.assert_close(two, one, rtol=1e-4, atol=0)
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-6)


def test_scratch_is_no_larger_than_the_largest_layer_or_a_piece(monkeypatch):
    monkeypatch.setattr("scala.lamb.layers.PIECE", 64)
    params = parameters([np.ones(n) for n in (16, 32, 16, 160, 48, 16)], torch.float32)
    optimizer = Lamb(params, dialect="nvlamb")
    advance(optimizer, params, [[np.ones(p.numel()) for p in params]])
    assert {name: buffer.numel() for (name, _), buffer in optimizer._scratch._buffers.items()} == {"r": 160, "grad": 64}


def test_a_step_on_nan_does_not_outlive_itself():
    """What is loaded after it (an earlier state) must not meet the NaN that it left in scratch."""
    [p] = params = parameters([np.ones(40)])
    optimizer = Lamb(params)
    before = copy.deepcopy(optimizer.state_dict())
    for bad in (math.nan, math.inf):
        advance(optimizer, params, [[np.full(40, bad)]])
        optimizer.load_state_dict(before)
        with torch.no_grad():
            p.fill_(1.0)
        advance(optimizer, params, [[np.ones(40)]])
        assert p.isfinite().all()


class Subclass(torch.Tensor):
    pass


def test_which_path_runs(monkeypatch):
    ran = []

    def record(path):
        def step(layers, *_):
            ran.extend([path] * len(list(layers)))

        return step

    monkeypatch.setattr("scala.lamb.optimizer.step_tensorwise", record("plain"))
    monkeypatch.setattr("scala.lamb.optimizer.step_batched", record("batched"))
    monkeypatch.setattr("scala.lamb.fused.step_fused", record("fused"))
    monkeypatch.setattr("scala.lamb.fused.SMALL", 5)
    for options in ({}, {"foreach": False}, {"foreach": True}, {"foreach": True, "per_row": True}, {"per_row": True}):
        params = parameters([np.ones(2), np.ones((2, 3))], torch.float32)
        advance(Lamb(params, **options), params, [[np.ones(2), np.ones((2, 3))]])
    assert ran == ["fused", "batched", *["plain"] * 2, *["batched"] * 2, *["plain"] * 4]  # on a CPU

    def path_of(p, grad=None):
        ran.clear()
        p.grad = torch.ones_like(p) if grad is None else grad
        Lamb([p]).step()
        return ran[0]

    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        assert path_of(nn.Parameter(torch.ones(2, 3, dtype=dtype))) == "fused"
    assert path_of(nn.Parameter(torch.ones(2, 3).T)) == "plain"
    assert path_of(nn.Parameter(torch.ones(2, 3)), torch.ones(3, 2).T) == "plain"
    assert path_of(nn.Parameter(torch.ones(2, 3, device="meta"))) == "plain"
    assert path_of(torch.ones(2).as_subclass(Subclass).requires_grad_()) == "plain"


def test_groups_of_different_dialects_do_not_disturb_each_other():
    rng = np.random.default_rng(0)
    start = [rng.normal(size=(2, 2)) for _ in DIALECTS]
    gradients = [[rng.normal(size=(2, 2)) for _ in DIALECTS] for _ in range(3)]
    params = parameters(start)
    advance(
        Lamb([{"params": [p], "dialect": d, "max_grad_norm": math.inf} for p, d in zip(params, DIALECTS, strict=True)]),
        params,
        gradients,
    )
    for i, dialect in enumerate(DIALECTS):
        alone = parameters(start[i : i + 1])
        advance(Lamb(alone, dialect=dialect, max_grad_norm=math.inf), alone, [step[i : i + 1] for step in gradients])
        assert_close(params[i : i + 1], alone, 0)


def test_missing_gradients_do_not_count_as_steps():
    rng = np.random.default_rng(0)
    start, g = [rng.normal(size=3)], rng.normal(size=3)
    now_and_then, always = parameters(start), parameters(start)
    advance(Lamb(now_and_then), now_and_then, [[None], [g], [None], [g]])
    advance(Lamb(always), always, [[g], [g]])
    assert torch.equal(now_and_then[0], always[0])


def test_trust_ratios_by_name_and_by_position():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    named = Lamb(parameter_groups(model, adapt_undecayed=False), betas=(0, 0), eps=0)
    weight = model[0].weight
    assert named.trust_ratios() == {}
    expected = torch.linalg.vector_norm(weight + 0)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    named.param_groups[0]["weight_decay"] = 0.0
    named.step()
    assert named.trust_ratios().keys() == {"0.weight"}
    torch.testing.assert_close(named.trust_ratios()["0.weight"], expected / math.sqrt(12))

    params = parameters([np.full(n, 2.0) for n in (1, 2, 3)])
    by_position = Lamb([{"params": params[:1]}, {"params": params[1:]}], dialect="normalized", weight_decay=0, betas=(0, 0))
    advance(by_position, params, [[np.array([4.0]), None, np.array([0.0, 0.0, 0.5])]])
    assert {key: ratio.item() for key, ratio in by_position.trust_ratios().items()} == {0: 0.25, 2: 2.0}


@pytest.mark.parametrize("dialect", DIALECTS)
@EVERY_PATH
def test_step_reads_no_value_from_the_device(dialect, foreach):
    """Tensors on the meta device have no values, so anything that would synchronise fails there."""
    matrices = DIALECTS[dialect].orthogonal
    params = [
        nn.Parameter(torch.empty(shape, device="meta", dtype=dtype))
        for shape in [(3, 2), (2, 4) if matrices else (4,)]
        for dtype in (torch.float32, torch.bfloat16)
    ]
    second = {"params": params[2:], "per_row": not matrices}
    optimizer = Lamb([{"params": params[:2]}, second], dialect=dialect, foreach=foreach)
    for p in params:
        p.grad = torch.empty_like(p)
    for _ in range(2):
        optimizer.step()
    assert all(ratio.is_meta for ratio in optimizer.trust_ratios().values())
