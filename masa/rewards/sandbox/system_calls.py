"""The seccomp filter of sandboxed code: which system calls the kernel refuses it, on x86-64 and arm64.

Refused is what reaches beyond the process: making processes, signals, sockets with an address, other processes' memory
and limits, mounts and namespaces, kernel objects that outlive the process, memory that no limit counts, directories and
links, and the ownership, modes and times of files (which Landlock does not guard).
"""

from __future__ import annotations

import errno
import platform
import struct

# name: (x86-64, arm64); None where the architecture lacks the call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # processes and signals
    "fork": (57, None),
    "vfork": (58, None),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "setpgid": (109, 154),
    "setsid": (112, 157),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    # network; socketpair stays, which asyncio needs and which reaches nobody
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # objects that outlive the process, memory that its limits do not count
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    # files: only regular ones, made in the scratch directory
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "truncate": (76, 45),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    # the system
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "personality": (135, 92),
    "iopl": (172, None),
    "ioperm": (173, None),
}
_CONDITIONAL = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "prlimit64": (302, 261),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "sendto": (44, 206),
}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_CLONE_THREAD = 0x00010000
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_FIOSETOWN, _SIOCSPGRP, _TIOCSTI = 0x8901, 0x8902, 0x5412
_X32_CALLS = 0x40000000

Instruction = tuple[int, int, int, int]


def supported_machine() -> bool:
    return platform.machine() in _ARCHITECTURES


def filter_program() -> bytes:
    """The filter as an array of ``struct sock_filter``.

    Raises:
        OSError: an architecture without a table of calls.
    """
    if not supported_machine():
        raise OSError(f"no system-call table for {platform.machine()}; known: {', '.join(_ARCHITECTURES)}")
    column, audit_number = _ARCHITECTURES[platform.machine()]
    refuse = (_RETURN, 0, 0, _ERROR | errno.EPERM)
    program: list[Instruction] = [
        (_LOAD, 0, 0, 4),  # the architecture of this call
        (_EQUAL, 1, 0, audit_number),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # its number
    ]
    if column == 0:
        program += [(_AT_LEAST, 0, 1, _X32_CALLS), (_RETURN, 0, 0, _KILL)]
    for numbers in _REFUSED.values():
        number = numbers[column]
        if number is not None:
            program += [(_EQUAL, 0, 1, number), refuse]
    calls = {name: numbers[column] for name, numbers in _CONDITIONAL.items()}
    # Threads, not processes; clone3 keeps its flags where a filter cannot look, and glibc falls back to clone.
    program += [(_EQUAL, 0, 1, calls["clone3"]), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)]
    program += _when(calls["clone"], [_argument(0), (_ANY_BIT, 1, 0, _CLONE_THREAD), refuse])
    # Limits of this process, not of another; an address would name a receiver.
    program += _when(calls["prlimit64"], [_argument(0), (_EQUAL, 1, 0, 0), refuse])
    program += _when(
        calls["sendto"], [_argument(4), (_EQUAL, 0, 2, 0), _argument(4, high=True), (_EQUAL, 1, 0, 0), refuse]
    )
    # The owner of a descriptor is sent signals.
    program += _when(calls["fcntl"], _refuse_commands((_F_SETOWN, _F_SETSIG, _F_SETOWN_EX), refuse))
    program += _when(calls["ioctl"], _refuse_commands((_FIOSETOWN, _SIOCSPGRP, _TIOCSTI), refuse))
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _argument(index: int, high: bool = False) -> Instruction:
    return (_LOAD, 0, 0, 16 + 8 * index + (4 if high else 0))


def _when(number: int, checks: list[Instruction]) -> list[Instruction]:
    """``checks`` for one call, which either refuse it or fall through to allowing it."""
    body = [*checks, (_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, len(body), number), *body]


def _refuse_commands(commands: tuple[int, ...], refuse: Instruction) -> list[Instruction]:
    checks: list[Instruction] = [_argument(1)]
    for command in commands:
        checks += [(_EQUAL, 0, 1, command), refuse]
    return checks
