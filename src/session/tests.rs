use super::*;
use crate::model::position::Epoch;
use crate::sqlite::table::Schema;
use crate::wire::control::ResetReason;

fn feed() -> Arc<Feed> {
    let feed = Feed::stock();
    feed.begin(Epoch::new("e1"), Cursor(100));
    feed
}

fn bounds(earliest: Option<i64>) -> TableBounds {
    TableBounds {
        epoch: Epoch::new("e1"),
        generation: 0,
        replaced_for: ResetReason::DatabaseReplaced,
        kind: None,
        key: "id".into(),
        head: Cursor(100),
        earliest,
        older_from: None,
        start_of_last: Some(Cursor(90)),
        read_at: Instant::now(),
    }
}

fn resumable(feed: &Arc<Feed>, since: Since) -> Session {
    let request = Request {
        since: Some(since),
        filter: Filter::default(),
    };
    Session::begin(feed, request).unwrap()
}

fn id(id: i64, epoch: Option<&str>) -> Since {
    Since::Id {
        id: Cursor(id),
        epoch: epoch.map(str::to_owned),
    }
}

fn hello(since: Since, earliest: Option<i64>) -> (i64, bool) {
    let mut session = resumable(&feed(), since);
    match session.opened(&bounds(earliest)) {
        Some(Control::Hello {
            since, recovered, ..
        }) => (since.0, recovered),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cursor_is_honoured_or_the_client_is_told() {
    assert_eq!(hello(id(50, None), Some(1)), (50, true));
    assert_eq!(hello(id(50, Some("e1")), Some(1)), (50, true));
    assert_eq!(hello(id(100, None), Some(1)), (100, true));
    assert_eq!(
        hello(id(50, Some("e0")), Some(1)),
        (0, false),
        "another epoch"
    );
    assert_eq!(hello(id(101, None), Some(1)), (0, false), "above the head");
    assert_eq!(
        hello(id(49, None), Some(50)),
        (49, true),
        "nothing above it was pruned"
    );
    assert_eq!(
        hello(id(48, None), Some(50)),
        (49, false),
        "row 49 was pruned"
    );
    assert_eq!(
        hello(id(99, None), None),
        (100, false),
        "row 100 was pruned"
    );
    assert_eq!(hello(id(100, None), None), (100, true));
    assert_eq!(hello(Since::Earliest, Some(50)), (49, true));
    assert_eq!(hello(Since::Earliest, None), (100, true));
    assert_eq!(hello(Since::Now, Some(1)), (100, true));
    assert_eq!(hello(Since::Last(10), Some(1)), (90, true));
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema {
        version: 1,
        table: crate::sqlite::table::Table {
            name: "t".into(),
            columns: vec![],
            key: 0,
            autoincrement: true,
            strict: false,
        },
        exposed: vec![],
        key_place: 0,
        hidden: Vec::new(),
        changes: None,
        written: None,
    })
}

fn away(feed: &Feed, cause: Cause) {
    feed.closed(Presence::away(cause, cause.reason()));
}

fn told(step: Step) -> &'static str {
    match step {
        Step::Say(Control::Waiting { reason, .. }) => reason,
        Step::Say(Control::Live { .. }) => "live",
        Step::WaitForTable => "nothing",
        Step::AskBounds => "the table",
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_waits_is_told_why_once_and_greeted_when_there_is_a_table() {
    let feed = feed();
    away(&feed, Cause::NoDatabase);
    let mut session = resumable(&feed, id(50, None));
    assert!(session.awaits_hello());
    assert_eq!(told(session.next(&feed.view())), "no_database");
    assert!(!session.awaits_hello());
    assert_eq!(told(session.next(&feed.view())), "nothing");
    away(&feed, Cause::NoTable);
    assert_eq!(told(session.next(&feed.view())), "no_table");
    away(&feed, Cause::Unreadable);
    assert_eq!(told(session.next(&feed.view())), "unreadable");
    away(&feed, Cause::Unfit);
    assert_eq!(told(session.next(&feed.view())), "nothing", "the same word");
    feed.opened(schema());
    assert_eq!(told(session.next(&feed.view())), "the table");
    let hello = session.opened(&bounds(Some(1)));
    assert!(matches!(
        hello,
        Some(Control::Hello {
            since: Cursor(50),
            recovered: true,
            ..
        })
    ));
}

#[test]
fn after_a_table_was_away_the_stream_goes_on_from_its_position() {
    for (earliest, since, recovered) in [(1, 100, true), (105, 104, false)] {
        let feed = feed();
        feed.opened(schema());
        let mut session = resumable(&feed, Since::Last(10));
        session.opened(&bounds(Some(1)));
        session.advance(Cursor(100));
        assert_eq!(told(session.next(&feed.view())), "live");
        away(&feed, Cause::NoTable);
        assert_eq!(told(session.next(&feed.view())), "no_table");
        feed.opened(schema());
        assert_eq!(told(session.next(&feed.view())), "the table");
        let head = Cursor(110);
        let bounds = TableBounds {
            head,
            ..bounds(Some(earliest))
        };
        let Some(Control::Hello {
            since: told,
            recovered: is,
            ..
        }) = session.opened(&bounds)
        else {
            panic!()
        };
        assert_eq!((told, is), (Cursor(since), recovered));
    }
}

#[test]
fn a_plain_subscriber_is_told_nothing_of_a_table_that_is_away() {
    let feed = feed();
    away(&feed, Cause::Unreadable);
    let mut plain = Session::begin(&feed, Request::default()).unwrap();
    assert!(matches!(plain.next(&feed.view()), Step::Wait));
}

#[test]
fn another_history_while_waiting_is_told_by_a_reset_only_where_one_was_known() {
    for (since, greeted_before) in [(Since::Now, false), (Since::Now, true)] {
        let feed = feed();
        let mut session = resumable(&feed, since);
        if greeted_before {
            feed.opened(schema());
            session.opened(&bounds(Some(1)));
        }
        away(&feed, Cause::NoTable);
        assert_eq!(told(session.next(&feed.view())), "no_table");
        feed.replace(Epoch::new("e2"), Cursor(5), ResetReason::DatabaseReplaced);
        feed.opened(schema());
        assert_eq!(told(session.next(&feed.view())), "the table");
        let new = TableBounds {
            generation: 1,
            head: Cursor(5),
            epoch: Epoch::new("e2"),
            ..bounds(Some(1))
        };
        match session.opened(&new) {
            Some(Control::Hello { since, .. }) => {
                assert_eq!((since, greeted_before), (Cursor(0), false))
            }
            Some(Control::Reset { .. }) => assert!(greeted_before),
            other => panic!("{other:?}"),
        }
        assert_eq!(session.position(), Cursor(0), "all of it is new");
    }
}

#[test]
fn a_replaced_history_closes_plain_subscribers_and_resets_resumable_ones() {
    let feed = feed();
    feed.opened(schema());
    let mut plain = Session::begin(&feed, Request::default()).unwrap();
    let mut resumable = resumable(&feed, Since::Now);
    resumable.opened(&bounds(Some(1)));
    feed.replace(Epoch::new("e2"), Cursor(5), ResetReason::DatabaseReplaced);
    let view = feed.view();
    assert!(matches!(plain.next(&view), Step::Close(CloseCode::Restart)));
    assert!(matches!(resumable.next(&view), Step::AskBounds));
    assert!(
        resumable.opened(&bounds(Some(1))).is_none(),
        "bounds of the old history"
    );
    let new = TableBounds {
        generation: 1,
        head: Cursor(5),
        epoch: Epoch::new("e2"),
        ..bounds(Some(1))
    };
    assert!(matches!(
        resumable.opened(&new),
        Some(Control::Reset {
            head: Cursor(5),
            ..
        })
    ));
    assert!(
        matches!(resumable.next(&view), Step::ReadPage),
        "all of it is new to who asked for now, too"
    );
}

#[test]
fn who_came_before_there_was_a_table_gets_all_of_it() {
    let feed = feed();
    away(&feed, Cause::NoDatabase);
    let mut early = Session::begin(&feed, Request::default()).unwrap();
    feed.replace(Epoch::new("e2"), Cursor(5), ResetReason::DatabaseReplaced);
    feed.opened(schema());
    assert!(matches!(early.next(&feed.view()), Step::ReadPage));
}
