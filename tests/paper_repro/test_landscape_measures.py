"""Every measure of the landscape against a known answer: quadratics, logistic regression, a robust toy, finite differences."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from tiny_models import collate, tiny_data, tiny_model
from torch import nn
from torch.nn.functional import relu, softplus

from paper_repro.landscape.gradients import gram_matrices, layerwise_noise_scale, moments, noise_scale
from paper_repro.landscape.objective import Objective, load, weights
from paper_repro.landscape.sharpness import embedding_sharpness, weight_sharpness
from paper_repro.landscape.slices import barrier, filter_normalized, line, surface
from paper_repro.landscape.spectrum import density, extreme_eigenvalues, lanczos, trace
from scala import Adversary
from toy_problems import RobustLogisticRegression


def symmetric(eigenvalues, seed=0):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues),) * 2))
    return (rotation * eigenvalues) @ rotation.T


def quadratic(H, g=None, shapes=None):
    """x'Hx/2 + g'x."""
    H, g = torch.tensor(H), torch.zeros(len(H), dtype=torch.float64) if g is None else torch.tensor(g)
    return Objective(lambda x, _: x @ H @ x / 2 + g @ x, shapes or {"x": (len(H),)})


class Logistic:
    """Logistic regression whose Hessian and gradient covariance are written out."""

    def __init__(self, samples=60, size=5, seed=1):
        rng = np.random.default_rng(seed)
        self.X = rng.standard_normal((samples, size)) * np.arange(1, size + 1)
        self.y = np.where(self.X[:, 0] + rng.standard_normal(samples) > 0, 1.0, -1.0)
        self.w = rng.standard_normal(size) / 4
        p = 1 / (1 + np.exp(self.y * (self.X @ self.w)))
        self.each = -(p * self.y)[:, None] * self.X
        self.gradient = self.each.mean(axis=0)
        self.hessian = self.X.T @ (self.X * (p * (1 - p))[:, None]) / samples
        self.noise = float(np.mean(self.each**2, axis=0).sum() - self.gradient @ self.gradient)

    def objective(self, cuts):
        parts = [(torch.tensor(self.X[i]), torch.tensor(self.y[i])) for i in cuts]
        shapes = {"a": (2,), "b": (len(self.w) - 2,)}
        return Objective(lambda w, b: softplus(-b[1] * (b[0] @ w)).mean(), shapes, parts, [len(i) for i in cuts])


def bert_batches(*sizes):
    rows, batches = list(tiny_data(sum(sizes)).remove_columns("idx")), []
    for size in sizes:
        batches.append(collate(rows[:size]))
        rows = rows[size:]
    return batches


class TestObjective:
    def test_batches_weigh_as_many_samples_as_they_hold(self):
        model = tiny_model().double()
        x, v = weights(model), np.random.default_rng(0).standard_normal(sum(p.numel() for p in model.parameters()))
        parts = Objective.of_model(model, bert_batches(2, 5, 1))
        whole = Objective.of_model(model, bert_batches(8))
        assert parts.value(x) == pytest.approx(whole.value(x), rel=1e-12)
        assert parts.value_and_gradient(x)[0] == pytest.approx(whole.value(x), rel=1e-12)
        np.testing.assert_allclose(parts.gradient(x), whole.gradient(x), atol=1e-12)
        np.testing.assert_allclose(parts.hvp(x, v), whole.hvp(x, v), atol=1e-10)
        np.testing.assert_allclose(
            np.average(parts.batch_gradients(x), axis=0, weights=[2, 5, 1]), whole.gradient(x), atol=1e-12
        )

    def test_gradient_is_the_models_own_parameter_by_parameter(self):
        model = tiny_model().double().eval()
        (batch,) = bert_batches(6)
        objective = Objective.of_model(model, [batch])
        gradient = objective.gradient(weights(model))
        model(**batch).loss.backward()
        assert list(objective.layers) == [name for name, _ in model.named_parameters()]
        for name, parameter in model.named_parameters():
            np.testing.assert_allclose(gradient[objective.layers[name]], parameter.grad.flatten(), atol=1e-12, err_msg=name)

    def test_hvp_of_bert_is_the_derivative_of_its_gradient(self):
        model = tiny_model().double()
        objective, x = Objective.of_model(model, bert_batches(4, 3)), weights(model)
        v = np.random.default_rng(0).standard_normal(len(x))
        h = 1e-5 / np.linalg.norm(v)
        difference = (objective.gradient(x + h * v) - objective.gradient(x - h * v)) / (2 * h)
        product = objective.hvp(x, v)
        assert np.linalg.norm(product) > 1e-3 * np.linalg.norm(v)
        np.testing.assert_allclose(product, difference, atol=1e-7 * np.linalg.norm(product))

    def test_hvp_of_a_layer_is_its_diagonal_block(self):
        model = tiny_model().double()
        objective, x = Objective.of_model(model, bert_batches(5)), weights(model)
        name = "bert.encoder.layer.1.attention.self.value.weight"
        where = objective.layers[name]
        v = np.random.default_rng(0).standard_normal(where.stop - where.start)
        padded = np.zeros(len(x))
        padded[where] = v
        np.testing.assert_allclose(objective.hvp(x, v, name), objective.hvp(x, padded)[where], atol=1e-12)

    def test_no_dropout_and_the_model_is_left_as_it_was(self):
        model = tiny_model(dropout=0.5).train()
        model.set_attn_implementation("sdpa")
        objective, x = Objective.of_model(model, bert_batches(6)), weights(model)
        before = objective.value(x)
        objective.gradient(x)
        assert objective.value(x) == before
        assert objective.value(x + 1) != before
        assert model.training
        assert model.config._attn_implementation == "sdpa"
        np.testing.assert_array_equal(weights(model), x)

    def test_weights_are_loaded_where_they_came_from(self):
        one, other = tiny_model(seed=0), tiny_model(seed=1)
        (batch,) = bert_batches(4)
        load(weights(one), other)
        assert other.eval()(**batch).loss == one.eval()(**batch).loss
        with pytest.raises(ValueError, match="weights"):
            load(weights(one)[1:], other)

    def test_the_hessian_of_logistic_regression(self):
        logistic = Logistic()
        objective = logistic.objective([range(10), range(10, 60)])
        columns = [objective.hvp(logistic.w, e) for e in np.eye(5)]
        np.testing.assert_allclose(columns, logistic.hessian, atol=1e-13)
        np.testing.assert_allclose(objective.gradient(logistic.w), logistic.gradient, atol=1e-13)

    def test_what_is_linear_has_no_curvature(self):
        objective = Objective(lambda x, _: x.sum(), {"x": (3,)})
        np.testing.assert_array_equal(objective.hvp(np.ones(3), np.ones(3)), 0)

    def test_bad_input_is_refused(self):
        model = tiny_model()
        with pytest.raises(ValueError, match="labels"):
            Objective.of_model(model, [{"input_ids": torch.ones(2, 3, dtype=torch.long)}])
        with pytest.raises(ValueError, match="batch"):
            Objective.of_model(model, [])
        objective = quadratic(np.eye(3))
        with pytest.raises(ValueError, match=r"\[3\]"):
            objective.value(np.ones(2))
        with pytest.raises(ValueError, match="direction"):
            objective.hvp(np.ones(3), np.ones(2))


class TestSpectrum:
    VALUES = np.concatenate([[-3.0], np.linspace(-0.1, 0.1, 56), [2.0, 5.0, 9.0]])

    def product(self):
        objective = quadratic(symmetric(self.VALUES))
        return partial(objective.hvp, np.zeros(objective.size))

    def test_both_ends(self):
        top = extreme_eigenvalues(self.product(), 60, 3, tolerance=1e-9)
        np.testing.assert_allclose(top.values, [9, 5, 2], rtol=1e-8)
        bottom = extreme_eigenvalues(self.product(), 60, 1, "smallest", tolerance=1e-9)
        np.testing.assert_allclose(bottom.values, [-3], rtol=1e-8)
        assert max(*top.residuals, *bottom.residuals) < 1e-6
        np.testing.assert_allclose(np.linalg.norm(top.vectors, axis=0), 1)

    def test_residuals_say_how_far_off_the_values_are(self):
        H = symmetric(self.VALUES)
        H[0, 1] += 0.3  # no longer symmetric, as ARPACK takes it to be: what it finds is not quite an eigenvector
        found = extreme_eigenvalues(lambda v: H @ v, 60, 2)
        expected = np.linalg.norm(H @ found.vectors - found.vectors * found.values, axis=0)
        np.testing.assert_allclose(found.residuals, expected, rtol=1e-9)
        assert found.residuals.min() > 1e-3

    def test_products_are_counted(self):
        calls = []
        product = self.product()
        found = extreme_eigenvalues(lambda v: calls.append(0) or product(v), 60, 2)
        assert found.products == len(calls)

    def test_top_of_logistic_regression(self):
        logistic = Logistic()
        objective = logistic.objective([range(60)])
        found = extreme_eigenvalues(partial(objective.hvp, logistic.w), 5, 2, tolerance=1e-9)
        np.testing.assert_allclose(found.values, np.linalg.eigvalsh(logistic.hessian)[:2:-1], rtol=1e-8)

    @pytest.mark.parametrize("rank", [0, 1, 100, 399])
    def test_an_end_that_is_zero_is_found(self, rank):
        """ARPACK's start vector lost what lay in the null space: of 399 ones and a zero the least was 1.00000009."""
        values = np.concatenate([np.zeros(400 - rank), np.linspace(1, 2, rank)])
        H = symmetric(values)
        for sign, end in ((1, "smallest"), (-1, "largest")):
            found = extreme_eigenvalues(lambda v, H=sign * H: H @ v, 400, end=end, tolerance=1e-6)
            assert found.values[0] == pytest.approx(0, abs=1e-5)
            other = extreme_eigenvalues(lambda v, H=sign * H: H @ v, 400, end="largest" if sign == 1 else "smallest")
            assert other.values[0] == pytest.approx(sign * values[-1], abs=1e-2)

    def test_more_eigenvalues_than_there_are(self):
        with pytest.raises(ValueError, match="count"):
            extreme_eigenvalues(self.product(), 60, 60)

    def test_trace_and_its_interval(self):
        H = symmetric(self.VALUES)
        covered = [
            low <= self.VALUES.sum() <= high for low, high in (trace(H.dot, 60, 10, seed=s).interval for s in range(300))
        ]
        assert 0.91 <= np.mean(covered) <= 0.98
        many = trace(H.dot, 60, 3000)
        error = (2 * (np.sum(H**2) - np.sum(np.diag(H) ** 2)) / 3000) ** 0.5  # of random signs, exactly
        assert many.mean == pytest.approx(13, abs=3 * error)
        assert many.interval[1] - many.interval[0] == pytest.approx(2 * 1.96 * error, rel=0.1)

    def test_lanczos_is_a_gaussian_quadrature(self):
        H, steps = symmetric(np.linspace(-2, 3, 30)), 6
        start = np.random.default_rng(1).standard_normal(30)
        start /= np.linalg.norm(start)
        diagonal, off_diagonal = lanczos(H.dot, start, steps)
        T = np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)
        for k in range(2 * steps + 1):
            wanted, found = start @ np.linalg.matrix_power(H, k) @ start, np.linalg.matrix_power(T, k)[0, 0]
            assert (found == pytest.approx(wanted, rel=1e-10)) == (k < 2 * steps)

    def test_moments_are_traces_of_powers(self):
        values = np.linspace(-2, 3, 40)
        found = density(symmetric(values).dot, 40, steps=4, probes=400)
        np.testing.assert_allclose(found.weights.sum(axis=1), 1)
        for k in range(1, 8):
            low, high = found.moment(k).interval
            spread = (high - low) / 2
            assert abs(found.moment(k).mean - np.mean(values**k)) < 2 * spread
            assert spread < 0.1 * np.mean(np.abs(values) ** k)

    def test_few_distinct_eigenvalues_end_early_and_exactly(self):
        values = np.repeat([-1.0, 0.0, 4.0], [5, 20, 15])
        calls = []
        # Diagonal, so that every probe of signs is exact.
        found = density(lambda v: calls.append(0) or values * v, 40, steps=10, probes=2)
        assert len(calls) == 2 * 3
        heavy = found.weights > 1e-9
        assert heavy.sum(axis=1).tolist() == [3, 3]
        np.testing.assert_allclose(found.nodes[heavy].reshape(2, 3), [[-1, 0, 4]] * 2, atol=1e-9)
        np.testing.assert_allclose(found.weights[heavy].reshape(2, 3), [[0.125, 0.5, 0.375]] * 2, atol=1e-9)

    def test_no_curvature_at_all(self):
        found = density(np.zeros_like, 5, steps=3, probes=2)
        np.testing.assert_array_equal(found.nodes, 0)
        np.testing.assert_array_equal(found.weights.sum(axis=1), 1)

    def test_orthogonality_lasts(self):
        values = np.concatenate([np.linspace(0, 0.01, 190), np.linspace(50, 100, 10)])
        found = density(symmetric(values).dot, 200, steps=60, probes=2)
        assert np.sum(found.nodes[0] > 49) == 10  # without reorthogonalisation large eigenvalues come again as ghosts

    def test_smoothed_mass_lies_in_its_two_clusters(self):
        rng = np.random.default_rng(0)
        values = np.concatenate([rng.uniform(-0.01, 0.01, 75), rng.uniform(90, 110, 25)])
        at, curve = density(lambda v: values * v, 100, steps=20, probes=3).smooth(linear=1.0, width=0.1, points=2000)
        t = np.arcsinh(at)
        assert np.trapezoid(curve, t) == pytest.approx(1, abs=1e-3)
        low, high = np.abs(at) < 0.7, (at > 60) & (at < 170)
        assert np.trapezoid(curve[low], t[low]) == pytest.approx(0.75, abs=0.01)
        assert np.trapezoid(curve[high], t[high]) == pytest.approx(0.25, abs=0.01)

    def test_seeded(self):
        H = symmetric(self.VALUES)
        one, same, other = (density(H.dot, 60, 5, 2, seed=seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(one.nodes, same.nodes)
        assert (one.nodes != other.nodes).any()


def trust_region(H, g, radius):
    """max of g'd + d'Hd/2 over ||d|| <= radius, by the secular equation (no hard case here)."""
    values, vectors = np.linalg.eigh(-H)
    b = vectors.T @ g

    def size(shift):
        return np.linalg.norm(b / (values + shift))

    least = max(0.0, -values[0])
    if values[0] > 0 and size(0) <= radius:
        shift = 0.0
    else:
        shift = brentq(lambda s: size(s) - radius, least + 1e-9, least + np.linalg.norm(g) / radius + 1)
    d = vectors @ (b / (values + shift))
    return g @ d + d @ H @ d / 2


class TestWeightSharpness:
    @pytest.mark.parametrize("eigenvalues", [(4.0, 3.0, 1.0, 0.5), (3.0, 1.0, -2.0, -5.0), (-1.0, -4.0, -5.0, -9.0)])
    @pytest.mark.parametrize("radius", [0.1, 0.5, 2.0])
    def test_one_layer_is_a_trust_region(self, eigenvalues, radius):
        H, x = symmetric(np.array(eigenvalues)), np.array([1.0, -2.0, 2.0, 0.0])
        objective = quadratic(H)
        exact = trust_region(H, H @ x, 3 * radius)
        found = weight_sharpness(objective, x, radius, steps=100)
        assert found.rise == pytest.approx(exact, rel=1e-3)
        assert found.rise <= exact + 1e-9

    def test_at_a_minimum_only_restarts_move(self):
        H, x = np.diag([6.0, 1.0, 0.5]), np.array([2.0, 1.0, 2.0])  # exact: the gradient is zero on every processor
        objective = quadratic(H, -H @ x)
        assert weight_sharpness(objective, x, 0.1, 30).rise == pytest.approx(0, abs=1e-12)
        found = weight_sharpness(objective, x, 0.1, 30, restarts=2)
        assert found.rise == pytest.approx(6 * 0.3**2 / 2, rel=1e-3)
        assert found.gradients == 90

    def test_layers_of_one_weight_are_a_box(self):
        rng = np.random.default_rng(3)
        root = rng.standard_normal((5, 5))
        H, x = root @ root.T, rng.standard_normal(5)
        objective = quadratic(H, shapes={str(i): (1,) for i in range(5)})
        corners = [x + 0.3 * np.abs(x) * signs for signs in itertools.product((-1, 1), repeat=5)]
        exact = max(objective.value(corner) for corner in corners) - objective.value(x)
        assert weight_sharpness(objective, x, 0.3, 10, restarts=8).rise == pytest.approx(exact, rel=1e-9)

    def test_several_layers_are_bounded_from_both_sides(self):
        rng = np.random.default_rng(4)
        root = rng.standard_normal((7, 7))
        H, x = root @ root.T, rng.standard_normal(7)
        objective = quadratic(H, shapes={"a": (2, 2), "b": (3,)})
        found = weight_sharpness(objective, x, 0.2, 50)
        radii = {name: 0.2 * np.linalg.norm(x[where]) for name, where in objective.layers.items()}
        linear = sum(radius * np.linalg.norm((H @ x)[objective.layers[name]]) for name, radius in radii.items())
        assert linear < found.rise < trust_region(H, H @ x, math.hypot(*radii.values()))
        assert found.rise == pytest.approx(objective.value(x + found.move) - objective.value(x), rel=1e-12)
        for name, radius in radii.items():
            assert np.linalg.norm(found.move[objective.layers[name]]) <= radius * (1 + 1e-12)
        more = [weight_sharpness(objective, x + 0, 0.2, 50, restarts=5, seed=seed).rise for seed in (0, 0, 1)]
        assert more[0] == more[1] >= found.rise * (1 - 1e-12)

    def test_rescaling_that_keeps_the_function_keeps_the_sharpness(self):
        rng = np.random.default_rng(5)
        X, y = torch.tensor(rng.standard_normal((20, 3))), torch.tensor(rng.standard_normal(20))

        def loss(x, _):
            return ((relu(X @ x[:12].view(3, 4)) @ x[12:]) - y).square().mean()

        objective = Objective(loss, {"inner": (3, 4), "outer": (4,)})
        x = rng.standard_normal(16)
        rescaled = np.concatenate([8 * x[:12], x[12:] / 8])
        assert objective.value(rescaled) == pytest.approx(objective.value(x), rel=1e-12)
        one, other = (weight_sharpness(objective, each, 0.1, 10, restarts=1) for each in (x, rescaled))
        assert one.rise == pytest.approx(other.rise, rel=1e-9)
        curvatures = [extreme_eigenvalues(partial(objective.hvp, each), 16).values[0] for each in (x, rescaled)]
        assert curvatures[1] > 4 * curvatures[0]  # as the Hessian's own eigenvalues do not

    def test_zero_layers_stay_and_zero_layers_alone_do_not_fail(self):
        objective = quadratic(np.eye(4), np.ones(4), {"a": (2,), "b": (2,)})
        found = weight_sharpness(objective, np.array([1.0, 1.0, 0.0, 0.0]), 0.1)
        assert found.move[:2] == pytest.approx([0.1, 0.1])
        assert found.move[2:] == pytest.approx([0, 0])
        assert weight_sharpness(objective, np.zeros(4), 0.1).rise == 0

    def test_gradients_are_counted(self):
        calls = []
        H = torch.eye(2, dtype=torch.float64)
        objective = Objective(lambda x, _: calls.append(x.requires_grad) or x @ H @ x, {"x": (2,)})
        found = weight_sharpness(objective, np.ones(2), 0.1, steps=4, restarts=1)
        assert found.gradients == sum(calls) == 8

    def test_bad_input_is_refused(self):
        for radius, steps in ((0, 1), (math.inf, 1), (0.1, 0)):
            with pytest.raises(ValueError, match="radius"):
                weight_sharpness(quadratic(np.eye(2)), np.ones(2), radius, steps)


class Margin(nn.Module):
    """Sample j is one token, the embedding a_j; the loss is a function of a_j'w and the label."""

    def __init__(self, features, w, loss):
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(features)
        self.w, self.loss = w, loss

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, labels):
        return type("Output", (), {"loss": self.loss(self.embedding(input_ids)[:, 0] @ self.w, labels).mean()})


class TestEmbeddingSharpness:
    def margins(self, loss, samples=6, size=4):
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(samples, size, generator=generator, dtype=torch.float64)
        w = torch.randn(size, generator=generator, dtype=torch.float64)
        labels = torch.tensor([1.0, -1.0] * (samples // 2), dtype=torch.float64)
        ids = torch.arange(samples)[:, None]
        batches = [{"input_ids": ids[part], "labels": labels[part]} for part in (slice(0, 4), slice(4, samples))]
        return features, w, labels, Margin(features, w, loss), batches

    def test_of_a_linear_loss_it_is_the_radius_times_the_dual_norm(self):
        features, w, labels, model, batches = self.margins(lambda margin, label: margin * label)
        found = embedding_sharpness(model, batches, Adversary(0.3))
        assert found.rise == pytest.approx(float(0.3 * w.norm()))
        assert found.clean == pytest.approx(float((features @ w * labels).mean()))
        assert found.gradients == 6
        found = embedding_sharpness(model, batches, Adversary(0.3, norm="linf"))
        assert found.rise == pytest.approx(float(0.3 * w.abs().sum()))
        found = embedding_sharpness(model, batches, Adversary(0.3, relative=True))
        assert found.rise == pytest.approx(float(0.3 * w.norm() * features.norm(dim=1).mean()))

    def test_of_robust_logistic_regression_it_is_the_toys_phi(self):
        features, w, labels, model, batches = self.margins(lambda margin, label: softplus(-label * margin))
        one = torch.ones(1, dtype=torch.float64)
        toy = RobustLogisticRegression(features[None], labels[None], 0.4 * one, 10 * one)
        clean = toy.f(w[None], torch.zeros(1, toy.d_y, dtype=torch.float64))
        found = embedding_sharpness(model, batches, Adversary(0.4))
        assert found.clean == pytest.approx(float(clean) / 6)
        assert found.rise == pytest.approx(float(toy.phi(w[None]) - clean) / 6)
        np.testing.assert_allclose(np.average(found.rises, weights=[4, 2]), found.rise)

    def test_of_bert_padding_batches_and_dropout_do_not_matter(self):
        model = tiny_model(dropout=0.3).double().train()
        model.get_input_embeddings().weight.data[model.config.pad_token_id] = 1.0  # a relative radius must not see it
        adversary = Adversary(0.05, steps=2, relative=True)
        parts = embedding_sharpness(model, bert_batches(3, 4, 1), adversary)
        whole = embedding_sharpness(model, bert_batches(8), adversary)
        assert parts.rise == pytest.approx(whole.rise, rel=1e-9)
        assert parts.clean == pytest.approx(whole.clean, rel=1e-9)
        assert parts.rise > 0
        assert parts.gradients == 16
        assert all(module.training for module in model.modules())
        assert not model.get_input_embeddings()._forward_hooks


class TestGradientNoise:
    def test_every_sample_a_batch_is_the_covariance(self):
        logistic = Logistic()
        objective = logistic.objective([[i] for i in range(60)])
        gradients = objective.batch_gradients(logistic.w)
        np.testing.assert_allclose(gradients, logistic.each, atol=1e-13)
        grams = gram_matrices(gradients, objective.layers)
        found = noise_scale(sum(grams.values()), 1)
        variance = logistic.noise * 60 / 59
        assert found.noise == pytest.approx(variance)
        assert found.norm == pytest.approx(np.linalg.norm(logistic.gradient))
        assert found.gradient == pytest.approx(logistic.gradient @ logistic.gradient - variance / 60)
        assert found.scale == pytest.approx(found.noise / found.gradient)
        first = noise_scale(grams["a"], 1)
        assert first.noise == pytest.approx(np.var(logistic.each[:, :2], axis=0, ddof=1).sum())

    def test_the_two_batch_sizes_of_mccandlish_say_the_same(self):
        logistic = Logistic()
        objective = logistic.objective(np.arange(60).reshape(12, 5))
        gradients = objective.batch_gradients(logistic.w)
        small, big = np.sum(gradients**2, axis=1).mean(), logistic.gradient @ logistic.gradient
        squared, noise = moments(gradients @ gradients.T, 5)
        assert squared == pytest.approx((60 * big - 5 * small) / (60 - 5))
        assert noise == pytest.approx((small - big) / (1 / 5 - 1 / 60))

    def test_unbiased_over_batches_drawn_with_replacement(self):
        logistic = Logistic()
        rng = np.random.default_rng(0)
        found = []
        for _ in range(2000):
            gradients = logistic.each[rng.integers(60, size=(4, 3))].mean(axis=1)
            found.append(moments(gradients @ gradients.T, 3))
        errors = np.std(found, axis=0) / 2000**0.5
        truth = logistic.gradient @ logistic.gradient, logistic.noise
        assert (np.abs(np.mean(found, axis=0) - truth) < 3 * errors).all()
        assert logistic.noise / 12 > 10 * errors[0]  # what plain |mean g|^2 is too large by would be seen

    def test_intervals_cover_both_scales(self):
        rng, batch, batches = np.random.default_rng(1), 8, 16
        mean, deviation = np.repeat([1.0, 0.5], [20, 30]), np.repeat([2.0, 3.0], [20, 30])
        layers = {"a": slice(0, 20), "b": slice(20, 50)}
        simple = (20 * 4 + 30 * 9) / (20 + 30 / 4)
        layerwise = ((80**0.5 + 270**0.5) / (20**0.5 + 7.5**0.5)) ** 2
        covered = []
        for _ in range(200):
            gradients = mean + deviation * rng.standard_normal((batches, 50)) / batch**0.5
            grams = gram_matrices(gradients, layers)
            found = noise_scale(sum(grams.values()), batch), layerwise_noise_scale(grams, batch)
            covered.append(
                [
                    low <= truth <= high
                    for (low, high), truth in zip((f.interval for f in found), (simple, layerwise), strict=True)
                ]
            )
        assert (np.mean(covered, axis=0) > 0.9).all()
        assert (np.mean(covered, axis=0) < 0.99).all()
        assert found[1].noise == pytest.approx(80**0.5 + 270**0.5, rel=0.1)
        assert found[1].gradient == pytest.approx(20**0.5 + 7.5**0.5, rel=0.2)
        assert found[1].scale == pytest.approx((found[1].noise / found[1].gradient) ** 2)
        assert found[1].norm == pytest.approx(sum(np.linalg.norm(gradients.mean(axis=0)[where]) for where in layers.values()))

    def test_no_gradient_and_no_noise(self):
        rng = np.random.default_rng(2)
        noise = rng.standard_normal((6, 40))
        noise -= noise.mean(axis=0)
        found = noise_scale(noise @ noise.T, 1)
        assert found.gradient < 0
        assert found.scale == found.interval[1] == math.inf
        same = noise_scale(np.ones((4, 4)), 1)
        assert same.noise == same.scale == 0
        assert math.isnan(noise_scale(np.zeros((4, 4)), 1).scale)

    def test_too_few_batches(self):
        with pytest.raises(ValueError, match="three"):
            noise_scale(np.eye(2), 1)
        with pytest.raises(ValueError, match="three"):
            layerwise_noise_scale({"a": np.eye(2)}, 1)


class TestSlices:
    def test_filters_are_as_long_as_the_weights_and_vectors_stay(self):
        model = tiny_model()
        objective, x = Objective.of_model(model, bert_batches(2)), weights(model)
        direction = filter_normalized(x, objective.shapes, seed=0)
        for name, shape in objective.shapes.items():
            part, own = direction[objective.layers[name]].reshape(shape), x[objective.layers[name]].reshape(shape)
            if len(shape) == 1:
                assert not part.any(), name
            else:
                np.testing.assert_allclose(np.linalg.norm(part, axis=1), np.linalg.norm(own, axis=1), err_msg=name)
        assert (direction != filter_normalized(x, objective.shapes, seed=1)).any()
        np.testing.assert_array_equal(direction, filter_normalized(x, objective.shapes, seed=0))

    def test_slices_of_a_quadratic_are_parabolas(self):
        H, rng = symmetric(np.array([5.0, 1.0, -2.0, 0.5])), np.random.default_rng(6)
        objective = quadratic(H, shapes={"x": (2, 2)})
        x, u, v = rng.standard_normal((3, 4))
        at = np.linspace(-1, 1, 5)
        losses = line(objective.value, x, u, at)
        np.testing.assert_allclose(np.diff(losses, 2) / 0.25, u @ H @ u)
        assert losses[2] == pytest.approx(objective.value(x))
        grid = surface(objective.value, x, u, v, at)
        np.testing.assert_allclose(grid[:, 2], losses)
        np.testing.assert_allclose(np.diff(grid, 2, axis=1) / 0.25, v @ H @ v)
        np.testing.assert_allclose(np.diff(np.diff(grid, axis=0), axis=1) / 0.25, u @ H @ v)

    def test_barrier_of_a_convex_function_is_below_zero(self):
        logistic = Logistic()
        objective = logistic.objective([range(60)])
        found = barrier(objective.value, logistic.w, -logistic.w)
        assert found.height < 0
        assert found.losses[[0, -1]] == pytest.approx([objective.value(logistic.w), objective.value(-logistic.w)])

    @pytest.mark.parametrize("tilt", [0.0, 3.0])
    def test_barrier_of_a_double_well(self, tilt):
        objective = Objective(lambda x, _: ((x**2 - 1) ** 2 + tilt * x).sum(), {"x": (1,)})
        found = barrier(objective.value, np.array([-1.0]), np.array([1.0]))
        assert found.height == pytest.approx(1)
        assert len(found.at) == len(found.losses) == 21

    def test_a_barrier_needs_an_inner_point(self):
        with pytest.raises(ValueError, match="inner"):
            barrier(lambda x: 0.0, np.zeros(1), np.ones(1), inner=0)
