"""One way to turn (run seed, step, problem id, path, index) into a seed."""

from __future__ import annotations

from hashlib import blake2b


def derive_seed(run_seed: int, *parts: int | str) -> int:
    """A seed in ``[0, 2**63)`` that depends on the run seed and on every part, in their order.

    The parts name what the seed is for, such as ``(step, problem.id, "solution", index)``. They are written in an
    encoding that no other sequence of parts shares (type, length, bytes) and hashed with BLAKE2b, so the result is the
    same in every process, on every machine and in every Python version.

    Raises:
        TypeError: a part that is neither an integer nor a string.
    """
    digest = blake2b(digest_size=8, person=b"masa-seed")
    for part in (run_seed, *parts):
        digest.update(_encode(part))
    return int.from_bytes(digest.digest(), "big") >> 1


def _encode(part: int | str) -> bytes:
    # bool is an int to Python: True would silently share the seed of 1.
    if isinstance(part, bool) or not isinstance(part, int | str):
        raise TypeError(f"a seed derives from integers and strings, found {part!r} ({type(part).__name__})")
    if isinstance(part, int):
        tag, data = b"i", str(int(part)).encode("ascii")
    else:
        tag, data = b"s", part.encode("utf-8", "surrogatepass")
    return tag + len(data).to_bytes(8, "big") + data
