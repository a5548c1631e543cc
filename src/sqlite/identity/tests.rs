use super::*;

const HEAD: i64 = 20;
const ALL: [Doubt; 4] = [
    Doubt::Edited,
    Doubt::Reshaped,
    Doubt::Unwatched,
    Doubt::OtherFile,
];

/// The columns of a table of events, but for the id: what stands in them is given by the id and a mark.
const OWN: &str = "ts TEXT, status TEXT, details TEXT";

fn events(autoincrement: bool) -> Connection {
    let db = Connection::open_in_memory().unwrap();
    let auto = if autoincrement { "AUTOINCREMENT" } else { "" };
    db.execute_batch(&format!(
        "CREATE TABLE t(id INTEGER PRIMARY KEY {auto}, {OWN})"
    ))
    .unwrap();
    db.execute_batch(&written(1, HEAD, "a")).unwrap();
    db
}

/// SQL that inserts rows with values of their own.
fn written(from: i64, to: i64, mark: &str) -> String {
    let row = |id: i64| {
        let hash = fingerprint(format!("{mark}{id}").as_bytes());
        let status = if hash.is_multiple_of(4) {
            "error"
        } else {
            "success"
        };
        format!("({id}, '{hash:x}', '{status}', '{mark}d{:x}')", hash >> 7)
    };
    let rows: Vec<String> = (from..=to).map(row).collect();
    format!(
        "INSERT INTO t(id, ts, status, details) VALUES {};",
        rows.join(", ")
    )
}

fn asked(db: &Connection, sample: &Sample, head: i64, doubt: Doubt) -> Verdict {
    let table = Table::introspect(db, "t", None).unwrap();
    let question = Question {
        table: &table,
        sample: Some(sample),
        sampled_to: head,
        head,
        doubt,
    };
    question.answer(db).unwrap()
}

fn after_on(db: &Connection, doubt: Doubt, change: &str) -> Verdict {
    let table = Table::introspect(db, "t", None).unwrap();
    let head = table.highest(db).unwrap().unwrap_or(i64::MIN);
    let sample = Sample::take(db, &table, head).unwrap();
    db.execute_batch(change).unwrap();
    asked(db, &sample, head, doubt)
}

/// What is found after `change`.
fn after(autoincrement: bool, doubt: Doubt, change: &str) -> Verdict {
    after_on(&events(autoincrement), doubt, change)
}

#[track_caller]
fn expect(verdict: Verdict, autoincrement: &[bool], doubts: &[Doubt], changes: &[&str]) {
    for (auto, doubt) in autoincrement
        .iter()
        .flat_map(|a| doubts.iter().map(move |d| (*a, *d)))
    {
        for change in changes {
            assert_eq!(
                after(auto, doubt, change),
                verdict,
                "{change} {doubt:?} AUTOINCREMENT {auto}"
            );
        }
    }
}

#[test]
fn updates_deletions_and_new_columns_are_the_same_history() {
    expect(
        Verdict::Same,
        &[true, false],
        &ALL,
        &[
            "",
            "UPDATE t SET status = 'done'",
            "UPDATE t SET details = 'x' WHERE id = 15",
            "DELETE FROM t WHERE id < 10",
            "DELETE FROM t WHERE id = 20",
            "ALTER TABLE t ADD COLUMN extra TEXT DEFAULT 'x'",
            "ALTER TABLE t DROP COLUMN details",
            "ALTER TABLE t RENAME COLUMN ts TO time; ALTER TABLE t RENAME COLUMN details TO what",
            "INSERT INTO t(ts) VALUES ('later')",
            "VACUUM",
        ],
    );
    let emptied = ["DELETE FROM t"];
    expect(Verdict::Same, &[true], &ALL, &emptied);
    expect(Verdict::Same, &[false], &[Doubt::Edited], &emptied);
}

#[test]
fn everything_may_be_updated_while_the_file_stays_open() {
    let updates = [
        "UPDATE t SET ts = 'n' || id, status = 'done', details = NULL",
        "UPDATE t SET ts = 'n', status = 'done', details = 'z' WHERE id = 20",
        "DELETE FROM t WHERE id < 20; UPDATE t SET ts = 'n', status = 'done', details = 'z'",
    ];
    expect(Verdict::Same, &[true, false], &[Doubt::Edited], &updates);
    let with_a_row =
        "UPDATE t SET status = 'done', details = 'x'; INSERT INTO t(ts) VALUES ('later')";
    expect(Verdict::Same, &[true, false], &ALL[..1], &[with_a_row]);
}

