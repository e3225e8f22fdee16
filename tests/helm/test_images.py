"""Images, their registries, and the refusal of the placeholder at an installation."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import helm_python
import pytest
import yaml

from tests.helm.matrix import Values
from tests.helm.release import CHART, NAME, NAMESPACE, REPOSITORY, render

DEFAULTS: Values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
DIGEST = f"sha256:{'0' * 64}"

DISCOVERY = {
    "/version": {"major": "1", "minor": "31", "gitVersion": "v1.31.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get"]}
        ],
    },
}
"""Answers of an API server about what it has."""


class Discovery(BaseHTTPRequestHandler):
    """An API server that tells what it has, and has nothing."""

    def do_GET(self) -> None:
        """Answer with JSON, or 404."""
        body = DISCOVERY.get(self.path.partition("?")[0])
        answer = json.dumps(body or {"kind": "Status", "status": "Failure", "code": 404}).encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET  # noqa: N815 - the name of BaseHTTPRequestHandler

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[helm_python.Config]:
    """Return Helm's connection to a cluster."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Discovery) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "a", "user": {}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "current-context": "a",
        }
        with helm_python.Config(
            kubeconfig_content=json.dumps(kubeconfig), namespace=NAMESPACE, storage_driver="memory"
        ) as config:
            yield config
        server.shutdown()
        thread.join()


def refusal(cluster: helm_python.Config, values: Values) -> str:
    """Return why an installation fails: this cluster has no objects of any kind."""
    with pytest.raises(helm_python.HelmError) as refused:
        cluster.install(CHART, NAME, values, namespace=NAMESPACE)
    return str(refused.value)


def test_placeholder_image_is_refused_at_an_installation(cluster: helm_python.Config) -> None:
    told = refusal(cluster, {})
    assert "image.repository: avr-sts-openai is a placeholder, which no registry has" in told
    assert "--set image.repository=" in told


@pytest.mark.parametrize(
    "image",
    [
        {"repository": "registry.example.com/avr-sts-openai"},
        {"registry": "registry.example.com"},
        # The image was loaded into the nodes.
        {"pullPolicy": "Never"},
    ],
)
def test_image_of_a_registry_is_installed(cluster: helm_python.Config, image: Values) -> None:
    assert "image.repository" not in refusal(cluster, {"image": image})


def test_global_registry_is_a_registry(cluster: helm_python.Config) -> None:
    assert "image.repository" not in refusal(cluster, {"global": {"imageRegistry": "mirror.example.com"}})


def test_placeholder_is_rendered_and_linted_without_a_cluster() -> None:
    assert render().container("worker")["image"].startswith("avr-sts-openai:")
    assert helm_python.lint(CHART, {}, strict=True)["errors"] == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"image": {"repository": "r.example.com/calls", "tag": "1"}}, "r.example.com/calls:1"),
        ({"image": {"registry": "r.example.com", "tag": "1"}}, "r.example.com/avr-sts-openai:1"),
        ({"image": {"registry": "r.example.com:5000/", "tag": "1"}}, "r.example.com:5000/avr-sts-openai:1"),
        ({"image": {"registry": "r.example.com", "digest": DIGEST}}, f"r.example.com/avr-sts-openai@{DIGEST}"),
        (
            {
                "global": {"imageRegistry": "mirror.example.com"},
                "image": {"registry": "r.example.com", "tag": "1"},
            },
            "mirror.example.com/avr-sts-openai:1",
        ),
    ],
)
def test_image_is_registry_and_repository(values: Values, expected: str) -> None:
    for role in ("dispatcher", "worker"):
        assert render(values).container(role)["image"] == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "docker.io/library/redis:"),
        ({"global": {"imageRegistry": "mirror.example.com"}}, "mirror.example.com/library/redis:"),
        ({"redis": {"bundled": {"image": {"digest": DIGEST}}}}, f"docker.io/library/redis@{DIGEST}"),
        ({"redis": {"bundled": {"image": {"registry": ""}}}}, "library/redis:"),
    ],
)
def test_image_of_the_bundled_redis_has_its_registry(values: Values, expected: str) -> None:
    assert render(values).container("redis")["image"].startswith(expected)


def test_global_secrets_for_images_are_added() -> None:
    release = render({"imagePullSecrets": [{"name": "a"}], "global": {"imagePullSecrets": [{"name": "b"}, "c"]}})
    for role in ("dispatcher", "worker", "redis"):
        assert release.pod(role)["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}, {"name": "c"}]


def test_bundled_redis_is_that_of_compose() -> None:
    compose = (REPOSITORY / "docker-compose.yml").read_text("utf-8")
    (tag,) = set(re.findall(r"image: (?:docker\.io/library/)?redis:([\w.-]+)", compose))
    assert DEFAULTS["redis"]["bundled"]["image"]["tag"] == tag
