"""What is compared does what its row says, and needs the passes that its floor counts; nothing here is decided by time."""

import copy
import dataclasses
import itertools
import json
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from tiny_models import CONFIGS
from torch.autograd import DeviceType

from paper_repro.bench import __main__ as command
from paper_repro.bench import growth, interleaved, leader, machine, phases, process, speed_figures, speed_measures
from paper_repro.bench import round as rounds
from paper_repro.bench.adaptation import time_large_batches
from paper_repro.bench.growth import Plan, Size
from paper_repro.bench.kept import COMPARED, RANDOM, rise_kept
from paper_repro.bench.machine import Machine
from paper_repro.bench.round import REFERENCE, Bench, bench_of, classifier
from paper_repro.bench.speed_report import report
from scala import Adversary, EmbeddingNoise, Game, Lamb

ROUNDS = 3
MACHINE = Machine("cpu", bandwidth=1e9, flops={"fp32": 1e9, "bf16": 4e9})
PLAN = Plan(Size(batch=2, length=4, depth=1, width=8, vocabulary=20), {"depth": (1, 2, 3), "batch": (1, 2, 4)}, steps=(1, 2))
SMALL = Plan(PLAN.base, {"width": (4, 8, 16)}, steps=(1,))


class Watching(Bench):
    """Remembers every noise that it was asked for."""

    def objective(self, noise):
        self.__dict__.setdefault("noises", []).append(None if noise is None else noise.detach().clone())
        return super().objective(noise)


@pytest.fixture
def made(encoder):
    """A bench on a tiny random BERT with dropout, in fp64; at a rate that shows."""
    plain = bench_of(classifier(encoder).double(), batch=6, length=8)
    return Watching(plain.model, Lamb(plain.model.parameters(), lr=0.01), plain.batch)


def again(made):
    model = copy.deepcopy(made.model)
    return Watching(model, Lamb(model.parameters(), lr=0.01), made.batch)


def played(made, step, rounds=ROUNDS):
    torch.manual_seed(1)
    for _ in range(rounds):
        step()
    return torch.cat([p.detach().flatten() for p in made.model.parameters()])


def named(made, name):
    return made.steps()[name].play


@pytest.mark.parametrize(("ours", "rival"), [("ScaLA, K = 1", "naive ascent"), ("Game, no follower", REFERENCE)])
def test_the_core_gives_the_weights_of_its_rival(made, ours, rival):
    other = again(made)
    before = played(made, lambda: None)
    core, theirs = played(made, named(made, ours)), played(other, named(other, rival))
    torch.testing.assert_close(core, theirs, rtol=1e-10, atol=1e-12)
    assert (core - before).norm() > 0.01


@pytest.mark.parametrize("name", ["Gaussian noise", "naive ascent", "ScaLA, K = 1", "own dropout", "ScaLA, K = 2"])
def test_the_leader_meets_noise_of_one_radius(made, name):
    sizes = EmbeddingNoise(made.model).embeddings(made.batch["input_ids"]).mul(made.batch["attention_mask"][..., None])
    named(made, name)()
    noise = made.noises[-1]
    assert bool((noise[made.batch["attention_mask"] == 0] == 0).all())
    reached = noise.norm(dim=(1, 2)) / sizes.norm(dim=(1, 2))
    if name == "ScaLA, K = 2":  # two half steps, not quite in the same direction
        assert 0.8 * made.radius < reached.min() <= reached.max() <= made.radius * (1 + 1e-9)
    else:
        torch.testing.assert_close(reached, torch.full_like(reached, made.radius))


def test_the_game_of_the_bench_is_the_core_with_its_defaults(made):
    other = again(made)
    game = Game(other.leader, Adversary(made.radius, relative=True))
    at = EmbeddingNoise(other.model).embeddings
    mask = made.batch["attention_mask"]
    by_hand = played(other, lambda: game.round(other.objective, at(made.batch["input_ids"]), mask))
    assert torch.equal(played(made, named(made, "ScaLA, K = 1")), by_hand)


