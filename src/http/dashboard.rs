//! The dashboard at `/`, embedded in the binary.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, HeaderValue, header};
use warp::reply::Response;
use warp::{Filter, Rejection};

use crate::http::state::App;
use crate::http::static_file::StaticFile;

/// Scripts and styles only from here, connections only to here, nothing inline: a row that holds HTML stays text even
/// if a bug should ever put it into the page. Who may frame it is configured.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors ";

/// Name in the address, media type and text.
type Source = (&'static str, &'static str, &'static str);

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

const SOURCES: &[Source] = &[
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
    file!("feed-shape.js", JS),
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
    file!("sinks.js", JS),
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

/// The files by their names.
static FILES: LazyLock<HashMap<&str, StaticFile>> = LazyLock::new(|| {
    let sources = SOURCES.iter();
    let named = sources.map(|(name, kind, text)| (*name, StaticFile::new(kind, text)));
    named.collect()
});

/// Returns whether one of the files is at this path.
pub(super) fn is_file(path: &str) -> bool {
    path.strip_prefix("/dashboard/")
        .is_some_and(|name| FILES.contains_key(name))
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
        .and(warp::header::headers_cloned())
        .map(move |file, asked| serve(file, &asked, &app))
        .boxed()
}

async fn find(name: String) -> Result<&'static StaticFile, Rejection> {
    FILES.get(name.as_str()).ok_or_else(warp::reject::not_found)
}

fn serve(file: &StaticFile, asked: &HeaderMap, app: &App) -> Response {
    let mut response = file.answer(asked, app.compression.smallest());
    let headers = response.headers_mut();
    // Origins of the configuration are ASCII, and so always a valid header.
    let frame_ancestors = &app.access.lock().frame_ancestors;
    if let Ok(policy) = HeaderValue::from_str(&format!("{POLICY}{frame_ancestors}")) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}
