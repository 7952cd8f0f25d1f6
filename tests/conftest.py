"""Fixtures that every test may use. The data makers are plain functions in `made`."""

import copy

import pytest
from tests import made

from silvertune.schema import Task


@pytest.fixture
def task() -> Task:
    """Binary: soe against other, soe is positive."""
    return copy.deepcopy(made.SOE)


@pytest.fixture
def colours() -> Task:
    """Three classes, none of them positive."""
    return copy.deepcopy(made.COLOURS)
