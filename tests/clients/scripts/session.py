"""What the scripts of the Python clients share: calls by operation, results as JSON, and what was called.

Standard library only: the clients' own interpreters run it.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
import urllib.request

#: Seconds for one long-running operation, and for a job.
PATIENCE = 40.0


class Session:
    """One run of a scenario. A client's script says in a subclass what only that client knows."""

    #: What the client raises when the service says no.
    error_type = Exception

    def __init__(self):
        self.url = os.environ["SERVICE_URL"]
        self.faulty_url = os.environ["FAULTY_URL"]
        self.token = os.environ["SERVICE_TOKEN"]
        self.subscription = os.environ["SUBSCRIPTION"]
        self.client = self.client_of(self.url, self.token)
        self.faulty = self.client_of(self.faulty_url, self.token)
        self.stranger = self.client_of(self.url, "not-a-token")
        self.called = set()
        self.steps = {}

    # What a client's script says.

    def client_of(self, url, token):
        raise NotImplementedError

    def error_of(self, error):
        """Status, code, message and details of what the client raised."""
        raise NotImplementedError

    def pages_of(self, paged):
        """The pages of a list as the client gets them."""
        raise NotImplementedError

    def operation_classes(self):
        """The client's operation groups by the name that they have on the client."""
        raise NotImplementedError

    # What a scenario uses.

    def operations(self):
        """Every operation that the client has, found by looking at it."""
        return sorted(
            f"{group}.{name}"
            for group, kind in self.operation_classes().items()
            for name, _ in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        )

    def has(self, operation):
        return self._found(self.client, operation) is not None

    def start(self, operation, *arguments, client=None):
        """Call an operation; long-running ones give a poller."""
        name, method = self._found(client or self.client, operation)
        self.called.add(name)
        return method(*arguments)

    def call(self, operation, *arguments, client=None):
        """Call an operation to its end."""
        return self.finish(self.start(operation, *arguments, client=client))

    def finish(self, started):
        """The result of a poller, with a bound; anything else as it is."""
        if not hasattr(started, "done"):
            return started
        started.wait(PATIENCE)
        if not started.done():
            raise TimeoutError(f"the operation did not end within {PATIENCE:g} s")
        return started.result()

    def step(self, name, operation, *arguments, client=None):
        """Call an operation and keep the result, or the error, under a name. Skipped where the client has it not."""
        if not self.has(operation):
            return None
        return self.keep(name, lambda: self.call(operation, *arguments, client=client))

    def pages(self, name, operation, *arguments):
        """List page by page, and keep the names or usages of each page."""
        self.keep(name, lambda: [[item.name for item in page] for page in self.listed(operation, *arguments)])

    def listed(self, operation, *arguments):
        return self.pages_of(self.start(operation, *arguments))

    def keep(self, name, make):
        """Keep what ``make`` returns or refuses; the result itself is returned, None for an error."""
        if name in self.steps:
            raise ValueError(f"two steps are called {name}")
        try:
            made = make()
        except self.error_type as error:
            self.steps[name] = {"error": self.error_of(error)}
            return None
        except Exception as error:
            # Not what a service's answer should ever lead to: the tests see it under the step's name.
            self.steps[name] = {"raised": f"{type(error).__name__}: {error}"}
            return None
        self.steps[name] = shown(made)
        return made

    def attempt(self, part):
        """A part of the scenario. When it breaks off, the tests hear why, and the other parts go on."""
        try:
            part(self)
        except Exception as error:
            self.steps[f"the part {part.__name__}"] = {"raised": f"{type(error).__name__}: {error}"}

    def until(self, what, check):
        """The first answer that is true; fails after PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = check()
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come within {PATIENCE:g} s")
            time.sleep(0.1)

    def report(self):
        """Everything, as one line of JSON on standard output."""
        json.dump(
            {"operations": self.operations(), "called": sorted(self.called), "steps": self.steps},
            sys.stdout,
            default=str,
        )

    def _found(self, client, operation):
        group, _, name = operation.partition(".")
        operations = getattr(client, group)
        for spelled in (name, f"begin_{name}"):
            method = getattr(operations, spelled, None)
            if method is not None:
                return f"{group}.{spelled}", method
        return None


def shown(value):
    """A model as the client itself writes it out; lists of them; plain values as they are."""
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    return value.as_dict() if hasattr(value, "as_dict") else value


def read(url):
    """The text behind a download link: a plain GET without a token."""
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.read().decode()
