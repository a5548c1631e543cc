use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};

use super::*;

fn filter(terms: &[(&str, &str)]) -> Filter {
    let mut filter = Filter::default();
    for (column, value) in terms {
        filter.accept(column, value);
    }
    filter
}

#[test]
fn equal_filters_are_equal_however_they_are_written() {
    assert_eq!(
        filter(&[("a", "2"), ("b", "x"), ("a", "1")]),
        filter(&[("b", "x"), ("a", "1"), ("a", "2"), ("a", "1")])
    );
}

/// Every value in a column of every kind, whatever the column makes of it. Nobody but the writer knows the
/// collation `writers_own`.
fn columns_of_every_kind() -> (Connection, Vec<(&'static str, &'static str)>) {
    const VALUES: &str = "(NULL), (''), ('5'), (5), (5.0), (5.5), ('5.0'), (' 5'), ('abc'), ('ABC'), ('acme'), ('acme '),
        ('Infinity'), (9e999), (-9e999), (9007199254740993), (9007199254740992.0), ('9007199254740993'),
        ('9223372036854775808'), (x'0001'), (x''), (x'69c7a6'), ('AAE='), (0), (-0.0), ('é'), ('1e2'), (100), ('-'),
        ('inf'), ('nan'), ('1e999'), (9223372036854775807), (9223372036854775807.0), (cast(x'ff' as text)), ('x' || char(0) || 'y')";
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(&format!(
        "CREATE TABLE loose(id INTEGER PRIMARY KEY, txt TEXT COLLATE NOCASE, own TEXT COLLATE BINARY, num INTEGER,
            ownnum INTEGER COLLATE BINARY, re REAL, nu NUMERIC, trimmed VARCHAR(9) COLLATE RTRIM, bl BLOB, no, any_ ANY,
            made INTEGER AS (no) VIRTUAL, kept TEXT AS (no) STORED);
         CREATE INDEX loose_txt ON loose(txt); CREATE INDEX loose_own ON loose(own); CREATE INDEX loose_num ON loose(num);
         CREATE TABLE strict_(id INTEGER PRIMARY KEY, any_ ANY, own ANY COLLATE BINARY) STRICT;
         CREATE INDEX strict_any ON strict_(any_);
         CREATE TABLE v(x);
         INSERT INTO v VALUES {VALUES};
         INSERT INTO loose(txt, own, num, ownnum, re, nu, trimmed, bl, no, any_) SELECT x, x, x, x, x, x, x, x, x, x FROM v;
         INSERT INTO strict_(any_, own) SELECT x, x FROM v;"
    ))
    .unwrap();
    db.execute_batch(
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, 'COLLATE BINARY', 'COLLATE writers_own');
         PRAGMA writable_schema = RESET;",
    )
    .unwrap();
    let loose = [
        "txt", "own", "num", "ownnum", "re", "nu", "trimmed", "bl", "no", "any_", "made", "kept",
    ];
    let columns = loose.map(|column| ("loose", column)).into_iter();
    let strict = [("strict_", "any_"), ("strict_", "own")];
    (db, columns.chain(strict).collect())
}