def test_only_its_own_masks_tell_the_ascent_from_the_core_s(made):
    other = again(made)
    same, own = (played(m, named(m, name)) for m, name in ((made, "ScaLA, K = 1"), (other, "own dropout")))
    assert not torch.allclose(same, own)
    made.model.eval(), other.model.eval()
    other.model.load_state_dict(made.model.state_dict())
    steady = [Watching(m.model, torch.optim.SGD(m.model.parameters(), 0.1), m.batch) for m in (made, other)]
    same, own = (played(m, named(m, name)) for m, name in zip(steady, ("ScaLA, K = 1", "own dropout"), strict=True))
    assert torch.equal(same, own)


def test_sam_takes_the_gradient_where_it_says(made):
    made.model.eval()
    x = [p.detach().clone() for p in made.model.parameters()]

    def gradient(at):
        with torch.no_grad():
            for p, value in zip(made.model.parameters(), at, strict=True):
                p.copy_(value)
        return torch.autograd.grad(made.objective(None), list(made.model.parameters()), materialize_grads=True)

    g = gradient(x)
    size = torch.cat([z.flatten() for z in g]).norm()
    up = gradient([z + rounds.SAM_RADIUS * d / size for z, d in zip(x, g, strict=True)])
    gradient(x)  # back to where it was
    dataclasses.replace(made, leader=torch.optim.SGD(made.model.parameters(), 0.1)).sam()
    for p, z, d in zip(made.model.parameters(), x, up, strict=True):
        torch.testing.assert_close(p.detach(), z - 0.1 * d, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_freelb_moves_the_weights_by_the_mean_gradient_over_its_noises(made, steps):
    made.model.eval()
    x = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    player = Watching(made.model, torch.optim.SGD(made.model.parameters(), 0.1), made.batch)
    torch.manual_seed(2)
    player.freelb(steps)
    moved = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    made.model.load_state_dict(x, strict=False)
    noises = player.noises
    assert len(noises) == steps
    torch.manual_seed(2)
    at = made.embeddings()
    mask = made.batch["attention_mask"][..., None].double()
    omega = made.radius * (at * mask).norm(dim=(1, 2))
    assert bool((noises[0].norm(dim=(1, 2)) < omega).all())
    assert noises[0].norm() > 0
    losses = []
    for y, after in itertools.zip_longest(noises, noises[1:]):
        start = y.clone().requires_grad_()
        losses.append(made.objective(start))
        if after is not None:  # the next noise is a normalised step from this one, put back into the ball
            (g,) = torch.autograd.grad(losses[-1], start, retain_graph=True)
            g = g * mask
            z = y + g / g.norm(dim=(1, 2), keepdim=True) * (omega / steps)[:, None, None]
            z = z * (omega / z.norm(dim=(1, 2))).clamp(max=1)[:, None, None]
            torch.testing.assert_close(after, z)
    grads = torch.autograd.grad(torch.stack(losses).mean(), list(made.model.parameters()), materialize_grads=True)
    for (name, _), g in zip(made.model.named_parameters(), grads, strict=True):
        torch.testing.assert_close(moved[name], x[name] - 0.1 * g, rtol=1e-9, atol=1e-12)


TWO_LAYERS = SimpleNamespace(config=SimpleNamespace(num_hidden_layers=2))
NAMES = list(Bench(TWO_LAYERS, torch.optim.SGD([torch.zeros(1)]), {"attention_mask": None, "labels": []}).steps())


@pytest.mark.parametrize("name", NAMES)
def test_a_step_needs_the_passes_of_its_row(made, name):
    """Counted at the last layer, at the first one's weights, which a backward pass reaches last, and inward in every layer."""
    step = made.steps()[name]
    encoder = made.model.base_model.encoder.layer
    counts = {"forward": 0, "inward": 0, "weights": 0}

    def count(key, samples=6):
        counts[key] += samples / 6 / step.rounds

    encoder[-1].register_forward_hook(lambda _layer, inputs, _output: count("forward", len(inputs[0])))
    weight = encoder[0].attention.self.query.weight
    weight.register_hook(lambda _: count("weights"))

    def watch(_layer, _inputs, output):
        if output.requires_grad:
            output.register_hook(lambda g: count("inward", len(g) / len(encoder)))

    for layer in encoder:
        layer.output.dense.register_forward_hook(watch)
    step.play()
    assert counts == dataclasses.asdict(step.passes)


def test_a_floor_is_its_passes_over_three(made):
    rows = {row["name"]: row for row in rounds.time_rounds(made, MACHINE, pairs=1)}
    assert {name: round(row["floor_ratio"], 3) for name, row in rows.items()} == {
        REFERENCE: 1,
        "Game, no follower": 1,
        "Gaussian noise": 1,
        "ScaLA, K = 1": 1.667,
        "own dropout": 1.667,
        "ascent without dropout": 1.667,
        "ascent in bf16": 1.667,
        "gradient of top half": 1.5,
        "half, without dropout": 1.333,
        "naive ascent": 2,
        "ScaLA, K = 2": 2.333,
        "half the batch": 1.333,
        "every 2nd round": 1.333,
        "one pass": 1,
        "SAM": 2,
        "FreeLB, K = 2": 2,
        "FreeLB, K = 3": 3,
    }
    plain, scala, naive = (rows[name]["floor"] for name in (REFERENCE, "ScaLA, K = 1", "naive ascent"))
    assert naive - scala == pytest.approx((scala - plain) / 2)  # one pass more, of the two that an ascent needs
    step = plain - 3 * (naive - scala)
    assert step == pytest.approx(40e-9 * sum(p.numel() for p in made.model.parameters()))


def test_the_follower_sees_the_model_in_bf16_and_the_leader_does_not(made):
    seen = []
    made.model.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    made.steps()["ascent in bf16"].play()
    assert seen == [True, False]


def test_what_an_ascent_keeps_of_the_exact_ones_rise(encoder):
    rows = {row["name"]: row for row in rise_kept(str(encoder), batch=16, first=2, every=1, visits=3, probes=3)}
    assert list(rows) == [*COMPARED, RANDOM]
    exact = rows[COMPARED[0]]
    assert exact["rise"] > 0
    assert (exact["kept"], exact["interval"]) == (1, [1, 1])
    assert abs(rows[RANDOM]["kept"]) < 0.2
    assert 0.3 < rows["half the batch"]["kept"] < 0.7
    assert 0.9 < rows["ascent in bf16"]["kept"] < 1.1
    assert rows["one pass"]["kept"] > 0.2  # not the zero noise of a first visit


def test_a_row_s_times_are_of_one_round(made, monkeypatch):
    one = interleaved.Timing(1, *[interleaved.Spread(1, 1, 1)] * 2)
    monkeypatch.setattr(rounds, "interleaved", lambda actions, *_: dict.fromkeys(actions, one))
    first = {row["name"]: row["first"] for row in rounds.time_rounds(made, MACHINE, pairs=1)}
    assert first == dict.fromkeys(NAMES, 1) | {"every 2nd round": 0.5}


def test_pairs_are_neighbours_and_alternate(monkeypatch):
    calls, clock = [], itertools.accumulate(itertools.count(1))  # each call takes longer than the one before
    monkeypatch.setattr(interleaved.time, "perf_counter", lambda: next(clock))
    timings = interleaved.interleaved({name: partial(calls.append, name) for name in "ab"}, "a", pairs=2)
    assert "".join(calls) == "ab" + "aaab" + "aaba"
    assert timings["b"].first == 4
    assert timings["b"].ratio == interleaved.Spread((12 / 10 + 18 / 20) / 2, 18 / 20, 12 / 10)


def test_a_measurement_of_several_calls_is_a_time_a_call(monkeypatch):
    clock = itertools.count(step=6)
    monkeypatch.setattr(interleaved.time, "perf_counter", lambda: next(clock))
    calls = []
    assert interleaved.seconds_of(lambda: calls.append(1), calls=3) == 2
    assert len(calls) == 3


def test_times_of_several_rounds_are_of_one():
    spread = interleaved.Spread(4, 2, 6)
    assert interleaved.Timing(8, spread, spread).over(2) == interleaved.Timing(4, *[interleaved.Spread(2, 1, 3)] * 2)


def test_a_gpu_s_time_is_from_idle_to_idle(monkeypatch):
    order = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append(f"wait for {device}"))
    monkeypatch.setattr(interleaved.time, "perf_counter", lambda: order.append("clock") or 0.0)
    interleaved.seconds_of(lambda: order.append("call"), "cuda", calls=2)
    assert order == ["wait for cuda", "clock", "call", "call", "wait for cuda", "clock"]


