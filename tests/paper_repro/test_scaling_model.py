"""The model of data-parallel time against answers known by hand; fits, draws and sensitivities against planted ones."""

import dataclasses
import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import CONFIGS, tiny_model

from convergence.benchmark import Spread
from paper_repro.bench.interleaved import Timing
from paper_repro.bench.round import bench_of, classifier, flops_of
from paper_repro.bench.speed_measures import SHAPES
from paper_repro.scaling import hardware, predict, prediction_figures, step_times, workers
from paper_repro.scaling.fits import fit_compute, fit_link
from paper_repro.scaling.inputs import Input, drawn, interval, read, tornado, typical
from paper_repro.scaling.model import (
    ADAMW,
    Method,
    Plan,
    Steps,
    StepsTable,
    System,
    all_reduce,
    needed_critical,
    needed_throughput,
    ring,
    step_time,
    throughput,
    time_to_target,
)

LAMB = Method("lamb")
SYSTEM = System(
    parameters=1e8, per_sample=1e-3, overhead=5e-3, adamw=1e-10, lamb=2.0, latency=1e-5, bandwidth=1e11, overlap=0.0
)
"""Of which every time below is computed by hand."""


# --- the batch over the devices --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "devices", "limit", "sizes"),
    [
        (32, 1, 32, ((1, 32),)),
        (64, 2, 8, ((4, 8),)),
        (100, 3, 16, ((2, 16), (1, 2))),  # 34 samples on the fullest device
        (7, 4, 16, ((1, 2),)),
        (5, 5, 3, ((1, 1),)),
    ],
)
def test_micro_batches_by_hand(batch, devices, limit, sizes):
    plan = Plan(batch, devices, limit)
    assert plan.sizes == sizes
    assert plan.accumulation == sum(number for number, _ in sizes)


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 300))
def test_micro_batches_hold_the_fullest_devices_samples(devices, per_device, limit):
    plan = Plan(max(devices, devices * per_device - devices // 2), devices, limit)
    assert sum(number * samples for number, samples in plan.sizes) == plan.share == math.ceil(plan.batch / devices)
    assert plan.accumulation == math.ceil(plan.batch / (devices * limit)) == sum(number for number, _ in plan.sizes)
    assert max(samples for _, samples in plan.sizes) <= limit


def test_a_batch_that_cannot_be_spread_is_refused():
    with pytest.raises(ValueError, match="no sample for some of 64 devices; use at most 32"):
        Plan(32, 64, 8)
    with pytest.raises(ValueError, match="at least 1"):
        Plan(32, 1, 0)


# --- one step --------------------------------------------------------------------------------------------------------------


def test_one_device_by_hand():
    time = step_time(SYSTEM, ADAMW, Plan(40, 1, 16))
    assert time.compute == pytest.approx(2 * 21e-3 + 13e-3)
    assert time.communication == 0
    assert time.leader == pytest.approx(0.01)
    assert time.total == pytest.approx(0.055 + 0.01)
    assert step_time(SYSTEM, LAMB, Plan(40, 1, 16)).leader == pytest.approx(0.02)
    assert throughput(SYSTEM, ADAMW, Plan(40, 1, 16)) == pytest.approx(40 / 0.065)


def test_a_floor_is_what_a_small_micro_batch_takes():
    system = dataclasses.replace(SYSTEM, floor=15e-3)
    assert [float(system.micro_batch(m)) for m in (1, 10, 11)] == pytest.approx([15e-3, 15e-3, 16e-3])


def test_the_follower_costs_its_ascents_after_the_delay_and_no_communication():
    plan = Plan(64, 2, 16)
    plain = step_time(SYSTEM, LAMB, plan)
    for ascents, delay, factor in ((1, 0.0, 5 / 3), (1, 0.5, 4 / 3), (3, 0.0, 3.0), (2, 1.0, 1.0)):
        played = step_time(SYSTEM, Method("lamb", ascents, delay), plan)
        assert played.compute == pytest.approx(plain.compute * factor)
        assert (played.communication, played.leader) == (plain.communication, plain.leader)


def test_devices_that_share_a_machine_are_slower_only_when_there_are_several():
    system = dataclasses.replace(SYSTEM, sharing=1.5)
    assert step_time(system, LAMB, Plan(32, 1, 16)) == step_time(SYSTEM, LAMB, Plan(32, 1, 16))
    shared, alone = (step_time(s, LAMB, Plan(32, 2, 16)) for s in (system, SYSTEM))
    assert (shared.compute, shared.leader) == pytest.approx((1.5 * alone.compute, 1.5 * alone.leader))
    assert shared.communication == alone.communication


def test_ring_by_hand():
    assert ring(8e9, 1, 1e-3, 1e9) == 0
    assert ring(8e9, 2, 1e-3, 1e9) == pytest.approx(8 + 2e-3)
    assert ring(8e9, 4, 1e-3, 1e9) == pytest.approx(12 + 6e-3)  # 6 messages of 2e9 bytes
    assert ring(0, 4, 1e-3, 1e9) == pytest.approx(6e-3)


def test_rings_in_and_across_nodes_by_hand():
    system = System(1e9, 0, latency=1e-5, bandwidth=1e11, node=16, node_latency=1e-4, node_bandwidth=1e10)
    within = 30 / 16 * 4e9 / 1e11 + 30 * 1e-5
    assert all_reduce(system, 16) == pytest.approx(within)
    assert all_reduce(system, 32) == pytest.approx(within + 4e9 / 1e10 + 2 * 1e-4)
    assert all_reduce(system, 8) == pytest.approx(14 / 8 * 4e9 / 1e11 + 14 * 1e-5)
    assert all_reduce(dataclasses.replace(system, node=None), 32) == pytest.approx(62 / 32 * 4e9 / 1e11 + 62 * 1e-5)


def test_an_infinite_bandwidth_without_latency_costs_nothing():
    free = dataclasses.replace(SYSTEM, latency=0.0, bandwidth=math.inf)
    assert step_time(free, LAMB, Plan(64, 8, 8)).communication == 0


def test_the_backward_pass_of_the_last_micro_batch_hides_the_all_reduce():
    plan = Plan(36, 2, 16)  # the last micro-batch has 2 samples: 7 ms
    reduced = float(all_reduce(SYSTEM, 2))
    half = dataclasses.replace(SYSTEM, overlap=0.5, backward=0.6)
    assert step_time(half, LAMB, plan).communication == pytest.approx(reduced - 0.5 * 0.6 * 7e-3)
    assert step_time(dataclasses.replace(half, overlap=1.0), LAMB, plan).communication == 0  # not less


positive = st.floats(1e-6, 1e-1)
systems = st.builds(
    System,
    parameters=st.floats(1e4, 1e10),
    per_sample=positive,
    overhead=positive,
    floor=positive,
    backward=st.floats(0.3, 0.7),
    ascent=st.floats(0.1, 2),
    adamw=st.floats(1e-12, 1e-9),
    lamb=st.floats(1, 5),
    latency=positive,
    bandwidth=st.floats(1e8, 1e12),
    node=st.sampled_from([None, 4, 8, 16]),
    node_latency=positive,
    node_bandwidth=st.floats(1e8, 1e12),
    overlap=st.floats(0, 1),
)
plans = st.builds(lambda devices, per, limit: Plan(devices * per, devices, limit), *[st.integers(1, 200)] * 3)
METHOD = Method("lamb", 1, 0.5)


@given(systems, plans, st.sampled_from(["parameters", "per_sample", "overhead", "floor", "ascent", "adamw", "lamb", "latency"]))
def test_whatever_costs_more_takes_longer(system, plan, name):
    # Nothing hides: a slower backward pass would hide more.
    system = dataclasses.replace(system, overlap=0.0)
    dearer = system.at({name: 2 * getattr(system, name)})
    assert step_time(dearer, METHOD, plan).total >= step_time(system, METHOD, plan).total * (1 - 1e-12)


@given(systems, plans)
def test_whatever_helps_takes_no_longer(system, plan):
    least = step_time(system, METHOD, plan)
    for better in ({"bandwidth": math.inf, "node_bandwidth": math.inf}, {"overlap": 1.0}):
        assert step_time(system.at(better), METHOD, plan).total <= least.total * (1 + 1e-12)
    one = step_time(system, METHOD, Plan(plan.batch, 1, plan.limit))
    assert least.compute <= one.compute * (1 + 1e-12)
    assert least.communication >= one.communication == 0
    assert all(part >= 0 for part in (least.compute, least.communication, least.leader))


@given(systems, st.integers(1, 7))
def test_more_devices_at_the_same_batch_compute_less_and_reduce_longer(system, power):
    few, many = (2 ** (power + i) for i in range(2))
    assert step_time(system, METHOD, Plan(512, many, 8)).compute <= step_time(system, METHOD, Plan(512, few, 8)).compute
    assert all_reduce(system, many) >= all_reduce(system, few)


def test_arrays_of_draws_give_arrays_of_times():
    slow = np.array([1e-3, 2e-3, 3e-3])
    times = step_time(SYSTEM.at({"per_sample": slow}), METHOD, Plan(64, 2, 8)).total
    assert times == pytest.approx([step_time(SYSTEM.at({"per_sample": s}), METHOD, Plan(64, 2, 8)).total for s in slow])


# --- steps to the target ---------------------------------------------------------------------------------------------------


def test_the_law_of_steps_at_its_limits():
    law = Steps(least=100, critical=400)
    assert law.at(400) == 200
    assert law.at(10**9) == pytest.approx(100, rel=1e-5)
    assert Steps(100, 1e9).at(32) / Steps(100, 1e9).at(64) == pytest.approx(2)
    assert Steps(100, 0).at(1) == 100
    for few, many in pairwise([8, 32, 128, 1024]):
        assert law.at(few) > law.at(many)
        assert few * law.at(few) < many * law.at(many)
    through = Steps.through(32, 6315, 400)
    assert through.at(32) == pytest.approx(6315)
    assert through.at(400) == pytest.approx(2 * through.least)


def test_measured_steps_between_batches_and_outside():
    table = StepsTable({32: 800, 128: 200, 512: 100, 2048: math.inf})
    assert [table.at(b) for b in (32, 128, 512)] == [800, 200, 100]
    assert table.at(48) == pytest.approx(800 * 32 / 48)
    assert table.at(256) == pytest.approx(200 / math.sqrt(2))
    assert table.at(1024) == table.at(2048) == math.inf
    for outside in (16, 4096):
        with pytest.raises(ValueError, match=r"only at \[32, 128, 512, 2048\]; measure it"):
            table.at(outside)


def test_time_to_target_is_steps_times_their_time():
    plan = Plan(64, 1, 16)
    total = step_time(SYSTEM, LAMB, plan).total
    assert time_to_target(SYSTEM, StepsTable({64: 50}), Method("lamb", excess=1.2), plan) == pytest.approx(60 * total)
    assert time_to_target(SYSTEM, Steps(10, 64), LAMB, plan) == pytest.approx(20 * total)


@given(st.floats(1.1, 30), st.floats(0.5, 60), st.sampled_from([256, 1024, 4096]))
def test_the_critical_batch_that_is_needed_gives_the_speedup(speedup, faster, batch):
    def reached(critical):
        return faster * (32 + critical) / (batch + critical)

    needed = needed_critical(speedup, batch, faster)
    if math.isinf(needed):
        assert faster <= speedup
    elif needed == 0:
        assert reached(0) >= speedup * (1 - 1e-9)
    else:
        assert reached(needed) == pytest.approx(speedup)
        assert needed_throughput(speedup, batch, needed) == pytest.approx(faster)


# --- draws and sensitivities -----------------------------------------------------------------------------------------------


def given_input(low, typical, high, scale="linear", basis="assumed"):
    return Input(low, typical, high, "s", basis, "planted", scale)


def test_intervals_of_a_linear_model_are_the_exact_ones():
    inputs = {"a": given_input(0, 1, 2), "b": given_input(10, 11, 12)}
    found = interval(sum(drawn(inputs).values()))
    # The sum of two uniform numbers on [0, 2]: P(sum <= s) = s^2 / 8 for s <= 2.
    tail = math.sqrt(8 * 0.025)
    assert found["low"] == pytest.approx(10 + tail, abs=0.02)
    assert found["median"] == pytest.approx(12, abs=0.02)
    assert found["high"] == pytest.approx(14 - tail, abs=0.02)
    one = interval(drawn({"a": given_input(1, 10, 10_000, "log")})["a"])
    assert [one[key] for key in ("low", "median", "high")] == pytest.approx([10**0.05, 10, 10 ** (1 + 3 * 0.95)], rel=0.01)


def test_the_tornado_names_the_input_that_decides_with_its_exact_share():
    inputs = {
        "weak": given_input(1, 2, 4, "log"),
        "strong": given_input(1, 8, 64, "log"),
        "idle": given_input(1, 5, 9, "log"),
        "known": given_input(3, 3, 3),
    }
    rows = tornado(lambda values: values["known"] * values["strong"] / values["weak"], inputs)
    assert [row["name"] for row in rows] == ["strong", "weak", "idle"]
    assert [row["share"] for row in rows] == pytest.approx([0.9, 0.1, 0], abs=0.02)  # of log widths 6 and 2: 36 to 4
    assert (rows[0]["low"], rows[0]["high"]) == pytest.approx((1.5, 96))
    assert (rows[1]["low"], rows[1]["high"]) == pytest.approx((6, 24))
    assert rows[2]["low"] == rows[2]["high"]


@pytest.mark.parametrize(
    ("ends", "scale", "basis", "message"),
    [
        ((2, 1, 3), "log", "assumed", "low <= typical <= high"),
        ((1, 2, math.inf), "log", "assumed", "finite"),
        ((0, 1, 2), "log", "assumed", "needs scale='linear'"),
        ((1, 2, 3), "log", "guessed", "basis must be one of"),
        ((1, 2, 3), "cubic", "assumed", "scale one of"),
    ],
)
def test_what_is_no_range_is_refused(ends, scale, basis, message):
    with pytest.raises(ValueError, match=message):
        given_input(*ends, scale, basis)


# --- fits ------------------------------------------------------------------------------------------------------------------

SIZES = (1, 2, 4, 8, 16, 32)


@given(st.floats(1e-4, 1e-1), st.floats(1e-5, 1e-1))
def test_the_fit_recovers_a_planted_line(overhead, per_sample):
    fit = fit_compute(SIZES, [overhead + per_sample * m for m in SIZES])
    assert fit.floor == 0
    assert (fit.overhead, fit.per_sample) == pytest.approx((overhead, per_sample), rel=1e-4)


def test_the_fit_recovers_a_planted_floor():
    sizes = (*SIZES, 64, 128)
    fit = fit_compute(sizes, [max(0.02, 0.002 + 0.001 * m) for m in sizes])
    assert fit == pytest.approx((0.02, 0.002, 0.001), rel=1e-6)


@given(st.floats(1e-6, 1e-3), st.floats(1e8, 1e11), st.integers(2, 64))
def test_the_fit_recovers_planted_latency_and_bandwidth(latency, bandwidth, devices):
    sizes = [10.0**power for power in range(3, 10)]
    link = fit_link(sizes, [ring(size, devices, latency, bandwidth) for size in sizes], devices)
    assert link == pytest.approx((latency, bandwidth), rel=1e-3)


def test_the_fit_bears_noise_on_small_times():
    noise = np.random.default_rng(0).uniform(0.95, 1.05, 7)
    sizes = [10.0**power for power in range(3, 10)]
    link = fit_link(sizes, [ring(size, 2, 1e-4, 1e9) * n for size, n in zip(sizes, noise, strict=True)], 2)
    assert link == pytest.approx((1e-4, 1e9), rel=0.1)


def test_what_cannot_be_fitted_is_refused():
    for sizes, seconds in (((1,), (1.0,)), ((2, 1), (1.0, 2.0)), ((1, 2), (1.0,))):
        with pytest.raises(ValueError, match="at least 2 increasing sizes"):
            fit_compute(sizes, seconds)
    for sizes, seconds in (((1, 2), (0.0, 1.0)), ((1, 2), (1.0, math.inf)), ((1, 2), (math.nan, 1.0)), ((0, 2), (1.0, 2.0))):
        with pytest.raises(ValueError, match="must be positive and finite"):
            fit_compute(sizes, seconds)
    with pytest.raises(ValueError, match="measure greater ones"):
        fit_link((1e3, 1e6), (2e-3, 1e-3), 2)
    with pytest.raises(ValueError, match="at least 2"):
        fit_link((1e3, 1e6), (1e-3, 2e-3), 1)


# --- measuring -------------------------------------------------------------------------------------------------------------

TRUE = System(
    2e7,
    per_sample=0.02,
    overhead=0.05,
    backward=0.6,
    ascent=0.7,
    adamw=1e-9,
    lamb=2.5,
    latency=2e-4,
    bandwidth=1e9,
    sharing=1.3,
)


def same(value):
    return Spread(value, value, value)


def planted():
    """Timings and links that the model itself makes."""
    timings = {
        m: {
            name: Timing(0.0, same(factor * float(TRUE.micro_batch(m))), same(factor))
            for name, factor in ((step_times.FORWARD, 0.4), (step_times.PLAIN, 1.0), (step_times.FOLLOWER, 1.7))
        }
        for m in SIZES
    }
    leaders = {"adamw": Timing(0.0, same(0.02), same(1.0)), "lamb": Timing(0.0, same(0.05), same(2.5))}
    sizes = (4_000, 400_000, 40_000_000)
    said = {"devices": 2, "all_reduce": [[float(ring(s, 2, 2e-4, 1e9))] * 3 for s in sizes], "sharing": [1.3] * 3}
    inputs = (
        step_times.compute_inputs(timings) | step_times.leader_inputs(leaders, 20_000_000) | step_times.link_inputs(sizes, said)
    )
    return inputs | {"overlap": given_input(0.0, 0.0, 1.0)}


def test_what_the_model_makes_is_measured_back():
    found = typical(planted())
    for name in ("per_sample", "overhead", "backward", "ascent", "adamw", "lamb", "latency", "bandwidth", "sharing"):
        assert found[name] == pytest.approx(getattr(TRUE, name)), name
    assert found["floor"] == 0


@pytest.mark.parametrize("method", ["adamw", "lamb", "scala"])
@pytest.mark.parametrize(("devices", "batch", "micro_batch"), [(1, 32, 8), (2, 32, 8), (2, 64, 4)])
def test_predicted_is_measured_where_the_model_made_the_measurement(method, devices, batch, micro_batch):
    game = {"adamw": ADAMW, "lamb": LAMB, "scala": Method("lamb", ascents=1)}[method]
    true = float(step_time(TRUE, game, Plan(batch, devices, micro_batch)).total)
    row = workers.Row(method, batch, micro_batch)
    compared = step_times.compared(planted(), 20_000_000, devices, row, [0.9 * true, true, 1.1 * true])
    assert compared["predicted"] == pytest.approx(true)
    assert abs(compared["error"]) < 1e-6
    assert compared["interval"]["high"] == pytest.approx(true)  # all is known but the overlap, which only helps
    assert (compared["interval"]["low"] < 0.999 * true) == (devices == 2)
    late = step_times.compared(planted(), 20_000_000, devices, row, [true / 2])
    assert late["error"] == pytest.approx(1)


def test_the_spread_of_measurements_is_that_of_the_inputs():
    timings = {
        m: {
            name: Timing(0.0, Spread(0.1 * m, 0.08 * m, 0.2 * m), same(factor))
            for name, factor in ((step_times.FORWARD, 0.5), (step_times.PLAIN, 1.0), (step_times.FOLLOWER, 1 + 0.1 * m))
        }
        for m in (1, 2, 4)
    }
    found = step_times.compute_inputs(timings)
    assert dataclasses.astuple(found["per_sample"])[:3] == pytest.approx((0.08, 0.1, 0.2))
    assert dataclasses.astuple(found["ascent"])[:3] == pytest.approx((0.1, 0.2, 0.4))
    assert {given.basis for given in found.values()} == {"measured"}


def test_the_parts_of_a_micro_batch_make_the_passes_that_they_are_named_after(encoder):
    bench = bench_of(classifier(encoder), batch=2, length=6)
    parts = step_times.parts(bench)
    before = [p.detach().clone() for p in bench.model.parameters()]
    flops = {name: flops_of(action) for name, action in parts.items()}
    forward = flops[step_times.FORWARD]
    assert 2.6 * forward < flops[step_times.PLAIN] <= 3 * forward
    assert 4.4 * forward < flops[step_times.FOLLOWER] < 5.2 * forward  # attention's backward recomputes a product
    assert all(torch.equal(a, b) for a, b in zip(before, bench.model.parameters(), strict=True))  # no leader's step
    bench.leader.zero_grad()
    parts[step_times.FORWARD]()
    assert all(p.grad is None for p in bench.model.parameters())


def test_the_trainers_steps_are_all_timed_but_the_first():
    for method in workers.METHODS:
        times = workers.trained(tiny_model(), 5, 3, workers.Row(method, 4, 2))
        assert len(times) == 2
        assert min(times) > 0


def test_two_processes_say_how_long_they_reduce(encoder):
    job = {"encoder": encoder, "length": 4, "micro_batch": 2, "pairs": 2, "bytes": [4000, 40_000, 400_000]}
    said = step_times.launched("links", 2, job)
    assert said["devices"] == 2
    assert [len(times) for times in said["all_reduce"]] == [2, 2, 2]
    assert all(seconds > 0 for times in said["all_reduce"] for seconds in times)
    assert len(said["sharing"]) == 2


def test_a_process_that_fails_is_told(monkeypatch):
    monkeypatch.setattr(step_times.sys, "executable", "false")
    with pytest.raises(RuntimeError, match="2 processes could not measure links"):
        step_times.launched("links", 2, {})


@pytest.fixture
def setting(encoder):
    return dataclasses.replace(step_times.SMALL, encoder=encoder, length=4, sizes=(1, 2), batches=((4, 2), (2, 2)), rounds=2)


def answers(kind, processes, job):
    """In the place of other processes."""
    if kind == "links":
        return {"devices": 2, "all_reduce": [[ring(s, 2, 1e-4, 1e9)] * 2 for s in job["bytes"]], "sharing": [1.2, 1.1]}
    return [[0.1 * processes] * (job["steps"] - 1) for _ in job["rows"]]


def test_everything_is_kept_as_it_is_measured(setting, monkeypatch, tmp_path):
    monkeypatch.setattr(step_times, "launched", answers)
    kept = []
    record = step_times.measure(lambda r: kept.append(json.loads(json.dumps(r))), setting)
    assert [sorted(part) for part in kept[:2]] == [["models", "setting"], ["links", "models", "setting"]]
    monkeypatch.setattr(step_times, "time_model", None)  # what is kept is not measured again
    monkeypatch.setattr(step_times, "launched", lambda kind, *job: {"steps": answers}[kind](kind, *job))
    again = step_times.measure(lambda r: None, setting, kept[1])
    assert (again["validation"], again["models"]) == (record["validation"], record["models"])
    assert record["provenance"]["load_before"] >= 0
    rows = record["validation"]
    # A batch of 2 in micro-batches of 2 has nothing for a second process.
    assert [(row["devices"], row["batch"]) for row in rows] == [(1, 4), (1, 2)] * 3 + [(2, 4)] * 3
    assert {row["measured"]["median"] for row in rows if row["devices"] == 2} == {0.2}
    assert "error of the predicted step" in step_times.report(record)
    file = tmp_path / "measured.json"
    file.write_text(json.dumps(record))
    inputs = read(file)[setting.encoder]
    assert inputs["latency"].typical == pytest.approx(1e-4)
    assert inputs.keys() >= {"per_sample", "floor", "ascent", "lamb", "sharing", "overlap"}


def test_files_that_hold_no_inputs_are_refused(tmp_path):
    file = tmp_path / "other.json"
    for text in ("{", "{}", "[]", '{"models": {"a": {"inputs": {"floor": {"low": 1}}}}}'):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"holds no measured inputs .*paper_repro\.scaling\.step_times"):
            read(file)


# --- predictions -----------------------------------------------------------------------------------------------------------


def test_operations_a_token_are_those_that_torch_counts():
    model, length, batch = tiny_model("bert").train(), 12, 3
    model.config._attn_implementation = "eager"
    ids = torch.ones(batch, length, dtype=torch.long) * 7
    encoder = model.bert.encoder
    hidden = model.bert.embeddings(ids).detach().requires_grad_()
    counted = flops_of(lambda: encoder(hidden).last_hidden_state.sum().backward())
    assert counted == pytest.approx(hardware.flops_per_token(CONFIGS["bert"], length) * length * batch)


def test_parameters_are_those_of_the_real_model():
    assert hardware.parameters(CONFIGS["bert"]) == sum(p.numel() for p in tiny_model("bert").parameters())
    assert hardware.parameters(SHAPES["bert-base-uncased"]) == 109_483_778


def test_every_public_figure_says_so_and_measurements_take_their_place():
    case = hardware.case("bert-base-uncased", "dgx-2")
    assert {given.basis for given in case.inputs.values()} == {"assumed"}
    assert all(given.source for given in case.inputs.values())
    assert case.base.per_sample == case.inputs["per_sample"].typical
    measured = {"per_sample": given_input(0.001, 0.002, 0.003, basis="measured"), "overhead": given_input(0, 0.01, 0.02)}
    replaced = hardware.case("bert-base-uncased", "dgx-2", measured)
    assert (replaced.base.per_sample, replaced.base.overhead) == (0.002, 0.01)
    assert replaced.inputs["floor"] == case.inputs["floor"]
    with pytest.raises(ValueError, match="no figures for 'gpt' on 'dgx-2'; there are bert-base-uncased"):
        hardware.case("gpt", "dgx-2")
    with pytest.raises(ValueError, match="hold colour, which the model does not have"):
        hardware.case("bert-base-uncased", "dgx-2", {"colour": given_input(1, 2, 3)})


@pytest.fixture(scope="module")
def study():
    return predict.Study(hardware.case("bert-base-uncased", "dgx-2"), draws=64)


def test_a_speedup_over_itself_is_its_ratio_of_steps_and_step_times(study):
    middle = typical(study.inputs)
    system, steps, method = study.parts(middle)
    ours, theirs = step_time(system, method, Plan(1024, 16, 64)).total, step_time(system, ADAMW, Plan(32, 16, 64)).total
    expected = steps.at(32) * theirs / (steps.at(1024) * ours)
    assert study.speedup(1024, 16, "all devices")(middle) == pytest.approx(expected)
    one = step_time(system, ADAMW, Plan(32, 1, 64)).total
    assert study.speedup(1024, 16, "one device")(middle) == pytest.approx(expected * one / theirs)
    # Beyond 32 devices a batch of 32 has no sample for the others.
    assert study.baseline("all devices", 256)(middle) == study.baseline("all devices", 32)(middle)
    assert steps.at(32) == pytest.approx(predict.STEPS_AT_32)


def test_the_fastest_baseline_is_the_hardest_to_beat(study):
    for row in study.rows(devices=(1, 16, 256)):
        speedup = {reading: row["speedup"][reading]["median"] for reading in predict.READINGS}
        assert speedup["fastest"] <= min(speedup["one device"], speedup["all devices"]) * (1 + 1e-9)
        if row["devices"] == 1:
            assert len(set(speedup.values())) == 1
            assert row["communication_share"]["high"] == 0


def test_rows_are_all_that_fit(study):
    rows = study.rows(devices=(1, 1024))
    assert [(row["devices"], row["batch"]) for row in rows] == [
        *((1, batch) for batch in (8, 32, 256, 1024, 4096)),
        *((1024, batch) for batch in (1024, 4096, 8192, 32768)),
    ]
    assert all(row["accumulation"] == math.ceil(row["batch"] / row["devices"] / row["micro_batch"]) for row in rows)
    assert all(row["seconds_to_target"]["low"] <= row["seconds_to_target"]["high"] for row in rows)


def test_conditions_agree_with_the_speedups(study):
    certain = dataclasses.replace(study, steps=predict.ASSUMED_STEPS | {"critical": given_input(3000, 3000, 3000)})
    for row in certain.conditions(4.0, 1024, 16):
        assert row["probability"] == pytest.approx(
            np.mean(certain.speedup(1024, 16, row["reading"])(drawn(certain.inputs, 64)) >= 4)
        )
        needed = row["needed_critical"]
        if needed is None:
            assert row["at_most"] <= 4
            continue
        middle = typical(certain.inputs) | {"critical": needed}
        assert certain.speedup(1024, 16, row["reading"])(middle) == pytest.approx(4.0)
        assert row["at_most"] == pytest.approx(certain.speedup(1024, 16, row["reading"])(middle | {"critical": 1e12}), rel=1e-6)


def test_an_input_that_is_made_decisive_is_named(study):
    inputs = {name: dataclasses.replace(given, low=given.typical, high=given.typical) for name, given in study.inputs.items()}
    wide = {"floor": given_input(0.001, 0.05, 0.5, "log")}
    case = dataclasses.replace(study.case, inputs={name: inputs[name] for name in study.case.inputs} | wide)
    fixed = predict.Study(case, {name: inputs[name] for name in study.steps}, draws=64)
    assert [bar["name"] for bar in fixed.conditions(9.8, 1024, 16)[1]["decides"]] == ["floor"]


def test_the_figure_shows_the_rows_of_one_batch(study):
    document = study.document()
    panel = prediction_figures.speedup_figure([document]).axes[0]
    lines = {line.get_label(): line for line in panel.lines if line.get_label().startswith("AdamW")}
    expected = [row for row in document["rows"] if row["batch"] == 1024]
    drawn_line = lines["AdamW, batch 32, all devices"]
    assert list(drawn_line.get_xdata()) == [row["devices"] for row in expected]
    assert list(drawn_line.get_ydata()) == [row["speedup"]["all devices"]["median"] for row in expected]
    assert "inputs assumed" in prediction_figures.speedup_figure([document]).get_suptitle()
    bars = prediction_figures.tornado_figure([document]).axes[0]
    assert bars.get_yticklabels()[0].get_text() == "critical batch"
    measured = document | {"inputs": document["inputs"] | {"floor": document["inputs"]["floor"] | {"basis": "measured"}}}
    assert "inputs assumed, some measured" in prediction_figures.speedup_figure([measured]).get_suptitle()


def test_every_input_has_a_name_in_words(study):
    assert prediction_figures.INPUTS.keys() >= study.inputs.keys() | planted().keys()
