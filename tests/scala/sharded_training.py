"""Train a tiny network by Lamb on two gloo processes in every way of spreading it: sharded_training.py FOLDER.

The ways: DDP, FSDP2 with a plain LayerNorm beside the shards, tensor parallel. The results go to FOLDER/results.pt, and
test_sharded.py compares them with one process. Sizes are odd, so shards are uneven and one is empty.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from scala import Adversary, Game, Lamb
from scala.lamb import parameter_groups

BATCH, STEPS = 8, 4
LEADERS: dict[str, dict] = {
    "debiased": {},
    "debiased, batched": {"foreach": True},
    "debiased, tensor by tensor": {"foreach": False},
    "nvlamb": {"dialect": "nvlamb", "max_grad_norm": 0.1},
    "relative": {"dialect": "relative"},
    "orthogonal": {"dialect": "orthogonal"},
}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 6)
        self.up = nn.Linear(6, 9)
        self.norm = nn.LayerNorm(9)
        self.down = nn.Linear(9, 5)
        self.head = nn.Linear(5, 1)  # the second process has no part of its weight

    def forward(self, ids: Tensor, noise: Tensor | None = None) -> Tensor:
        x = self.words(ids)
        x = x if noise is None else x + noise
        return self.head(torch.tanh(self.down(torch.tanh(self.norm(self.up(x))))))


def network(dtype: torch.dtype = torch.float64) -> Network:
    torch.manual_seed(0)
    return Network().to(dtype)


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randint(11, (BATCH,), generator=generator), torch.randn(BATCH, 1, generator=generator, dtype=torch.float64)


def leader(model: nn.Module, name: str) -> Lamb:
    options = dict(LEADERS[name])
    return Lamb(parameter_groups(model, dialect=options.pop("dialect", "debiased")), lr=0.02, **options)


def whole(t: Tensor) -> Tensor:
    return (t.full_tensor() if isinstance(t, DTensor) else t).detach().clone()


def found(model: nn.Module, optimizer: Lamb) -> dict:
    """Weights, moments and ratios by name, whole."""
    names = {name.removeprefix("module."): p for name, p in model.named_parameters()}
    moments = {name: {entry: whole(value) for entry, value in optimizer.state[p].items()} for name, p in names.items()}
    return {"weights": {name: whole(p) for name, p in names.items()}, "state": moments}


def play(
    model: nn.Module, name: str, share: slice, after_backward: Callable[[], None] = lambda: None, game: bool = False
) -> dict:
    """Some steps; with a game the follower answers from the second on."""
    optimizer = leader(model, name)
    played = Game(optimizer, Adversary(0.3, 0.2, 2) if game else None, delay=1)
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    rises = []
    for step in range(STEPS):
        ids, goals = (part[share] for part in batch(step))
        at = torch.zeros(len(ids), 6, dtype=torch.float64)
        optimizer.zero_grad()
        loss = played.loss(objective(model, ids, goals), at, ascent_objective=objective(inner, ids, goals))
        loss.backward()
        after_backward()
        played.check()
        optimizer.step()
        played.rounds += 1
        played.check_weights()
        rises.append(played.report.loss_rise)
    return found(model, optimizer) | {"rises": rises[1:], "gradients": played.gradient_evaluations}


def objective(model: nn.Module, ids: Tensor, goals: Tensor) -> Callable[[Tensor | None], Tensor]:
    return lambda noise: (model(ids, noise) - goals).square().mean()


# --- ways of spreading ----------------------------------------------------------------------------------------------


def sharded(model: Network, mesh: DeviceMesh) -> Network:
    beside = set(model.norm.parameters())
    for layer in (model.up, model.down):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=beside)
    return model


def beside_shards(model: Network) -> Callable[[], None]:
    """FSDP2 leaves the gradients of what it ignores alone."""

    def average() -> None:
        for p in model.norm.parameters():
            dist.all_reduce(p.grad.div_(dist.get_world_size()))

    return average


def tensor_parallel(model: Network, mesh: DeviceMesh) -> Network:
    return parallelize_module(
        model, mesh, {"up": ColwiseParallel(output_layouts=Replicate()), "down": RowwiseParallel(input_layouts=Replicate())}
    )


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, processes = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (processes,))
    own, all_of_it = slice(rank * BATCH // processes, (rank + 1) * BATCH // processes), slice(None)
    results: dict = {}
    for game in (False, True):
        for name in LEADERS if not game else ("relative", "orthogonal"):
            results["ddp", name, game] = play(DistributedDataParallel(network()), name, own, game=game)
            model = sharded(network(), mesh)
            results["fsdp2", name, game] = play(model, name, own, beside_shards(model), game=game)
            results["tensor parallel", name, game] = play(tensor_parallel(network(), mesh), name, all_of_it, game=game)
    results["resumed"] = resumed(folder, mesh, own)
    results["refused"] = refused()
    results["not finite"] = not_finite(mesh)
    if rank == 0:
        torch.save(results, folder / "results.pt")
    dist.barrier()  # none leaves while another still writes
    dist.destroy_process_group()


def resumed(folder: Path, mesh: DeviceMesh, share: slice) -> dict:
    """Weights after four steps, and after two, a checkpoint and two more; in bfloat16, so that there are master copies."""

    def steps(model: nn.Module, optimizer: Lamb, which: range) -> None:
        for step in which:
            ids, goals = (part[share] for part in batch(step))
            optimizer.zero_grad()
            objective(model, ids, goals.bfloat16())(None).backward()
            optimizer.step()

    def made() -> tuple[nn.Module, Lamb]:
        model = network(torch.bfloat16)
        for layer in (model.up, model.down, model):
            fully_shard(layer, mesh=mesh)
        return model, leader(model, "orthogonal")

    model, optimizer = made()
    steps(model, optimizer, range(2))
    dcp.save(
        {"model": model.state_dict(), "leader": get_optimizer_state_dict(model, optimizer)}, checkpoint_id=folder / "checkpoint"
    )
    steps(model, optimizer, range(2, 4))
    later, successor = made()
    state = {"model": later.state_dict(), "leader": get_optimizer_state_dict(later, successor)}
    dcp.load(state, checkpoint_id=folder / "checkpoint")
    later.load_state_dict(state["model"])
    set_optimizer_state_dict(later, successor, state["leader"])
    steps(later, successor, range(2, 4))
    return {"through": found(model, optimizer), "resumed": found(later, successor)}


def refused() -> dict[str, str]:
    """What Lamb says to FSDP1's parameters, and to a whole state for spread parameters."""
    said = {}
    for original in (False, True):
        wrapped = FullyShardedDataParallel(network(), device_id=torch.device("cpu"), use_orig_params=original)
        said[f"flat, original {original}"] = message(lambda wrapped=wrapped: Lamb(wrapped.parameters()))
    model = network()
    early = Lamb(model.parameters())
    wrapped = FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)
    wrapped(torch.arange(4)).sum().backward()
    said["wrapped later"] = message(early.step)

    plain, spread = network(), network()
    one = Lamb(plain.parameters())
    plain(torch.arange(4)).sum().backward()
    one.step()
    fully_shard(spread)
    said["whole state"] = message(lambda: Lamb(spread.parameters()).load_state_dict(one.state_dict()))
    said["rows"] = message(lambda: Lamb(spread.parameters(), per_row=True))
    rows = Lamb(network().parameters(), per_row=True)
    rows.param_groups[0]["params"] = list(spread.parameters())
    said["rows, exchanged"] = message(rows.step)
    spread(torch.arange(4)).sum().backward()
    said["compiled"] = message(torch.compile(Lamb(spread.parameters()).step, backend="eager"))
    exchanged = Lamb(network().parameters())
    exchanged.param_groups[0]["params"] = list(spread.parameters())
    said["exchanged"] = message(exchanged.step)
    weight = spread.up.weight
    summed = DTensor.from_local(torch.ones(2), weight.device_mesh, [Partial()])
    said["not summed"] = message(lambda: Lamb([summed.requires_grad_()]))
    return said


def message(action: Callable[[], object]) -> str:
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def not_finite(mesh: DeviceMesh) -> list[str]:
    """What each process says where one part of one gradient, or of one weight, is NaN."""
    model = sharded(network(), mesh)
    game = Game(leader(model, "relative"))
    model(torch.arange(4)).sum().backward()
    if dist.get_rank() == dist.get_world_size() - 1:
        model.up.weight.grad.to_local()[0, 0] = torch.nan
    said = [message(game.check)]
    with torch.no_grad():
        if dist.get_rank() == 0:
            model.down.weight.to_local()[0, 0] = torch.inf
    said.append(message(game.check_weights))
    together: list = [None] * dist.get_world_size()
    dist.all_gather_object(together, said)
    return [text for texts in together for text in texts]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # As in ddp_training.py: Python 3.11 may abort while it shuts down, after all the work is done.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
