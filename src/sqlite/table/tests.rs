use super::*;

fn introspect(sql: &str, key: Option<&str>) -> Result<Table, TableError> {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(sql).unwrap();
    Table::introspect(&db, "t", key)
}

#[test]
fn finds_the_key_and_autoincrement() {
    let table = introspect(
        "CREATE TABLE t(a TEXT, \"weird \"\"id\" INTEGER PRIMARY KEY AUTOINCREMENT)",
        None,
    )
    .unwrap();
    assert_eq!((table.key, table.autoincrement), (1, true));
    assert_eq!(table.key_name(), "weird \"id");
    let table = introspect(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x DEFAULT 'autoincrement' /* autoincrement */)",
        None,
    )
    .unwrap();
    assert!(!table.autoincrement);
}

#[test]
fn only_the_rowid_is_sure_to_be_an_integer() {
    for (sql, key, rowid) in [
        ("CREATE TABLE t(id INTEGER PRIMARY KEY)", None, true),
        ("CREATE TABLE t(id INTEGER PRIMARY KEY)", Some("id"), true),
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY) WITHOUT ROWID",
            None,
            false,
        ),
        ("CREATE TABLE t(id INTEGER PRIMARY KEY DESC)", None, false),
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY, seq INTEGER UNIQUE)",
            Some("seq"),
            false,
        ),
    ] {
        let table = introspect(sql, key).unwrap();
        assert_eq!(table.has_position().is_empty(), rowid, "{sql}");
    }
}

#[test]
fn keys_that_are_no_integers_are_passed_over_by_index() {
    for without in ["", "WITHOUT ROWID"] {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(&format!(
            "CREATE TABLE t(a TEXT PRIMARY KEY, seq INTEGER UNIQUE) {without};
             INSERT INTO t VALUES ('a', NULL), ('b', 7), ('c', 'abc'), ('d', 1.5), ('e', x'00'), ('f', -3), ('g', 9e99)"
        ))
        .unwrap();
        let table = Table::introspect(&db, "t", Some("seq")).unwrap();
        assert_eq!(table.min_key(&db).unwrap(), Some(-3));
        assert_eq!(table.highest(&db).unwrap(), Some(7));
        db.execute("DELETE FROM t WHERE typeof(seq) = 'integer'", [])
            .unwrap();
        assert_eq!(table.max_key(&db).unwrap(), None);
        let integer = table.has_position();
        for sql in [
            format!("SELECT max(seq) FROM t WHERE seq BETWEEN -9 AND 9{integer}"),
            format!("SELECT * FROM t WHERE seq >= 5{integer} ORDER BY seq"),
            format!("SELECT * FROM t WHERE seq > 1 AND seq <= 5{integer} ORDER BY seq DESC"),
        ] {
            let plan: Vec<String> = db
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap()
                .query_map([], |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            let indexed = plan.len() == 1 && plan[0].contains("INDEX sqlite_autoindex_t_2 (seq");
            assert!(indexed, "{sql}: {plan:?}");
        }
    }
}

#[test]
fn refuses_tables_without_an_order_and_says_what_to_do() {
    for sql in [
        "CREATE TABLE t(a TEXT PRIMARY KEY)",
        "CREATE TABLE t(a, b)",
        "CREATE TABLE t(a INTEGER, b INTEGER, PRIMARY KEY(a, b))",
    ] {
        let Err(TableError::Unfit(reason)) = introspect(sql, None) else {
            panic!("{sql}")
        };
        assert!(
            reason.contains("AUTOINCREMENT") && reason.contains("key"),
            "{reason}"
        );
    }
    assert!(matches!(
        introspect("CREATE VIEW t AS SELECT 1 AS id", None),
        Err(TableError::Unfit(_))
    ));
    assert!(matches!(
        introspect("CREATE TABLE u(id INTEGER PRIMARY KEY)", None),
        Err(TableError::Missing)
    ));
}

#[test]
fn a_named_key_must_be_unique_and_integer() {
    let sql = "CREATE TABLE t(a TEXT PRIMARY KEY, seq INTEGER UNIQUE, n INTEGER, s TEXT UNIQUE)";
    assert_eq!(introspect(sql, Some("seq")).unwrap().key, 1);
    assert!(matches!(
        introspect(sql, Some("n")),
        Err(TableError::Unfit(_))
    ));
    assert!(matches!(
        introspect(sql, Some("s")),
        Err(TableError::Unfit(_))
    ));
    let together = "CREATE TABLE t(n INTEGER, s TEXT); CREATE UNIQUE INDEX u ON t(n, lower(s))";
    assert!(matches!(
        introspect(together, Some("n")),
        Err(TableError::Unfit(_))
    ));
    let Err(TableError::Unfit(reason)) = introspect(sql, Some("nope")) else {
        panic!()
    };
    assert!(reason.contains("a, seq, n, s"), "{reason}");
}

#[test]
fn the_refusal_names_the_columns_that_would_do() {
    let sql = "CREATE TABLE t(a TEXT PRIMARY KEY, seq INTEGER NOT NULL UNIQUE, n INTEGER UNIQUE, m INT NOT NULL)";
    for key in [None, Some("a"), Some("m")] {
        let Err(TableError::Unfit(reason)) = introspect(sql, key) else {
            panic!("{key:?}")
        };
        assert!(reason.contains("`key = \"seq\"`"), "{reason}");
        assert!(
            !reason.contains("\"n\"") && !reason.contains("rowid"),
            "{reason}"
        );
    }
    let Err(TableError::Unfit(reason)) = introspect(sql, Some("sqe")) else {
        panic!()
    };
    assert!(reason.contains("did you mean \"seq\"?"), "{reason}");
}

#[test]
fn an_int_primary_key_is_a_key_but_no_rowid() {
    for declared in ["INT", "BIGINT", "INTEGER"] {
        let table = introspect(
            &format!("CREATE TABLE t(x, id {declared} PRIMARY KEY)"),
            None,
        );
        let table = table.unwrap();
        assert_eq!((table.key_name(), table.autoincrement), ("id", false));
        assert_eq!(table.columns[table.key].rowid, declared == "INTEGER");
    }
}

#[test]
fn the_rowid_may_be_named_where_there_is_one() {
    let table = introspect("CREATE TABLE t(a TEXT)", Some("rowid")).unwrap();
    assert_eq!((table.key_name(), table.is_key_unstable()), ("rowid", true));
    let table = introspect("CREATE TABLE t(n INTEGER PRIMARY KEY)", Some("ROWID")).unwrap();
    assert_eq!((table.key_name(), table.is_key_unstable()), ("n", false));
    for sql in [
        "CREATE TABLE t(a TEXT PRIMARY KEY) WITHOUT ROWID",
        "CREATE TABLE t(a TEXT, rowid TEXT)",
    ] {
        assert!(introspect(sql, Some("rowid")).is_err(), "{sql}");
    }
    let Err(TableError::Unfit(reason)) = introspect("CREATE TABLE t(a)", None) else {
        panic!()
    };
    assert!(
        reason.contains("rowid") && reason.contains("VACUUM"),
        "{reason}"
    );
}

#[test]
fn a_time_of_change_is_no_key_and_it_says_why() {
    let sql = "CREATE TABLE t(k TEXT PRIMARY KEY, updated_at INTEGER NOT NULL, lastModified TEXT)";
    for key in ["updated_at", "lastModified"] {
        match introspect(sql, Some(key)) {
            Err(TableError::Unfit(why)) => {
                assert!(
                    why.contains("loses rows silently") && why.contains("capture ="),
                    "{why}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
