"""Free memory goes back to the system."""

import platform
import subprocess
import sys

import pytest

from masa import memory

_HOLES = """
import psutil, torch
from masa.memory import give_back_free_memory
blocks = [torch.ones(4000) for _ in range(20_000)]
kept = blocks[::50]
del blocks
before = psutil.Process().memory_info().rss
assert give_back_free_memory()
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's allocator")
def test_memory_between_blocks_that_are_still_in_use_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _HOLES], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 200e6, "of 320 MB"


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    assert memory.give_back_free_memory() is False
