//! HLS: a dozen origins that fail at once, beside one that does not.

use std::time::Duration;

use detectors::base::Cause;

use crate::origin::Origin;
use crate::watch::{Case, Watch, run};

/// 1.5 target durations + 2 s, of one second each.
const SHOWN_WITHIN: Duration = Duration::from_millis(3500);
/// Three target durations, but never before it is shown.
const PAGED_WITHIN: Duration = Duration::from_millis(3500);

fn case(id: &'static str, causes: &'static [Cause]) -> Case {
    Case {
        id,
        causes,
        shown_within: SHOWN_WITHIN,
        paged_within: PAGED_WITHIN,
        never_worked: false,
    }
}

#[test]
fn failing_origins_are_named_paged_and_outlived() {
    run(async {
        let cases = [
            case("not-found", &[Cause::HttpNotFound]),
            case("server-error", &[Cause::HttpServerError]),
            case("playlist-gone", &[Cause::HttpNotFound]),
            case("frozen-playlist", &[Cause::PlaylistStalled]),
            case("silent-server", &[Cause::Timeout]),
            case("endless-playlist", &[Cause::TooLarge]),
            case("endless-segment", &[Cause::TooLarge]),
            case("file-url", &[Cause::SchemeRefused]),
            case("redirect-loop", &[Cause::RedirectRefused]),
            case("missing-key", &[Cause::EncryptedNoKey]),
            case("wrong-key", &[Cause::EncryptedNoKey]),
            case("truncated", &[Cause::Undecodable]),
            case("cut-in-picture", &[Cause::NoAudio, Cause::Undecodable]),
            case("web-page", &[Cause::Undecodable]),
            case("refused", &[Cause::ConnectFailed]),
        ];
        let origin = Origin::new();
        let (address, _serving) = origin.serve(0).await;
        let (of_refused, refusing) = origin.serve(0).await;
        let mut streams = String::new();
        for id in cases.iter().map(|c| c.id).chain(["healthy"]) {
            let address = if id == "refused" { of_refused } else { address };
            streams += &format!("  - {{id: {id}, url: \"http://{address}/{id}/live.m3u8\"}}\n");
        }
        let watch = Watch::start(&streams).await;
        let break_them = async || {
            origin.set_broken(true);
            refusing.abort();
        };
        let mend_them = async || {
            origin.set_broken(false);
            origin.serve(of_refused.port()).await;
        };
        watch
            .prove(&cases, &["healthy"], break_them, mend_them)
            .await;
    });
}
