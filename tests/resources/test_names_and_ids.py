"""Names, ids and the keys made of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.resources import ids, names
from trainshed.resources.errors import InvalidResource
from trainshed.resources.ids import Kind, ResourceId

NAMES = st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z")
GROUPS = st.from_regex(r"\A[A-Za-z0-9_.-]{0,89}[A-Za-z0-9_-]\Z")


@st.composite
def resource_ids(draw: st.DrawFn) -> ResourceId:
    kind = draw(st.sampled_from(Kind))
    child = "" if kind is Kind.WORKSPACE else draw(NAMES)
    job = draw(NAMES) if kind is Kind.JOB else ""
    return ResourceId(draw(NAMES), draw(GROUPS).lower(), draw(NAMES), kind, child, job)


@given(resource_ids())
def test_an_id_survives_writing_and_reading(resource: ResourceId) -> None:
    assert ResourceId.parse(str(resource)) == resource


@given(resource_ids())
def test_case_does_not_matter_to_the_key(resource: ResourceId) -> None:
    assert ResourceId.parse(str(resource).upper()).key == resource.key == resource.key.lower()


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (
            ids.workspace_id("S", "Grp", "W"),
            "/subscriptions/S/resourceGroups/grp/providers/Microsoft.BatchAI/workspaces/W",
        ),
        (ids.cluster_id("s", "g", "w", "C"), f"{ids.workspace_id('s', 'g', 'w')}/clusters/C"),
        (ids.file_server_id("s", "g", "w", "F"), f"{ids.workspace_id('s', 'g', 'w')}/fileservers/F"),
        (ids.experiment_id("s", "g", "w", "E"), f"{ids.workspace_id('s', 'g', 'w')}/experiments/E"),
        (ids.job_id("s", "g", "w", "E", "J"), f"{ids.workspace_id('s', 'g', 'w')}/experiments/E/jobs/J"),
    ],
)
def test_built_ids(made: str, text: str) -> None:
    assert made == text


def test_keys() -> None:
    workspace = ids.workspace_key("Sub", "Grp", "Ws")
    assert workspace == "sub/grp/ws"
    assert ids.cluster_key(workspace, "C1") == "sub/grp/ws/c1"
    experiment = ids.experiment_key(workspace, "E1")
    assert ids.job_key(experiment, "J1") == "sub/grp/ws/e1/j1"
    assert ids.cluster_key_of(ids.cluster_id("Sub", "Grp", "Ws", "C1")) == "sub/grp/ws/c1"


def test_types_and_codes() -> None:
    assert [kind.type for kind in Kind] == [
        "Microsoft.BatchAI/workspaces",
        "Microsoft.BatchAI/workspaces/clusters",
        "Microsoft.BatchAI/workspaces/fileservers",
        "Microsoft.BatchAI/workspaces/experiments",
        "Microsoft.BatchAI/workspaces/experiments/jobs",
    ]
    assert Kind.FILE_SERVER.not_found_code == "FileServerNotFound"


def test_operation_resource_ids() -> None:
    assert ids.operation_resource_id("s", "G", "w") == "s$g$w"
    assert ids.operation_resource_id("s", "G", "w", "c") == "s$g$w$c"
    assert ResourceId("s", "G", "w", Kind.JOB, "e", "j").operation_resource_id == "s$g$w$e$j"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "/subscriptions/s",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Other/workspaces/w",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.BatchAI/workspaces/",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.BatchAI/workspaces/w/things/t",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.BatchAI/workspaces/w/clusters/c/jobs/j",
        "/subscriptions/s/resourceGroups/g./providers/Microsoft.BatchAI/workspaces/w",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.BatchAI/workspaces/w w",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.BatchAI/workspaces/w/clusters/..",
        "/subscriptions/../resourceGroups/g/providers/Microsoft.BatchAI/workspaces/w/extra",
    ],
)
def test_malformed_ids_are_refused_with_the_shape(text: str) -> None:
    with pytest.raises(InvalidResource, match=r"/subscriptions/\{s\}/resourceGroups/\{g\}") as caught:
        ResourceId.parse(text)
    assert caught.value.code == "InvalidResourceId"


def test_another_resource_is_not_a_cluster() -> None:
    with pytest.raises(InvalidResource, match="names no cluster"):
        ids.cluster_key_of(ids.workspace_id("s", "g", "w"))


@pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 64, "-", "_"])
def test_good_names(name: str) -> None:
    names.check_name("job", name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a.b", "a b", "é", "a/b", "a\n", "..", "１"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidResource, match="1 to 64 characters") as caught:
        names.check_name("job", name)
    assert (caught.value.code, caught.value.target) == ("InvalidResourceName", "jobName")


@pytest.mark.parametrize(
    ("name", "good"), [("my.group", True), ("g" * 90, True), ("g" * 91, False), ("g.", False), ("", False)]
)
def test_resource_groups(name: str, good: bool) -> None:
    if good:
        names.check_group(name)
    else:
        with pytest.raises(InvalidResource, match="not ending in"):
            names.check_group(name)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (names.check_subscription, "00000000-0000-0000-0000-000000000000", "a/b"),
        (names.check_location, "northeurope", "a/b"),
    ],
)
def test_subscriptions_and_locations(check: object, good: str, bad: str) -> None:
    assert callable(check)
    check(good)
    with pytest.raises(InvalidResource):
        check(bad)


@pytest.mark.parametrize(
    ("name", "good"), [("_A9", True), ("a", True), ("9a", False), ("a-b", False), ("", False), ("a\n", False)]
)
def test_identifiers(name: str, good: bool) -> None:
    assert names.is_identifier(name) is good


@pytest.mark.parametrize(("name", "good"), [("demoUser", True), ("admin", False), ("ADMIN", False), ("9a", False)])
def test_users(name: str, good: bool) -> None:
    assert names.is_user(name) is good
