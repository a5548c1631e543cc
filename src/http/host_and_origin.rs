//! Who may come in: under which name of this daemon, from which pages, and CORS. Authentication belongs here, too, once
//! there are tokens: what a request may read is decided before a handler sees it.

use warp::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use warp::reply::{Reply, Response};

use crate::address::{AllowedOrigin, Host, HostName, Origin};
use crate::config::{AccessRules, TrustedProxy};
use crate::http::error::HttpError;
use crate::http::request_line::EVERY_METHOD;
use crate::wire::control::ConnectionError;

/// Seconds a browser may remember what a preflight allowed; browsers cap it at two hours or less.
const PREFLIGHT_SECS: u32 = 7200;
/// Characters of a header that are shown to the client that sent it.
const SHOWN: usize = 100;

/// The rules in force; a reload makes them anew.
#[derive(Debug)]
pub struct HostAndOrigin {
    rules: AccessRules,
    /// The dashboard's `frame-ancestors`, as a Content-Security-Policy has them.
    pub frame_ancestors: String,
}

/// What is known of a request that may come in.
#[derive(Debug, Default)]
pub struct Admitted {
    /// The origin to be named in the answer.
    origin: Option<HeaderValue>,
    /// Whether that page may also use cookies and the like.
    credentials: bool,
}

/// Why a request may not come in.
#[derive(Debug)]
pub struct Denied {
    /// What it counts as; `None` for a request that is malformed.
    pub reason: Option<ConnectionError>,
    pub error: HttpError,
}

impl From<HttpError> for Denied {
    fn from(error: HttpError) -> Denied {
        let reason = None;
        Denied { reason, error }
    }
}

impl HostAndOrigin {
    /// The rules of the configuration, made ready to be asked for each request.
    pub fn new(rules: &AccessRules) -> HostAndOrigin {
        let framing: Vec<String> = rules
            .frame_ancestors
            .iter()
            .map(|a| a.to_string())
            .collect();
        HostAndOrigin {
            rules: rules.clone(),
            frame_ancestors: match &*framing {
                [] => "'none'".to_owned(),
                framing => framing.join(" "),
            },
        }
    }

    /// Whose word on the address of a client counts.
    pub fn trusted_proxies(&self) -> &[TrustedProxy] {
        &self.rules.trusted_proxies
    }

    /// Decides on a request by its host, its origin, and what its browser says of the two. `target` is the host that the
    /// request line names, where it does.
    pub fn check<B>(&self, request: &Request<B>, target: Option<&str>) -> Result<Admitted, Denied> {
        let host = self.check_host(request, target)?;
        // The dashboard's own files hold nothing of anyone's, and behind a proxy that changes the host they are what can
        // explain the refusal of the rest: browsers send an origin with module scripts.
        let path = request.uri().path();
        let is_file = path == "/" || path.starts_with("/dashboard/");
        let admitted = match only(request.headers(), header::ORIGIN)? {
            Some(origin) => match self.origin(origin, host.as_ref()) {
                Some(_) if is_file => Admitted::default(),
                Some(admitted) => return Ok(admitted),
                None if is_file => Admitted::default(),
                None => return Err(origin_denied(origin)),
            },
            None => Admitted::default(),
        };
        // A page of another site can ask without saying its origin: by a link, a form, an image, a script.
        let site = request.headers().get_all("sec-fetch-site");
        if path != "/" && site.iter().any(|site| site == "cross-site") {
            return Err(cross_site_denied());
        }
        Ok(admitted)
    }

    /// The host that is asked for, where it is one of this daemon's; `None` where an old client names none.
    fn check_host<B>(
        &self,
        request: &Request<B>,
        target: Option<&str>,
    ) -> Result<Option<Host>, Denied> {
        let named = only(request.headers(), header::HOST)?;
        let may_lack = match request.version() {
            Version::HTTP_10 => true,
            // There the target names it.
            Version::HTTP_2 => target.is_some(),
            _ => false,
        };
        if named.is_none() && !may_lack {
            return Err(bad_request("the request has no Host header; HTTP/1.1 needs one").into());
        }
        let named = named.map(|value| value.to_str().unwrap_or_default());
        let mut host = None;
        // A request line that names a host goes before the header (RFC 9112, 3.2.2). That the header is not looked at
        // then is nothing to rely on, so both must be right.
        for text in [named, target].into_iter().flatten() {
            let read = Host::parse(text)
                .ok_or_else(|| bad_request("the Host header is not NAME or NAME:PORT"))?;
            if !self.knows(&read.name) {
                return Err(host_denied(&read.name));
            }
            host = Some(read);
        }
        Ok(host)
    }

