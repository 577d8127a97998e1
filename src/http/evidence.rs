//! Serves evidence: plain files that lie in the evidence folder, and a page for each set of them.

use std::fs::File;
use std::io::SeekFrom;
use std::path::{Component, Path, PathBuf};

use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::header::{
    ACCEPT, ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::stream::unfold;
use jiff::Timestamp;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncSeekExt, Take};

use super::guard::Linked;
use super::{Shared, page, problem};
use crate::evidence::upload::media_type;
use crate::notify::links::LinkError;

/// Largest file that is served.
const FILE_BYTES: u64 = 256 << 20;
/// A file is handed on in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;
/// A drawing may style itself, and nothing else.
const DRAWING_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// Where it is served.
pub(super) const ROUTE: &str = "/api/v1/evidence/{*path}";

/// What people said is not for whoever has a link.
const NOT_LINKED: &str = "feedback.json";

/// A file, a part of a file, or the page of a set.
pub(super) async fn serve(
    State(source): Shared,
    UrlPath(path): UrlPath<String>,
    linked: Option<Extension<Linked>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let gone = || problem(StatusCode::NOT_FOUND, "no such evidence");
    let found = file_path(&path);
    let query = match linked {
        None => None,
        Some(Extension(Linked)) => {
            let set = match &found {
                Some(_) => path.rsplit_once('/').map_or("", |(set, _)| set),
                None => path.as_str(),
            };
            let refused = |error: LinkError| problem(StatusCode::FORBIDDEN, &error.to_string());
            let Some(links) = source.links() else {
                return refused(LinkError::Wrong);
            };
            let query = uri.query().unwrap_or_default();
            match links.check(set, query, Timestamp::now()) {
                Ok(expires) => Some(links.query(set, expires)),
                Err(error) => return refused(error),
            }
        }
    };
    let hidden = |name: &str| query.is_some() && name == NOT_LINKED;
    let Some(folder) = source.evidence().folder else {
        return gone();
    };
    let Some((file, kind)) = found else {
        let Some(set) = set_path(&path) else {
            return gone();
        };
        let names = move || names_inside(&folder, &set).unwrap_or_default();
        let Ok(mut names) = tokio::task::spawn_blocking(names).await else {
            return gone();
        };
        names.retain(|name| !hidden(name));
        return match () {
            () if names.is_empty() => gone(),
            () if wants_json(&headers) => {
                Json(json!({ "set": path, "files": names })).into_response()
            }
            () => Html(page::evidence(&path, &names, query.as_deref())).into_response(),
        };
    };
    if file
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(hidden)
    {
        return gone();
    }
    let opened = tokio::task::spawn_blocking(move || open_inside(&folder, &file)).await;
    let Ok(Some((file, length))) = opened else {
        return gone();
    };
    // Without validators a range under a condition is none.
    let asked = headers
        .get(RANGE)
        .filter(|_| !headers.contains_key(IF_RANGE));
    let wanted = asked
        .and_then(|value| value.to_str().ok())
        .map_or(Wanted::All, |text| range(text, length));
    answer(file.into(), kind, length, wanted).await
}

async fn answer(
    mut file: tokio::fs::File,
    kind: &'static str,
    length: u64,
    wanted: Wanted,
) -> Response {
    let number =
        |name: HeaderName, text: String| HeaderValue::from_str(&text).ok().map(|v| (name, v));
    let (status, from, bytes, place) = match wanted {
        Wanted::All => (StatusCode::OK, 0, length, None),
        Wanted::Part(from, to) => (
            StatusCode::PARTIAL_CONTENT,
            from,
            to - from + 1,
            Some(format!("bytes {from}-{to}/{length}")),
        ),
        Wanted::Nowhere => (
            StatusCode::RANGE_NOT_SATISFIABLE,
            0,
            0,
            Some(format!("bytes */{length}")),
        ),
    };
    if from > 0 && file.seek(SeekFrom::Start(from)).await.is_err() {
        return problem(StatusCode::NOT_FOUND, "no such evidence");
    }
    let mut answer = Response::new(Body::from_stream(unfold(file.take(bytes), piece)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.extend(number(CONTENT_LENGTH, bytes.to_string()));
    headers.extend(place.and_then(|place| number(CONTENT_RANGE, place)));
    if kind == "image/svg+xml" {
        let policy = HeaderValue::from_static(DRAWING_POLICY);
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

type Piece = std::io::Result<Vec<u8>>;

/// The next piece of a file.
async fn piece(mut file: Take<tokio::fs::File>) -> Option<(Piece, Take<tokio::fs::File>)> {
    let mut bytes = Vec::with_capacity(PIECE_BYTES);
    match file.read_buf(&mut bytes).await {
        Ok(0) => None,
        Ok(_) => Some((Ok(bytes), file)),
        Err(error) => Some((Err(error), file)),
    }
}

/// What a request wants of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    /// First and last byte.
    Part(u64, u64),
    /// Something that is not there.
    Nowhere,
}

/// Reads a `Range` of one part (RFC 9110, 14.1.2); what makes no sense, and several parts, count as none.
fn range(text: &str, length: u64) -> Wanted {
    let number = |digits: &str| {
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok()).flatten()
    };
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|t| t.split_once('-')) else {
        return Wanted::All;
    };
    let (from, to) = match (number(first), number(last)) {
        (Some(from), Some(to)) if from <= to => (from, to.min(length.saturating_sub(1))),
        (Some(from), None) if last.is_empty() => (from, length.saturating_sub(1)),
        (None, Some(0)) if first.is_empty() => return Wanted::Nowhere,
        (None, Some(n)) if first.is_empty() => (length.saturating_sub(n), length.saturating_sub(1)),
        _ => return Wanted::All,
    };
    match from < length {
        true => Wanted::Part(from, to),
        false => Wanted::Nowhere,
    }
}

/// Whether a client asks for JSON by name. Browsers that open a page do not.
fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("application/json"))
}

