//! The page, and what is there without scripts: a table of streams, the pages of sets of stills.

use std::cmp::Reverse;
use std::fmt::Write as _;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use detectors::base::Severity;

use crate::evidence::relative_dir;
use crate::lane::{State, Status};
use crate::notify::event::{Epoch, clean, rfc3339_millis};
use crate::telemetry::export::Watched;

/// The page, which holds no data: a script draws it from the API. Nothing is loaded from elsewhere.
const FILES: &[(&str, &str, &str)] = &[
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "/page/page.css",
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    ),
    (
        "/page/page.js",
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    ),
    (
        "/page/icon.svg",
        "image/svg+xml",
        include_str!("page/icon.svg"),
    ),
];

/// A file of the page.
pub(super) async fn file(uri: Uri) -> Response {
    match FILES.iter().find(|(path, ..)| *path == uri.path()) {
        Some((_, kind, text)) => {
            ([(CONTENT_TYPE, HeaderValue::from_static(kind))], *text).into_response()
        }
        None => super::problem(StatusCode::NOT_FOUND, "no such page"),
    }
}

/// Text for HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// State as shape and word; the colour only repeats it.
fn shape(state: State) -> &'static str {
    match state {
        State::Connecting => "◌",
        State::Running => "●",
        State::Degraded => "▲",
        State::Down => "✖",
        State::Ended => "■",
    }
}

/// The colour of a state.
fn class(state: State) -> &'static str {
    match state {
        State::Connecting | State::Ended => "dim",
        State::Running => "good",
        State::Degraded => "warning",
        State::Down => "critical",
    }
}

/// Streams with trouble first, then by id.
fn rank(status: &Status) -> u8 {
    match status.state {
        State::Down => 0,
        State::Degraded => 1,
        State::Connecting => 2,
        State::Running => 3,
        State::Ended => 4,
    }
}

/// One table of streams, readable without scripts, colours or a mouse.
pub(super) fn plain(instance: &str, watched: &[Watched], epoch: Epoch) -> String {
    let mut rows: Vec<&Status> = watched.iter().map(|(status, _)| status).collect();
    rows.sort_by(|a, b| (rank(a), &a.stream.id).cmp(&(rank(b), &b.stream.id)));
    let trouble = rows.iter().filter(|s| rank(s) < 2).count();
    let now = rfc3339_millis(epoch.utc(crate::ingest::clock::now()));
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"5\"><title>{trouble} in trouble · Glasswatch</title>\
         <link rel=\"stylesheet\" href=\"/page/page.css\"></head><body><main><h1>Glasswatch</h1>\
         <p>Instance {}. <a href=\"/api/v1/defects?open=true\">Open defects</a> · \
         <a href=\"/api/v1/defects\">Recent events</a> · <a href=\"/api/v1/streams\">Streams (JSON)</a> · \
         <a href=\"/metrics\">Metrics</a> · <a href=\"/readyz\">Readiness</a> · \
         <a href=\"/version\">Version</a></p>\
         <table><caption>{} streams, {trouble} in trouble, at {now}</caption><thead><tr>\
         <th scope=\"col\">State</th><th scope=\"col\">Stream</th><th scope=\"col\">Tracks</th>\
         <th scope=\"col\">Open defects</th></tr></thead><tbody>",
        escape(instance),
        rows.len(),
    );
    for status in rows {
        row(&mut out, status);
    }
    out.push_str("</tbody></table></main></body></html>\n");
    out
}

fn row(out: &mut String, status: &Status) {
    let id = escape(&status.stream.id);
    let state = status.state.as_str();
    let cause = status
        .cause
        .map_or(String::new(), |c| format!(" ({})", c.as_str()));
    let name = match status.stream.labels.get("name") {
        Some(name) => format!(" <span class=\"dim\">{}</span>", escape(name)),
        None => String::new(),
    };
    let tracks: Vec<_> = status
        .tracks
        .iter()
        .map(|t| {
            let member = t.info.member.as_deref().map(escape).unwrap_or_default();
            format!("{} {} {member}", t.info.track, escape(&t.info.codec))
        })
        .collect();
    let mut worst_first: Vec<_> = status.defects.iter().collect();
    worst_first.sort_by_key(|d| Reverse(d.severity));
    let defects: Vec<_> = worst_first
        .into_iter()
        .map(|d| {
            let stills = match status.stream.evidence && d.severity >= Severity::Warning {
                true => format!(
                    " <a href=\"/api/v1/{}\">evidence</a>",
                    escape(&relative_dir(d).display().to_string())
                ),
                false => String::new(),
            };
            let member = match &d.member {
                Some(member) => format!(" [{}]", escape(member)),
                None => String::new(),
            };
            format!(
                "{}{member}: {}{stills}",
                d.severity.as_str(),
                escape(&d.says)
            )
        })
        .collect();
    let defects = match defects.is_empty() {
        true => "none".to_owned(),
        false => defects.join("<br>"),
    };
    let _ = write!(
        out,
        "<tr><td class=\"word {}\"><span aria-hidden=\"true\">{}</span> {state}{cause}</td>\
         <th scope=\"row\"><a href=\"/api/v1/streams/{id}\">{id}</a>{name}</th>\
         <td>{}</td><td>{defects}</td></tr>",
        class(status.state),
        shape(status.state),
        tracks.join("<br>"),
    );
}

/// The page of one set of evidence: `set` is its path below the evidence folder, `names` are its files.
pub(super) fn evidence(set: &str, names: &[String], query: Option<&str>) -> String {
    let query = query.map_or_else(String::new, |query| escape(&format!("?{query}")));
    let set = escape(set.trim_end_matches('/'));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{set}</title>\
         <link rel=\"stylesheet\" href=\"/page/page.css\"></head><body><main>\
         <h1>{set}</h1>"
    );
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_by_key(|name| showing(name));
    for name in sorted {
        let what = showing(name);
        let name = escape(name);
        let link = format!("/api/v1/evidence/{set}/{name}{query}");
        // Writing to a String cannot fail.
        let _ = match what {
            Showing::Clip => write!(
                out,
                "<figure><figcaption>The input as it came: <a href=\"{link}\">{name}</a></figcaption>\
                 <video controls preload=\"metadata\" src=\"{link}\"></video></figure>"
            ),
            Showing::Image => write!(
                out,
                "<figure><figcaption>{name}</figcaption><img src=\"{link}\" alt=\"{name}\"></figure>"
            ),
            Showing::Numbers => write!(out, "<p><a href=\"{link}\">{name}</a></p>"),
        };
    }
    out + "</main></body></html>"
}

/// How a file of a set is shown; in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Showing {
    Clip,
    Image,
    Numbers,
}

fn showing(name: &str) -> Showing {
    match name.rsplit('.').next() {
        Some("mp4" | "webm" | "mkv") => Showing::Clip,
        Some("json") => Showing::Numbers,
        _ => Showing::Image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_text_cannot_become_markup() {
        assert_eq!(
            escape("<script>alert('x')&\"\u{7}"),
            "&lt;script&gt;alert(&#39;x&#39;)&amp;&quot;"
        );
    }

    #[test]
    fn every_state_has_a_shape_of_its_own_and_a_colour() {
        for state in State::ALL {
            let style = FILES[1].2;
            assert!(style.contains(&format!(".{} {{", class(state))));
            let twins = State::ALL.iter().filter(|s| shape(**s) == shape(state));
            assert_eq!(twins.count(), 1);
        }
    }
}
