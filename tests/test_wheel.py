"""What `pip install silvertune` gives: configs and studies inside, the user's own before them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests import cli

ROOT = Path(__file__).parents[1]


@pytest.mark.soak
def test_from_a_wheel_in_an_empty_folder_a_filter_of_ones_own_gets_a_row(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True
    )
    (wheel,) = tmp_path.glob("silvertune-*.whl")
    site, folder = tmp_path / "site", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(site)
    (folder / "conf" / "filter").mkdir(parents=True)
    cli.write_tables(folder)
    (folder / "my_filters.py").write_text(
        "def long_table(items, labels, *, at_least):\n    return items['json'].str.len() >= at_least\n"
    )
    (folder / "conf" / "filter" / "long_table.yaml").write_text(
        "long_table:\n  _target_: my_filters.long_table\n  at_least: 10\n"
    )
    environment = {"PYTHONPATH": str(site)}
    where = subprocess.run(
        [sys.executable, "-c", "from silvertune.schema import SHIPPED; print(SHIPPED)"],
        env={**environment, "PATH": ""}, cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.strip() == str(site / "silvertune" / "_shipped")
    shown = cli.silvertune(folder, "--help", **environment)
    assert "long_table" in shown.stdout
    assert "soe_table3" in shown.stdout
    done = cli.silvertune(
        folder, "-m", "dataset.path=tables.jsonl", "labeler=expert", "filter=none,long_table",
        "filter.long_table.at_least=5", "evaluation.replicates=50", **environment,
    )  # fmt: skip
    assert done.returncode == 1  # there is no such parameter where the filter is another
    done = cli.silvertune(
        folder, "-m", "dataset.path=tables.jsonl", "labeler=expert", "filter=none,long_table",
        "evaluation.replicates=50", **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "expert/long_table" in done.stdout
    assert len(cli.runs(folder, "silvertune")) == 2
