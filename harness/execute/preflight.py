"""What must hold before a run may start: its models, its data, its folder. Each failure is one line."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

from harness.api import Dataset, HarnessError, OpenPrompts
from harness.models.adapters import require_known_targets
from harness.models.families import FAMILIES, named
from harness.models.folders import (
    ADAPTER,
    base_of,
    content_name,
    is_gguf,
    kind_of,
    local,
    read_config,
    require_causal_config,
    require_template,
)
from harness.models.hub import HUB_ID
from harness.models.nf4 import require_bitsandbytes
from harness.planning.generation import GENERATION
from harness.planning.presets import NAMED, SMOLLM2
from harness.planning.run_file import Run
from harness.run_folder.board_key import BoardKey
from harness.run_folder.full_disk import is_full
from harness.run_folder.manifest import read_manifest
from harness.run_folder.paths import MANIFEST, cache_folder, is_run
from harness.run_folder.store import read_records


def local_names(run: Run) -> dict[str, str]:
    """Return what the local models of a run are called, by path, after a check of all its models; see `check_model`."""
    asked = [*run.models, *([run.start] if run.start else [])]
    for model in run.models:
        check_model(model)
        path = local(model) if model not in NAMED and run.chat_template is None else None
        if path and kind_of(path) in ("weights", "pickled"):  # an adapter's tokenizer may be its base's
            require_template(path, model)
    if run.lora:
        require_peft(f"--adapter {run.adapter}")
        require_known_targets(run.lora, run.models)
        if run.lora.quantised:
            require_bitsandbytes()
    if run.optimizer != "adamw" and importlib.util.find_spec("torchao") is None:
        raise HarnessError(
            f"--optimizer {run.optimizer} needs torchao, which is not installed; run: "
            "pip install 'preference-harness[torchao]'"
        )
    if run.start and local(run.start):
        check_model(run.start, "--start")
    return {model: content_name(path) for model in asked if model not in NAMED and (path := local(model))}


def check_model(model: str, option: str = "--models") -> None:
    """Raise `HarnessError` where `model` is no named model, no hub id and no local one that can be trained."""
    if model in FAMILIES or model == SMOLLM2:
        return
    path = local(model)
    if path is None:
        there = Path(model).expanduser().exists()
        if HUB_ID.fullmatch(model) and not there and not is_gguf(model):
            return
        is_path = os.sep in model or is_gguf(model)
        raise HarnessError(
            f"{option} got '{model}', expected {named()}, a hub id such as org/name, a local folder with a config.json "
            "and *.safetensors or with a LoRA adapter, or a .gguf file"
            + (f"; there is no such folder or file, looked for from {Path.cwd()}" if is_path and not there else "")
        )
    kind = kind_of(path)
    if kind == "gguf":
        from harness.models.gguf import require_reader

        require_reader(model)
    elif kind == "adapter":
        require_peft(f"model '{model}', a LoRA adapter,")
        base, _ = base_of(path, model)
        if local(base) is None and not HUB_ID.fullmatch(base):
            raise HarnessError(
                f"model '{model}' is a LoRA adapter of '{base}', which it is merged onto and which is not here; bring "
                f"it there, or correct base_model_name_or_path in {path / ADAPTER}"
            )
    else:
        require_causal_config(read_config(path), model)


def require_peft(what: str) -> None:
    """Raise `HarnessError` where peft is not installed, which `what` needs."""
    if importlib.util.find_spec("peft") is None:
        raise HarnessError(f"{what} needs peft, which is not installed; run: pip install 'preference-harness[peft]'")


def check_data(data: Dataset, run: Run) -> None:
    """Raise `HarnessError` where the data have nothing to score; `budget.plan` checks that they fill a step."""
    held = data.test if run.evaluate_on == "test" else data.dev
    if not held:
        raise HarnessError(
            f"data set '{data.name}' has no {run.evaluate_on} pairs, expected at least 1; give more data"
        )


def check_cache() -> None:
    """Raise `HarnessError` where the folder of start checkpoints and reference log-probs cannot be written."""
    try:
        cache = cache_folder()
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except (OSError, RuntimeError) as error:  # the latter: there is no home
        if is_full(error):
            return  # told when it is written to, with what it is for
        raise HarnessError(
            f"the cache cannot be written ({error}), expected a folder for start checkpoints and reference log-probs; "
            "name one by the environment variable HARNESS_CACHE=FOLDER"
        ) from None


def check_folder(folder: Path, run: Run, data: Dataset, scorer: str) -> None:
    """Raise `HarnessError` where `folder` cannot be written, holds the results of another run, or damaged ones."""
    probe = folder
    while not probe.exists():
        probe = probe.parent
    if not probe.is_dir() or not os.access(probe, os.W_OK | os.X_OK):
        what = "not writable" if probe.is_dir() else "not a folder"
        raise HarnessError(f"--output-dir got {folder}, but {probe} is {what}; name a folder that can be written")
    if not (folder / MANIFEST).exists():
        return
    before = read_manifest(folder)
    key, key_before = run.decisive(), before.decisive or BoardKey()
    settings = key.differing(key_before)
    if key.knows_content and key_before.knows_content:
        settings.pop("dataset", None)  # told below, in words
    changed = [f"{name} was {old!r}, now {new!r}" for name, (new, old) in settings.items()]
    points, points_before = list(run.evaluate_at), before.run.get("evaluate_at") or []
    if points != points_before:
        changed.append(f"evaluate_at was {points_before!r}, now {points!r}")
    if (report := before.run.get("report", "end")) != run.report:
        changed.append(f"report was {report!r}, now {run.report!r}")
    for name in (*GENERATION, "prompts") if run.generate or before.run.get("generate") else ():
        if (now := getattr(run, name)) != (was := before.run.get(name)):
            changed.append(f"{name} was {was!r}, now {now!r}")
    if not changed and before.dataset is not None and before.dataset.fingerprint != data.fingerprint:
        changed = [f"the content of data set '{data.name}' has changed"]
    if not changed and before.scorer != scorer:
        changed = [f"it was scored by {before.scorer}, which would now be {scorer}"]
    if not changed and data.to_answer is not None and _other_prompts(folder, data.to_answer):
        changed = [f"the prompts in {run.prompts} have changed"]
    if changed:
        raise HarnessError(f"{folder} holds another run ({'; '.join(changed)}); name another --output-dir")
    for record in read_records(folder) if is_run(folder) else ():
        record.require_whole()


def _other_prompts(folder: Path, prompts: OpenPrompts) -> bool:
    """Return whether a cell has answered other prompts than these."""
    generations = [record.generation for record in read_records(folder)]
    asked = [facts.asked for facts in generations if facts is not None and facts.asked is not None]
    return any(each.fingerprint != prompts.fingerprint for each in asked)
