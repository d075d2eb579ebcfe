"""Work in order, with threads and without: both tell and do the same."""

from __future__ import annotations

import threading

import pytest

from sixsmith.model.workers import Workers


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_the_order_of_the_work(count: int) -> None:
    with Workers(count) as workers:
        tasks = [workers.submit(lambda number: number * 2, number) for number in range(10)]
        assert [task.result() for task in tasks] == list(range(0, 20, 2))
        assert tasks[0].result() == 0


@pytest.mark.parametrize("count", [1, 3])
def test_at_the_end_all_work_is_done(count: int) -> None:
    done: list[int] = []
    with Workers(count) as workers:
        for number in range(10):
            workers.submit(done.append, number)
    assert sorted(done) == list(range(10))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_one_at_a_time_stops_at_the_first_error(error: type[BaseException]) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        done.append(number)
        if number == 1:
            raise error

    with pytest.raises(error), Workers(1) as workers:
        tasks = [workers.submit(work, number) for number in range(10)]
        for task in tasks:
            task.result()
    assert done == [0, 1]
    with pytest.raises(RuntimeError, match="cancelled"):
        tasks[5].result()


def test_one_at_a_time_starts_no_thread_and_keeps_no_result() -> None:
    with Workers(1) as workers:
        tasks = [workers.submit(threading.current_thread) for _ in range(3)]
        assert tasks.pop().result() is threading.main_thread()
        assert len(workers._put_off) == 2
