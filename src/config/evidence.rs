//! Where evidence goes besides the disk.

use std::time::Duration;

use super::check::Checker;
use super::checked::Secret;
use super::raw::Node;
use super::schema;

/// Most characters of a prefix of keys.
const PREFIX_CHARS: usize = 64;

/// `evidence:`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// The bucket that gets a copy, if any.
    pub s3: Option<S3>,
}

/// A bucket of Amazon S3; credentials come from where Amazon's tools look for them.
#[derive(Debug, Clone, PartialEq)]
pub struct S3 {
    /// Name.
    pub bucket: String,
    /// Region.
    pub region: String,
    /// What keys begin with, without a `/` at either end; may be empty.
    pub prefix: String,
    /// Endpoint, if not the region's own.
    pub endpoint: Option<Secret>,
    /// Deadline of one file.
    pub timeout: Duration,
    /// Whether private, link-local and loopback addresses may be called.
    pub allow_private: bool,
}

impl Checker<'_> {
    pub(super) fn evidence(&mut self, node: &Node) -> Evidence {
        let s = self.open(node, &[schema::EVIDENCE]);
        Evidence {
            s3: s.node.get("s3").and_then(|node| self.s3(node)),
        }
    }

    fn s3(&mut self, node: &Node) -> Option<S3> {
        let s = self.open(node, &[schema::S3]);
        self.needs_aws(node);
        for name in ["bucket", "region"] {
            if s.node.get(name).is_none() {
                self.missing(node, name, None);
            }
        }
        let timeout = self.span(s, "timeout").unwrap_or_default();
        let allow_private = self.flag(s, "allow_private");
        let prefix = self.text(s, "prefix").unwrap_or_default();
        let prefix = prefix.trim_matches('/').to_owned();
        let parts = prefix.split('/');
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let valid =
            |part: &str| !part.is_empty() && !matches!(part, "." | "..") && part.bytes().all(plain);
        let fits = prefix.len() <= PREFIX_CHARS && parts.clone().all(valid);
        if let Some(at) = s.node.get("prefix").filter(|_| !prefix.is_empty() && !fits) {
            let hint = "at most 64 of letters, digits, `-`, `_`, `.` and `/`".to_owned();
            self.wrong(at, "is no prefix of keys", hint);
        }
        let region = self.region(s);
        let endpoint = self.other_endpoint(s, allow_private);
        let bucket = self.text(s, "bucket")?;
        if !is_bucket(&bucket) {
            let hint = "3 to 63 of a-z, 0-9, `-` and `.`".to_owned();
            self.wrong(s.node.get("bucket")?, "is no name of a bucket", hint);
        }
        Some(S3 {
            bucket,
            region: region?,
            prefix,
            endpoint: endpoint?,
            timeout,
            allow_private,
        })
    }
}

fn is_bucket(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.bytes().all(|b| plain(b) || matches!(b, b'-' | b'.'))
        && name.bytes().next().is_some_and(plain)
        && name.bytes().next_back().is_some_and(plain)
}
