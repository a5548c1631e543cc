//! Nobody guesses at rows of others by the size of what both are compressed into.

use crate::common::http::Response;
use crate::office::Office;

fn in_gzip(office: &Office, path: &str, token: &str) -> Response {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", &*bearer), ("Accept-Encoding", "gzip")];
    office.daemon.request("GET", path, &headers, b"")
}

#[test]
fn rows_that_clients_write_are_not_compressed_together_with_those_of_others() {
    let office = Office::open();
    let (customer, reader) = (
        office.customer("ada"),
        office.token("reader", &["--feed", "news"]),
    );
    let fill = |columns: &str, values: &str| {
        office.daemon.database().execute(&format!(
            "INSERT INTO {columns} WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100)
             SELECT {values} FROM n"
        ));
    };
    fill(
        "orders(customer, item)",
        "'ada', 'a thing of which there are many'",
    );
    fill("news(title)", "'something that happens every day'");
    // Customers write orders; news only the house writes.
    let orders = in_gzip(&office, "/api/feeds/orders/events", &customer);
    assert_eq!(
        (orders.status, orders.header("Content-Encoding")),
        (200, None)
    );
    assert!(orders.body.len() > 2_000, "it would be worth it");
    let news = in_gzip(&office, "/api/feeds/news/events", &reader);
    assert_eq!(
        (news.status, news.header("Content-Encoding")),
        (200, Some("gzip"))
    );
}
