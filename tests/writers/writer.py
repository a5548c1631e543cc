"""Runs statements, a JSON array on stdin, on the file that is named, and says of each what came of it."""

import json
import sqlite3
import sys

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for sql in json.load(sys.stdin):
    try:
        print(connection.execute(sql).fetchall(), connection.execute("SELECT changes()").fetchone())
    except sqlite3.Error as error:
        print(error)
    else:
        # Where a foreign key fails a statement at its end, whether its rowid stays depends on there being any trigger: that of a
        # statement that did nothing is then another one's.
        if sql.startswith("INSERT") and "ON CONFLICT" not in sql and connection.execute("SELECT changes()").fetchone() != (0,):
            print(connection.execute("SELECT last_insert_rowid()").fetchone())