def test_every_leader_moves_the_parameters():
    moved = []
    for name, one in leader.leaders().items():
        p = torch.ones(3, requires_grad=True)
        p.grad = torch.ones(3)
        try:
            one.make([p]).step()
        except leader.Missing:
            continue
        moved.append(name)
        assert 0 < 1 - p.max() < 2e-4, name
    assert {leader.REFERENCE, "scala Lamb", "scala Lamb, plain", "scala Lamb, nvlamb"} <= set(moved)


def test_our_rows_are_what_they_are_called():
    made = {name: one.make([torch.zeros(2, requires_grad=True)]) for name, one in leader.leaders().items() if "scala" in name}
    options = {name: (one.defaults["dialect"], one.defaults["foreach"]) for name, one in made.items()}
    expected = {"scala Lamb": ("debiased", None), "scala Lamb, plain": ("debiased", False)}
    assert options == expected | {"scala Lamb, nvlamb": ("nvlamb", None)}


def test_a_package_that_cannot_be_imported_says_why(tmp_path, monkeypatch):
    folder = tmp_path / "pytorch_optimizer"
    folder.mkdir()
    (folder / "__init__.py").write_text("import nothing_of_that_name")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pytorch_optimizer", raising=False)
    rows = {row["name"]: row for row in leader.time_leaders([torch.Size([3])], MACHINE, pairs=1)}
    assert "nothing_of_that_name" in rows["pytorch_optimizer Lamb"]["missing"]
    assert rows["pytorch_optimizer Lamb"]["seconds"] is None


