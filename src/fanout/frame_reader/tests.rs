use super::*;
use crate::wire::deflate::Deflater;
use crate::wire::frame::payload;

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    if payload.len() < 126 {
        out.push(0x80 | payload.len() as u8);
    } else {
        out.push(0x80 | 126);
        out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    }
    let mask = [1, 2, 3, 4];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    out
}

/// What the bytes say, in words, when they come in steps of this size.
fn all(wire: &[u8], step: usize) -> Result<Vec<String>, CloseCode> {
    said(Assembler::default(), wire, step)
}

fn said(mut assembler: Assembler, wire: &[u8], step: usize) -> Result<Vec<String>, CloseCode> {
    let mut got = vec![];
    for chunk in wire.chunks(step) {
        assembler.take(chunk, |message| {
            got.push(format!("{message:?}"));
            Ok(())
        })?;
    }
    assert!(assembler.unfinished.is_none());
    Ok(got)
}

fn end(payload: &[u8]) -> Vec<u8> {
    frame(0x88, payload)
}

#[test]
fn messages_come_whole_however_the_bytes_arrive() {
    let wire = [
        frame(0x81, b"ping"),
        frame(0x01, "é".as_bytes().split_at(1).0),
        frame(0x89, b"in"),
        frame(0x00, b""),
        frame(0x80, "é".as_bytes().split_at(1).1),
        frame(0x81, b""),
        frame(0x82, &[255; 4096]),
        frame(0x8a, b""),
        end(&[&1000u16.to_be_bytes(), "é".as_bytes()].concat()),
        frame(0x81, b"after the end"),
        vec![0xff; 100],
    ]
    .concat();
    for step in [1, 2, 7, wire.len()] {
        assert_eq!(
            all(&wire, step).unwrap(),
            [
                r#"Text("ping")"#,
                "Ping([105, 110])",
                r#"Text("é")"#,
                r#"Text("")"#,
                "Binary",
                "Pong",
                "Close(Some(1000))",
            ]
        );
    }
    assert_eq!(all(&end(b""), 1).unwrap(), ["Close(None)"]);
}

#[test]
fn what_breaks_the_rules_is_answered_with_its_code() {
    let too_long = frame(0x81, &[b'x'; 4097]);
    let fragments = [frame(0x01, &[b'x'; 4000]), frame(0x80, &[b'x'; 97])].concat();
    let long = |length: &[u8]| [&[0x82, 0x80 | 127], length, &[0; 4]].concat();
    for (wire, code) in [
        (too_long[..8].to_vec(), CloseCode::TooBig),
        (fragments[..4016].to_vec(), CloseCode::TooBig),
        (long(&[0x7f; 8]), CloseCode::TooBig),
        (long(&[0xff; 8]), CloseCode::ProtocolError),
        (long(&5u64.to_be_bytes()), CloseCode::ProtocolError),
        (
            vec![0x82, 0x80 | 126, 0, 125, 0, 0, 0, 0],
            CloseCode::ProtocolError,
        ),
        (frame(0x81, &[0xff]), CloseCode::InvalidPayload),
        // A surrogate, a code point too high, an overlong form: each refused at its second byte.
        (frame(0x01, &[0xed, 0xa0]), CloseCode::InvalidPayload),
        (frame(0x01, &[0xf4, 0x90]), CloseCode::InvalidPayload),
        (frame(0x01, &[0xc0]), CloseCode::InvalidPayload),
        (
            frame(0x81, &[0xff, b'x', b'x'])[..7].to_vec(),
            CloseCode::InvalidPayload,
        ),
        (
            [frame(0x01, &[0xc3]), frame(0x80, b"")].concat(),
            CloseCode::InvalidPayload,
        ),
        (vec![0x81, 0x01, b'x'], CloseCode::ProtocolError),
        (frame(0xc1, b"x"), CloseCode::ProtocolError),
        (frame(0x80, b"x"), CloseCode::ProtocolError),
        (
            [frame(0x01, b"x"), frame(0x81, b"x")].concat(),
            CloseCode::ProtocolError,
        ),
        (frame(0x89, &[0; 126]), CloseCode::ProtocolError),
        (frame(0x09, b""), CloseCode::ProtocolError),
        (frame(0x83, b""), CloseCode::ProtocolError),
        (frame(0x8b, b""), CloseCode::ProtocolError),
        (end(&[3]), CloseCode::ProtocolError),
        (end(&1005u16.to_be_bytes()), CloseCode::ProtocolError),
        (
            end(&[&1000u16.to_be_bytes()[..], &[0xff]].concat()),
            CloseCode::InvalidPayload,
        ),
    ] {
        for step in [1, 3, wire.len()] {
            assert_eq!(
                all(&wire, step),
                Err(code),
                "{:?}",
                &wire[..wire.len().min(8)]
            );
        }
    }
}

