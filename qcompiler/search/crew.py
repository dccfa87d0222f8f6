"""Who does the work of a search: `concurrent.futures.Executor`, with large arguments handed out once.

    crew.share(digest, value)           a handle that stands for `value` among the arguments of `submit`
    crew.submit(function, *arguments)   a future; `function` is one that can be imported
    crew.ordered(function, calls)       the results of many calls, in their order, a few calls ahead

A worker is given a shared value the first time that a call needs it, under the hash of its content, and keeps it for
as long as somebody here holds the handle. A call whose worker dies is made again elsewhere. What a call gives depends
on its arguments alone, so results are the same bits wherever they are computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

DEATHS = 3
"""So many workers may die over one call."""


@dataclass(eq=False)
class Shared:
    """Stands for a value that workers have; the value goes when the handle does.

    Attributes:
        digest: hash of the content.
        held: the value itself, or what the crew finds it by.
    """

    digest: str
    held: Any = None


class Crew(Executor, ABC):
    """See the module.

    Attributes:
        width: how many calls run at once.
        ahead: how many calls `ordered` makes before it waits for the first.
        beside: how many calls share the memory of one machine.
    """

    width: int = 1
    ahead: int = 0
    beside: int = 1

    @abstractmethod
    def share(self, digest: str, value: object) -> Shared:
        """Hands out a value.

        Args:
            digest: hash of its content: equal values have equal ones.
            value: anything that can be pickled; workers get a copy, the process itself does not.
        """

    @abstractmethod
    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Has `fn(*args, **kwargs)` done; a handle among `args` stands for its value."""

    def ordered(self, function: Callable[..., T], calls: Iterable[Sequence[Any]]) -> Iterator[T]:
        """The result of `function(*call)` for each call, in order; calls that were not reached are dropped.

        Raises:
            Exception: what the first failing call raised.
            WorkerError: the work cannot be done.
        """
        waiting: deque[Future[T]] = deque()
        try:
            for call in calls:
                waiting.append(self.submit(function, *call))
                if len(waiting) > self.ahead:
                    yield self.wait(waiting.popleft())
            while waiting:
                yield self.wait(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()

    def wait(self, future: Future[T]) -> T:
        """The result of a call."""
        return future.result()


class InProcess(Crew):
    """Does each call when it is submitted, in the thread that submits it."""

    def share(self, digest: str, value: object) -> Shared:
        return Shared(digest, value)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*(arg.held if isinstance(arg, Shared) else arg for arg in args), **kwargs))
        except Exception as error:  # it is the caller's, who asks for the result
            future.set_exception(error)
        return future
