//! Messages that are too large, too many or no messages.

use crate::common::Daemon;
use crate::common::subscriber::Received;
use crate::raw::{CLOSE, PING, TEXT, frame, send_raw};

#[test]
fn messages_up_to_4_kib_pass_and_larger_ones_are_closed_with_1009() {
    let walcast = Daemon::start_new();
    let mut plain = walcast.subscribe("");
    send_raw(&mut plain, &frame(TEXT, &[b'x'; 4096]));
    plain.expect_nothing();
    send_raw(&mut plain, &frame(TEXT, &[b'x'; 4097]));
    plain.expect_close(1009);

    let mut huge = walcast.subscribe("");
    send_raw(&mut huge, &frame(TEXT, &vec![b'x'; 1 << 20]));
    huge.expect_close(1009);

    let mut announced = walcast.subscribe("");
    let header = &frame(TEXT, &vec![0; 1 << 20])[..14];
    send_raw(&mut announced, header);
    announced.expect_close(1009);
    assert_eq!(walcast.connection_errors("too_big"), 3.0);
}

#[test]
fn a_message_in_fragments_counts_as_a_whole() {
    let walcast = Daemon::start_new();
    let mut small = walcast.subscribe("");
    let fragments = [
        frame(0x01, b"pi"),
        frame(PING, b""),
        frame(0x00, b""),
        frame(0x80, b"ng"),
    ];
    send_raw(&mut small, &fragments.concat());
    assert_eq!(small.next_text(), "pong");

    let mut large = walcast.subscribe("");
    let fragments = [
        frame(0x01, &[b'x'; 2000]),
        frame(0x00, &[b'x'; 2000]),
        frame(0x00, &[b'x'; 97]),
    ];
    send_raw(&mut large, &fragments.concat());
    large.expect_close(1009);
}

#[test]
fn more_messages_than_the_bucket_holds_are_closed_with_1008() {
    let walcast = Daemon::start_new();
    let mut plain = walcast.subscribe("");
    send_raw(&mut plain, &frame(TEXT, b"ping").repeat(1000));
    let mut pongs = 0;
    let closed = loop {
        match plain.receive() {
            Received::Text(text) => {
                assert_eq!(text, "pong");
                pongs += 1;
            }
            Received::Closed(code) => break code,
        }
    };
    assert_eq!(closed, Some(1008));
    assert!((60..1000).contains(&pongs), "{pongs} were answered");
}

#[test]
fn a_close_is_no_message_that_counts_against_the_bucket() {
    let walcast = Daemon::start_new();
    let mut plain = walcast.subscribe("");
    let messages = [
        frame(TEXT, b"ping").repeat(60),
        frame(CLOSE, &1000u16.to_be_bytes()),
    ];
    send_raw(&mut plain, &messages.concat());
    for _ in 0..60 {
        assert_eq!(plain.next_text(), "pong");
    }
    plain.expect_close(1000);
}

#[test]
fn violations_of_the_protocol_are_closed_with_their_code() {
    let walcast = Daemon::start_new();
    let unmasked = vec![TEXT, 1, b'x'];
    let violations = [
        ("an unmasked frame", 1002, unmasked),
        ("a reserved bit", 1002, frame(0xc1, b"x")),
        ("an unknown opcode", 1002, frame(0x83, b"x")),
        ("an unknown control opcode", 1002, frame(0x8b, b"")),
        ("a continuation of nothing", 1002, frame(0x80, b"x")),
        (
            "a message within a message",
            1002,
            [frame(0x01, b"x"), frame(TEXT, b"x")].concat(),
        ),
        ("a Ping in fragments", 1002, frame(0x09, b"x")),
        ("a Ping of 126 bytes", 1002, frame(PING, &[0; 126])),
        ("text that is not UTF-8", 1007, frame(TEXT, b"\xff")),
        (
            "a length of two bytes where one would do",
            1002,
            vec![TEXT, 0x80 | 126, 0, 1, 0, 0, 0, 0, b'x'],
        ),
        (
            "a length of eight bytes where two would do",
            1002,
            [&[TEXT, 0x80 | 127, 0, 0, 0, 0, 0, 0, 1, 0], &[0; 260][..]].concat(),
        ),
        (
            "a length of 64 bits",
            1002,
            vec![TEXT, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            "text that can't become UTF-8, whatever follows",
            1007,
            frame(0x01, b"\xf4\x90"),
        ),
        (
            "the beginning of a frame that can't become UTF-8",
            1007,
            frame(TEXT, b"\xed\xa0 and so on")[..9].to_vec(),
        ),
        (
            "text that ends within a character",
            1007,
            [frame(0x01, b"\xc3"), frame(0x80, b"")].concat(),
        ),
    ];
    let count = violations.len();
    for (what, code, bytes) in violations {
        let mut plain = walcast.subscribe("");
        send_raw(&mut plain, &bytes);
        assert_eq!(plain.receive(), Received::Closed(Some(code)), "{what}");
    }
    assert_eq!(walcast.connection_errors("protocol"), count as f64);
}
