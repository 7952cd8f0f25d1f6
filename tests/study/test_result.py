"""What is said of a sweep's failures."""

from silvertune.study.result import Failure, in_few_lines


def test_failures_for_one_reason_share_a_line() -> None:
    alike, other = "filter=confidence: no vote has a confidence", "killed"
    failures = [
        Failure("sure/s0", alike),
        Failure("all/s0", other),
        Failure("sure/s1", alike),
        Failure("sure/s2", alike),
    ]
    assert in_few_lines(failures) == [f"sure/s0 and 2 more: {alike}", f"all/s0: {other}"]
    assert in_few_lines([]) == []
