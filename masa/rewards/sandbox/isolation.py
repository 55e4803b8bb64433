"""Isolation that a process puts on itself and keeps through ``exec``: limits, capabilities, Landlock, seccomp."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from masa.rewards.sandbox.system_calls import filter_program, supported_machine

MB = 2**20
_PR_SET_PDEATHSIG, _PR_GET_SECCOMP, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 21, 22, 24, 38
_SECCOMP_MODE_FILTER = 2
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_REG, _TRUNCATE = (
    1 << bit for bit in (0, 1, 2, 3, 5, 8, 14)
)
# How many kinds of access each version of Landlock can refuse, and the size of its ruleset.
_ACCESS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}

# What a Python interpreter reads: itself, the system's libraries, and nothing a person keeps.
_READABLE = ("/usr", "/lib", "/lib64", "/bin", "/nix/store", "/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")

_libc = ctypes.CDLL(None, use_errno=True)


class SandboxUnavailableError(RuntimeError):
    """This system cannot isolate code; code is then not run at all."""


@dataclass(frozen=True)
class Isolation:
    """What the isolated process may use; ``directory`` is the only place where it may write."""

    directory: Path
    cpu_seconds: int
    memory_mb: int
    file_mb: int = 16
    open_files: int = 64


def landlock_version() -> int:
    """The kernel's Landlock version; 0 without Landlock."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


@cache
def check_sandbox() -> None:
    """Make sure that this system can isolate code.

    Raises:
        SandboxUnavailableError: says what is missing.
    """
    if sys.platform != "linux":
        raise SandboxUnavailableError(f"running code needs Linux (seccomp); this is {sys.platform}")
    if not supported_machine():
        raise SandboxUnavailableError(f"running code needs x86-64 or arm64; this is {os.uname().machine}")
    if _libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        raise SandboxUnavailableError("running code needs a kernel with seccomp filters")
    if not landlock_version():
        raise SandboxUnavailableError(
            "running code needs Landlock: Linux 5.13 or newer, with landlock among the kernel's security modules"
        )


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent ends; exit at once where ``parent`` is given and gone."""
    if sys.platform == "linux":
        _call("prctl", _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if parent is not None and os.getppid() != parent:
        os._exit(0)


def isolate(isolation: Isolation, parent: int) -> None:
    """Confine this process for good. Call between ``fork`` and ``exec``; the working directory moves to its directory.

    Raises:
        OSError: a step failed; the process must not go on.
    """
    die_with_parent(parent)
    os.chdir(isolation.directory)
    _limit_resources(isolation)
    _call("prctl", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _confine_files(isolation.directory)
    _drop_capabilities()
    _filter_system_calls()


def _limit_resources(isolation: Isolation) -> None:
    limits = {
        resource.RLIMIT_CPU: isolation.cpu_seconds,
        resource.RLIMIT_AS: isolation.memory_mb * MB,
        resource.RLIMIT_FSIZE: isolation.file_mb * MB,
        resource.RLIMIT_NOFILE: isolation.open_files,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for kind, value in limits.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _confine_files(directory: Path) -> None:
    version = landlock_version()
    handled = (1 << _ACCESS_BITS[min(version, 5)]) - 1
    attributes = [handled]
    if version >= 4:
        attributes.append(0b11)  # TCP: neither bind nor connect
    if version >= 6:
        attributes.append(0b11)  # neither abstract sockets nor signals beyond this process
    ruleset = struct.pack(f"={len(attributes)}Q", *attributes)
    rules = _call("landlock_create_ruleset", _libc.syscall(_LANDLOCK_CREATE, ruleset, ctypes.c_size_t(len(ruleset)), 0))
    on_files = _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE
    readable = [*_READABLE, sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parent.parent)]
    grants = [(path, _EXECUTE | _READ_FILE | _READ_DIR) for path in dict.fromkeys(readable)]
    grants += [(path, _READ_FILE | _WRITE_FILE) for path in _DEVICES]
    grants += [(str(directory), _READ_FILE | _READ_DIR | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE)]
    for path, access in grants:
        if not os.path.exists(path):
            continue
        allowed = access & handled & (-1 if os.path.isdir(path) else on_files)
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", allowed, descriptor)
        _call("landlock_add_rule", _libc.syscall(_LANDLOCK_ADD, rules, 1, rule, 0))
        os.close(descriptor)
    _call("landlock_restrict_self", _libc.syscall(_LANDLOCK_RESTRICT, rules, 0))
    os.close(rules)


def _drop_capabilities() -> None:
    # Without the bounding set, root gains nothing back by exec; without any capability, root is a plain owner.
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    nothing = struct.pack("=6I", *[0] * 6)
    _call("capset", _libc.syscall(_CAPSET[os.uname().machine], header, nothing))


def _filter_system_calls() -> None:
    program = filter_program()
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a 16-bit count, padding, a pointer.
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    _call("seccomp", _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, head, 0, 0))


def _call(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def clean_environment(directory: Path) -> dict[str, str]:
    """All the environment there is: nothing of the caller's."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def directory_is_full(directory: Path, megabytes: int, files: int) -> bool:
    """Whether a flat directory holds more than it may."""
    used: Sequence[os.DirEntry[str]] = list(os.scandir(directory))
    total = 0
    for entry in used:
        try:
            total += entry.stat(follow_symlinks=False).st_blocks * 512
        except FileNotFoundError:
            continue
    return len(used) > files or total > megabytes * MB
