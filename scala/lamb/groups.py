"""Which parameter of a network goes by which rule."""

from typing import Any

from torch import Tensor, nn

from scala.heads import last_linear
from scala.lamb.dialects import DIALECTS


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