/// The ids of the rows that a filter takes, as SQL has it.
fn by_sql(db: &Connection, table: &str, filter: &Filter) -> Vec<i64> {
    let (sql, params) = filter
        .sql(|column| Some(quote_identifier(column.name())))
        .unwrap();
    db.prepare(&format!("SELECT id FROM {table} WHERE 1 {sql} ORDER BY id"))
        .unwrap()
        .query_map(params_from_iter(params), |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

/// The same as live rows have it.
fn by_index(db: &Connection, table: &str, column: &str, filter: Filter) -> Vec<i64> {
    let mut index = FilterIndex::default();
    index.insert(FilterId(1), &Arc::new(filter), |_| Some(0));
    let mut found = vec![];
    let mut statement = db
        .prepare(&format!("SELECT {column}, id FROM {table} ORDER BY id"))
        .unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let id = row.get(1).unwrap();
        index.each_match(|place| row.get_ref(place).unwrap(), |_| found.push(id));
    }
    found
}

#[test]
fn live_rows_and_sql_agree_on_every_value_of_every_kind_of_column() {
    let (db, columns) = columns_of_every_kind();
    let values = [
        "",
        "5",
        "5.0",
        "5.5",
        " 5",
        "05",
        "+5",
        "abc",
        "ABC",
        "acme",
        "acme ",
        "Infinity",
        "-Infinity",
        "9007199254740993",
        "9007199254740992",
        "9223372036854775807",
        "9223372036854775808",
        "AAE=",
        "0",
        "-0",
        "é",
        "1e2",
        "100",
        "-",
        "inf",
        "nan",
        "1e999",
        ".5e1",
        "x\0y",
        "\u{fffd}",
    ];
    for (table, column) in columns {
        for value in values {
            let one = filter(&[(column, value)]);
            assert_eq!(
                by_index(&db, table, column, one.clone()),
                by_sql(&db, table, &one),
                "{table}.{column} = {value:?}"
            );
        }
        let mut all = Filter::default();
        values.iter().for_each(|value| all.accept(column, value));
        assert_eq!(
            by_index(&db, table, column, all.clone()),
            by_sql(&db, table, &all),
            "{table}.{column}"
        );
    }
    // What is stored as text is no number, and what is a number no text, where the column keeps them apart.
    let kept_apart = by_sql(&db, "strict_", &filter(&[("any_", "5")]));
    assert_eq!(kept_apart.len(), 3, "the text, the integer and the real");
    assert_eq!(by_sql(&db, "strict_", &filter(&[("any_", "5.0")])).len(), 3);
}

#[test]
fn as_many_values_as_a_filter_may_have_are_compared() {
    let (db, _) = columns_of_every_kind();
    let mut most = filter(&[("own", "acme"), ("num", "5")]);
    for n in 0..MAX_VALUES - 2 {
        most.accept("own", &format!("{n:04}"));
    }
    assert_eq!(most.value_count(), MAX_VALUES);
    assert_eq!(by_sql(&db, "loose", &most), Vec::<i64>::new());
    most.accept("num", "0");
    most.accept("own", "0");
    assert_eq!(by_sql(&db, "loose", &most).len(), 1);
}

fn scope_of(column: &str, values: impl IntoIterator<Item = ScopeValue>) -> Scope {
    let mut scope = Scope::default();
    scope.demand(column, values);
    scope
}

/// What a scope allows, asked of each stored value by itself.
#[test]
fn scopes_compare_exactly_live_and_in_sql_alike() {
    let (db, columns) = columns_of_every_kind();
    let text = |text: &str| ScopeValue::Text(text.to_owned());
    let demands = [
        vec![],
        vec![text("5")],
        vec![ScopeValue::Integer(5)],
        vec![ScopeValue::Integer(100), text("1e2")],
        vec![text("")],
        vec![text("ABC")],
        vec![text("acme ")],
        vec![text("AAE=")],
        vec![text("x\0y"), ScopeValue::Integer(0)],
        vec![ScopeValue::Integer(9_007_199_254_740_993)],
        vec![ScopeValue::Integer(i64::MAX)],
    ];
    for (table, column) in columns {
        for demand in &demands {
            let mut statement = db
                .prepare(&format!("SELECT id, {column} FROM {table} ORDER BY id"))
                .unwrap();
            let allowed = statement
                .query_map([], |row| {
                    let value = row.get_ref(1)?;
                    let allowed = demand.iter().any(|wanted| wanted.is(value));
                    Ok(allowed.then_some(row.get::<_, i64>(0)?))
                })
                .unwrap();
            let allowed: Vec<i64> = allowed.filter_map(Result::unwrap).collect();
            let filter = Filter::default().within(scope_of(column, demand.clone()));
            let at = format!("{table}.{column} {demand:?}");
            assert_eq!(by_sql(&db, table, &filter), allowed, "{at}");
            assert_eq!(by_index(&db, table, column, filter), allowed, "{at}");
        }
    }
}

#[test]
fn a_scope_and_a_filter_of_the_same_column_both_hold() {
    let (db, _) = columns_of_every_kind();
    let of = |asked: &str, scope: &str| {
        let scope = scope_of("no", [ScopeValue::Text(scope.to_owned())]);
        filter(&[("no", asked)]).within(scope)
    };
    let rows = |filter: Filter| {
        let found = by_sql(&db, "loose", &filter);
        assert_eq!(found, by_index(&db, "loose", "no", filter));
        found.len()
    };
    assert_eq!(rows(of("5", "5")), 1, "the text, neither 5 nor 5.0");
    assert_eq!(rows(of("acme", "abc")), 0);
    assert_ne!(
        of("5", "5"),
        of("5", "6"),
        "what is kept for one is not the other's"
    );
    assert_ne!(of("5", "5"), filter(&[("no", "5")]));
}

#[test]
fn what_a_person_gives_stands_for_the_text_and_the_integer_it_is_written_as() {
    let given = |value| {
        let mut scope = Scope::default();
        scope.demand_text("c", [value]);
        let (_, values) = scope.terms().next().unwrap();
        let sole = scope.sole_value("C").unwrap();
        assert_eq!(sole, Value::Text(value.to_owned()));
        values.iter().cloned().collect::<Vec<_>>()
    };
    let text = |text: &str| ScopeValue::Text(text.to_owned());
    assert_eq!(given("5"), [ScopeValue::Integer(5), text("5")]);
    for only_text in [
        "05",
        "+5",
        "5.0",
        "1e3",
        "-0",
        "acme",
        "",
        "9223372036854775808",
    ] {
        assert_eq!(given(only_text), [text(only_text)]);
    }
    let mut twice = scope_of("c", [text("a"), text("b")]);
    assert_eq!(twice.sole_value("c"), None);
    twice.demand("c", [text("b"), text("d")]);
    assert_eq!(twice, scope_of("c", [text("b")]), "both demands hold");
}

#[test]
fn a_filter_of_a_column_that_is_gone_is_neither_sql_nor_in_the_index() {
    let gone = filter(&[("gone", "1")]);
    let without = |column: FilterColumn<'_>| {
        let name = column.name();
        (name != "gone").then(|| quote_identifier(name))
    };
    assert!(gone.sql(without).is_none());
    let mut index = FilterIndex::default();
    index.insert(FilterId(1), &Arc::new(gone), |_| None);
    assert!(index.is_empty());
    index.remove(FilterId(1));
}

