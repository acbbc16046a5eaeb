"""Every operation of the contract, good and bad, as both Python clients make them. The tests judge what came of it.

The operations are named as client 2.0.0 names them; 7.0.0 calls the long ones ``begin_...``.
"""

from __future__ import annotations

from session import read

GROUP = "ClientGroup"
PREFIX = "$AZ_BATCHAI_MOUNT_ROOT/logs"
FINAL = ("succeeded", "failed")


def run(session):
    """The whole scenario, then its report."""
    for part in (workspaces, experiments, file_servers, clusters, usages, jobs, refusals, retries, deletions):
        session.attempt(part)
    session.report()


def workspaces(s):
    s.pages("operations", "operations.list")
    s.step("wrong token", "workspaces.get", GROUP, "whole", client=s.stranger)
    s.step("workspace created", "workspaces.create", GROUP, "whole", *s.workspace("northeurope", {"team": "one"}))
    s.step("workspace created again", "workspaces.create", GROUP, "whole", *s.workspace("northeurope", {"team": "one"}))
    s.step("workspace moved", "workspaces.create", GROUP, "whole", *s.workspace("westus"))
    s.step("workspace at no place", "workspaces.create", GROUP, "nowhere", *s.workspace("nowhere/land"))
    s.step("workspace badly named", "workspaces.create", GROUP, "wörk", *s.workspace("northeurope"))
    s.step("workspace tagged", "workspaces.update", GROUP, "whole", s.tags({"team": "two"}))
    s.step("workspace got", "workspaces.get", GROUP, "whole")
    s.step("workspace aside", "workspaces.create", GROUP, "aside", *s.workspace("northeurope"))
    s.step("workspace elsewhere", "workspaces.create", "OtherGroup", "other", *s.workspace("northeurope"))
    one = s.models.WorkspacesListByResourceGroupOptions(max_results=1)
    s.pages("workspaces of the group", "workspaces.list_by_resource_group", GROUP, one)
    s.pages("workspaces of the subscription", "workspaces.list", s.models.WorkspacesListOptions(max_results=1))


def experiments(s):
    here = (GROUP, "whole")
    s.step("experiment created", "experiments.create", *here, "first")
    s.step("experiment created again", "experiments.create", *here, "first")
    s.step("experiment got", "experiments.get", *here, "first")
    s.step("second experiment", "experiments.create", *here, "second")
    one = s.models.ExperimentsListByWorkspaceOptions(max_results=1)
    s.pages("experiments", "experiments.list_by_workspace", *here, one)


def file_servers(s):
    here = (GROUP, "whole")
    s.step("file server created", "file_servers.create", *here, "files", _file_server(s))
    s.step("file server created again", "file_servers.create", *here, "files", _file_server(s))
    s.step("file server changed", "file_servers.create", *here, "files", _file_server(s, disk_count=3))
    s.step("file server of unknown size", "file_servers.create", *here, "bad", _file_server(s, "Standard_Abacus"))
    s.step("file server without disks", "file_servers.create", *here, "bad", _file_server(s, disk_count=0))
    s.step("file server got", "file_servers.get", *here, "files")
    s.step("second file server", "file_servers.create", *here, "more", _file_server(s))
    one = s.models.FileServersListByWorkspaceOptions(max_results=1)
    s.pages("file servers", "file_servers.list_by_workspace", *here, one)
    s.step("file server deleted", "file_servers.delete", *here, "more")
    s.step("file server after its deletion", "file_servers.get", *here, "more")


def clusters(s):
    here = (GROUP, "whole")
    pair = s.start("clusters.create", *here, "pair", _cluster(s, 2))
    empty = s.start("clusters.create", *here, "empty", _cluster(s, 0))
    s.keep("cluster created", lambda: s.finish(pair))
    s.keep("empty cluster", lambda: s.finish(empty))
    s.step("cluster created again", "clusters.create", *here, "pair", _cluster(s, 2, "STANDARD_D1"))
    s.step("cluster changed", "clusters.create", *here, "pair", _cluster(s, 2, "Standard_D2"))
    s.step("cluster of unknown size", "clusters.create", *here, "bad", _cluster(s, 1, "Standard_Abacus"))
    s.step("cluster with two scales", "clusters.create", *here, "bad", _cluster(s, 1, auto_scale=_auto(s, 0, 1)))
    s.step("cluster of too many nodes", "clusters.create", *here, "bad", _cluster(s, 101))
    s.step("cluster with files", "clusters.create", *here, "mounting", _cluster(s, 0, node_setup=_mounting(s)))
    s.step("file server in use deleted", "file_servers.delete", *here, "files")
    one = s.models.ClustersListByWorkspaceOptions(max_results=1)
    s.pages("clusters", "clusters.list_by_workspace", *here, one)

    s.step("cluster to auto-scale", "clusters.update", *here, "empty", s.scale(_scale(s, auto_scale=_auto(s, 0, 1))))
    s.step("cluster to manual", "clusters.update", *here, "empty", s.scale(_scale(s, 0)))
    wrong = s.scale(_scale(s, auto_scale=_auto(s, 2, 1)))
    s.step("cluster badly scaled", "clusters.update", *here, "empty", wrong)
    s.step("cluster of more cores than the quota", "clusters.create", *here, "bad", _cluster(s, 3, "Standard_NC6"))
    s.step("large cluster", "clusters.create", *here, "large", _cluster(s, 0, "Standard_NC6"))
    s.step("cluster scaled beyond the quota", "clusters.update", *here, "large", s.scale(_scale(s, 3)))
    s.step("cluster beyond the quota", "clusters.create", *here, "bad", _cluster(s, 0))

    def idle():
        found = s.call("clusters.get", *here, "pair")
        return found if found.node_state_counts.idle_node_count == 2 else None

    s.keep("cluster idle", lambda: s.until("two idle nodes", idle))
    s.keep(
        "logins of the cluster",
        lambda: [len(page) for page in s.listed("clusters.list_remote_login_information", *here, "pair")],
    )


