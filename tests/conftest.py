"""Settings shared by all tests: derandomised property tests, no network, one thread."""

import os
import socket

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, database=None, max_examples=50)
settings.register_profile("hunt", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only connections on this machine (the processes of a distributed test) are allowed."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"tests must not use the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny random BERT with a tokenizer, saved as any encoder is."""
    from tiny_models import tiny_encoder

    return str(tiny_encoder(tmp_path_factory.mktemp("encoder")))


@pytest.fixture(scope="session")
def quick_experiment(encoder: str) -> str:
    """An experiment of two methods and two seeds whose runs take a second each."""
    return f"""
model = "{encoder}"
seeds = [0, 1]
epochs = 2
evaluations = 2
train_examples = 32
micro_batch = 8
batch_size = 16
learning_rate = 1e-2
[methods.lamb]
noise = "none"
[methods.scala]
[tasks.acceptability]
"""
