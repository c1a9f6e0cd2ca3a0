import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from scala import Adversary


def concave(centre, l_yy=1.0):
    """sum_i -(l/2)|y_i - c_i|^2, maximised at the centre; gradient l (c - y)."""
    return lambda y: -0.5 * l_yy * (y - centre).square().sum()


@given(
    st.integers(1, 3), st.integers(1, 4), st.sampled_from(["l2", "linf"]), st.sampled_from(["zero", "random"]),
    st.sampled_from(["normalized", "raw"]), st.integers(0, 2**32), st.floats(0.01, 10.0),
)  # fmt: skip
def test_noise_stays_in_the_ball_and_off_the_padding(samples, steps, norm, start, direction, seed, radius):
    torch.manual_seed(seed)
    at = torch.randn(samples, 4, 3, dtype=torch.float64)
    mask = (torch.arange(4) < torch.randint(1, 5, (samples, 1))).long()
    adversary = Adversary(radius, 0.7, steps, norm, start=start, direction=direction, reduction="sum")
    response = adversary.respond(concave(torch.randn(samples, 4, 3, dtype=torch.float64) * 5), at, mask)
    assert (response.ball.sizes(response.noise) <= radius * (1 + 1e-12)).all()
    assert (response.noise[mask == 0] == 0).all()
    assert response.gradients == steps * samples
    assert not response.noise.requires_grad


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_raw_ascent_is_on_each_samples_own_loss_and_contracts_as_theory_says(reduction):
    """|y_K - y*| = (1 - rho l)^K |y_0 - y*| on an isotropic quadratic, whatever the batch's reduction."""
    centre = torch.randn(8, 3, dtype=torch.float64)
    objective = concave(centre, l_yy=2.0)
    if reduction == "mean":
        mean_objective = lambda y: objective(y) / 8  # noqa: E731
    adversary = Adversary(100.0, 0.1, 5, direction="raw", reduction=reduction)
    response = adversary.respond(mean_objective if reduction == "mean" else objective, torch.zeros_like(centre))
    torch.testing.assert_close(response.noise, centre * (1 - 0.8**5), rtol=1e-12, atol=0)


def test_regularizer_moves_the_maximiser():
    """f - (lambda/2)|y|^2 with f = -(1/2)|y - c|^2 has its maximum at c / (1 + lambda)."""
    centre = torch.randn(4, 3, dtype=torch.float64)
    adversary = Adversary(100.0, 0.2, 400, direction="raw", reduction="sum", regularizer=3.0)
    noise = adversary.respond(concave(centre), torch.zeros_like(centre)).noise
    torch.testing.assert_close(noise, centre / 4)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_one_default_step_reaches_the_boundary_in_the_steepest_direction(norm):
    gradient = torch.randn(5, 2, 3, dtype=torch.float64)
    response = Adversary(0.3, norm=norm, relative=True).respond(lambda y: (gradient * y).sum(), torch.randn(5, 2, 3).double())
    torch.testing.assert_close(response.ball.sizes(response.noise), response.ball.radius)
    cosine = torch.cosine_similarity(response.noise.flatten(1), (gradient if norm == "l2" else gradient.sign()).flatten(1))
    torch.testing.assert_close(cosine, torch.ones(5, dtype=torch.float64))


def test_two_half_steps_make_one_whole_step_on_a_linear_function():
    gradient, at = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    one, two = (Adversary(0.4, 0.4 / k, k, relative=True).respond(lambda y: (gradient * y).sum(), at).noise for k in (1, 2))
    torch.testing.assert_close(one, two)


def test_no_gradient_of_parameters_is_computed():
    layer = nn.Linear(3, 1)
    touched = []
    layer.weight.register_hook(touched.append)
    at = torch.randn(4, 3)
    Adversary(0.1, steps=3).respond(lambda y: layer(at + y).square().mean(), at)
    assert layer.weight.grad is None
    assert not touched


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("start", ["zero", "random"])
def test_dropout_masks_are_shared_by_every_pass_if_wanted(same, start):
    drawn = []

    def objective(noise):
        mask = torch.nn.functional.dropout(torch.ones(64))
        drawn.append(mask)
        return (noise * mask).sum()

    torch.manual_seed(0)
    response = Adversary(0.1, steps=3, start=start, same_dropout=same).respond(objective, torch.zeros(2, 64))
    objective(response.noise)  # the leader's pass
    assert all(torch.equal(mask, drawn[0]) for mask in drawn) == same


