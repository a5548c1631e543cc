use super::*;
use crate::sqlite::table::Exposed;

fn column(json: bool, truncate: Option<usize>) -> ColumnEncoder {
    ColumnEncoder::new(
        0,
        &Exposed {
            name: "c".into(),
            json,
            truncate,
        },
    )
}

fn encoded(column: &ColumnEncoder, value: ValueRef<'_>) -> String {
    let mut out = vec![];
    column.push_value(&mut out, value, usize::MAX);
    String::from_utf8(out).unwrap()
}

fn encoder(columns: Vec<ColumnEncoder>, max_row_bytes: usize) -> RowEncoder {
    RowEncoder {
        prefix: b"{\"type\":\"t\",\"event\":".to_vec(),
        columns,
        max_row_bytes,
    }
}

#[test]
fn values_are_worded_as_promised() {
    let plain = column(false, None);
    for (value, json) in [
        (ValueRef::Null, "null"),
        (ValueRef::Integer(9007199254740991), "9007199254740991"),
        (ValueRef::Integer(9007199254740992), "\"9007199254740992\""),
        (ValueRef::Integer(i64::MIN), "\"-9223372036854775808\""),
        (ValueRef::Real(0.1), "0.1"),
        (ValueRef::Real(5.0), "5.0"),
        (ValueRef::Real(f64::NEG_INFINITY), "\"-Infinity\""),
        (
            ValueRef::Text("a\"\n\u{1}é😀".as_bytes()),
            "\"a\\\"\\n\\u0001é😀\"",
        ),
        (ValueRef::Text(b"a\xffb"), "\"a\u{fffd}b\""),
        (ValueRef::Blob(&[0, 1, 255]), "\"AAH/\""),
    ] {
        assert_eq!(encoded(&plain, value), json);
    }
}

#[test]
fn json_columns_embed_what_is_valid() {
    let json = column(true, Some(3));
    assert_eq!(
        encoded(&json, ValueRef::Text(b"{\"a\":\n[1, 2]}")),
        "{\"a\":[1, 2]}"
    );
    assert_eq!(encoded(&json, ValueRef::Text(b"{oops}")), "\"{oo\"");
}

#[test]
fn text_is_cut_by_code_points() {
    let cut = column(false, Some(3));
    assert_eq!(
        encoded(&cut, ValueRef::Text("é😀xy".as_bytes())),
        "\"é😀x\""
    );
    assert_eq!(encoded(&cut, ValueRef::Text("é😀x".as_bytes())), "\"é😀x\"");
}

#[test]
fn a_row_too_large_is_cut_at_its_longest_values_and_says_so() {
    let named = |place, name: &str| {
        ColumnEncoder::new(
            place,
            &Exposed {
                name: name.into(),
                json: false,
                truncate: None,
            },
        )
    };
    let columns = vec![
        named(0, "id"),
        named(1, "short"),
        named(2, "long"),
        named(3, "blob"),
    ];
    let encoder = encoder(columns, 400);
    let (long, blob) = ("\u{1}é".repeat(300), vec![7u8; 5000]);
    let row = |place| match place {
        0 => ValueRef::Integer(7),
        1 => ValueRef::Text(b"whole"),
        2 => ValueRef::Text(long.as_bytes()),
        _ => ValueRef::Blob(&blob),
    };
    let mut out = vec![];
    encoder.message(&mut out, row);
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["event"]["short"], "whole");
    assert_eq!(json["truncated"], serde_json::json!(["long", "blob"]));
    assert!(
        json["event"]["long"]
            .as_str()
            .unwrap()
            .starts_with("\u{1}é\u{1}")
    );
    assert!(
        out.len() <= 400 + ",\"truncated\":[\"long\",\"blob\"]".len() && out.len() > 380,
        "{}",
        out.len()
    );
}

