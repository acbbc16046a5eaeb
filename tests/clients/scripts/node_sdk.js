// Every operation of the client for Node.js, with the same step names as the Python clients' scenario.
// The service's address, a token and how often to poll are all that the client is told.
"use strict";

const { BatchAIManagementClient } = require("@azure/arm-batchai");
const { TokenCredentials, exponentialRetryPolicy } = require("@azure/ms-rest-js");

const PATIENCE = 40000;
const GROUP = "ClientGroup";
const PREFIX = "$AZ_BATCHAI_MOUNT_ROOT/logs";
const SUBSCRIPTION = process.env.SUBSCRIPTION;
const WHOLE = [GROUP, "whole"];
const ABSENT = [GROUP, "absent"];
const RETRIED = [GROUP, "retried"];

const called = new Set();
const steps = {};
const client = clientOf(process.env.SERVICE_URL, process.env.SERVICE_TOKEN);
const stranger = clientOf(process.env.SERVICE_URL, "not-a-token");
const faulty = clientOf(process.env.FAULTY_URL, process.env.SERVICE_TOKEN);

function clientOf(baseUri, token) {
  return new BatchAIManagementClient(new TokenCredentials(token), SUBSCRIPTION, {
    baseUri,
    // Without it the client asks every 30 seconds, whatever the service says.
    longRunningOperationRetryTimeout: 1,
    // Its own policy waits 30 seconds before it repeats; this one, nearer to the wire, repeats at once.
    requestPolicyFactories: (usual) => [...usual, exponentialRetryPolicy(3, 100, 50, 200)],
  });
}

// Operations by name: "clusters.create".
function call(operation, ...args) {
  return callOf(client, operation, ...args);
}

async function callOf(which, operation, ...args) {
  const [group, name] = operation.split(".");
  called.add(operation);
  const made = await which[group][name](...args);
  return made && typeof made.pollUntilFinished === "function" ? made.pollUntilFinished() : made;
}

function operations() {
  const found = [];
  for (const [group, value] of Object.entries(client)) {
    const kind = value && Object.getPrototypeOf(value);
    if (!kind || kind === Object.prototype || !value.client) continue;
    for (const name of Object.getOwnPropertyNames(kind)) {
      if (name !== "constructor") found.push(`${group}.${name}`);
    }
  }
  return found.sort();
}

async function step(name, operation, ...args) {
  return keep(name, () => call(operation, ...args));
}

async function keep(name, make) {
  if (name in steps) throw new Error(`two steps are called ${name}`);
  try {
    const made = await make();
    steps[name] = shown(made);
    return made;
  } catch (error) {
    steps[name] = error.statusCode === undefined ? { raised: String(error.stack) } : { error: errorOf(error) };
    return undefined;
  }
}

function errorOf(error) {
  const body = error.body || {};
  const details = (body.details || []).map(({ code, message }) => ({ code, message }));
  return { status: error.statusCode, code: body.code, message: body.message, target: body.target, details };
}

// As Python's clients write it: snake_case, and nothing for an answer without content.
function shown(value) {
  if (value === undefined || value === null) return null;
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map(shown);
  if (typeof value !== "object") return value;
  const entries = Object.entries(value).filter(([name]) => name !== "_response" && name !== "body");
  if ("_response" in value && entries.length === 0) return null;
  return Object.fromEntries(entries.map(([name, inner]) => [snake(name), shown(inner)]));
}

function snake(name) {
  return name.replace(/[A-Z]+/g, (letters) => `_${letters.toLowerCase()}`);
}

// All pages: the first by the list's own operation, the others by its "...Next".
async function listed(operation, ...args) {
  const all = [await call(operation, ...args)];
  while (all[all.length - 1].nextLink) all.push(await call(`${operation}Next`, all[all.length - 1].nextLink));
  return all;
}

async function pages(name, operation, ...args) {
  return keep(name, async () =>
    (await listed(operation, ...args)).map((page) => Array.from(page).map((item) => item.name))
  );
}

// A list that never has a second page is asked for by its own address, as a nextLink would.
async function next(name, operation, path) {
  const link = `${process.env.SERVICE_URL}${path}?api-version=2018-05-01`;
  return keep(name, async () => (await call(`${operation}Next`, link)).length);
}

async function until(what, check) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const answer = await check();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`${what} did not come within ${PATIENCE} ms`);
    await new Promise((wake) => setTimeout(wake, 100));
  }
}

