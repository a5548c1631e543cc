"""Rows as a remediation service writes them, and frames that bring them."""

import json
import struct
import zlib

WORDS = """restarted pod after failures of node memory pressure evicted limit exceeded latency threshold rollback deployment scaled queue
depth consumer lag disk volume full expanded certificate renewed checkout payments gateway timeout upstream retry succeeded""".split()
ALERTS, ACTIONS = ["PodCrashLooping", "HighMemory", "DiskFull", "QueueLag"], ["restart_pod", "scale_up", "rollback"]
COLUMNS = ("ts", "alertname", "tenant", "action", "status", "details")
INSERT = f"INSERT INTO remediation_events({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?)"


def row(random_, length):
    """A row as a remediation service writes it, with details of about so many characters."""
    details = ""
    while len(details) < length:
        details += random_.choice(WORDS) + (f"-{random_.randrange(16**6):06x} " if random_.random() < 0.15 else " ")
    now = f"2026-11-26T17:{random_.randrange(60):02}:{random_.randrange(60):02}.{random_.randrange(1000):03}Z"
    tenant, status = f"tenant-{random_.randrange(40)}", random_.choice(["success", "failed"])
    return now, random_.choice(ALERTS), tenant, random_.choice(ACTIONS), status, details[:length]


def frames(data):
    """First byte and payload of each whole frame."""
    while len(data) >= 2:
        start, length = 2, data[1]
        if length == 126:
            start, length = 4, struct.unpack(">H", data[2:4])[0]
        elif length == 127:
            start, length = 10, struct.unpack(">Q", data[2:10])[0]
        yield data[0], data[start : start + length]
        data = data[start + length :]


def rows_in(data):
    """The rows in what one client was sent."""
    for first, payload in frames(data):
        if first == 0xC1:
            payload = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
        if first & 15 == 1:
            yield json.loads(payload)["event"]
