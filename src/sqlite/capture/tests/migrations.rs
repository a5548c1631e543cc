//! What migrations do to a captured table, and it to them.

use super::*;

#[test]
fn what_migrations_do_to_the_triggers_is_told() {
    let made = || {
        captured(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, c)",
            "t",
            CaptureMode::Keys,
            &["a"],
        )
    };
    let after = |sql: &str| {
        let db = made();
        db.execute_batch(sql).unwrap();
        db
    };
    for harmless in [
        "ALTER TABLE t ADD COLUMN d",
        "ALTER TABLE t DROP COLUMN b",
        "ALTER TABLE t RENAME COLUMN b TO bb",
        "ALTER TABLE t RENAME COLUMN id TO key",
        "CREATE INDEX i ON t(c)",
        "VACUUM",
    ] {
        whole(&after(harmless), "t");
    }
    for (breaking, said) in [
        (
            "CREATE TABLE n(id INTEGER PRIMARY KEY, a); DROP TABLE t; ALTER TABLE n RENAME TO t",
            "built anew",
        ),
        (
            "CREATE TRIGGER z AFTER UPDATE ON t BEGIN SELECT 1; END",
            "z was made later",
        ),
        ("DROP TABLE _walcast_t", "_walcast_t is gone"),
        ("DROP TABLE t", "no table t"),
    ] {
        let reason = broken(&after(breaking), "t");
        assert!(reason.contains(said), "{breaking}: {reason}");
    }
    let renamed = after("ALTER TABLE t RENAME TO u");
    assert!(broken(&renamed, "u").contains("renamed to u"));
}

#[test]
fn a_table_built_anew_whose_triggers_were_put_back_is_told() {
    for auto_vacuum in ["NONE", "FULL"] {
        for rebuild in [
            "CREATE TABLE n(id INTEGER PRIMARY KEY, a UNIQUE, b); INSERT INTO n SELECT * FROM t; DROP TABLE t;
             ALTER TABLE n RENAME TO t",
            "ALTER TABLE t RENAME TO o; CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, b); INSERT INTO t SELECT * FROM o;
             DROP TABLE o",
        ] {
            let sql = format!(
                "PRAGMA auto_vacuum = {auto_vacuum}; CREATE TABLE first(a);
                 CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, b)"
            );
            let mut db = captured(&sql, "t", CaptureMode::Keys, &[]);
            db.execute_batch("DROP TABLE first; ALTER TABLE t RENAME COLUMN b TO c; VACUUM")
                .unwrap();
            whole(&db, "t");
            let triggers: Vec<String> = db
                .prepare("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 't' ORDER BY rowid")
                .unwrap()
                .query_map([], |row| row.get(0))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            let triggers = triggers.join(";");
            db.execute_batch(&format!("BEGIN; {rebuild}; {triggers}; COMMIT"))
                .unwrap();
            assert!(broken(&db, "t").contains("put back"), "{rebuild}");
            db.execute_batch("VACUUM").unwrap();
            assert!(broken(&db, "t").contains("put back"), "{rebuild}");
            let again = capture(&mut db, "t", CaptureMode::Keys, &[]);
            assert_eq!(again.unwrap(), Installed::Again);
            whole(&db, "t");
        }
    }
}

#[test]
fn triggers_that_were_dropped_and_put_back_are_told() {
    let sql = "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE, b); CREATE TABLE later(x)";
    let mut db = captured(sql, "t", CaptureMode::Keys, &[]);
    db.execute_batch("VACUUM; ALTER TABLE t RENAME COLUMN b TO c; DROP TABLE later; VACUUM")
        .unwrap();
    whole(&db, "t");
    let (drops, triggers): (String, String) = db
        .query_row(
            "SELECT group_concat('DROP TRIGGER ' || name, ';'), group_concat(sql, ';') FROM (SELECT name, sql FROM sqlite_schema
              WHERE type = 'trigger' AND tbl_name = 't' ORDER BY rowid)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    db.execute_batch(&format!(
        "BEGIN; {drops}; INSERT INTO t VALUES (1, 2, 3); {triggers}; COMMIT"
    ))
    .unwrap();
    let reason = broken(&db, "t");
    assert!(reason.contains("dropped and put back"), "{reason}");
    db.execute_batch("VACUUM").unwrap();
    broken(&db, "t");
    let again = capture(&mut db, "t", CaptureMode::Keys, &[]);
    assert_eq!(again.unwrap(), Installed::Again);
    whole(&db, "t");
}

/// What a migration may do to a column, as far as it may without capture.
#[test]
fn a_constraint_can_be_dropped_and_its_columns_with_it() {
    for (columns, index, dropped) in [
        ("a, b", "t(a)", &["a"][..]),
        ("a, b", "t(a, b)", &["b", "a"]),
        (
            "a TEXT COLLATE NOCASE, b NOT NULL DEFAULT 5",
            "t(a, b)",
            &["a", "b"],
        ),
        ("a, b", "t(a) WHERE b = 1", &["b", "a"]),
        (
            "a, b",
            "t(lower(a), b + 1) WHERE b > 0 AND a IS NOT 'x'",
            &["a", "b"],
        ),
        (
            "\"a \"\"b\", c0, log, new",
            "t(\"a \"\"b\", c0, log, new)",
            &["a \"b", "log", "new", "c0"],
        ),
        ("a, b AS (a || '!') STORED", "t(b)", &["b", "a"]),
        ("a, b AS (a || '!') VIRTUAL", "t(b)", &["b", "a"]),
    ] {
        let sql = format!(
            "CREATE TABLE t(id TEXT, n, {columns}, PRIMARY KEY (id, n)); CREATE UNIQUE INDEX u ON {index}"
        );
        let db = captured(&sql, "t", CaptureMode::Keys, &["id"]);
        let mut write = db.prepare("REPLACE INTO t(id, n) VALUES (?1, 1)").unwrap();
        write.execute(["x"]).unwrap();
        db.execute_batch("DROP INDEX u").unwrap();
        for column in dropped {
            let drop = format!(
                "ALTER TABLE t DROP COLUMN \"{}\"",
                column.replace('"', "\"\"")
            );
            db.execute_batch(&drop)
                .unwrap_or_else(|e| panic!("{index}: {drop}: {e}"));
            // Whoever writes before anybody has looked.
            write.execute([column]).unwrap();
            db.execute_batch(
                "UPDATE OR REPLACE t SET id = id || '1'; DELETE FROM t WHERE id = 'x1'",
            )
            .unwrap_or_else(|e| panic!("{index} without {column}: {e}"));
        }
        let reason = broken(&db, "t");
        assert!(
            reason.contains("belongs to the table as it is now"),
            "{reason}"
        );
    }
}
