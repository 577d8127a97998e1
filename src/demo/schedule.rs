//! The schedule of faults, drawn from a seed. Only the source and the comparer read it; the daemon never does.

use std::fmt;
use std::ops::Range;

/// What is done to a demo stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The picture stands still (frozen before encoding).
    Freeze,
    /// The picture is black.
    Black,
    /// The sound is silent.
    Silence,
    /// Packets of the picture are lost.
    TsLoss,
    /// Bits inside the picture's packets are flipped; no packet is lost.
    BitFlips,
    /// The multiplexer stamps sound 200 ms too early.
    AudioEarly,
    /// The multiplexer stamps sound 200 ms too late.
    AudioLate,
    /// The playlist no longer changes.
    PlaylistStall,
    /// Segments answer 404 while the playlist lives.
    Segments404,
    /// The picture changes size: not a defect, and must not be taken for one.
    SizeChange,
}

impl Fault {
    /// Defects that prove that the fault was found, as `detector/rule`; empty when none may be raised.
    pub fn proofs(self) -> &'static [&'static str] {
        match self {
            Fault::Freeze => &["freeze/frozen"],
            Fault::Black => &["black/black"],
            Fault::Silence => &["silence/silent"],
            Fault::TsLoss | Fault::BitFlips => {
                &["block_damage/visible_damage", "block_damage/severe_damage"]
            }
            Fault::AudioEarly => &[
                "av_timing/audio_early",
                "av_timing/audio_early_unacceptable",
            ],
            Fault::AudioLate => &["av_timing/audio_late", "av_timing/audio_late_unacceptable"],
            Fault::PlaylistStall | Fault::Segments404 => &["loss/no_input"],
            Fault::SizeChange => &[],
        }
    }

    /// Detectors whose defects are an honest consequence of the fault, so that they are not counted as false:
    /// lost packets do leave holes in the timeline, a lost input does too.
    pub fn consequences(self) -> &'static [&'static str] {
        match self {
            Fault::TsLoss | Fault::BitFlips => {
                &["block_damage", "av_timing", "freeze", "stutter", "ts"]
            }
            Fault::AudioEarly | Fault::AudioLate => &["av_timing"],
            Fault::PlaylistStall | Fault::Segments404 => &["loss", "av_timing", "manifest"],
            Fault::Freeze | Fault::Black | Fault::Silence | Fault::SizeChange => &[],
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Freeze => "freeze",
            Fault::Black => "black",
            Fault::Silence => "silence",
            Fault::TsLoss => "packet loss",
            Fault::BitFlips => "bit flips",
            Fault::AudioEarly => "audio 200 ms early",
            Fault::AudioLate => "audio 200 ms late",
            Fault::PlaylistStall => "playlist stall",
            Fault::Segments404 => "segments 404",
            Fault::SizeChange => "size change",
        })
    }
}

/// How a demo stream is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// HLS over HTTP.
    Hls,
    /// SRT, the source listens.
    Srt,
    /// MPEG-TS in UDP.
    Udp,
}

impl Delivery {
    /// All deliveries.
    pub const ALL: [Delivery; 3] = [Delivery::Hls, Delivery::Srt, Delivery::Udp];

    /// Stream id in the demo.
    pub fn id(self) -> &'static str {
        match self {
            Delivery::Hls => "demo-hls",
            Delivery::Srt => "demo-srt",
            Delivery::Udp => "demo-udp",
        }
    }

    /// Faults that this delivery shows in every loop.
    fn faults(self) -> &'static [Fault] {
        match self {
            Delivery::Hls => &[
                Fault::Freeze,
                Fault::Silence,
                Fault::PlaylistStall,
                Fault::Segments404,
                Fault::AudioLate,
            ],
            Delivery::Srt => &[
                Fault::Black,
                Fault::Freeze,
                Fault::BitFlips,
                Fault::AudioEarly,
                Fault::SizeChange,
                Fault::Silence,
            ],
            Delivery::Udp => &[
                Fault::TsLoss,
                Fault::BitFlips,
                Fault::Silence,
                Fault::Black,
                Fault::AudioLate,
                Fault::SizeChange,
                Fault::Freeze,
            ],
        }
    }
}

/// One planned fault, in seconds of source time.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// What.
    pub fault: Fault,
    /// From when to when.
    pub span_secs: Range<f64>,
    /// Seed of the fault's own randomness.
    pub seed: u64,
}

/// The plan of one stream for one loop.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How the stream is delivered.
    pub delivery: Delivery,
    /// Faults in order, apart from each other.
    pub faults: Vec<Planned>,
    /// Length of the loop in seconds of source time.
    pub loop_secs: f64,
}

/// Clean seconds before the first fault: HLS has its first playlist after some 7 s, then baselines are learned.
const LEAD_SECS: f64 = 18.0;
/// Clean seconds after each fault: it must be seen to end.
const REST_SECS: f64 = 8.0;

impl Plan {
    /// Draws a loop of one stream.
    pub fn draw(delivery: Delivery, seed: u64) -> Self {
        let mut random =
            fastrand::Rng::with_seed(seed ^ (delivery as u64 + 1).wrapping_mul(0x9E37_79B9));
        let mut order = delivery.faults().to_vec();
        random.shuffle(&mut order);
        let mut at = LEAD_SECS + random.f64();
        let mut faults = Vec::with_capacity(order.len());
        for fault in order {
            let (shortest, longest) = match fault {
                Fault::PlaylistStall | Fault::Segments404 => (18.0, 20.0),
                Fault::AudioEarly | Fault::AudioLate => (8.0, 10.0),
                Fault::TsLoss | Fault::BitFlips => (2.0, 3.0),
                Fault::Silence => (5.0, 7.0),
                Fault::Freeze | Fault::Black | Fault::SizeChange => (4.0, 6.0),
            };
            let end = at + shortest + random.f64() * (longest - shortest);
            faults.push(Planned {
                fault,
                span_secs: at..end,
                seed: random.u64(..),
            });
            // What a lost input leaves behind takes longer to settle than a glitch.
            let rest = if shortest > 10.0 {
                2.0 * REST_SECS
            } else {
                REST_SECS
            };
            at = end + rest + random.f64();
        }
        Self {
            delivery,
            faults,
            loop_secs: at + REST_SECS,
        }
    }

    /// The fault active at this source time.
    pub fn active(&self, at_secs: f64) -> Option<&Planned> {
        self.faults.iter().find(|p| p.span_secs.contains(&at_secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loop_shows_every_fault_of_its_delivery_apart_from_each_other() {
        for seed in 0..50 {
            for delivery in Delivery::ALL {
                let plan = Plan::draw(delivery, seed);
                assert_eq!(plan.faults.len(), delivery.faults().len());
                assert!(plan.faults[0].span_secs.start >= LEAD_SECS);
                for pair in plan.faults.windows(2) {
                    assert!(pair[0].span_secs.end + REST_SECS <= pair[1].span_secs.start);
                }
            }
        }
    }

    #[test]
    fn a_seed_gives_its_plan_again_and_another_seed_another() {
        assert_eq!(Plan::draw(Delivery::Udp, 7), Plan::draw(Delivery::Udp, 7));
        assert_ne!(Plan::draw(Delivery::Udp, 7), Plan::draw(Delivery::Udp, 8));
    }
}
