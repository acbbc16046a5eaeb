"""Operations written once and bound to either driver.

``@operation`` makes a method out of ``Steps``: on a ``Noun[Sync]`` it returns the result, on a ``Noun[Async]`` an
awaitable of it. ``@listing`` does so for what ``Steps`` emit: an iterator, or an async iterator.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from trainshed.client.drivers import Driver
from trainshed.client.effects import Steps
from trainshed.client.scope import Scope

P = ParamSpec("P")
T = TypeVar("T")


class Sync:
    """Marks nouns whose methods return results."""


class Async:
    """Marks nouns whose methods are awaited."""


M = TypeVar("M", Sync, Async)


class Noun(Generic[M]):
    """A kind of resource and what can be done with it, in one scope."""

    def __init__(self, driver: Driver, scope: Scope) -> None:
        self.driver = driver
        self.scope = scope


class operation(Generic[P, T]):  # noqa: N801 - used as a decorator
    """A method that has one result."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self.steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, noun: None, owner: type) -> Self: ...
    @overload
    def __get__(self, noun: Noun[Sync], owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, noun: Noun[Async], owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, noun: Any, owner: type) -> Any:
        if noun is None:
            return self

        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return noun.driver.run(self.steps(noun, *args, **kwargs))

        call.__doc__ = self.__doc__
        return call


class listing(Generic[T]):  # noqa: N801 - used as a decorator
    """Makes a method that yields items: ``@listing(Kind)`` says of what kind the emitted items are."""

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind

    def __call__(self, steps: Callable[Concatenate[Any, P], Steps[None]]) -> BoundListing[P, T]:
        return BoundListing(steps)


class BoundListing(Generic[P, T]):
    """What ``@listing`` makes of a method."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[None]]) -> None:
        self.steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, noun: None, owner: type) -> Self: ...
    @overload
    def __get__(self, noun: Noun[Sync], owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, noun: Noun[Async], owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, noun: Any, owner: type) -> Any:
        if noun is None:
            return self

        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return noun.driver.iterate(self.steps(noun, *args, **kwargs))

        call.__doc__ = self.__doc__
        return call
