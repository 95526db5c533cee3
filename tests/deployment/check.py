"""Checks compose.yaml and the Helm chart of deploy/ without a container engine and without a cluster.

The chart is rendered by Helm's own code (helm-python-sdk), its manifests are held against Kubernetes'
schemas (kubernetes-validate), and compose.yaml against those of Compose (compose-spec). Then the
secrets and settings of each container are laid out as they would be mounted, and `meridian config
check` has to be content with them: so paths, names and certificates go together.

    check.py MERIDIAN-PROGRAM
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import compose_spec
import helm_python
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = str(ROOT / "deploy/helm/meridian")
COMPOSE = ROOT / "deploy/compose/compose.yaml"
KUBERNETES = ["1.27", "1.33"]
# Of the Prometheus operator, which no schema here knows.
OPERATORS = {"ServiceMonitor", "PodMonitor"}


def fail(what):
    sys.exit(f"deployment: {what}")


def refuses(what, call):
    try:
        call()
    except Exception:  # noqa: BLE001: each library has errors of its own.
        return
    fail(f"{what} was accepted")


class Machine:
    """A folder that stands for the root of a container, and the settings that are read there."""

    def __init__(self, meridian, work, name):
        self.meridian, self.name = meridian, name
        self.root = work / name
        shutil.rmtree(self.root, ignore_errors=True)

    def write(self, path, content):
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o600)

    def check(self, settings, environment):
        """The settings file with the paths of this machine, as the program would read it."""
        file = self.root / settings.lstrip("/")
        text = re.sub(r'"(/etc/meridian/|/run/secrets/)', rf'"{self.root}\1', file.read_text())
        file.write_text(text)
        command = [self.meridian, "--json", "config", "check", str(file)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        told = json.loads(done.stdout)
        if not told["ok"] or any(check["status"] == "warning" for check in told["checks"]):
            fail(f"{self.name}: {told}")


def secrets(folder):
    """What `deploy/example/secrets` makes, and the URLs that an operator adds."""
    subprocess.run([ROOT / "deploy/example/secrets", folder], check=True)
    for region in ("de", "us"):
        url = f"postgres://meridian:x@postgres-{region}:5432/meridian_{region}"
        (folder / f"{region}-postgres.url").write_text(url)
    (folder / "redis.url").write_text("redis://gateway:x@redis:6379")


def check_compose(meridian, work, made):
    text = COMPOSE.read_text()

    def parse(text):
        parsed = compose_spec.PyCompose.from_json(json.dumps(yaml.safe_load(text)))
        parsed.validate()
        parsed.to_spec()

    parse(text)
    # The check sees what it is for.
    refuses("an unknown network", lambda: parse(text.replace("networks: [cache]", "networks: [cashe]")))
    refuses("an unknown key", lambda: parse(text.replace("stop_grace_period: 45s", "stop_grace: 45s")))
    compose = yaml.safe_load(text)
    for name, secret in compose["secrets"].items():
        if not (made / pathlib.Path(secret["file"]).name).is_file():
            fail(f"nobody makes secret {name}")
    services = compose["services"]
    for name, service in services.items():
        for of_config in service.get("configs", []):
            if not (COMPOSE.parent / compose["configs"][of_config["source"]]["file"]).is_file():
                fail(f"{name}: there is no file of config {of_config['source']}")
        if not name.startswith(("gateway-", "node-")):
            continue
        machine = Machine(meridian, work, name)
        for secret in service["secrets"]:
            file = pathlib.Path(compose["secrets"][secret["source"]]["file"])
            if file.parts[0] != "secrets":
                fail(f"secret {secret['source']} is in {file}")
            machine.write(f"/run/secrets/{secret['target']}", (made / file.name).read_bytes())
        (config,) = service["configs"]
        file = COMPOSE.parent / compose["configs"][config["source"]]["file"]
        machine.write(config["target"], file.read_bytes())
        machine.check(config["target"], {k: str(v) for k, v in service.get("environment", {}).items() if v})
        health = service["healthcheck"]["test"]
        if health[-1] != config["target"] or not service["read_only"]:
            fail(f"{name}: healthcheck or root")
        for word in ("MERIDIAN", "secret"):
            if word in str(service.get("command", "")):
                fail(f"{name}: a secret in the command")

    # Regions share no network, and their networks lead nowhere else.
    def networks(region):
        of_region = [f"node-{region}-1", f"node-{region}-2", f"postgres-{region}"]
        return {network for name in of_region for network in services[name]["networks"]}

    if networks("de") & networks("us"):
        fail("the nodes of two regions share a network")
    for network in networks("de") | networks("us"):
        if not compose["networks"][network].get("internal"):
            fail(f"network {network} is not internal")


def values(**more):
    """An ordinary release of region de on PostgreSQL, with a gateway that serves us too."""
    base = {
        "region": "de",
        "image": {"repository": "registry.example.com/meridian"},
        "node": {
            "keysSecret": "de-keys",
            "linkTlsSecret": "de-node",
            "store": {"engine": "postgres", "secret": "de-postgres", "hasCa": True},
            "environment": {"MERIDIAN_NODE__TELEMETRY__LEVEL": "warn"},
            "settings": "[limits]\nrequest_ms = 10000\n",
        },
        "gateway": {
            "domain": "localhost",
            "tlsSecrets": ["edge"],
            "linkTlsSecret": "de-gateway",
            "otherRegions": {
                "us": {
                    "nodes": ["https://node1.us.internal:9001"],
                    "linkKeySecret": "us-keys",
                    "linkTlsSecret": "us-gateway",
                }
            },
            "redis": {"secret": "redis", "hasCa": True},
            "settings": "[timeouts]\nrequest_ms = 20000\n",
        },
        "networkPolicy": {"monitoringFrom": [{"namespaceSelector": {}}]},
        "serviceMonitor": {"enabled": True},
    }
    for name, value in more.items():
        base[name] = {**base[name], **value} if isinstance(value, dict) else value
    return base


def kubernetes_secrets(made):
    read = lambda name: (made / name).read_bytes()  # noqa: E731
    tls = lambda name, authority: {  # noqa: E731
        "tls.crt": read(f"{name}.pem"),
        "tls.key": read(f"{name}-tls.key"),
        "ca.crt": read(f"{authority}.pem"),
    }
    found = {
        "edge": tls("edge", "edge-ca"),
        "redis": {"url": b"rediss://gateway:x@redis:6379", "ca.crt": read("services-ca.pem")},
    }
    for region in ("de", "us"):
        found[f"{region}-keys"] = {
            f"{purpose}.key": read(f"{region}-{purpose}.key")
            for purpose in ("link", "operator", "grant")
        }
        found[f"{region}-node"] = tls(f"{region}-node", f"{region}-link-ca")
        found[f"{region}-gateway"] = tls(f"{region}-gateway", f"{region}-link-ca")
        url = {"url": read(f"{region}-postgres.url"), "ca.crt": read("services-ca.pem")}
        found[f"{region}-postgres"] = url
    return found


def lay_out(meridian, work, name, pod, config_maps, made):
    """The files of a pod's only container, and a look at its settings."""
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    machine = Machine(meridian, work, name)
    for mount in container["volumeMounts"]:
        volume = volumes.pop(mount["name"], None)
        if volume is None:
            continue  # A claim, made from a template.
        if "configMap" in volume:
            files = config_maps[volume["configMap"]["name"]]
            files = {key: text.encode() for key, text in files.items()}
        else:
            files = made[volume["secret"]["secretName"]]
            items = volume["secret"].get("items")
            if items:
                files = {item["path"]: files[item["key"]] for item in items}
        for key, content in files.items():
            inner = mount.get("subPath")
            if inner is None:
                machine.write(f"{mount['mountPath']}/{key}", content)
            elif inner == key:
                machine.write(mount["mountPath"], content)
    if volumes:
        fail(f"{name}: {list(volumes)} is mounted nowhere")
    environment = {entry["name"]: entry["value"] for entry in container.get("env", [])}
    machine.check(container["args"][0], environment)
    secure = container["securityContext"]
    if not secure["readOnlyRootFilesystem"] or secure["allowPrivilegeEscalation"]:
        fail(f"{name}: {secure}")
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if container[probe]["httpGet"]["port"] not in ports:
            fail(f"{name}: {probe}")


