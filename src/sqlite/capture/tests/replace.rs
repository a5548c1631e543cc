//! Rows that `REPLACE` deletes, and those that it doesn't.

use rusqlite::StatementStatus;

use super::*;

#[test]
fn tables_that_are_named_as_rows_are_in_triggers_are_captured() {
    for name in ["new", "old", "held", "n", "l"] {
        let table = format!("CREATE TABLE \"{name}\"(id INTEGER PRIMARY KEY, a UNIQUE)");
        let db = captured(&table, name, CaptureMode::Keys, &[]);
        db.execute_batch(&format!(
            "INSERT INTO \"{name}\" VALUES (1, 'x'), (2, 'y'); REPLACE INTO \"{name}\" VALUES (3, 'x');
             UPDATE OR REPLACE \"{name}\" SET a = 'y' WHERE id = 3"
        ))
        .unwrap();
        assert_eq!(
            log(&db, name, "op k0"),
            ["'c' 1", "'c' 2", "'d' 1", "'c' 3", "'d' 2", "'u' 3"]
        );
    }
}

/// What the log says after `sql` was run against `table`, whether REPLACE fires triggers for what it deletes or not.
#[track_caller]
fn assert_logged(
    table: &str,
    mode: CaptureMode,
    filters: &[&str],
    sql: &str,
    columns: &str,
    expected: &[&str],
) {
    for recursive in ["OFF", "ON"] {
        let db = captured(table, "t", mode, filters);
        db.execute_batch(&format!(
            "PRAGMA recursive_triggers = {recursive}; DELETE FROM _walcast_t;"
        ))
        .unwrap();
        let mut statements = sql.split(';').filter(|sql| !sql.trim().is_empty());
        // What a statement gets refused is its own matter.
        statements
            .by_ref()
            .for_each(|sql| drop(db.execute_batch(sql)));
        assert_eq!(
            log(&db, "t", columns),
            expected,
            "{sql} with recursive_triggers {recursive}"
        );
    }
}

#[test]
fn rows_that_replace_deletes_are_logged() {
    let logged = |sql: &str, expected: &[&str]| {
        // What is there already is no part of the log.
        assert_logged(
            EMAILS,
            CaptureMode::Keys,
            &[],
            sql,
            "op k0 old_k0",
            expected,
        );
    };
    logged(
        "INSERT OR REPLACE INTO t VALUES (4, 'A', 1)",
        &["'d' 1 NULL", "'c' 4 NULL"],
    );
    logged(
        "REPLACE INTO t(email, n) VALUES ('a', 1), ('z', 1), ('B', 1)",
        &[
            "'d' 1 NULL",
            "'c' 4 NULL",
            "'c' 5 NULL",
            "'d' 2 NULL",
            "'c' 6 NULL",
        ],
    );
    // One row takes the place of two; with recursive triggers, the one of its own key is logged as well.
    let twice = captured(EMAILS, "t", CaptureMode::Keys, &[]);
    twice
        .execute_batch("INSERT OR REPLACE INTO t VALUES (1, 'b', 1)")
        .unwrap();
    assert_eq!(log(&twice, "t", "op k0"), ["'d' 2", "'c' 1"]);
    logged(
        "UPDATE OR REPLACE t SET email = 'b' WHERE id = 1",
        &["'d' 2 NULL", "'u' 1 NULL"],
    );
    logged(
        "UPDATE OR REPLACE t SET email = 'same'",
        &[
            "'u' 1 NULL",
            "'d' 1 NULL",
            "'u' 2 NULL",
            "'d' 2 NULL",
            "'u' 3 NULL",
        ],
    );
    logged(
        "UPDATE t SET email = upper(email)",
        &["'u' 1 NULL", "'u' 2 NULL", "'u' 3 NULL"],
    );
}

