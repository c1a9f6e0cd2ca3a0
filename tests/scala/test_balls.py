import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scala import Ball

norms = st.sampled_from(["l2", "linf"])


@st.composite
def noise_and_ball(draw, dtype=torch.float64):
    """Noise [B, L, d] of any scale, a mask with at least one entry a sample, and a ball."""
    samples, length, width = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    scale = 10.0 ** draw(st.integers(-12, 6))
    noise = torch.randn(samples, length, width, generator=generator, dtype=dtype) * scale
    lengths = torch.randint(1, length + 1, (samples,), generator=generator)
    mask = (torch.arange(length) < lengths[:, None]).long()
    at = torch.randn(samples, length, width, generator=generator, dtype=dtype)
    radius = 10.0 ** draw(st.integers(-6, 3))
    return noise, Ball.around(at, radius, draw(norms), relative=draw(st.booleans()), mask=mask), mask


@given(noise_and_ball())
def test_projection_is_inside_idempotent_and_leaves_inside_points_alone(case):
    noise, ball, mask = case
    inside = ball.project(noise)
    assert (ball.sizes(inside) <= ball.radius * (1 + 1e-12)).all()
    torch.testing.assert_close(ball.project(inside), inside, rtol=1e-12, atol=0)
    small = inside * 0.5
    assert torch.equal(ball.project(small), small)
    assert (inside[mask == 0] == 0).all()


@given(noise_and_ball(), st.integers(0, 2**32))
def test_projection_is_the_nearest_point(case, seed):
    """<z - P(z), w - P(z)> <= 0 for every w of the ball characterises the projection on a convex set."""
    noise, ball, mask = case
    noise = noise * mask[..., None]
    torch.manual_seed(seed)
    projected, other = ball.project(noise), ball.uniform(noise)
    gap = ((noise - projected) * (other - projected)).flatten(1).sum(1)
    assert (gap <= 1e-9 * (ball.radius + ball.sizes(noise)) * ball.radius).all()


@given(noise_and_ball())
def test_direction_has_unit_size_and_is_steepest(case):
    gradient, ball, mask = case
    direction = ball.direction(gradient)
    torch.testing.assert_close(ball.sizes(direction), torch.ones_like(ball.radius))
    gain = (gradient * direction).flatten(1).sum(1)
    masked = (gradient * mask[..., None]).flatten(1)
    dual = masked.norm(dim=1) if ball.norm == "l2" else masked.abs().sum(1)
    torch.testing.assert_close(gain, dual)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_sample_without_a_usable_gradient_stays_and_its_neighbours_do_not(norm, bad):
    gradient = torch.ones(3, 2, 2)
    gradient[1] = bad
    direction = Ball.around(torch.ones(3, 2, 2), 1.0, norm).direction(gradient)
    assert (direction[1] == 0).all()
    assert torch.isfinite(direction).all()
    assert (direction[[0, 2]] > 0).all()


def test_direction_of_a_gradient_whose_squares_underflow():
    gradient = torch.full((1, 3), 1e-30)
    direction = Ball.around(torch.ones(1, 3), 1.0).direction(gradient)
    torch.testing.assert_close(direction.norm(), torch.tensor(1.0))


def test_nan_on_the_padding_does_not_reach_the_sample():
    mask = torch.tensor([[1, 1, 0]])
    y = torch.tensor([[[3.0], [4.0], [float("nan")]]])
    ball = Ball.around(torch.ones(1, 3, 1), 1.0, mask=mask)
    assert ball.sizes(y).item() == 5.0
    torch.testing.assert_close(ball.project(y), torch.tensor([[[0.6], [0.8], [0.0]]]))
    torch.testing.assert_close(ball.direction(y), torch.tensor([[[0.6], [0.8], [0.0]]]))


@given(noise_and_ball(), st.integers(0, 2**32))
def test_uniform_lies_inside_and_off_the_padding(case, seed):
    noise, ball, mask = case
    torch.manual_seed(seed)
    drawn = ball.uniform(noise)
    assert (ball.sizes(drawn) <= ball.radius * (1 + 1e-12)).all()
    assert (drawn[mask == 0] == 0).all()
    assert (ball.sizes(drawn) > 0).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_uniform_is_uniform(norm):
    """In n dimensions a uniform point's relative size has mean n/(n+1), of the entries that exist only."""
    torch.manual_seed(0)
    at = torch.ones(20_000, 3, 2, dtype=torch.float64)
    mask = torch.tensor([1, 1, 0]).expand(20_000, 3)
    ball = Ball.around(at, 0.5, norm, mask=mask)
    drawn = ball.uniform(at)
    assert abs(ball.sizes(drawn).mean().item() / 0.5 - 4 / 5) < 0.005
    assert drawn.mean().abs() < 0.005


@pytest.mark.parametrize(("norm", "expected"), [("l2", 0.1 * 5.0), ("linf", 0.1 * (25 / 2) ** 0.5)])
def test_relative_radius_is_of_the_sample_without_its_padding(norm, expected):
    at = torch.tensor([[[3.0], [4.0], [100.0]]])
    ball = Ball.around(at, 0.1, norm, relative=True, mask=torch.tensor([[1, 1, 0]]))
    torch.testing.assert_close(ball.radius, torch.tensor([expected]))


def test_low_precision_points_get_float32_balls():
    assert Ball.around(torch.ones(2, 3, dtype=torch.bfloat16), 0.1, relative=True).radius.dtype == torch.float32


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_radius(radius):
    with pytest.raises(ValueError, match="radius must be positive and finite"):
        Ball.around(torch.ones(1, 2), radius)


def test_bad_norm_and_mask():
    with pytest.raises(ValueError, match="unknown norm 'l1'; choose one of l2, linf"):
        Ball.around(torch.ones(1, 2), 1.0, "l1")
    with pytest.raises(ValueError, match=r"mask's shape \(2, 2\) must be a prefix of the shape \(1, 2, 3\)"):
        Ball.around(torch.ones(1, 2, 3), 1.0, mask=torch.ones(2, 2))


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_radius_a_sample_is_each_samples_ball_alone(norm, relative):
    radii = torch.tensor([0.1, 2.0, 0.0, 0.5], dtype=torch.float64)
    torch.manual_seed(0)
    at, noise = torch.randn(2, 4, 3, 2, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0]] * 4)
    ball = Ball.around(at, radii, norm, relative=relative, mask=mask)
    for i, radius in enumerate(radii.tolist()):
        if radius:
            alone = Ball.around(at[i : i + 1], radius, norm, relative=relative, mask=mask[i : i + 1])
            assert torch.equal(ball.radius[i : i + 1], alone.radius)
            assert torch.equal(ball.project(noise)[i : i + 1], alone.project(noise[i : i + 1]))
        else:
            assert not ball.project(noise)[i].any()
    assert (ball.sizes(ball.uniform(at)) <= ball.radius).all()


@pytest.mark.parametrize(
    ("radius", "message"),
    [
        (torch.tensor([1.0, -1.0]), "finite numbers >= 0, one a sample"),
        (torch.tensor([1.0, float("nan")]), "finite numbers >= 0"),
        (torch.tensor([1.0, float("inf")]), "finite numbers >= 0"),
        (torch.tensor(1.0), "finite numbers >= 0, one a sample"),
        (torch.ones(3), r"one radius a sample, shape \(2,\), got shape \(3,\)"),
    ],
)
def test_bad_radius_tensor(radius, message):
    with pytest.raises(ValueError, match=message):
        Ball.around(torch.ones(2, 3), radius)
