"""Judges what Autobahn's fuzzing client reported of a server that echoes nothing. The last line counts.

Its own verdicts are those for an echo server: it waits for its messages to come back, and where they don't it closes with
1001 and says FAILED. Here a case holds where everything it expects but the echo came, and nothing else; where it was
closed with the code it asks for, or, if it had waited for an echo, with its own code back; and where a message over
4 KiB was refused with 1009. Cases of compression (12 and 13) hold where the extension was agreed on as they offer it, their
messages were taken, and the Close after them was answered; drive_autobahn.py has them send some and wait for none. What walcast
compresses itself they don't see: for that there is with_websockets.py."""

import json
import pathlib
import sys

TOO_BIG = {"1.1.6", "1.1.7", "1.1.8", "1.2.6", "1.2.7", "1.2.8", "7.1.6", "10.1.1"}
# It sends codes that nobody may send, and leaves open what comes of it.
INVALID_CODE = {"7.13.1", "7.13.2"}


# Bytes of a message of the cases of compression, by the last number of their names; those that follow are larger.
COMPRESSED = {"1": 16, "2": 64, "3": 256, "4": 1024, "5": 4096}


def without_echoes(events):
    return [event for event in events if event[0] != "message"]


def fault(case):
    """Why the case does not hold; None where it does."""
    code = case["remoteCloseCode"]
    if any(event[0] == "message" for event in case["received"]):
        return "something was echoed"
    if case["id"] in TOO_BIG:
        return None if code == 1009 else f"closed with {code}, not 1009"
    if case["id"].startswith(("12.", "13.")):
        return fault_of_compression(case, case["id"].rsplit(".", 1)[1])
    if case["id"] in INVALID_CODE:
        return None if code == 1002 else f"closed with {code}, not 1002"
    wanted = case["expected"].get("OK", [])
    if case["received"] != without_echoes(wanted):
        return f"received {case['received']}, wanted {without_echoes(wanted)}"
    if wanted != without_echoes(wanted) and case["closedByMe"]:
        if code == case["localCloseCode"] and case["wasClean"]:
            return None
        return f"its Close with {case['localCloseCode']} was answered with {code}"
    return None if case["behaviorClose"] == "OK" else f"{case['behaviorClose']}: {case['resultClose']}"


def fault_of_compression(case, size):
    code = case["remoteCloseCode"]
    if case["behavior"] == "UNIMPLEMENTED":
        return "the extension was not agreed on"
    if size not in COMPRESSED:
        return None if code == 1009 else f"closed with {code}, not 1009"
    if case["closedByMe"] and case["wasClean"] and code == case["localCloseCode"]:
        return None
    return f"its Close with {case['localCloseCode']} was answered with {code}"


def order(path):
    number = path.stem.rsplit("case_", 1)[1]
    return [int(part) for part in number.split("_")]


reports = sorted(pathlib.Path(sys.argv[1]).glob("*_case_*.json"), key=order)
failed = 0
for report in reports:
    case = json.loads(report.read_text(errors="replace"))
    why = fault(case)
    if why:
        failed += 1
        print(f"FAILED {case['id']}: {why}\n  {case['description'][:200]}")
print(f"{len(reports) - failed} passed, {failed} failed, 0 skipped")
sys.exit(1 if failed or not reports else 0)
