"""Signals set a flag and nothing else."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from jobs.signals import EXIT_STOPPED, STOPPING, listening, watch_signals


@pytest.mark.parametrize("signum", STOPPING)
def test_a_signal_sets_the_flag_and_the_body_goes_on(signum: int) -> None:
    with watch_signals() as flag:
        assert not flag.is_set()
        os.kill(os.getpid(), signum)
        assert flag.is_set()
        assert flag.signal == signum


def test_the_first_signal_is_remembered() -> None:
    with watch_signals() as flag:
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert flag.signal == signal.SIGUSR2


def test_a_second_interrupt_raises_and_the_first_does_not() -> None:
    with watch_signals() as flag:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back_even_after_an_exception() -> None:
    before = {signum: signal.getsignal(signum) for signum in STOPPING}
    with pytest.raises(ValueError, match="inside"), watch_signals():
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
        raise ValueError("inside")
    assert {signum: signal.getsignal(signum) for signum in STOPPING} == before


def test_nested_watches_each_have_their_own_flag() -> None:
    with watch_signals() as outer:
        with watch_signals() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
        assert inner.is_set()
        assert not outer.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert outer.is_set()


def test_whoever_runs_the_job_in_this_process_hears_of_it_too() -> None:
    heard: list[int] = []
    with listening(heard.append):
        with watch_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        assert heard == [signal.SIGTERM, signal.SIGINT]
    with watch_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGTERM, signal.SIGINT]


def test_outside_the_main_thread_it_does_nothing() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with watch_signals() as flag:
            seen.extend([flag.is_set(), signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, before]


def test_the_exit_code_is_no_other_ones() -> None:
    from jobs import main

    others = {main.EXIT_DONE, main.EXIT_FAILED, main.EXIT_USAGE, main.EXIT_DUPLICATE, main.EXIT_REFUSED}
    assert EXIT_STOPPED not in others
    assert EXIT_STOPPED < 126