    /// Returns whether this daemon goes by that name. A page can have its own name point anywhere, but not an address.
    fn knows(&self, name: &HostName) -> bool {
        let of_origin = |allowed: &AllowedOrigin| match allowed {
            // Every page may read everything then, under whatever name.
            AllowedOrigin::Any => true,
            AllowedOrigin::Only(origin) => origin.host() == name,
        };
        matches!(name, HostName::Ip(_))
            || name.is_loopback()
            || self.rules.hosts.contains(name)
            || self.rules.origins.iter().any(of_origin)
    }

    /// What a page from `value` may do; `None` where it may do nothing.
    fn origin(&self, value: &HeaderValue, host: Option<&Host>) -> Option<Admitted> {
        let origin = Origin::parse(value.to_str().ok()?);
        let listed = |origin: &Origin| {
            let is =
                |allowed: &AllowedOrigin| matches!(allowed, AllowedOrigin::Only(a) if a == origin);
            self.rules.origins.iter().any(is)
        };
        let credentials = origin.as_ref().is_some_and(listed);
        let own = |origin: &Origin| {
            host.is_some_and(|host| {
                origin.is_at(host) || (origin.is_loopback() && host.name.is_loopback())
            })
        };
        let allowed = credentials
            || origin.as_ref().is_some_and(own)
            || self.rules.origins.contains(&AllowedOrigin::Any);
        allowed.then(|| Admitted {
            origin: Some(value.clone()),
            credentials,
        })
    }
}

/// The header, where it is there; more than one of them means that somebody on the way reads another than we do.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&HeaderValue>, HttpError> {
    let mut all = headers.get_all(&name).iter();
    let first = all.next();
    match all.next() {
        None => Ok(first),
        Some(_) => Err(bad_request(format!(
            "the request has more than one {name} header; send one"
        ))),
    }
}

fn bad_request(message: impl Into<String>) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, "bad_request", message)
}

fn host_denied(name: &HostName) -> Denied {
    let message = format!(
        "this server is not known as {name}; if that is its name, add it to `hosts` in the configuration of walcast"
    );
    Denied {
        reason: Some(ConnectionError::Host),
        error: HttpError::new(StatusCode::MISDIRECTED_REQUEST, "host_not_allowed", message),
    }
}

fn origin_denied(origin: &HeaderValue) -> Denied {
    // ASCII, without control characters.
    let shown: String = match origin.to_str() {
        Ok(text) => text.chars().take(SHOWN).collect(),
        Err(_) => "of the page".to_owned(),
    };
    let message = format!(
        "origin {shown} is not allowed; add it to `origins` in the configuration of walcast, or, where the page is \
         served under the same address by a proxy, have that pass the Host header on with its port"
    );
    Denied {
        reason: Some(ConnectionError::Origin),
        error: HttpError::new(StatusCode::FORBIDDEN, "origin_not_allowed", message),
    }
}

fn cross_site_denied() -> Denied {
    let message = "a page of another site may not ask for this; add its origin to `origins` in the configuration of \
                   walcast and ask with CORS, or open the address by hand";
    Denied {
        reason: Some(ConnectionError::Origin),
        error: HttpError::new(StatusCode::FORBIDDEN, "origin_not_allowed", message),
    }
}

impl Admitted {
    /// The answer to a preflight; `None` where the request is none.
    pub fn preflight<B>(&self, request: &Request<B>) -> Option<Response> {
        let asked = request.headers();
        if request.method() != Method::OPTIONS
            || self.origin.is_none()
            || !asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            return None;
        }
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(EVERY_METHOD),
        );
        // Any header may be sent: which ones a front end adds for its own proxies is not ours to know. What can't be a
        // header's name is not repeated, or bytes of a stranger's choice would stand in the head of an answer.
        let names = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        if let Some(names) = names.filter(|names| names.to_str().is_ok()) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from(PREFLIGHT_SECS),
        );
        Some(response)
    }

    /// Says in an answer which page may read it.
    pub fn sign(self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        let Some(origin) = self.origin else {
            return;
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("retry-after"),
        );
        if self.credentials {
            let allowed = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, allowed);
        }
    }
}