#[test]
fn rows_that_stay_are_not_logged_as_deleted() {
    let logged = |sql: &str, expected: &[&str]| {
        assert_logged(
            EMAILS,
            CaptureMode::Keys,
            &[],
            sql,
            "op k0 old_k0",
            expected,
        );
    };
    logged(
        "INSERT OR IGNORE INTO t VALUES (4, 'a', 1); INSERT INTO t VALUES (4, 'd', 1)",
        &["'c' 4 NULL"],
    );
    logged(
        "INSERT INTO t VALUES (4, 'a', 1); INSERT OR FAIL INTO t VALUES (5, 'e', 1), (6, 'b', 1), (7, 'g', 1)",
        &["'c' 5 NULL"],
    );
    logged(
        "INSERT INTO t VALUES (4, 'a', 1) ON CONFLICT(email) DO NOTHING; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (9, 'a', 1)",
        &["'d' 1 NULL", "'c' 9 NULL"],
    );
    logged(
        "INSERT INTO t VALUES (4, 'a', 1) ON CONFLICT(email) DO UPDATE SET n = n + 1; INSERT INTO t VALUES (4, 'd', 1)",
        &["'u' 1 NULL", "'c' 4 NULL"],
    );
    logged(
        "INSERT INTO t VALUES (4, 'a', 1) ON CONFLICT(email) DO UPDATE SET email = 'q', id = 7; INSERT INTO t VALUES (4, 'a', 1)",
        &["'u' 7 1", "'c' 4 NULL"],
    );
    logged(
        "UPDATE OR IGNORE t SET email = 'b' WHERE id = 1; UPDATE t SET n = 5 WHERE id = 1",
        &["'u' 1 NULL"],
    );
    logged(
        "INSERT OR ROLLBACK INTO t VALUES (4, 'a', 1); INSERT INTO t VALUES (4, 'd', 1)",
        &["'c' 4 NULL"],
    );
    logged(
        "SAVEPOINT s; REPLACE INTO t VALUES (4, 'a', 1); ROLLBACK TO s; RELEASE s; INSERT INTO t VALUES (5, 'x', 1)",
        &["'c' 5 NULL"],
    );
}

#[test]
fn a_row_of_the_same_key_is_deleted_first_where_its_values_are_recorded() {
    assert_logged(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, tenant)",
        CaptureMode::Keys,
        &["tenant"],
        "INSERT INTO t VALUES (1, 'x'); REPLACE INTO t VALUES (1, 'y'); INSERT INTO t VALUES (2, 'z'); UPDATE OR REPLACE t SET id = 1 WHERE id = 2",
        "op k0 old_k0 old_f0 new_f0",
        &[
            "'c' 1 NULL NULL 'x'",
            "'d' 1 NULL 'x' NULL",
            "'c' 1 NULL NULL 'y'",
            "'c' 2 NULL NULL 'z'",
            "'d' 1 NULL 'y' NULL",
            "'u' 1 2 'z' 'z'",
        ],
    );
    assert_logged(
        "CREATE TABLE t(a TEXT, b, v, PRIMARY KEY (a, b)) WITHOUT ROWID",
        CaptureMode::Full,
        &[],
        "INSERT INTO t VALUES ('k', 1, 'old'); REPLACE INTO t VALUES ('k', 1, 'new'); INSERT INTO t VALUES ('k', 1, 'up') ON CONFLICT DO UPDATE SET v = excluded.v",
        "op k0 k1 \"before:v\" \"after:v\"",
        &[
            "'c' 'k' 1 NULL 'old'",
            "'d' 'k' 1 'old' NULL",
            "'c' 'k' 1 NULL 'new'",
            "'u' 'k' 1 'new' 'up'",
        ],
    );
}

#[test]
fn keys_that_differ_in_bytes_alone_are_told_apart() {
    assert_logged(
        "CREATE TABLE t(k TEXT PRIMARY KEY COLLATE NOCASE, v)",
        CaptureMode::Keys,
        &[],
        "INSERT INTO t VALUES ('a', 1); REPLACE INTO t VALUES ('A', 2); UPDATE t SET k = 'a'",
        "op k0 old_k0",
        &[
            "'c' 'a' NULL",
            "'d' 'a' NULL",
            "'c' 'A' NULL",
            "'u' 'a' 'A'",
        ],
    );
    assert_logged(
        "CREATE TABLE t(k PRIMARY KEY)",
        CaptureMode::Keys,
        &[],
        "INSERT INTO t VALUES (1); REPLACE INTO t VALUES (1.0); UPDATE t SET k = 1",
        "op k0 old_k0",
        &["'c' 1 NULL", "'d' 1 NULL", "'c' 1.0 NULL", "'u' 1 1.0"],
    );
}

