from tests import docstrings


def complete(votes: object, *, k: int) -> None:
    """Keep something.

    More about it.

    Source: a paper.

    Args:
        votes: The votes.
        k: How many,
            and more about it.

    Returns:
        What is kept.

    Raises:
        ValueError: Never.

    Fails where nobody looks.
    """


def bare(votes: object, *, k: int) -> None:
    """Keep something"""


def one_parameter_short(votes: object, *, k: int, floor: float) -> None:
    pass


def one_parameter_too_many(votes: object) -> None:
    pass


def test_a_complete_docstring_has_no_gaps() -> None:
    assert docstrings.gaps(complete) == []


def test_a_bare_docstring_lacks_everything() -> None:
    assert docstrings.gaps(bare) == [
        "Source: .",
        "Args:\n",
        "Returns:\n",
        "Fails where .",
        "a summary of one sentence on the first line",
        "Args: k",
        "Args: votes",
    ]


def test_every_parameter_is_described_and_no_other() -> None:
    one_parameter_short.__doc__ = one_parameter_too_many.__doc__ = complete.__doc__
    assert docstrings.gaps(one_parameter_short) == ["Args: floor"]
    assert docstrings.gaps(one_parameter_too_many) == ["Args: k"]


def test_the_parts_stand_in_their_order() -> None:
    text = str(complete.__doc__)
    one_parameter_short.__doc__ = text.replace("Source: a paper.", "").replace("floor", "k") + "\n    Source: a paper."
    assert "the order of the parts" in docstrings.gaps(one_parameter_short)
