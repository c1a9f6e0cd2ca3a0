"""The leader: LAMB, a direction rescaled layer by layer to the size of the weights it moves; Adam's, or Muon's."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import chain, count
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT, StateDict

from scala.lamb import checks, fused
from scala.lamb.batched import step_batched
from scala.lamb.compiled import Lists, step_compiled
from scala.lamb.dialects import Bounds, Dialect, dialect_of
from scala.lamb.layers import Layer, full, whole_norm
from scala.lamb.matrices import step_orthogonal
from scala.lamb.tensorwise import step_tensorwise
from scala.shards import is_spread, local, placed_like, total_norm

Ready = list[tuple[Tensor, Tensor]]
"""Parameters that have a gradient, and it."""


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

    Many processes: under DDP nothing differs. Parameters spread over processes (DTensor: ``fully_shard``, tensor parallel)
    move as those of one process, norms and orthogonal directions being of whole layers; their state is spread likewise, and
    goes through ``torch.distributed.checkpoint``. FSDP1 and DeepSpeed's ZeRO flatten layers, and are refused.
    ZeroRedundancyOptimizer keeps layers whole, but ``max_grad_norm`` then sees its process's alone.

    ``torch.compile(optimizer.step)`` makes one graph of `lamb_step` for all layers, not one each step.

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
        maximize: Move along the gradient's negative, up the objective. (Weight decay still shrinks.)
        foreach: True: batch the arithmetic over tensors. False: tensor by tensor. None: the fastest, batched on CUDA
            and torch's fused Adam kernel on a CPU, which takes dense contiguous tensors. ``per_row`` groups always go
            tensor by tensor.
        fused, capturable, differentiable, decoupled_weight_decay: As other torch optimizers have them, at the one value
            that is Lamb's; the error for another says what to do.

    Raises:
        ValueError: An option is out of its range or not Lamb's, or a parameter is not real floating point or no whole layer.
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
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        decoupled_weight_decay: bool = True,
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
            "maximize": maximize,
            "foreach": foreach,
        }
        theirs = {
            "fused": fused,
            "capturable": capturable,
            "differentiable": differentiable,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        checks.check_options(defaults | theirs)
        self._shapes: set[torch.Size] = set()
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As torch's optimizers do: options and entries that came later take the values that older states had."""
        super().__setstate__(state)
        if not hasattr(self, "_shapes"):  # a copy
            self._shapes = {p.shape for _, p in self._named()}
        for group in self.param_groups:
            for name, value in checks.LATER_OPTIONS.items():
                group.setdefault(name, value)
        for entries in self.state.values():
            if isinstance(step := entries.get("step"), int | float):
                entries["step"] = torch.tensor(float(step))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; options that it leaves out take the optimizer's defaults.

        Raises:
            ValueError: As for the class. The optimizer is then unchanged.
        """
        super().add_param_group(param_group)
        try:
            checks.check_options(param_group)
            checks.check_parameters(param_group)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        self._shapes.update(p.shape for p in param_group["params"])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient, without synchronising with the device.

        Args:
            closure: Recomputes the loss and its gradients, and returns the loss.

        Returns:
            What the closure returned, None without one.

        Raises:
            RuntimeError: A gradient is sparse. No parameter has moved.
            ValueError: A state does not fit its dialect or parameter, or a layer was flattened. No parameter has moved.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if torch.compiler.is_compiling():
            self._step_compiled()
            return loss

        position = count()
        ready = [self._ready(group, position) for group in self.param_groups]
        dialects = [dialect_of(group) for group in self.param_groups]
        gradients = [grad for pairs in ready for _, grad in pairs]
        norm = None
        if gradients and any(dialect.max_grad_norm < math.inf for dialect in dialects):
            norm = total_norm(gradients, lambda parts: map(whole_norm, parts))

        for group, dialect, pairs in zip(self.param_groups, dialects, ready, strict=True):
            layers = self._layers(group, dialect, pairs, norm)
            if dialect.orthogonal:
                step_orthogonal(layers, group, dialect)
            elif _is_batched(group):
                step_batched(layers, group, dialect)
            elif group["per_row"] or group["foreach"] is False:
                step_tensorwise(layers, group, dialect)
            else:
                self._step_mixed(layers, group, dialect)
        return loss

    def _step_mixed(self, layers: Iterable[Layer], group: dict[str, Any], dialect: Dialect) -> None:
        """On a CPU: each layer by the path that is fastest for it."""
        batched: list[Layer] = []
        batch: list[Layer] = []
        for layer in layers:
            if is_spread(layer.param):
                batched.append(layer)
            elif not fused.is_fusable(layer):
                step_tensorwise([layer], group, dialect)
            elif layer.x.numel() < fused.SMALL:
                batched.append(layer)
            else:
                if batch and not fused.fits(layer, batch):
                    fused.step_fused(batch, group, dialect, self._scratch)
                    batch = []
                batch.append(layer)
        if batch:
            fused.step_fused(batch, group, dialect, self._scratch)
        step_batched(batched, group, dialect)

    def _step_compiled(self) -> None:
        groups = []
        for group in self.param_groups:
            lists: Lists = ([], [], [], [], [], [], [])
            self._init_group(group, *lists)
            groups.append((group, dialect_of(group), lists))
        step_compiled(groups)

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> None:
        """What torch.compile runs as it is, without looking inside, to fill `Lists` and make states."""
        params, xs, grads, ms, vs, steps, ratios = lists
        dialect = dialect_of(group)
        for p, grad in self._ready(group, count()):
            if is_spread(p):
                raise RuntimeError("a compiled step is of parameters that are not spread over processes: call step uncompiled")
            state = self._state_of(p, dialect)
            params.append(p)
            xs.append(state.get("master", p))
            grads.append(grad)
            ms.append(state["exp_avg"])
            if dialect.second_moment:
                vs.append(state["exp_avg_sq"])
            steps.append(state["step"])
            if group["adapt"]:
                shape = (len(p), *(1,) * (p.ndim - 1)) if group["per_row"] else ()
                ratios.append(state.setdefault("trust_ratio", torch.ones(shape, dtype=full(p.dtype), device=p.device)))

    def trust_ratios(self) -> dict[str | int, Tensor]:
        """The latest trust ratio of each parameter, for diagnostics.

        Returns:
            By name if the optimizer was given named parameters, else by position: a 0-dim tensor on the parameter's
            device, or a [rows] tensor for ``per_row``. Parameters that took no adapted step are left out. step()
            leaves these tensors alone, so keeping them is safe; reading their values is what synchronises.
        """
        ratios = {key: self.state[p].get("trust_ratio") for key, p in self._named() if p in self.state}
        # Copies, since a compiled step writes where the last one wrote.
        return {
            key: ratio.flatten().clone() if ratio.ndim else ratio.clone() for key, ratio in ratios.items() if ratio is not None
        }

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Load what `state_dict` returned, keeping the float32 state of low-precision parameters.

        The options of the loaded groups, the dialect included, replace this optimizer's, as in all of torch.optim.

        Raises:
            ValueError: The groups do not match, or are not those of a `Lamb`, or a state does not fit its parameter and
                dialect. The optimizer is then unchanged.
        """
        # torch casts floating-point state to the parameter's dtype, which would round the moments and the master copy
        # to bfloat16. The hooks restore them from the dict as the user's own pre-hooks leave it, before the user's
        # post-hooks see the result.
        source: StateDict = {}

        def capture(_: Optimizer, saved: StateDict) -> None:
            checks.check_saved(saved, self.param_groups)
            source.update(saved)

        def restore(_: Optimizer) -> None:
            params = chain.from_iterable(group["params"] for group in self.param_groups)
            keys = chain.from_iterable(group["params"] for group in source["param_groups"])
            for p, key in zip(params, keys, strict=True):
                for name, value in source["state"].get(key, {}).items():
                    if name == "step":
                        self.state[p][name] = torch.tensor(float(value))
                    elif isinstance(value, Tensor):
                        # A copy, or this optimizer would go on writing into the dict.
                        self.state[p][name] = value.to(p.device, full(p.dtype), copy=True)

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
    def _scratch(self) -> fused.Scratch:
        return fused.Scratch()

    def _named(self) -> Iterator[tuple[str | int, Tensor]]:
        position = count()
        for group in self.param_groups:
            # The parameters come first in zip: it would take one position too many before it sees them end.
            for p, key in zip(group["params"], group.get("param_names") or position, strict=False):
                yield key, p

    def _ready(self, group: dict[str, Any], position: Iterable[int]) -> Ready:
        """The group's parameters to move, and their gradients, all looked at before anything moves."""
        ready = []
        second = dialect_of(group).second_moment
        for p, key in zip(group["params"], group.get("param_names") or position, strict=False):
            checks.check_whole(p, key, self._shapes)
            if is_spread(p):  # it may have been put in a plain one's place, as accelerate does
                checks.check_spread(p, key, group)
            if p.grad is None or p.numel() == 0:
                continue
            if p.grad.layout != torch.strided:
                raise RuntimeError(
                    f"Lamb does not support sparse gradients, and parameter {key!r} has one: a trust ratio needs the "
                    "whole layer. Use dense gradients (for an embedding, sparse=False)."
                )
            if (state := self.state.get(p)) and not checks.looks_whole(state, p, second):
                checks.check_state(state, p, key, group)
            ready.append((p, placed_like(p.grad, p) if is_spread(p) else p.grad))
        return ready

    def _state_of(self, p: Tensor, dialect: Dialect) -> dict[str, Any]:
        """The parameter's state, made at its first step; the step's number is a tensor, or a compiled step would recompile."""
        state = self.state[p]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(p, dtype=full(p.dtype))
            if dialect.second_moment:
                state["exp_avg_sq"] = torch.zeros_like(p, dtype=full(p.dtype))
        if p.dtype != full(p.dtype) and "master" not in state:
            state["master"] = p.to(full(p.dtype))
        return state

    def _layers(self, group: dict[str, Any], dialect: Dialect, ready: Ready, norm: Tensor | None) -> Iterator[Layer]:
        """The layers to move now, made one at a time so that few float32 gradients live at once."""
        clips: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        states = [self._state_of(p, dialect) for p, _ in ready]
        if states:
            torch._foreach_add_([state["step"] for state in states], torch.tensor(1.0))
        for (p, gradient), state in zip(ready, states, strict=True):
            # Of a parameter that is spread over processes, the parts here.
            here, grad, m, v, master = p, gradient, state["exp_avg"], state.get("exp_avg_sq"), state.get("master")
            if is_spread(p):
                here, grad, m = local(p), local(grad), local(m)
                v, master = (None if t is None else local(t) for t in (v, master))
            x = here
            if here.dtype != m.dtype and master is not None:
                x = master
                x.copy_(torch.where(x.to(here.dtype) == here, x, here))  # a parameter changed from outside wins
            grad = grad.to(x.dtype)
            if group["maximize"]:
                grad = -grad
            if norm is not None and dialect.max_grad_norm < math.inf and (grad.device, grad.dtype) not in clips:
                clips[grad.device, grad.dtype] = (norm / dialect.max_grad_norm).clamp(min=1.0).to(grad)
            clip = clips.get((grad.device, grad.dtype))
            yield Layer(p, here, x, grad, clip, m, v if dialect.second_moment else None, state["step"].item(), state)


def _is_batched(group: dict[str, Any]) -> bool:
    if group["per_row"]:
        return False
    return all(p.is_cuda for p in group["params"]) if group["foreach"] is None else group["foreach"]
