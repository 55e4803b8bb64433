"""Verifiers of a user's own, as the pool finds them by import path."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any

not_a_function = "a string"


def same_length(response: str, answer: Any) -> bool:
    return len(response) == len(answer)


def share_of_words(response: str, answer: Any) -> float:
    return sum(word in response for word in answer) / len(answer)


def too_much(response: str, answer: Any) -> float:
    return 1.5


def raises(response: str, answer: Any) -> bool:
    raise KeyError(response)


def exits(response: str, answer: Any) -> bool:
    raise SystemExit(0)


def dies(response: str, answer: Any) -> bool:
    os._exit(3)


def crashes(response: str, answer: Any) -> bool:
    ctypes.string_at(0)
    return True


def hangs(response: str, answer: Any) -> bool:
    while True:
        time.sleep(60)


def hangs_in_c(response: str, answer: Any) -> bool:
    return bool(7 ** (7**12))


def eats_memory(response: str, answer: Any) -> bool:
    held = []
    while True:
        held.append(bytearray(2**24))


def process_id(response: str, answer: Any) -> float:
    with open(answer, "a") as file:
        file.write(f"{os.getpid()}\n")
    return 1.0


def killed_once(response: str, answer: Any) -> bool:
    """Killed by the system where ``answer`` names its process; its second try runs in another."""
    with open(answer) as file:
        first = int(file.readline())
    if first == os.getpid():
        os.kill(first, signal.SIGKILL)
    return True


def loaded_modules(response: str, answer: Any) -> bool:
    import sys

    return not {"torch", "transformers", "datasets"} & set(sys.modules)
