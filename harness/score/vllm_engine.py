"""How a vLLM engine is started in this process, run and stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.api import ScorerOptions
from harness.score.checkpoint import Checkpoint

TOKENS_PER_STEP = 2048
"""The V1 runner makes logits of a whole step, twice, and profiling does not see them: 2,048 x 262k is 4.3 GB."""
SEQUENCES_PER_STEP = 64
ANSWERS_IN_CACHE = 2**30
"""Most bytes of the KV cache of answers on a CPU."""
KV_BLOCK = 32
"""Tokens per block on a CPU, the fewest vLLM's attention takes there: only whole blocks of a prompt are shared."""


def arguments(opened: Checkpoint, options: ScorerOptions, max_length: int) -> dict[str, Any]:
    """Return the arguments of an engine for this checkpoint.

    Where it samples on a CPU, prompts are computed whole: after a part of one vLLM turns the seeded generator back,
    which a CPU's cannot.
    """
    whole = options.max_new_tokens > 0 and not _on_gpu()
    return {
        "skip_tokenizer_init": True,
        "dtype": options.dtype,
        "seed": options.seed,
        "trust_remote_code": options.trust_remote_code,
        "max_model_len": max_length + 1,
        "max_num_batched_tokens": max(TOKENS_PER_STEP, max_length + 1) if whole else TOKENS_PER_STEP,
        **({"enable_chunked_prefill": False} if whole else {}),
        "max_num_seqs": SEQUENCES_PER_STEP,
        "enable_prefix_caching": True,
        "enforce_eager": True,  # prompts only: there is no decoding to speed up
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **_memory(opened, options, max_length),
    }


def _memory(opened: Checkpoint, options: ScorerOptions, max_length: int) -> dict[str, Any]:
    """Return how much memory the engine may take: a small KV cache on CPU, nine tenths of what is free on a GPU."""
    import torch

    if _on_gpu():
        free, total = torch.cuda.mem_get_info()
        return {"gpu_memory_utilization": 0.9 * free / total}
    config = opened.weights.config
    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    width = 2 * config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * head_size
    tokens = TOKENS_PER_STEP + max_length + SEQUENCES_PER_STEP * KV_BLOCK
    bytes_of_token = width * (4 if options.dtype == "float32" else 2)
    if options.max_new_tokens:  # every sequence of a step grows to its end; one that finds no room is computed again
        tokens = max(tokens, min(SEQUENCES_PER_STEP * (max_length + KV_BLOCK), ANSWERS_IN_CACHE // bytes_of_token))
    # VLLM_CPU_KVCACHE_SPACE, where the user sets it, goes before this
    return {"kv_cache_memory_bytes": tokens * bytes_of_token, "block_size": KV_BLOCK}


def _on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def register_in_process(opened: Checkpoint) -> None:
    """Have vLLM look at the model class in this process.

    It would start a Python of its own to do so: eight seconds more, and in that one a broken torchvision is not hidden.
    """
    from vllm import ModelRegistry

    for name in opened.weights.config.get("architectures") or []:
        model = ModelRegistry.models.get(name)
        if model is not None:
            ModelRegistry.register_model(name, model.load_model_cls())


@contextmanager
def eager_on_cpu() -> Iterator[None]:
    """Run what vLLM decorates with torch.compile as it stands, on CPU: compiling takes 23 s, and saves 0.8 s in 4."""
    import torch

    if torch.cuda.is_available():
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def free() -> None:
    """Give back what an engine held, so that another can start in this process."""
    from vllm.distributed import cleanup_dist_env_and_memory

    cleanup_dist_env_and_memory()  # unfreezes and collects, half a second: once is enough
