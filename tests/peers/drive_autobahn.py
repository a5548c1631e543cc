"""Autobahn's fuzzing client (for Python 2.7), whose cases of compression wait for no echo: they send some messages, and close."""

import site
import sys

site.addsitedir(sys.argv.pop(1))

from autobahntestsuite.case import Cases  # noqa: E402
from autobahntestsuite.wstest import run  # noqa: E402

# Fewer than a client may send at once. Each is of another part of the text.
MESSAGES = 8
# The Close is read after the messages, however soon it is sent.
PAUSE = 0.05


def several(send_one):
    def send(case):
        for _ in range(MESSAGES):
            send_one(case)

    return send


for case in Cases:
    if "CLIENT_OFFERS" in case.__dict__:
        case.WAITSECS = PAUSE
        case.sendOne = several(case.__dict__["sendOne"])

run()
