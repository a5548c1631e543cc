//! The dashboard at `/`, embedded in the binary.

use std::sync::Arc;

use warp::filters::BoxedFilter;
use warp::http::{HeaderValue, header};
use warp::reply::Response;
use warp::{Filter, Rejection};

use crate::http::App;

/// Scripts and styles only from here, connections only to here, nothing inline: a row that holds HTML stays text even
/// if a bug should ever put it into the page. Who may frame it is configured.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors ";

/// Name in the address, media type and text.
type File = (&'static str, &'static str, &'static str);

macro_rules! file {
    ($name:literal, $kind:expr) => {
        file!($name, $kind, $name)
    };
    ($name:literal, $kind:expr, $source:literal) => {
        (
            $name,
            $kind,
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/web/dashboard/",
                $source
            )),
        )
    };
}

const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

const FILES: &[File] = &[
    file!("index.html", HTML),
    file!("add-filter.js", JS),
    file!("api.js", JS),
    file!("app.js", JS),
    file!("arrange.js", JS),
    file!("arranging.js", JS),
    file!("bins.js", JS),
    file!("cells.js", JS),
    file!("chart.js", JS),
    file!("connect.js", JS),
    file!("copy.js", JS),
    file!("counts.js", JS),
    file!("detail.js", JS),
    file!("empty.js", JS),
    file!("export.js", JS),
    file!("feed-list.js", JS),
    file!("filters.js", JS),
    file!("grid-head.js", JS),
    file!("health.js", JS),
    file!("keys.js", JS),
    file!("layout.js", JS),
    file!("measure.js", JS),
    file!("notices.js", JS),
    file!("place.js", JS),
    file!("popover.js", JS),
    file!("profile.js", JS),
    file!("pulse.js", JS),
    file!("row-element.js", JS),
    file!("rows.js", JS),
    file!("snippets.js", JS),
    file!("stream.js", JS),
    file!("table.js", JS),
    file!("test-event.js", JS),
    file!("theme.js", JS),
    file!("tiles.js", JS),
    file!("token.js", JS),
    file!("value-menu.js", JS),
    file!("values.js", JS),
    file!("view-menu.js", JS),
    file!("view.js", JS),
    file!("controls.css", CSS),
    file!("rows.css", CSS),
    file!("sheets.css", CSS),
    file!("style.css", CSS),
    file!("favicon.svg", SVG),
    file!("uplot.js", JS, "vendor/uPlot/uPlot.iife.min.js"),
    file!("uplot.css", CSS, "vendor/uPlot/uPlot.min.css"),
    file!("uplot-licence.txt", TEXT, "vendor/uPlot/LICENSE"),
];

/// Returns whether one of the files is at this path.
pub(super) fn is_file(path: &str) -> bool {
    path.strip_prefix("/dashboard/")
        .is_some_and(|name| FILES.iter().any(|(file, _, _)| *file == name))
}

/// `/` and `/dashboard/<file>`.
pub(super) fn files(app: &Arc<App>) -> BoxedFilter<(Response,)> {
    let app = Arc::clone(app);
    let index = warp::path::end().map(|| "index.html".to_owned());
    let file = warp::path!("dashboard" / String);
    let get = warp::get().or(warp::head()).unify();
    index
        .or(file)
        .unify()
        .and_then(find)
        .and(get)
        .map(move |file| serve(file, &app.access.lock().frame_ancestors))
        .boxed()
}

async fn find(name: String) -> Result<&'static File, Rejection> {
    FILES
        .iter()
        .find(|(file, _, _)| *file == name)
        .ok_or_else(warp::reject::not_found)
}

fn serve((_, kind, text): &'static File, frame_ancestors: &str) -> Response {
    let mut response = Response::new((*text).into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // Origins of the configuration are ASCII, and so always a valid header.
    if let Ok(policy) = HeaderValue::from_str(&format!("{POLICY}{frame_ancestors}")) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    // A new version of the daemon brings new files under the same names.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
