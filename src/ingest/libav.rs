//! GStreamer's log: FFmpeg's complaints become evidence, warnings go to ours, nothing goes to standard error.
//!
//! The decoder does not confess damage by flags or messages; it only writes lines such as
//! `concealing 120 DC, 120 AC, 120 MV errors in P frame` into the log category `libav`, without an object, but on
//! the thread that feeds the decoder. Each chain therefore names itself owner of its thread before a buffer is
//! decoded.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once, Weak};

use gstreamer as gst;

use super::appsink::Way;
use super::clock;

thread_local! {
    static OWNER: RefCell<Weak<Way>> = const { RefCell::new(Weak::new()) };
}

/// Log lines passed on per second, over all streams.
const LINES_PER_SEC: u64 = 5;

/// This thread now decodes for `way`.
pub(super) fn own(way: &Arc<Way>) {
    OWNER.with_borrow_mut(|owner| {
        if !std::ptr::eq(owner.as_ptr(), Arc::as_ptr(way)) {
            *owner = Arc::downgrade(way);
        }
    });
}

/// A decoder without a log of ours lost a picture on this thread and goes on with the next. `false` when nothing has
/// been decoded on its track: then nothing says that it ever will be.
pub(super) fn lost_picture() -> bool {
    let owner = OWNER.with_borrow(Weak::upgrade);
    let owner = owner.filter(|owner| owner.has_format());
    owner.map(|owner| owner.lose_picture()).is_some()
}

/// Takes over GStreamer's log, once.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::log::remove_default_log_function();
        gst::log::set_default_threshold(gst::DebugLevel::Warning);
        gst::log::set_threshold_for_name("libav", gst::DebugLevel::Info);
        // The function stays for the life of the process.
        let _ = gst::log::add_log_function(|category, level, _, _, _, _, message| {
            let Some(text) = message.get() else {
                return;
            };
            if category.name() == "libav" {
                let blocks = concealed(text.as_str());
                if (blocks.is_some() || level == gst::DebugLevel::Error)
                    && let Some(owner) = OWNER.with_borrow(Weak::upgrade)
                {
                    match blocks {
                        Some(blocks) => owner.complain(blocks),
                        None => owner.stumble(),
                    }
                }
            } else if matches!(level, gst::DebugLevel::Error | gst::DebugLevel::Warning)
                && allowed()
            {
                let (category, text) = (category.name(), without_urls(text.as_str()));
                tracing::debug!(target: "gstreamer", category, "{text}");
            }
        });
    });
}

/// Whether another line may be passed on this second.
fn allowed() -> bool {
    static SECOND: AtomicU64 = AtomicU64::new(0);
    static LINES: AtomicU64 = AtomicU64::new(0);
    let second = clock::now().nanos() / 1_000_000_000;
    if SECOND.swap(second, Ordering::Relaxed) != second {
        LINES.store(0, Ordering::Relaxed);
    }
    LINES.fetch_add(1, Ordering::Relaxed) < LINES_PER_SEC
}

/// Blocks that a line says were concealed or could not be decoded; `None` for other lines.
pub(super) fn concealed(line: &str) -> Option<u32> {
    let lower = line.to_ascii_lowercase();
    if let Some((_, rest)) = lower.split_once("concealing ") {
        let count = rest
            .split(|c: char| !c.is_ascii_digit())
            .find(|digits| !digits.is_empty())?;
        return count.parse::<u32>().ok().map(|n| n.max(1));
    }
    lower.contains("error while decoding mb").then_some(1)
}

/// The text with every URL cut out: URLs may carry passwords and tokens.
pub(super) fn without_urls(text: &str) -> String {
    text.split_whitespace()
        .map(|word| {
            if word.contains("://") || word.contains("passphrase") {
                "[url]"
            } else {
                word
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concealment_lines_are_counted_in_blocks() {
        let line = "concealing 120 DC, 118 AC, 119 MV errors in P frame";
        assert_eq!(concealed(line), Some(120));
        assert_eq!(
            concealed("error while decoding MB 12 40, bytestream -7"),
            Some(1)
        );
        assert_eq!(
            concealed("[h264 @ 0x1] Error while decoding MB 1 2"),
            Some(1)
        );
        assert_eq!(concealed("no frame!"), None);
        assert_eq!(concealed("concealing nothing"), None);
    }

    #[test]
    fn urls_never_pass() {
        assert_eq!(
            without_urls("open srt://user:pw@host:9?passphrase=x failed"),
            "open [url] failed"
        );
    }
}
