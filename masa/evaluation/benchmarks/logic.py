"""Logical reasoning: the dev splits that Logic-LM prepared, one JSON file each."""

from __future__ import annotations

from masa.evaluation.benchmarks.benchmark import Benchmark, choice_row

_COLUMNS = ("id", "context", "question", "options", "answer")


def _logic(name: str, title: str, rows: int, licence: str) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        split="dev",
        columns=_COLUMNS,
        verifier="choice",
        licence=licence,
        rows=rows,
        read=choice_row,
        options="source",
    )


PRONTOQA = _logic("prontoqa", "ProntoQA", 500, "Apache-2.0 (PrOntoQA)")
PROOFWRITER = _logic("proofwriter", "ProofWriter", 600, "CC BY 4.0 (ProofWriter)")
FOLIO = _logic("folio", "FOLIO", 204, "CC BY-SA 4.0 (FOLIO)")
LOGICALDEDUCTION = _logic("logicaldeduction", "LogicalDeduction", 300, "Apache-2.0 (BIG-bench)")
AR_LSAT = _logic("ar_lsat", "AR-LSAT", 231, "not stated by the data set")

LOGIC = (PRONTOQA, PROOFWRITER, FOLIO, LOGICALDEDUCTION, AR_LSAT)
