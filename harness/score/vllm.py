"""The vLLM scorer: prompt log-probs of one in-process engine, weights swapped in place between checkpoints."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import HarnessError, OpenScorer, ScoreRequest, ScorerOptions, ScorerSource, hookimpl
from harness.score.checkpoint import (
    Checkpoint,
    read_checkpoint,
    require_log_probs,
    require_same_architecture,
    require_scorable,
)
from harness.score.vllm_installed import brief, import_trouble, untried, version, why_not

TOKENS_PER_STEP = 2048
"""The V1 runner makes logits of a whole step, twice, and profiling does not see them: 2,048 x 262k is 4.3 GB."""
SEQUENCES_PER_STEP = 64
KV_BLOCK = 32
"""Tokens per block on a CPU, the fewest vLLM's attention takes there: only whole blocks of a prompt are shared."""


@dataclass(kw_only=True)
class VllmScorer:
    """A live vLLM engine that scores and takes other weights of its architecture."""

    opened: Checkpoint
    """What the engine was started with: every later checkpoint must match it."""
    current: Path
    max_length: int
    engine: Any
    trust_remote_code: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    """What a record should keep of the set-up of the engine."""

    def load(self, checkpoint: Path) -> None:
        """Swap in the weights of `checkpoint`; see `OpenScorer.load`."""
        new = read_checkpoint(checkpoint, self.trust_remote_code)
        require_same_architecture(self.opened, new)
        (has_head,) = self.engine.apply_model(_has_head)
        head = new.weights.head
        # A tied head is not stored. Left out, as when vLLM reloads by path, the old one stays without a word; models
        # whose code reads the embedding instead (Gemma) refuse it.
        weights = (item for item in new.tensors() if has_head or item[0] != head)
        with _eager_on_cpu():
            self.engine.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        self.current = checkpoint

    def score(self, requests: Sequence[ScoreRequest]) -> np.ndarray:
        """Return the summed log-prob of each response in nats, (len(requests),) float64, in the order asked."""
        require_scorable(requests, self.max_length, self.opened)
        # responses to one prompt stand side by side: the second finds the prompt in the cache
        distinct = sorted(set(requests), key=lambda request: (request.prompt, request.response))
        self._forget()
        sums = self._sums(distinct, share_prompts=True)
        require_log_probs(np.array(list(sums.values()), dtype=np.float64), self.current)
        return np.array([sums[request] for request in requests], dtype=np.float64)

    def _sums(self, distinct: Sequence[ScoreRequest], *, share_prompts: bool) -> dict[ScoreRequest, float]:
        """Return the summed log-prob of each response; with `share_prompts` a prompt's whole blocks are computed once.

        Cached positions have no log-probs (vLLM gives uninitialised memory). Where two responses begin alike, a hit
        reaches into the second: that one is scored again, without the cache.
        """
        from vllm import SamplingParams

        sampling = SamplingParams(
            max_tokens=1,
            prompt_logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            temperature=0,
            skip_reading_prefix_cache=not share_prompts,
        )
        prompts = [{"prompt_token_ids": [*request.prompt, *request.response]} for request in distinct]
        with _eager_on_cpu():
            outputs = self.engine.generate(prompts, sampling, use_tqdm=False) if prompts else []
        assert len(outputs) == len(distinct), f"vLLM gave {len(outputs)} outputs for {len(distinct)} prompts"
        hit = [request for output, request in zip(outputs, distinct, strict=True) if not _is_whole(output, request)]
        if hit and not share_prompts:
            raise HarnessError(
                f"vLLM answered {len(hit)} responses from its prefix cache, expected none with "
                "skip_reading_prefix_cache: their log-probs are not computed; pass --scorer transformers"
            )
        again = self._sums(hit, share_prompts=False) if hit else {}
        return {
            request: again[request] if request in again else _response_sum(output, request)
            for output, request in zip(outputs, distinct, strict=True)
        }

    def _forget(self) -> None:
        """Empty the prefix cache: what it holds belongs to other weights, or to whole sequences."""
        if not self.engine.reset_prefix_cache():
            raise HarnessError(f"vLLM kept its prefix cache while scoring {self.current}; pass --scorer transformers")

    def close(self) -> None:
        """Stop the engine and free its memory, so that another can start in this process."""
        if self.engine is not None:
            self.engine.llm_engine.engine_core.shutdown()
            self.engine = None
            _free()


def _has_head(model: Any) -> bool:
    """Say whether vLLM's model has an output head by name, its own or the embedding's second name."""
    return any(name == "lm_head" for name, _ in model.named_modules(remove_duplicate=False))