def check_chart(meridian, work, made):
    with helm_python.Chart.load(CHART) as chart:
        on_sqlite = {"replicas": 1, "store": {"engine": "sqlite"}, "linkTlsSecret": "", "settings": ""}
        on_sqlite = {**values()["node"], **on_sqlite}
        plain = {"domain": "localhost", "tlsSecrets": [], "otherRegions": {}, "redis": {"secret": ""}}
        releases = {
            "postgres": values(),
            "sqlite": {**values(), "node": on_sqlite, "gateway": plain},
            "nodes-alone": {**values(), "gateway": {"enabled": False}},
        }
        for name, given in releases.items():
            chart.validate_schema(chart.merge_values(given))
            rendered = chart.render(given, name="de", namespace="prod")
            manifests = [
                manifest
                for path, text in rendered.items()
                if path.endswith(".yaml")
                for manifest in yaml.safe_load_all(text)
                if manifest
            ]
            for manifest in manifests:
                if manifest["kind"] not in OPERATORS:
                    for version in KUBERNETES:
                        kubernetes_validate.validate(manifest, version, strict=True)
            of_kind = lambda kind: [m for m in manifests if m["kind"] == kind]  # noqa: E731
            config_maps = {m["metadata"]["name"]: m["data"] for m in of_kind("ConfigMap")}
            pods = of_kind("StatefulSet") + of_kind("Deployment")
            if len(pods) != (1 if name == "nodes-alone" else 2) or not of_kind("NetworkPolicy"):
                fail(f"{name}: {[m['kind'] for m in manifests]}")
            for workload in pods:
                spec = workload["spec"]
                pod = spec["template"]["spec"]
                labels = spec["template"]["metadata"]["labels"]
                if not spec["selector"]["matchLabels"].items() <= labels.items():
                    fail(f"{name}: a selector that selects nothing")
                place = f"{name}-{workload['kind']}"
                lay_out(meridian, work, place, pod, config_maps, made)
            # Names that gateways call are those of the nodes' pods.
            node = of_kind("StatefulSet")[0]
            pod_name = f"{node['metadata']['name']}-0.{node['spec']['serviceName']}.prod.svc:9001"
            if name != "nodes-alone" and pod_name not in config_maps["de-gateway"]["gateway.toml"]:
                fail(f"{name}: the gateway calls no {pod_name}")

        # Nodes first, then gateways.
        upgrade = chart.render(values(node={"imageTag": "9.9.9"}), name="de", namespace="prod")
        text = "".join(upgrade.values())
        if "meridian-region-node:9.9.9" not in text or "meridian-gateway:9.9.9" in text:
            fail("node.imageTag is not the nodes' alone")

        wrong = {
            "a release without a region": {**values(), "region": ""},
            "an unknown value": {**values(), "regionn": "de"},
            "two nodes on SQLite": {**values(), "node": {**on_sqlite, "replicas": 2}},
            "nodes without keys": values(node={"keysSecret": ""}),
            "gateways without a domain": values(gateway={"domain": ""}),
            "gateways without a certificate for the link": values(gateway={"linkTlsSecret": ""}),
        }
        for what, given in wrong.items():

            def use(given=given):
                chart.validate_schema(chart.merge_values(given))
                chart.render(given, name="de", namespace="prod")

            refuses(what, use)


def main():
    meridian = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        made = work / "secrets"
        made.mkdir()
        secrets(made)
        check_compose(meridian, work, made)
        check_chart(meridian, work, kubernetes_secrets(made))
    print("compose.yaml and the chart are right")


main()
