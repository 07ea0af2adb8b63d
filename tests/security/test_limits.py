"""Archives and JSON from others are read up to a size and a depth; what is beyond is refused in one line."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from stub_endpoint import stub

from harness.api import HarnessError, LoadOptions
from harness.data.sources import load_any
from harness.judge import limited_client
from harness.planning.run_toml import read_run
from harness.run_folder import limits
from harness.run_folder.limits import DEEPEST, json_of
from harness.run_folder.manifest import read_manifest
from harness.run_folder.noise_floor import read_noise
from harness.run_folder.store import read_record
from harness.study.study_file import read_study
from harness.study.write import unpack

DEEP = {"a list": "[" * 100_000 + "]" * 100_000, "objects": '{"a":' * 5_000 + "1" + "}" * 5_000}
READERS: dict[str, Callable[[Path], object]] = {
    "record.json": read_record,
    "manifest.json": read_manifest,
    "gate.json": read_noise,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize("name", READERS)
def test_a_file_of_a_run_that_is_nested_too_deeply_is_refused_in_one_line(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(HarnessError, match=f"{name}: got .*more than {DEEPEST} levels deep") as caught:
        READERS[name](tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_run, read_study])
def test_a_run_file_or_study_that_is_nested_too_deeply_is_refused(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(HarnessError, match="not valid TOML"):
        read(tmp_path / "deep.toml")


def test_json_may_be_as_deep_as_the_limit_and_no_deeper() -> None:
    assert json_of("[" * DEEPEST + "]" * DEEPEST)
    with pytest.raises(ValueError, match="levels deep"):
        json_of("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1))


@pytest.mark.parametrize("name", READERS)
def test_a_file_of_a_run_that_is_too_large_is_not_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "JSON_BYTES", 10)
    (tmp_path / name).write_text(json.dumps({"a": "b" * 20}))
    with pytest.raises(HarnessError, match=f"{name}: got .*29 bytes, expected at most 10"):
        READERS[name](tmp_path)


def _zst(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", _zst)]
)
def test_a_data_file_that_swells_beyond_measure_is_refused(
    suffix: str, pack: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNPACKED_BYTES", 2**20)
    monkeypatch.setattr(limits, "UNPACKED_RATIO", 10)
    path = tmp_path / f"pairs.jsonl.{suffix}"
    path.write_bytes(pack(b" " * 2**22))
    with pytest.raises(HarnessError, match=rf"not a readable \.{suffix} file.*unpack to more than 1,048,576"):
        load_any(str(path), LoadOptions(), {})


def _packed(folder: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    (folder / "records.tar.xz").write_bytes(lzma.compress(buffer.getvalue()))
    return folder / "records.tar.xz"


def _entry(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, to
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        _entry("../escaped"),
        _entry("cells/../../escaped"),
        _entry("cells/link", tarfile.SYMTYPE, "../../escaped"),
        _entry("cells/link", tarfile.SYMTYPE, "a"),
        _entry("cells/link", tarfile.LNKTYPE, "cells/a"),
        _entry("cells/pipe", tarfile.FIFOTYPE),
        _entry("cells/device", tarfile.CHRTYPE),
    ],
    ids=lambda entry: f"{entry.name}{'>' + entry.linkname if entry.linkname else ''}",
)
def test_packed_records_hold_plain_files_inside_their_folder_or_are_refused_whole(
    entry: tarfile.TarInfo, tmp_path: Path
) -> None:
    inside = tmp_path / "study"
    inside.mkdir()
    archive = _packed(inside, (_entry("cells/a"), b"fine"), (entry, b"" if entry.type != tarfile.REGTYPE else b"out"))
    with pytest.raises(HarnessError, match=r"records\.tar\.xz: cannot be unpacked"):
        unpack(archive, inside / "run")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["records.tar.xz", "study"]


def test_packed_records_that_swell_beyond_measure_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNPACKED_BYTES", 2**20)
    monkeypatch.setattr(limits, "UNPACKED_RATIO", 10)
    archive = _packed(tmp_path, (_entry("cells/a"), bytes(2**22)))
    with pytest.raises(HarnessError, match="unpack to more than 1,048,576"):
        unpack(archive, tmp_path / "run")


def test_a_reply_without_end_is_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_client, "MOST", 1000)
    with stub() as server, limited_client.LimitedClient(20.0) as client:
        server.reply = "x" * 100_000
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
        assert len(client.post(f"{server.url}/chat/completions", json=body).content) == 1000


@pytest.mark.parametrize("text", ["{{ ''.__class__.__mro__ }}", "{% for i in range(10 ** 9) %}x{% endfor %}"])
def test_a_chat_template_from_outside_reaches_nothing_of_python(text: str, tmp_path: Path) -> None:
    from harness.data.template_file import read_template

    (tmp_path / "chat_template.jinja").write_text(text + "{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(HarnessError, match="which is broken"):
        read_template(str(tmp_path / "chat_template.jinja"))
