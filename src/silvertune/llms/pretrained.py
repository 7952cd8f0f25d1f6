"""A causal language model's files: where they are, what identifies them, and how they are loaded."""

import copy
import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from silvertune.errors import UserError
from silvertune.model_files import packaged


@dataclass(frozen=True)
class Pretrained:
    """A model of the hub, of a folder, or in a GGUF file, whose weights transformers turns into plain numbers.

    Attributes:
        model: Hub id, folder, or path of a `.gguf` file; None where `package` has the file.
        revision: Of the hub's model; None: what is there.
        gguf_file: The name of a GGUF file in the hub's repository or in the folder; None: there is none, or `model`
            is one.
        package: Installed registry packages that carry a GGUF file, whole or in parts; their code is never run.
        sha256: Of the GGUF file, hex; None trusts what is there.
        key: The config key above these settings, for messages.
    """

    model: str | None
    revision: str | None = None
    gguf_file: str | None = None
    package: str | Sequence[str] | None = None
    sha256: str | None = None
    key: str = "model"

    @property
    def setting(self) -> str:
        """The config key that chooses the model, with its value, for messages."""
        return f"{self.key}.package={self._packages()[0]}" if self.package else f"{self.key}.model={self.model}"

    @property
    def name(self) -> str:
        """How the model is called: as it was asked for, or as its file in the package is."""
        return str(self.model) if self.model is not None else ", ".join(self._packages())

    def file(self) -> Path | None:
        """The GGUF file on this machine; None for other models and for files of the hub.

        Raises:
            UserError: It is not there, has another digest, or the settings name no model or two.
        """
        if self.package:
            if self.model is not None or self.gguf_file is not None:
                raise UserError(f"{self.key}.package={self.name}: want model and gguf_file null beside it")
            return packaged.gguf_file(self._packages(), self.sha256, self.key)
        if self.model is None:
            raise UserError(f"{self.key}.model=null: want a hub id, a folder or a .gguf file, or {self.key}.package")
        place = Path(self.model)
        if place.suffix != ".gguf" and self.gguf_file is None:
            if self.sha256 is not None:
                raise UserError(
                    f"{self.key}.sha256={self.sha256[:12]}...: is a GGUF file's, and {self.setting} is none; want null"
                )
            return None
        if place.suffix != ".gguf" and not place.is_dir():
            return None  # of the hub
        file = place if self.gguf_file is None else place / self.gguf_file
        if not file.is_file():
            raise UserError(f"{self.setting}: there is no file {file}; want a GGUF file")
        packaged.check_digest(packaged.digest_of([file]), self.sha256, file, self.key)
        return file

    def identity(self) -> str:
        """What can change the model's answers: the digest of its files, or a hub's model and its revision."""
        if (file := self.file()) is not None:
            return packaged.digest_of([file])
        folder = Path(str(self.model))
        if folder.is_dir():
            return _folder_digest(folder)
        return f"{self.model}@{self.revision}" + ("" if self.gguf_file is None else f"/{self.gguf_file}")

    def tokenizer(self) -> Any:
        """Its tokenizer, the same one for all callers, who change nothing of it. Raises UserError as `network`."""
        return _loaded_once(self._hashable(), self.identity(), "AutoTokenizer")

    def config(self) -> Any:
        """The network's configuration, a copy. Raises UserError as `network`."""
        return copy.deepcopy(_loaded_once(self._hashable(), self.identity(), "AutoConfig"))

    def network(self, dtype: str, auto_class: str = "AutoModelForCausalLM", **settings: Any) -> Any:
        """The network, in eval mode on the CPU.

        Args:
            dtype: Of the weights, such as float32 or bfloat16; those of a GGUF file are turned into it.
            auto_class: The class of transformers that loads it.
            **settings: For the network's configuration.

        Raises:
            UserError: It can't be loaded, lacks some of its weights, or `dtype` is none.
        """
        import torch

        if not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise UserError(f"{self.key}.dtype={dtype}: want float32, bfloat16 or float16")
        network, loading_info = self._loaded(
            auto_class, dtype=getattr(torch, dtype), output_loading_info=True, **settings
        )
        if lacking := sorted(loading_info["missing_keys"]):
            raise UserError(
                f"{self.setting}: {len(lacking)} weights of {type(network).__name__} are not there, such as "
                f"{lacking[0]}; want a causal language model that was saved whole"
            )
        if self.is_gguf:
            # transformers takes it for quantised still, and refuses to save it or to put adapters on it.
            network.hf_quantizer = None
            del network.config.quantization_config
        return network.eval()

    @property
    def is_gguf(self) -> bool:
        """Whether its weights are those of a GGUF file."""
        return bool(self.package) or self.gguf_file is not None or Path(str(self.model)).suffix == ".gguf"

    def _hashable(self) -> "Pretrained":
        return replace(self, package=tuple(self._packages()) or None)

    def _packages(self) -> list[str]:
        return [self.package] if isinstance(self.package, str) else list(self.package or [])

    def _loaded(self, auto_class: str, **settings: Any) -> Any:
        import transformers
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        place, gguf_name = self.model, self.gguf_file
        if (file := self.file()) is not None:
            place, gguf_name = str(file.parent), file.name
        if gguf_name is not None:
            if importlib.util.find_spec("gguf") is None:
                raise UserError(f"{self.setting}: reading it needs the package gguf; run: pip install gguf")
            settings["gguf_file"] = gguf_name
        try:
            return getattr(transformers, auto_class).from_pretrained(
                place, revision=self.revision, trust_remote_code=False, **settings
            )
        except Exception as error:  # a file may hold anything
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(f"{self.setting}: can't be loaded as a causal language model ({reason})") from None


@lru_cache(maxsize=4)
def _loaded_once(pretrained: Pretrained, content: str, auto_class: str) -> Any:
    """What a process loads once: of a GGUF file transformers reads all, for seconds, whatever it wants of it.

    The content is an argument so that files that change are loaded anew.
    """
    return pretrained._loaded(auto_class)


def deciding_files(folder: Path) -> list[Path]:
    """The files in a model's folder that decide what it says; notes beside them do not."""
    endings = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt")
    return [file for file in sorted(folder.iterdir()) if file.suffix in endings]


@lru_cache(maxsize=4)
def _folder_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in deciding_files(folder):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
