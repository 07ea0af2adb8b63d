"""How a vLLM engine is started in this process, run and stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.api import ScorerOptions
from harness.planning.memory import ANSWERS_BYTES, SEQUENCES_PER_STEP
from harness.score.checkpoint import Checkpoint

TOKENS_PER_STEP = 2048
"""The V1 runner makes logits of a whole step, twice, and profiling does not see them: 2,048 x 262k is 4.3 GB."""
KV_BLOCK = 32
"""Tokens per block on a CPU, the fewest vLLM's attention takes there: only whole blocks of a prompt are shared."""


def arguments(opened: Checkpoint, options: ScorerOptions, max_length: int) -> dict[str, Any]:
    """Return the arguments of an engine for this checkpoint."""
    return {
        "skip_tokenizer_init": True,
        "dtype": options.dtype,
        "seed": options.seed,
        "trust_remote_code": options.trust_remote_code,
        "max_model_len": max_length + 1,
        "max_num_batched_tokens": TOKENS_PER_STEP,
        "max_num_seqs": SEQUENCES_PER_STEP,
        "enable_prefix_caching": True,
        "enforce_eager": True,  # prompts only: there is no decoding to speed up
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **_memory(opened, options, max_length),
        **_whole_prompts(options, max_length),
    }


def _whole_prompts(options: ScorerOptions, max_length: int) -> dict[str, Any]:
    """Return what keeps a prompt in one step where a CPU samples answers.

    After part of a prompt vLLM sets the generator of its answer back, which that of a CPU refuses.
    """
    import torch

    if torch.cuda.is_available() or not options.max_new_tokens:
        return {}
    return {"enable_chunked_prefill": False, "max_num_batched_tokens": max(TOKENS_PER_STEP, max_length + 1)}


def _memory(opened: Checkpoint, options: ScorerOptions, max_length: int) -> dict[str, Any]:
    """Return the memory of the engine: a KV cache for one step, or for answers, on CPU; nine tenths of a GPU's free."""
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return {"gpu_memory_utilization": 0.9 * free / total}
    config = opened.weights.config
    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    width = 2 * config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * head_size
    width *= 4 if options.dtype == "float32" else 2
    size = (TOKENS_PER_STEP + max_length + SEQUENCES_PER_STEP * KV_BLOCK) * width
    if options.max_new_tokens:  # each answer keeps its place to its end; without room vLLM drops some and starts anew
        size = max(size, min(SEQUENCES_PER_STEP * (max_length + KV_BLOCK) * width, ANSWERS_BYTES))
    # VLLM_CPU_KVCACHE_SPACE, where the user sets it, goes before this
    return {"kv_cache_memory_bytes": size, "block_size": KV_BLOCK}


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
