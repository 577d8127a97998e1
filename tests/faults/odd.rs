//! What is odd without being a defect: nobody is told.

use std::time::Duration;

use crate::origin::Origin;
use crate::relay::Relay;
use crate::watch::{Odd, Watch, run};

/// Between two resets of a connection.
const RESET_EVERY: Duration = Duration::from_secs(5);
/// Resets in all.
const RESETS: usize = 4;

#[test]
fn jumps_discontinuities_and_resets_are_nobodys_alert() {
    run(async {
        let origin = Origin::new();
        let (address, _serving) = origin.serve(0).await;
        let steady = Origin::new();
        let (behind, _serving) = steady.serve(0).await;
        let relay = Relay::to(behind.port());
        let odd = |id, shows, excused| Odd { id, shows, excused };
        // Where lists contradict those before, the playlist checks say so; nobody is woken, and nothing is seen or heard.
        let odd = [
            odd("discontinuities", 1.0, &["sequence_error"]),
            // Spliced where a picture ends, which is hardly where a block of sound does: pieces of it are missing.
            odd("unmarked-jumps", 1.0, &["audio_gap", "sequence_error"]),
            odd(
                "sequence-jump",
                1.0,
                &["sequence_error", "segments_missing"],
            ),
            odd(
                "sequence-reset",
                1.0,
                &["sequence_error", "segments_missing"],
            ),
            // The picture in which a connection breaks off is damaged.
            odd("resets", 0.6, &["visible_damage", "severe_damage"]),
        ];
        let mut streams = String::new();
        for Odd { id, .. } in &odd[..4] {
            streams += &format!("  - {{id: {id}, url: \"http://{address}/{id}/live.m3u8\"}}\n");
        }
        streams += &format!(
            "  - {{id: resets, url: \"http://127.0.0.1:{}/resets/live.ts\"}}\n",
            relay.port
        );
        let watch = Watch::start(&streams).await;
        let before = relay.taken();
        watch
            .endure(&odd, async || {
                origin.set_broken(true);
                for _ in 0..RESETS {
                    tokio::time::sleep(RESET_EVERY).await;
                    relay.reset();
                }
                tokio::time::sleep(RESET_EVERY).await;
            })
            .await;
        // One attempt after each reset suffices; a failing one may be followed by another.
        let attempts = relay.taken() - before;
        assert!(
            (RESETS..=3 * RESETS).contains(&attempts),
            "{attempts} attempts"
        );
    });
}
