//! Which extension of WebSocket is agreed on: permessage-deflate (RFC 7692), by the rules of RFC 6455, section 9.1.

use warp::http::HeaderValue;

use crate::wire::deflate::{MAX_WINDOW_BITS, MIN_WINDOW_BITS, WINDOW_BITS};

const NAME: &str = "permessage-deflate";

/// What is agreed on with a client: that messages may be compressed, each by itself in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// The window for messages to the client as a power of two, where the client named one.
    asked: Option<u8>,
}

impl Agreement {
    /// Returns how far back the client lets messages refer, as a power of two.
    pub(crate) fn window_bits(self) -> u8 {
        self.asked.unwrap_or(MAX_WINDOW_BITS)
    }

    /// Returns the header that tells the client. Messages of clients stand for themselves too: what they have to say is
    /// short, and to keep a window for each would cost more than all else they cost.
    pub(crate) fn header(self) -> String {
        let context = "server_no_context_takeover; client_no_context_takeover";
        match self.asked {
            Some(asked) => {
                let bits = asked.min(WINDOW_BITS);
                format!("{NAME}; {context}; server_max_window_bits={bits}")
            }
            None => format!("{NAME}; {context}"),
        }
    }
}

/// The header with the offers is not of the form that it must have. The connection has to fail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Returns what is agreed on: the first offer, over all headers, of which everything is understood. `None`: nothing.
///
/// # Errors
/// A header is malformed.
pub(crate) fn agree<'a>(
    headers: impl Iterator<Item = &'a HeaderValue>,
) -> Result<Option<Agreement>, Malformed> {
    let mut agreed = None;
    for header in headers {
        let mut rest = Rest(header.to_str().map_err(|_| Malformed)?);
        while let Some(offer) = rest.offer()? {
            agreed = agreed.or_else(|| offer.accepted());
        }
    }
    Ok(agreed)
}

/// One extension as it is offered, with its parameters.
struct ExtensionOffer<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<String>)>,
}

impl ExtensionOffer<'_> {
    /// Returns what the offer comes to; `None` where it is declined, because something in it is not understood or is said
    /// twice (RFC 7692, section 7.1).
    fn accepted(&self) -> Option<Agreement> {
        if self.name != NAME {
            return None;
        }
        let mut asked = None;
        for (at, (name, value)) in self.parameters.iter().enumerate() {
            if self.parameters[..at].iter().any(|(other, _)| other == name) {
                return None;
            }
            match (*name, value.as_deref()) {
                ("server_no_context_takeover" | "client_no_context_takeover", None)
                | ("client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(bits)) => drop(window_bits(bits)?),
                ("server_max_window_bits", Some(bits)) => asked = Some(window_bits(bits)?),
                _ => return None,
            }
        }
        Some(Agreement { asked })
    }
}

/// A number from 8 to 15, without leading zeros.
fn window_bits(text: &str) -> Option<u8> {
    let bits: u8 = text.parse().ok()?;
    let is_good = (MIN_WINDOW_BITS..=MAX_WINDOW_BITS).contains(&bits) && bits.to_string() == text;
    is_good.then_some(bits)
}

/// What is left of a header.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Takes the next offer off; `None` at the end. Empty elements of the list mean nothing (RFC 9110, section 5.6.1).
    fn offer(&mut self) -> Result<Option<ExtensionOffer<'a>>, Malformed> {
        while self.takes(',') {}
        if self.0.is_empty() {
            return Ok(None);
        }
        let name = self.token()?;
        let mut parameters = Vec::new();
        while self.takes(';') {
            let name = self.token()?;
            let value = match self.takes('=') {
                true => Some(self.value()?),
                false => None,
            };
            parameters.push((name, value));
        }
        match self.takes(',') || self.0.is_empty() {
            true => Ok(Some(ExtensionOffer { name, parameters })),
            false => Err(Malformed),
        }
    }

    /// Takes this character and the blanks around it off, where it comes next; the blanks before it in any case.
    fn takes(&mut self, separator: char) -> bool {
        const BLANKS: [char; 2] = [' ', '\t'];
        self.0 = self.0.trim_start_matches(BLANKS);
        let Some(rest) = self.0.strip_prefix(separator) else {
            return false;
        };
        self.0 = rest.trim_start_matches(BLANKS);
        true
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        let end = self.0.find(|c| !is_of_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        match token.is_empty() {
            true => Err(Malformed),
            false => Ok(token),
        }
    }

    /// A token, or one in quotation marks.
    fn value(&mut self) -> Result<String, Malformed> {
        let Some(quoted) = self.0.strip_prefix('"') else {
            return self.token().map(str::to_owned);
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' if value.is_empty() => break,
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return Ok(value);
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                _ => value.push(character),
            }
            // What stands between the marks must be a token too (RFC 6455, section 9.1).
            if !value.chars().next_back().is_some_and(is_of_token) {
                break;
            }
        }
        Err(Malformed)
    }
}