def usages(s):
    def rows():
        listed = [usage for page in s.listed("usages.list", "northeurope") for usage in page]
        return [[usage.name.value, usage.name.localized_value, usage.current_value] for usage in listed]

    s.keep("usages", rows)


def jobs(s):
    here = (GROUP, "whole", "first")
    cluster = _id(s, "clusters", "pair")
    whole = _whole_job(s, cluster)
    s.step("job created", "jobs.create", *here, "whole", whole)
    s.step("job created again", "jobs.create", *here, "whole", whole)
    s.step("job changed", "jobs.create", *here, "whole", _job(s, cluster, "echo something else"))
    s.keep("job ended", lambda: _ended(s, "whole"))
    # Again after its end: nothing may run a second time.
    s.step("job created after its end", "jobs.create", *here, "whole", whole)
    s.step("job terminated after its end", "jobs.terminate", *here, "whole")

    options = s.models.JobsListOutputFilesOptions(outputdirectoryid="stdouterr", max_results=1)
    s.pages("files of the job", "jobs.list_output_files", *here, "whole", options)
    s.keep("output of the job", lambda: read(_files(s, "whole")["stdout.txt"].download_url))
    s.keep("size of the output", lambda: _files(s, "whole")["stdout.txt"].content_length)
    s.keep("model of the job", lambda: read(_files(s, "whole", "MODEL")["model.txt"].download_url))
    s.keep(
        "logins of the job",
        lambda: [len(page) for page in s.listed("jobs.list_remote_login_information", *here, "whole")],
    )

    started = {
        "failing job": s.start("jobs.create", *here, "failing", _job(s, cluster, "echo about to fail; exit 7")),
        "queued job": s.start("jobs.create", *here, "queued", _job(s, _id(s, "clusters", "empty"), "true")),
        "endless job": s.start("jobs.create", *here, "endless", _job(s, cluster, "sleep 1000")),
    }
    for name, poller in started.items():
        s.keep(name, lambda poller=poller: s.finish(poller))
    s.keep("job failed", lambda: _ended(s, "failing"))
    s.step("queued job terminated", "jobs.terminate", *here, "queued")
    s.step("queued job after its termination", "jobs.get", *here, "queued")
    s.until("the endless job to run", lambda: s.call("jobs.get", *here, "endless").execution_state == "running")
    s.step("running job terminated", "jobs.terminate", *here, "endless")
    s.step("running job after its termination", "jobs.get", *here, "endless")
    one = s.models.JobsListByExperimentOptions(max_results=1)
    s.pages("jobs", "jobs.list_by_experiment", *here, one)


