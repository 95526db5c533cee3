"""A first visit to the console, in a real browser, against `meridian up`.

    first_visit.py MERIDIAN [--chromium PATH] [--pictures FOLDER]

An administrator signs in, creates a token, reads the guides; Okta, Entra ID and PingOne provision
with that token; the users appear; a request that failed says why; the token is rotated and revoked;
after signing out the cookie is dead. Every page is looked at by axe-core, in light, in dark and on a
phone, and none may break the content security policy.
"""

import argparse
import http.client
import json
import pathlib
import re
import subprocess
import tempfile

import axe_playwright_python
from playwright.sync_api import expect, sync_playwright

from conversation import Conversation

DATA = pathlib.Path(__file__).parent.parent / "data"
AXE = (pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
# Debian's Chromium, kept off the network.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 860}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 860}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}


# A picture that is taller tells no more.
TALLEST = 1500


class Meridian:
    """A `meridian up` of its own."""

    def __init__(self, program, folder):
        self.process = subprocess.Popen(
            [program, "up", "--json", "--listen", "127.0.0.1:0", "--regions", "us,de",
             "--data-dir", folder / "data"],
            stdout=subprocess.PIPE, stderr=(folder / "log").open("w"), text=True)
        self.ready = json.loads(self.process.stdout.readline())
        host, port = self.ready["gateway"].removeprefix("http://").split(":")
        self.address = (host, int(port))
        self.base_url = self.ready["regions"]["us"]["base_url"]
        self.origin = self.base_url.removesuffix("/api/v1/scim")
        self.admin_token = self.ready["demo"]["us"]["admin_token"]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    def converse(self, client, name, token):
        """Says a recorded conversation."""
        conversation = Conversation(DATA / client / name)
        return conversation.say(self.base_url, self.address, token)

    def make_token(self, name):
        """Another API token, by the admin API."""
        headers = {"authorization": f"Bearer {self.admin_token}"}
        body = json.dumps({"name": name, "expiresInDays": 365})
        status, text = self.ask("/api/v1/admin/tokens", headers, "POST", body)
        assert status == 201, text
        return json.loads(text)["token"]

    def ask(self, path, headers, method="GET", body=None):
        """A request beside the browser; answers status and body."""
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        headers = {"host": self.origin.removeprefix("http://"), **headers}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text


class Visit:
    """A browser window, and what was wrong on any of its pages."""

    def __init__(self, browser, origin, look, pictures):
        self.context = browser.new_context(**LOOKS[look])
        self.page = self.context.new_page()
        self.origin, self.look, self.pictures = origin, look, pictures
        self.seen, self.problems = 0, []
        self.page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        self.page.on("console", self._hear)

    def _hear(self, message):
        if message.type == "error" and "status of 4" not in message.text:
            self.problems.append(f"{self.page.url}: {message.text}")

    def open(self, path):
        self.page.goto(self.origin + path)

    def look_at(self, name=None):
        """Has axe-core look at the page, and takes its picture."""
        page = self.page
        page.evaluate(AXE)
        result = page.evaluate("axe.run()")
        for violation in result["violations"]:
            nodes = [node["html"][:160] for node in violation["nodes"]]
            self.problems.append(f"{self.look} {page.url}: {violation['id']}: {nodes}")
        wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1")
        if wide:
            self.problems.append(f"{self.look} {page.url}: wider than the window")
        self.seen += 1
        if name and self.pictures:
            size = page.evaluate("[innerWidth, document.documentElement.scrollHeight]")
            clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], TALLEST)}
            path = self.pictures / f"{name}-{self.look}.png"
            page.screenshot(path=path, full_page=True, clip=clip)

    def sign_in(self, token):
        self.open("/console")
        self.page.get_by_label("Admin API token").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("heading", name="Overview")).to_be_visible()

    def go(self, section):
        self.page.get_by_role("navigation", name="Console").get_by_role(
            "link", name=section, exact=True).click()