async function read(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${answer.status} for a download`);
  return answer.text();
}

function idOf(kind, name, workspace = "whole") {
  return (
    `/subscriptions/${SUBSCRIPTION}/resourceGroups/${GROUP}/providers/Microsoft.BatchAI/workspaces/${workspace}` +
    `/${kind}/${name}`
  );
}

const account = { adminUserName: "tester", adminUserPassword: "only-for-tests-1" };
const manual = (targetNodeCount) => ({ manual: { targetNodeCount } });
const auto = (minimumNodeCount, maximumNodeCount) => ({ autoScale: { minimumNodeCount, maximumNodeCount } });

function cluster(scaleSettings, vmSize = "Standard_D1", more = {}) {
  return { vmSize, scaleSettings, userAccountSettings: account, ...more };
}

function fileServer(vmSize = "Standard_D2", diskCount = 2) {
  return {
    vmSize,
    sshConfiguration: { userAccountSettings: account },
    dataDisks: { diskSizeInGB: 10, diskCount, storageAccountType: "Standard_LRS" },
  };
}

function job(id, commandLine, nodeCount = 1, more = {}) {
  return { cluster: { id }, nodeCount, stdOutErrPathPrefix: PREFIX, customToolkitSettings: { commandLine }, ...more };
}

async function ended(name, workspace = "whole", experiment = "first") {
  return until(`the end of ${name}`, async () => {
    const found = await call("jobs.get", GROUP, workspace, experiment, name);
    return ["succeeded", "failed"].includes(found.executionState) && found;
  });
}

async function running(name, workspace, experiment) {
  return until(`${name} to run`, async () => {
    const found = await call("jobs.get", GROUP, workspace, experiment, name);
    return found.executionState === "running";
  });
}

async function files(name, outputdirectoryid = "stdouterr", workspace = "whole", experiment = "first") {
  const options = { outputdirectoryid };
  const all = (await listed("jobs.listOutputFiles", GROUP, workspace, experiment, name, options)).flatMap((page) =>
    Array.from(page)
  );
  return Object.fromEntries(all.map((file) => [file.name, file]));
}

async function workspaces() {
  await pages("operations", "operations.list");
  await next("more operations", "operations.list", "/providers/Microsoft.BatchAI/operations");
  await keep("wrong token", () => callOf(stranger, "workspaces.get", ...WHOLE));
  const location = "northeurope";
  const whole = { location, tags: { team: "one" } };
  await step("workspace created", "workspaces.create", ...WHOLE, whole);
  await step("workspace created again", "workspaces.beginCreate", ...WHOLE, whole);
  await step("workspace moved", "workspaces.create", ...WHOLE, { location: "westus" });
  await step("workspace at no place", "workspaces.create", GROUP, "nowhere", { location: "nowhere/land" });
  await step("workspace tagged", "workspaces.update", ...WHOLE, { tags: { team: "two" } });
  await step("workspace got", "workspaces.get", ...WHOLE);
  await step("workspace aside", "workspaces.create", GROUP, "aside", { location });
  await step("workspace elsewhere", "workspaces.create", "OtherGroup", "other", { location });
  const one = { workspacesListByResourceGroupOptions: { maxResults: 1 } };
  await pages("workspaces of the group", "workspaces.listByResourceGroup", GROUP, one);
  await pages("workspaces of the subscription", "workspaces.list", { workspacesListOptions: { maxResults: 1 } });
}

async function experiments() {
  await step("experiment created", "experiments.create", ...WHOLE, "first");
  await step("experiment created again", "experiments.beginCreate", ...WHOLE, "first");
  await step("experiment got", "experiments.get", ...WHOLE, "first");
  await step("second experiment", "experiments.create", ...WHOLE, "second");
  const one = { experimentsListByWorkspaceOptions: { maxResults: 1 } };
  await pages("experiments", "experiments.listByWorkspace", ...WHOLE, one);
}

async function fileServers() {
  await step("file server created", "fileServers.create", ...WHOLE, "files", fileServer());
  await step("file server created again", "fileServers.create", ...WHOLE, "files", fileServer());
  await step("file server changed", "fileServers.create", ...WHOLE, "files", fileServer("Standard_D2", 3));
  await step("file server of unknown size", "fileServers.create", ...WHOLE, "bad", fileServer("Standard_Abacus"));
  await step("file server without disks", "fileServers.create", ...WHOLE, "bad", fileServer("Standard_D2", 0));
  await step("file server got", "fileServers.get", ...WHOLE, "files");
  await step("second file server", "fileServers.beginCreate", ...WHOLE, "more", fileServer());
  const one = { fileServersListByWorkspaceOptions: { maxResults: 1 } };
  await pages("file servers", "fileServers.listByWorkspace", ...WHOLE, one);
  await step("file server deleted", "fileServers.beginDeleteMethod", ...WHOLE, "more");
  await step("file server after its deletion", "fileServers.get", ...WHOLE, "more");
}

async function clusters() {
  await Promise.all([
    step("cluster created", "clusters.create", ...WHOLE, "pair", cluster(manual(2))),
    step("empty cluster", "clusters.beginCreate", ...WHOLE, "empty", cluster(manual(0))),
  ]);
  await step("cluster created again", "clusters.create", ...WHOLE, "pair", cluster(manual(2), "STANDARD_D1"));
  await step("cluster changed", "clusters.create", ...WHOLE, "pair", cluster(manual(2), "Standard_D2"));
  await step("cluster of unknown size", "clusters.create", ...WHOLE, "bad", cluster(manual(1), "Standard_Abacus"));
  const both = { ...manual(1), ...auto(0, 1) };
  await step("cluster with two scales", "clusters.create", ...WHOLE, "bad", cluster(both));
  await step("cluster of too many nodes", "clusters.create", ...WHOLE, "bad", cluster(manual(101)));
  const nfs = { fileServer: { id: idOf("fileservers", "files") }, relativeMountPath: "nfs" };
  const mounting = cluster(manual(0), "Standard_D1", { nodeSetup: { mountVolumes: { fileServers: [nfs] } } });
  await step("cluster with files", "clusters.create", ...WHOLE, "mounting", mounting);
  await step("file server in use deleted", "fileServers.deleteMethod", ...WHOLE, "files");
  const one = { clustersListByWorkspaceOptions: { maxResults: 1 } };
  await pages("clusters", "clusters.listByWorkspace", ...WHOLE, one);
  const scaled = (scaleSettings) => ({ scaleSettings });
  await step("cluster to auto-scale", "clusters.update", ...WHOLE, "empty", scaled(auto(0, 1)));
  await step("cluster to manual", "clusters.update", ...WHOLE, "empty", scaled(manual(0)));
  await step("cluster badly scaled", "clusters.update", ...WHOLE, "empty", scaled(auto(2, 1)));
  const large = (nodes) => cluster(manual(nodes), "Standard_NC6");
  await step("cluster of more cores than the quota", "clusters.create", ...WHOLE, "bad", large(3));
  await step("large cluster", "clusters.create", ...WHOLE, "large", large(0));
  await step("cluster scaled beyond the quota", "clusters.update", ...WHOLE, "large", scaled(manual(3)));
  await step("cluster beyond the quota", "clusters.create", ...WHOLE, "bad", cluster(manual(0)));
  await keep("cluster idle", () =>
    until("two idle nodes", async () => {
      const found = await call("clusters.get", ...WHOLE, "pair");
      return found.nodeStateCounts.idleNodeCount === 2 && found;
    })
  );
  await keep("logins of the cluster", async () =>
    (await listed("clusters.listRemoteLoginInformation", ...WHOLE, "pair")).map((page) => page.length)
  );
  const logins = `${idOf("clusters", "pair")}/listRemoteLoginInformation`;
  await next("more logins of the cluster", "clusters.listRemoteLoginInformation", logins);
}

async function usages() {
  await keep("usages", async () =>
    (await listed("usages.list", "northeurope")).flatMap((page) =>
      Array.from(page).map((usage) => [usage.name.value, usage.name.localizedValue, usage.currentValue])
    )
  );
  const path = `/subscriptions/${SUBSCRIPTION}/providers/Microsoft.BatchAI/locations/northeurope/usages`;
  await next("more usages", "usages.list", path);
}

async function jobs() {
  const here = [...WHOLE, "first"];
  const pair = idOf("clusters", "pair");
  const command =
    "echo hello from $(hostname); echo $WHO; echo ${#KEY}; echo made > $AZ_BATCHAI_OUTPUT_MODEL/model.txt";
  const whole = job(pair, command, 2, {
    environmentVariables: [{ name: "WHO", value: "an official client" }],
    secrets: [{ name: "KEY", value: "hush" }],
    outputDirectories: [{ id: "MODEL", pathPrefix: "$AZ_BATCHAI_MOUNT_ROOT/models", pathSuffix: "best" }],
    jobPreparation: { commandLine: "echo prepared" },
  });
  await step("job created", "jobs.create", ...here, "whole", whole);
  await step("job created again", "jobs.create", ...here, "whole", whole);
  await step("job changed", "jobs.create", ...here, "whole", job(pair, "echo something else"));
  await keep("job ended", () => ended("whole"));
  await step("job created after its end", "jobs.create", ...here, "whole", whole);
  await step("job terminated after its end", "jobs.terminate", ...here, "whole");
  const options = { outputdirectoryid: "stdouterr", maxResults: 1 };
  await pages("files of the job", "jobs.listOutputFiles", ...here, "whole", options);
  await keep("output of the job", async () => read((await files("whole"))["stdout.txt"].downloadUrl));
  await keep("size of the output", async () => (await files("whole"))["stdout.txt"].contentLength);
  await keep("model of the job", async () => read((await files("whole", "MODEL"))["model.txt"].downloadUrl));
  await keep("logins of the job", async () =>
    (await listed("jobs.listRemoteLoginInformation", ...here, "whole")).map((page) => page.length)
  );
  const logins = `${idOf("experiments", "first")}/jobs/whole/listRemoteLoginInformation`;
  await next("more logins of the job", "jobs.listRemoteLoginInformation", logins);
  await Promise.all([
    step("failing job", "jobs.beginCreate", ...here, "failing", job(pair, "echo about to fail; exit 7")),
    step("queued job", "jobs.create", ...here, "queued", job(idOf("clusters", "empty"), "true")),
    step("endless job", "jobs.create", ...here, "endless", job(pair, "sleep 1000")),
  ]);
  await keep("job failed", () => ended("failing"));
  await step("queued job terminated", "jobs.beginTerminate", ...here, "queued");
  await step("queued job after its termination", "jobs.get", ...here, "queued");
  await running("endless", "whole", "first");
  await step("running job terminated", "jobs.terminate", ...here, "endless");
  await step("running job after its termination", "jobs.get", ...here, "endless");
  const one = { jobsListByExperimentOptions: { maxResults: 1 } };
  await keep("jobs", async () =>
    (await listed("jobs.listByExperiment", ...here, one)).flatMap((page) => Array.from(page).map(({ name }) => name)).sort()
  );
}

async function refusals() {
  const pair = idOf("clusters", "pair");
  await Promise.all([
    step("absent workspace", "workspaces.get", ...ABSENT),
    step("absent workspace tagged", "workspaces.update", ...ABSENT, { tags: { a: "b" } }),
    step("absent workspace deleted", "workspaces.deleteMethod", ...ABSENT),
    step("absent experiment", "experiments.get", ...WHOLE, "absent"),
    step("absent experiment deleted", "experiments.deleteMethod", ...WHOLE, "absent"),
    step("experiment in an absent workspace", "experiments.create", ...ABSENT, "e"),
    pages("experiments of an absent workspace", "experiments.listByWorkspace", ...ABSENT),
    step("absent cluster", "clusters.get", ...WHOLE, "absent"),
    step("absent cluster scaled", "clusters.update", ...WHOLE, "absent", { scaleSettings: manual(0) }),
    step("absent cluster deleted", "clusters.deleteMethod", ...WHOLE, "absent"),
    step("cluster in an absent workspace", "clusters.create", ...ABSENT, "c", cluster(manual(0))),
    pages("clusters of an absent workspace", "clusters.listByWorkspace", ...ABSENT),
    pages("logins of an absent cluster", "clusters.listRemoteLoginInformation", ...WHOLE, "absent"),
    step("absent file server", "fileServers.get", ...WHOLE, "absent"),
    step("absent file server deleted", "fileServers.deleteMethod", ...WHOLE, "absent"),
    step("file server in an absent workspace", "fileServers.create", ...ABSENT, "f", fileServer()),
    pages("file servers of an absent workspace", "fileServers.listByWorkspace", ...ABSENT),
    step("absent job", "jobs.get", ...WHOLE, "first", "absent"),
    step("absent job deleted", "jobs.deleteMethod", ...WHOLE, "first", "absent"),
    step("absent job terminated", "jobs.terminate", ...WHOLE, "first", "absent"),
    step("job in an absent experiment", "jobs.create", ...WHOLE, "absent", "j", job(pair, "true")),
    pages("jobs of an absent experiment", "jobs.listByExperiment", ...WHOLE, "absent"),
    pages("logins of an absent job", "jobs.listRemoteLoginInformation", ...WHOLE, "first", "absent"),
    pages("files of an absent job", "jobs.listOutputFiles", ...WHOLE, "first", "absent", {
      outputdirectoryid: "stdouterr",
    }),
    pages("files of an unknown directory", "jobs.listOutputFiles", ...WHOLE, "first", "whole", {
      outputdirectoryid: "UNKNOWN",
    }),
    pages("files outside", "jobs.listOutputFiles", ...WHOLE, "first", "whole", {
      outputdirectoryid: "stdouterr",
      directory: "../..",
    }),
    pages("usages of no place", "usages.list", "a..b".repeat(30)),
    step("job without a toolkit", "jobs.create", ...WHOLE, "first", "bad", {
      cluster: { id: pair },
      nodeCount: 1,
      stdOutErrPathPrefix: PREFIX,
    }),
    step("job with two toolkits", "jobs.create", ...WHOLE, "first", "bad", {
      ...job(pair, "true"),
      pyTorchSettings: { pythonScriptFilePath: "train.py" },
    }),
    step("job on no nodes", "jobs.create", ...WHOLE, "first", "bad", job(pair, "true", 0)),
    step("job on an absent cluster", "jobs.create", ...WHOLE, "first", "bad", job(idOf("clusters", "absent"), "true")),
    step("job beyond the quota", "jobs.create", ...WHOLE, "first", "bad", job(idOf("clusters", "large"), "true", 3)),
  ]);
  await step("bad job", "jobs.get", ...WHOLE, "first", "bad");
  await step("bad cluster", "clusters.get", ...WHOLE, "bad");
}

async function retries() {
  const again = (name, operation, ...args) => keep(name, () => callOf(faulty, operation, ...RETRIED, ...args));
  await again("retried workspace", "workspaces.create", { location: "westeurope" });
  await again("retried read", "workspaces.get");
  await again("retried experiment", "experiments.create", "e");
  await again("retried cluster", "clusters.create", "c", cluster(manual(0)));
  await again("retried scaling", "clusters.update", "c", { scaleSettings: manual(1) });
  await again("retried file server", "fileServers.create", "f", fileServer());
  const only = idOf("clusters", "c", "retried");
  await again("retried job", "jobs.create", "e", "once", job(only, "echo ran"));
  await keep("retried job ended", () => ended("once", "retried", "e"));
  await keep("output of the retried job", async () =>
    read((await files("once", "stdouterr", "retried", "e"))["stdout.txt"].downloadUrl)
  );
  await step("job to be terminated", "jobs.create", ...RETRIED, "e", "endless", job(only, "sleep 1000"));
  await running("endless", "retried", "e");
  await again("retried termination", "jobs.terminate", "e", "endless");
  await step("job after the retried termination", "jobs.get", ...RETRIED, "e", "endless");
  await pages("jobs after the retries", "jobs.listByExperiment", ...RETRIED, "e");
  await again("retried deletion of the job", "jobs.deleteMethod", "e", "once");
  await step("job after the retried deletion", "jobs.get", ...RETRIED, "e", "once");
  await again("retried deletion of the cluster", "clusters.deleteMethod", "c");
  await step("cluster after the retried deletion", "clusters.get", ...RETRIED, "c");
  await again("retried deletion of the workspace", "workspaces.deleteMethod");
  await step("workspace after the retried deletion", "workspaces.get", ...RETRIED);
}

async function deletions() {
  await step("job deleted", "jobs.beginDeleteMethod", ...WHOLE, "first", "whole");
  await step("job after its deletion", "jobs.get", ...WHOLE, "first", "whole");
  await step("cluster resized", "clusters.update", ...WHOLE, "pair", { scaleSettings: manual(0) });
  await keep("cluster after its resizing", () =>
    until("an empty cluster", async () => {
      const found = await call("clusters.get", ...WHOLE, "pair");
      return found.allocationState === "steady" && found.currentNodeCount === 0 && found;
    })
  );
  await step("cluster deleted", "clusters.beginDeleteMethod", ...WHOLE, "pair");
  await step("cluster after its deletion", "clusters.get", ...WHOLE, "pair");
  await step("experiment deleted", "experiments.beginDeleteMethod", ...WHOLE, "second");
  await step("experiment after its deletion", "experiments.get", ...WHOLE, "second");
  await step("workspace deleted with all in it", "workspaces.beginDeleteMethod", ...WHOLE);
  await step("workspace after its deletion", "workspaces.get", ...WHOLE);
  await step("job after the workspace's deletion", "jobs.get", ...WHOLE, "first", "failing");
  await pages("workspaces in the end", "workspaces.listByResourceGroup", GROUP);
}

async function main() {
  const parts = [workspaces, experiments, fileServers, clusters, usages, jobs, refusals, retries, deletions];
  for (const part of parts) {
    try {
      await part();
    } catch (error) {
      steps[`the part ${part.name}`] = { raised: String(error.stack) };
    }
  }
  process.stdout.write(JSON.stringify({ operations: operations(), called: [...called].sort(), steps }));
}

main();
