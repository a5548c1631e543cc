-- The stock table of walcast. AUTOINCREMENT matters: without it SQLite gives the highest id again after its row
-- was deleted, and a subscriber that has already seen that id cannot be told of the new row.
CREATE TABLE IF NOT EXISTS remediation_events (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    ts        TEXT NOT NULL,   -- ISO-8601 with a trailing Z
    alertname TEXT,
    tenant    TEXT,
    action    TEXT,
    status    TEXT,            -- 'success', 'error', ...
    details   TEXT
);
