"""The care of checkpoints: whole ones are told from damaged ones, and what a training goes on with is what it was told."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from scala.whole_file import write_whole

_LAST_WRITTEN = "trainer_state.json"
_DIGESTS = "digests.json"
_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")


def last_checkpoint(output_dir: str | Path) -> Path | None:
    """The newest whole checkpoint in a folder, or None.

    The Trainer writes trainer_state.json last, so one whose writing was cut off lacks that file or has half of it: it is passed
    over. So is, with a warning, one whose files are not those that were written, by their SHA-256 in digests.json, which is
    written right after and which checkpoints of other trainers lack. A file or folder that only begins like a checkpoint's name
    is none.
    """
    for folder in sorted(_checkpoints(Path(output_dir)), key=_step, reverse=True):
        if _is_whole(folder):
            return folder
        if (folder / _DIGESTS).exists():
            warnings.warn(f"{folder} is damaged (it is not as it was written) and is passed over", stacklevel=2)
    return None


def remove_stale(folder: Path) -> None:
    """Remove what a training that was cut off left at this checkpoint's place, and newer ones that are not whole."""
    for old in _checkpoints(folder.parent):
        if old == folder or (_step(old) > _step(folder) and not _is_whole(old)):
            shutil.rmtree(old)


def seal(folder: Path) -> None:
    """Write down the SHA-256 of a checkpoint's files."""
    if folder.exists():
        write_whole(folder / _DIGESTS, json.dumps(_digests(folder)))


@contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """A checkpoint that cannot be written raises an OSError that says so, and what to do."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # as Python, torch and safetensors call a full disk
        free, reason = shutil.disk_usage(folder.parent).free / 2**20, str(error).partition("\n")[0]
        raise OSError(
            f"{folder} could not be written, with {free:.1f} MiB free on its disk ({reason}); the checkpoint before it is "
            "kept: make room and continue from there"
        ) from error


def load_weights(model: nn.Module, checkpoint: str | Path) -> bool:
    """Load all weights of a checkpoint by `from_pretrained`; False for a model that does not have it, or has adapters.

    transformers 5 writes tensors under the names of the file that the model came from (bert-base-uncased's has
    LayerNorm.gamma) and its Trainer reads a checkpoint by the model's own names: tensors whose names differ would stay as
    they are, with nothing but a warning.

    Raises:
        ValueError: a file of weights is damaged.
    """
    if not isinstance(model, PreTrainedModel) or getattr(model, "_hf_peft_config_loaded", False):
        return False
    if not list(Path(checkpoint).glob("*.safetensors*")):
        return False
    config = copy.deepcopy(model.config)
    try:
        saved = type(model).from_pretrained(checkpoint, config=config, dtype=model.dtype, use_safetensors=True)
    except SafetensorError as error:
        raise ValueError(
            f"the weights in {checkpoint} are damaged ({error}); delete that checkpoint and continue from the one before, or "
            "start anew"
        ) from error
    model.load_state_dict(saved.state_dict())
    return True


def options_of(leader: Optimizer) -> list[dict[str, Any]]:
    """What a leader's groups were told, without what a schedule changes; to compare before and after a state is loaded."""
    return [{k: v for k, v in group.items() if k not in ("params", "param_names", "lr")} for group in leader.param_groups]


def refuse_overridden(ours: list[dict[str, Any]], loaded: list[dict[str, Any]], checkpoint: str) -> None:
    """Refuse to go on under a checkpoint's options where this training was told others; torch would in silence.

    Args:
        ours: `options_of` the leader before its state was loaded.
        loaded: and after.
        checkpoint: where the state came from.

    Raises:
        ValueError: naming the options and both values.
    """
    found: dict[str, str] = {}
    for mine, theirs in zip(ours, loaded, strict=True):
        for name in sorted(mine.keys() & theirs.keys()):
            if _plain(mine[name]) != _plain(theirs[name]):
                told = {"initial_lr": "learning_rate"}.get(name, name)
                found.setdefault(told, f"{told} was {theirs[name]!r} and is now {mine[name]!r}")
    if found:
        raise ValueError(
            f"{checkpoint} was trained under other options: {'; '.join(found.values())}. Continue under the same ones, or load "
            "its weights into the model and start anew"
        )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _checkpoints(output_dir: Path) -> list[Path]:
    return [path for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if _NAME.fullmatch(path.name) and path.is_dir()]


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / _LAST_WRITTEN).read_text())
        written = checkpoint / _DIGESTS
        return not written.exists() or dict(json.loads(written.read_text())).items() <= _digests(checkpoint).items()
    except (OSError, ValueError, TypeError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint that must not change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _DIGESTS not in path.name:
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