#[test]
fn every_constraint_is_looked_into() {
    let logged = |constraint: &str, sql: &str, expected: &[&str]| {
        let table = format!("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b, on_ INT DEFAULT 1, d INT NOT NULL DEFAULT 5{constraint};
            INSERT INTO t(id, a, b, d) VALUES (1, 'x', 1, 5), (2, 'y', 2, 6)");
        assert_logged(&table, CaptureMode::Keys, &[], sql, "op k0", expected);
    };
    let takes_1 = ["'d' 1", "'c' 9"];
    logged(
        ", UNIQUE(a, b))",
        "REPLACE INTO t(id, a, b, d) VALUES (9, 'x', 1, 9), (10, 'x', 2, 10), (11, 'x', NULL, 11)",
        &["'d' 1", "'c' 9", "'c' 10", "'c' 11"],
    );
    logged(
        "); CREATE UNIQUE INDEX i ON t(lower(a), b + 1)",
        "REPLACE INTO t(id, a, b, d) VALUES (9, 'X', 1, 9)",
        &takes_1,
    );
    logged(
        "); CREATE UNIQUE INDEX i ON t(a COLLATE NOCASE DESC)",
        "REPLACE INTO t(id, a, d) VALUES (9, 'X', 9)",
        &takes_1,
    );
    logged(
        "); CREATE UNIQUE INDEX i ON t(a) WHERE on_",
        "REPLACE INTO t(id, a, on_, d) VALUES (8, 'x', 0, 8), (9, 'x', 1, 9)",
        &["'c' 8", "'d' 1", "'c' 9"],
    );
    logged(
        "); CREATE UNIQUE INDEX i ON t(a) WHERE on_",
        "INSERT INTO t(id, a, on_, d) VALUES (9, 'x', 0, 9); UPDATE OR REPLACE t SET on_ = 1 WHERE id = 9",
        &["'c' 9", "'d' 1", "'u' 9"],
    );
    // REPLACE puts the default where NULL may not stand.
    logged(
        ", UNIQUE(d))",
        "REPLACE INTO t(id, a, d) VALUES (9, 'q', NULL)",
        &takes_1,
    );
    logged(
        ", UNIQUE(a) ON CONFLICT REPLACE)",
        "INSERT INTO t(id, a, d) VALUES (9, 'x', 9)",
        &takes_1,
    );
    logged(
        ", g AS (a || '!') UNIQUE)",
        "REPLACE INTO t(id, a, d) VALUES (9, 'x', 9)",
        &takes_1,
    );
    // Of what an update does not change, too.
    for kind in ["STORED", "VIRTUAL"] {
        logged(
            &format!(", g AS (a || '!' || b) {kind} UNIQUE)"),
            "INSERT INTO t(id, a, b, d) VALUES (9, 'x', 3, 9); UPDATE OR REPLACE t SET b = 1 WHERE id = 9",
            &["'c' 9", "'d' 1", "'u' 9"],
        );
    }
}

#[test]
fn a_hidden_rowid_is_a_constraint_too() {
    assert_logged(
        "CREATE TABLE t(k TEXT PRIMARY KEY)",
        CaptureMode::Keys,
        &[],
        "INSERT INTO t(rowid, k) VALUES (5, 'a'); REPLACE INTO t(rowid, k) VALUES (5, 'b'); UPDATE t SET rowid = 6; INSERT INTO t VALUES ('c')",
        "op k0 old_k0",
        &[
            "'c' 'a' NULL",
            "'d' 'a' NULL",
            "'c' 'b' NULL",
            "'u' 'b' NULL",
            "'c' 'c' NULL",
        ],
    );
}

#[test]
fn what_cascades_within_a_replace_keeps_its_notes() {
    // Not with recursive triggers: then SQLite refuses this update, whatever a trigger on deletes does.
    let db = captured(
        "PRAGMA foreign_keys = ON; CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE, parent INT REFERENCES t(id) ON DELETE SET NULL);
         INSERT INTO t VALUES (1, 'a', NULL), (2, 'b', 1), (3, 'c', 2)",
        "t",
        CaptureMode::Keys,
        &[],
    );
    db.execute_batch(
        "REPLACE INTO t VALUES (9, 'a', NULL); UPDATE OR REPLACE t SET u = 'b' WHERE id = 9",
    )
    .unwrap();
    // A child is updated while its parent goes, which is logged as soon as it can be.
    assert_eq!(
        log(&db, "t", "op k0"),
        ["'u' 2", "'d' 1", "'c' 9", "'u' 3", "'d' 2", "'u' 9"]
    );
}

#[test]
fn an_index_that_no_trigger_can_look_into_is_refused() {
    let mut db = database(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a); CREATE UNIQUE INDEX i ON t(a) WHERE a <> \"none\"",
    );
    match capture(&mut db, "t", CaptureMode::Keys, &[]) {
        Err(TableError::Unfit(why)) => assert!(
            why.contains("unique index i") && why.contains("\"none\""),
            "{why}"
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn notes_of_statements_that_changed_nothing_go_when_the_log_is_pruned() {
    let mut db = captured(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a UNIQUE)",
        "t",
        CaptureMode::Keys,
        &[],
    );
    db.execute_batch(
        "INSERT INTO t VALUES (1, 'x'), (2, 'y');
         INSERT OR IGNORE INTO t VALUES (3, 'x'), (4, 'y')",
    )
    .unwrap();
    let noted = |db: &Connection| -> i64 {
        let sql = "SELECT count(*) FROM _walcast_pending";
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert!(noted(&db) > 0);
    let log_name = whole(&db, "t").log;
    Pruning::new(&log_name, Prune::All).step(&mut db).unwrap();
    assert_eq!(noted(&db), 0);
    db.execute_batch("INSERT OR REPLACE INTO t VALUES (5, 'x')")
        .unwrap();
    let logged = log(&db, "t", "op k0");
    assert_eq!(logged[1..], ["'d' 1", "'c' 5"].map(str::to_owned));
    // Where no change is old enough to go, too.
    Pruning::new(&log_name, Prune::All).step(&mut db).unwrap();
    db.execute_batch("INSERT OR IGNORE INTO t VALUES (6, 'x')")
        .unwrap();
    assert!(noted(&db) > 0);
    Pruning::new(&log_name, Prune::All).step(&mut db).unwrap();
    assert_eq!(noted(&db), 0);
}

#[test]
fn a_note_that_nobody_took_is_not_taken_for_one_of_a_row_that_is_given_its_rowid() {
    assert_logged(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
        CaptureMode::Full,
        &[],
        "INSERT INTO t VALUES (2, 'x'); INSERT OR IGNORE INTO t VALUES (2, 'y'); UPDATE t SET id = 1; INSERT INTO t(a) VALUES ('z')",
        "op k0 old_k0 \"before:a\"",
        &["'c' 2 NULL NULL", "'u' 1 2 'x'", "'c' 2 NULL NULL"],
    );
}

#[test]
fn an_index_over_what_is_the_same_for_all_rows_is_looked_into() {
    let db = captured(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a); CREATE UNIQUE INDEX i ON t(lower('nope'))",
        "t",
        CaptureMode::Keys,
        &[],
    );
    db.execute_batch("INSERT INTO t VALUES (1, 'x'); INSERT OR REPLACE INTO t VALUES (2, 'y')")
        .unwrap();
    assert_eq!(log(&db, "t", "op k0"), ["'c' 1", "'d' 1", "'c' 2"]);
}

#[test]
fn defaults_that_are_names_are_the_texts_that_sqlite_takes_them_for() {
    for default in [
        "unknown",
        "\"n\"",
        "[n]",
        "`n`",
        "'it''s'",
        "7",
        "x'00'",
        "(1 + 2)",
        "CURRENT_DATE",
    ] {
        let sql = format!(
            "CREATE TABLE t(id TEXT PRIMARY KEY, email NOT NULL UNIQUE DEFAULT {default}, n)"
        );
        let (alone, db) = (database(&sql), captured(&sql, "t", CaptureMode::Keys, &[]));
        let writes = "INSERT INTO t VALUES ('a', 'x', 1); INSERT INTO t(id, n) VALUES ('b', 2);
             INSERT OR REPLACE INTO t VALUES ('c', NULL, 3)";
        alone.execute_batch(writes).unwrap();
        db.execute_batch(writes)
            .unwrap_or_else(|e| panic!("{default}: {e}"));
        let ids = "SELECT group_concat(id) FROM (SELECT id FROM t ORDER BY id)";
        let held = |c: &Connection| c.query_row(ids, [], |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(
            (held(&alone), held(&db)),
            ("a,c".to_owned(), "a,c".to_owned()),
            "{default}"
        );
        assert!(
            log(&db, "t", "op k0").contains(&"'d' 'b'".to_owned()),
            "{default}"
        );
    }
}

#[test]
fn rows_that_are_there_already_cost_no_more_beside_many_of_their_tenant() {
    let steps = |rows: i64| {
        let db = captured(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, tenant, sku, n DEFAULT 0, UNIQUE (tenant, sku))",
            "t",
            CaptureMode::Keys,
            &[],
        );
        let upsert = "INSERT INTO t(tenant, sku) SELECT 'acme', value FROM generate_series
            WHERE true ON CONFLICT (tenant, sku) DO UPDATE SET n = n + 1";
        let series = "WITH RECURSIVE generate_series(value) AS
            (SELECT 1 UNION ALL SELECT value + 1 FROM generate_series WHERE value < ?1) ";
        let mut statement = db.prepare(&format!("{series}{upsert}")).unwrap();
        db.execute_batch("BEGIN").unwrap();
        statement.execute([rows]).unwrap();
        statement.reset_status(StatementStatus::VmStep);
        statement.execute([rows]).unwrap();
        f64::from(statement.get_status(StatementStatus::VmStep)) / rows as f64
    };
    let (few, many) = (steps(100), steps(1_600));
    assert!(many < 2.0 * few, "{many} steps a row, of few {few}");
}