/// A relative path of plain, visible names that ends in a known kind of file.
fn file_path(text: &str) -> Option<(PathBuf, &'static str)> {
    let path = set_path(text)?;
    let kind = media_type(path.file_name()?.to_str()?)?;
    Some((path, kind))
}

/// A relative path of plain, visible names.
fn set_path(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let plain = |part: Component<'_>| match part {
        Component::Normal(name) => name
            .to_str()
            .is_some_and(|n| !n.starts_with('.') && !n.contains(['\\', '\0', ':'])),
        _ => false,
    };
    path.components().all(plain).then(|| path.to_owned())
}

/// Names of the files that are served in a folder that really lies inside `folder`, sorted.
fn names_inside(folder: &Path, path: &Path) -> Option<Vec<String>> {
    let folder = folder.canonicalize().ok()?;
    let set = folder.join(path).canonicalize().ok()?;
    if !set.starts_with(&folder) {
        return None;
    }
    let mut names: Vec<String> = std::fs::read_dir(set)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| file_path(name).is_some())
        .collect();
    names.sort();
    Some(names)
}

/// Opens a regular file that really lies inside `folder`, links resolved; tells its length.
fn open_inside(folder: &Path, path: &Path) -> Option<(File, u64)> {
    let folder = folder.canonicalize().ok()?;
    let file = folder.join(path).canonicalize().ok()?;
    if !file.starts_with(&folder) {
        return None;
    }
    let file = File::open(file).ok()?;
    let meta = file.metadata().ok()?;
    let fits = meta.is_file() && meta.len() <= FILE_BYTES;
    fits.then_some((file, meta.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_plain_relative_files_have_a_path() {
        for bad in [
            "../secret.jpg",
            "a/../../b.jpg",
            "/etc/x.jpg",
            ".hidden/a.jpg",
            "a/.b.png",
            "a.txt",
            "a",
            "",
            "a\\..\\b.jpg",
            "a\0.jpg",
            "./a.jpg/..",
            "config.yaml",
        ] {
            assert!(file_path(bad).is_none(), "{bad:?}");
        }
        assert_eq!(
            file_path("news1/2026-03-01_frozen/first.jpg").unwrap().1,
            "image/jpeg"
        );
    }

    #[test]
    fn links_do_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out.jpg"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(&outside, "secret").unwrap();
        std::fs::write(inside.join("a.jpg"), "still").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("b.jpg")).unwrap();
        assert_eq!(open_inside(&inside, Path::new("a.jpg")).unwrap().1, 5);
        assert!(open_inside(&inside, Path::new("b.jpg")).is_none());
        assert!(open_inside(&inside, Path::new("c.jpg")).is_none());
    }

    #[test]
    fn ranges_are_read_as_http_has_them() {
        let of = |text, length| range(text, length);
        assert_eq!(of("bytes=0-", 10), Wanted::Part(0, 9));
        assert_eq!(of("bytes=2-5", 10), Wanted::Part(2, 5));
        assert_eq!(of("bytes=2-500", 10), Wanted::Part(2, 9));
        assert_eq!(of("bytes=-3", 10), Wanted::Part(7, 9));
        assert_eq!(of("bytes=-30", 10), Wanted::Part(0, 9));
        for nowhere in ["bytes=10-", "bytes=-0", "bytes=12-13"] {
            assert_eq!(of(nowhere, 10), Wanted::Nowhere, "{nowhere}");
        }
        assert_eq!(of("bytes=0-", 0), Wanted::Nowhere);
        for odd in [
            "lines=0-1",
            "bytes=5-2",
            "bytes=0-1,3-4",
            "bytes=x-",
            "bytes=-",
            "bytes=+1-2",
        ] {
            assert_eq!(of(odd, 10), Wanted::All, "{odd}");
        }
    }
}
