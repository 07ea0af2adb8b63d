"""The vLLM scorer: prompt log-probs of one in-process engine, weights swapped in place between checkpoints."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import (
    Generated,
    GenerateRequest,
    HarnessError,
    OpenScorer,
    Sampling,
    ScoreRequest,
    ScorerOptions,
    ScorerSource,
    hookimpl,
)
from harness.run_folder.shown import environment
from harness.score.checkpoint import (
    Checkpoint,
    read_checkpoint,
    require_log_probs,
    require_same_architecture,
    require_scorable,
    require_window,
)
from harness.score.vllm_engine import arguments, eager_on_cpu, free, register_in_process
from harness.score.vllm_installed import brief, import_trouble, untried, version, why_not


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
        with eager_on_cpu():
            self.engine.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        self.current = checkpoint

    def score(self, requests: Sequence[ScoreRequest]) -> np.ndarray:
        """Return the summed log-prob of each response in nats, (len(requests),) float64, in the order asked."""
        return np.array([each.sum() for each in self.token_log_probs(requests)], dtype=np.float64)

    def token_log_probs(self, requests: Sequence[ScoreRequest]) -> list[np.ndarray]:
        """Return the log-probs of each response's tokens in nats, (tokens,) float64 each, in the order asked."""
        require_scorable(requests, self.max_length, self.opened)
        # responses to one prompt stand side by side: the second finds the prompt in the cache
        distinct = sorted(set(requests), key=lambda request: (request.prompt, request.response))
        self._forget()
        found = self._log_probs(distinct, share_prompts=True)
        require_log_probs(np.array([each.sum() for each in found.values()], dtype=np.float64), self.current)
        return [found[request] for request in requests]

    def generate(self, requests: Sequence[GenerateRequest], sampling: Sampling) -> list[Generated]:
        """Return an answer per request, in the order asked; see `OpenGenerator.generate`."""
        from vllm import SamplingParams

        require_window(requests, sampling, self.max_length)
        self._forget()
        asked = [
            SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_new_tokens,
                seed=request.seed,
                stop_token_ids=list(sampling.stop),
                ignore_eos=True,  # what ends a turn is said by the template, not by the model's configuration
                logprobs=0,
                detokenize=False,
            )
            for request in requests
        ]
        prompts = [{"prompt_token_ids": list(request.prompt)} for request in requests]
        with eager_on_cpu():
            outputs = self.engine.generate(prompts, asked, use_tqdm=False) if prompts else []
        assert len(outputs) == len(requests), f"vLLM gave {len(outputs)} outputs for {len(requests)} prompts"
        return [_generated(output.outputs[0]) for output in outputs]

    def _log_probs(self, distinct: Sequence[ScoreRequest], *, share_prompts: bool) -> dict[ScoreRequest, np.ndarray]:
        """Return the log-probs of each response; with `share_prompts` a prompt's whole blocks are computed once.

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
        with eager_on_cpu():
            outputs = self.engine.generate(prompts, sampling, use_tqdm=False) if prompts else []
        assert len(outputs) == len(distinct), f"vLLM gave {len(outputs)} outputs for {len(distinct)} prompts"
        hit = [request for output, request in zip(outputs, distinct, strict=True) if not _is_whole(output, request)]
        if hit and not share_prompts:
            raise HarnessError(
                f"vLLM answered {len(hit)} responses from its prefix cache, expected none with "
                "skip_reading_prefix_cache: their log-probs are not computed; pass --scorer transformers"
            )
        again = self._log_probs(hit, share_prompts=False) if hit else {}
        return {
            request: again[request] if request in again else _response_log_probs(output, request)
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
            free()


def _has_head(model: Any) -> bool:
    """Say whether vLLM's model has an output head by name, its own or the embedding's second name."""
    return any(name == "lm_head" for name, _ in model.named_modules(remove_duplicate=False))


def _is_whole(output: Any, request: ScoreRequest) -> bool:
    """Return whether the position that predicts the first token of the response was computed, not cached."""
    return (output.num_cached_tokens or 0) < len(request.prompt)


def _response_log_probs(output: Any, request: ScoreRequest) -> np.ndarray:
    """Return the log-probs of the response's tokens in nats, from the END of the prompt's log-probs.

    A cache hit may shorten the list at its front.
    """
    flat, response = output.prompt_logprobs, request.response
    positions = flat.start_indices[-len(response) :]
    tokens = tuple(flat.token_ids[position] for position in positions)
    assert tokens == response, "vLLM's log-probs belong to other tokens than were asked for"
    return np.array([flat.logprobs[position] for position in positions], dtype=np.float64)


def _generated(answer: Any) -> Generated:
    tokens = tuple(answer.token_ids)
    log_probs = [place[token].logprob for place, token in zip(answer.logprobs, tokens, strict=True)]
    return Generated(tokens=tokens, finish=answer.finish_reason, log_probs=np.array(log_probs, dtype=np.float64))


def open_vllm(checkpoint: Path, options: ScorerOptions) -> OpenScorer:
    """Start an engine in this process with the weights of `checkpoint`."""
    reason = import_trouble()
    if reason is not None:
        raise HarnessError(f"scorer 'vllm' cannot run: {reason}; or choose another with --scorer transformers")
    opened = read_checkpoint(checkpoint, options.trust_remote_code)
    import torch
    from vllm import LLM, __version__

    max_length = min(options.max_length, opened.weights.config.get("max_position_embeddings", options.max_length))

    settings = {"dtype": options.dtype, "vllm": __version__} | environment(("VLLM_",))
    set_num_threads = torch.set_num_threads
    try:
        register_in_process(opened)
        gc.freeze()  # what is there stays: vLLM collects several times at its start, and unfreezes when it shuts down
        with eager_on_cpu():
            engine = LLM(str(checkpoint), **arguments(opened, options, max_length))
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
        free()
        if isinstance(error, HarnessError):
            raise
        raise HarnessError(
            f"vLLM could not open {checkpoint}: {brief(error)}; or choose --scorer transformers"
        ) from error
    finally:
        torch.set_num_threads = set_num_threads  # the CPU worker replaces it by one that does nothing
    return live


@hookimpl
def harness_scorers() -> list[ScorerSource]:
    """Return the vLLM scorer."""
    return [
        ScorerSource(name="vllm", version=version, why_not=why_not, untried=untried, generates=True, open=open_vllm)
    ]
