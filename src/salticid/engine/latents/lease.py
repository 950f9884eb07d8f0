"""Who works on a shard: a file beside it, made by one worker and removed by it, on any host that shares the disk.

A lease only spares work. Workers that both believe to have one write the same bytes and rename them into place.
"""

import json
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

STALE = 600.0
"""Seconds without a sign of life after which a lease is anybody's."""


class Lease:
    """The right to write one file."""

    def __init__(self, target: Path, path: Path, token: str) -> None:
        self.target, self.path, self.token = target, path, token
        self.aside = _aside(target, token)
        """Where the file is to be written before it gets its name."""

    @classmethod
    def claim(cls, target: Path) -> Self | None:
        """The lease of `target`, or None where another worker has it. That of a worker that is gone (a dead process
        of this machine, or silent for `STALE` seconds) is taken over, and what it left half written removed."""
        path, token = target.with_name(f".{target.name}.lease"), uuid4().hex
        if not _create(path, token) and not (_evict(path, target) and _create(path, token)):
            return None
        return cls(target, path, token)

    def beat(self) -> None:
        """Give a sign of life."""
        with suppress(OSError):  # taken over: `held` will say so
            os.utime(self.path)

    def held(self) -> bool:
        """Whether it still is this worker's."""
        return _read(self.path).get("token") == self.token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.aside.unlink(missing_ok=True)
        if self.held():
            self.path.unlink(missing_ok=True)


def _aside(target: Path, token: str) -> Path:
    return target.with_name(f".{target.name}.{token}")


def _create(path: Path, token: str) -> bool:
    owner = {"host": platform.node(), "machine": _machine(), "pid": os.getpid(), "token": token}
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with open(handle, "w", encoding="utf-8") as file:
        json.dump(owner, file)
    return True


def _evict(path: Path, target: Path) -> bool:
    """Remove a lease whose worker is gone; whether that was done."""
    owner = _read(path)
    if not (_is_dead(owner) or _silence(path) > STALE):
        return False
    away = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        os.rename(path, away)  # one of several that try
    except FileNotFoundError:
        return False
    found = _read(away)
    ours = found.get("token") == owner.get("token")
    if not ours:  # meanwhile another has evicted the old worker and claimed: give that back
        with suppress(OSError):
            os.link(away, path)
    elif isinstance(token := owner.get("token"), str) and token.isalnum():
        _aside(target, token).unlink(missing_ok=True)
    away.unlink(missing_ok=True)
    return ours


def _read(path: Path) -> dict[str, Any]:
    """What a lease says; nothing, where it is gone or only just being written."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether the worker was a process of this machine that is there no more."""
    pid = owner.get("pid")
    if owner.get("machine") != _machine() or type(pid) is not int or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return pid == os.getpid()  # a worker holds one lease at a time: this one is of an earlier process of that number


def _silence(path: Path) -> float:
    """Seconds since the last sign of life, by the clock of the disk, which hosts with clocks of their own share."""
    probe = path.with_name(f".now.{uuid4().hex}")
    try:
        probe.touch()
        now = probe.stat().st_mtime
        return now - path.stat().st_mtime
    except OSError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _machine() -> str:
    """What process numbers are unique in: this boot of this kernel, and a container's own numbering."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()