def story(visit, meridian):
    """The first visit; answers the tokens that it made."""
    page = visit.page
    visit.open("/console")
    expect(page).to_have_url(re.compile("/console/sign-in$"))
    visit.look_at("sign-in")
    page.get_by_label("Admin API token").fill(meridian.ready["demo"]["us"]["scim_token"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("scope admin")
    visit.look_at()
    visit.sign_in(meridian.admin_token)
    visit.look_at()

    # A token, shown once.
    visit.go("API tokens")
    page.get_by_role("link", name="Create token").click()
    visit.look_at("token-new")
    page.get_by_label("Name").fill("Every identity provider")
    page.get_by_role("button", name="Create token").click()
    expect(page.get_by_role("heading", name="Token created")).to_be_visible()
    token = page.get_by_label("API token", exact=True).input_value()
    assert page.get_by_label("Base URL", exact=True).input_value() == meridian.base_url
    page.get_by_role("button", name="Copy API token").click()
    page.get_by_label("API token", exact=True).evaluate(
        "field => field.setAttribute('value', 'mrd_us_' + '•'.repeat(38))")
    visit.look_at("token-created")
    page.get_by_role("link", name="How to connect an identity provider").click()
    visit.look_at("guides")
    for name in ["Microsoft Entra ID", "PingOne", "Another client", "Okta"]:
        visit.go("Set-up guides")
        page.get_by_role("main").get_by_role("link", name=name).click()
        expect(page.get_by_role("heading", name=f"Connect {name}")).to_be_visible()
        expect(page.get_by_role("main")).to_contain_text(meridian.base_url)
        visit.look_at({"Okta": "guide-okta"}.get(name))

    # Three identity providers at work.
    # It is by the token that they are told apart, so the others get one of their own.
    meridian.converse("okta", "02-create-and-update-by-put.http", token)
    meridian.converse("okta", "06-group-push.http", token)
    meridian.converse("entra", "02-tutorial.http", meridian.make_token("Entra ID"))
    meridian.converse("pingone", "01-matching.http", meridian.make_token("PingOne"))

    visit.go("Overview")
    expect(page.get_by_role("img", name=re.compile("Requests each hour"))).to_be_visible()
    for name in ["Okta", "Microsoft Entra ID", "PingOne"]:
        expect(page.get_by_role("main")).to_contain_text(name)
    visit.look_at("overview")
    # What failed, and why.
    visit.go("Activity")
    visit.look_at("activity")
    page.get_by_label("Outcome").select_option("Failed")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("outcome=failed"))
    visit.look_at()
    page.get_by_role("main").get_by_role("table").get_by_role("link").first.click()
    expect(page.get_by_text(re.compile("It failed with 4"))).to_be_visible()
    visit.look_at("request")
    visit.go("Activity")
    page.get_by_role("link", name="Sync cycles").click()
    visit.look_at("cycles")

    # A token for administration, used by mistake for provisioning, has its sentence.
    admin = {"authorization": f"Bearer {meridian.admin_token}"}
    assert meridian.ask("/api/v1/scim/Users", admin)[0] == 403
    visit.go("Doctor")
    visit.look_at("doctor")

    visit.go("Audit")
    expect(page.get_by_role("main")).to_contain_text("Administrator signed in")
    visit.look_at("audit")
    page.get_by_role("link", name="Verify the chain").click()
    expect(page.get_by_text("The chain is whole")).to_be_visible()
    visit.look_at("audit-verify")

    visit.go("Users")
    expect(page.get_by_role("link", name="Alma Vidal")).to_be_visible()
    visit.look_at("users")
    page.get_by_role("searchbox", name="Search").fill("ALMA")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("1 user", exact=True)).to_be_visible()
    visit.look_at()
    page.get_by_role("link", name="Alma Vidal").click()
    expect(page.get_by_role("heading", name="Alma Vidal")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="Created").first).to_be_visible()
    visit.look_at("user")
    visit.go("Groups")
    visit.look_at("groups")
    page.get_by_role("main").get_by_role("table").get_by_role("link").first.click()
    expect(page.get_by_role("heading", name="Members")).to_be_visible()
    visit.look_at("group")
    return token


