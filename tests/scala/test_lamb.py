"""The leader: every dialect against its formulas and its peers, and what a torch optimizer owes its users."""

import copy
import importlib
import importlib.util
import io
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scala.lamb import DIALECTS, Dialect, Lamb, parameter_groups

EVERY_DIALECT = pytest.mark.parametrize("dialect", [name for name, dialect in DIALECTS.items() if not dialect.orthogonal])
"""Of layers of any shape; the one of matrices has tests of its own."""
EVERY_PATH = pytest.mark.parametrize("foreach", [False, None, True], ids=["plain", "fused", "batched"])
FAST_PATHS = pytest.mark.parametrize("foreach", [None, True], ids=["fused", "batched"])


@pytest.fixture(autouse=True, scope="module")
def _no_layer_is_small():
    """Every path is tested on small layers; those of the fused path would go to the batched one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scala.lamb.fused.SMALL", 0)
        yield


FEWER = settings(max_examples=settings().max_examples // 2)  # an example for each dialect and path is many


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


reference = import_from(Path(__file__).parent, "lamb_reference")


SHAPES = st.lists(st.integers(1, 4), max_size=3)
ROWS = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@st.composite
def runs(draw, shapes=SHAPES):
    """Ragged layers, some of them zero, a few steps of gradients, some of them zero, and hyper-parameters."""
    layers = draw(st.lists(shapes.map(tuple), min_size=1, max_size=4))
    steps = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scales = st.sampled_from([0.0, 1e-3, 1.0, 1.0, 30.0])
    start = [rng.normal(size=shape) * draw(scales) for shape in layers]
    size = [draw(scales) for _ in layers]
    gradients = [[rng.normal(size=shape) * s for shape, s in zip(layers, size, strict=True)] for _ in range(steps)]
    options = {
        "lr": draw(st.floats(1e-4, 0.5)),
        "betas": (draw(st.floats(0, 0.95)), draw(st.floats(0, 0.9999))),
        "eps": draw(st.sampled_from([1e-8, 1e-6, 1e-2])),
        "weight_decay": draw(st.sampled_from([0.0, 0.01, 1.0])),
    }
    return start, gradients, options


def parameters(layers, dtype=torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(torch.as_tensor(np.asarray(x), dtype=dtype).clone()) for x in layers]


def advance(optimizer: torch.optim.Optimizer, params, gradients) -> None:
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = None if g is None else torch.as_tensor(np.asarray(g)).to(p.dtype)
        optimizer.step()


def assert_close(params, expected, tolerance: float = 1e-12) -> None:
    for p, x in zip(params, expected, strict=True):
        want = np.asarray(x.detach() if isinstance(x, torch.Tensor) else x)
        # Relative to the layer, or to a step: weights may come back to zero by cancellation.
        atol = tolerance * max(np.abs(want).max(), 0.1)
        np.testing.assert_allclose(p.detach().numpy(), want, rtol=tolerance, atol=atol)


# --- the arithmetic -------------------------------------------------------------------------------------------------


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


# --- matrices -------------------------------------------------------------------------------------------------------


MATRICES = st.lists(st.integers(1, 5), min_size=2, max_size=3)


@EVERY_PATH
@given(run=runs(MATRICES))
def test_orthogonal_equals_its_formula(foreach, run):
    start, gradients, options = run
    params = parameters(start)
    advance(Lamb(params, dialect="orthogonal", foreach=foreach, **options), params, gradients)
    assert_close(params, reference.orthogonal(start, gradients, **options), 1e-9)


def test_matrices_of_many_shapes_dtypes_and_stacks_equal_each_alone(monkeypatch):
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (4, 3), (8, 2), (2, 8), (3, 4), (5, 5), (2, 2, 4)]
    dtypes = [torch.float32, torch.float64, torch.float32, torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    start = [rng.normal(size=shape) for shape in shapes]
    gradients = [[rng.normal(size=shape) for shape in shapes] for _ in range(3)]
    monkeypatch.setattr("scala.lamb.matrices.STACK", 20)

    together = [parameters([x], dtype)[0] for x, dtype in zip(start, dtypes, strict=True)]
    advance(Lamb(together, lr=0.1, dialect="orthogonal"), together, gradients)
    for i, p in enumerate(together):
        [alone] = parameters([start[i]], dtypes[i])
        advance(Lamb([alone], lr=0.1, dialect="orthogonal"), [alone], [[step[i]] for step in gradients])
        torch.testing.assert_close(p, alone)


def test_a_matrix_step_is_large_along_no_direction():
    """A gradient of rank one: Adam's direction is as long along it as the layer's norm allows, the orthogonal one is not."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(64, 256))
    gradient = np.outer(rng.normal(size=64), rng.normal(size=256)) + 1e-2 * rng.normal(size=(64, 256))

    def along(dialect):
        [x] = params = parameters([start])
        advance(Lamb(params, lr=1e-2, weight_decay=0, dialect=dialect), params, [[gradient]])
        moved = x.detach().numpy() - start
        assert np.linalg.norm(moved) == pytest.approx(1e-2 * np.linalg.norm(start), rel=1e-6)  # of the same length
        return np.linalg.norm(moved, 2) / np.linalg.norm(start, 2)

    assert along("debiased") > 4 * along("orthogonal")


def test_the_state_of_a_matrix_is_its_momentum_alone():
    [x] = params = parameters([np.ones((2, 3))])
    optimizer = Lamb(params, dialect="orthogonal")
    advance(optimizer, params, [[np.ones((2, 3))]])
    assert set(optimizer.state[x]) == {"step", "exp_avg", "trust_ratio"}


def test_groups_of_a_network_with_orthogonal_matrices():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(5, 4)
            self.hidden = nn.Linear(4, 4)
            self.norm = nn.LayerNorm(4)
            self.head = nn.Linear(4, 2)

    groups = parameter_groups(Classifier(), weight_decay=0.1, dialect="orthogonal")
    found = [(group["dialect"], group["weight_decay"], [name for name, _ in group["params"]]) for group in groups]
    assert found == [
        ("orthogonal", 0.1, ["hidden.weight"]),
        ("relative", 0.1, ["words.weight", "head.weight"]),
        ("relative", 0.0, ["hidden.bias", "norm.weight", "norm.bias", "head.bias"]),
    ]
    assert all("dialect" not in group for group in parameter_groups(Classifier()))  # the optimizer's own applies


def test_a_tied_table_is_a_table_and_not_a_matrix():
    table, hidden, head = nn.Embedding(5, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 5, bias=False)
    head.weight = table.weight
    [matrices, tables] = parameter_groups(nn.Sequential(table, hidden, head), dialect="orthogonal")
    assert [name for name, _ in matrices["params"]] == ["1.weight"]
    assert [name for name, _ in tables["params"]] == ["0.weight"]


# --- rows, groups, the two paths ------------------------------------------------------------------------------------


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


# --- precision and state --------------------------------------------------------------------------------------------


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


# --- living with the rest of torch ----------------------------------------------------------------------------------


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


# --- bad input ------------------------------------------------------------------------------------------------------


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
