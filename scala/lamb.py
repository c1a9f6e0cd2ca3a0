"""The leader: LAMB, a direction rescaled layer by layer to the size of the weights it moves; Adam's, or Muon's.

Implementations of LAMB disagree, on the same input, in ways that decide whether training works. Here every
disagreement is a field of a `Dialect`, and the known combinations have names (`DIALECTS`).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain, count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, ParamsT, StateDict

from scala.heads import last_linear
from scala.orthogonal import orthogonal

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Dialect:
    """What implementations of LAMB disagree about.

    Attributes:
        bias_correction: Divide the moments by 1 - beta^t, as Adam does.
        second_moment: Divide the momentum by sqrt(v) + eps. Without it v is not even allocated, and betas[1] and
            eps are not used.
        orthogonal: The direction of a matrix is its momentum made orthogonal (`scala.orthogonal`), of root mean square 1,
            in place of Adam's. Needs second_moment=False.
        phi_bounds: phi(z) is z clamped to these bounds; (0, inf) is the identity.
        ratio_bounds: The trust ratio is clamped to these bounds; (0, inf) leaves it alone.
        layer_floor: The root mean square of a layer counts as at least this, so that small and zero layers move too.
        direction_floor: The root mean square of u counts as at least this. At 1 the ratio never lengthens Adam's
            direction: entries whose gradients cancel, or are missing, keep the short step that Adam gives them.
        max_grad_norm: Before anything else the gradient is scaled down to at most this L2 norm, taken over all
            parameters of the optimizer; inf leaves it alone.
    """

    bias_correction: bool = True
    second_moment: bool = True
    orthogonal: bool = False
    phi_bounds: Bounds = (0.0, math.inf)
    ratio_bounds: Bounds = (0.0, math.inf)
    layer_floor: float = 0.0
    direction_floor: float = 0.0
    max_grad_norm: float = math.inf


DIALECTS: dict[str, Dialect] = {
    "paper": Dialect(bias_correction=False, phi_bounds=(0.0, 10.0)),
    "debiased": Dialect(),
    "nvlamb": Dialect(max_grad_norm=1.0),
    "clipped": Dialect(ratio_bounds=(0.01, 10.0)),
    "relative": Dialect(layer_floor=0.02, direction_floor=1.0),
    "orthogonal": Dialect(second_moment=False, orthogonal=True, layer_floor=0.02),
    "normalized": Dialect(bias_correction=False, second_moment=False, phi_bounds=(1.0, 1.0)),
}


_OWN_OPTIONS = {"dialect", "ratio_bounds", "phi_bounds", "max_grad_norm", "adapt", "per_row"}
_LATER_OPTIONS = ("layer_floor", "direction_floor")
"""Options that the first version's state did not have; None, the dialect's own, is what it meant."""
_REPLACEABLE = ("phi_bounds", "ratio_bounds", "layer_floor", "direction_floor", "max_grad_norm")


class Lamb(Optimizer):
    r"""LAMB (You et al. 2020, arXiv 1904.00962, Algorithm 2), in a named dialect.

    Every parameter tensor is a layer x_i with gradient g_i (the index is left out where nothing mixes layers)::

        m <- beta_1 m + (1 - beta_1) g        m^ = m / (1 - beta_1^t)
        v <- beta_2 v + (1 - beta_2) g^2      v^ = v / (1 - beta_2^t)
        r  = m^ / (sqrt(v^) + eps)            Adam's direction
        u  = r + lambda x                     with decoupled weight decay
        x_i <- x_i - eta * phi(||x_i||) / ||u_i|| * u_i

    The trust ratio phi(||x_i||) / ||u_i|| is 1 where phi(||x_i||) or ||u_i|| is zero: otherwise a layer that starts
    at zero could never leave it. (If u_i is zero the layer does not move, whatever the ratio.)

    Dialects:

    - ``"paper"``: no bias correction, phi(z) = min(z, 10). What open implementations made of the third arXiv version;
      equals torch_optimizer's Lamb.
    - ``"debiased"``: Algorithm 2 as published, phi the identity. Equals optax.lamb, and timm's Lamb with
      ``max_grad_norm=None, always_adapt=True``.
    - ``"nvlamb"``: as debiased, the gradient clipped to global norm 1 inside. Equals timm's Lamb with
      ``always_adapt=True``. Do not clip outside as well.
    - ``"clipped"``: as debiased, the trust ratio clamped to DeepSpeed's default bounds [0.01, 10]. DeepSpeed's own
      FusedLamb differs: it leaves m and v uncorrected in u (so weight decay weighs differently at first) and
      multiplies the step, after the trust ratio, by sqrt(1 - beta_2^t) / (1 - beta_1^t), which normalisation
      would otherwise cancel. With ``ratio_bounds=(0, 1), max_grad_norm=1`` it equals timm's ``trust_clip=True``.
    - ``"relative"``: made for fine-tuning. ||u_i|| counts as at least sqrt(n_i), n_i the layer's entries, so Adam's direction
      is never lengthened: the rows of a table that a batch does not touch lend their step to none, and gradients that
      cancel give a short step. ||x_i|| counts as at least 0.02 sqrt(n_i) (0.02 is how transformers start a fresh layer),
      so fresh heads, zero biases and adapters move.
    - ``"orthogonal"``: made for fine-tuning, for matrices: r is Muon's direction (`scala.orthogonal`) of the momentum, with
      Nesterov's look ahead, and the layer floored as above. One moment in the state. `parameter_groups` gives it to hidden
      matrices, and "relative" to all else.
    - ``"normalized"``: layer-wise normalised SGD with momentum, the leader of the convergence theorem: u is m
      (+ lambda x), uncorrected, and phi is clamped to ``phi_bounds`` = (alpha_l, alpha_u), by default (1, 1): every
      step has length eta in every layer. alpha_l must be positive, so a layer at zero moves by eta * alpha_l.

    Moments and norms are float32 (float64 for float64 parameters). A bfloat16 or float16 parameter has a float32
    master copy in the state, which collects updates too small for the parameter itself; where the parameter was
    changed from outside since the last step, the parameter wins.

    Args:
        params: Tensors, named tensors (``model.named_parameters()``), or group dicts, see `parameter_groups`. All
            options below except ``params`` can be set for each group.
        lr: eta, >= 0. A float; schedulers may change it.
        betas: (beta_1, beta_2), each in [0, 1).
        eps: Added to sqrt(v^), >= 0. With eps = 0 an entry whose gradient was always zero becomes NaN.
        weight_decay: lambda, >= 0.
        dialect: A key of `DIALECTS`.
        ratio_bounds: Replaces the dialect's bounds on the trust ratio.
        phi_bounds: Replaces the dialect's bounds (alpha_l, alpha_u) on phi.
        layer_floor: Replaces the dialect's floor of a layer's root mean square, >= 0.
        direction_floor: Replaces the dialect's floor of the direction's root mean square, >= 0.
        max_grad_norm: Replaces the dialect's bound on the global gradient norm; ``math.inf`` switches it off.
        adapt: Use the trust ratio. False: take the step eta * u.
        per_row: Each row of a parameter (index of its first dimension) is a layer of its own, so that a [B, d]
            tensor holds B independent layers. ``max_grad_norm`` still sees all of them at once.
        foreach: True: batch the arithmetic over tensors. False: tensor by tensor. None: the fastest, batched on CUDA
            and torch's fused Adam kernel on a CPU, which takes dense contiguous tensors. ``per_row`` groups always go
            tensor by tensor.

    Raises:
        ValueError: An option is out of its range, or a parameter is not real floating point.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        dialect: str = "debiased",
        ratio_bounds: Bounds | None = None,
        phi_bounds: Bounds | None = None,
        layer_floor: float | None = None,
        direction_floor: float | None = None,
        max_grad_norm: float | None = None,
        adapt: bool = True,
        per_row: bool = False,
        foreach: bool | None = None,
    ) -> None:
        # Everything is a plain value in the group, as in torch's own optimizers: a state_dict then says all of how
        # it was made, and loads with weights_only=True.
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "dialect": dialect,
            "ratio_bounds": ratio_bounds,
            "phi_bounds": phi_bounds,
            "layer_floor": layer_floor,
            "direction_floor": direction_floor,
            "max_grad_norm": max_grad_norm,
            "adapt": adapt,
            "per_row": per_row,
            "foreach": foreach,
        }
        _check_options(defaults)
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As torch's optimizers do: options that came later take the value that older states were saved under."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name in _LATER_OPTIONS:
                group.setdefault(name, None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; options that it leaves out take the optimizer's defaults.

        Raises:
            ValueError: As for the class. The optimizer is then unchanged.
        """
        super().add_param_group(param_group)
        try:
            _check_options(param_group)
            _check_parameters(param_group)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient, without synchronising with the device.

        Args:
            closure: Recomputes the loss and its gradients, and returns the loss.

        Returns:
            What the closure returned, None without one.

        Raises:
            RuntimeError: A gradient is sparse. No parameter has moved.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        gradients = self._gradients()
        dialects = [_dialect(group) for group in self.param_groups]
        norm = None
        if gradients and any(dialect.max_grad_norm < math.inf for dialect in dialects):
            norm = _global_norm(gradients)

        for group, dialect in zip(self.param_groups, dialects, strict=True):
            layers = self._layers(group, dialect, norm)
            if dialect.orthogonal:
                _step_orthogonal(layers, group, dialect)
            elif _is_batched(group):
                _step_batched(layers, group, dialect)
            elif group["per_row"] or group["foreach"] is False:
                _step_plain(layers, group, dialect)
            else:
                self._step_mixed(layers, group, dialect)
        return loss

    def _step_mixed(self, layers: Iterable["_Layer"], group: dict[str, Any], dialect: Dialect) -> None:
        """On a CPU: each layer by the path that is fastest for it."""
        small: list[_Layer] = []
        batch: list[_Layer] = []
        for layer in layers:
            if not _is_fusable(layer):
                _step_plain([layer], group, dialect)
            elif layer.x.numel() < _SMALL:
                small.append(layer)
            else:
                if batch and not _fits(layer, batch):
                    _step_fused(batch, group, dialect, self._scratch)
                    batch = []
                batch.append(layer)
        if batch:
            _step_fused(batch, group, dialect, self._scratch)
        _step_batched(small, group, dialect)

    def trust_ratios(self) -> dict[str | int, Tensor]:
        """The latest trust ratio of each parameter, for diagnostics.

        Returns:
            By name if the optimizer was given named parameters, else by position: a 0-dim tensor on the parameter's
            device, or a [rows] tensor for ``per_row``. Parameters that took no adapted step are left out. step()
            leaves these tensors alone, so keeping them is safe; reading their values is what synchronises.
        """
        ratios = {key: self.state[p].get("trust_ratio") for key, p in self._named() if p in self.state}
        return {key: ratio.flatten() if ratio.ndim else ratio for key, ratio in ratios.items() if ratio is not None}

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Load what `state_dict` returned, keeping the float32 state of low-precision parameters.

        The options of the loaded groups, the dialect included, replace this optimizer's, as in all of torch.optim.

        Raises:
            ValueError: The groups do not match, or are not those of a `Lamb`.
        """
        saved_groups, groups = state_dict["param_groups"], self.param_groups
        if len(saved_groups) != len(groups):
            of = ", ".join(sorted({str(group.get("dialect")) for group in saved_groups}))
            raise ValueError(
                f"the state_dict has {len(saved_groups)} parameter groups (dialects: {of}), this optimizer has {len(groups)} "
                f"({', '.join(sorted({group['dialect'] for group in groups}))}): make it with the dialect that the state was "
                "saved under (ScalaTrainer: lamb_dialect), or start anew"
            )
        for index, group in enumerate(saved_groups):
            # Not all of self.defaults: torch itself adds to that when an optimizer is copied.
            if missing := _OWN_OPTIONS - group.keys():
                raise ValueError(
                    f"param_groups[{index}] of the state_dict lacks {sorted(missing)}: it was not saved by a Lamb optimizer"
                )

        # torch casts floating-point state to the parameter's dtype, which would round the moments and the master copy
        # to bfloat16. The hooks restore them from the dict as the user's own pre-hooks leave it, before the user's
        # post-hooks see the result.
        source: StateDict = {}

        def capture(_: Optimizer, saved: StateDict) -> None:
            source.update(saved)

        def restore(_: Optimizer) -> None:
            params = chain.from_iterable(group["params"] for group in self.param_groups)
            keys = chain.from_iterable(group["params"] for group in source["param_groups"])
            for p, key in zip(params, keys, strict=True):
                for name, value in source["state"].get(key, {}).items():
                    if isinstance(value, Tensor):
                        # A copy, or this optimizer would go on writing into the dict.
                        self.state[p][name] = value.to(p.device, _full(p.dtype), copy=True)

        handles = (
            self.register_load_state_dict_pre_hook(capture),
            self.register_load_state_dict_post_hook(restore, prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            for handle in handles:
                handle.remove()

    @cached_property
    def _scratch(self) -> "_Scratch":
        return _Scratch()

    def _named(self) -> Iterator[tuple[str | int, Tensor]]:
        position = count()
        for group in self.param_groups:
            # The parameters come first in zip: it would take one position too many before it sees them end.
            for p, key in zip(group["params"], group.get("param_names") or position, strict=False):
                yield key, p

    def _gradients(self) -> list[Tensor]:
        gradients = []
        for key, p in self._named():
            if p.grad is None:
                continue
            if p.grad.layout != torch.strided:
                raise RuntimeError(
                    f"Lamb does not support sparse gradients, and parameter {key!r} has one: a trust ratio needs the "
                    "whole layer. Use dense gradients (for an embedding, sparse=False)."
                )
            gradients.append(p.grad)
        return gradients

    def _layers(self, group: dict[str, Any], dialect: Dialect, norm: Tensor | None) -> Iterator["_Layer"]:
        """The layers to move now, made one at a time so that few float32 gradients live at once."""
        clips: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        for p in group["params"]:
            if p.grad is None or p.numel() == 0:
                continue
            full, state = _full(p.dtype), self.state[p]
            if not state:
                state["step"] = 0
                state["exp_avg"] = torch.zeros_like(p, dtype=full)
                if dialect.second_moment:
                    state["exp_avg_sq"] = torch.zeros_like(p, dtype=full)
            state["step"] += 1

            x = p
            if p.dtype != full:
                if "master" not in state:
                    state["master"] = p.to(full)
                x = state["master"]
                x.copy_(torch.where(x.to(p.dtype) == p, x, p))  # a parameter changed from outside wins

            grad = p.grad.to(full)
            if norm is not None and dialect.max_grad_norm < math.inf and (grad.device, full) not in clips:
                clips[grad.device, full] = (norm / dialect.max_grad_norm).clamp(min=1.0).to(grad)
            yield _Layer(p, x, grad, clips.get((grad.device, full)), state)


def parameter_groups(
    model: nn.Module, weight_decay: float = 0.01, adapt_undecayed: bool = True, dialect: str | None = None
) -> list[dict[str, Any]]:
    """The usual two groups of a network: biases, norm gains and other vectors and scalars do not decay.

    With dialect "orthogonal" there is a third: the hidden matrices take it, all else takes "relative". Hidden are all
    matrices but the tables of `nn.Embedding` and the head, which is the last linear layer.

    Args:
        model: Its trainable parameters are taken, by name.
        weight_decay: lambda of the weights that decay.
        adapt_undecayed: Whether the others use the trust ratio. False is what timm and apex do by default.
        dialect: A key of `DIALECTS`; None: the groups name none, and the optimizer's own applies.

    Returns:
        Groups for `Lamb`, named, none of them empty.

    Raises:
        ValueError: Nothing in the model is trainable.
    """
    by_matrix = dialect is not None and dialect in DIALECTS and DIALECTS[dialect].orthogonal
    not_hidden = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    if (head := last_linear(model)) is not None:
        not_hidden.add(id(head.weight))
    hidden: list[tuple[str, Tensor]] = []
    decayed: list[tuple[str, Tensor]] = []
    undecayed: list[tuple[str, Tensor]] = []
    for name, p in model.named_parameters():
        if p.requires_grad:
            if p.ndim < 2 or name.endswith("bias"):
                undecayed.append((name, p))
            elif by_matrix and id(p) not in not_hidden:
                hidden.append((name, p))
            else:
                decayed.append((name, p))
    if not hidden and not decayed and not undecayed:
        raise ValueError(f"{type(model).__name__} has no trainable parameter: set requires_grad on some")
    groups: list[dict[str, Any]] = [
        {"params": hidden, "weight_decay": weight_decay, "adapt": True},
        {"params": decayed, "weight_decay": weight_decay, "adapt": True},
        {"params": undecayed, "weight_decay": 0.0, "adapt": adapt_undecayed},
    ]
    if dialect is not None:
        for group in groups:
            group["dialect"] = "relative" if by_matrix and group["params"] is not hidden else dialect
    return [group for group in groups if group["params"]]


class _Layer(NamedTuple):
    param: Tensor
    x: Tensor  # the parameter itself, or its master copy
    grad: Tensor
    clip: Tensor | None  # what the gradient is still to be divided by
    state: dict[str, Any]

    def clipped(self) -> Tensor:
        return self.grad if self.clip is None else self.grad / self.clip


def _step_plain(layers: Iterable[_Layer], group: dict[str, Any], dialect: Dialect) -> None:
    beta1, beta2 = group["betas"]
    for layer in layers:
        (p, x, _, _, state), grad = layer, layer.clipped()
        eps, scale = _constants(group, dialect, state["step"])
        m = state["exp_avg"].lerp_(grad, 1 - beta1)
        u = m
        if dialect.second_moment:
            v = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            u = v.sqrt().add_(eps)
            torch.div(m, u, out=u)
        if group["weight_decay"]:
            # In place where u is ours; the momentum itself must stay as it is.
            u = torch.add(u, x, alpha=group["weight_decay"] / scale, out=None if u is m else u)

        if group["adapt"]:
            x_norm, u_norm = (_norm(z, group["per_row"]) for z in (x, u))
            root = math.sqrt(x.numel() / x_norm.numel())
            x_norm = x_norm.clamp(min=dialect.layer_floor * root)
            u_norm = (u_norm * scale).clamp(min=dialect.direction_floor * root)
            ratio = state["trust_ratio"] = _trust_ratio(x_norm, u_norm, dialect)
            x.addcmul_(u, ratio, value=-group["lr"] * scale)
        else:
            x.add_(u, alpha=-group["lr"] * scale)
        if x is not p:
            p.copy_(x)


def _step_batched(layers: Iterable[_Layer], group: dict[str, Any], dialect: Dialect) -> None:
    beta1, beta2 = group["betas"]
    buckets = defaultdict(list)
    for layer in layers:
        buckets[layer.param.device, layer.param.dtype, layer.state["step"]].append(layer)

    for (_, _, step), bucket in buckets.items():
        eps, scale = _constants(group, dialect, step)
        params, xs, _, _, states = (list(column) for column in zip(*bucket, strict=True))
        grads = [layer.clipped() for layer in bucket]
        m = [state["exp_avg"] for state in states]
        torch._foreach_lerp_(m, grads, 1 - beta1)
        u: list[Tensor] | tuple[Tensor, ...] = m
        if dialect.second_moment:
            v = [state["exp_avg_sq"] for state in states]
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, grads, grads, value=1 - beta2)
            root = torch._foreach_sqrt(v)
            torch._foreach_add_(root, eps)
            u = torch._foreach_div(m, root)
        if group["weight_decay"]:
            u = torch._foreach_add(u, xs, alpha=group["weight_decay"] / scale)

        if group["adapt"]:
            x_norms, u_norms = (torch.stack(torch._foreach_norm(z)) for z in (xs, u))
            x_norms = _at_least(x_norms, dialect.layer_floor, _roots(xs))
            u_norms = _at_least(u_norms * scale, dialect.direction_floor, _roots(xs))
            ratios = _trust_ratio(x_norms, u_norms, dialect).unbind()
            torch._foreach_addcmul_(xs, u, ratios, value=-group["lr"] * scale)
            for state, ratio in zip(states, ratios, strict=True):
                state["trust_ratio"] = ratio
        else:
            torch._foreach_add_(xs, u, alpha=-group["lr"] * scale)
        if xs[0] is not params[0]:
            torch._foreach_copy_(params, xs)


def _step_orthogonal(layers: Iterable[_Layer], group: dict[str, Any], dialect: Dialect) -> None:
    """Some matrices at a time: together they are faster, and all of a large model would need its memory twice."""
    batch: list[_Layer] = []
    for layer in layers:
        if batch and (layer.x.device != batch[0].x.device or _entries(batch) + layer.x.numel() > _STACK):
            _step_matrices(batch, group, dialect)
            batch = []
        batch.append(layer)
    if batch:
        _step_matrices(batch, group, dialect)


def _step_matrices(batch: list[_Layer], group: dict[str, Any], dialect: Dialect) -> None:
    beta1 = group["betas"][0]
    momenta = []
    for layer in batch:
        grad = layer.clipped()
        m = layer.state["exp_avg"].lerp_(grad, 1 - beta1)
        momenta.append(torch.lerp(m, grad, 1 - beta1).flatten(1))  # Nesterov's: the gradient of now counts once more
    for layer, r in zip(batch, orthogonal(momenta), strict=True):
        p, x, _, _, state = layer
        root = math.sqrt(x.numel())
        norm = _whole_norm(r)
        u = r.reshape(x.shape) * torch.where(norm > 0, root / norm, 0.0)
        if group["weight_decay"]:
            u = torch.add(u, x, alpha=group["weight_decay"])
        rate: Tensor | float = group["lr"]
        if group["adapt"]:
            x_norm = _whole_norm(x).clamp(min=dialect.layer_floor * root)
            u_norm = _whole_norm(u).clamp(min=dialect.direction_floor * root)
            ratio = state["trust_ratio"] = _trust_ratio(x_norm, u_norm, dialect)
            rate = ratio * group["lr"]
        x.sub_(u.mul_(rate))
        if x is not p:
            p.copy_(x)


def _entries(layers: Iterable[_Layer]) -> int:
    return sum(layer.x.numel() for layer in layers)


_STACK = 2**26
"""Entries of matrices that are made orthogonal together."""

# Entries of a layer that are worked on together: many enough to hide what a call costs, few enough that the norms find in
# cache what the moments' update left there. Sums of so few squares are also far more accurate than those of a layer.
_PIECE = 2**20
_LINE = 16  # entries that fill at least a cache line: on which line a tensor starts decides the last bit of torch.dot
_SMALL = 2**14
"""A layer with fewer entries costs more in calls than in arithmetic, and is batched with the others."""


class _Scratch:
    """Memory kept from step to step: on a CPU fresh pages cost more than all of the arithmetic."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def like(self, name: str, flat: list[Tensor]) -> list[Tensor]:
        """A flat tensor for each of these, holding finite numbers, on a cache line of its own."""
        sizes = [-(-len(t) // _LINE) * _LINE for t in flat]
        *starts, total = accumulate(sizes, initial=0)
        key = name, flat[0].dtype
        if key not in self._buffers or len(self._buffers[key]) < total:
            self._buffers[key] = torch.zeros(total, dtype=flat[0].dtype)
        return [self._buffers[key][start : start + len(t)] for start, t in zip(starts, flat, strict=True)]

    def clear(self) -> None:
        """Forget what is there."""
        self._buffers.clear()


def _is_fusable(layer: _Layer) -> bool:
    tensors = (layer.x, layer.grad, layer.state["exp_avg"], layer.state.get("exp_avg_sq", layer.x))
    # Not a subclass, which may be a part of a distributed tensor or have no memory at all.
    return all(type(t) in (Tensor, nn.Parameter) and t.is_cpu and t.is_contiguous() for t in tensors)


def _fits(layer: _Layer, batch: list[_Layer]) -> bool:
    """Whether it can go through the same calls, and they make up at most a piece; a larger layer goes alone."""
    first = batch[0]
    alike = (layer.x.dtype, layer.state["step"]) == (first.x.dtype, first.state["step"])
    return alike and layer.x.numel() + _entries(batch) <= _PIECE


def _step_fused(batch: list[_Layer], group: dict[str, Any], dialect: Dialect, scratch: _Scratch) -> None:
    """Two passes over memory: the first updates the moments and leaves r in scratch, the second moves x along r + lambda x."""
    decay = group["weight_decay"]
    # r is a multiple of d: of the momentum where nothing divides it.
    scale = 1.0 if dialect.second_moment else _constants(group, dialect, batch[0].state["step"])[1]
    pieces = _pieces(batch, dialect, scratch)
    squares = torch.zeros(2, len(batch), dtype=torch.float64)
    for piece in pieces:
        _update_moments(piece, batch[0], group, dialect, scratch)
        if group["adapt"]:
            found = [_squares(x, d, decay / scale) for x, _, _, d, *_ in piece]
            squares += torch.tensor(found, dtype=torch.float64).T

    rates = [group["lr"]] * len(batch)
    if group["adapt"]:
        if not squares.isfinite().all():
            scratch.clear()  # the next step must not find NaN there, since 0 * NaN is NaN
        x_norms, d_norms = squares.sqrt().to(batch[0].x.dtype)
        roots = _roots(layer.x for layer in batch)
        x_norms = _at_least(x_norms, dialect.layer_floor, roots)
        ratios = _trust_ratio(x_norms, _at_least(d_norms * scale, dialect.direction_floor, roots), dialect)
        rates = (group["lr"] * ratios).tolist()
        for layer, ratio in zip(batch, ratios.unbind(), strict=True):
            layer.state["trust_ratio"] = ratio
    if group["adapt"] or not dialect.second_moment:  # else x has moved already
        for piece in reversed(pieces):  # what was touched last is still in cache
            for (x, _, _, d, *_), rate in zip(piece, rates, strict=True):
                _descend(x, d, rate * scale, decay / scale)
    for layer in batch:
        if layer.x is not layer.param:
            layer.param.copy_(layer.x)


def _pieces(batch: list[_Layer], dialect: Dialect, scratch: _Scratch) -> list[list[list[Tensor]]]:
    """x, gradient, m, d and, if there is one, v of all layers at once, or of the pieces of a large one; all of them flat."""
    rows = [[t.view(-1) for t in (layer.x, layer.grad, layer.state["exp_avg"])] for layer in batch]
    if dialect.second_moment:
        room = scratch.like("r", [x for x, *_ in rows])
        rows = [[*row, d, layer.state["exp_avg_sq"].view(-1)] for row, d, layer in zip(rows, room, batch, strict=True)]
    else:
        rows = [[x, grad, m, m] for x, grad, m in rows]
    if len(batch) > 1 or batch[0].x.numel() <= _PIECE:
        return [rows]
    return [[list(row)] for row in zip(*(t.split(_PIECE) for t in rows[0]), strict=True)]


def _update_moments(
    piece: list[list[Tensor]], first: _Layer, group: dict[str, Any], dialect: Dialect, scratch: _Scratch
) -> None:
    """Also leave r in d, or, where nothing adapts, move x at once."""
    xs, grads, ms, ds, *vs = map(list, zip(*piece, strict=True))
    if first.clip is not None and first.clip != 1:
        grads = [torch.div(g, first.clip, out=out) for g, out in zip(grads, scratch.like("grad", grads), strict=True)]
    if not dialect.second_moment:
        torch._foreach_lerp_(ms, grads, 1 - group["betas"][0])
        return
    # With rate -1 and decay -1 nothing is left of what was in scratch: (1 - 1) scratch + r.
    moved, lr, weight_decay = (ds, -1.0, -1.0) if group["adapt"] else (xs, group["lr"], group["weight_decay"])
    # Without bias correction t is infinite: then beta^t is zero.
    step = torch.tensor(float(first.state["step"]) if dialect.bias_correction else math.inf)
    beta1, beta2 = group["betas"]
    torch._fused_adamw_(
        moved,
        grads,
        ms,
        vs[0],
        [],
        [step] * len(xs),
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        weight_decay=weight_decay,
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )


def _squares(x: Tensor, d: Tensor, decay: float) -> tuple[float, float]:
    """||x||^2 and ||d + decay x||^2, without writing d + decay x anywhere."""
    xx, dd, xd = (torch.dot(a, b).item() for a, b in ((x, x), (d, d), (x, d)))
    uu = dd + 2 * decay * xd + decay**2 * xx
    if uu < 0.1 * (dd + decay**2 * xx):  # they cancel, and so would the digits
        u = torch.add(d, x, alpha=decay)
        uu = torch.dot(u, u).item()
    return xx, uu


def _descend(x: Tensor, d: Tensor, lr: float, weight_decay: float) -> None:
    """x <- x - lr (d + weight_decay x), in one pass."""
    torch._fused_sgd_(
        [x],
        [d],
        [],
        weight_decay=weight_decay,
        momentum=0.0,
        lr=lr,
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
    )


def _constants(group: dict[str, Any], dialect: Dialect, step: int) -> tuple[float, float]:
    """eps' and scale such that r = scale * m / (sqrt(v) + eps').

    Carrying the scalar to the end saves two passes over memory; until then `u` means u / scale.
    """
    if not dialect.bias_correction:
        return group["eps"], 1.0
    beta1, beta2 = group["betas"]
    root = math.sqrt(1 - beta2**step) if dialect.second_moment else 1.0
    return group["eps"] * root, root / (1 - beta1**step)


def _roots(layers: Iterable[Tensor]) -> list[float]:
    """For each layer the root of its number of entries: its norm if all of them were 1."""
    return [math.sqrt(layer.numel()) for layer in layers]


def _at_least(norms: Tensor, floor: float, roots: list[float]) -> Tensor:
    """Norms [layers] whose root mean squares are below the floor, lifted to it; without a copy to the device."""
    if not floor:
        return norms
    return torch.stack(torch._foreach_clamp_min(list(norms.unbind()), [floor * root for root in roots]))


def _trust_ratio(x_norm: Tensor, u_norm: Tensor, dialect: Dialect) -> Tensor:
    phi = x_norm.clamp(*dialect.phi_bounds)
    ratio = torch.where((phi > 0) & (u_norm > 0), phi / u_norm, 1.0)
    lower, upper = dialect.ratio_bounds
    # A subnormal ||u|| must not make the ratio infinite: the step would be infinite too.
    return ratio.clamp(lower, min(upper, torch.finfo(ratio.dtype).max))


def _norm(z: Tensor, per_row: bool) -> Tensor:
    """The L2 norm of z, or of each of its rows, then [rows, 1, ..., 1]."""
    if not per_row:
        return _whole_norm(z)
    # The added dimension keeps a 1-d tensor from having no dimension to reduce, which torch takes to mean all.
    return torch.linalg.vector_norm(z.unsqueeze(-1), dim=tuple(range(1, z.ndim + 1)), keepdim=True).squeeze(-1)


def _whole_norm(z: Tensor) -> Tensor:
    if not z.is_cpu:
        return torch.linalg.vector_norm(z, dtype=_full(z.dtype))
    # On a CPU torch's norm is slower, and of ten million float32 entries it is wrong from its fourth digit on.
    flat = z.to(_full(z.dtype)).reshape(-1)
    squares = sum(torch.dot(piece, piece).item() for piece in flat.split(_PIECE))
    return torch.tensor(math.sqrt(squares), dtype=flat.dtype)


def _global_norm(gradients: list[Tensor]) -> Tensor:
    norms = [_whole_norm(g) for g in gradients]
    return torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))


def _full(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _is_batched(group: dict[str, Any]) -> bool:
    if group["per_row"]:
        return False
    return all(p.is_cuda for p in group["params"]) if group["foreach"] is None else group["foreach"]


def _dialect(group: dict[str, Any]) -> Dialect:
    """The group's dialect, with the group's own bounds in place of the dialect's."""
    return replace(DIALECTS[group["dialect"]], **{name: group[name] for name in _REPLACEABLE if group[name] is not None})


def _check_options(group: dict[str, Any]) -> None:
    for name in ("lr", "eps", "weight_decay"):
        value = group[name]
        if isinstance(value, Tensor) or not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number >= 0 (and not a tensor), got {value!r}")
    match group["betas"]:
        case (beta1, beta2) if 0 <= beta1 < 1 and 0 <= beta2 < 1:
            pass
        case betas:
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}")
    if group["dialect"] not in DIALECTS:
        raise ValueError(f"unknown dialect {group['dialect']!r}: choose one of {', '.join(map(repr, DIALECTS))}")

    _check_dialect(group, _dialect(group))