def refusals(s):
    """Each operation on what is absent, and job bodies that cannot be."""
    whole, absent = (GROUP, "whole"), (GROUP, "absent")
    cluster = _id(s, "clusters", "pair")
    job = _job(s, cluster, "true")
    s.step("absent workspace", "workspaces.get", *absent)
    s.step("absent workspace tagged", "workspaces.update", *absent, s.tags({"a": "b"}))
    s.step("absent workspace deleted", "workspaces.delete", *absent)
    s.step("absent experiment", "experiments.get", *whole, "absent")
    s.step("absent experiment deleted", "experiments.delete", *whole, "absent")
    s.step("experiment in an absent workspace", "experiments.create", *absent, "e")
    s.pages("experiments of an absent workspace", "experiments.list_by_workspace", *absent)
    s.step("absent cluster", "clusters.get", *whole, "absent")
    s.step("absent cluster scaled", "clusters.update", *whole, "absent", s.scale(_scale(s, 0)))
    s.step("absent cluster deleted", "clusters.delete", *whole, "absent")
    s.step("cluster in an absent workspace", "clusters.create", *absent, "c", _cluster(s, 0))
    s.pages("clusters of an absent workspace", "clusters.list_by_workspace", *absent)
    s.pages("logins of an absent cluster", "clusters.list_remote_login_information", *whole, "absent")
    s.step("absent file server", "file_servers.get", *whole, "absent")
    s.step("absent file server deleted", "file_servers.delete", *whole, "absent")
    s.step("file server in an absent workspace", "file_servers.create", *absent, "f", _file_server(s))
    s.pages("file servers of an absent workspace", "file_servers.list_by_workspace", *absent)
    s.step("absent job", "jobs.get", *whole, "first", "absent")
    s.step("absent job deleted", "jobs.delete", *whole, "first", "absent")
    s.step("absent job terminated", "jobs.terminate", *whole, "first", "absent")
    s.step("job in an absent experiment", "jobs.create", *whole, "absent", "j", job)
    s.pages("jobs of an absent experiment", "jobs.list_by_experiment", *whole, "absent")
    s.pages("logins of an absent job", "jobs.list_remote_login_information", *whole, "first", "absent")
    options = s.models.JobsListOutputFilesOptions(outputdirectoryid="stdouterr")
    s.pages("files of an absent job", "jobs.list_output_files", *whole, "first", "absent", options)
    unknown = s.models.JobsListOutputFilesOptions(outputdirectoryid="UNKNOWN")
    s.pages("files of an unknown directory", "jobs.list_output_files", *whole, "first", "whole", unknown)
    outside = s.models.JobsListOutputFilesOptions(outputdirectoryid="stdouterr", directory="../..")
    s.pages("files outside", "jobs.list_output_files", *whole, "first", "whole", outside)
    s.pages("usages of no place", "usages.list", "a..b" * 30)

    bare = s.models.JobCreateParameters(
        cluster=s.models.ResourceId(id=cluster), node_count=1, std_out_err_path_prefix=PREFIX
    )
    s.step("job without a toolkit", "jobs.create", *whole, "first", "bad", bare)
    both = s.models.PyTorchSettings(python_script_file_path="train.py")
    s.step(
        "job with two toolkits", "jobs.create", *whole, "first", "bad", _job(s, cluster, "true", py_torch_settings=both)
    )
    s.step("job on no nodes", "jobs.create", *whole, "first", "bad", _job(s, cluster, "true", nodes=0))
    nowhere = _job(s, _id(s, "clusters", "absent"), "true")
    s.step("job on an absent cluster", "jobs.create", *whole, "first", "bad", nowhere)
    large = _id(s, "clusters", "large")
    s.step("job beyond the quota", "jobs.create", *whole, "first", "bad", _job(s, large, "true", nodes=3))
    s.step("bad job", "jobs.get", *whole, "first", "bad")
    s.step("bad cluster", "clusters.get", *whole, "bad")


def retries(s):
    """Each answer is lost once on the way, and the client asks again by itself."""
    here, faulty = (GROUP, "retried"), {"client": s.faulty}
    s.step("retried workspace", "workspaces.create", *here, *s.workspace("westeurope"), **faulty)
    s.step("retried read", "workspaces.get", *here, **faulty)
    s.step("retried experiment", "experiments.create", *here, "e", **faulty)
    s.step("retried cluster", "clusters.create", *here, "c", _cluster(s, 0), **faulty)
    s.step("retried scaling", "clusters.update", *here, "c", s.scale(_scale(s, 1)), **faulty)
    s.step("retried file server", "file_servers.create", *here, "f", _file_server(s), **faulty)
    cluster = _id(s, "clusters", "c", "retried")
    s.step("retried job", "jobs.create", *here, "e", "once", _job(s, cluster, "echo ran"), **faulty)
    s.keep("retried job ended", lambda: _ended(s, "once", "retried", "e"))
    s.keep(
        "output of the retried job",
        lambda: read(_files(s, "once", "stdouterr", "retried", "e")["stdout.txt"].download_url),
    )
    s.step("job to be terminated", "jobs.create", *here, "e", "endless", _job(s, cluster, "sleep 1000"))
    s.until("the job to run", lambda: s.call("jobs.get", *here, "e", "endless").execution_state == "running")
    s.step("retried termination", "jobs.terminate", *here, "e", "endless", **faulty)
    s.step("job after the retried termination", "jobs.get", *here, "e", "endless")
    s.pages("jobs after the retries", "jobs.list_by_experiment", *here, "e")
    s.step("retried deletion of the job", "jobs.delete", *here, "e", "once", **faulty)
    s.step("job after the retried deletion", "jobs.get", *here, "e", "once")
    s.step("retried deletion of the cluster", "clusters.delete", *here, "c", **faulty)
    s.step("cluster after the retried deletion", "clusters.get", *here, "c")
    s.step("retried deletion of the workspace", "workspaces.delete", *here, **faulty)
    s.step("workspace after the retried deletion", "workspaces.get", *here)


