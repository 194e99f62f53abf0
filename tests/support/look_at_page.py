"""Opens a page in Chromium as a person would see it, and exits with 1 if something is wrong with it:

  look_at_page.py CHROMIUM PAGE.html [FOLDER for screenshots]

messages in the console, exceptions, requests that leave the file, wider than the window at 360 and 390 pixels, pictures
that are empty, cut off a text or have no alternative text, dark text on a dark page, a dark page in print. On a phone a
picture with the class "wide" may be missing. Speaks the DevTools protocol through a pipe, so that it needs only Python.
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile

# Width, height, colours, medium. 718 pixels: a sheet A4 with margins of 1 cm.
WINDOWS = {"phone": (360, 740, "light", "screen"), "phone-dark": (390, 844, "dark", "screen"),
           "desktop": (1280, 900, "light", "screen"), "dark": (1280, 900, "dark", "screen"),
           "print": (718, 1047, "dark", "print")}

# `width`: of the window. A phone zooms out where a page is wider, so innerWidth may be more.
LOOK = """((width, medium) => {
  const found = [];
  if (document.documentElement.scrollWidth > width)
    found.push(`the page is ${document.documentElement.scrollWidth} pixels wide in a window of ${width}`);
  const hidden = svg => width < 640 && svg.closest('figure').className == 'wide' && !svg.getClientRects().length;
  const pictures = [...document.querySelectorAll('figure svg')].filter(svg => !hidden(svg));
  if (!pictures.length) found.push('the page has no picture');
  for (const svg of pictures) {
    const name = svg.closest('figure').id, box = svg.getBoundingClientRect();
    if (box.width < 200 || box.height < 100) found.push(`${name}: ${box.width} x ${box.height} pixels`);
    const axes = svg.querySelector('[id*="axes_1"]');
    const marks = axes ? axes.querySelectorAll('use, path').length : 0;
    if (marks < 5) found.push(`${name}: an empty plot (${marks} marks)`);
    const inside = ({left, right}) => left > box.left - 1 && right < box.right + 1;
    for (const text of svg.querySelectorAll('text'))
      if (!inside(text.getBoundingClientRect())) found.push(`${name}: cuts off '${text.textContent.trim()}'`);
    const id = (svg.getAttribute('aria-labelledby') || '').split(' ').pop(), text = id && document.getElementById(id);
    if (!text || text.textContent.length < 20) found.push(`${name}: no alternative text`);
  }
  const ids = [...document.querySelectorAll('[id]')].map(each => each.id);
  if (new Set(ids).size < ids.length) found.push('an id occurs twice');
  const light = colour => colour.match(/[0-9.]+/g).slice(0, 3).reduce((sum, each) => sum + Number(each), 0) / 765;
  const page = getComputedStyle(document.body);
  const text = pictures.length ? pictures[0].querySelector('text') : null;
  if (Math.abs(light(page.color) - light(page.backgroundColor)) < 0.5) found.push('the text has no contrast');
  if (medium == 'print' && light(page.backgroundColor) < 0.9) found.push('the printed page is dark');
  if (text && Math.abs(light(getComputedStyle(text).fill) - light(page.backgroundColor)) < 0.5)
    found.push('the text of the pictures has no contrast');
  return found;
})"""


class Browser:
    """Chromium, and its messages: commands go to its file descriptor 3, answers come from 4; a zero byte ends each."""

    def __init__(self, program, profile):
        commands, self.to = os.pipe()
        self.answers, back = os.pipe()

        def descriptors():
            source, target = os.dup(commands), os.dup(back)  # neither may be 3 or 4 when these are replaced
            os.dup2(source, 3)
            os.dup2(target, 4)

        # --no-sandbox: root has no sandbox, and the page is our own.
        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
            close_fds=False, preexec_fn=descriptors, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(back)
        self.number, self.buffer, self.events, self.session = 0, b"", [], None

    def message(self):
        while b"\0" not in self.buffer:
            data = os.read(self.answers, 1 << 16)
            if not data:
                raise RuntimeError("Chromium ended")
            self.buffer += data
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.to, json.dumps(request).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method):
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.message())


def complaints_of(events):
    found = []
    for event in events:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            found.append("exception: " + parameters["exceptionDetails"].get("text", ""))
        elif method == "Runtime.consoleAPICalled":
            found.append("console: " + str([each.get("value") for each in parameters["args"]]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            found.append("log: " + parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(("file:", "data:")):
            found.append("request: " + parameters["request"]["url"])
    return found


def look(browser, url, name, screenshots):
    width, height, scheme, medium = WINDOWS[name]
    browser.events.clear()
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                 mobile=width < 500)
    browser.call("Emulation.setEmulatedMedia", media=medium,
                 features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.call("Page.navigate", url=url)
    browser.wait_for("Page.loadEventFired")
    found = browser.call("Runtime.evaluate", expression=f"{LOOK}({width}, '{medium}')", returnByValue=True)
    if screenshots:
        picture = browser.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        pathlib.Path(screenshots, name + ".png").write_bytes(base64.b64decode(picture["data"]))
    if "exceptionDetails" in found:
        return complaints_of(browser.events) + [str(found["exceptionDetails"])]
    return complaints_of(browser.events) + found["result"]["value"]


def main():
    program, page = sys.argv[1:3]
    screenshots = sys.argv[3] if len(sys.argv) > 3 else None
    wrong = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            target = browser.call("Target.createTarget", url="about:blank")["targetId"]
            browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                browser.call(domain + ".enable")
            for name in WINDOWS:
                for complaint in look(browser, pathlib.Path(page).resolve().as_uri(), name, screenshots):
                    print(f"{name}: {complaint}")
                    wrong += 1
        finally:
            browser.process.kill()
            browser.process.wait()
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
