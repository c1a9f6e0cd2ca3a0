import numpy as np
import pytest
import torch
from numpy_rounds import DebiasedLamb, bert_loss, follower, gradient
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from scala import Adversary, EmbeddingNoise, Game, Lamb, NonFiniteLoss

RADIUS, STEPS, STEP_SIZE, LR, DELAY, ROUNDS = 0.3, 2, 0.2, 0.05, 1, 3


def play(parameters, objective, at_of, mask):
    """The one way that every problem of this file is played."""
    game = Game(Lamb(parameters, lr=LR), Adversary(RADIUS, STEP_SIZE, STEPS, relative=True), delay=DELAY)
    reports = []
    for _ in range(ROUNDS):
        game.round(objective, at_of(), mask)
        reports.append(game.report)
    return game, reports


def play_numpy(x, loss, at_of, mask):
    """The same rounds by hand; loss(x, noise)."""
    lamb = DebiasedLamb(LR)
    for t in range(ROUNDS):
        noise = 0.0
        if t >= DELAY:
            noise = follower(lambda y, x=x: loss(x, y), at_of(x), mask, RADIUS, STEPS, STEP_SIZE)
        g = {
            name: gradient(lambda z, name=name, x=x, noise=noise: loss({**x, name: z}, noise), x[name]) for name in x
        }  # fmt: skip
        x = lamb.step(x, g)
    return x


def test_toy_problem_moves_as_the_numpy_round_says():
    """f(x, y) = mean_i [ tanh(x' A_i) + x' B y_i - (1/2)|y_i|^2 ], one noise y_i per sample."""
    rng = np.random.default_rng(0)
    a, b, x0 = rng.normal(size=(4, 3)), rng.normal(size=(3, 2)), rng.normal(size=3)
    points, mask = rng.normal(size=(4, 1, 2)), np.ones((4, 1))
    x = nn.Parameter(torch.tensor(x0))
    tensors = [torch.tensor(z) for z in (a, b)]

    def objective(y):
        y = torch.zeros(4, 1, 2, dtype=torch.float64) if y is None else y
        return (torch.tanh(tensors[0] @ x) + (x @ tensors[1] * y[:, 0]).sum(1) - 0.5 * y.square().sum((1, 2))).mean()

    def loss(w, y):
        y = np.zeros((4, 1, 2)) + y
        return (np.tanh(a @ w["x"]) + (w["x"] @ b * y[:, 0]).sum(1) - 0.5 * (y**2).sum((1, 2))).mean()

    game, _ = play([x], objective, lambda: torch.tensor(points), torch.tensor(mask))
    by_hand = play_numpy({"x": x0}, loss, lambda _: points, mask)
    assert np.abs(x.detach().numpy() - by_hand["x"]).max() < 1e-10
    assert np.abs(x0 - by_hand["x"]).max() > 0.05
    assert game.gradient_evaluations == 4 * (DELAY + (1 + STEPS) * (ROUNDS - DELAY))


def test_transformer_moves_as_the_numpy_round_says():
    config = BertConfig(
        vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=5,
        max_position_embeddings=4, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).double().train()
    ids, mask = np.array([[1, 4, 5, 2], [1, 7, 2, 0], [1, 3, 8, 2]]), np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]])
    labels = np.array([0, 1, 1])
    # The key's bias shifts all scores of a query alike: its true gradient is zero, and rounding would choose its direction.
    still = "bert.encoder.layer.0.attention.self.key.bias"
    named = {name: p for name, p in model.named_parameters() if name != still}
    x = {name: p.detach().numpy().copy() for name, p in named.items()}
    fixed = {still: model.get_parameter(still).detach().numpy()}
    batch = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}
    injection = EmbeddingNoise(model)

    def objective(noise):
        with injection.added(noise):
            return model(**batch).loss

    def loss(w, noise):
        return bert_loss(w | fixed, ids, mask, labels, noise)

    assert abs(objective(None).item() - loss(x, 0.0).real) < 1e-12
    play(named.items(), objective, lambda: injection.embeddings(batch["input_ids"]), batch["attention_mask"])
    by_hand = play_numpy(x, loss, lambda w: w["bert.embeddings.word_embeddings.weight"][ids], mask)
    largest = max(np.abs(p.detach().numpy() - by_hand[name]).max() for name, p in named.items())
    assert largest < 1e-10, largest
    assert max(np.abs(x[name] - by_hand[name]).max() for name in x) > 0.01


