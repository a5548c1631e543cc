//! `/walcast.js`: the browser's client as one module, embedded in the binary, for pages that have no build step.

use std::sync::{Arc, LazyLock};

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::http::state::App;
use crate::http::static_file::StaticFile;

pub(super) const PATH: &str = "/walcast.js";

/// What `npm run bundle` in `web/client` made of the package.
const SCRIPT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/web/client/browser/walcast.js"
));

static FILE: LazyLock<StaticFile> =
    LazyLock::new(|| StaticFile::new("text/javascript; charset=utf-8", SCRIPT));

/// The route. A page of another origin may load it wherever its origin may use the feeds.
pub(super) fn script(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    let app = Arc::clone(app);
    let get = warp::get().or(warp::head()).unify();
    warp::path!("walcast.js")
        .and(get)
        .and(warp::header::headers_cloned())
        .map(move |asked| FILE.answer(&asked, app.compression.smallest()))
        .boxed()
}
