"""GaPO's margins: similarity of texts against rouge-score and a hand-made BERTScore, clamp, limits, speed."""

import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from harness_plugins.gapo import GaPO
from harness_plugins.simpo import SimPO
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import HarnessError, Logps, PairLogps

WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", "far", "and", "red", "fox"]
texts = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)


def frame(*pairs: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["chosen", "rejected"])


def similarity(kind: Any, *pairs: tuple[str, str], **options: Any) -> np.ndarray:
    return 1 - GaPO(similarity=kind, mapping="one_minus", normalise="none", **options).prepare(frame(*pairs))["margin"]


@settings(max_examples=60)
@given(texts, texts)
def test_each_rouge_is_rouge_scores_own(chosen: str, rejected: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False).score(chosen, rejected)
    for kind, score in theirs.items():
        assert similarity(kind, (chosen, rejected))[0] == pytest.approx(score.fmeasure, abs=1e-12)


def test_case_and_punctuation_do_not_count() -> None:
    for kind in ("jaccard", "rouge1", "rouge2", "rougeL"):
        assert similarity(kind, ("The cat, sat!", "the CAT sat"))[0] == pytest.approx(1.0)


def test_a_text_without_latin_tokens_has_similarity_0_and_is_counted_as_clamped() -> None:
    for kind in ("jaccard", "rouge1", "rouge2", "rougeL"):
        prepared = GaPO(similarity=kind).prepare(frame(("你好", "再见"), ("a b", "a b")))
        assert prepared["clamped"].tolist() == [1.0, 0.0]


def test_the_floor_caps_the_gap_before_the_mean_is_taken() -> None:
    pairs = frame(("a b", "c d"), ("a b", "a c"))  # EF 0 and 1/2
    margin = GaPO(floor=0.01).prepare(pairs)["margin"]
    gaps = np.array([np.log(100), np.log(2)])
    np.testing.assert_allclose(margin, 0.3 * gaps / gaps.mean())
    np.testing.assert_allclose(GaPO(floor=0.01, normalise="none").prepare(pairs)["margin"], gaps)


def test_a_bounded_mapping_needs_no_floor() -> None:
    prepared = GaPO(mapping="one_minus", normalise="none").prepare(frame(("a b", "c d"), ("a b", "a c")))
    assert prepared["margin"].tolist() == [1.0, 0.5]
    assert prepared["clamped"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("normalise", ["add", "scale"])
@pytest.mark.parametrize("mapping", ["one_minus", "one_minus_square", "one_minus_sqrt", "log"])
def test_the_mean_margin_over_the_training_set_is_gamma(mapping: Any, normalise: Any) -> None:
    rng = random.Random(3)
    pairs = [(" ".join(rng.choices(WORDS, k=9)), " ".join(rng.choices(WORDS, k=6))) for _ in range(40)]
    margin = GaPO(mapping=mapping, normalise=normalise, gamma=0.7).prepare(frame(*pairs))["margin"]
    assert margin.mean() == pytest.approx(0.7)


@pytest.mark.parametrize("normalise", ["add", "scale"])
def test_with_identical_texts_throughout_every_margin_is_gamma(normalise: Any) -> None:
    margin = GaPO(normalise=normalise).prepare(frame(("a b", "a b"), ("c d e", "c d e")))["margin"]
    assert margin.tolist() == [0.3, 0.3]


@pytest.mark.parametrize(("units", "gamma"), [("ratio", 0.3 * 10), ("reward", 0.3)])
def test_gapo_with_equal_similarities_is_simpo(units: Any, gamma: float) -> None:
    loss = GaPO(margin_units=units)
    margin = torch.from_numpy(loss.prepare(frame(("a b", "a c"), ("d e", "d f")))["margin"])
    mask = torch.ones(2, 3, dtype=torch.bool)
    chosen, rejected = (Logps(token=-torch.rand(2, 3, dtype=torch.float64), mask=mask) for _ in range(2))
    pairs = PairLogps(chosen=chosen, rejected=rejected, columns={"margin": margin})
    torch.testing.assert_close(loss(pairs), SimPO(beta=10.0, gamma=gamma)(pairs), rtol=1e-10, atol=1e-12)


def test_rouge_l_of_512_pairs_of_300_words_takes_under_3_seconds_of_cpu() -> None:
    rng = random.Random(0)
    pairs = [tuple(" ".join(rng.choices(WORDS, k=300)) for _ in range(2)) for _ in range(512)]
    start = time.process_time()  # of this process: others on the machine do not count
    GaPO().prepare(frame(*pairs))
    assert time.process_time() - start < 3


def test_a_pair_that_comes_often_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = GaPO._overlap

    def counted(loss: GaPO, texts: Any) -> list[float]:
        seen.append(len(texts))
        return real(loss, texts)

    monkeypatch.setattr(GaPO, "_overlap", counted)
    prepared = GaPO().prepare(frame(*[("a b", "a c"), ("a b", "d c")] * 50))
    assert seen == [2]
    assert len(prepared["margin"]) == 100
    assert len(set(prepared["margin"])) == 2


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT with a WordPiece vocabulary of a few words, made on the spot."""
    pytest.importorskip("bert_score")
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "."]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def by_hand(encoder: Path, chosen: str, rejected: str) -> tuple[float, float, float]:
    """P, R, F1 from the last hidden states; [CLS] and [SEP] may be matched but carry no weight."""
    from transformers import BertModel, BertTokenizer

    tokenizer, model = BertTokenizer.from_pretrained(encoder), BertModel.from_pretrained(encoder).eval()
    units = []
    with torch.no_grad():
        for text in (chosen, rejected):
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            units.append(hidden / hidden.norm(dim=-1, keepdim=True))
    cosine = units[1] @ units[0].T  # (candidate = rejected, reference = chosen)
    precision = cosine.max(1).values[1:-1].mean().item()
    recall = cosine.max(0).values[1:-1].mean().item()
    return precision, recall, 2 * precision * recall / (precision + recall)


def test_bertscore_is_the_greedy_match_of_the_encoders_hidden_states(encoder: Path) -> None:
    pairs = [("the cat sat on a mat", "a dog ran"), ("red fox", "the red fox ran far and far"), ("cats .", "cats .")]
    expected = np.array([by_hand(encoder, *pair) for pair in pairs])
    assert expected[2].tolist() == pytest.approx([1.0, 1.0, 1.0])
    for column, kind in enumerate(("bertscore_p", "bertscore_r", "bertscore_f1")):
        got = similarity(kind, *pairs, encoder=str(encoder))
        np.testing.assert_allclose(got, expected[:, column], atol=1e-5)
    assert abs(expected[0, 0] - expected[0, 1]) > 1e-3  # a mix-up of P and R would show


def test_bertscore_takes_texts_that_are_empty_or_longer_than_the_window(encoder: Path) -> None:
    prepared = GaPO(similarity="bertscore_f1", encoder=str(encoder)).prepare(
        frame(("", "the cat"), ("the cat " * 100, "the cat " * 90), ("the cat", " "))
    )
    assert prepared["clamped"].tolist() == [1.0, 0.0, 1.0]
    assert np.isfinite(prepared["margin"]).all()


def test_an_encoder_that_is_not_there_is_named(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"encoder got '.*absent', which cannot be loaded"):
        similarity("bertscore_p", ("a", "b"), encoder=str(tmp_path / "absent"))


def test_bertscore_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "bert_score"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(HarnessError, match=r"pip install preference-harness\[bertscore\]"):
        similarity("bertscore_p", ("a", "b"))
