"""The real service for the tests of this folder."""

from tests.support.services import service, shared_service, trainshed

__all__ = ["service", "shared_service", "trainshed"]