fn columns(of: &[(&str, bool, Option<usize>)]) -> Vec<ColumnEncoder> {
    of.iter()
        .enumerate()
        .map(|(place, &(name, json, truncate))| {
            let exposed = Exposed {
                name: name.into(),
                json,
                truncate,
            };
            ColumnEncoder::new(place, &exposed)
        })
        .collect()
}

fn item(
    encoder: &RowEncoder,
    values: &[ValueRef<'_>],
    limit: usize,
) -> (serde_json::Value, Vec<String>, usize) {
    let mut out = vec![];
    let cut = encoder.item(&mut out, |place| values[place], limit);
    assert!(out.capacity() < 8 * limit.min(encoder.max_row_bytes) + 1024);
    (serde_json::from_slice(&out).unwrap(), cut, out.len())
}

#[test]
fn values_far_above_the_limit_are_cut_without_being_encoded_whole() {
    let encoder = encoder(
        columns(&[
            ("id", false, None),
            ("note", false, Some(5)),
            ("doc", true, None),
            ("text", false, None),
            ("blob", false, None),
        ]),
        1000,
    );
    let (note, doc) = ("ü".repeat(1 << 20), format!("[{}]", " ".repeat(1 << 20)));
    let (text, blob) = ("😀".repeat(1 << 20), vec![0xff; 1 << 20]);
    let values = [
        ValueRef::Integer(7),
        ValueRef::Text(note.as_bytes()),
        ValueRef::Text(doc.as_bytes()),
        ValueRef::Text(text.as_bytes()),
        ValueRef::Blob(&blob),
    ];
    let (json, cut, size) = item(&encoder, &values, usize::MAX);
    assert_eq!(cut, ["doc", "text", "blob"]);
    assert_eq!(json["note"], "üüüüü");
    assert!(json["doc"].as_str().unwrap().starts_with("[  "));
    assert!(json["text"].as_str().unwrap().chars().all(|c| c == '😀'));
    assert!((980..=1000).contains(&size), "{size}");
    // A smaller limit for the page.
    let (_, cut, size) = item(&encoder, &values, 300);
    assert_eq!(cut, ["doc", "text", "blob"]);
    assert!((280..=300).contains(&size), "{size}");
}

#[test]
fn a_row_at_its_limit_is_whole_and_above_it_is_cut() {
    let encoder = encoder(columns(&[("a", false, None), ("b", false, None)]), 1000);
    let row = |size: usize| "x".repeat(size - r#"{"a":1,"b":""}"#.len());
    for (size, expected) in [(999, 0), (1000, 0), (1001, 1)] {
        let text = row(size);
        let values = [ValueRef::Integer(1), ValueRef::Text(text.as_bytes())];
        let (_, cut, length) = item(&encoder, &values, usize::MAX);
        assert_eq!((cut.len(), length), (expected, size.min(1000)));
    }
}

#[test]
fn json_in_many_lines_is_embedded_up_to_the_limit() {
    let encoder = encoder(columns(&[("doc", true, None)]), 100);
    let short = format!("[1,{}2]", "\n".repeat(90));
    let (json, cut, _) = item(&encoder, &[ValueRef::Text(short.as_bytes())], usize::MAX);
    assert_eq!((&json["doc"], cut.len()), (&serde_json::json!([1, 2]), 0));
}

#[test]
fn invalid_text_is_cut_at_a_character_too() {
    let encoder = encoder(columns(&[("t", false, Some(2)), ("u", false, None)]), 60);
    let (t, u) = (
        b"\xf0\x9f\x98\xff\xc3\xa9xyz".repeat(40),
        b"\xff".repeat(500),
    );
    let (json, cut, size) = item(&encoder, &[ValueRef::Text(&t), ValueRef::Text(&u)], 60);
    assert_eq!(json["t"], "\u{fffd}\u{fffd}");
    assert_eq!(cut, ["u"]);
    assert!(size <= 60 && json["u"].as_str().unwrap().chars().all(|c| c == '\u{fffd}'));
}