/// A row of small numbers.
fn row(values: &[i64]) -> impl Fn(usize) -> ValueRef<'static> {
    let values = values.to_vec();
    move |place| match values[place] {
        -1 => ValueRef::Null,
        value => ValueRef::Integer(value),
    }
}

fn found(index: &FilterIndex, values: &[i64]) -> Vec<u64> {
    let mut found = vec![];
    index.each_match(row(values), |id| found.push(id.0));
    found.sort_unstable();
    found
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// However filters look and come and go: those found are those that asking each alone would find.
#[test]
fn the_index_finds_what_asking_every_filter_would_find() {
    const COLUMNS: [&str; 4] = ["a", "b", "c", "d"];
    let place = |column: FilterColumn<'_>| COLUMNS.iter().position(|known| *known == column.name());
    let mut random = Random(7);
    let mut index = FilterIndex::default();
    let mut there: Vec<(u64, Filter)> = vec![];
    for step in 1..=6_000 {
        // Many filters at times, few at others, sometimes none.
        let leaving = if step / 1_000 % 2 == 1 { 7 } else { 2 };
        if random.below(10) < leaving && !there.is_empty() {
            let at = random.below(there.len() as u64) as usize;
            let (id, _) = there.swap_remove(at);
            index.remove(FilterId(id));
        } else {
            let mut filter = Filter::default();
            for column in COLUMNS {
                // Columns of few values, of which filters share most, and of many.
                let values = if column < "c" { 4 } else { 300 };
                for _ in 0..random.below(4) {
                    filter.accept(column, &random.below(values).to_string());
                }
            }
            if random.below(2) == 0 {
                let column = COLUMNS[random.below(4) as usize];
                let values =
                    (0..random.below(4)).map(|_| ScopeValue::Integer(random.below(4) as i64));
                let mut scope = Scope::default();
                scope.demand(column, values.collect::<Vec<_>>());
                filter = filter.within(scope);
            }
            if filter.is_empty() {
                continue;
            }
            index.insert(FilterId(step), &Arc::new(filter.clone()), place);
            there.push((step, filter));
        }
        if step % 3 != 0 {
            continue;
        }
        let values: Vec<i64> = [5, 5, 301, 301].map(|n| random.below(n) as i64 - 1).into();
        let takes = |filter: &Filter| {
            filter.terms().all(|(column, accepted)| {
                let value = values[place(FilterColumn::Asked(column)).unwrap()];
                accepted.iter().any(|text| text.parse() == Ok(value))
            }) && filter.scope().terms().all(|(column, accepted)| {
                let value = values[place(FilterColumn::Scope(column)).unwrap()];
                value >= 0 && accepted.contains(&ScopeValue::Integer(value))
            })
        };
        let mut wanted: Vec<u64> = there
            .iter()
            .filter(|(_, filter)| takes(filter))
            .map(|(id, _)| *id)
            .collect();
        wanted.sort_unstable();
        assert_eq!(
            found(&index, &values),
            wanted,
            "step {step}, row {values:?}"
        );
    }
    for (id, _) in there {
        index.remove(FilterId(id));
    }
    assert!(index.is_empty());
}

/// All share all their values but one, all share both columns' values but are rare together, all differ in which columns
/// they name.
#[test]
fn a_row_is_found_among_filters_that_share_nearly_everything() {
    const FILTERS: i64 = 20_000;
    let place = |column: FilterColumn<'_>| column.name().parse().ok();
    let mut index = FilterIndex::default();
    for n in 0..FILTERS {
        let (own, left, right) = (n + 100, n % 97, n / 97);
        let mut filter = filter(&[("0", "1"), ("0", &own.to_string()), ("1", "1"), ("1", "2")]);
        filter.accept("2", &left.to_string());
        filter.accept("3", &right.to_string());
        filter.accept(&(4 + n % 20).to_string(), "1");
        index.insert(FilterId(n as u64 + 1), &Arc::new(filter), place);
    }
    const ROWS: i64 = 20_000;
    for n in 0..ROWS {
        let mut values = vec![1; 24];
        (values[2], values[3]) = (n % 97, n / 97);
        assert_eq!(found(&index, &values), [n as u64 + 1]);
        values[1] = 3;
        assert!(found(&index, &values).is_empty());
    }
}

#[test]
fn equal_values_of_one_filter_are_entered_and_left_once() {
    let mut index = FilterIndex::default();
    let same = Arc::new(filter(&[("0", "5"), ("0", "5.0"), ("0", "5e0")]));
    let place = |column: FilterColumn<'_>| column.name().parse().ok();
    index.insert(FilterId(1), &same, place);
    index.insert(FilterId(2), &Arc::new(filter(&[("0", "5")])), place);
    assert_eq!(found(&index, &[5]), [1, 2]);
    index.remove(FilterId(1));
    assert_eq!(found(&index, &[5]), [2]);
    let ids: BTreeSet<u64> = found(&index, &[6]).into_iter().collect();
    assert!(ids.is_empty());
}