#[test]
fn a_restore_is_another_history_also_when_written_past_the_old_head() {
    for cut in [18, 19, 0] {
        let restored =
            format!("DELETE FROM t WHERE id > {cut}; UPDATE sqlite_sequence SET seq = {cut};");
        expect(Verdict::Another, &[true], &ALL, &[&restored]);
        let past = format!("{restored}{}", written(cut + 1, 23, "b"));
        // One row alone could have been replaced in an update of one's own.
        let doubts = if cut == 19 { &ALL[1..] } else { &ALL[..] };
        expect(Verdict::Another, &[true], doubts, &[&past]);
        let past = format!(
            "DELETE FROM t WHERE id > {cut}; {}",
            written(cut + 1, 23, "b")
        );
        expect(Verdict::Another, &[false], doubts, &[&past]);
        let level = format!("{restored}{}", written(cut + 1, 20, "b"));
        expect(Verdict::Another, &[true], &ALL[1..], &[&level]);
    }
}

#[test]
fn columns_that_follow_from_the_id_prove_nothing() {
    for column in [
        "label TEXT AS ('evt-' || id)",
        "label TEXT",
        "label INTEGER",
        "shard INTEGER",
        "page INTEGER",
        "worker TEXT",
        "seconds REAL",
        "at TEXT",
    ] {
        let fill = match column {
            "label TEXT" => "UPDATE t SET label = printf('job %05d', id + 7)",
            "label INTEGER" => "UPDATE t SET label = id * 10",
            "shard INTEGER" => "UPDATE t SET shard = id % 16",
            "page INTEGER" => "UPDATE t SET page = id * 2 / 3",
            "worker TEXT" => "UPDATE t SET worker = char(97 + id % 11)",
            "seconds REAL" => "UPDATE t SET seconds = 1767225600.0 + id * 0.5",
            "at TEXT" => "UPDATE t SET at = datetime('2026-01-01', '+' || id || ' minutes')",
            _ => "",
        };
        for cut in [18, 10, 0] {
            let change = format!(
                "DELETE FROM t WHERE id > {cut}; UPDATE sqlite_sequence SET seq = {cut}; {}{fill}",
                written(cut + 1, 25, "b")
            );
            for doubt in ALL {
                let db = events(true);
                db.execute_batch(&format!("ALTER TABLE t ADD COLUMN {column}; {fill}"))
                    .unwrap();
                let verdict = after_on(&db, doubt, &change);
                assert_eq!(verdict, Verdict::Another, "{column} from {cut}, {doubt:?}");
            }
        }
    }
}

#[test]
fn what_many_rows_have_in_common_proves_nothing_of_the_newest() {
    for common in ["NULL", "''", "'none'"] {
        let fill = format!("UPDATE t SET ts = NULL, details = iif(id % 2, details, {common})");
        let table = || {
            let db = events(true);
            db.execute_batch(&fill).unwrap();
            db
        };
        for cut in [10, 0] {
            let restored = format!(
                "DELETE FROM t WHERE id > {cut}; UPDATE sqlite_sequence SET seq = {cut}; {} {fill}",
                written(cut + 1, 24, "b")
            );
            for doubt in ALL {
                let verdict = after_on(&table(), doubt, &restored);
                assert_eq!(
                    verdict,
                    Verdict::Another,
                    "{common} from {cut} on, {doubt:?}"
                );
            }
        }
        for update in [
            "UPDATE t SET status = 'done'",
            "UPDATE t SET details = 'x' WHERE id = 15",
        ] {
            for doubt in &ALL[..3] {
                let verdict = after_on(&table(), *doubt, update);
                assert_eq!(verdict, Verdict::Same, "{common}, {update}, {doubt:?}");
            }
        }
    }
}

#[test]
fn a_table_made_anew_by_a_migration_is_the_same() {
    let rebuild = "CREATE TABLE n(id INTEGER PRIMARY KEY AUTOINCREMENT, ts, status, details, more);
        INSERT INTO n(id, ts, status, details) SELECT id, ts, status, details FROM t;
        DROP TABLE t; ALTER TABLE n RENAME TO t";
    expect(Verdict::Same, &[true, false], &ALL, &[rebuild]);
    // Its sequence forgets ids that were deleted.
    let cut = format!("DELETE FROM t WHERE id > 17; {rebuild}");
    for (change, verdict) in [(rebuild, Verdict::Same), (&cut, Verdict::Another)] {
        let db = events(true);
        db.execute_batch("DELETE FROM t WHERE id > 18").unwrap();
        assert_eq!(after_on(&db, Doubt::Reshaped, change), verdict, "{change}");
    }
    let refilled = format!(
        "DROP TABLE t; CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, {OWN}); {}",
        written(1, 30, "b")
    );
    expect(Verdict::Another, &[true, false], &ALL, &[&refilled]);
}