def refuse_an_event(meridian, token):
    """A receiver that comes for its tokens and cannot use one."""
    admin = {"authorization": f"Bearer {meridian.admin_token}", "content-type": "application/json"}

    def post(path, body, headers=admin):
        status, text = meridian.ask(path, headers, "POST", json.dumps(body))
        assert status in (200, 201), text
        return json.loads(text)

    new = {"kind": "set-poll", "audience": "https://hr.example.com", "description": "HR"}
    poll = f"/api/v1/admin/webhooks/{post('/api/v1/admin/webhooks', new)['id']}/poll"
    scim = {"authorization": f"Bearer {token}", "content-type": "application/scim+json"}
    for name in ("noor.haddad", "kim.larsen"):
        post("/api/v1/scim/Users", {"userName": f"{name}@example.com"}, scim)
    first = next(iter(post(poll, {"returnImmediately": True})["sets"]))
    error = {"err": "jwtAud", "description": "The audience is another"}
    post(poll, {"setErrs": {first: error}, "returnImmediately": True})


def webhooks(visit, meridian, token):
    """Somebody is told of events: made, held back, resumed, changed."""
    page = visit.page
    visit.go("Webhooks")
    visit.look_at()
    page.get_by_role("link", name="Create webhook").click()
    visit.look_at("webhook-new")
    page.get_by_label("URL").fill("http://127.0.0.1/inside")
    page.get_by_role("button", name="Create webhook").click()
    expect(page.get_by_role("alert")).to_be_visible()
    visit.look_at()
    page.get_by_label("URL").fill("https://events.example.com/meridian")
    page.get_by_label("Description").fill("Staff directory")
    page.get_by_label("user.created").check()
    page.get_by_role("button", name="Create webhook").click()
    expect(page.get_by_role("heading", name="Webhook created")).to_be_visible()
    assert page.get_by_label("Signing secret", exact=True).input_value().startswith("whsec_")
    visit.look_at()
    page.get_by_role("link", name="To the webhook").click()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status").first).to_contain_text("held back")
    visit.look_at()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status").first).to_contain_text("again")
    page.get_by_role("link", name="Edit").click()
    visit.look_at()
    page.get_by_label("URL").fill("http://127.0.0.1/inside")
    page.get_by_role("button", name="Save webhook").click()
    expect(page.get_by_role("alert")).to_be_visible()
    visit.look_at()
    page.get_by_label("URL").fill("https://events.example.com/meridian")
    page.get_by_label("user.deleted").check()
    page.get_by_role("button", name="Save webhook").click()
    expect(page.get_by_role("status").first).to_contain_text("saved")
    page.get_by_role("button", name="Rotate the secret").click()
    expect(page.get_by_role("heading", name="Secret rotated")).to_be_visible()
    refuse_an_event(meridian, token)
    visit.go("Webhooks")
    visit.look_at("webhooks")
    page.get_by_role("link", name="HR", exact=True).click()
    expect(page.get_by_text("jwtAud: The audience is another")).to_be_visible()
    visit.look_at("webhook")
    page.get_by_role("button", name="Send them once more").click()
    expect(page.get_by_role("status").first).to_contain_text("once more")


def delete_webhook(visit):
    """It is asked whether that is meant."""
    page = visit.page
    visit.go("Webhooks")
    page.get_by_role("link", name="https://events.example.com/meridian").click()
    page.get_by_role("link", name="Delete…").click()
    visit.look_at()
    page.get_by_role("button", name="Delete webhook").click()
    expect(page.get_by_role("status")).to_contain_text("deleted")


def settings(visit, meridian, token):
    """Settings hold at once, and can be taken back."""
    page = visit.page
    visit.go("Settings")
    visit.look_at("settings")
    page.get_by_label("E-mail addresses only").check()
    page.get_by_role("button", name="Save settings").click()
    expect(page.get_by_role("status")).to_contain_text("saved")
    visit.look_at()
    status, _ = meridian.ask("/api/v1/scim/Users", {
        "authorization": f"Bearer {token}", "content-type": "application/scim+json",
    }, "POST", '{"userName": "nobody"}')
    assert status == 400, status
    page.get_by_label("Any text").check()
    page.get_by_role("button", name="Save settings").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    lines = pathlib.Path(download.value.path()).read_text().splitlines()
    assert any("alma.vidal@example.com" in line for line in lines)


