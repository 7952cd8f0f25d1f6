"""A finished study as tables and figures, for notebooks: read from MLflow when they are first asked for."""

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from silvertune.errors import UserError, either
from silvertune.reports import drawing, figures, html_page, tables
from silvertune.study.result import SweepResult
from silvertune.tracking import finished, store

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run

NAMES = ("arm", "model", "variant")
"""The columns that name an arm; every table of several runs begins with them and the seed."""
COMPARISON = "comparison.csv"
TESTS = {"f1": "f1", "f1_low": "low", "f1_high": "high", "f1_p": "p", "f1_p_holm": "p_holm",
         "mcnemar_p": "mcnemar_p", "mcnemar_p_holm": "mcnemar_p_holm"}  # fmt: skip
"""What is computed of each difference -> its column in `LoadedStudy.differences`."""


@dataclass(frozen=True)
class Picture:
    """A figure that a notebook shows when it is the last line of a cell.

    Attributes:
        figure: The matplotlib figure, for `figure.savefig(...)`.
    """

    figure: "Figure"

    def _repr_png_(self) -> bytes:
        return drawing.png(self.figure)


@dataclass(frozen=True)
class LoadedStudy:
    """A finished study. Tables are read when they are first asked for; every call gives a table of its own.

    Attributes:
        name: The name of the experiment.
        run_id: Id of the sweep's own run.
        run_ids: Name of each finished run -> its id, in the study's order.
        references: The arms that the others are compared with.
    """

    name: str
    run_id: str
    run_ids: dict[str, str]
    references: list[str]
    _client: "MlflowClient"
    _runs: "tuple[Run, ...]"
    _order: tuple[str, ...]

    @property
    def arms(self) -> pd.DataFrame:
        """One row an arm: means over its seeds with 95% intervals `_low` and `_high`, and the differences."""
        return self._arms.copy()

    @property
    def differences(self) -> pd.DataFrame:
        """One row an arm and reference: the difference in F1 with its interval (`low`, `high`) and p-values."""
        parts = []
        for reference in self.references:
            columns = {f"delta/{reference}/{key}": name for key, name in TESTS.items()}
            if f"delta/{reference}/f1" in self._arms:
                part = self._arms.reindex(columns=[*NAMES, *columns]).rename(columns=columns)
                part.insert(len(NAMES), "reference", reference)
                parts.append(part.dropna(subset="f1"))
        empty = pd.DataFrame(columns=[*NAMES, "reference", *TESTS.values()])
        return pd.concat(parts, ignore_index=True) if parts else empty

    @property
    def groups(self) -> pd.DataFrame:
        """One row an arm and group: items, positive items and metrics, means over the seeds."""
        return self._groups.copy()

    @property
    def votes(self) -> pd.DataFrame:
        """All votes of the runs, with `arm`, `model`, `variant`, `seed` and `stage`."""
        return self._tables("votes")

    @property
    def decisions(self) -> pd.DataFrame:
        """What the filter decided of each item in each fold, with `arm`, `model`, `variant` and `seed`."""
        return self._tables("decisions")

    @property
    def predictions(self) -> pd.DataFrame:
        """The predictions of the test items and their gold, with `arm`, `model`, `variant` and `seed`."""
        return self._tables("predictions")

    @property
    def figures(self) -> dict[str, Picture]:
        """`arms`: F1 and the differences; `groups`: precision and F1 by group; `cost`, where labels cost anything."""
        styles = self._styles()
        drawn = {
            "arms": figures.arms(self._arms, self.references, styles),
            "groups": figures.groups_by_arm(self._groups, styles),
            "cost": figures.cost(self._arms, styles),
        }
        return {name: Picture(figure) for name, figure in drawn.items() if figure is not None}

    def only(self, *arms: str, seeds: Sequence[int] | None = None) -> "LoadedStudy":
        """The same study with some of its arms and seeds: `votes` of a large study need much memory.

        Args:
            arms: The names of the arms; none: all.
            seeds: The seeds of the runs; `arms`, `groups` and `differences` stay means over all seeds. None: all.

        Returns:
            A study whose tables have these only.

        Raises:
            UserError: The study has no such arm, or no run of these arms with one of the seeds.
        """
        names = list(dict.fromkeys(run.data.tags["arm"] for run in self._runs))
        if unknown := [name for name in arms if name not in names]:
            raise UserError(f"arms={unknown[0]!r}: no such arm; there are {either(names)}")
        runs = tuple(
            run
            for run in self._runs
            if (not arms or run.data.tags["arm"] in arms) and (seeds is None or int(run.data.tags["seed"]) in seeds)
        )
        if not runs:
            present_seeds = sorted({run.data.tags["seed"] for run in self._runs}, key=int)
            raise UserError(
                f"seeds={list(seeds or ())}: no run of these arms has such a seed; there are {either(present_seeds)}"
            )
        narrowed = replace(self, _runs=runs, run_ids={str(run.info.run_name): run.info.run_id for run in runs})
        chosen = arms or tuple(names)
        # What is read already is not read again.
        for key in ("_arms", "_groups"):
            table = getattr(self, key)
            narrowed.__dict__[key] = table[table["arm"].isin(list(chosen))].reset_index(drop=True)
        return narrowed

    @cached_property
    def _arms(self) -> pd.DataFrame:
        return self._csv(COMPARISON)

    @cached_property
    def _groups(self) -> pd.DataFrame:
        return self._csv("groups.csv")

    @property
    def _is_compared(self) -> bool:
        """Whether there is a table: a production run has none."""
        return "_arms" in vars(self) or bool(store.text(self._client, self._client.get_run(self.run_id), COMPARISON))

    def _csv(self, name: str) -> pd.DataFrame:
        text = store.text(self._client, self._client.get_run(self.run_id), name)
        if not text:
            raise UserError(f"{self.name}: run {self.run_id} has no {name}; its runs were not compared")
        # Names stay as they are: an arm may be called NA.
        table = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])
        names = [name for name in (*NAMES, "group_id") if name in table]
        return table.assign(**{name: table[name].fillna("").astype(str) for name in names})

    def _tables(self, name: str) -> pd.DataFrame:
        parts = []
        for run in self._runs:
            part = finished.table(self._client, run, name)
            values = [run.data.tags.get(key, "") for key in NAMES]
            for position, (key, value) in enumerate(
                [*zip(NAMES, values, strict=True), ("seed", run.data.tags["seed"])]
            ):
                part.insert(position, key, int(value) if key == "seed" else value)
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def __repr__(self) -> str:
        return f"{self.name}: {len(self.run_ids)} runs, sweep {self.run_id}"

    def _repr_html_(self) -> str:
        if not self._is_compared:
            return f"<p>{html.escape(repr(self))}; its runs were not compared</p>"
        cells = tables.cells(self._arms, self.references)
        picture = html_page.picture(
            drawing.png(figures.arms(self._arms, self.references, self._styles())), "F1 of the arms"
        )
        heading = f"{html.escape(self.name)}: {len(self.run_ids)} runs"
        return f"<h3>{heading}</h3>{html_page.wide(cells.to_html(index=False, border=0))}{picture}"

    def _styles(self) -> dict[str, tuple[str, str]]:
        return figures.styles([*self._order, *self._arms["arm"]])


