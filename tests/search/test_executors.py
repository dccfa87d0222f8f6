"""Every crew gives the same results; calls survive the death of their worker; workers do not outlive the compile."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qcompiler.errors import DataError, MissingExtraError, UsageError, WorkerError
from qcompiler.search.alike import check, environment
from qcompiler.search.executors import InProcess, open_executor
from qcompiler.search.processes import Processes
from tests.search import workers
from tests.search.workers import (
    add,
    always_dies,
    dask_cluster,
    identity_of,
    more_workers,
    nap,
    nap_over,
    once,
    refuse,
    who,
)


def alive(pid: int) -> bool:
    """Whether a process is there, zombies apart."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    return False


def test_in_process_calls_are_done_where_they_are_submitted() -> None:
    with open_executor() as crew:
        assert isinstance(crew, InProcess)
        assert crew.submit(who).result() == os.getpid()
        value = [1, 2]
        assert crew.submit(identity_of, crew.share("a", value)).result() == (os.getpid(), id(value), 2)
        with pytest.raises(DataError, match="does not fit"):
            crew.submit(refuse, "x").result()


def test_in_process_nothing_is_done_before_it_is_needed() -> None:
    done = []
    with open_executor() as crew:
        results = crew.ordered(lambda i: done.append(i) or i, ((i,) for i in range(5)))
        assert (next(results), next(results), done) == (0, 1, [0, 1])
        results.close()
    assert done == [0, 1]


def test_workers_give_results_in_order_and_errors_as_they_were() -> None:
    with open_executor(workers=2) as crew:
        assert list(crew.ordered(add, ((i, 1) for i in range(20)))) == list(range(1, 21))
        assert crew.submit(add, 1, second=2).result() == 3
        pids = {crew.submit(who).result() for _ in range(4)}
        assert os.getpid() not in pids and len(pids) <= 2
        with pytest.raises(DataError) as caught:
            crew.submit(refuse, "tensor").result()
        assert str(caught.value) == "tensor: does not fit (take another)"


def test_shared_values_are_loaded_once_and_go_with_their_handle() -> None:
    with Processes(1) as crew:
        folder = crew._folder
        handle = crew.share("a", list(range(1000)))
        assert crew.share("a", []) is handle
        found = {crew.submit(identity_of, handle).result() for _ in range(3)}
        assert len(found) == 1 and found.pop()[2] == 1000
        assert len(list(folder.iterdir())) == 1
        del handle
        gc.collect()
        assert list(folder.iterdir()) == []
        assert crew.submit(identity_of, crew.share("a", [1])).result()[2] == 1
    assert not folder.exists()


def test_a_call_is_made_again_when_its_worker_dies(tmp_path: Path) -> None:
    with Processes(2) as crew:
        handle = crew.share("a", "text")
        before = {crew.submit(nap, 0.2), crew.submit(nap, 0.2)}
        pids = {future.result() for future in before}
        futures = [crew.submit(once, str(tmp_path / f"mark{i % 2}"), i) for i in range(6)]
        assert [future.result() for future in futures] == list(range(6))
        assert crew.submit(identity_of, handle).result()[2] == 4
        assert any(not alive(pid) for pid in pids)


def test_a_call_that_kills_every_worker_is_given_up_and_the_others_go_on() -> None:
    with Processes(1) as crew:
        bad = crew.submit(always_dies)
        good = crew.submit(add, 1, 1)
        with pytest.raises(WorkerError, match="3 died"):
            bad.result()
        assert good.result() == 2


def test_leaving_early_ends_the_workers_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Processes(1) as crew:
        pid = crew.submit(who).result()
        crew.submit(nap, 60.0)
        waiting = crew.submit(add, 1)
        raise KeyboardInterrupt
    assert waiting.cancelled() and time.monotonic() - start < 20
    assert not alive(pid)
    with pytest.raises(RuntimeError):
        crew.submit(add, 1)


def test_workers_do_not_outlive_a_killed_process() -> None:
    code = (
        "import sys\nfrom qcompiler.search.processes import Processes\nfrom tests.search.workers import nap, who\n"
        "if __name__ == '__main__':\n    crew = Processes(1)\n"
        "    print(crew.submit(who).result(), crew._folder, flush=True)\n    crew.submit(nap, 60.0).result()\n"
    )
    root = Path(workers.__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split()
        assert alive(int(pid)) and Path(folder).is_dir()
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (alive(int(pid)) or Path(folder).exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(pid)) and not Path(folder).exists()


def test_a_cluster_gives_the_same_and_survives_the_death_of_a_worker(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with dask_cluster(tmp_path) as (address, started), open_executor(cluster=address) as crew:
        crew.client.wait_for_workers(2, timeout=30)  # type: ignore[attr-defined]
        handle = crew.share("abc", list(range(1000)))
        assert crew.share("abc", []) is handle
        assert list(crew.ordered(add, ((i, 1) for i in range(20)))) == list(range(1, 21))
        with pytest.raises(DataError) as caught:
            crew.submit(refuse, "tensor").result()
        assert str(caught.value) == "tensor: does not fit (take another)"
        held = {crew.submit(identity_of, handle).result() for _ in range(6)}
        assert {size for _, _, size in held} == {1000} and len(held) <= 2
        # a call that kills its worker is made again by the other, which has the shared value, too
        futures = [crew.submit(nap, 0.1) for _ in range(4)] + [crew.submit(once, str(tmp_path / "mark"), 7)]
        assert futures[-1].result() == 7
        assert [process.poll() for process in started].count(None) == 1
        assert crew.submit(identity_of, handle).result()[2] == 1000
        # nobody is left: the work is given up, in one line
        for process in started:
            process.kill()
        lost = crew.submit(identity_of, handle)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("qcompiler.search.cluster.PATIENCE", 0.5)
            with pytest.raises(WorkerError, match="journal"):
                lost.result()


def test_a_shared_value_that_died_with_its_worker_is_handed_out_again(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with dask_cluster(tmp_path, 1) as (address, started), open_executor(cluster=address) as crew:
        handle = crew.share("abc", list(range(1000)))
        first = crew.submit(identity_of, handle).result()
        pending = crew.submit(nap_over, 0.5, handle)
        started[0].kill()
        with more_workers(tmp_path):
            assert pending.result(60) == 1000
            again = {crew.submit(identity_of, handle).result(60) for _ in range(3)}
            assert len(again) == 1 and again.pop()[0] != first[0]


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("qcompiler.search.cluster.ANSWER", 1.0)
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        with pytest.raises(WorkerError, match="no Dask scheduler answers"), open_executor(cluster=address):
            pass
    with pytest.raises(UsageError, match="only one"), open_executor(2, "tcp://127.0.0.1:1"):
        pass


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"qcompiler\[cluster\]"), open_executor(cluster="tcp://127.0.0.1:1"):
        pass


def test_a_worker_that_computes_otherwise_is_refused() -> None:
    check(environment(), environment(), "a")
    with pytest.raises(WorkerError, match=r"onnxruntime 1\.0"):
        check(environment(), {**environment(), "onnxruntime": "1.0"}, "tcp://a:1")


@pytest.mark.parametrize("kind", [DataError, WorkerError, MissingExtraError])
def test_errors_can_be_sent(kind: type[DataError]) -> None:
    again = pickle.loads(pickle.dumps(kind("what", where="where", hint="hint")))
    assert type(again) is kind and str(again) == "where: what (hint)"
