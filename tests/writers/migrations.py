#!/usr/bin/env python3
"""Migrations of real tools of Python on captured tables, with writes around them: either every change is in the log, or it is told that changes
may be missing and the table is captured anew. Run by tests/writers/run, which installs the tools.

tests/writers/migrations.py [WORD...]   only tests whose name contains one of the words
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs"))
from harness import Tests, place  # noqa: E402
from migrating import manual, one, printed, program, status, tool, whole_or_told, write  # noqa: E402

tests = Tests()
test = tests.test


# --- sqlite-utils


@test
def sqlite_utils_transform_is_told():
    tool("sqlite_utils")
    with place() as here:
        write(here / "events.db", "CREATE TABLE shop_order(id INTEGER PRIMARY KEY, note)")
        transform = "import sqlite_utils; sqlite_utils.Database('events.db')['shop_order'].transform(types={'note': str}, not_null={'note'})"
        assert not whole_or_told(here, lambda: program(here, transform))


# --- Alembic

ALEMBIC = """
    import sys
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    import sqlalchemy as sa
    engine = sa.create_engine("sqlite:///events.db")
    with engine.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        {}
"""


@test
def alembic_batches_are_told():
    tool("alembic")
    with place() as here:
        write(here / "events.db", "CREATE TABLE shop_order(id INTEGER PRIMARY KEY, note VARCHAR)")
        batch = "with op.batch_alter_table('shop_order') as batch: batch.alter_column('note', type_=sa.Text(), nullable=False)"
        assert not whole_or_told(here, lambda: program(here, ALEMBIC.format(batch)))


@test
def alembic_changes_that_build_nothing_anew_lose_nothing():
    tool("alembic")
    with place() as here:
        write(here / "events.db", "CREATE TABLE shop_order(id INTEGER PRIMARY KEY, note VARCHAR)")
        add = "op.add_column('shop_order', sa.Column('more', sa.Text()))"
        assert whole_or_told(here, lambda: program(here, ALEMBIC.format(add)))


@test
def the_alembic_migration_of_the_manual_captures_and_takes_it_back():
    tool("alembic")
    text = manual("alembic").replace("orders_", "order_")
    with place() as here:
        write(here / "events.db", "CREATE TABLE shop_order(id INTEGER PRIMARY KEY, note VARCHAR)")
        before = one(here / "events.db", "SELECT group_concat(sql) FROM sqlite_schema")
        printed(here, "order_capture.sql", "order_uncapture.sql")
        (here / "env").mkdir()
        (here / "env/versions").mkdir()
        (here / "env/script.py.mako").write_text("")
        (here / "env/env.py").write_text(
            "from alembic import context\nimport sqlalchemy as sa\nengine = sa.create_engine('sqlite:///events.db')\n"
            "with engine.connect() as connection:\n    context.configure(connection=connection)\n"
            "    with context.begin_transaction():\n        context.run_migrations()\n"
        )
        for name in ("order_capture.sql", "order_uncapture.sql"):
            (here / "env/versions" / name).write_text((here / name).read_text())
        (here / "env/versions/0001.py").write_text('revision = "0001"\ndown_revision = None\n' + text)
        (here / "alembic.ini").write_text("[alembic]\nscript_location = env\n")
        upgrade = "from alembic.config import main; import sys; main(argv=sys.argv[1:])"
        program(here, upgrade, "upgrade", "head")
        assert status(here / "events.db").returncode == 0
        program(here, upgrade, "downgrade", "base")
        assert one(here / "events.db", "SELECT group_concat(sql) FROM sqlite_schema WHERE name NOT LIKE '%alembic%'") == before


# --- Django

SETTINGS = """
    import sys, django
    from django.conf import settings
    settings.configure(
        INSTALLED_APPS=["shop"], DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "events.db"}},
    )
    django.setup()
    from django.core.management import call_command
    call_command("migrate", *sys.argv[1:], verbosity=0)
"""
FIRST = """
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [migrations.CreateModel("Order", [("id", models.BigAutoField(primary_key=True)), ("note", models.CharField(max_length=9))])]
"""
ALTERED = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.AlterField("order", "note", models.TextField(null=True, unique=True))]
"""


def django_app(here):
    folder = here / "shop/migrations"
    folder.mkdir(parents=True)
    for file in (here / "shop/__init__.py", folder / "__init__.py", here / "shop/models.py"):
        file.write_text("")
    (folder / "0001_initial.py").write_text(FIRST)
    program(here, SETTINGS)
    return folder


@test
def django_alter_field_is_told():
    tool("django")
    with place() as here:
        folder = django_app(here)
        (folder / "0002_altered.py").write_text(ALTERED)
        assert not whole_or_told(here, lambda: program(here, SETTINGS))


@test
def the_django_migration_of_the_manual_captures_and_takes_it_back():
    tool("django")
    with place() as here:
        folder = django_app(here)
        before = one(here / "events.db", "SELECT group_concat(sql) FROM sqlite_schema")
        printed(here, folder / "orders_capture.sql", folder / "orders_uncapture.sql")
        (folder / "0002_capture.py").write_text(manual("django.db"))
        program(here, SETTINGS)
        assert status(here / "events.db").returncode == 0
        program(here, SETTINGS, "shop", "0001")
        assert one(here / "events.db", "SELECT group_concat(sql) FROM sqlite_schema") == before


if __name__ == "__main__":
    tests.main()