def _is_whole(output: Any, request: ScoreRequest) -> bool:
    """Return whether the position that predicts the first token of the response was computed, not cached."""
    return (output.num_cached_tokens or 0) < len(request.prompt)


def _response_sum(output: Any, request: ScoreRequest) -> float:
    """Return the summed log-prob of the response in nats, from the END of the prompt's log-probs.

    A cache hit may shorten the list at its front.
    """
    flat, response = output.prompt_logprobs, request.response
    positions = flat.start_indices[-len(response) :]
    tokens = tuple(flat.token_ids[position] for position in positions)
    assert tokens == response, "vLLM's log-probs belong to other tokens than were asked for"
    return float(np.sum([flat.logprobs[position] for position in positions], dtype=np.float64))


def open_vllm(checkpoint: Path, options: ScorerOptions) -> OpenScorer:
    """Start an engine in this process with the weights of `checkpoint`."""
    reason = import_trouble()
    if reason is not None:
        raise HarnessError(f"scorer 'vllm' cannot run: {reason}; or choose another with --scorer transformers")
    opened = read_checkpoint(checkpoint, options.trust_remote_code)
    import torch
    from vllm import LLM, __version__

    max_length = min(options.max_length, opened.weights.config.get("max_position_embeddings", options.max_length))

    settings = {"dtype": options.dtype, "vllm": __version__} | {
        name: os.environ[name] for name in sorted(os.environ) if name.startswith("VLLM_")
    }
    set_num_threads = torch.set_num_threads
    try:
        _register_in_process(opened)
        gc.freeze()  # what is there stays: vLLM collects several times at its start, and unfreezes when it shuts down
        with _eager_on_cpu():
            engine = LLM(str(checkpoint), **_arguments(opened, options, max_length))
        live = VllmScorer(
            opened=opened,
            current=checkpoint,
            max_length=max_length,
            engine=engine,
            trust_remote_code=options.trust_remote_code,
            settings=settings,
        )
        # Some kernels find only when they run that a shape is not for them.
        live.score([ScoreRequest(prompt=(0,), response=(0,))])
    except Exception as error:  # vLLM raises many kinds; each means that it cannot serve this checkpoint here
        _free()
        if isinstance(error, HarnessError):
            raise
        raise HarnessError(
            f"vLLM could not open {checkpoint}: {brief(error)}; or choose --scorer transformers"
        ) from error
    finally:
        torch.set_num_threads = set_num_threads  # the CPU worker replaces it by one that does nothing
    return live


def _arguments(opened: Checkpoint, options: ScorerOptions, max_length: int) -> dict[str, Any]:
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
    }


def _memory(opened: Checkpoint, options: ScorerOptions, max_length: int) -> dict[str, Any]:
    """Return how much memory the engine may take: a small KV cache on CPU, nine tenths of what is free on a GPU."""
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return {"gpu_memory_utilization": 0.9 * free / total}
    config = opened.weights.config
    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    width = 2 * config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * head_size
    tokens = TOKENS_PER_STEP + max_length + SEQUENCES_PER_STEP * KV_BLOCK
    # VLLM_CPU_KVCACHE_SPACE, where the user sets it, goes before this
    size = tokens * width * (4 if options.dtype == "float32" else 2)
    return {"kv_cache_memory_bytes": size, "block_size": KV_BLOCK}


def _register_in_process(opened: Checkpoint) -> None:
    """Have vLLM look at the model class in this process.

    It would start a Python of its own to do so: eight seconds more, and in that one a broken torchvision is not hidden.
    """
    from vllm import ModelRegistry

    for name in opened.weights.config.get("architectures") or []:
        model = ModelRegistry.models.get(name)
        if model is not None:
            ModelRegistry.register_model(name, model.load_model_cls())


@contextmanager
def _eager_on_cpu() -> Iterator[None]:
    """Run what vLLM decorates with torch.compile as it stands, on CPU: compiling takes 23 s, and saves 0.8 s in 4."""
    import torch

    if torch.cuda.is_available():
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _free() -> None:
    from vllm.distributed import cleanup_dist_env_and_memory

    cleanup_dist_env_and_memory()  # unfreezes and collects, half a second: once is enough


@hookimpl
def harness_scorers() -> list[ScorerSource]:
    """Return the vLLM scorer."""
    return [ScorerSource(name="vllm", version=version, why_not=why_not, untried=untried, open=open_vllm)]