def test_a_round_with_zero_start_draws_no_more_random_numbers_than_a_plain_one():
    """So that two methods with the same seed see the same dropout masks all along."""
    torch.manual_seed(0)
    Adversary(0.1, steps=2).respond(lambda y: (y * torch.rand(3)).sum(), torch.zeros(2, 3))
    after = torch.rand(())
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(()))


def test_warm_start_continues_where_the_sample_was_left_whatever_its_place_and_padding():
    centre = {7: torch.full((2, 3), 5.0), 8: torch.full((3, 3), -5.0)}
    adversary = Adversary(100.0, 0.1, 1, start="warm", direction="raw", reduction="sum")

    def visit(keys, length):
        at, mask = torch.zeros(len(keys), length, 3), torch.zeros(len(keys), length)
        goal = torch.zeros_like(at)
        for i, key in enumerate(keys):
            mask[i, : len(centre[key])] = 1
            goal[i, : len(centre[key])] = centre[key]
        return adversary.respond(concave(goal), at, mask, keys=keys).noise

    visit([7, 8], 3)
    second = visit([8, 7], 6)
    torch.testing.assert_close(second[0, :3], centre[8] * 0.19)
    torch.testing.assert_close(second[1, :2], centre[7] * 0.19)
    assert (second[1, 2:] == 0).all()


def test_warm_start_stays_inside_a_ball_that_shrank():
    adversary = Adversary(1.0, 1.0, 1, start="warm", relative=True)
    gradient = torch.ones(1, 4)
    adversary.respond(lambda y: (gradient * y).sum(), torch.full((1, 4), 10.0), keys=[0])
    response = adversary.respond(lambda y: (-1e-9 * gradient * y).sum(), torch.ones(1, 4), keys=[0])
    assert response.ball.sizes(response.noise).item() <= 2.0 * (1 + 1e-6)


@pytest.mark.parametrize("keys", [None, [1], torch.tensor([1, 2, 3])])
def test_warm_start_needs_a_key_a_sample(keys):
    with pytest.raises(ValueError, match="needs one integer key a sample"):
        Adversary(1.0, start="warm").respond(lambda y: y.sum(), torch.zeros(2, 3), keys=keys)


def test_warm_start_refuses_a_key_that_names_another_sample():
    adversary = Adversary(1.0, start="warm")
    adversary.respond(lambda y: y.sum(), torch.zeros(1, 3), keys=[4])
    with pytest.raises(ValueError, match="sample 4 was last seen with 3 noise entries and now has 5"):
        adversary.respond(lambda y: y.sum(), torch.zeros(1, 5), keys=[4])


