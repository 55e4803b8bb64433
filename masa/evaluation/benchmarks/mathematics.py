"""Competition and university mathematics: the paper's six in-domain benchmarks."""

from __future__ import annotations

from masa.evaluation.benchmarks.benchmark import Benchmark, mapped

_CHAT_COLUMNS = ("prompt", "reward_model.ground_truth.target")

AIME24 = Benchmark(
    name="aime24",
    title="AIME 2024",
    hub="HuggingFaceH4/aime_2024",
    split="train",
    columns=("problem", "answer"),
    verifier="math",
    licence="not stated by the data set",
    rows=30,
)
AIME25 = Benchmark(
    name="aime25",
    title="AIME 2025",
    hub="TianHongZXY/AIME2025",
    columns=_CHAT_COLUMNS,
    verifier="math",
    licence="not stated by the data set",
    rows=30,
)
AMC23 = Benchmark(
    name="amc23",
    title="AMC 2023",
    hub="TianHongZXY/amc23",
    columns=_CHAT_COLUMNS,
    verifier="math",
    licence="not stated by the data set",
    rows=40,
)
MATH500 = Benchmark(
    name="math500",
    title="MATH-500",
    hub="HuggingFaceH4/MATH-500",
    columns=("problem", "answer"),
    verifier="math",
    licence="MIT (MATH)",
    rows=500,
)
MINERVA = Benchmark(
    name="minerva",
    title="Minerva Math",
    hub="math-ai/minervamath",
    columns=("question", "answer"),
    verifier="math",
    licence="not stated by the data set",
    rows=272,
)
OLYMPIADBENCH = Benchmark(
    name="olympiadbench",
    title="OlympiadBench",
    hub="math-ai/olympiadbench",
    columns=("question", "final_answer"),
    verifier="math",
    licence="Apache-2.0 (OlympiadBench)",
    rows=674,
    read=mapped({"statement": "question", "answer": "final_answer.0"}),
)

MATHEMATICS = (AIME24, AIME25, AMC23, MATH500, MINERVA, OLYMPIADBENCH)
