"""The batched play is the core's play: the same as one instance at a time, and as rounds by hand."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from convergence.play import descent, follower, layer_norms, normalized, play
from toy_problems import Quadratic, Stall
from toy_problems import strategies as draw


def observe(r):
    return {"y": r.y, "u": r.u}


def instance(problem, i):
    def one(z):
        return None if z is None else z[i : i + 1]

    return Quadratic(one(problem.A), one(problem.B), one(problem.C), problem.layers, one(problem.omega))


@given(draw.quadratics(batch=3), st.integers(1, 3), st.integers(0, 3), st.sampled_from(["zero", "warm"]), st.data())
def test_a_batch_is_its_instances(problem, steps, delay, start, data):
    x, _ = data.draw(draw.points(problem))
    x = x + 0.1
    leaders = (normalized(0.1, momentum=0.5), descent(0.01))
    for leader in leaders:
        together = play(problem, x, leader, follower(0.1, steps, start=start), rounds=4, observe=observe, delay=delay)
        for i in range(3):
            alone = play(
                instance(problem, i),
                x[i : i + 1],
                leader,
                follower(0.1, steps, start=start),
                rounds=4,
                observe=observe,
                delay=delay,
            )
            torch.testing.assert_close(together["final"][i], alone["final"][0], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(together["y"][:, i], alone["y"][:, 0], rtol=1e-9, atol=1e-9)


@given(draw.quadratics(batch=2, ball=True), st.data())
def test_rounds_by_hand(problem, data):
    x, _ = data.draw(draw.points(problem))
    noise = torch.full_like(x, 0.25)
    players = normalized(0.1), follower(0.5, 2, start="warm")
    seen = play(problem, x, *players, rounds=3, observe=observe, noise=lambda t, _: (t + 1) * noise)
    y = torch.zeros(problem.batch, problem.d_y, dtype=torch.float64)
    for t in range(3):
        for _ in range(2):
            y = problem.project_y(y + 0.5 * problem.grad_y(x, y))
        u = problem.grad_x(x, y) + (t + 1) * noise
        torch.testing.assert_close(seen["y"][t], y)
        torch.testing.assert_close(seen["u"][t], u)
        parts = [part / part.norm(dim=-1, keepdim=True).clamp_min(1e-300) for part in problem.split(u)]
        x = x - 0.1 * torch.cat(parts, -1)
    torch.testing.assert_close(seen["final"], x)


def test_a_box_is_a_ball_a_sample():
    problem = Stall(torch.tensor([0.5, 0.25]), torch.tensor([1.0, 2.0]))
    x = torch.tensor([[1.0, 0.5], [1.0, -0.5]], dtype=torch.float64)
    seen = play(problem, x, normalized(0.1), follower(1e9), rounds=1, observe=observe)
    torch.testing.assert_close(seen["y"][0], problem.y_star(x))


def test_only_every_nth_round_is_seen_and_layers_have_norms():
    problem = Stall(torch.tensor([0.5]), torch.tensor([1.0]))
    x = torch.tensor([[3.0, -4.0]], dtype=torch.float64)
    seen = play(problem, x, normalized(0.1), None, rounds=10, observe=lambda r: {"t": torch.tensor(r.t)}, every=4)
    assert seen["t"].tolist() == [0, 4, 8]
    assert layer_norms(problem, x).tolist() == [[3.0, 4.0]]
