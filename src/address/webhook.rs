//! Where a webhook is: anywhere by https, on this machine by plain http too.

use std::fmt;

use http::Uri;

use super::Host;

const EXAMPLE: &str =
    "write https://HOST/PATH, or http://127.0.0.1:PORT/PATH for a receiver on this machine";

/// The address of a webhook. Its path and query may be what lets a sender in, so only the rest of it is for others to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUrl {
    uri: Uri,
    /// Scheme, host and port.
    origin: String,
}

impl WebhookUrl {
    /// Reads `https://HOST[:PORT][/PATH][?QUERY]`, or the same with `http` where the host is this machine.
    ///
    /// # Errors
    /// It is something else; the error says what, and what to write.
    pub fn parse(text: &str) -> Result<WebhookUrl, String> {
        let (scheme, rest) = text
            .split_once("://")
            .filter(|(scheme, _)| matches!(*scheme, "https" | "http"))
            .ok_or_else(|| format!("is not the address of a webhook; {EXAMPLE}"))?;
        if text.contains('#') {
            return Err("has a part after #, which is never sent; leave it out".to_owned());
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(
                "holds a user name; leave it out, for the signature says who sends".to_owned(),
            );
        }
        let host = Host::parse(authority)
            .ok_or_else(|| format!("names no host that can be connected to; {EXAMPLE}"))?;
        let uri: Uri = text
            .parse()
            .map_err(|error| format!("is not an address ({error}); {EXAMPLE}"))?;
        if scheme == "http" && !host.name.is_loopback() {
            return Err(
                "is plain http to another machine, where anybody on the way reads and changes rows; write https://, or \
                 have a proxy on this machine speak TLS"
                    .to_owned(),
            );
        }
        let origin = format!("{scheme}://{authority}");
        Ok(WebhookUrl { uri, origin })
    }

    /// Returns an address of this machine at which nobody need listen, for where none is known yet.
    pub fn of_this_machine() -> WebhookUrl {
        WebhookUrl {
            uri: Uri::from_static("http://localhost/"),
            origin: "http://localhost".to_owned(),
        }
    }

    /// Returns the whole address, which may be a secret.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Returns whether TLS is spoken there.
    pub fn is_tls(&self) -> bool {
        self.uri.scheme() == Some(&http::uri::Scheme::HTTPS)
    }
}

/// Scheme, host and port.
impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_origin_of_an_address_is_shown() {
        for (text, shown, is_tls) in [
            (
                "https://hooks.example.com/a/secret?b=c",
                "https://hooks.example.com",
                true,
            ),
            (
                "https://hooks.example.com:8443",
                "https://hooks.example.com:8443",
                true,
            ),
            ("http://127.0.0.1:9000/in", "http://127.0.0.1:9000", false),
            ("http://[::1]:9000?x=1", "http://[::1]:9000", false),
            ("http://localhost/", "http://localhost", false),
        ] {
            let url = WebhookUrl::parse(text).unwrap();
            assert_eq!(
                (url.to_string().as_str(), url.is_tls()),
                (shown, is_tls),
                "{text}"
            );
            // An empty path is the root.
            let path = text.trim_start_matches(shown).trim_start_matches('/');
            assert!(url.uri().to_string().ends_with(path), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_sent_to_is_refused_with_the_remedy() {
        for (text, why) in [
            ("", "is not the address"),
            ("hooks.example.com/x", "is not the address"),
            ("ftp://hooks.example.com/x", "is not the address"),
            ("HTTPS://hooks.example.com/x", "is not the address"),
            ("https://", "names no host"),
            ("https:///x", "names no host"),
            ("https://a b/x", "names no host"),
            ("https://[::1].evil.com/x", "names no host"),
            ("https://hooks.example.com:99999/", "names no host"),
            ("https://hooks.example.com/a b", "is not an address"),
            ("https://me:pass@hooks.example.com/", "holds a user name"),
            ("https://hooks.example.com/#there", "after #"),
            ("http://hooks.example.com/x", "is plain http"),
            ("http://10.0.0.1/x", "is plain http"),
            ("http://localhost.evil.com/x", "is plain http"),
        ] {
            let error = WebhookUrl::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
