//! What is served at an address.

use warp::filters::BoxedFilter;
use warp::reply::Response;

/// What is served where a listener listens.
#[derive(Clone)]
pub struct Offer {
    pub(super) routes: BoxedFilter<(Response,)>,
    pub(super) offered: Offered,
}

/// What of all that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    Everything,
    /// Only what is counted, and the daemon's health; nobody is asked who they are.
    MetricsAlone,
    /// Only where TLS is spoken.
    Redirect {
        port: u16,
    },
}

impl Offer {
    /// All routes, for whoever may come in.
    pub fn everything(routes: &BoxedFilter<(Response,)>) -> Offer {
        Offer {
            routes: routes.clone(),
            offered: Offered::Everything,
        }
    }

    /// `/metrics` for whoever can connect, with `/healthz` and `/readyz`.
    pub fn metrics_alone(routes: &BoxedFilter<(Response,)>) -> Offer {
        Offer {
            offered: Offered::MetricsAlone,
            ..Offer::everything(routes)
        }
    }

    /// Nothing but the way to the listener at `port`, where TLS is spoken.
    pub fn redirect(routes: &BoxedFilter<(Response,)>, port: u16) -> Offer {
        Offer {
            offered: Offered::Redirect { port },
            ..Offer::everything(routes)
        }
    }
}
