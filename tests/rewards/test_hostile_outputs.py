"""Hundreds of outputs made to break verification, with ordinary ones between them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from hostile_corpus import Item, hostile_corpus, ordinary_items

from masa.rewards import Verdict, VerifierPool

TIME_LIMIT = 1.0
# The sample is part of every run, on machines that do other things besides.
SAMPLE_TIME_LIMIT = 2.0
WORKERS = 2
MEMORY_MB = 768

pytestmark = pytest.mark.usefixtures("sandbox")


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MASA_TEST_SECRET", "1")
    (tmp_path / "canary").write_text("alive")
    return tmp_path


def verify_among_ordinary(pool: VerifierPool, corpus: Sequence[tuple[str, Item]]) -> list[Verdict]:
    """The verdicts of the corpus, after checking the time and the ordinary items between."""
    ordinary = ordinary_items(len(corpus))
    items = [item for (_, hostile), fine in zip(corpus, ordinary, strict=True) for item in (hostile, fine)]
    started = time.perf_counter()
    verdicts = pool.verify(items)
    seconds = time.perf_counter() - started
    assert seconds < len(items) * pool.time_limit / pool.workers
    assert [item for item, verdict in zip(ordinary, verdicts[1::2], strict=True) if not verdict.correct] == []
    return verdicts[::2]


def check_nothing_got_through(corpus: Sequence[tuple[str, Item]], verdicts: Sequence[Verdict], outside: Path) -> None:
    assert [name for (name, _), verdict in zip(corpus, verdicts, strict=True) if verdict.correct] == []
    assert os.listdir(outside) == ["canary"]
    assert (outside / "canary").read_text() == "alive"
    assert not list(Path("/tmp").glob("masa-hostile-evil*"))


def test_the_corpus_holds_three_hundred_different_outputs(outside: Path) -> None:
    corpus = hostile_corpus(str(outside))
    assert len({(item["verifier"], item["response"]) for _, item in corpus}) >= 300


def test_a_sample_of_hostile_outputs_breaks_nothing(outside: Path) -> None:
    corpus = hostile_corpus(str(outside))[::13]
    with VerifierPool(WORKERS, SAMPLE_TIME_LIMIT, MEMORY_MB) as pool:
        verdicts = verify_among_ordinary(pool, corpus)
        check_nothing_got_through(corpus, verdicts, outside)
        counters = pool.counters
        assert counters["timeouts"] == sum(verdict.status == "timeout" for verdict in verdicts) > 0
        assert counters["errors"] == sum(verdict.status == "error" for verdict in verdicts)


@pytest.mark.slow
def test_the_whole_corpus_breaks_nothing(outside: Path) -> None:
    corpus = hostile_corpus(str(outside))
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            total = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak = max(peak, total)

    with VerifierPool(WORKERS, TIME_LIMIT, MEMORY_MB) as pool:
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            verdicts = verify_among_ordinary(pool, corpus)
        finally:
            done.set()
            watcher.join()
        check_nothing_got_through(corpus, verdicts, outside)
        # A worker and the program it runs have the limit each; the fork server is small.
        assert peak < (2 * WORKERS * MEMORY_MB + 256) * 2**20
        assert all(verdict.correct for verdict in pool.verify(ordinary_items(100)))
        assert list(Path(pool._directory.name).iterdir()) == [] if pool._directory else False
    after = {process.pid for process in psutil.Process().children(recursive=True)}
    # What may stay is the fork server and multiprocessing's resource tracker, which serve the next pool.
    assert len(after - before) <= 2
