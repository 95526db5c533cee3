"""Says to a SCIM service what a recorded client says: the files of tests/data (see its README).

Answers are checked by their status, and values are captured for later requests. What else is
expected of an answer, the whole-system tests check.
"""

import http.client
import json
import re
import urllib.parse
import uuid

CAPTURE = re.compile(r"<capture (\w+)>")


class Conversation:
    """One file, to be said once."""

    def __init__(self, path):
        self.common = {}
        self.steps = []
        step, part = None, None
        for line in path.read_text().splitlines():
            if line.startswith("#"):
                continue
            if line.startswith("=== "):
                step = {"name": line[4:], "repeat": 1, "request": None, "headers": [],
                        "body": [], "status": [], "expected": []}
                self.steps.append(step)
                part = "directives"
            elif line.startswith("@header "):
                name, value = line[8:].split(":", 1)
                self.common[name.strip().lower()] = value.strip()
            elif line.startswith("@repeat "):
                step["repeat"] = int(line[8:])
            elif line.startswith("=> "):
                step["status"] = [int(code) for code in line[3:].split("|")]
                part = "expected headers"
            elif step is None:
                continue
            elif part == "directives" and line:
                step["request"] = line.split(" ", 1)
                part = "headers"
            elif part in ("headers", "expected headers"):
                if part == "expected headers" and line.startswith(("{", "[")):
                    part = "expected"
                    step["expected"].append(line)
                elif not line:
                    part = "body" if part == "headers" else "expected"
                elif part == "headers":
                    name, value = line.split(":", 1)
                    step["headers"].append((name.strip().lower(), value.strip()))
            elif part in ("body", "expected"):
                step[part].append(line)

    def say(self, base_url, address, token):
        """Sends every request, and answers how many there were."""
        host, prefix = re.fullmatch(r"https?://([^/]+)(/.*)", base_url).groups()
        known = {"base": base_url, "token": token, "guid": str(uuid.uuid4())}
        sent = 0
        for step in self.steps:
            for turn in range(1, step["repeat"] + 1):
                known["n"] = str(turn)
                answer = self._send(step, host, prefix, address, token, known)
                if answer.status not in step["status"]:
                    raise AssertionError(f"{step['name']}: {answer.status}, not {step['status']}")
                sent += 1
        return sent

    def _send(self, step, host, prefix, address, token, known):
        fill = lambda text: re.sub(r"{{(\w+)}}", lambda m: str(known[m[1]]), text)
        method, target = step["request"]
        headers = {"authorization": f"Bearer {token}", **self.common, "host": host}
        for name, value in step["headers"]:
            headers.pop(name, None)
            if value:
                headers[name] = fill(value)
        body = fill("\n".join(step["body"])).strip()
        connection = http.client.HTTPConnection(*address, timeout=30)
        target = urllib.parse.quote(prefix + fill(target), safe="%/:=&?~#+!$,;'@()*[]")
        connection.request(method, target, body.encode() or None, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        expected = fill_json("\n".join(step["expected"]))
        if expected is not None and text:
            capture(expected, json.loads(text), known)
        return answer


def fill_json(text):
    """What is expected of an answer, as far as it is JSON by itself."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def capture(expected, answer, known):
    """Takes what `<capture name>` stands for out of an answer."""
    if isinstance(expected, str):
        match = CAPTURE.fullmatch(expected)
        if match:
            known[match[1]] = answer
    elif isinstance(expected, dict) and isinstance(answer, dict):
        for name, value in expected.items():
            if name in answer:
                capture(value, answer[name], known)
    elif isinstance(expected, list) and isinstance(answer, list):
        for pair in zip(expected, answer):
            capture(*pair, known)
