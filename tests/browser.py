"""A headless Chromium that tests drive by its DevTools protocol, without a network."""

import fcntl
import json
import os
import shutil
import subprocess
import time

import pytest

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
needs_browser = pytest.mark.skipif(
    PROGRAM is None, reason="there is no Chromium on this machine"
)
# The frames of a page stay in its process, where one session sees them all.
FEATURES = "IsolateSandboxedIframes,IsolateOrigins,site-per-process"


class Page:
    """A page of a browser of its own."""

    def __init__(self, folder):
        to_browser, from_browser = os.pipe(), os.pipe()
        # Bash gives the pipes the numbers 3 and 4, which these two must not have.
        reads = fcntl.fcntl(to_browser[0], fcntl.F_DUPFD, 10)
        writes = fcntl.fcntl(from_browser[1], fcntl.F_DUPFD, 10)
        self._process = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$0" "$@" 3<&{reads} 4>&{writes}', PROGRAM),
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--remote-debugging-pipe", f"--user-data-dir={folder}"),
                *(f"--disable-features={FEATURES}", "--window-size=900,500"),
                "about:blank",
            ],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in (to_browser[0], from_browser[1], reads, writes):
            os.close(number)
        self._out = os.fdopen(to_browser[1], "wb", buffering=0)
        self._in = os.fdopen(from_browser[0], "rb")
        self._number, self._session, self._frames = 0, None, {}
        targets = self.send("Target.getTargets")["targetInfos"]
        (page,) = (target for target in targets if target["type"] == "page")
        attached = self.send(
            "Target.attachToTarget", targetId=page["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        self.send("Runtime.enable")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._out.close()
        self._in.close()

    def send(self, method: str, **arguments) -> dict:
        """Give a command, and wait for what comes of it."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._number, "method": method, "params": arguments, **session}
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._read())
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") == "Runtime.executionContextCreated":
                context = answer["params"]["context"]
                self._frames[context["auxData"]["frameId"]] = context["id"]

    def open(self, url: str) -> None:
        self._frames.clear()
        self.send("Page.navigate", url=url)

    def ask(self, expression: str, frame: int = 0):
        """What an expression is worth in the page, or in one of the frames in it."""
        tree = self.send("Page.getFrameTree")["frameTree"]
        frames = [tree, *tree.get("childFrames", [])]
        context = self._frames[frames[frame]["frame"]["id"]]
        done = self.send(
            "Runtime.evaluate",
            expression=expression,
            contextId=context,
            returnByValue=True,
            awaitPromise=True,
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait_for(self, expression: str, frame: int = 0, seconds: float = 20):
        """Ask until the answer is true, and give it back."""
        until = time.monotonic() + seconds
        while True:
            try:
                if answer := self.ask(expression, frame):
                    return answer
            except (KeyError, IndexError):
                pass  # the frame is not there yet
            assert time.monotonic() < until, f"never came true: {expression}"
            time.sleep(0.1)

    def click(self, x: float, y: float) -> None:
        for event in ("mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent",
                **{"type": event, "x": x, "y": y, "button": "left", "clickCount": 1},
            )

    def paste(self) -> None:
        """Paste into what has the focus."""
        self.send("Input.dispatchKeyEvent", type="rawKeyDown", commands=["paste"])

    def _read(self) -> bytes:
        message = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            assert byte, "the browser has gone"
            message += byte
        return bytes(message)
