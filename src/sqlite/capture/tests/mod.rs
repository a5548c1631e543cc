//! What is put into a file, taken out again, and logged by the triggers; in memory.

use super::*;
use crate::sqlite::table::TableError;

mod migrations;
mod replace;

fn database(sql: &str) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

fn captured(sql: &str, table: &str, mode: CaptureMode, filters: &[&str]) -> Connection {
    let mut connection = database(sql);
    capture(&mut connection, table, mode, filters).unwrap();
    connection
}

fn capture(
    connection: &mut Connection,
    table: &str,
    mode: CaptureMode,
    filters: &[&str],
) -> Result<Installed, TableError> {
    let filters: Vec<String> = filters.iter().map(|name| (*name).to_owned()).collect();
    install(connection, &|connection| {
        Subject::of(connection, table, mode, &filters)
    })
}

fn whole(connection: &Connection, table: &str) -> Capture {
    match look(connection, table).unwrap() {
        CaptureState::Whole(capture) => capture,
        other => panic!("{table}: {other:?}"),
    }
}

fn broken(connection: &Connection, table: &str) -> String {
    match look(connection, table).unwrap() {
        CaptureState::Broken { reason } => reason,
        other => panic!("{table}: {other:?}"),
    }
}

/// The rows of the log with these columns, values as SQLite quotes them.
fn log(connection: &Connection, table: &str, columns: &str) -> Vec<String> {
    let quoted: Vec<String> = columns.split(' ').map(|c| format!("quote({c})")).collect();
    let sql = format!(
        "SELECT {} FROM \"{}\" ORDER BY seq",
        quoted.join(" || ' ' || "),
        whole(connection, table).log.replace('"', "\"\"")
    );
    let mut statement = connection.prepare(&sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn every_change_is_logged_with_its_key() {
    let db = captured(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
        "t",
        CaptureMode::Keys,
        &[],
    );
    db.execute_batch(
        "INSERT INTO t(a) VALUES ('x'), ('y'); UPDATE t SET a = 1 WHERE id = 1; UPDATE t SET id = 9 WHERE id = 2; DELETE FROM t",
    )
    .unwrap();
    assert_eq!(
        log(&db, "t", "op k0 moved old_k0"),
        [
            "'c' 1 NULL NULL",
            "'c' 2 NULL NULL",
            "'u' 1 0 NULL",
            "'u' 9 1 2",
            "'d' 1 NULL NULL",
            "'d' 9 NULL NULL"
        ]
    );
}

#[test]
fn keys_of_several_columns_and_recorded_columns_are_logged() {
    let db = captured(
        "CREATE TABLE \"a \"\"b\"(\"x y\" TEXT COLLATE NOCASE, \"order\", tenant, note BLOB, PRIMARY KEY (\"order\", \"x y\")) WITHOUT ROWID",
        "A \"B",
        CaptureMode::Full,
        &["TENANT"],
    );
    db.execute_batch(
        "INSERT INTO \"a \"\"b\" VALUES ('k', 7, 't1', x'00ff'); UPDATE \"a \"\"b\" SET \"x y\" = 'K', tenant = 't2'; DELETE FROM \"a \"\"b\"",
    )
    .unwrap();
    assert_eq!(
        log(
            &db,
            "a \"b",
            "op k0 k1 moved old_k0 old_k1 old_f0 new_f0 \"before:note\" \"after:note\""
        ),
        [
            "'c' 7 'k' NULL NULL NULL NULL 't1' NULL X'00FF'",
            "'u' 7 'K' 1 7 'k' 't1' 't2' X'00FF' X'00FF'",
            "'d' 7 'K' NULL NULL NULL 't2' NULL X'00FF' NULL",
        ]
    );
    let capture = whole(&db, "a \"b");
    assert_eq!(capture.table, "a \"b");
    assert_eq!(capture.key[1].name, "x y");
    assert_eq!(capture.columns.len(), 4);
}

#[test]
fn installing_twice_changes_nothing_and_a_lost_trigger_begins_anew() {
    let mut db = captured(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
        "t",
        CaptureMode::Keys,
        &[],
    );
    let first = whole(&db, "t");
    let again = capture(&mut db, "T", CaptureMode::Keys, &[]);
    assert_eq!(again.unwrap(), Installed::Already);
    assert_eq!(whole(&db, "t"), first);
    db.execute_batch("INSERT INTO t(a) VALUES (1); DROP TRIGGER _walcast_t_update")
        .unwrap();
    assert!(broken(&db, "t").contains("_walcast_t_update is gone"));
    let again = capture(&mut db, "t", CaptureMode::Keys, &[]);
    assert_eq!(again.unwrap(), Installed::Again);
    assert_ne!(whole(&db, "t").generation, first.generation);
    assert_eq!(log(&db, "t", "op"), Vec::<String>::new());
    let other = capture(&mut db, "t", CaptureMode::Full, &["a"]);
    assert_eq!(other.unwrap(), Installed::Again);
    assert_eq!(whole(&db, "t").filters[0].name, "a");
}

#[test]
fn removing_leaves_the_schema_as_it_was() {
    let schema = |db: &Connection| -> Vec<String> {
        let mut statement = db.prepare("SELECT type || name || tbl_name || rootpage || coalesce(sql, '') FROM sqlite_schema ORDER BY rowid").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let mut db = database(
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a UNIQUE); CREATE TABLE u(k TEXT PRIMARY KEY);
         CREATE TRIGGER mine AFTER INSERT ON t BEGIN SELECT 1; END",
    );
    let before = schema(&db);
    capture(&mut db, "t", CaptureMode::Full, &["a"]).unwrap();
    capture(&mut db, "u", CaptureMode::Keys, &[]).unwrap();
    assert_eq!(captured_tables(&db).unwrap(), ["t", "u"]);
    assert!(remove(&mut db, "t").unwrap() && remove(&mut db, "U").unwrap());
    assert_eq!(schema(&db), before);
    assert!(!remove(&mut db, "t").unwrap());
    assert_eq!(look(&db, "t").unwrap(), CaptureState::Absent);
}

#[test]
fn tables_that_cannot_be_captured_say_why() {
    let mut db = database(
        "CREATE TABLE t(a, v AS (a + 1) VIRTUAL); CREATE VIEW v AS SELECT 1 AS id; CREATE VIRTUAL TABLE f USING fts5(body);
         CREATE TABLE k(id INTEGER PRIMARY KEY, tenant, v AS (tenant + 1));
         CREATE TABLE own(id INTEGER PRIMARY KEY, parent REFERENCES own(id) ON UPDATE CASCADE)",
    );
    let mut said = |table: &str, filters: &[&str], part: &str| {
        let why = match capture(&mut db, table, CaptureMode::Keys, filters) {
            Err(TableError::Unfit(why)) => why,
            other => panic!("{table}: {other:?}"),
        };
        assert!(why.contains(part), "{table}: {why}");
    };
    said("t", &[], "no primary key");
    said("v", &[], "is a view");
    said("f", &[], "virtual table");
    said("k", &["tennant"], "did you mean \"tenant\"?");
    said("k", &["v"], "STORED");
    said("own", &["parent"], "references own itself");
}

#[test]
fn tables_named_like_those_of_walcast_get_logs_of_other_names() {
    for table in ["capture", "pending"] {
        let db = captured(
            &format!("CREATE TABLE {table}(id INTEGER PRIMARY KEY)"),
            table,
            CaptureMode::Keys,
            &[],
        );
        db.execute_batch(&format!("INSERT INTO {table} VALUES (1)"))
            .unwrap();
        assert_eq!(log(&db, table, "op k0"), ["'c' 1"]);
        assert_eq!(whole(&db, table).log, format!("_walcast_{table}_2"));
    }
}

const EMAILS: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, email TEXT UNIQUE COLLATE NOCASE, n);
    INSERT INTO t VALUES (1, 'a', 0), (2, 'b', 0), (3, 'c', 0)";

#[test]
fn writers_see_nothing_of_it() {
    let db = captured(EMAILS, "t", CaptureMode::Full, &["n"]);
    assert_eq!(
        db.execute("REPLACE INTO t VALUES (50, 'a', 1)", [])
            .unwrap(),
        1
    );
    assert_eq!(db.last_insert_rowid(), 50);
    let seen: (i64, i64) = db
        .query_row("SELECT last_insert_rowid(), changes()", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(seen, (50, 1));
    let left: i64 = db
        .query_row("SELECT count(*) FROM _walcast_pending", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_table_of_two_hundred_columns_keeps_every_value_as_it_is() {
    let names: Vec<String> = (0..200).map(|n| format!("c{n}")).collect();
    let sql = format!(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, {})",
        names.join(", ")
    );
    let db = captured(&sql, "t", CaptureMode::Full, &["c7", "c199"]);
    db.execute_batch(
        "PRAGMA trusted_schema = OFF;
         INSERT INTO t(id, c0, c1, c2, c3, c4, c199) VALUES (1, x'00ff', 9e999, -9e999, 0.1 + 0.2, 9007199254740993, x'');
         UPDATE t SET c7 = 'x'; DELETE FROM t",
    )
    .unwrap();
    let columns = "op \"before:c0\" \"after:c1\" \"after:c2\" \"after:c3\" \"after:c4\" old_f1";
    let after = "Inf -Inf 0.30000000000000004 9007199254740993";
    let expected = [
        format!("'c' NULL {after} NULL"),
        format!("'u' X'00FF' {after} X''"),
        "'d' X'00FF' NULL NULL NULL NULL X''".to_owned(),
    ];
    let logged: Vec<String> = log(&db, "t", columns)
        .iter()
        .map(|row| row.replace("9.0e+999", "Inf"))
        .collect();
    assert_eq!(logged, expected);
}

#[test]
fn commands_are_fit_to_be_typed_whatever_the_names_are() {
    let rules = CaptureRules::found(CaptureMode::Full, vec!["a b".to_owned()]);
    let file = Path::new("it's.db");
    assert_eq!(
        install_command(file, "-dash", &rules),
        r"walcast capture install --db 'it'\''s.db' --full --filter 'a b' -- -dash"
    );
    let remove = "walcast capture remove --db app.db 'Order Lines'";
    assert_eq!(remove_command(Path::new("app.db"), "Order Lines"), remove);
    let public = public_install_command("-dash", &rules);
    assert_eq!(
        with_file_named(&format!("run `{public}`"), file),
        format!("run `{}`", install_command(file, "-dash", &rules))
    );
}
