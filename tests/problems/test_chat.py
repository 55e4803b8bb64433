"""Chat templates of every kind that models come with, written by hand, and what prompts and stops are made of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from masa.config import ConfigError, load_config
from masa.model.loading import load_tokenizer
from masa.model.stops import stop_tokens
from masa.problems.chat import ChatFormat, PromptEncodingError, describe_chat, system_role, turn_end
from masa.problems.encoding import encode_prompt

OPEN = "{% for message in messages %}"
CHATML = (
    OPEN + "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Gemma 2: no system role, and the assistant is called model.
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + OPEN
    + "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' "
    "+ message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
# Llama 3.2: today's date, unless it is given.
LLAMA = (
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}"
    "{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "{{ 'Today Date: ' + date_string + '\\n' }}" + CHATML
)
# Qwen 3: an empty thought where thinking is off, and {% generation %}, a tag of transformers.
QWEN = (
    OPEN + "{{ '<|im_start|>' + message['role'] + '\\n' }}{% generation %}{{ message['content'] + '<|im_end|>\\n' }}"
    "{% endgeneration %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
# Loops over pairs of user and assistant, and never looks at a system message.
SWALLOWING = CHATML.replace(OPEN, OPEN + "{% if message['role'] != 'system' %}").replace(
    "{% endfor %}", "{% endif %}{% endfor %}"
)
# A reply is only its text, so that nothing ends a turn.
PLAIN = OPEN + "{{ message['role'] + ': ' + message['content'] }}{% endfor %}"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>"]


def make_tokenizer(template: str, eos: str = "<|endoftext|>") -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, bos_token="<|endoftext|>")
    made.add_special_tokens({"additional_special_tokens": [one for one in SPECIAL if one != eos]})
    made.chat_template = template
    return made


def text_of(template: str, **options: Any) -> str:
    tokenizer = make_tokenizer(template)
    return str(tokenizer.decode(encode_prompt(tokenizer, "1+1", **options)))


def configured(*overrides: str) -> Any:
    return load_config(None, list(overrides))


@pytest.mark.parametrize(
    ("template", "role"),
    [(CHATML, "own"), (GEMMA, "refused"), (SWALLOWING, "swallowed"), (QWEN, "own"), (LLAMA, "own")],
)
def test_no_template_loses_the_system_message(template: str, role: str) -> None:
    assert system_role(make_tokenizer(template), {}) == role
    text = text_of(template, system="Be brief.")
    assert text.count("Be brief.") == 1
    assert text.index("Be brief.") < text.index("1+1")
    if role != "own":
        assert "user\nBe brief.\n\n1+1<" in text


@pytest.mark.parametrize(("template", "does"), [(GEMMA, "refuses a system message"), (SWALLOWING, "leaves a system")])
def test_a_system_message_without_a_place_of_its_own_is_said_once(template: str, does: str) -> None:
    (line,) = describe_chat(make_tokenizer(template), ChatFormat(system={"meta": "Be brief."}))
    assert does in line
    assert "head of the user message" in line
    assert describe_chat(make_tokenizer(template), ChatFormat()) == []
    assert describe_chat(make_tokenizer(CHATML), ChatFormat(system={"meta": "Be brief."})) == []


def test_a_template_that_refuses_every_prompt_is_told() -> None:
    with pytest.raises(PromptEncodingError, match="refuses the prompt: never"):
        text_of("{{ raise_exception('never') }}", system="Be brief.")


def test_the_date_in_a_prompt_is_the_configured_one_whatever_the_day() -> None:
    assert text_of(LLAMA).startswith("Today Date: 01 Jan 2025\n")
    assert text_of(LLAMA, date="2024-07-26").startswith("Today Date: 26 Jul 2024\n")
    assert text_of(LLAMA, arguments={"date_string": "a day"}).startswith("Today Date: a day\n")


@pytest.mark.parametrize("template", ["\n  {% if true %}\n x{% endif %}\n", "  a\n", "{% set f = '%Y' %}\n"])
def test_a_template_with_a_clock_is_rendered_as_it_stands_otherwise(template: str) -> None:
    tokenizer = make_tokenizer(template + "{{ strftime_now('%d/%m/%-d %A %H:%M') }}" + PLAIN)
    text = tokenizer.decode(encode_prompt(tokenizer, "1+1", date="2024-02-09"))
    tokenizer.chat_template = template + "09/02/9 Friday 00:00" + PLAIN
    assert text == tokenizer.decode(encode_prompt(tokenizer, "1+1"))


def test_arguments_reach_the_template() -> None:
    assert text_of(QWEN).endswith("assistant\n")
    assert text_of(QWEN, arguments={"enable_thinking": False}).endswith("<think>\n\n</think>\n\n")
    assert text_of(QWEN, arguments={"enable_thinking": True}) == text_of(QWEN)


@pytest.mark.parametrize(
    ("template", "name", "allowed"),
    [
        (QWEN, "enable_thinkng", r"reads \(enable_thinking\)"),
        (QWEN, "tokenize", r"reads \(enable_thinking\)"),
        (LLAMA, "strftime_now", r"reads \(date_string\)"),
        (CHATML, "enable_thinking", "it reads nothing that could be given"),
    ],
)
def test_an_argument_that_the_template_does_not_read_is_refused(template: str, name: str, allowed: str) -> None:
    found = rf"prompts\.template_arguments: found '{name}', allowed: .*{allowed}"
    with pytest.raises(PromptEncodingError, match=found):
        describe_chat(make_tokenizer(template), ChatFormat(arguments={name: False}))
    if name != "tokenize" and name != "strftime_now" and template is not CHATML:
        assert describe_chat(make_tokenizer(template), ChatFormat(arguments={"enable_thinking": False})) == []


def test_arguments_without_a_template_are_refused() -> None:
    with pytest.raises(
        PromptEncodingError, match=r"found \['enable_thinking'\], allowed with prompts\.chat false: none"
    ):
        describe_chat(make_tokenizer(QWEN), ChatFormat(chat=False, arguments={"enable_thinking": False}))


@pytest.mark.parametrize(
    ("template", "end"), [(CHATML, "<|im_end|>"), (QWEN, "<|im_end|>"), (GEMMA, "<end_of_turn>"), (PLAIN, None)]
)
def test_the_end_of_a_turn_is_the_special_token_behind_a_reply(template: str, end: str | None) -> None:
    tokenizer = make_tokenizer(template)
    found = turn_end(tokenizer, ChatFormat())
    assert (None if found is None else tokenizer.convert_ids_to_tokens(found)) == end
    assert turn_end(tokenizer, ChatFormat(chat=False)) is None


def test_a_base_model_whose_template_ends_turns_otherwise_stops_there_too_and_says_so() -> None:
    tokenizer = make_tokenizer(CHATML, eos="<|endoftext|>")
    ids, notes = stop_tokens(None, tokenizer, configured())
    assert tokenizer.convert_ids_to_tokens(ids) == ["<|endoftext|>", "<|im_end|>"]
    assert len(notes) == 1
    assert "ends an assistant's turn with '<|im_end|>'" in notes[0]
    ids, notes = stop_tokens(None, make_tokenizer(CHATML, eos="<|im_end|>"), configured())
    assert (len(ids), notes) == (1, [])


def test_stop_tokens_of_the_configuration_are_added_to_those_that_are_known() -> None:
    from transformers import GenerationConfig

    tokenizer = make_tokenizer(PLAIN)
    eos = tokenizer.eos_token_id
    ids, _ = stop_tokens(GenerationConfig(eos_token_id=[5, 6]), tokenizer, configured("rollout.stop_token_ids=[7,5]"))
    assert ids == sorted({5, 6, 7, eos})
    with pytest.raises(ConfigError, match=rf"rollout\.stop_token_ids: found 9999, allowed: 0 to {len(tokenizer) - 1}"):
        stop_tokens(None, tokenizer, configured("rollout.stop_token_ids=[9999]"))
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match=r"name one in rollout\.stop_token_ids"):
        stop_tokens(None, tokenizer, configured())


def test_a_system_message_is_for_both_paths_or_for_one() -> None:
    both = configured("prompts.system=Be brief.").prompts.system
    assert (both.solution, both.meta) == ("Be brief.", "Be brief.")
    one = configured("prompts.system.meta=Predict.").prompts.system
    assert (one.solution, one.meta) == (None, "Predict.")
    with pytest.raises(ConfigError, match=r"prompts\.system: found 3, allowed: text for both prompts, or a mapping"):
        configured("prompts.system=3")
    with pytest.raises(ConfigError, match=r"prompts\.system\.metas: unknown key; did you mean prompts\.system\.meta"):
        configured("prompts.system.metas=Predict.")


def test_a_date_is_written_as_yaml_reads_it_and_checked() -> None:
    assert configured("prompts.date=2024-07-26").prompts.date == "2024-07-26"
    with pytest.raises(ConfigError, match=r"prompts\.date: found 'yesterday', allowed: a date as YYYY-MM-DD"):
        configured("prompts.date=yesterday")


def _policy_folder(folder: Path, template: str) -> Path:
    """The embedded policy with another chat template."""
    import shutil

    from masa.embedded import DATA_DIRECTORY

    shutil.copytree(DATA_DIRECTORY, folder, ignore=shutil.ignore_patterns("*.parquet", "*.jsonl"))
    tokenizer = load_tokenizer(configured(f"model.path={folder}").model)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def test_a_run_and_its_dry_run_prompt_each_path_with_its_own_system_message(tmp_path: Path) -> None:
    from masa.dry_run import dry_run
    from masa.preflight import prepare

    folder = _policy_folder(
        tmp_path / "policy", "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + PLAIN
    )
    quickstart = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    overrides = [
        f"model.path={folder}",
        f"run.dir={tmp_path / 'run'}",
        "prompts.system.meta=1+1=2",
        "problems.limit=64",
    ]
    config = load_config(quickstart, overrides)
    prepared = prepare(config)
    assert any("refuses a system message" in note for note in prepared.notes)
    builder, problem = prepared.builder, prepared.train[0]
    plain = prepare(load_config(quickstart, [*overrides, "prompts.system=null"])).builder
    assert builder.prompt_ids(problem, "solution") == plain.prompt_ids(problem, "solution")
    assert len(builder.prompt_ids(problem, "meta")) > len(plain.prompt_ids(problem, "meta"))
    shown = io.StringIO()
    dry_run(config, Console(file=shown, width=300))
    assert "refuses a system message" in shown.getvalue()


def test_an_evaluation_prompts_and_stops_as_a_run_does_and_says_so(tmp_path: Path) -> None:
    from masa.evaluation.running.generation import Policy
    from masa.evaluation.running.settings import Budget

    folder = _policy_folder(tmp_path / "policy", GEMMA)
    tokenizer = load_tokenizer(configured(f"model.path={folder}").model)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    tokenizer.save_pretrained(folder)
    policy = Policy(configured(f"model.path={folder}", "prompts.system=1+1=2", "rollout.engine=transformers"))
    engine: Any = policy.engine(Budget(max_tokens=8, max_meta_tokens=8))
    try:
        assert tokenizer.convert_tokens_to_ids("<end_of_turn>") in engine._stop_ids
        assert ["refuses a system message" in note for note in policy.notes] == [True, False]
        assert "'<end_of_turn>'" in policy.notes[1]
    finally:
        policy.close()
