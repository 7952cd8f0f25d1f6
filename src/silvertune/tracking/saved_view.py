"""The view of an experiment that MLflow's UI opens with: its columns, their order, and charts of the arms.

It is what the UI's own *share* button stores: a run has far more metrics than a table of runs can show.
"""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

VIEW = "silvertune"
ORDER = "study_order"
"""The tag that runs are sorted by: the sweep, then the place in it."""
COLUMNS = ("test/f1", "test/f1_low", "test/f1_high")
"""The first columns; then come the differences to the references."""
MORE_COLUMNS = (
    "labels/kept_fraction",
    "labels/noise_before",
    "labels/noise_after",
    "test/precision",
    "test/recall",
    "test_by_group/f1",
    "test/auprc",
)
CHARTS = ("test/f1", "labels/noise_after", "labels/kept_fraction")
"""Charts of the view, beside one of the differences to each reference."""
WIDTH = 120
"""Pixels of a column."""


def order(client: "MlflowClient", sweep: str, runs: Iterable[str]) -> None:
    """Have the UI sort the runs of a sweep as its study names them, behind the sweep's own run.

    Args:
        client: A client of the store.
        sweep: Id of the sweep's own run.
        runs: Ids of its runs, in the order of the study.
    """
    started = client.get_run(sweep).info.start_time
    for place, run in enumerate([sweep, *runs]):
        client.set_tag(run, ORDER, f"{started}-{place:05d}")


def offer(
    client: "MlflowClient", experiment: str, sweep: str, references: Sequence[str], metrics: Iterable[str] = ()
) -> str:
    """Save the view with the experiment.

    Args:
        client: A client of the store.
        experiment: Id of the experiment.
        sweep: Id of the sweep's own run, which is shown with its runs.
        references: The arms that every other arm is compared with.
        metrics: The names of the runs' metrics: charts that the UI makes of them are folded.

    Returns:
        The view's address, relative to wherever the UI is served.
    """
    differences = [f"delta/{name}/f1" for name in references]
    columns = [_metric(name) for name in (*COLUMNS, *differences, *MORE_COLUMNS)]
    view = {
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": dict.fromkeys(columns, WIDTH),
        "runsExpanded": {sweep: True},
        "runsPinned": [],
        "runsHidden": [],
        "runsHiddenMode": "SHOW_ALL",
        "orderByKey": f"tags.`{ORDER}`",
        "orderByAsc": True,
        "searchFilter": "",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "useGroupedValuesInCharts": False,
        **_charts([CHARTS[0], *differences, *CHARTS[1:]], metrics),
    }
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(view))
    return f"/#/experiments/{experiment}/runs?viewStateShareKey={VIEW}"


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _charts(shown: Sequence[str], metrics: Iterable[str]) -> dict[str, Any]:
    """A section of bar charts, before those that the UI makes of every metric."""
    charts = [
        {
            "uuid": f"silvertune-{number}", "type": "BAR", "metricKey": name, "selectedMetricKeys": [name],
            "metricSectionId": "silvertune", "runsCountToCompare": 40, "deleted": False, "isGenerated": False,
        }
        for number, name in enumerate(shown)
    ]  # fmt: skip
    folded = sorted({name.rpartition("/")[0] for name in metrics} - {""})
    sections = [
        {"uuid": uuid, "name": name, "display": uuid == VIEW, "isReordered": True, "deleted": False,
         "isGenerated": uuid != VIEW}
        for uuid, name in ((VIEW, "arms"), *((f"folded-{number}", name) for number, name in enumerate(folded)))
    ]  # fmt: skip
    return {"compareRunCharts": charts, "compareRunSections": sections, "isAccordionReordered": True}
