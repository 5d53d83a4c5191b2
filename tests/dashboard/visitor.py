# SPDX-License-Identifier: Apache-2.0
"""Somebody who looks at the dashboard, and notes whatever goes wrong meanwhile."""

import re
import urllib.parse

SECONDS = 30  # for anything to appear, on a loaded machine


class Visitor:
    """A tab of a browser at the dashboard of a daemon."""

    def __init__(self, browser, url, token=None, **options):
        self.url = url
        self.faults = []
        self.allowed = []  # patterns of faults that a test brings about itself
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800},
                                              "reduced_motion": "reduce", **options})
        self.context.set_default_timeout(SECONDS * 1000)
        self.page = self.context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("request", self._request)
        if token is not None:
            self.context.add_init_script(
                f"sessionStorage.getItem('didid-token') ?? "
                f"sessionStorage.setItem('didid-token', '{token}')")

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.faults.append(f"console: {message.text} ({message.location.get('url')})")

    def _request(self, request):
        address = urllib.parse.urlsplit(request.url)
        if address.scheme not in ("blob", "data") and request.url.split("/ui/")[0] != self.url \
                and not request.url.startswith(self.url + "/"):
            self.faults.append(f"foreign request: {request.url}")

    def open(self, place="", wait="h1"):
        """Goes to a place of the page ("#/jobs") and waits for something of it."""
        self.page.goto(f"{self.url}/ui/{place}")
        self.page.wait_for_selector(wait)
        return self.page

    def heading(self, text):
        """Waits for the heading of a view."""
        self.page.get_by_role("heading", level=1, name=text).wait_for()

    def wait_for(self, expression, argument=None):
        """Waits until the expression is true in the page."""
        return self.page.wait_for_function(expression, arg=argument, timeout=SECONDS * 1000)

    def check(self):
        """Fails when anything went wrong that the test did not bring about."""
        wrong = [fault for fault in self.faults
                 if not any(re.search(pattern, fault) for pattern in self.allowed)]
        assert not wrong, "\n".join(wrong)

    def close(self):
        self.context.close()
