"""The `harness` command: verbs that parse, call and print. Over 300 lines, because every flag stands here once.

Heavy imports are inside the verbs.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import click

import harness

COLUMNS = "Which columns of a file are what, where their names do not say so: prompt=question,chosen=best,..."
SPLITS = "Which splits of a folder or hub data set are what, where the usual names do not say so: train=...,test=..."
PAIRS_FROM_LABELS = "Pair the good and the bad completions of a prompt, where each row has one with a label."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(harness.__version__, prog_name="harness")
def cli() -> None:
    """Train every preference loss under one budget, score it by its implicit reward, rank it with intervals."""


def _comma(_context: Any, _option: Any, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(item.strip() for item in value.split(",") if item.strip())


def _each(_context: Any, _option: Any, values: tuple[str, ...]) -> tuple[str, ...] | None:
    return values or None


def _seeds(context: Any, option: Any, value: str | None) -> tuple[int, ...] | None:
    items = _comma(context, option, value)
    try:
        return None if items is None else tuple(int(item) for item in items)
    except ValueError:
        raise click.BadParameter(f"got '{value}', expected whole numbers such as 0,1,2") from None


def _fractions(context: Any, option: Any, value: str | None) -> tuple[float, ...] | None:
    items = _comma(context, option, value)
    try:
        return None if items is None else tuple(float(item) for item in items)
    except ValueError:
        raise click.BadParameter(f"got '{value}', expected fractions of the budget such as 0.25,0.5,1") from None


def _renamed(_context: Any, _option: Any, given: bool) -> None:
    """Answer the first name of `--plain-path`."""
    from harness.api.errors import HarnessError

    if given:
        raise HarnessError("got --reference-path, which is now called --plain-path; use that name")


@cli.command()
@click.argument("run_file", required=False, type=click.Path(path_type=Path))
@click.option(
    "--plugins",
    help="Losses: all, a list, all,-cpo, or with options: simpo:beta=1|2,gamma=1.0; | makes a row each  [all]",
)
@click.option(
    "--models",
    callback=_comma,
    help="qwen, gemma, mistral, llama, smollm2, hub ids, local folders or .gguf files, comma-separated  [qwen]",
)
@click.option(
    "--dataset",
    multiple=True,
    callback=_each,
    help="embedded, ultrafeedback, a folder or file (parquet, jsonl, json, CSV), or on the hub "
    "org/name[:config][@revision]; several times for several; embedded:annotator_noise=0.2|0.6  [embedded]",
)
@click.option("--test", help="Another data set, as for --dataset, to test on; only its test split is read.")
@click.option(
    "--preset",
    help="nano (made on the spot, CPU), tiny, small, medium (by size) or paper (the papers' checkpoints, GPU)  "
    "[nano; of models that are brought, by their size]",
)
@click.option(
    "--budget", help="pairs=N, tokens=N, steps=N, flops=N or seconds=N, the same for every loss; pairs=N|M: both"
)
@click.option("--seeds", callback=_seeds, help="One training per seed, each in its own order of pairs: 0,1,2  [0]")
@click.option(
    "--trials",
    type=int,
    help="Equal tuning: trials per loss; the best on dev is ranked on a board apart  [0]",
)
@click.option("--scorer", help="auto (vllm where it runs at all, for every model), vllm or transformers  [auto]")
@click.option("--adapter", help="full, lora, qlora, lora:r=16,alpha=32,targets=q_proj+v_proj  [full]")
@click.option(
    "--optimizer", help="adamw, or to need less memory adamw-8bit or adamw-bf16-sr; commas: a board each  [adamw]"
)
@click.option("--start", help="A tuned checkpoint to start from instead of the SFT stage.")
@click.option(
    "--learning-rate", help="The same for every loss; 3e-4,1e-3: both, on boards beside each other  [the preset's]"
)
@click.option("--batch-pairs", type=int, help="Pairs of one optimiser step.")
@click.option(
    "--micro-pairs", help="Pairs of one forward and backward pass, or auto: as fit; changes memory, not the result."
)
@click.option(
    "--activation-checkpointing",
    help="on: compute activations again in the backward pass, for less memory and the same result; off; auto: where "
    "they may not fit  [auto]",
)
@click.option("--max-length", type=int, help="Longest prompt + response in tokens.")
@click.option("--max-prompt", type=int, help="Longest prompt in tokens.")
@click.option("--dtype", help="float32 or bfloat16.")
@click.option(
    "--evaluate-at",
    callback=_fractions,
    help="Fractions of the budget at which the weights are scored too, for learning curves: 0.25,0.5,1",
)
@click.option(
    "--report",
    help="best-on-dev: with --evaluate-at, a further board of each cell at its best point on dev  [end]",
)
@click.option("--generate", type=int, help="Held-out prompts that the base and every cell answer  [0]")
@click.option("--prompts", help="With --generate: answer these instead, a file or alpaca_eval, arena_hard, mt_bench.")
@click.option("--samples", type=int, help="With --generate: answers per prompt  [1]")
@click.option("--temperature", type=float, help="With --generate; 0 takes the likeliest token  [1]")
@click.option("--top-p", type=float, help="With --generate: the share of the probability that is sampled from  [1]")
@click.option("--max-new-tokens", type=int, help="With --generate: longest answer  [256]")
@click.option(
    "--judge",
    multiple=True,
    callback=_each,
    help="With --generate: have the answers judged, as `harness judge` does; several times for several judges.",
)
@click.option("--judge-repeats", type=int, help="With --judge: how often each question is asked  [1]")
@click.option("--max-requests", type=int, help="With --judge: refuse to send a judge more than so many requests.")
@click.option("--evaluate-on", help="test, or dev for choosing settings  [test]")
@click.option(
    "--control",
    help="shuffled-labels: swap half of the training pairs at random; nothing can be learned.",
)
@click.option(
    "--noise",
    help="Noise in the labels of training and dev pairs: flip=0.1, near-ties=0.1 (the smallest gaps), longer-wins=0.1, "
    "shares of all pairs, or gaussian=0.5, the sd of errors in the scores' own unit; several: none,flip=0.1|0.3",
)
@click.option(
    "--select",
    help="Train on a share of the pairs: random, largest-margin, smallest-margin, easiest, dcrm, alignment-potential, "
    "dual-margin, on new pairs out of lists: dcrm-pairing, or a plugin's, with options: dcrm:share=0.4; several: "
    "none,random:share=0.4,dcrm:share=0.2|0.4",
)
@click.option("--ranked-by", help="The metric that losses are ranked by  [pairwise_accuracy@learned]")
@click.option("--also", callback=_comma, help="Checkpoints trained elsewhere, scored beside the losses: DIR,...")
@click.option("--limit", type=int, help="At most this many pairs per split, for trying things out.")
@click.option("--data-seed", type=int, help="Seed of the simulator and of the splits we draw  [0]")
@click.option("--cell-timeout", type=float, help="Seconds after which a cell counts as hung.")
@click.option(
    "--checkpoint-every", type=float, help="Minutes of a training that are lost at most when it is stopped  [10]"
)
@click.option(
    "--plain-path", is_flag=True, default=None, help="Train on padded rows and full logits, to check the fast path."
)
@click.option(
    "--reference-path", is_flag=True, hidden=True, expose_value=False, callback=_renamed, help="Now --plain-path."
)
@click.option("--lenient", is_flag=True, default=None, help="Skip defective rows and count them by reason.")
@click.option("--chat-template", help="A Jinja file used in the place of the tokenizers' own chat templates.")
@click.option("--columns", help=COLUMNS)
@click.option("--splits", help=SPLITS)
@click.option("--test-columns", help="As --columns, of the data in --test.")
@click.option("--pairs-from-labels", is_flag=True, default=None, help=PAIRS_FROM_LABELS)
@click.option("--trust-remote-code", is_flag=True, default=None, help="Let a model repository run its own code.")
@click.option("--cells", help="K/N: compute the K-th of N shares of the cells; `harness merge` makes one run of all.")
@click.option("--executor", help="local, or ray: the workers run on a Ray cluster, each with what it takes  [local]")
@click.option("--address", help="With --executor ray: the cluster, as ray.init takes it  [the one that is running]")
@click.option("--devices", help="GPUs that compute, by number: 0,1,2,3, or cpu  [all visible GPUs, else cpu]")
@click.option("--output-dir", type=click.Path(path_type=Path), help="Where the run goes  [runs/<hash of the run>]")
@click.option("--keep-checkpoints", is_flag=True, help="Keep the trained weights after they are scored.")
@click.option(
    "--report-to", callback=_comma, help="Log steps and metrics to these too: tensorboard,wandb,trackio  [nowhere]"
)
@click.option("--dry-run", is_flag=True, help="Print the plan with estimates and stop.")
@click.option("--no-pictures", is_flag=True, help="Leave the pictures out of the page.")
@click.option("--quiet", is_flag=True, help="Print the leaderboards only.")
def run(
    run_file: Path | None,
    cells: str | None,
    devices: str | None,
    executor: str | None,
    address: str | None,
    output_dir: Path | None,
    keep_checkpoints: bool,
    report_to: tuple[str, ...] | None,
    dry_run: bool,
    no_pictures: bool,
    quiet: bool,
    **flags: Any,
) -> int:
    """Train, score and rank: every loss on every model, the same budget for all.

    RUN_FILE is a TOML file with the same names as the options; options win. Running the same command again computes
    only what is missing. Started by torchrun or accelerate launch, each cell is trained on several devices.
    """
    from harness.execute.axes import RunWithAxes, resolve_all
    from harness.execute.executors import executor_of
    from harness.execute.resolve import runs_of
    from harness.leaderboard import write
    from harness.leaderboard.terminal import render
    from harness.planning.share import WHOLE, Share
    from harness.run_folder.paths import CELLS, PAGE

    console, share = _console(), Share.parse(cells) if cells else WHOLE
    computes = executor_of(executor, devices=devices, address=address)
    asked = runs_of(run_file, flags)
    resolved = resolve_all(
        asked, output_dir, keep_checkpoints, report_to=report_to or (), share=share, executor=computes
    )
    whole = RunWithAxes.of(resolved, dry=dry_run)
    for line in whole.warnings():
        _say(line, err=True)
    if dry_run or not quiet:
        _say(whole.plan())
    if dry_run:
        return 0
    folder = whole.folder
    trouble, complete = whole.carry_out(console, _say, quiet=quiet)
    table = write(folder, draw=not no_pictures, say=partial(_say, err=True))
    _say(render(table, width=console.width))
    if not quiet:
        _say(f"Written: {folder / PAGE}, .md, .json, .csv; records and rows in {folder / CELLS}")
    for line in trouble:
        _say(f"Error: {line}", err=True)
    return 0 if complete and not trouble else 6


@cli.command()
@click.argument("study_file", type=click.Path(path_type=Path))
@click.option("--rebuild", is_flag=True, help="Make its files again from its records, and compute nothing.")
@click.option("--dry-run", is_flag=True, help="Print the plan of its run and stop.")
@click.option("--no-pictures", is_flag=True, help="Leave the pictures out.")
@click.option("--quiet", is_flag=True, help="Print the findings only.")
def study(study_file: Path, rebuild: bool, dry_run: bool, no_pictures: bool, quiet: bool) -> int:
    """Carry out a study: a question and a hypothesis in STUDY_FILE, the run that answers, findings with intervals.

    Its files go beside STUDY_FILE. The same command again computes only what is missing.
    """
    from harness.leaderboard.pictures.files import why_no_pictures
    from harness.study.study_file import read_study
    from harness.study.write import REPORT, write_study

    asked, folder = read_study(study_file), study_file.parent
    trouble: list[str] = []
    if not rebuild:
        from harness.study.carry_out import carry_out, planned

        run = planned(folder, asked, dry=dry_run)
        if dry_run or not quiet:
            _say(run.plan())
        if dry_run:
            return 0
        trouble = carry_out(run, _console(), _say, quiet=quiet)
    found = write_study(folder, asked, draw=not no_pictures)
    if not no_pictures and (note := why_no_pictures()):
        _say(note, err=True)
    _say(asked.question)
    for sentence in (sentence for answer in found for sentence in answer.findings):
        _say(f"  {sentence}")
    if not quiet:
        _say(f"Written: {folder / REPORT}, the boards and pictures beside it")
    for line in trouble:
        _say(f"Error: {line}", err=True)
    return 6 if trouble else 0


@cli.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--model", required=True, help="The checkpoint: a folder, a .gguf file or a hub id.")
@click.option("--reference", help="What its training started from  [with RUN: the start checkpoint of RUN's model]")
@click.option(
    "--reward",
    help="Its own reward: log-ratio to the reference, mean or sum of its log-probs, or that of a LOSS such as "
    "simpo:beta=2.5  [log-ratio; mean without a reference]",
)
@click.option("--dataset", help="Data with a test split, instead of RUN; with RUN: where its data lie now.")
@click.option("--scorer", help="auto (vllm where it runs at all, for every model), vllm or transformers  [auto; RUN's]")
@click.option("--max-length", type=int, help="Longest prompt + response in tokens  [2048; RUN's]")
@click.option("--max-prompt", type=int, help="Longest prompt in tokens  [1024; RUN's]")
@click.option("--dtype", help="float32 or bfloat16  [float32; RUN's]")
@click.option("--limit", type=int, help="At most this many pairs, for trying things out.")
@click.option("--data-seed", type=int, help="Seed of the simulator and of the splits we draw  [0]")
@click.option("--lenient", is_flag=True, default=None, help="Skip defective rows and count them by reason.")
@click.option("--columns", help=COLUMNS)
@click.option("--splits", help=SPLITS)
@click.option("--pairs-from-labels", is_flag=True, default=None, help=PAIRS_FROM_LABELS)
@click.option("--trust-remote-code", is_flag=True, default=None, help="Let a model repository run its own code.")
@click.option("--output-dir", type=click.Path(path_type=Path), help="Where the row goes  [RUN, or runs/<hash>]")
@click.option("--no-pictures", is_flag=True, help="Leave the pictures out of the page.")
@click.option("--quiet", is_flag=True, help="Print the leaderboards only.")
def score(
    run: Path | None,
    model: str,
    reference: str | None,
    reward: str | None,
    dataset: str | None,
    output_dir: Path | None,
    trust_remote_code: bool | None,
    no_pictures: bool,
    quiet: bool,
    **settings: Any,
) -> int:
    """Score a checkpoint that was trained elsewhere, on the held-out pairs of a finished RUN or of a data set.

    It gets a row beside the losses of RUN, with the same metrics and intervals and without a rank. If its tokenizer
    reads the pairs otherwise, it gets a board of its own. The same command again computes nothing.
    """
    from harness.api import HarnessError
    from harness.execute.elsewhere import alone, beside, carry_out_scoring, request, scored_run
    from harness.leaderboard import write
    from harness.leaderboard.terminal import render
    from harness.run_folder.paths import PAGE

    given = {name: value for name, value in settings.items() if value is not None}
    code = {"trust_remote_code": True} if trust_remote_code else {}
    checkpoint = request(model, reward, reference, in_run=run is not None)
    if run is not None:
        if given or output_dir:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in (*given, *(["output_dir"] * bool(output_dir))))
            raise HarnessError(f"got {names} with {run}, whose own settings hold; leave it out")
        scoring = beside(run, checkpoint, dataset, bool(trust_remote_code))
    elif dataset is None:
        raise HarnessError("got no RUN and no --dataset, expected one: on which held-out pairs is it to be scored?")
    else:
        scoring = alone(scored_run(given | code | {"dataset": dataset}), checkpoint, output_dir)
    trouble = carry_out_scoring(scoring, lambda text: None if quiet else _say(text))
    if trouble:
        raise HarnessError(trouble[0])
    table = write(scoring.folder, draw=not no_pictures, say=partial(_say, err=True))
    _say(render(table, width=_console().width))
    if not quiet:
        _say(f"Written: {scoring.folder / PAGE}, .md, .json, .csv")
    return 0


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--judge",
    "names",
    multiple=True,
    required=True,
    help="simulator (embedded data), openai:MODEL@URL, openai-logprobs:MODEL@URL, openai-rating:MODEL@URL or "
    "reward-model:ID; several times for several judges. A key is read from OPENAI_API_KEY.",
)
@click.option(
    "--against", default="base", show_default=True, help="What answers are compared with: base, chosen or base,chosen."
)
@click.option("--repeats", type=int, default=1, show_default=True, help="How often each question is asked.")
@click.option("--max-requests", type=int, help="Send no more than this many requests per judge; refuse before any is.")
@click.option("--parallel", type=int, default=8, show_default=True, help="Requests on their way at a time.")
@click.option("--timeout", type=float, default=120.0, show_default=True, help="Seconds that one try may take.")
@click.option("--dataset", help="Where the run's data lie now.")
@click.option("--trust-remote-code", is_flag=True, help="Let a model repository run its own code.")
@click.option("--dry-run", is_flag=True, help="Only say what would be asked and what it costs.")
@click.option("--no-pictures", is_flag=True, help="Leave the pictures out of the page.")
def judge(
    run: Path,
    names: tuple[str, ...],
    against: str,
    repeats: int,
    max_requests: int | None,
    parallel: int,
    timeout: float,
    dataset: str | None,
    trust_remote_code: bool,
    dry_run: bool,
    no_pictures: bool,
) -> None:
    """Have judges compare or rate the answers that the cells of a finished RUN generated.

    They go to cells/<key>/judgements/, a table per judge, and the leaderboards are made anew. The same command again
    asks only what has no answer yet.
    """
    from harness.execute.judging import against_of, carry_out_judging, data_to_judge, judging, options_of
    from harness.leaderboard import write

    options = options_of(max_requests, parallel=parallel, timeout=timeout, trust_remote_code=trust_remote_code)
    data = data_to_judge(run, dataset)
    plans = [judging(run, name, repeats, data, options, against_of(against)) for name in names]
    for plan in plans:
        _say(plan.plan)
    if dry_run:
        return
    for plan in plans:
        carry_out_judging(plan, _say)
    write(run, draw=not no_pictures, say=partial(_say, err=True))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--ranked-by", default=None, help="Rank by another metric  [the run's own]")
@click.option("--no-pictures", is_flag=True, help="Leave the pictures out of the page: faster.")
def leaderboard(run: Path, ranked_by: str | None, no_pictures: bool) -> None:
    """Rebuild leaderboard.json, .md, .csv and .html of a RUN folder from its records. Needs no torch."""
    # Set before NumPy is loaded: its products are small here, and on a busy machine threads would mostly wait.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from harness.leaderboard import write
    from harness.leaderboard.terminal import render

    table = write(run, ranked_by, draw=not no_pictures, say=partial(_say, err=True))
    _say(render(table, width=_console().width))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes any free port.")
def view(folder: Path, port: int) -> None:
    """Serve the pages of a run, or of a FOLDER of runs, to this machine alone. Needs no torch."""
    from harness.leaderboard.serve import view as serve

    serve(folder, port, _say)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--difference", type=float, required=True, help="The difference to detect, such as 0.02.")
@click.option("--ranked-by", default=None, help="In another metric  [the run's own]")
def power(run: Path, difference: float, ranked_by: str | None) -> None:
    """Say how many pairs and seeds it takes to detect a difference, judging by the variances of a finished RUN."""
    from harness.leaderboard.power import power_page

    _say(power_page(run, difference, ranked_by))


@cli.command("compare")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--metric", default=None, help="What is compared  [what BASE is ranked by]")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the differences there too.")
def compare_runs(base: Path, new: Path, metric: str | None, json_file: Path | None) -> int:
    """Print the paired differences NEW - BASE of two runs on the same pairs, with intervals."""
    from harness.compare import run_compare

    return _printed(*run_compare(base, new, metric, json_file))


@cli.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--margin", type=float, default=0.01, show_default=True, help="How much worse is too much.")
@click.option("--metric", default=None, help="What is judged  [what BASE is ranked by]")
@click.option(
    "--calibrate",
    is_flag=True,
    help="Measure the noise of repeated RUNS, or of the seeds of one RUN, instead, and write it into the first.",
)
@click.option("--out", type=click.Path(path_type=Path), help="With --calibrate: write it into this run instead.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the verdict as JSON.")
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), help="Write it as JUnit XML.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write it for a CI summary.")
def gate(
    runs: tuple[Path, ...],
    margin: float,
    metric: str | None,
    calibrate: bool,
    out: Path | None,
    json_file: Path | None,
    junit_file: Path | None,
    markdown_file: Path | None,
) -> int:
    """Judge NEW against BASE (RUNS: BASE NEW): is any loss worse by the margin?

    With --calibrate, RUNS are two or more of the same code, or one with several seeds: what they differ by is written
    into gate.json of the first, which gates against it and its own leaderboard then allow for.

    Exit codes: 0 pass, 2 not comparable, 3 regression, 4 inconclusive, 5 no baseline, 6 failed or diverged cells.
    """
    from harness.api import HarnessError
    from harness.compare import run_calibrate, run_gate

    reports = {"json_file": json_file, "junit_file": junit_file, "markdown_file": markdown_file}
    if calibrate:
        if any(reports.values()):
            raise HarnessError("got --calibrate with a report, expected none: it gives no verdict; name a run by --out")
        return _printed(*run_calibrate(runs, metric, out))
    if out is not None:
        raise HarnessError("got --out without --calibrate, expected both; reports have --json, --junit and --markdown")
    if len(runs) != 2:
        raise HarnessError(f"got {len(runs)} runs, expected two, BASE and NEW; or give --calibrate for repeated runs")
    return _printed(*run_gate(runs[0], runs[1], margin, metric, **reports))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--rerun", type=click.IntRange(min=1), help="Then compute so many cells anew, drawn at random, and compare."
)
@click.option("--tolerance", type=float, help="With --rerun: nats that a log-prob may lie off  [by the processor]")
@click.option("--dataset", help="With --rerun: where the run's data lie now.")
def verify(run: Path, rerun: int | None, tolerance: float | None, dataset: str | None) -> int:
    """Check a RUN folder: file hashes, metrics recomputed from the rows, boards rebuilt. Exit code 3 for problems."""
    from harness.api import HarnessError
    from harness.exchange.verify import run_verify

    if rerun is None and (tolerance is not None or dataset is not None):
        raise HarnessError("got --tolerance or --dataset without --rerun, expected both; say how many cells to compute")
    code = _printed(*run_verify(run))
    if code or rerun is None:
        return code
    from harness.execute.rerun import rerun as compute_anew

    return compute_anew(run, rerun, tolerance, dataset, _say)


@cli.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--into", type=click.Path(path_type=Path), required=True, help="The new folder.")
def merge(runs: tuple[Path, ...], into: Path) -> int:
    """Put the cells of several RUNS into one folder, each verified first. Exit code 3 where one fails."""
    from harness.exchange.merge import run_merge

    return _printed(*run_merge(runs, into))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", "form", required=True, help="lm-eval, csv or hf (a data-set folder ready for the hub)")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A file for csv, else a new folder.")
def export(run: Path, form: str, output: Path) -> int:
    """Write the results of a RUN for other programs."""
    from harness.exchange.export import run_export

    return _printed(*run_export(run, form, output))


@cli.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The new folder.")
def report(runs: tuple[Path, ...], output: Path) -> int:
    """Write tables, figures, protocol and references of RUNS for a paper, in LaTeX and Markdown."""
    from harness.report.paper import run_report

    return _printed(*run_report(runs, output))


@cli.group()
def plugins() -> None:
    """The losses and selectors that are installed."""


@plugins.command("list")
def plugins_list() -> None:
    """List every loss and selector with who brings it, data sets and scorers; broken plugins too."""
    from harness.plugin_tools.listing import plugin_list

    _say(plugin_list())


@plugins.command("show")
@click.argument("name")
def plugins_show(name: str) -> None:
    """Show one loss or selector: formula, source, options with defaults, what it needs and promises."""
    from harness.plugin_tools.listing import plugin_page

    _say(plugin_page(name))


@plugins.command("catalogue")
def plugins_catalogue() -> None:
    """Print the shipped losses as one Markdown page; docs/losses.md is what it prints."""
    from harness.plugin_tools.catalogue import catalogue

    _say(catalogue())


@plugins.command("new")
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(), help="Where the folder NAME goes  [here]")
def plugins_new(name: str, folder: Path) -> None:
    """Start a loss of your own: write NAME/, a complete distribution with its tests, for you to change."""
    from harness.plugin_tools.scaffold import new_plugin, next_steps

    _say(next_steps(new_plugin(name, folder)))


@plugins.command("check")
@click.argument("name")
@click.option("--golden", type=click.Path(path_type=Path), help="Values from the authors' code, JSON, to compare with.")
def plugins_check(name: str, golden: Path | None) -> int:
    """Check an installed loss: gradients, padding, order, options, extremes. Exit code 1 when a check fails."""
    from harness.plugin_tools.report_card import report_card

    card, passed = report_card(name, golden)
    _say(card)
    return 0 if passed else 1


@cli.group()
def data() -> None:
    """Preference data."""


@data.command()
@click.argument("dataset", default="embedded")
@click.option("--lenient", is_flag=True, help="Skip defective rows and count them by reason.")
@click.option("--columns", default="", help=COLUMNS)
@click.option("--splits", default="", help=SPLITS)
@click.option("--pairs-from-labels", is_flag=True, help=PAIRS_FROM_LABELS)
@click.option("--data-seed", type=int, default=0, help="Seed of the simulator and of the splits we draw.")
def describe(dataset: str, data_seed: int, **options: Any) -> None:
    """Describe a DATASET or evaluation set: pairs, prompts, lengths, score gaps, length bias, what was skipped."""
    from harness.api import LoadOptions
    from harness.data.describe import as_text
    from harness.data.describe import describe as describe_data
    from harness.data.sources import load_any
    from harness.manager import datasets, plugin_manager

    loaded = load_any(dataset, LoadOptions(seed=data_seed, **options), datasets(plugin_manager()))
    _say(as_text(describe_data(loaded)))


@cli.command()
def doctor() -> None:
    """Say what is installed, which scorer a run uses, whether a GPU and the hub are there, and where caches are."""
    from harness.plugin_tools.listing import doctor_page

    _say(doctor_page())


def _say(text: str, err: bool = False) -> None:
    """Print text that may hold anything: nothing in it steers the terminal, and no secret is in it."""
    from harness.run_folder.shown import for_the_terminal

    click.echo(for_the_terminal(text), err=err)


def _printed(text: str, code: int) -> int:
    """Print the text of a verb and return its exit code."""
    _say(text)
    return code


def _console() -> Any:
    from rich.console import Console

    return Console()