def test_a_package_as_a_whole_is_compared_by_its_lamb(tmp_path, monkeypatch):
    folder = tmp_path / "pytorch_optimizer"
    folder.mkdir()
    (folder / "__init__.py").write_text("from torch.optim import Adagrad as Lamb")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pytorch_optimizer", raising=False)
    made = leader.leaders()["pytorch_optimizer Lamb"].make([torch.zeros(2, requires_grad=True)])
    assert (type(made), made.defaults["lr"]) == (torch.optim.Adagrad, 1e-5)
    sys.modules.pop("pytorch_optimizer", None)


def test_launches_and_waits_are_counted_by_name():
    calls = ["cudaLaunchKernel", "cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cudaLaunchCooperativeKernel"]
    calls += ["cudaGraphLaunch", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize", "cudaMemcpyAsync"]
    assert leader.counted([*calls, "aten::add", "cudaEventRecord"]) == {"launches": 6, "waits": 2}


def test_memory_is_compared_pair_by_pair(monkeypatch):
    answers, commands = iter([100, 110, 200, 180, 100, 130]), []
    monkeypatch.setattr(process, "_output", lambda command: commands.append(command) or str(next(answers)))
    memory = process.compare_memory("somebody", 2, 3, ("one", "two"), repeats=3)
    assert memory["ratio"] == {"median": 1.1, "least": 0.9, "greatest": 1.3}
    assert [command[3:-1] for command in commands[:2]] == [["somebody", "2", "3", step] for step in ("one", "two")]


def test_the_peak_is_in_bytes():
    held = torch.ones(2**22)
    assert held.nbytes < process._peak() < 2**40


def test_the_marked_round_is_the_game_s(made):
    other, game = again(made), Game(made.leader, Adversary(made.radius, relative=True))
    marked = phases._Marked(other, Game(other.leader, Adversary(made.radius, relative=True)))
    assert torch.equal(played(other, marked.round), played(made, made.round_of(game)))


def test_all_of_a_round_s_time_is_in_the_table_and_where_it_belongs(made):
    both = speed_measures.profile_both(made)
    for name, profiled in both.items():
        seconds = profiled["seconds"]
        happened = {phase for phase in phases.PHASES if sum(seconds[phase].values()) > 0}
        assert happened == {phase for phase in phases.PHASES if "ascent" not in phase or name != REFERENCE}
        for phase in happened:
            assert (seconds[phase]["optimizer"] > 0) == (phase == "leader, step")
            assert (seconds[phase]["matrix products"] > 0) == ("ward" in phase)
            assert (seconds[phase]["dropout"] > 0) == ("forward" in phase)
            assert min(seconds[phase].values()) >= 0
        assert 0 < phases.outside_products(profiled) < 1
    # The ascent has no gradient of the embedding's weights, which only the leader's backward pass computes.
    seconds = both["ScaLA, K = 1"]["seconds"]
    assert seconds["ascent, backward"]["embedding"] == 0 < seconds["leader, backward"]["embedding"]


def event(name, start, end, self_time, parent=None, kernel_time=0):
    return SimpleNamespace(
        name=name,
        time_range=SimpleNamespace(start=start, end=end),
        self_cpu_time_total=self_time,
        self_device_time_total=kernel_time,
        cpu_parent=parent,
        device_type=DeviceType.CPU,
        is_user_annotation=not name.startswith("aten::"),
    )


def test_an_operation_is_of_the_phase_in_which_it_starts():
    dropout = event("aten::dropout", 11, 15, 1)
    events = [
        event("phase: leader, forward", 10, 20, 3),
        event("phase: leader, step", 20, 40, 3),
        dropout,
        event("aten::mul", 12, 15, 3, parent=dropout, kernel_time=7),
        event("aten::addmm", 15, 22, 4, kernel_time=30),  # ends in the next
        event("aten::mul", 30, 35, 5, kernel_time=9),
        event("Optimizer.step#Lamb.step", 21, 39, 6, kernel_time=100),  # its kernels are those of what is in it
        event("aten::mm", 5, 6, 1, kernel_time=1),  # before everything
    ]
    table = {key: time for key, time in phases.attributed(events, on_device=False).items() if time}
    forward, step = "leader, forward", "leader, step"
    assert table == {
        (forward, "dropout"): 4,
        (forward, "matrix products"): 4,
        (forward, "other"): 2,
        (step, "optimizer"): 5,
        (step, "other"): 15,
    }
    kernels = {key: time for key, time in phases.attributed(events, on_device=True).items() if time}
    assert kernels == {(forward, "dropout"): 7, (forward, "matrix products"): 30, (step, "optimizer"): 9}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::_scaled_dot_product_efficient_attention_backward", "attention"),
        ("aten::bmm", "attention"),
        ("aten::mm", "matrix products"),
        ("aten::mul", "elementwise"),
        ("aten::embedding_dense_backward", "embedding"),
        ("aten::bernoulli_", "dropout"),
        ("aten::native_layer_norm", "elementwise"),
        ("AddmmBackward0", "other"),
    ],
)
def test_the_kind_of_an_operation(name, kind):
    assert phases._kind(event(name, 0, 1, 1)) == kind


