"""What is compared does what its row says, and needs the passes that its floor counts; nothing here is decided by time."""

import copy
import dataclasses
import itertools
import json
from functools import partial

import pytest
import torch

from paper_repro import bench, bench_leader, bench_process, bench_round, interleaved
from paper_repro.bench_round import REFERENCE, Bench, bench_of, classifier
from scala import Adversary, EmbeddingNoise, Game, Lamb

ROUNDS = 3


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
    return made.steps()[name][1]


@pytest.mark.parametrize(("ours", "rival"), [("ScaLA, K = 1", "naive ascent"), ("Game, no follower", REFERENCE)])
def test_the_core_gives_the_weights_of_its_rival(made, ours, rival):
    other = again(made)
    before = played(made, lambda: None)
    core, theirs = played(made, named(made, ours)), played(other, named(other, rival))
    torch.testing.assert_close(core, theirs, rtol=1e-10, atol=1e-12)
    assert (core - before).norm() > 0.01


@pytest.mark.parametrize("name", ["Gaussian noise", "naive ascent", "ScaLA, K = 1", "ScaLA, own dropout", "ScaLA, K = 2"])
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
    same, own = (played(m, named(m, name)) for m, name in ((made, "ScaLA, K = 1"), (other, "ScaLA, own dropout")))
    assert not torch.allclose(same, own)
    made.model.eval(), other.model.eval()
    other.model.load_state_dict(made.model.state_dict())
    steady = [Watching(m.model, torch.optim.SGD(m.model.parameters(), 0.1), m.batch) for m in (made, other)]
    same, own = (played(m, named(m, name)) for m, name in zip(steady, ("ScaLA, K = 1", "ScaLA, own dropout"), strict=True))
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
    up = gradient([z + bench_round.SAM_RADIUS * d / size for z, d in zip(x, g, strict=True)])
    gradient(x)  # back to where it was
    dataclasses.replace(made, leader=torch.optim.SGD(made.model.parameters(), 0.1)).sam()
    for p, z, d in zip(made.model.parameters(), x, up, strict=True):
        torch.testing.assert_close(p.detach(), z - 0.1 * d, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("number", range(8))
def test_a_step_needs_the_passes_of_its_row(made, number):
    """Counted at the last layer, and at the first one's weights, which a backward pass reaches last."""
    name, (passes, step) = list(made.steps().items())[number]
    encoder = made.model.base_model.encoder.layer
    counts = {"forward": 0, "inward": 0, "weights": 0}

    def count(key):
        counts[key] += 1

    encoder[-1].register_forward_hook(lambda *_: count("forward"))
    weight = encoder[0].attention.self.query.weight
    weight.register_hook(lambda _: count("weights"))
    made.model.base_model.embeddings.LayerNorm.register_forward_hook(
        lambda _layer, _inputs, output: output.register_hook(lambda _: count("inward")) and None
    )
    step()
    assert counts == dataclasses.asdict(passes), name


def test_a_floor_is_its_passes_over_three(made):
    rows = {row["name"]: row for row in bench_round.time_rounds(made, bandwidth=1e9, flops=1e9, pairs=1)}
    assert {name: round(row["floor_ratio"], 3) for name, row in rows.items()} == {
        REFERENCE: 1,
        "Game, no follower": 1,
        "Gaussian noise": 1,
        "ScaLA, K = 1": 1.667,
        "ScaLA, own dropout": 1.667,
        "naive ascent": 2,
        "ScaLA, K = 2": 2.333,
        "SAM": 2,
    }
    plain, scala, naive = (rows[name]["floor"] for name in (REFERENCE, "ScaLA, K = 1", "naive ascent"))
    assert naive - scala == pytest.approx((scala - plain) / 2)  # one pass more, of the two that an ascent needs
    leader = plain - 3 * (naive - scala)
    assert leader == pytest.approx(40e-9 * sum(p.numel() for p in made.model.parameters()))


def test_pairs_are_neighbours_and_alternate(monkeypatch):
    calls, clock = [], itertools.accumulate(itertools.count(1))  # each call takes longer than the one before
    monkeypatch.setattr(interleaved.time, "perf_counter", lambda: next(clock))
    timings = interleaved.interleaved({name: partial(calls.append, name) for name in "ab"}, "a", pairs=2)
    assert "".join(calls) == "ab" + "aaab" + "aaba"
    assert timings["b"].first == 4
    assert timings["b"].ratio == interleaved.Spread((12 / 10 + 18 / 20) / 2, 18 / 20, 12 / 10)


def test_every_leader_moves_the_parameters():
    for name, (_, make) in bench_leader.leaders().items():
        if make is None:
            continue
        p = torch.ones(3, requires_grad=True)
        p.grad = torch.ones(3)
        make([p]).step()
        assert 0 < 1 - p.max() < 1e-4, name


def test_memory_is_compared_pair_by_pair(monkeypatch):
    answers, commands = iter([100, 110, 200, 180, 100, 130]), []
    monkeypatch.setattr(bench_process, "_output", lambda command: commands.append(command) or str(next(answers)))
    memory = bench_process.compare_memory("somebody", 2, 3, ("one", "two"), repeats=3)
    assert memory["ratio"] == {"median": 1.1, "least": 0.9, "greatest": 1.3}
    assert [command[3:-1] for command in commands[:2]] == [["somebody", "2", "3", step] for step in ("one", "two")]


def test_the_peak_is_in_bytes():
    held = torch.ones(2**22)
    assert held.nbytes < bench_process._peak() < 2**40


def test_the_record(encoder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "memory_bandwidth", partial(interleaved.memory_bandwidth, megabytes=1, repeats=1))
    monkeypatch.setattr(bench, "peak_flops", partial(interleaved.peak_flops, size=8, repeats=1))
    monkeypatch.setattr(bench_process, "_output", lambda command: "1" if "-c" in command else "1000000")
    monkeypatch.setattr(bench_leader.importlib.util, "find_spec", lambda name: None)
    measured = bench.benchmark(encoder, batch=4, length=8, pairs=1, toy_batches=(3,))
    monkeypatch.setattr(bench, "benchmark", lambda **_: measured)
    monkeypatch.setattr(bench.torch, "set_num_threads", lambda _: None)
    assert bench.main(["--out", str(tmp_path / "bench.json")]) == 0
    assert json.loads((tmp_path / "bench.json").read_text()) == json.loads(json.dumps(measured))
    printed = capsys.readouterr().out
    for row in (*measured["leader"], *measured["round"]):
        assert row["name"] in printed
        if row["seconds"] is not None:
            assert 0 < row["ratio"]["least"] <= row["ratio"]["median"] <= row["ratio"]["greatest"]
            assert row["floor"] > 0
    absent = [row["name"] for row in measured["leader"] if row["seconds"] is None]
    assert absent == ["timm Lamb", "torch_optimizer Lamb"]
    assert printed.count("not installed") == 2
    assert {"commit", "versions", "threads", "hardware", "load_before", "load_after"} <= set(measured["provenance"])