def deletions(s):
    here = (GROUP, "whole")
    s.step("job deleted", "jobs.delete", *here, "first", "whole")
    s.step("job after its deletion", "jobs.get", *here, "first", "whole")
    s.step("cluster resized", "clusters.update", *here, "pair", s.scale(_scale(s, 0)))

    def empty():
        found = s.call("clusters.get", *here, "pair")
        return found if (found.allocation_state, found.current_node_count) == ("steady", 0) else None

    s.keep("cluster after its resizing", lambda: s.until("an empty cluster", empty))
    s.step("cluster deleted", "clusters.delete", *here, "pair")
    s.step("cluster after its deletion", "clusters.get", *here, "pair")
    s.step("experiment deleted", "experiments.delete", *here, "second")
    s.step("experiment after its deletion", "experiments.get", *here, "second")
    s.step("workspace deleted with all in it", "workspaces.delete", *here)
    s.step("workspace after its deletion", "workspaces.get", *here)
    s.step("job after the workspace's deletion", "jobs.get", *here, "first", "failing")
    s.pages("workspaces in the end", "workspaces.list_by_resource_group", GROUP)


def _id(s, kind, name, workspace="whole"):
    return (
        f"/subscriptions/{s.subscription}/resourceGroups/{GROUP}/providers/Microsoft.BatchAI/workspaces/{workspace}"
        f"/{kind}/{name}"
    )


def _account(s):
    return s.models.UserAccountSettings(admin_user_name="tester", admin_user_password="only-for-tests-1")


def _scale(s, target=None, **more):
    manual = None if target is None else s.models.ManualScaleSettings(target_node_count=target)
    return s.models.ScaleSettings(manual=manual, **more)


def _auto(s, least, most):
    return s.models.AutoScaleSettings(minimum_node_count=least, maximum_node_count=most)


def _cluster(s, nodes, size="Standard_D1", auto_scale=None, **more):
    scale = _scale(s, nodes, auto_scale=auto_scale)
    return s.models.ClusterCreateParameters(
        vm_size=size, scale_settings=scale, user_account_settings=_account(s), **more
    )


def _file_server(s, size="Standard_D2", disk_count=2):
    disks = s.models.DataDisks(disk_size_in_gb=10, disk_count=disk_count, storage_account_type="Standard_LRS")
    return s.models.FileServerCreateParameters(
        vm_size=size,
        ssh_configuration=s.models.SshConfiguration(user_account_settings=_account(s)),
        data_disks=disks,
    )


def _mounting(s):
    reference = s.models.FileServerReference(
        file_server=s.models.ResourceId(id=_id(s, "fileservers", "files")), relative_mount_path="nfs"
    )
    return s.models.NodeSetup(mount_volumes=s.models.MountVolumes(file_servers=[reference]))


def _job(s, cluster, command, nodes=1, **more):
    return s.models.JobCreateParameters(
        cluster=s.models.ResourceId(id=cluster),
        node_count=nodes,
        std_out_err_path_prefix=PREFIX,
        custom_toolkit_settings=s.models.CustomToolkitSettings(command_line=command),
        **more,
    )


def _whole_job(s, cluster):
    return _job(
        s,
        cluster,
        "echo hello from $(hostname); echo $WHO; echo ${#KEY}; echo made > $AZ_BATCHAI_OUTPUT_MODEL/model.txt",
        nodes=2,
        environment_variables=[s.models.EnvironmentVariable(name="WHO", value="an official client")],
        secrets=[s.models.EnvironmentVariableWithSecretValue(name="KEY", value="hush")],
        output_directories=[
            s.models.OutputDirectory(id="MODEL", path_prefix="$AZ_BATCHAI_MOUNT_ROOT/models", path_suffix="best")
        ],
        job_preparation=s.models.JobPreparation(command_line="echo prepared"),
    )


def _ended(s, name, workspace="whole", experiment="first"):
    def final():
        job = s.call("jobs.get", GROUP, workspace, experiment, name)
        return job if job.execution_state in FINAL else None

    return s.until(f"the end of {name}", final)


def _files(s, name, directory="stdouterr", workspace="whole", experiment="first"):
    options = s.models.JobsListOutputFilesOptions(outputdirectoryid=directory)
    pages = s.listed("jobs.list_output_files", GROUP, workspace, experiment, name, options)
    return {file.name: file for page in pages for file in page}