#[test]
fn pruning_with_the_sequence_intact_is_the_same_in_the_same_file() {
    let pruned = format!("{} DELETE FROM t WHERE id <= 35", written(21, 40, "a"));
    expect(Verdict::Same, &[true], &ALL, &[&pruned]);
    let newest = ["DELETE FROM t WHERE id > 4"];
    expect(Verdict::Same, &[true], &ALL[..3], &newest);
    // Of another file it can't be told what it is that stands there.
    expect(Verdict::Another, &[true], &[Doubt::OtherFile], &newest);
}

#[test]
fn few_rows_are_the_same_in_the_same_file() {
    let few = |rows: i64| {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, ts, status)")
            .unwrap();
        for id in 1..=rows {
            db.execute("INSERT INTO t VALUES (?1, 't' || ?1, 'running')", [id])
                .unwrap();
        }
        db
    };
    for rows in [1, 2, 3, 5] {
        for change in [
            "",
            "UPDATE t SET status = 'done' WHERE id = 1",
            "UPDATE t SET status = 'done'",
        ] {
            for doubt in &ALL[..3] {
                let verdict = after_on(&few(rows), *doubt, change);
                assert_eq!(verdict, Verdict::Same, "{rows} rows, {change}, {doubt:?}");
            }
        }
        for change in [
            "UPDATE t SET ts = 'n', status = 'done'",
            "UPDATE t SET ts = 'n' || id, status = 'done'",
        ] {
            let verdict = after_on(&few(rows), Doubt::Edited, change);
            assert_eq!(verdict, Verdict::Same, "{rows} rows, {change}");
        }
        // Of another file it can't be told, unless nothing differs.
        for (change, same) in [("", true), ("UPDATE t SET status = 'done'", false)] {
            let verdict = after_on(&few(rows), Doubt::OtherFile, change);
            assert_eq!(verdict, Verdict::same_if(same), "{rows} rows, {change}");
        }
    }
}

#[test]
fn ids_that_start_over_are_another_history() {
    let over = format!(
        "DELETE FROM t; DELETE FROM sqlite_sequence; {}",
        written(1, 30, "b")
    );
    expect(Verdict::Another, &[true], &ALL, &[&over]);
    let without = over.replace("DELETE FROM sqlite_sequence;", "");
    expect(Verdict::Another, &[false], &ALL, &[&without]);
    expect(
        Verdict::Another,
        &[false],
        &ALL,
        &["DELETE FROM t; INSERT INTO t(ts) VALUES ('x')"],
    );
}

#[test]
fn a_row_that_was_not_there_among_those_sampled_can_t_be_told_from_another_history() {
    let back = "INSERT INTO t(id, ts) VALUES (20, 'again')";
    for (doubt, verdict) in [
        (Doubt::Unwatched, Verdict::Another),
        (Doubt::OtherFile, Verdict::Another),
        (Doubt::Edited, Verdict::Same),
    ] {
        let db = events(true);
        db.execute_batch("DELETE FROM t WHERE id = 20").unwrap();
        assert_eq!(after_on(&db, doubt, back), verdict, "{doubt:?}");
    }
}

#[test]
fn an_empty_table_has_no_history_yet() {
    for doubt in ALL {
        let db = events(true);
        db.execute_batch("DELETE FROM t; DELETE FROM sqlite_sequence")
            .unwrap();
        assert_eq!(after_on(&db, doubt, ""), Verdict::Same);
        let db = events(true);
        db.execute_batch("DELETE FROM t; DELETE FROM sqlite_sequence")
            .unwrap();
        assert_eq!(after_on(&db, doubt, &written(1, 5, "a")), Verdict::Same);
    }
}

#[test]
fn what_was_seen_to_happen_needs_no_comparison_and_nothing_known_is_no_other_history() {
    let db = events(true);
    let table = Table::introspect(&db, "t", None).unwrap();
    let sample = Sample::take(&db, &table, HEAD).unwrap();
    for (sample, doubt, verdict) in [
        (Some(&sample), Doubt::GivenAgain, Verdict::Another),
        (Some(&sample), Doubt::Exhausted, Verdict::Another),
        (None, Doubt::GivenAgain, Verdict::Another),
        (None, Doubt::Edited, Verdict::Same),
        (None, Doubt::OtherFile, Verdict::Same),
    ] {
        let question = Question {
            table: &table,
            sample,
            sampled_to: HEAD,
            head: HEAD,
            doubt,
        };
        assert_eq!(question.answer(&db).unwrap(), verdict, "{doubt:?}");
    }
}
