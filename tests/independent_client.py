"""Runs independent SCIM clients and conformance checkers, each against a fresh tenant.

Usage: independent_client.py PATH_TO_MERIDIAN

Starts Meridian on a free port and an empty folder, lets scim2-tester and `scim-sanity probe` check
a tenant of region us each, through the gateway by the region's hostname, runs the scim2 command
once as its users would, prints every check that is not a plain success, and fails when one is an
error.
"""

import json
import socket
import subprocess
import sys
import tempfile
import urllib.request

from httpx2 import Client
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import Status, check_server

FINE = {Status.SUCCESS, Status.COMPLIANT, Status.ACCEPTABLE, Status.SKIPPED}
BAD = {Status.ERROR, Status.CRITICAL}


def resolve_localhost_names() -> None:
    """Lets `*.localhost` lead to loopback (RFC 6761 section 6.3), which glibc leaves to others."""
    ask = socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        if isinstance(host, str) and host.endswith(".localhost"):
            host = "127.0.0.1"
        return ask(host, *args, **kwargs)

    socket.getaddrinfo = getaddrinfo


def make_tenant(region: dict, name: str) -> str:
    """Makes a tenant whose limits suit a client that sends as fast as it can; returns its token."""
    with open(region["operator_key_file"], encoding="ascii") as file:
        key = file.read().strip()

    def call(path: str, body: dict) -> dict:
        request = urllib.request.Request(
            f"{region['node']}/internal/v1/operator{path}",
            data=json.dumps(body).encode(),
            headers={"X-Meridian-Operator-Key": key, "Content-Type": "application/json"},
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=30) as answer:
            return json.load(answer)

    limits = {"requests_per_s": 100_000, "burst": 100_000, "in_flight": 100}
    tenant = call("/tenants", {"name": name, "settings": {"limits": limits}})
    return call(f"/tenants/{tenant['id']}/tokens", {})["token"]


def check(base_url: str, token: str) -> bool:
    """Runs every check that scim2-tester has for what the service says it offers."""
    headers = {"Authorization": f"Bearer {token}"}
    with Client(base_url=base_url, headers=headers, trust_env=False) as http:
        results = check_server(SyncSCIMClient(http))
    counts = {}
    for result in results:
        counts[result.status.name] = counts.get(result.status.name, 0) + 1
        if result.status not in FINE:
            print(f"{result.status.name} {result.resource_type or ''} {result.title}")
            print(f"    {result.reason}\n    {str(result.data)[:500]}")
    print("scim2-tester:", ", ".join(f"{n} {name.lower()}" for name, n in sorted(counts.items())))
    # A check that stops at discovery finds no error and proves nothing.
    complete = any(result.resource_type == "User" for result in results)
    if not complete:
        print("scim2-tester did not get as far as users")
    return complete and not any(result.status in BAD for result in results)


def command(base_url: str, token: str) -> bool:
    """Uses the scim2 command as a person would: create a user, and find it."""
    from click.testing import CliRunner
    from scim2_cli import cli

    common = ["-u", base_url, "-h", f"Authorization: Bearer {token}"]
    for arguments in (
        ["create", "user", "--user-name", "scim2-cli@example.com"],
        ["query", "user", "--filter", 'userName eq "scim2-cli@example.com"'],
    ):
        result = CliRunner().invoke(cli, common + arguments)
        if result.exit_code != 0 or "scim2-cli@example.com" not in result.output:
            print(f"scim2 {' '.join(arguments)}: exit code {result.exit_code}\n{result.output}")
            print(result.exception or "")
            return False
    print("scim2-cli: creates and finds a user")
    return True


def probe(base_url: str, token: str) -> bool:
    """Runs every check of `scim-sanity probe`, in its strict mode."""
    from click.testing import CliRunner
    from scim_sanity.cli import main as scim_sanity

    arguments = ["probe", base_url, "--token", token, "--json-output", "--i-accept-side-effects"]
    result = CliRunner().invoke(scim_sanity, arguments)
    try:
        report = json.loads(result.stdout)
    except ValueError:
        print(f"scim-sanity: exit code {result.exit_code}\n{result.output}\n{result.exception or ''}")
        return False
    for outcome in report["results"]:
        if outcome["status"] not in ("pass", "skip"):
            print(outcome["status"].upper(), outcome)
    summary = report["summary"]
    print("scim-sanity:", ", ".join(f"{n} {name}" for name, n in summary.items() if name != "total"))
    # A probe that stops at discovery finds no failure and proves nothing.
    return result.exit_code == 0 and summary["failed"] == 0 and summary["passed"] > 20


def main(meridian: str) -> int:
    resolve_localhost_names()
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["up", "--json", "--listen", "127.0.0.1:0", "--regions", "us"]
        with open(f"{folder}/stderr.log", "wb") as log:
            process = subprocess.Popen(
                [meridian, *arguments, "--log-level", "warn", "--data-dir", folder],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        try:
            line = process.stdout.readline()
            if not line:
                with open(f"{folder}/stderr.log", encoding="utf-8") as log:
                    print("meridian up did not start:", log.read())
                return 1
            ready = json.loads(line)
            region = ready["regions"]["us"]
            base_url = region["base_url"]
            token = make_tenant(region, "scim2-tester")
            good = check(base_url, token)
            good = command(base_url, token) and good
            good = probe(base_url, make_tenant(region, "scim-sanity")) and good
            return 0 if good else 1
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
