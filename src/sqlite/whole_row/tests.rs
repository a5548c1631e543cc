use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};

use super::decode::WholeValue;
use super::*;
use crate::config::{ClaimSource, FeedConfig, FeedScope};
use crate::sqlite::table::Schema;

fn travelled(values: &[ValueRef<'_>], encoder: &WholeRowEncoder) -> (String, WholeRow) {
    let mut out = Vec::new();
    encoder.message(&mut out, |place| values[place]);
    let text = String::from_utf8(out).unwrap();
    let row = serde_json::from_str(&text).unwrap();
    (text, row)
}

fn encoder(columns: usize) -> WholeRowEncoder {
    let names = (0..columns).map(|n| format!("c{n}"));
    WholeRowEncoder::new("0123456789abcdef", names.collect())
}

#[test]
fn every_value_arrives_as_it_was() {
    let values = [
        ValueRef::Null,
        ValueRef::Integer((1 << 53) - 1),
        ValueRef::Integer(1 << 53),
        ValueRef::Integer(i64::MIN),
        ValueRef::Real(1.0),
        ValueRef::Real(-0.0),
        ValueRef::Real(0.1 + 0.2),
        ValueRef::Real(f64::MIN_POSITIVE / 3.0),
        ValueRef::Real(1.797_693_134_862_315_7e308),
        ValueRef::Real(f64::INFINITY),
        ValueRef::Real(f64::NEG_INFINITY),
        ValueRef::Text("a\"\n\u{0}é😀".as_bytes()),
        ValueRef::Text(b"{\"$blob\":\"AA==\"}"),
        ValueRef::Text(b"a\xffb"),
        ValueRef::Blob(&[0, 1, 255]),
        ValueRef::Blob(&[]),
    ];
    let (_, row) = travelled(&values, &encoder(values.len()));
    assert_eq!(row.schema, "0123456789abcdef");
    for (value, sent) in row.values.iter().zip(values) {
        match (value, sent) {
            (WholeValue::Value(Value::Real(real)), ValueRef::Real(sent)) => {
                assert_eq!(real.to_bits(), sent.to_bits());
            }
            (WholeValue::RawText(bytes), ValueRef::Text(sent)) => assert_eq!(bytes, sent),
            (WholeValue::Value(value), sent) => assert_eq!(value, &Value::try_from(sent).unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn any_real_arrives_bit_for_bit() {
    let mut bits = 0x3ff0_0000_0000_0001_u64;
    for _ in 0..20_000 {
        bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let sent = f64::from_bits(bits);
        if !sent.is_finite() {
            continue;
        }
        let (_, row) = travelled(&[ValueRef::Real(sent)], &encoder(1));
        let WholeValue::Value(Value::Real(real)) = row.values[0] else {
            panic!("{:?}", row.values);
        };
        assert_eq!(real.to_bits(), bits, "{sent:e}");
    }
}

#[test]
fn a_row_too_large_to_travel_is_cut_and_says_so() {
    let bounded = encoder(3).bounded_by(20);
    let values = [
        ValueRef::Integer(7),
        ValueRef::Text("ééééééééé".as_bytes()),
        ValueRef::Blob(&[1; 5]),
    ];
    let (_, row) = travelled(&values, &bounded);
    assert_eq!(row.truncated, ["c1"]);
    let text = Value::Text("ééééééé".into());
    assert_eq!(row.values[1], WholeValue::Value(text));
    assert_eq!(row.values[2], WholeValue::Value(Value::Blob(vec![1; 5])));
    let (text, row) = travelled(&values[..1], &encoder(1));
    assert!(row.truncated.is_empty() && !text.contains("truncated"));
}

#[test]
fn marks_that_are_not_known_are_refused() {
    for row in [
        r#"{"$date":"2026"}"#,
        "{}",
        r#"{"$int":"x"}"#,
        r#"{"$blob":"AA==","a":"b"}"#,
        "true",
        "18446744073709551615",
    ] {
        let message = format!(r#"{{"type":"row","schema":"s","row":[{row}]}}"#);
        assert!(serde_json::from_str::<WholeRow>(&message).is_err(), "{row}");
    }
}

fn described(sql: &str, feed: &FeedConfig) -> TableDescription {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(sql).unwrap();
    let schema = Schema::of_feed(&db, feed).unwrap();
    TableDescription::of(feed, &schema)
}

#[test]
fn a_description_says_all_that_an_edge_needs_and_can_be_read_by_others() {
    let feed = FeedConfig {
        exclude: vec!["customer".into(), "card".into()],
        json: vec!["items".into()],
        truncate: vec![("note".into(), 9)],
        scope: FeedScope::Columns(vec![("customer".into(), ClaimSource::Claim("sub".into()))]),
        scope_columns: vec!["customer".into()],
        ..FeedConfig::named("orders")
    };
    let table = "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer TEXT, card TEXT, items, note VARCHAR(20))";
    let description = described(table, &feed);
    let names = description.column_names();
    assert_eq!(names, ["id", "items", "note", "customer"]);
    let customer = &description.columns[3];
    assert_eq!(
        (customer.declared.as_str(), customer.hidden),
        ("TEXT", true)
    );
    let message = description.message();
    let wider = message.replace(
        "\"feed\":",
        "\"from_a_newer_version\":{\"a\":[1]},\"feed\":",
    );
    assert_eq!(
        serde_json::from_str::<TableDescription>(&wider).unwrap(),
        description
    );
    let other = described(&table.replace("VARCHAR(20)", "TEXT"), &feed);
    assert_ne!(description.fingerprint(), other.fingerprint());
    let indexed = described(&format!("{table}; CREATE INDEX i ON orders(note)"), &feed);
    assert_eq!(description.fingerprint(), indexed.fingerprint());
    assert!(!description.strict);
    let strict = described(
        "CREATE TABLE orders(id INTEGER PRIMARY KEY, a ANY) STRICT",
        &FeedConfig::named("orders"),
    );
    assert!(strict.strict);
}
