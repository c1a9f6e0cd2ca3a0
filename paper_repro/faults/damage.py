"""A file that is not what was written, a disk that is full, a number that is none."""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from convergence import verifier
from convergence.faults import tampered
from convergence.theorems import all_theorems
from paper_repro.faults.kills import Trial
from paper_repro.faults.sweep_under_test import SweepUnderTest, message
from paper_repro.faults.victim import Ended, Victim, on_writes
from paper_repro.record import write_json, write_whole
from paper_repro.runs.store import diverged_path, result_path

Damage = Callable[[Path, random.Random], None]


def truncated(path: Path, draw: random.Random) -> None:
    """Cut a file off somewhere."""
    os.truncate(path, draw.randrange(path.stat().st_size))


def flipped(path: Path, draw: random.Random) -> None:
    """Change a random byte."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
    path.write_bytes(content)


def digit_changed(path: Path, draw: random.Random) -> None:
    """Change a random digit of a text: what is there is as well-formed as before."""
    text = path.read_text(encoding="utf-8")
    at = draw.choice([i for i, letter in enumerate(text) if letter.isdigit()])
    path.write_text(f"{text[:at]}{(int(text[at]) + draw.randrange(1, 10)) % 10}{text[at + 1 :]}", encoding="utf-8")


def cut_off_sweep(test: SweepUnderTest, out: Path) -> Path:
    """A sweep killed in its last run, when the checkpoint after next began: two results and a whole checkpoint are there."""

    def prepare() -> None:
        on_writes(lambda path: os.kill(os.getpid(), signal.SIGKILL) if "-warm-" in path and "checkpoint-8/" in path else None)

    if not out.exists():
        partial_out = out.with_name(f".{out.name}.partial")
        shutil.rmtree(partial_out, ignore_errors=True)
        ended = Victim(test.command(partial_out), prepare).end()
        if not ended.killed:
            raise RuntimeError(f"a sweep that was to be killed was not:\n{ended.said}")
        partial_out.rename(out)
    return out


def checkpoint_damaged(test: SweepUnderTest, out: Path, draw: random.Random, damage: Damage) -> Trial:
    """A whole checkpoint of a killed sweep; one of its files is damaged; then the same command."""
    shutil.copytree(cut_off_sweep(test, out.parent / "cut-off"), out)
    (checkpoint,) = out.rglob("checkpoint-6")
    damage(draw.choice(sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.stat().st_size)), draw)
    finished = test.files(out)
    ended = Victim(test.command(out)).end()
    lost = [] if ended.status == 0 else [f"the same command does not go on: {message(ended, out)}"]
    if "is passed over" not in ended.said:
        lost.append("nobody noticed that a checkpoint was damaged")
    return Trial(1, message(ended, out), tuple(lost + test.lost(out, finished)), ended.seconds - test.one / 2)


def result_damaged(test: SweepUnderTest, out: Path, draw: random.Random, damage: Damage) -> Trial:
    """One result of a finished sweep is damaged; the same command is given, what it names is deleted, it is given again."""
    source = out.parent / "undisturbed-0"
    shutil.copytree(source, out)
    path = result_path(draw.choice(test.runs), out)
    others = {name: content for name, content in test.files(out).items() if name != path.name}
    damage(path, draw)
    began = time.perf_counter()
    first = Victim(test.command(out)).end()
    lost = []
    if first.status == 0:
        lost.append(f"nobody noticed that {path.name} was changed")
    elif f"{path} " not in first.said or "; delete it" not in first.said or "Traceback" in first.said:
        lost.append(f"unclear: {message(first, out)}")
    path.unlink()
    second = Victim(test.command(out)).end()
    if second.status != 0:
        lost.append(f"the same command does not go on: {message(second, out)}")
    return Trial(1, message(first, out), tuple(lost + test.lost(out, others)), time.perf_counter() - began)


def result_misshapen(path: Path, draw: random.Random) -> None:
    """Something in a result is gone, of another kind, no number, or of another run."""
    result = json.loads(path.read_text(encoding="utf-8"))
    key = draw.choice(["settings", "task", "score", "curve", "predictions", "labels", "cost", "provenance"])
    match draw.randrange(4):
        case 0:
            del result[key]
        case 1:
            result[key] = draw.choice([None, "0.5", True])
        case 2:
            result["score"] = float(draw.choice(["nan", "inf"]))
        case 3:
            result["settings"]["seed"] += 1
    path.write_text(json.dumps(result), encoding="utf-8")


def certificate_damaged(out: Path, draw: random.Random) -> Trial:
    """A theorem's certificate with one number changed, or cut off, given to the stand-alone verifier; then written anew."""
    theorem = draw.choice(all_theorems())
    path = out / f"{theorem.name}.json"
    whole = json.dumps(theorem.document(), indent=1) + "\n"
    if draw.random() < 0.5:
        write_whole(path, whole)
        truncated(path, draw)
    else:
        _, document = draw.choice(list(tampered(theorem)))
        write_json(path, document, compact=True)
    verify = partial(verifier.main, [str(path)])
    first = Victim(verify).end()
    lost = [] if first.status == 1 and "REJECTED" in first.said else ["the damaged certificate was accepted"]
    began = time.perf_counter()
    write_json(path, theorem.document())
    seconds = time.perf_counter() - began
    if Victim(verify).end().status != 0 or path.read_text(encoding="utf-8") != whole:
        lost.append("the certificate written anew is not the old one")
    return Trial(1, message(first, out), tuple(lost), seconds)


