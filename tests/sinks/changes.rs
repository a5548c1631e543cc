//! Sinks of change feeds.

use serde_json::{Value, json};
use walcast::config::CaptureMode;
use walcast::sqlite::capture::{Subject, install};

use crate::common::{Daemon, Database};
use crate::receiver::{Post, Receiver};
use crate::setup::{SECRET, write_secret};

/// The changes of these posts, each as operation and key.
fn changes(posts: &[Post]) -> Vec<(Value, Value)> {
    let rows = posts.iter().flat_map(Post::messages);
    let change = |row: Value| {
        (
            row["change"]["op"].clone(),
            row["change"]["key"]["id"].clone(),
        )
    };
    rows.map(change).collect()
}

#[test]
fn the_table_as_it_is_comes_first_and_then_its_changes() {
    let receiver = Receiver::start();
    receiver.answer_next(&[crate::receiver::Answer(500, "")]);
    let settings = Daemon::on_new_file().with_tables(
        "CREATE TABLE orders(id INTEGER PRIMARY KEY, total REAL);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 250) INSERT INTO orders SELECT i, i FROM n",
    );
    let database = Database::at(settings.database_path());
    let subject = |connection: &rusqlite::Connection| {
        Subject::of(connection, "orders", CaptureMode::Keys, &[])
    };
    install(&mut database.connect(), &subject).expect("it can be captured");
    let secret = settings.directory().join("secret");
    write_secret(&secret, SECRET);
    let daemon = settings
        .toml(format!(
            "[feeds.orders]\ncapture = \"keys\"\n[sinks.billing]\nfeed = \"orders\"\nwebhook = {:?}\nsecret_file = {:?}\nsince = \"earliest\"\n",
            receiver.url(),
            secret.to_str().expect("the path is text"),
        ))
        .start();
    let posts = receiver.wait_until("the table came", |posts| changes(posts).len() >= 350);
    assert!(
        posts
            .iter()
            .all(|post| post.header("webhook-id").contains(":0r"))
    );
    let snapshots: Vec<bool> = posts
        .iter()
        .map(|post| post.json()["snapshot"] == true)
        .collect();
    assert_eq!(
        snapshots,
        [true, true, false, false],
        "the first body, which was posted twice"
    );
    let wanted: Vec<_> = (1..=250).map(|id| (json!("r"), json!(id))).collect();
    assert_eq!(changes(&posts[1..]), wanted);
    database.execute("UPDATE orders SET total = 0 WHERE id = 7; DELETE FROM orders WHERE id = 8");
    receiver.posts_up_to(2);
    // A restart goes on in the changes.
    let daemon = daemon.restart();
    daemon
        .database()
        .execute("INSERT INTO orders VALUES (300, 1)");
    let posts = receiver.posts_up_to(3);
    let wanted = [("u", 7), ("d", 8), ("c", 300)].map(|(op, id)| (json!(op), json!(id)));
    assert_eq!(changes(&posts)[350..], wanted);
}