def end(visit, meridian, token):
    """Rotation, revocation, signing out."""
    page, users = visit.page, "/api/v1/scim/Users"
    visit.go("API tokens")
    visit.look_at("tokens")
    page.get_by_role("link", name="Every identity provider").click()
    visit.look_at("token")
    page.get_by_role("button", name="Rotate token").click()
    expect(page.get_by_role("heading", name="Token rotated")).to_be_visible()
    visit.look_at()
    successor = page.get_by_label("API token", exact=True).input_value()
    for live in (token, successor):
        assert meridian.ask(users, {"authorization": f"Bearer {live}"})[0] == 200
    visit.go("API tokens")
    page.get_by_role("link", name="Every identity provider").first.click()
    page.get_by_role("link", name="Revoke token…").click()
    visit.look_at()
    page.get_by_role("button", name="Revoke token").click()
    expect(page.get_by_role("status")).to_contain_text("revoked")
    assert meridian.ask(users, {"authorization": f"Bearer {successor}"})[0] == 401
    assert meridian.ask(users, {"authorization": f"Bearer {token}"})[0] == 200
    visit.open("/console/nothing")
    visit.look_at("problem")
    page.get_by_role("link", name="Back to the console").click()

    cookies = {cookie["name"]: cookie for cookie in visit.context.cookies()}
    cookie = cookies["meridian_session"]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict", cookie
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    visit.look_at()
    assert not visit.context.cookies()
    dead = {"cookie": f"meridian_session={cookie['value']}"}
    assert meridian.ask("/console", dead)[0] == 303
    status, _ = meridian.ask("/api/v1/admin/tokens",
                             {"authorization": f"Bearer {cookie['value']}"})
    assert status == 401, status


PAGES = ["", "/activity", "/activity?outcome=failed", "/activity/cycles", "/doctor", "/audit", "/audit/verify", "/webhooks",
         "/webhooks/new", "/tokens", "/tokens/new", "/settings", "/guides", "/guides/okta", "/guides/entra",
         "/guides/pingone", "/guides/onelogin", "/guides/jumpcloud", "/guides/google", "/guides/other", "/users", "/groups", "/nothing"]
PICTURES = {"": "overview", "/activity": "activity", "/tokens": "tokens", "/users": "users", "/guides/okta": "guide-okta"}


def walk(visit, meridian):
    """Every page in another look, and one of each kind of thing."""
    visit.open("/console/sign-in")
    visit.look_at("sign-in")
    visit.sign_in(meridian.admin_token)
    for path in PAGES:
        visit.open("/console" + path)
        visit.look_at(PICTURES.get(path))
    for path in ["/activity", "/tokens", "/users", "/groups", "/webhooks"]:
        visit.open("/console" + path)
        visit.page.get_by_role("main").get_by_role("table").get_by_role("link").first.click()
        visit.look_at({"/users": "user"}.get(path))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("meridian")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--pictures", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        meridian = Meridian(arguments.meridian, pathlib.Path(folder))
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=ARGUMENTS)
        visits = {look: Visit(browser, meridian.origin, look, arguments.pictures) for look in LOOKS}
        try:
            visit = visits["light"]
            token = story(visit, meridian)
            webhooks(visit, meridian, token)
            settings(visit, meridian, token)
            for look in ("dark", "phone"):
                walk(visits[look], meridian)
            delete_webhook(visit)
            end(visit, meridian, token)
        finally:
            browser.close()
            meridian.stop()
        problems = [problem for visit in visits.values() for problem in visit.problems]
        for problem in problems:
            print(problem)
        seen = sum(visit.seen for visit in visits.values())
        print(f"{seen} pages looked at, {len(problems)} problems")
        raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main()