def test_growth_finds_the_slopes_of_what_it_is_given(monkeypatch):
    """Times that grow with the square root of the depth and twice as fast as the batch, and a round of 1 + K/2."""

    def timed(actions, reference, pairs, device):
        out = {}
        for name, action in actions.items():
            bench, steps = action()
            depth, batch = bench.model.config.num_hidden_layers, len(bench.batch["input_ids"])
            time = depth**0.5 * batch**2 * (1 + steps / 2)
            out[name] = interleaved.Timing(time, interleaved.Spread(time, time, time), interleaved.Spread(1 + steps / 2, 1, 9))
        return out

    monkeypatch.setattr(growth, "interleaved", timed)
    monkeypatch.setattr(growth, "_floor", lambda action, bench, machine: timed({"": action}, "", 1, "")[""].first ** 0.5)
    monkeypatch.setattr(growth, "profile_round", lambda bench, *_, follower: bench.model.config.num_hidden_layers)
    monkeypatch.setattr(growth, "outside_products", lambda depth: 1 / (1 + depth))
    monkeypatch.setattr(growth, "_game", lambda bench, steps: steps)
    monkeypatch.setattr(Bench, "plain", property(lambda bench: lambda: (bench, 0)))
    monkeypatch.setattr(Bench, "round_of", lambda bench, steps: lambda: (bench, steps))
    measured = growth.measure_growth(MACHINE, PLAN, pairs=1)
    depth, batch = measured["axes"]
    for axis, slope in ((depth, 0.5), (batch, 2)):
        for row in axis["rows"]:
            assert row["measured_slope"]["slope"] == pytest.approx(slope)
            assert row["measured_slope"]["interval"] == pytest.approx([slope] * 2, abs=1e-6)
            assert row["predicted_slope"]["slope"] == pytest.approx(slope / 2)
            assert row["difference"]["slope"] == pytest.approx(slope / 2)
            # More than the count, but the time outside of products falls with the depth and stays with the batch: no reason.
            assert row["reason"] is None
    assert depth["parameters"][1] - depth["parameters"][0] == depth["parameters"][2] - depth["parameters"][1] > 12 * 8**2
    assert measured["steps"]["measured_slope"]["slope"] == pytest.approx(0.5)
    assert measured["steps"]["predicted"] == pytest.approx([1, 1.5**0.5, 2**0.5])