def nan_in_weights(test: SweepUnderTest, out: Path, draw: random.Random) -> Trial:
    """After a random step of a random run a weight becomes NaN; its record is deleted, and the same command given again."""
    run, at = draw.choice(test.runs), draw.randrange(1, 13)

    def prepare() -> None:
        count = iter(range(1, 1000))

        def poison(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            if next(count) == at + 12 * test.runs.index(run):
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                draw.choice(parameters).data.view(-1)[0] = float("nan")

        register_optimizer_step_post_hook(poison)

    began = time.perf_counter()
    first = Victim(test.command(out), prepare).end()
    others = {name: content for name, content in test.files(out).items() if not name.startswith(run.identity)}
    record = diverged_path(run, out)
    lost = [f"{other} was lost with it" for other in test.results if other not in others and not other.startswith(run.identity)]
    if not record.exists():
        lost.append(f"nobody noticed a NaN after step {at}: {message(first, out)}")
        result_path(run, out).unlink(missing_ok=True)
    record.unlink(missing_ok=True)
    second = Victim(test.command(out)).end()
    if second.status != 0:
        lost.append(f"the same command does not go on: {message(second, out)}")
    seconds = time.perf_counter() - began - test.seconds
    return Trial(1, message(first, out), tuple(lost + test.lost(out, others)), seconds)


_NEW_USER, _NEW_MOUNTS, _PRIVATE = 0x10000000, 0x00020000, 0x00040000 | 0x4000  # of Linux's sched.h and mount.h


def own_disk(folder: Path, size: int) -> bool:
    """Mount a new disk in memory that this process and its children alone see; False where the system does not let us."""
    if not sys.platform.startswith("linux"):
        return False
    system = ctypes.CDLL(None)
    user, group = os.getuid(), os.getgid()
    if system.unshare(_NEW_USER | _NEW_MOUNTS):
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")
    except OSError:
        return False
    return not (
        system.mount(b"none", b"/", None, _PRIVATE, None)
        or system.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode())
    )


DISK = 4 * 2**20
"""Bytes of the disk that fills up; the sweep needs less than a quarter."""


def disk_full(test: SweepUnderTest, out: Path, draw: random.Random) -> Trial:
    """A disk with a random rest of free room; when the command has failed, room is made and it is given again."""
    out.mkdir(parents=True)

    def story() -> int:
        mounted = own_disk(out, DISK)
        ballast, free = out / "ballast", int(700_000 * draw.random())
        if mounted:
            ballast.write_bytes(bytes(DISK - free))
        began = time.perf_counter()
        first = Victim(test.command(out), None if mounted else _small_files_only(free // 4)).end()
        finished, damaged = test.files(out), test.damaged(out)
        ballast.unlink(missing_ok=True)
        ended = [first] if first.status == 0 else [first, Victim(test.command(out)).end()]
        seconds = time.perf_counter() - began - test.seconds
        lost = damaged + _of_disk(ended, out) + test.lost(out, finished)
        trial = Trial(int(first.status != 0), message(first, out), tuple(lost), seconds)
        print(json.dumps(trial.document() | {"mounted": mounted}))
        return 0

    told = Victim(story).end()
    if told.status != 0:
        raise RuntimeError(f"the disk could not be filled:\n{told.said}")
    found = json.loads(told.said.splitlines()[-1])
    how = "" if found.pop("mounted") else " (no disk could be mounted: the size of files was limited)"
    return Trial(found["strikes"], found["said"] + how, tuple(found["lost"]), found["seconds"])


def _small_files_only(size: int) -> Callable[[], None]:
    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write fails
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    return prepare


def _of_disk(ended: list[Ended], out: Path) -> list[str]:
    unclear = [f"unclear: {message(end, out)}" for end in ended[:1] if "Traceback" in end.said]
    return unclear + [f"the same command does not go on: {message(end, out)}" for end in ended[-1:] if end.status != 0]