/// The payload of a message compressed.
fn deflated(message: &[u8]) -> Vec<u8> {
    let frame = Deflater::new().frame(message).expect("it gets smaller");
    payload(&frame).to_vec()
}

#[test]
fn compressed_messages_come_as_they_were_and_others_beside_them() {
    let long = "ping, ".repeat(600);
    let (first, last) = (deflated(long.as_bytes()), deflated(&[b'x'; 4096]));
    let wire = [
        frame(0xc1, &[0x2a, 0xc8, 0xcc, 0x4b, 0x07, 0x00]),
        frame(0x41, &first[..5]),
        frame(0x89, b"in"),
        frame(0x00, b""),
        frame(0x80, &first[5..]),
        frame(0x81, b"plain"),
        frame(0xc1, &last),
        frame(0xc2, &last),
        frame(0xc1, &[0x00]),
    ]
    .concat();
    for step in [1, 2, 7, wire.len()] {
        assert_eq!(
            said(Assembler::new(true), &wire, step).unwrap(),
            [
                r#"Text("ping")"#.to_owned(),
                "Ping([105, 110])".to_owned(),
                format!("Text({long:?})"),
                r#"Text("plain")"#.to_owned(),
                format!("Text({:?})", "x".repeat(4096)),
                "Binary".to_owned(),
                r#"Text("")"#.to_owned(),
            ]
        );
    }
}

#[test]
fn what_breaks_the_rules_of_compression_is_answered_with_its_code() {
    let bomb = deflated(&vec![b' '; 4 << 20]);
    let too_long = [frame(0x41, &[0xf2; 4000]), frame(0x80, &[0; 161])].concat();
    for (wire, code) in [
        (frame(0xc1, &deflated(&[b'x'; 4097])), CloseCode::TooBig),
        (frame(0xc1, &bomb[..4000]), CloseCode::TooBig),
        (too_long[..4016].to_vec(), CloseCode::TooBig),
        (frame(0xc1, &[0xff; 10]), CloseCode::InvalidPayload),
        (
            frame(0xc1, &deflated(&[0xff; 100])),
            CloseCode::InvalidPayload,
        ),
        (frame(0xc9, b""), CloseCode::ProtocolError),
        (frame(0xc8, b""), CloseCode::ProtocolError),
        (frame(0xe1, b""), CloseCode::ProtocolError),
        (frame(0xa1, b""), CloseCode::ProtocolError),
        (
            [frame(0x41, b""), frame(0xc0, b"")].concat(),
            CloseCode::ProtocolError,
        ),
    ] {
        for step in [1, 3, wire.len()] {
            let assembler = Assembler::new(true);
            assert_eq!(said(assembler, &wire, step), Err(code), "{:x?}", &wire[..2]);
        }
    }
}

#[test]
fn nothing_is_kept_between_messages_and_nothing_is_understood_after_an_error() {
    let mut assembler = Assembler::default();
    let bad = [frame(0x83, b""), frame(0x81, b"x")].concat();
    assert!(assembler.take(&frame(0x81, b"x"), |_| Ok(())).is_ok());
    assert!(assembler.unfinished.is_none());
    assert!(assembler.take(&bad, |_| Ok(())).is_err());
    let said = |_: Inbound<'_>| panic!("it has ended");
    assert!(assembler.take(&frame(0x81, b"x"), said).is_ok());
}