def square(x):
    return lambda y: x.square().sum() if y is None else ((x + y) ** 2).sum()


def test_no_noise_before_the_delay_and_noise_from_it_on():
    x = nn.Parameter(torch.ones(1, 2))
    seen = []

    def objective(y):
        seen.append(y is not None)
        return square(x)(y)

    game = Game(torch.optim.SGD([x], 0.01), Adversary(0.1), delay=2)
    for _ in range(4):
        game.round(objective, torch.zeros(1, 2))
    assert seen == [False, False, True, True, True, True]
    assert game.rounds == 4


def test_the_follower_takes_part_in_every_nth_round_from_the_delay_on():
    x = nn.Parameter(torch.ones(1, 2))
    game = Game(torch.optim.SGD([x], 0.01), Adversary(0.1), delay=2, every=3)
    moved = []
    for _ in range(9):
        game.round(square(x), torch.zeros(1, 2))
        moved.append(game.report.follower_moved)
    assert [t for t, there in enumerate(moved) if there] == [2, 5, 8]
    assert game.gradient_evaluations == 9 + 3


@pytest.mark.parametrize("every", [0, -1, 1.0, True])
def test_bad_every(every):
    with pytest.raises(ValueError, match="every must be"):
        Game(torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1), every=every)


def test_clean_loss_beside_the_adversarial_one():
    """d/dx [ x^2 + lambda (x + y)^2 ] at x = 1, y = +0.5 is 2 + 3 lambda."""
    x = nn.Parameter(torch.ones(1, 1))
    game = Game(torch.optim.SGD([x], 0.1), Adversary(0.5), adversarial_weight=2.0)
    loss = game.round(square(x), torch.zeros(1, 1))
    assert loss.item() == pytest.approx(1 + 2 * 2.25)
    assert x.item() == pytest.approx(1 - 0.1 * (2 + 2 * 3))
    assert game.gradient_evaluations == 3
    assert game.report.loss_rise.item() == pytest.approx(1.25)


def test_report_says_what_the_follower_did():
    x = nn.Parameter(torch.ones(4, 2, dtype=torch.float64))
    game = Game(torch.optim.SGD([x], 0.0), Adversary(0.5, relative=True))
    at = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.6, 0.8], [3.0, 4.0]], dtype=torch.float64)
    game.round(square(x), at)
    report = game.report
    assert report.follower_moved
    assert report.radius.item() == pytest.approx((2.5 + 0 + 0.5 + 2.5) / 4)
    assert report.noise_norm.item() == pytest.approx(report.radius.item())
    assert report.still.item() == 0.25  # the sample at zero has a ball of radius zero
    assert report.loss_rise.item() > 0


def test_ascent_computes_no_parameter_gradient_and_keeps_accumulated_ones():
    x, frozen = nn.Parameter(torch.ones(1, 2)), nn.Parameter(torch.ones(1, 2), requires_grad=False)
    leader = torch.optim.SGD([x, frozen], 0.1)
    required = []

    def objective(y):
        required.append(x.requires_grad)
        return square(x + frozen)(y)

    x.grad = torch.full((1, 2), 7.0)
    game = Game(leader, Adversary(0.5, steps=2))
    game.loss(objective, torch.zeros(1, 2))
    assert required == [False, False, True]
    assert torch.equal(x.grad, torch.full((1, 2), 7.0))
    assert x.requires_grad
    assert not frozen.requires_grad


def test_parameters_are_thawed_after_an_error_in_the_ascent():
    x = nn.Parameter(torch.ones(1, 2))

    def broken(y):
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        Game(torch.optim.SGD([x], 0.1), Adversary(0.5)).round(broken, torch.zeros(1, 2))
    assert x.requires_grad


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("delay", [0, 5])
def test_non_finite_loss_stops_before_the_weights_move(value, delay):
    x = nn.Parameter(torch.ones(1, 2))
    game = Game(torch.optim.SGD([x], 0.1), Adversary(0.5), delay=delay)
    with pytest.raises(NonFiniteLoss, match=r"the loss.* in round 0.*weights have not been moved"):
        game.round(lambda y: square(x)(y) * value, torch.zeros(1, 2))
    assert torch.equal(x.detach(), torch.ones(1, 2))