def test_loss_scale_changes_nothing_but_the_range():
    centre = torch.randn(3, 4, dtype=torch.float64)
    adversary = Adversary(10.0, 0.1, 2, direction="raw", regularizer=0.5)
    plain, scaled = (adversary.respond(concave(centre), torch.zeros_like(centre), loss_scale=s) for s in (1.0, 1024.0))
    torch.testing.assert_close(plain.noise, scaled.noise, rtol=1e-14, atol=0)
    torch.testing.assert_close(plain.start_loss, scaled.start_loss)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0.0}, "radius must be positive"),
        ({"radius": -1.0}, "radius must be positive"),
        ({"radius": float("nan")}, "radius must be positive"),
        ({"radius": 1.0, "step_size": 0.0}, "step_size"),
        ({"radius": 1.0, "steps": 0}, "steps \\(K\\) must be an integer >= 1"),
        ({"radius": 1.0, "steps": 1.5}, "steps \\(K\\)"),
        ({"radius": 1.0, "norm": "l1"}, "unknown norm 'l1'"),
        ({"radius": 1.0, "start": "hot"}, "unknown start 'hot'; choose one of zero, random, warm"),
        ({"radius": 1.0, "direction": "sideways"}, "unknown direction"),
        ({"radius": 1.0, "reduction": "max"}, "unknown reduction"),
        ({"radius": 1.0, "direction": "raw"}, "needs a step_size"),
        ({"radius": 1.0, "regularizer": -1.0}, "regularizer"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Adversary(**arguments)


@pytest.mark.parametrize(("share", "chosen"), [(0.5, 3), (0.34, 2), (0.01, 1), (1.0, 5)])
def test_a_share_of_the_samples_ascends_as_if_alone(share, chosen):
    at, centre = torch.randn(2, 5, 3, dtype=torch.float64)
    mask = torch.tensor([1, 1, 0, 1, 1])
    seen = []

    def objective(noise):
        seen.append(len(noise))
        return concave(centre[: len(noise)])(noise) / len(noise)

    response = Adversary(0.1, share=share, relative=True).respond(objective, at, mask)
    assert seen == [chosen]
    assert response.gradients == chosen
    assert (response.noise[chosen:] == 0).all()
    alone = Adversary(0.1, relative=True).respond(objective, at[:chosen], mask[:chosen])
    assert torch.equal(response.noise[:chosen], alone.noise)
    assert response.ball.radius.shape == (5,)
    assert (response.start_loss is None) == (share < 1)


def test_a_share_remembers_only_those_that_ascended():
    adversary = Adversary(1.0, start="warm", share=0.5)
    adversary.respond(lambda noise: noise.sum(), torch.zeros(4, 3), keys=[7, 8, 9, 10])
    assert set(adversary.memory) == {7, 8}


def test_one_pass_plays_the_last_visits_noise_and_learns_from_the_leaders_pass():
    """Each visit equals the warm start's ascent step at the noise of the visit before, one visit late."""
    at, centre = torch.randn(2, 4, 3, dtype=torch.float64)
    lazy = Adversary(1.0, 0.3, start="warm", one_pass=True, reduction="sum")
    eager = Adversary(1.0, 0.3, start="warm", reduction="sum")
    expected = torch.zeros_like(at)
    for visit in range(4):
        response = lazy.respond(concave(centre), at, keys=range(4))
        torch.testing.assert_close(response.noise.detach(), expected, rtol=1e-12, atol=1e-14)
        assert (response.gradients, response.start_loss) == (0, None)
        weight = torch.tensor(2.0, requires_grad=True, dtype=torch.float64)
        (0.1 * weight * concave(centre)(response.noise)).backward()  # the leader's own scaling does not matter
        torch.testing.assert_close(weight.grad, 0.1 * concave(centre)(expected))
        expected = eager.respond(concave(centre), at, keys=range(4)).noise
        assert (expected != 0).all(), visit


@pytest.mark.parametrize(
    "options",
    [{"start": "zero"}, {"steps": 2}, {"direction": "raw", "step_size": 0.1}, {"regularizer": 1.0}, {"share": 0.5}],
)
def test_one_pass_refuses_what_needs_a_pass_of_its_own(options):
    with pytest.raises(ValueError, match="one_pass needs"):
        Adversary(1.0, one_pass=True, **{"start": "warm"} | options)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan")])
def test_bad_share(share):
    with pytest.raises(ValueError, match="share must lie"):
        Adversary(1.0, share=share)


@pytest.mark.parametrize(
    "options", [{}, {"step_size": 0.3, "steps": 2}, {"direction": "raw", "step_size": 0.3}, {"relative": True}]
)
def test_a_radius_a_sample_is_as_if_each_sample_played_alone(options):
    radii = torch.tensor([0.1, 2.0, 0.0, 0.5], dtype=torch.float64)
    torch.manual_seed(0)
    at, centre = torch.randn(2, 4, 3, dtype=torch.float64)
    noise = Adversary(radii, reduction="sum", **options).respond(concave(centre), at).noise
    for i, radius in enumerate(radii.tolist()):
        alone = torch.zeros(1, 3, dtype=torch.float64)
        if radius:
            alone = Adversary(radius, reduction="sum", **options).respond(concave(centre[i]), at[i : i + 1]).noise
        torch.testing.assert_close(noise[i : i + 1], alone, rtol=1e-14, atol=0)


def test_a_share_of_samples_with_a_radius_each():
    radii = torch.tensor([0.1, 2.0, 0.3, 0.5])
    response = Adversary(radii, share=0.5).respond(lambda y: y.sum(), torch.zeros(4, 3))
    torch.testing.assert_close(response.ball.sizes(response.noise), torch.tensor([0.1, 2.0, 0.0, 0.0]))


def test_bad_radius_tensor_is_refused_at_once():
    with pytest.raises(ValueError, match="finite numbers >= 0, one a sample"):
        Adversary(torch.tensor([0.1, -0.1]))


@pytest.mark.parametrize("forgotten", [lambda noise: torch.tensor(1.0), lambda noise: torch.ones(2, requires_grad=True).sum()])
def test_a_noise_that_the_objective_forgets_is_an_error_that_says_so(forgotten):
    with pytest.raises(RuntimeError, match=r"does not depend on the noise.*injection\.added"):
        Adversary(1.0).respond(forgotten, torch.zeros(2, 3))
