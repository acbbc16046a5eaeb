"""Runs the scenario with azure-mgmt-batchai 2.0.0: msrest's credentials and the service's address, nothing else."""

from azure.mgmt.batchai import BatchAIManagementClient, models, operations
from msrest.authentication import BasicTokenAuthentication
from msrestazure.azure_exceptions import CloudError
from scenario import run
from session import Session


class Sdk2(Session):
    error_type = CloudError
    models = models

    def client_of(self, url, token):
        credentials = BasicTokenAuthentication({"access_token": token})
        return BatchAIManagementClient(credentials, self.subscription, base_url=url)

    def error_of(self, error):
        told = error.error
        details = [{"code": one.error, "message": one.message} for one in getattr(told, "details", None) or []]
        return {
            "status": error.status_code,
            "code": told.error,
            "message": told.message,
            "target": getattr(told, "target", None),
            "details": details,
        }

    def pages_of(self, paged):
        pages = []
        while True:
            try:
                paged.advance_page()
            except StopIteration:
                return pages
            pages.append(list(paged.current_page))

    def operation_classes(self):
        return {
            "operations": operations.Operations,
            "usages": operations.UsagesOperations,
            "clusters": operations.ClustersOperations,
            "file_servers": operations.FileServersOperations,
            "workspaces": operations.WorkspacesOperations,
            "experiments": operations.ExperimentsOperations,
            "jobs": operations.JobsOperations,
        }

    def workspace(self, location, tags=None):
        return (location, tags)

    def tags(self, tags):
        return tags

    def scale(self, settings):
        return settings


run(Sdk2())
