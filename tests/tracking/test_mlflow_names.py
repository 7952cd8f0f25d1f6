"""Names as MLflow takes them."""

import posixpath
import re

from hypothesis import given
from hypothesis import strategies as st

from silvertune.tracking.mlflow_names import mlflow_names


@given(st.lists(st.text("a+./ \u0e19\u0e34", max_size=300), unique=True))
def test_every_name_is_one_that_mlflow_takes_and_no_two_are_the_same(names: list[str]) -> None:
    taken = mlflow_names(names)
    assert len(set(taken)) == len(names)
    for name in taken:
        assert re.fullmatch(r"[/\w.\- :]+", name)
        assert posixpath.normpath(name) == name
        assert len(name) <= 250


def test_usual_names_stay() -> None:
    names = ["test/f1", "labels_by_class/a b/noise_after", "\u00e9/x.y:z-1"]
    assert mlflow_names(names) == names
