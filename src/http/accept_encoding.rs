//! Which content codings a client takes (RFC 9110, section 12.5.3).

use warp::http::{HeaderMap, header};

/// Returns whether the client takes gzip, and does not like the plain text better.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    for value in values.filter_map(|value| value.to_str().ok()) {
        for part in value.split(',') {
            let (coding, weight) = part.split_once(';').unwrap_or((part, ""));
            let weight = thousandths(weight);
            match coding.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => gzip = gzip.max(Some(weight)),
                "identity" => identity = Some(weight),
                "*" => any = Some(weight),
                _ => {}
            }
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// The weight in `;q=0.5`, in thousandths: 1,000 where there is none, 0 where it is no weight.
fn thousandths(parameter: &str) -> u16 {
    let parameter = parameter.trim();
    if parameter.is_empty() {
        return 1000;
    }
    let Some((name, weight)) = parameter.split_once('=') else {
        return 0;
    };
    let (whole, digits) = weight.split_once('.').unwrap_or((weight, ""));
    let is_weight = name.trim_end().eq_ignore_ascii_case("q")
        && digits.len() <= 3
        && digits.bytes().all(|digit| digit.is_ascii_digit());
    // Three digits at most: a number.
    let fraction = format!("{digits:0<3}").parse().unwrap_or(0);
    match whole {
        "0" if is_weight => fraction,
        "1" if is_weight && fraction == 0 => 1000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warp::http::HeaderValue;

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for (values, takes) in [
            (&["gzip"][..], true),
            (&["gzip, deflate, br, zstd"], true),
            (&["br;q=1.0, GZIP;q=0.8, *;q=0.1"], true),
            (&["deflate", "x-gzip"], true),
            (&["*"], true),
            (&["*;q=0.5, identity;q=0.5"], true),
            (&["gzip ; q=0.001"], true),
            (&["gzip; Q=1.000"], true),
            (&[], false),
            (&[""], false),
            (&["identity"], false),
            (&["br, zstd"], false),
            (&["gzip;q=0"], false),
            (&["gzip;q=0.000, *"], false),
            (&["*;q=0"], false),
            (&["gzip;q=0.5, identity"], false),
            (&["gzip;q=1.001"], false),
            (&["gzip;q=0.0001"], false),
            (&["gzip;q=-1"], false),
            (&["gzip;q=,"], false),
            (&["gzip;level=9"], false),
            (&["gzipped"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(takes_gzip(&headers), takes, "{values:?}");
        }
    }
}