def _check_dialect(group: dict[str, Any], dialect: Dialect) -> None:
    for name in ("phi_bounds", "ratio_bounds"):
        match getattr(dialect, name):
            case (lower, upper) if 0 <= lower <= upper and upper > 0:
                pass
            case bounds:
                raise ValueError(f"{name} must be (lower, upper) with 0 <= lower <= upper and 0 < upper, got {bounds!r}")
    if dialect.orthogonal and group["per_row"]:
        raise ValueError(f"dialect {group['dialect']!r} is of whole matrices: unset per_row")
    if not dialect.second_moment and not dialect.orthogonal and dialect.phi_bounds[0] == 0:
        raise ValueError(
            f"dialect {group['dialect']!r} needs phi_bounds with a lower bound > 0, got {dialect.phi_bounds!r}: "
            "at x = 0 its step would be neither zero nor normalised"
        )
    for name in ("layer_floor", "direction_floor"):
        if not 0 <= getattr(dialect, name) < math.inf:
            raise ValueError(f"{name} must be a number >= 0 (0: no floor), got {getattr(dialect, name)!r}")
    if not dialect.max_grad_norm > 0:
        raise ValueError(f"max_grad_norm must be > 0 (math.inf: no clipping), got {dialect.max_grad_norm!r}")


def _check_parameters(group: dict[str, Any]) -> None:
    for p, key in zip(group["params"], group.get("param_names") or count(), strict=False):
        if not p.is_floating_point():
            raise ValueError(
                f"parameter {key!r} of the group is {p.dtype}, but Lamb optimizes real floating-point tensors only; "
                "keep the real and imaginary parts of a complex one as two parameters"
            )
        if p.ndim < 2 and _dialect(group).orthogonal:
            raise ValueError(
                f"parameter {key!r} of the group has shape {tuple(p.shape)}, and dialect {group['dialect']!r} is of matrices: "
                "use scala.lamb.parameter_groups(model, dialect=...), which gives the others a dialect of their own"
            )
        if group["per_row"] and p.ndim == 0:
            raise ValueError(f"parameter {key!r} of the group is a scalar and has no rows: unset per_row for it")
