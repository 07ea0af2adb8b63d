"""Templates against the families' documented formats; configs against what each family is known for."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.models.families import FAMILIES, SLIDING_WINDOW, family_of
from harness.models.nano import VOCABULARY, train_tokenizer

TURNS = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "U1"},
    {"role": "assistant", "content": "A1"},
    {"role": "user", "content": "U2"},
]
# the formats as the makers document them: a system turn is part of the first user turn where the family has none
DOCUMENTED = {
    "qwen": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
    "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n",
    "gemma": "<bos><start_of_turn>user\nS\n\nU1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n"
    "<start_of_turn>user\nU2<end_of_turn>\n<start_of_turn>model\n",
    "mistral": "<s>[INST] S\n\nU1 [/INST] A1</s>[INST] U2 [/INST]",
    "llama": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nU1<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nU2<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_template_writes_the_documented_format(family: str) -> None:
    tokenizer = train_tokenizer(FAMILIES[family], ["some text"], 300)
    assert tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True) == DOCUMENTED[family]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_nano_model_has_about_a_million_parameters(family: str) -> None:
    model = AutoModelForCausalLM.from_config(FAMILIES[family].nano_config(VOCABULARY))
    assert 0.8e6 <= model.num_parameters() <= 1.2e6


@pytest.mark.parametrize("family", list(FAMILIES))
def test_queries_share_keys_and_heads_have_a_size_that_vllm_takes(family: str) -> None:
    config = FAMILIES[family].nano_config(VOCABULARY)
    assert config.num_key_value_heads < config.num_attention_heads
    size = config.to_dict().get("head_dim") or config.hidden_size // config.num_attention_heads
    assert size in (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_ids_in_the_config_are_those_of_the_tokenizer(family: str) -> None:
    config = FAMILIES[family].nano_config(VOCABULARY)
    tokenizer = train_tokenizer(FAMILIES[family], ["some text"], 300)
    assert (config.pad_token_id, config.eos_token_id, config.bos_token_id) == (
        tokenizer.pad_token_id,
        tokenizer.eos_token_id,
        tokenizer.bos_token_id,
    )


def test_qwen_is_tied_with_biases_on_attention() -> None:
    model = AutoModelForCausalLM.from_config(FAMILIES["qwen"].nano_config(VOCABULARY))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.model.layers[0].self_attn.q_proj.bias is not None


def test_gemma_has_its_caps_and_slides_in_every_other_layer() -> None:
    config = FAMILIES["gemma"].nano_config(VOCABULARY)
    assert (config.attn_logit_softcapping, config.final_logit_softcapping) == (50.0, 30.0)
    assert config.layer_types == ["sliding_attention", "full_attention"]
    assert config.sliding_window == SLIDING_WINDOW
    assert config.query_pre_attn_scalar == config.head_dim
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    with torch.no_grad():
        model.model.norm.weight.fill_(1e4)
        logits = model(torch.tensor([[2, 5, 9]])).logits
    assert 29.9 < logits.abs().max() <= 30.0


def test_mistral_is_untied_and_its_window_hides_what_is_far() -> None:
    config = FAMILIES["mistral"].nano_config(VOCABULARY)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    reach = config.num_hidden_layers * SLIDING_WINDOW
    ids = torch.randint(5, VOCABULARY, (1, reach + 20))
    other = ids.clone()
    other[0, 0] = 4
    with torch.no_grad():
        moved = (model(ids).logits - model(other).logits).abs().amax(-1)[0]
    assert moved[SLIDING_WINDOW - 1] > 0
    assert moved[reach:].max() == 0


def test_a_family_is_found_by_the_type_of_a_checkpoint() -> None:
    assert family_of("gemma2") is FAMILIES["gemma"]
    assert family_of("llama") is FAMILIES["llama"]
    assert family_of("gpt2") is None


def test_a_llama_has_no_window_no_biases_and_a_head_of_its_own() -> None:
    config = FAMILIES["llama"].nano_config(VOCABULARY)
    model = AutoModelForCausalLM.from_config(config)
    assert getattr(config, "sliding_window", None) is None
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    assert model.model.layers[0].self_attn.q_proj.bias is None


def test_llama_3s_template_is_not_given_to_other_makers_llamas() -> None:
    own = train_tokenizer(FAMILIES["llama"], ["some text"], 300).get_vocab()
    other = train_tokenizer(FAMILIES["qwen"], ["some text"], 300).get_vocab()
    assert FAMILIES["llama"].suits(own)
    assert not FAMILIES["llama"].suits(other)
    assert FAMILIES["mistral"].suits(other)