def test_a_reason_must_point_the_same_way():
    reason = growth._reason("batch", (4, 64), (0.5, 0.25), -0.1)
    assert reason == "outside matrix products: 50% of the time at batch 4, 25% at 64"
    assert growth._reason("batch", (4, 64), (0.5, 0.25), 0.1) is None


def test_a_slope_s_interval_covers_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    x = list(range(5))
    fits = [growth._line(x, [3 * i + float(torch.randn((), generator=generator)) for i in x]) for _ in range(1000)]
    covered = sum(fit["interval"][0] < 3 < fit["interval"][1] for fit in fits)
    assert 930 < covered < 970


def test_the_count_is_of_the_operations_that_are_done():
    """By hand: a linear layer of d x d over n rows is 2 n d^2, in each of the passes; attention 2 products of 2 B L^2 d.

    Both factors of attention's products are activations, so that its backward pass is all inward.
    """
    size = Size(batch=2, length=4, depth=3, width=8, vocabulary=20)
    bench = size.bench("cpu")
    attention = 2 * 2 * 2 * 4**2 * 8
    layer = 2 * 8 * 12 * 8**2 + attention
    head = 2 * 2 * 8 * 8 + 2 * 2 * 8 * 2  # the pooler and the classifier
    forward = 3 * layer + head
    assert rounds.flops_of(bench.plain) == 3 * forward
    assert rounds.flops_of(bench.round_of(growth._game(bench, 2))) == (3 + 2 * 2) * forward + 2 * 3 * attention
    leader_seconds = 40e-9 * sum(p.numel() for p in bench.model.parameters())
    assert growth._floor(bench.plain, bench, MACHINE) == pytest.approx(3 * forward / 1e9 + leader_seconds)


def test_autocast_reaches_the_products(made):
    seen = set()
    made.model.float().base_model.encoder.layer[0].attention.self.query.register_forward_hook(
        lambda _layer, _inputs, output: seen.add(output.dtype)
    )
    lower = dataclasses.replace(bench_of(made.model, 4, 8, "bf16"))
    for name in ("ScaLA, K = 1", "naive ascent"):
        named(lower, name)()
        assert seen == {torch.bfloat16}
        seen.clear()
    named(bench_of(made.model, 4, 8), "ScaLA, K = 1")()
    assert seen == {torch.float32}


