"""A program: opens the page of the owl, ARGV[1], in a browser of its own, without any network.

Prints JSON: why not even this machine can be reached, after how many milliseconds the page was
ready, from which azimuth it then showed the owl, and how close to our own picture that was, in dB.
"""

import json
import socket
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser import FLAGS, chromium
from tests.viewers import gate, objects, pages


def unreachable() -> str:
    """Why port 9 of this machine cannot be asked; empty if it can."""
    try:
        socket.create_connection(("127.0.0.1", 9)).close()
    except ConnectionRefusedError:
        return ""
    except OSError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        with pages.opened(browser, Path(sys.argv[1]), reduced_motion="reduce") as page:
            found = {"unreachable": unreachable(), "ready_ms": pages.ready(page)}
            found["azimuth"] = pages.place(page)[0]
            ours = pages.expected(page, objects.owl())
            found["db"] = gate.psnr(pages.seen(page)[None], ours[None]).item()
        print(json.dumps(found))
