#!/usr/bin/env python3
"""Migrations by Prisma and Drizzle on captured tables, as tests/writers/migrations.py has those of Python's tools. The tools' own
programs make the SQL and run it; both write through libsql, which npm has ready-built.

tests/writers/npm_migrations.py [WORD...]   only tests whose name contains one of the words
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs"))
from drivers import WORK, attempt, need  # noqa: E402
from harness import BINARY, Tests, place  # noqa: E402
from migrating import manual, one, status, whole_or_told, write  # noqa: E402

tests = Tests()
test = tests.test

FOLDER = WORK / "npm_migrations"
# The adapter's own older client can't wait for locks.
PACKAGES = json.dumps(
    {
        "dependencies": {
            "prisma": "6.19.3",
            "@prisma/adapter-libsql": "6.19.3",
            "drizzle-kit": "0.31.11",
            "drizzle-orm": "0.45.4",
            "@libsql/client": "0.18.0",
        },
        "overrides": {"@libsql/client": "$@libsql/client"},
    }
)
# With an adapter Prisma's engine for migrations is WebAssembly that its package has. That for queries it would download, and not use.
ENVIRONMENT = {
    **os.environ,
    "PRISMA_QUERY_ENGINE_LIBRARY": sys.executable,
    "PRISMA_HIDE_UPDATE_MESSAGE": "1",
    "CHECKPOINT_DISABLE": "1",
    "PATH": f"{BINARY.parent}:{FOLDER / 'node_modules/.bin'}:{os.environ['PATH']}",
}


def tools(here):
    """Has what is run in this directory find the packages."""
    need("node", "npm")
    installed = FOLDER / "installed"
    if not installed.exists() or installed.read_text() != PACKAGES:
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        (FOLDER / "package.json").write_text(PACKAGES)
        attempt(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"], cwd=FOLDER)
        installed.write_text(PACKAGES)
    (here / "node_modules").symlink_to(FOLDER / "node_modules")
    (here / "package.json").write_text('{"type": "module"}')


def shell(here, script):
    """Runs a script of the manual; returns what it says."""
    done = subprocess.run(["sh", "-ec", script], cwd=here, capture_output=True, text=True, check=False, env=ENVIRONMENT, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def of_the_manual(containing, **changes):
    """A script of the manual for the table and file of the tests, with npm's programs as they are installed here."""
    script = manual(containing, "sh").replace("npx ", "").replace(" orders ", " shop_order ")
    for old, new in changes.values():
        assert old in script, script
        script = script.replace(old, new)
    return script


def is_logged(here, sql):
    """Whether the table is captured, and what is written now is in its log; one change is expected of it."""
    database = here / "events.db"
    said = status(database)
    assert said.returncode == 0, said.stdout
    before = one(database, "SELECT count(*) FROM _walcast_shop_order")
    write(database, sql)
    return one(database, "SELECT count(*) FROM _walcast_shop_order") == before + 1


# --- Prisma

# As long as Prisma's own engine, the adapter waits for others' locks.
PRISMA_CONFIG = """
import { defineConfig } from 'prisma/config';
import { PrismaLibSQL } from '@prisma/adapter-libsql';
export default defineConfig({
  schema: 'prisma/schema.prisma', engine: 'js', adapter: async () => new PrismaLibSQL({ url: 'file:./events.db', timeout: 5000 }),
  EXTERNAL
});
"""
PRISMA_SCHEMA = """
datasource db {
  provider = "sqlite"
  url = "file:./events.db"
}
model Order {
  id Int @id @default(autoincrement())
  FIELDS
  @@map("shop_order")
}
"""


class Prisma:
    """A project of one model."""

    def __init__(self, here, fields="note String?"):
        self.here = here
        self.made = 0
        tools(here)
        (here / "prisma/migrations").mkdir(parents=True)
        (here / "prisma/migrations/migration_lock.toml").write_text('provider = "sqlite"\n')
        self.configure("experimental: { adapter: true },")
        self.schema = here / "prisma/schema.prisma"
        self.migrate(fields)

    def configure(self, external):
        (self.here / "prisma.config.ts").write_text(PRISMA_CONFIG.replace("EXTERNAL", external))

    def generate(self, fields):
        """Makes the migration to these fields; returns its SQL."""
        before = "--from-empty"
        if self.schema.exists():
            shutil.copy(self.schema, self.here / "old.prisma")
            before = "--from-schema-datamodel old.prisma"
        self.schema.write_text(PRISMA_SCHEMA.replace("FIELDS", fields))
        sql = shell(self.here, f"prisma migrate diff {before} --to-schema-datamodel prisma/schema.prisma --script")
        self.file("change").write_text(sql)
        return sql

    def file(self, name):
        """The file of a new, empty migration, as `migrate dev --create-only` makes it. It needs an engine that is not to be had here."""
        self.made += 1
        folder = self.here / f"prisma/migrations/{self.made:04}_{name}"
        folder.mkdir()
        (folder / "migration.sql").write_text("")
        return folder / "migration.sql"

    def migrate(self, fields):
        sql = self.generate(fields)
        shell(self.here, "prisma migrate deploy")
        return sql


@test
def prisma_redefining_a_table_is_told():
    with place() as here:
        prisma = Prisma(here)
        sql = []
        assert not whole_or_told(here, lambda: sql.append(prisma.migrate('note String @default("none")')))
        assert "DROP TABLE" in sql[0], sql


