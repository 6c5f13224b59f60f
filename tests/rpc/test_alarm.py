"""The one thread that ends what took too long."""

from __future__ import annotations

import queue
import threading

from exchange.rpc.alarm import Alarm


def test_what_takes_too_long_is_acted_on_and_what_does_not_is_not() -> None:
    alarm, acts = Alarm(0.05), queue.Queue[str]()
    with alarm.unless_done(lambda: acts.put("quick")):
        pass
    with alarm.unless_done(lambda: acts.put("slow")):
        assert acts.get(timeout=30) == "slow"
    with alarm.unless_done(lambda: acts.put("slow again")):
        assert acts.get(timeout=30) == "slow again"
    assert acts.empty()


def test_many_at_once_need_one_thread() -> None:
    alarm, acts, ready = Alarm(0.05), queue.Queue[int](), threading.Barrier(9)

    def wait(number: int) -> None:
        over = threading.Event()

        def act() -> None:
            acts.put(number)
            over.set()

        with alarm.unless_done(act):
            ready.wait(30)
            over.wait(30)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    ready.wait(30)
    for thread in threads:
        thread.join(30)
    assert sorted(acts.get(timeout=30) for _ in range(8)) == list(range(8))
    assert sum(thread.name == "alarm" and thread is alarm._thread for thread in threading.enumerate()) == 1
