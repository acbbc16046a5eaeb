"""Runs the scenario with azure-mgmt-batchai 7.0.0.

The client's own policy sends bearer tokens over https only; ``authentication_policy`` is its documented way to another.
"""

import inspect

from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import AzureKeyCredentialPolicy
from azure.mgmt.batchai import BatchAI, models, operations
from scenario import run
from session import Session


class Sdk7(Session):
    error_type = HttpResponseError
    models = models

    def client_of(self, url, token):
        credential = AzureKeyCredential(token)
        return BatchAI(
            credential,
            self.subscription,
            base_url=url,
            authentication_policy=AzureKeyCredentialPolicy(credential, "Authorization", prefix="Bearer"),
        )

    def error_of(self, error):
        told = error.error
        details = [{"code": one.code, "message": one.message} for one in getattr(told, "details", None) or []]
        return {
            "status": error.status_code,
            "code": getattr(told, "code", None),
            "message": getattr(told, "message", None),
            "target": getattr(told, "target", None),
            "details": details,
        }

    def pages_of(self, paged):
        return [list(page) for page in paged.by_page()]

    def operation_classes(self):
        groups = {
            name: type(group)
            for name, group in vars(self.client).items()
            if inspect.getmodule(type(group)).__name__.startswith(operations.__name__)
        }
        assert len(groups) == 7, groups
        return groups

    def workspace(self, location, tags=None):
        return (models.WorkspaceCreateParameters(location=location, tags=tags),)

    def tags(self, tags):
        return models.WorkspaceUpdateParameters(tags=tags)

    def scale(self, settings):
        return models.ClusterUpdateParameters(scale_settings=settings)


run(Sdk7())
