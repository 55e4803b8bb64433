"""A Qwen2 in a GGUF file, small enough for tests."""

from pathlib import Path
from typing import Any

import numpy as np
from transformers.convert_slow_tokenizer import bytes_to_unicode

HIDDEN, LAYERS, HEADS, MLP = 32, 1, 2, 64
END = "<|im_end|>"


def write_gguf(path: Path, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Write a byte-level policy with random matrices in Q8_0; returns the dequantised embeddings and first matrix."""
    import gguf

    single = list(bytes_to_unicode().values())
    letters = [*single, single[0] + single[1], END]
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(1024)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(letters)
    writer.add_token_types([gguf.TokenType.NORMAL] * (len(letters) - 1) + [gguf.TokenType.CONTROL])
    writer.add_token_merges([f"{single[0]} {single[1]}"])
    for add in (writer.add_eos_token_id, writer.add_pad_token_id, writer.add_bos_token_id):
        add(len(letters) - 1)

    random = np.random.default_rng(seed)
    written: dict[str, np.ndarray] = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        kind: Any = gguf.GGMLQuantizationType.Q8_0
        values = gguf.quantize(random.normal(scale=0.1, size=(rows, columns)).astype(np.float32), kind)
        writer.add_tensor(name, values, raw_dtype=kind)
        written[name] = gguf.dequantize(values, kind)

    def vector(name: str, value: float, size: int = HIDDEN) -> None:
        writer.add_tensor(name, np.full(size, value, np.float32))

    matrix("token_embd.weight", len(letters), HIDDEN)
    vector("output_norm.weight", 1.0)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v"):
            matrix(f"{block}.{name}.weight", HIDDEN, HIDDEN)
            vector(f"{block}.{name}.bias", 0.0)
        matrix(f"{block}.attn_output.weight", HIDDEN, HIDDEN)
        matrix(f"{block}.ffn_gate.weight", MLP, HIDDEN)
        matrix(f"{block}.ffn_up.weight", MLP, HIDDEN)
        matrix(f"{block}.ffn_down.weight", HIDDEN, MLP)
        vector(f"{block}.attn_norm.weight", 1.0)
        vector(f"{block}.ffn_norm.weight", 1.0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return written