@test
def prisma_adding_a_column_loses_nothing():
    with place() as here:
        prisma = Prisma(here)
        assert whole_or_told(here, lambda: prisma.migrate("note String?\n  more String?"))


@test
def the_prisma_migration_of_the_manual_captures_also_what_is_redefined_later():
    with place() as here:
        prisma = Prisma(here)
        prisma.file("capture_orders")
        made = manual("--create-only", "sh").splitlines()[0] + "\n"
        script = of_the_manual("--create-only", file=("prisma/shop.db", "events.db"), made=(made.replace("npx ", ""), ""))
        shell(here, script)
        assert is_logged(here, "INSERT INTO shop_order(note) VALUES ('after')")
        # On a copy, as on the machine where a migration is made: what it is to end with is that of the new table.
        prisma.generate('note String @default("none") @unique')
        again = here / "again"
        shutil.copytree(here, again, symlinks=True)
        shell(again, "prisma migrate deploy")
        ending = shell(again, "walcast capture install --db events.db shop_order --print")
        with open(here / "prisma/migrations/0003_change/migration.sql", "a") as file:
            file.write(f"BEGIN IMMEDIATE;\n{ending}COMMIT;\n")
        shell(here, "prisma migrate deploy")
        assert is_logged(here, "UPDATE shop_order SET note = 'later'")


@test
def prisma_leaves_the_log_alone_where_it_is_told_whose_it_is():
    with place() as here:
        prisma = Prisma(here)
        shell(here, "walcast capture install --db events.db shop_order")
        asked = subprocess.run(["prisma", "db", "push", "--skip-generate"], cwd=here, capture_output=True, text=True, check=False, env=ENVIRONMENT)
        assert "drop the `_walcast_capture` table" in asked.stdout + asked.stderr, asked
        external = manual("externalTables", "ts").replace("_walcast_orders", "_walcast_shop_order").replace("{ externalTables", "{ adapter: true, externalTables")
        prisma.configure(external)
        assert "already in sync" in shell(here, "prisma db push --skip-generate")
        assert is_logged(here, "INSERT INTO shop_order(note) VALUES ('after')")


# --- Drizzle

DRIZZLE_CONFIG = """
import { defineConfig } from 'drizzle-kit';
export default defineConfig({
  dialect: 'sqlite', schema: './schema.ts', out: './drizzle', dbCredentials: { url: 'file:./events.db' },
  FILTER
});
"""
DRIZZLE_SCHEMA = """
import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core';
export const orders = sqliteTable('shop_order', { id: integer().primaryKey({ autoIncrement: true }), FIELDS });
"""


class Drizzle:
    """A project of one table."""

    def __init__(self, here):
        self.here = here
        tools(here)
        self.configure("")
        self.migrate("note: text()")

    def configure(self, line):
        (self.here / "drizzle.config.ts").write_text(DRIZZLE_CONFIG.replace("FILTER", line))

    def generate(self, fields):
        """Makes the migration to these columns; returns its file."""
        (self.here / "schema.ts").write_text(DRIZZLE_SCHEMA.replace("FIELDS", fields))
        shell(self.here, "drizzle-kit generate")
        return max(self.here.glob("drizzle/*.sql"))

    def migrate(self, fields):
        file = self.generate(fields)
        shell(self.here, "drizzle-kit migrate")
        return file.read_text()


@test
def drizzle_building_a_table_anew_is_told():
    with place() as here:
        drizzle = Drizzle(here)
        sql = []
        assert not whole_or_told(here, lambda: sql.append(drizzle.migrate("note: text().notNull()")))
        assert "DROP TABLE" in sql[0], sql


@test
def drizzle_adding_a_column_loses_nothing():
    with place() as here:
        drizzle = Drizzle(here)
        assert whole_or_told(here, lambda: drizzle.migrate("note: text(), more: text()"))


@test
def the_drizzle_migration_of_the_manual_captures_also_what_is_built_anew_later():
    with place() as here:
        drizzle = Drizzle(here)
        script = of_the_manual("drizzle-kit generate", file=("shop.db", "events.db"))
        shell(here, script)
        assert is_logged(here, "INSERT INTO shop_order(note) VALUES ('after')")
        file = drizzle.generate("note: text().notNull().unique()")
        again = here / "again"
        shutil.copytree(here, again, symlinks=True)
        shell(again, "drizzle-kit migrate")
        ending = next(line for line in script.splitlines() if "sed" in line).split("|")[0].strip()
        with open(file, "a") as opened:
            opened.write("\n--> statement-breakpoint\n" + shell(again, f"walcast capture install --db events.db shop_order --print | {ending}"))
        shell(here, "drizzle-kit migrate")
        assert is_logged(here, "UPDATE shop_order SET note = 'later'")


@test
def drizzle_pushes_past_the_log_where_it_is_told_whose_it_is():
    with place() as here:
        drizzle = Drizzle(here)
        shell(here, "walcast capture install --db events.db shop_order")
        push = lambda: subprocess.run(  # noqa: E731
            ["drizzle-kit", "push", "--verbose"], cwd=here, capture_output=True, text=True, check=False, env=ENVIRONMENT, stdin=subprocess.DEVNULL
        )
        asked = push()
        assert "delete _walcast_capture table" in asked.stdout + asked.stderr, asked
        drizzle.configure(manual("tablesFilter", "ts"))
        push()
        assert is_logged(here, "INSERT INTO shop_order(note) VALUES ('after')")


if __name__ == "__main__":
    tests.main()