def test_non_finite_gradient_of_a_finite_loss_stops_too():
    x = nn.Parameter(torch.zeros(1, 1))
    game = Game(torch.optim.SGD([x], 0.1))
    with pytest.raises(NonFiniteLoss, match=r"gradient's norm is (nan|inf)"):
        game.round(lambda y: x.abs().sqrt().sum(), torch.zeros(1, 1))
    assert x.item() == 0


def test_any_optimizer_leads_and_a_game_without_follower_is_plain_training():
    ours, theirs = (nn.Parameter(torch.ones(1, 3)) for _ in range(2))
    game = Game(torch.optim.AdamW([ours], 0.1))
    optimizer = torch.optim.AdamW([theirs], 0.1)
    for _ in range(3):
        game.round(square(ours), torch.zeros(1, 3))
        optimizer.zero_grad()
        square(theirs)(None).backward()
        optimizer.step()
    assert torch.equal(ours, theirs)
    assert game.gradient_evaluations == 3


@pytest.mark.parametrize("delay", [-1, 0.5, True])
def test_bad_delay(delay):
    with pytest.raises(ValueError, match="delay t_s must be a whole number"):
        Game(torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1), Adversary(1.0), delay=delay)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_bad_adversarial_weight(weight):
    with pytest.raises(ValueError, match="adversarial_weight must be positive"):
        Game(torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1), Adversary(1.0), adversarial_weight=weight)


@pytest.mark.parametrize("start", ["zero", "warm"])
def test_a_game_goes_on_from_its_state(tmp_path, start):
    def made(x):
        return Game(Lamb([x], lr=0.1), Adversary(0.5, 0.2, start=start), delay=1)

    def play_on(game, x, rounds):
        for _ in range(rounds):
            game.round(lambda y: (x * (1.0 if y is None else 1 + y)).square().sum(), torch.ones(2, 3), keys=[4, 7])

    x = nn.Parameter(torch.ones(2, 3))
    whole = made(x)
    play_on(whole, x, 3)
    torch.save({"game": whole.state_dict(), "leader": whole.leader.state_dict(), "x": x.detach()}, tmp_path / "state")
    play_on(whole, x, 2)

    saved = torch.load(tmp_path / "state", weights_only=True)
    later = nn.Parameter(saved["x"])
    resumed = made(later)
    resumed.leader.load_state_dict(saved["leader"])
    resumed.load_state_dict(saved["game"])
    assert (resumed.rounds, resumed.gradient_evaluations) == (3, 2 + 4 + 4)
    play_on(resumed, later, 2)
    assert torch.equal(later, x)
    assert resumed.state_dict().keys() == whole.state_dict().keys()
    assert resumed.gradient_evaluations == whole.gradient_evaluations


def test_states_that_are_not_of_the_game_are_refused():
    x = nn.Parameter(torch.ones(1, 2))
    cold, warm = (Game(torch.optim.SGD([x], 0.1), Adversary(0.1, start=start)) for start in ("zero", "warm"))
    alone = Game(torch.optim.SGD([x], 0.1))
    warm.round(square(x), torch.zeros(1, 2), keys=[3])
    for game in (cold, alone):
        with pytest.raises(ValueError, match="make it with start='warm'"):
            game.load_state_dict(warm.state_dict())
    with pytest.raises(ValueError, match="the state has no memory: use"):
        warm.load_state_dict(cold.state_dict())
    alone.load_state_dict(cold.state_dict())
    for bad in ({}, {"rounds": 1}, {"rounds": -1, "gradient_evaluations": 0}, {"rounds": 1.5, "gradient_evaluations": 0}):
        with pytest.raises(ValueError, match="no state of a Game"):
            alone.load_state_dict(bad)
    assert set(warm.adversary.memory) == {3}