def load_study(study: str | SweepResult, *, uri: str | None = None, dir: str = "mlruns") -> LoadedStudy:
    """Load a finished study from MLflow.

    Args:
        study: What `run` gave back; the name of an experiment, of which the newest sweep is loaded that compared its
            runs (a production run compares none); or the id of a sweep's own run.
        uri: An MLflow tracking URI; None: MLFLOW_TRACKING_URI, else the store in `dir`.
        dir: Folder of the local store.

    Returns:
        Its tables and figures.

    Raises:
        UserError: There is no such store, experiment or sweep, or nothing of it is finished.
    """
    if isinstance(study, SweepResult):
        uri = uri or (None if "***" in study.tracking_uri else study.tracking_uri)
        study = study.parent_run_id or study.experiment
    tracking: dict[str, Any] = {"uri": uri, "dir": dir}
    if re.fullmatch("[0-9a-f]{32}", study):
        client = store.opened(tracking)
        with store.in_one_line(store.uri(tracking)):
            parent = client.get_run(study)
            name = client.get_experiment(parent.info.experiment_id).name
    else:
        client, experiment = store.existing(tracking, study)
        name = study
        with store.in_one_line(store.uri(tracking)):
            sweeps = store.runs(client, experiment, "tags.sweep != ''")
        if not sweeps:
            raise UserError(f"{study}: no sweep in this experiment")
        with store.in_one_line(store.uri(tracking)):
            parent = next((run for run in reversed(sweeps) if store.text(client, run, COMPARISON)), sweeps[-1])
    with store.in_one_line(store.uri(tracking)):
        content = yaml.safe_load(store.text(client, parent, "study.yaml")) or {}
        runs = _runs_of(client, parent)
    if not runs:
        raise UserError(f"{name}: nothing of run {parent.info.run_id} is finished, or it is no sweep's own run")
    arms = {run.data.tags["arm"] for run in runs}
    return LoadedStudy(
        name=name,
        run_id=parent.info.run_id,
        run_ids={str(run.info.run_name): run.info.run_id for run in runs},
        references=[one for one in content.get("references") or () if one in arms],
        _client=client,
        _runs=tuple(runs),
        _order=tuple(content.get("arms") or ()),
    )


def _runs_of(client: "MlflowClient", parent: "Run") -> "list[Run]":
    """The finished runs of a sweep, in its order; some may have been made by an earlier one."""
    if text := store.text(client, parent, "runs.csv"):
        return [client.get_run(run_id) for run_id in pd.read_csv(io.StringIO(text), dtype=str)["run_id"]]
    children = store.runs(client, parent.info.experiment_id, f"tags.`{store.PARENT}` = '{parent.info.run_id}'")
    return [run for run in children if run.info.status == store.FINISHED]
