import threading
import time

import pytest

from koodrive_nb import workers


@pytest.fixture(autouse=True)
def _quick_ticks(monkeypatch):
    monkeypatch.setattr(workers, "_TICK_S", 0.01)


@pytest.fixture
def run():
    """Run jobs; whatever waits on `run.release` goes on at the end of the test."""

    def run(jobs, work, *, max_workers=4, tick=lambda: None):
        before = set(threading.enumerate())

        def watched(job):
            threads.update(set(threading.enumerate()) - before)
            work(job)

        workers.run(jobs, watched, max_workers=max_workers, stop=run.stop, tick=tick)

    threads = run.threads = set()
    run.stop, run.release = threading.Event(), threading.Event()
    yield run
    run.release.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.parametrize("max_workers", [1, 2, 7, 100])
def test_every_job_is_done_once(run, max_workers):
    done = []
    run(range(50), done.append, max_workers=max_workers)
    assert sorted(done) == list(range(50))
    assert not run.stop.is_set()


def test_one_worker_does_the_jobs_in_their_order(run):
    done = []
    run(iter("koodrive"), done.append, max_workers=1)
    assert "".join(done) == "koodrive"


def test_jobs_are_started_in_their_order(run):
    started, order = [], threading.Lock()
    turns = [threading.Event() for _ in range(30)]
    turns[0].set()

    def work(job):
        # Whoever took a later job waits until all the earlier ones have begun.
        assert turns[job].wait(5)
        with order:
            started.append(job)
        if job + 1 < len(turns):
            turns[job + 1].set()

    run(range(30), work, max_workers=3)
    assert started == list(range(30))


@pytest.mark.parametrize("max_workers", [1, 2, 5])
def test_as_many_work_at_once_as_may_and_no_more(run, max_workers):
    together = threading.Barrier(max_workers, timeout=5)
    counting, at_once, most = threading.Lock(), 0, 0

    def work(job):
        nonlocal at_once, most
        with counting:
            at_once += 1
            most = max(most, at_once)
        together.wait()
        with counting:
            at_once -= 1

    run(range(4 * max_workers), work, max_workers=max_workers)
    assert most == max_workers


def test_no_more_threads_are_started_than_there_are_jobs(run, monkeypatch):
    made = []

    class Counted(threading.Thread):
        def start(self):
            made.append(self)
            super().start()

    monkeypatch.setattr(workers.threading, "Thread", Counted)
    run(range(3), lambda job: None, max_workers=50)
    assert len(made) == 3


def test_no_jobs_are_done_at_once(run):
    ticks, done = [], []
    run([], done.append, tick=lambda: ticks.append(0))
    assert (ticks, done, run.threads) == ([0], [], set())


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_a_job_raises_is_raised_in_the_caller_and_stops_the_others(run, kind):
    raised, started = kind("no"), []

    def work(job):
        started.append(job)
        if job == 0:
            raise raised
        assert run.stop.wait(5)

    with pytest.raises(kind) as caught:
        run(range(1000), work, max_workers=2)
    assert caught.value is raised
    assert run.stop.is_set()
    for thread in run.threads:
        thread.join(5)
    assert set(started) <= {0, 1}


def test_an_exception_does_not_wait_for_a_worker_that_is_blocked(run):
    blocked = threading.Event()

    def work(job):
        if job == 0:
            blocked.set()
            run.release.wait(5)
        else:
            blocked.wait(5)
            raise ValueError("no")

    before = time.monotonic()
    with pytest.raises(ValueError, match="no"):
        run(range(2), work, max_workers=2)
    assert time.monotonic() - before < 1


def test_the_first_of_several_exceptions_is_raised(run):
    late = threading.Event()

    def work(job):
        if job == 1:
            late.wait(5)
        raise ValueError(str(job))

    with pytest.raises(ValueError, match="0"):
        run(range(2), work, max_workers=2)
    late.set()


def test_a_job_that_stops_is_the_last_of_its_worker(run):
    done = []

    def work(job):
        done.append(job)
        if job == 3:
            run.stop.set()

    run(range(100), work, max_workers=1)
    assert done == [0, 1, 2, 3]


def test_nothing_is_done_where_all_is_stopped_already(run):
    done = []
    run.stop.set()
    run(range(100), done.append)
    assert done == []


def test_a_stop_from_outside_ends_the_run_early(run):
    done = []

    def work(job):
        done.append(job)
        run.stop.wait(0.005)

    def tick():
        if len(done) > 3:
            run.stop.set()

    run(range(10_000), work, max_workers=2, tick=tick)
    assert 3 < len(done) < 10_000


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interruption_leaves_at_once_though_a_worker_is_blocked(run, kind):
    started = []

    def work(job):
        started.append(job)
        run.release.wait(5)

    def interrupt():
        if len(started) == 2:
            raise kind

    before = time.monotonic()
    with pytest.raises(kind):
        run(range(100), work, max_workers=2, tick=interrupt)
    assert time.monotonic() - before < 1
    assert run.stop.is_set()
    assert any(thread.is_alive() for thread in run.threads)
    run.release.set()
    for thread in run.threads:
        thread.join(5)
    assert sorted(started) == [0, 1]


def test_threads_are_daemons_with_a_name_of_ours(run):
    found = []
    run(range(8), lambda job: found.append(threading.current_thread()), max_workers=4)
    assert all(thread.daemon for thread in found)
    assert {thread.name.partition("-")[0] for thread in found} == {"koodrive"}
    assert threading.current_thread() not in found


def test_ticks_come_in_the_calling_thread_while_jobs_run_and_once_at_the_end(run):
    ticks, done = [], []

    def work(job):
        while len(ticks) < 3:
            run.release.wait(0.005)
        done.append(job)

    def tick():
        ticks.append((threading.current_thread(), len(done)))

    run(range(1), work, tick=tick)
    assert {thread for thread, _ in ticks} == {threading.current_thread()}
    assert [count for _, count in ticks][:3] == [0, 0, 0]
    assert ticks[-1][1] == 1


def test_a_thread_that_cannot_be_started_stops_those_that_could(run, monkeypatch):
    started = []

    class Limited(threading.Thread):
        def start(self):
            if started:
                raise RuntimeError("can't start new thread")
            started.append(self)
            super().start()

    monkeypatch.setattr(workers.threading, "Thread", Limited)
    done = []
    with pytest.raises(RuntimeError, match="can't start"):
        run(range(1000), lambda job: (done.append(job), run.stop.wait(5)), max_workers=4)
    assert run.stop.is_set()
    started[0].join(5)
    assert len(done) <= 1
