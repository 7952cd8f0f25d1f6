"""Where configs are looked for: the user's `./conf` and `./experiments` before the shipped ones.

Appending through `hydra.searchpath` would leave a user's `conf/filter/agreement.yaml` silently ignored.
In other applications of Hydra's the plug-in does nothing.
Light on purpose: Hydra imports every plugin at every start.

A file that has been read is not parsed again while it stays as it is: Hydra reads thirty for each job that it composes,
which takes it a third of the time.
"""

import pickle
import re
from functools import cache
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin

from silvertune.schema import SHIPPED


class SilvertuneSearchPath(SearchPathPlugin):
    """Prepends the user's folders, then the shipped studies; only where the application is silvertune."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        main = next((element for element in search_path.get_path() if element.provider == "main"), None)
        if main is None or main.path is None or not _is_ours(main.path):
            return  # another application's configs
        main.path = f"conf://{main.path.removeprefix('file://')}"
        search_path.prepend("silvertune", "schema://silvertune.schema")
        search_path.prepend("silvertune", f"experiments://{SHIPPED / 'experiments'}")
        for folder in ("experiments", "conf"):
            users = Path.cwd() / folder
            if users.is_dir() and users.resolve() != (SHIPPED / folder).resolve():
                search_path.prepend("user", f"{folder}://{users}")


def _is_ours(path: str) -> bool:
    return (
        "://" not in path.removeprefix("file://")
        and Path(path.removeprefix("file://")).resolve() == (SHIPPED / "conf").resolve()
    )


class SchemaSource(ConfigSource):
    """The config `schema`: the dataclasses that every yaml and override is checked against.

    Hydra's ConfigStore would do, but `--help` deep-copies all that is in it a hundred times.
    """

    @staticmethod
    def scheme() -> str:
        return "schema"

    def load_config(self, config_path: str) -> ConfigResult:
        return ConfigResult(self.provider, self.full_path(), pickle.loads(_schema()), {"package": None})

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path == ""

    def is_config(self, config_path: str) -> bool:
        return config_path == "schema"

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return ["schema"] if config_path == "" and results_filter != ObjectType.GROUP else []


class ConfSource(ConfigSource):
    """A folder of configs: the shipped one, or a user's, of which the groups count and nothing that stands beside them.

    The user's `./conf` may hold the `config.yaml` of another application, which must not replace silvertune's.
    """

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider=provider, path=path)
        self.files = _files(provider, self.path)
        self.is_shipped = _is_ours(self.path)

    @staticmethod
    def scheme() -> str:
        return "conf"

    def load_config(self, config_path: str) -> ConfigResult:
        return _loaded(self.files, config_path)

    def available(self) -> bool:
        return self.files.available()

    def is_group(self, config_path: str) -> bool:
        return self.files.is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        # `hydra/config` is Hydra's own main config.
        counts = self.is_shipped or ("/" in config_path and config_path != "hydra/config")
        return counts and self.files.is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        only_groups = config_path == "" and not self.is_shipped
        return self.files.list(config_path, ObjectType.GROUP if only_groups else results_filter)


class ExperimentsSource(ConfigSource):
    """A folder of studies as the group `experiments`, wherever the folder stands.

    A plain `file://` source would have to name its parent, and so offer everything beside it as configs.
    """

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider=provider, path=path)
        self.files = _files(provider, self.path)

    @staticmethod
    def scheme() -> str:
        return "experiments"

    def load_config(self, config_path: str) -> ConfigResult:
        return _loaded(self.files, self._inside(config_path))

    def available(self) -> bool:
        return self.files.available()

    def is_group(self, config_path: str) -> bool:
        return config_path in ("", "experiments")

    def is_config(self, config_path: str) -> bool:
        return config_path.startswith("experiments/") and self.files.is_config(self._inside(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path == "":
            return [] if results_filter == ObjectType.CONFIG else ["experiments"]
        if config_path != "experiments" or results_filter == ObjectType.GROUP:
            return []
        return sorted(path.stem for path in Path(self.path).glob("*.yaml"))

    @staticmethod
    def _inside(config_path: str) -> str:
        return config_path.removeprefix("experiments/")


def _files(provider: str, path: str) -> ConfigSource:
    from hydra._internal.core_plugins.file_config_source import FileConfigSource

    return FileConfigSource(provider=provider, path=f"file://{path}")


_OTHER_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:0[0-7_]+|0b[01_]+|0x[0-9a-fA-F_]+|[1-9][0-9_]*(?::[0-5]?[0-9])+)")
"""Codes such as 010 and 1:30, which yaml reads to base 8 and 60, as 8 and 90: they are names as they are written."""

_pickled: dict[tuple[str, str, int, int], bytes] = {}
"""What Hydra makes of a file, by who provides it, its path, its time and its size; each composition changes a copy."""


def _loaded(files: ConfigSource, config_path: str) -> ConfigResult:
    file = Path(files.path) / f"{config_path.removesuffix('.yaml')}.yaml"
    if not file.is_file():
        return files.load_config(config_path)  # says what is wrong
    state = file.stat()
    key = files.provider, str(file), state.st_mtime_ns, state.st_size
    if key not in _pickled:
        text = _text_of(file)
        loaded = files.load_config(config_path)
        if (as_written := _as_written(text)) != text:
            from omegaconf import OmegaConf

            loaded.config = OmegaConf.create(as_written)
        _pickled[key] = pickle.dumps(loaded)
    result: ConfigResult = pickle.loads(_pickled[key])
    return result


def _text_of(file: Path) -> str:
    """The text of a yaml. Raises UserError where it can't be read."""
    from silvertune.errors import UserError

    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: can't be read ({error.strerror})") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{file}: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        ) from None


def _as_written(text: str) -> str:
    """A yaml whose numbers stand in quotes where yaml would read the number that nobody wrote (`_OTHER_NUMBER`)."""
    if not _OTHER_NUMBER.search(text):
        return text
    import yaml

    parts, start = [], 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.ScalarToken) and token.plain and _OTHER_NUMBER.fullmatch(token.value):
            begin, end = token.start_mark.index, token.end_mark.index
            parts += [text[start:begin], f'"{text[begin:end]}"']
            start = end
    return "".join([*parts, text[start:]])


@cache
def _schema() -> bytes:
    from omegaconf import OmegaConf

    from silvertune.schema import Config

    return pickle.dumps(OmegaConf.structured(Config))