/// RFC 9110, section 5.6.2.
fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(offers: &[&str]) -> Result<Option<String>, Malformed> {
        let headers: Vec<HeaderValue> = offers
            .iter()
            .map(|offer| HeaderValue::from_bytes(offer.as_bytes()).expect("a header"))
            .collect();
        let agreed = agree(headers.iter())?;
        Ok(agreed.map(|agreement| {
            let header = agreement.header();
            let start =
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
            header
                .strip_prefix(start)
                .expect("what is always said")
                .to_owned()
        }))
    }

    #[test]
    fn the_first_offer_that_is_wholly_understood_is_accepted() {
        for (offers, accepted) in [
            // Chromium, Firefox, Python's websockets, ws of Node.js.
            (
                &["permessage-deflate; client_max_window_bits"][..],
                Some(""),
            ),
            (&["permessage-deflate"], Some("")),
            (
                &["permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"],
                Some("; server_max_window_bits=12"),
            ),
            (
                &["permessage-deflate;server_no_context_takeover;client_no_context_takeover"],
                Some(""),
            ),
            (
                &["permessage-deflate; server_max_window_bits=15"],
                Some("; server_max_window_bits=12"),
            ),
            (
                &["permessage-deflate; server_max_window_bits=\"9\""],
                Some("; server_max_window_bits=9"),
            ),
            (
                &["permessage-deflate; server_max_window_bits=\"1\\0\""],
                Some("; server_max_window_bits=10"),
            ),
            (
                &["permessage-deflate ; server_max_window_bits\t=\t8 ,permessage-deflate"],
                Some("; server_max_window_bits=8"),
            ),
            (
                &["permessage-deflate; server_max_window_bits=16, permessage-deflate"],
                Some(""),
            ),
            (
                &[
                    "x-webkit-deflate-frame, , foo; bar=\"baz\"",
                    "permessage-deflate",
                ],
                Some(""),
            ),
            (&["permessage-deflate; client_max_window_bits=8"], Some("")),
            (&[], None),
            (&[""], None),
            (&[" , ,"], None),
            (&["permessage-bzip2"], None),
            (&["Permessage-Deflate"], None),
            (&["permessage-deflate; unknown"], None),
            (&["permessage-deflate; unknown=1"], None),
            (&["permessage-deflate; server_no_context_takeover=1"], None),
            (
                &["permessage-deflate; client_no_context_takeover=\"x\""],
                None,
            ),
            (
                &["permessage-deflate; server_no_context_takeover; server_no_context_takeover"],
                None,
            ),
            (
                &["permessage-deflate; client_max_window_bits; client_max_window_bits=9"],
                None,
            ),
            (&["permessage-deflate; server_max_window_bits"], None),
            (&["permessage-deflate; server_max_window_bits=7"], None),
            (&["permessage-deflate; server_max_window_bits=012"], None),
            (&["permessage-deflate; server_max_window_bits=+12"], None),
            (&["permessage-deflate; server_max_window_bits=1000"], None),
            (&["permessage-deflate; client_max_window_bits=16"], None),
        ] {
            assert_eq!(
                answer(offers),
                Ok(accepted.map(str::to_owned)),
                "{offers:?}"
            );
        }
    }

    #[test]
    fn what_has_not_the_form_of_an_offer_is_refused() {
        for offers in [
            &["permessage-deflate;"][..],
            &["permessage-deflate; ;"],
            &["permessage-deflate; =1"],
            &["permessage-deflate; server_max_window_bits="],
            &["permessage-deflate; server_max_window_bits=\"12"],
            &["permessage-deflate; server_max_window_bits=\"\""],
            &["permessage-deflate; server_max_window_bits=\"1 2\""],
            &["permessage-deflate; server_max_window_bits=\"12\\"],
            &["permessage-deflate; server_max_window_bits=12 13"],
            &["permessage-deflate permessage-deflate"],
            &["permessage-deflate", "(comment)"],
            &["permessage-deflate, é"],
            &["\"permessage-deflate\""],
        ] {
            assert_eq!(answer(offers), Err(Malformed), "{offers:?}");
        }
    }
}
