"""The long problem family, its author and the texts of its warm start."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.embedded.long.author import HABITS, MAX_PASSES, clean_solution, worked_solution
from masa.embedded.long.corpus import DISTRACTORS, warm_start_examples, words
from masa.embedded.long.problems import long_problems
from masa.embedded.long.templates import META_TEMPLATE, SOLUTION_TEMPLATE
from masa.embedded.long.tokenizer import make_tokenizer
from masa.embedded.long.world import (
    KINDS,
    LARGEST_COUNT,
    MODULUS,
    OPERATIONS,
    ORDERS,
    SIZES,
    Chain,
    apply,
    draw_chain,
    split_of,
)
from masa.embedded.measure import boxed_answer
from masa.embedded.warm_start import in_batches
from masa.rewards.meta_prediction import parse_meta_prediction
from masa.rewards.notions import notion_form, notions_in_texts
from masa.rewards.verifiers import Limits
from masa.rewards.verifiers.mathematics import verify_math

chains = st.builds(
    lambda kind, count, seed: draw_chain(kind, count, random.Random(seed)),
    st.sampled_from(list(KINDS)),
    st.integers(SIZES[0].fewest, SIZES[-1].most),
    st.integers(0, 10**6),
)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def test_a_problem_worked_by_hand():
    chain = Chain("birch", 7, ("+8", "*3", "+9"))
    assert chain.statement == "birch of 03 from 07: a+8 b*3 c+9."
    assert chain.value_by("forward") == 14  # 15, 5, 14
    assert chain.value_by("backward") == 16  # 16, 8, 16
    assert chain.value_by("alternating") == 12  # a, c, b: 15, 4, 12
    assert clean_solution(chain) == "By forward. 07 a +8 15 b *3 05 c +9 14 So \\boxed{14}"
    assert ORDERS["alternating"](5) == [0, 2, 4, 1, 3]


@given(chains)
def test_the_three_orders_give_three_answers_and_the_kind_decides_which_is_right(chain):
    answers = {order: chain.value_by(order) for order in ORDERS}
    assert len(set(answers.values())) == 3
    assert chain.answer == answers[KINDS[chain.kind]]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_can_be_undone(operation):
    assert {apply(operation, value) for value in range(MODULUS)} == set(range(MODULUS))


def test_every_order_is_right_for_as_many_kinds():
    assert sorted(KINDS.values()).count("forward") == 8
    assert all(list(KINDS.values()).count(order) == 8 for order in ORDERS)
    assert set(HABITS) == set(KINDS)


@pytest.mark.parametrize("order", ORDERS)
def test_an_orders_kinds_are_good_and_bad_ones_for_the_author(order):
    """So neither the name of a method nor the look of a statement says how hard a problem is."""
    habits = [HABITS[kind].right for kind, right in KINDS.items() if right == order]
    assert max(habits) > 0.9
    assert min(habits) < 0.2


def test_the_same_arguments_give_the_same_problems_and_another_seed_gives_others():
    assert long_problems("train", 50, seed=3) == long_problems("train", 50, seed=3)
    assert long_problems("train", 50, seed=3) != long_problems("train", 50, seed=4)


def test_train_and_test_share_no_problem_whatever_the_seeds():
    train = {p.statement for p in long_problems("train", LARGEST_COUNT["train"], 1)}
    test = {p.statement for seed in range(3) for p in long_problems("test", seed=seed)}
    assert len(train) == LARGEST_COUNT["train"]
    assert train.isdisjoint(test)


def test_kinds_come_equally_often_and_sizes_in_their_shares():
    problems = long_problems("train", 1200)
    for size in SIZES:
        part = [p for p in problems if p.metadata["size"] == size.name]
        assert len(part) == 12 * size.share
        assert {size.fewest, size.most} <= {p.metadata["steps"] for p in part} <= set(range(size.fewest, size.most + 1))
    assert all(sum(p.metadata["kind"] == kind for p in problems) == 50 for kind in KINDS)


@pytest.mark.parametrize(("split", "count"), [("test", 0), ("test", 257), ("train", 4097), ("dev", 1)])
def test_a_split_or_count_that_is_not_there_is_refused_with_what_is_allowed(split, count):
    with pytest.raises(ValueError, match=r"allowed.*('train', 'test'|1 to (256|4096))"):
        long_problems(split, count)


def test_the_verifier_takes_the_clean_solution_and_not_what_another_order_gives(tmp_path):
    limits = Limits(seconds=10, memory_mb=1000, scratch=tmp_path)
    for problem in long_problems("test", 40):
        assert verify_math(problem.solution, problem.answer, None, limits).score == 1
        wrong = f"So \\boxed{{{(int(problem.answer) + 1) % MODULUS:02d}}}"
        assert verify_math(wrong, problem.answer, None, limits).score == 0


@given(chains, st.integers(0, 10**6))
def test_a_worked_solution_names_its_orders_keeps_its_form_and_ends_in_an_answer(chain, seed):
    text = worked_solution(chain, random.Random(seed))
    passes = re.findall(r"(?:^By|again by) (\w+)\.", text)
    assert 1 <= len(passes) <= MAX_PASSES
    assert set(passes) <= set(ORDERS)
    assert re.fullmatch(r"\d\d", boxed_answer(text) or "")
    bodies = text.split(" Hm, ")
    assert len(bodies) == len(passes)
    for order, body in zip(passes, bodies, strict=True):
        whole = "".join(chain.labels[i] for i in ORDERS[order](len(chain.operations)))
        written = "".join(re.findall(r" ([a-z]) [+*]\d \d\d", body))
        assert whole == written if body is bodies[-1] else whole.startswith(written)


@given(chains, st.integers(0, 10**6))
def test_a_pass_is_broken_off_only_behind_a_slip(chain, seed):
    text = worked_solution(chain, random.Random(seed))
    for body in text.split(" Hm, ")[:-1]:
        steps = re.findall(r" [a-z] ([+*]\d) (\d\d)", body)
        before = int(re.search(r"\. (\d\d)", body)[1])
        values = [before, *(int(value) for _, value in steps)]
        right = [apply(operation, value) for (operation, _), value in zip(steps, values, strict=False)]
        if len(steps) < len(chain.operations):
            assert right[-1] != values[-1]


def test_a_doubting_author_is_mostly_wrong_and_a_calm_one_mostly_right():
    rng = random.Random(0)
    outcomes = {True: [], False: []}
    for _ in range(2000):
        chain = draw_chain("amber", rng.randint(SIZES[0].fewest, SIZES[-1].most), rng)
        text = worked_solution(chain, rng)
        outcomes["again" in text].append(boxed_answer(text) == f"{chain.answer:02d}")
    calm, doubting = (sum(found) / len(found) for found in (outcomes[False], outcomes[True]))
    assert calm > doubting + 0.1


def test_the_order_asked_for_is_the_one_taken_first():
    rng = random.Random(0)
    for order in ORDERS:
        chain = draw_chain("coral", 6, rng)
        assert worked_solution(chain, rng, order).startswith(f"By {order}.")


def test_a_solution_names_its_method_and_no_other_notion_and_a_statement_names_none():
    forms = [notion_form(name) for name in (*ORDERS, *DISTRACTORS)]
    for problem in long_problems("test", 30):
        assert notions_in_texts(forms, [problem.statement]) == [frozenset()]
        assert set(notions_in_texts(forms, [problem.solution])[0]) == {notion_form(problem.metadata["order"])}


def test_the_warm_start_shows_train_problems_complete_metas_and_hints_that_are_followed():
    examples = warm_start_examples(600, seed=1)
    assert examples == warm_start_examples(600, seed=1)
    hinted = 0
    for i, example in enumerate(examples):
        kind, count, start, steps = re.search(r": (\w+) of (\d\d) from (\d\d): (.*?)\.", example.prompt).groups()
        chain = Chain(kind, int(start), tuple(step[1:] for step in steps.split()))
        assert len(chain.operations) == int(count)
        assert split_of(chain) == "train"
        if i % 6 == 5:
            assert example.prompt == META_TEMPLATE.replace("{{ problem }}", chain.statement)
            assert parse_meta_prediction(example.response).complete
            continue
        hint = re.search(r" Hint: (.*)\.$", example.prompt)
        named = [notion for notion in hint[1].split(", ") if notion in ORDERS] if hint else []
        if named:
            hinted += 1
            assert example.response.startswith(f"By {named[0]}.")
    assert 60 < hinted < 180


def _mean_steps(examples):
    counts = [
        int(re.search(r" of (\d\d) from", example.prompt)[1]) for example in examples if "Solve" in example.prompt
    ]
    return sum(counts) / len(counts)


def test_practice_begins_with_short_chains_and_a_later_stage_has_all_lengths_alike():
    practice = warm_start_examples(1800, seed=0)
    assert _mean_steps(practice[:600]) < 7 < 8 < _mean_steps(practice[1200:]) < 9
    even = warm_start_examples(1800, seed=0, short_first=False)
    assert 9 < _mean_steps(even[:600]) < 10
    assert 9 < _mean_steps(even[1200:]) < 10


def test_batches_of_a_curriculum_keep_the_order_of_its_windows():
    encoded = [([number] * (1 + number % 7), 1) for number in range(64)]
    windows = in_batches(encoded, 2, 0, shuffled=False)
    assert [{ids[0] for batch in windows[first : first + 16] for ids, _ in batch} for first in (0, 16)] == [
        set(range(32)),
        set(range(32, 64)),
    ]
    mixed = in_batches(encoded, 2, 0, shuffled=True)
    assert {ids[0] for batch in mixed[:16] for ids, _ in batch} != set(range(32))
    assert all(len(batch) == 2 for batch in windows + mixed)


@settings(deadline=None)
@given(text=st.text())
def test_any_text_survives_encoding_and_decoding(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_each_word_of_the_world_is_one_token(tokenizer):
    for word in words():
        text = f"boxed{{{word}" if re.fullmatch(r"\d\d", word) else word
        assert tokenizer.convert_tokens_to_string(tokenizer.convert_ids_to_tokens(tokenizer.encode(text))[-1:]) == word
    solution = "By forward. 07 a +8 15 So \\boxed{15}"
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode(solution))[-4:] == ["Ġ15", "ĠSoĠ\\boxed{", "15", "}"]
    assert len(tokenizer.encode(solution)) == 10
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("15}")) == ["1", "5", "}"]


def test_no_word_of_prompts_and_solutions_falls_apart_into_letters(tokenizer):
    for example in warm_start_examples(300, seed=2):
        for text in (example.prompt, example.response):
            letters = re.findall(r"(?<![A-Za-z])[A-Za-z]{2,}", text)
            tokens = tokenizer.convert_ids_to_tokens(tokenizer.encode(text))
            assert sum(len(re.findall("[A-Za-z]{2,}", token)) > 0 for token in tokens) >= len(letters) - 5


def test_solution_template_leaves_no_trace_of_a_hint_that_is_not_there():
    import jinja2

    template = jinja2.Template(SOLUTION_TEMPLATE)
    assert template.render(problem="p.", hint=None) == "Solve: p."
    assert template.render(problem="p.", hint="forward") == "Solve: p. Hint: forward."