def quick(monkeypatch):
    monkeypatch.setattr(Machine, "measured", classmethod(lambda cls, device: MACHINE))
    monkeypatch.setattr(speed_measures.gc, "collect", lambda: 0)
    monkeypatch.setattr(leader.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(process, "_output", lambda command: "1" if "-c" in command else "1000000")


def test_the_record(encoder, tmp_path, capsys, monkeypatch):
    quick(monkeypatch)
    kept = []
    measured = speed_measures.benchmark(
        lambda record: kept.append(list(record)), encoder=encoder, batch=4, length=8, pairs=1, plan=SMALL, toy_batches=(3,)
    )
    assert kept[0][-1] == "leader"
    assert kept[-1] == list(measured)
    for row in (*measured["leader"], *measured["round"]):
        if row["seconds"] is not None:
            assert 0 < row["ratio"]["least"] <= row["ratio"]["median"] <= row["ratio"]["greatest"]
            assert row["floor"] > 0
    absent = [row["name"] for row in measured["leader"] if row["seconds"] is None]
    assert absent == ["timm Lamb", "torch_optimizer Lamb", "pytorch_optimizer Lamb"]
    assert {"commit", "versions", "threads", "hardware", "load_before", "load_after"} <= set(measured["provenance"])

    monkeypatch.setattr(command, "benchmark", lambda keep, **_: keep(measured) or measured)
    monkeypatch.setattr(command.torch, "set_num_threads", lambda _: None)
    assert command.main(["--out", str(tmp_path / "bench.json")]) == 0
    assert json.loads((tmp_path / "bench.json").read_text()) == json.loads(json.dumps(measured))
    for figure in ("growth", "phases"):
        assert "<svg" in (tmp_path / f"bench-{figure}.svg").read_text()
    printed = capsys.readouterr().out
    for row in (*measured["leader"], *measured["round"]):
        assert row["name"] in printed
    assert printed.count("not installed") == 3


def test_the_record_of_an_accelerator(monkeypatch):
    quick(monkeypatch)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_: (_ for _ in ()).throw(RuntimeError("no compiler\nat all")))
    kept = []
    shapes = {name: CONFIGS[name] for name in ("bert", "roberta")}
    measured = speed_measures.benchmark_accelerator(
        lambda record: kept.append(json.dumps(record)), device="cpu", shapes=shapes, batch=4, length=8, pairs=1, plan=SMALL
    )
    assert kept[-1] == json.dumps(measured)
    assert [shape["name"] for shape in measured["shapes"]] == ["bert", "roberta"]
    assert all(config.problem_type is None for config in shapes.values())  # its caller's are as they were
    for shape in measured["shapes"]:
        settings = {(one["precision"], one["compiled"]): one for one in shape["settings"]}
        assert list(settings) == [("fp32", False), ("bf16", False), ("fp32", True), ("bf16", True)]
        for (precision, compiled), one in settings.items():
            assert one["failure"] == ("RuntimeError: no compiler" if compiled else None), precision
            assert [row["name"] for row in one["round"]] == ([] if compiled else NAMES)
        plain = [settings[precision, False]["round"][0]["floor"] for precision in ("fp32", "bf16")]
        step = 40e-9 * shape["parameters"]
        assert (plain[0] - step) / (plain[1] - step) == pytest.approx(4)
    printed = report(measured)
    assert printed.count("failed, RuntimeError: no compiler") == 4
    assert printed.count("The leader's step") == 2


def test_a_gpu_s_memory_is_the_peak_beyond_the_model(made, monkeypatch):
    peaks, device = itertools.cycle([1000, 1100]), torch.device("cuda")
    calls = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: model + next(peaks))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: calls.append("wait"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(speed_measures.gc, "collect", lambda: 0)
    model = sum(t.nbytes for t in (*made.model.parameters(), *made.model.buffers()))
    assert speed_measures.device_memory(made, speed_measures.MEMORY_STEPS) is None
    bench = SimpleNamespace(
        device=device,
        model=made.model,
        leader=made.leader,
        steps=lambda: {
            name: SimpleNamespace(play=lambda name=name: calls.append(name)) for name in speed_measures.MEMORY_STEPS
        },
    )
    memory = speed_measures.device_memory(bench, speed_measures.MEMORY_STEPS, repeats=2)
    assert memory["ratio"] == {"median": 1.1, "least": 1.1, "greatest": 1.1}
    assert [spread["median"] for spread in memory["bytes"]] == [1000, 1100]
    plain, ours = speed_measures.MEMORY_STEPS
    assert calls == [plain, ours, *(["reset", plain, "wait", "reset", ours, "wait"] * 2)]


def test_the_shapes_are_those_of_the_models():
    """Parameters of the published checkpoints, with two classes: 109.5 and 355.4 million."""
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in rounds.AutoModelForSequenceClassification.from_config(config).parameters())
            for config in speed_measures.SHAPES.values()
        ]
    assert counts == [109_483_778, 355_361_794]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("arguments", "told"), [(["--device", "cuda"], "no CUDA device"), (["--shapes", "roberta-large"], "--device cuda")]
)
def test_what_cannot_be_measured_is_refused_in_a_line(arguments, told, capsys, monkeypatch):
    monkeypatch.setattr(command, "benchmark", None)
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert told in capsys.readouterr().err.strip().splitlines()[-1]


def test_rates_are_the_greatest_seen(monkeypatch):
    times = itertools.cycle([4.0, 2.0, 8.0])
    monkeypatch.setattr(machine, "seconds_of", lambda action, device: action() is None or next(times))
    assert machine.peak_flops(size=8, repeats=3) == 2 * 8**3 / 2
    assert machine.memory_bandwidth(megabytes=1, repeats=3) == 3 * 2**20 / 2


def test_a_figure_has_a_panel_for_every_axis(made):
    fit = {"slope": 1.0, "interval": [0.9, 1.1]}
    spreads = [{"median": v, "least": v / 2, "greatest": v * 2} for v in (1.0, 2.0)]
    row = {"name": "a", "seconds": spreads, "predicted": [0.5, 1.0], "measured_slope": fit, "predicted_slope": fit}
    axis = {"axis": "width", "values": [8, 16], "parameters": [1e6, 4e6], "rows": [row, row]}
    steps = {"values": [0, 1], "ratios": spreads, "predicted": [1, 2], "measured_slope": fit, "predicted_slope": fit}
    figure = speed_figures.growth_figure({"axes": [axis], "steps": steps})
    panel, last = figure.axes
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["8\n1", "16\n4"]
    assert last.get_xlabel() == "ascent steps K"
    assert list(panel.lines[0].get_ydata()) == [1e3, 2e3]
    assert list(panel.lines[3].get_ydata()) == [500, 1000]


def test_a_bar_is_as_long_as_its_phase():
    seconds = {phase: dict.fromkeys(phases.KINDS, 0.0) for phase in phases.PHASES}
    seconds["ascent, forward"] |= {"matrix products": 0.002, "dropout": 0.001}
    seconds["rest"]["other"] = 0.001
    figure = speed_figures.phases_figure({"a step": {"round": 0.004, "seconds": seconds}})
    (panel,) = figure.axes
    assert sum(bar.get_width() for bar in panel.patches) == pytest.approx(4)
    assert [text.get_text().strip() for text in panel.texts] == ["3 ms, 75%", "1 ms, 25%"]


def test_a_large_batch_is_timed_as_drawn_and_sorted(encoder):
    found = time_large_batches(str(encoder), batch=24, micro_batch=4, pairs=1)
    assert [row["name"] for row in found["rows"]] == ["as drawn", "sorted by length"]
    tokens = found["tokens"]
    assert tokens["without padding"] < tokens["sorted"] < tokens["drawn"]
    assert all(row["seconds"]["least"] > 0 for row in found["rows"])
