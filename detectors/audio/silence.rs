//! Silence on all channels, or on one of them.
//!
//! Sound is measured in hops of 10 ms, cut from the decoded samples by count, so that the sizes of the decoder's
//! blocks change nothing. A hop is silent on a channel when its RMS without the mean (a DC offset cannot be
//! heard) is below the limit; a run of silence is back-dated to the sample after the last one that was louder
//! than the limit. Missing sound is not silence: only decoded samples count, and nothing is said when none come.

use std::time::Duration;

use crate::base::{
    Arrival, Basis, Cause, Cost, Descriptor, Detector, Fact, InputEvent, Limit, Media, MediaTime,
    Needs, OptionSpec, Reading, Reset, RuleSpec, Scope, Severity, Signal, Sink, Sound, Unit, Why,
};

/// Level of digital silence, and the lowest level told.
const FLOOR_DBFS: f64 = -120.0;
/// Hops a second.
const HOPS_PER_SEC: u32 = 100;
/// Hops between two emissions, and the window of `level_dbfs`: 100 ms.
const HOPS_PER_WINDOW: u32 = 10;
/// Longest run told, seconds.
const RUN_MAX_SECS: f64 = 1e7;
/// More channels or samples than this are not read.
const CHANNELS_MAX: usize = 64;
const RATE_MAX_HZ: u32 = 768_000;
/// Sound may stay away this long before nothing can be said, unless the source tells its patience.
const ABSENT_AFTER: Duration = Duration::from_secs(10);
/// Timestamps that differ from the sample count by more than this re-anchor it.
const ANCHOR_SLACK_SECS: f64 = 0.05;

static SIGNALS: [Signal; 3] = [
    Signal {
        name: "level_dbfs",
        unit: "dBFS",
        range: (FLOOR_DBFS, 0.0),
        basis: Basis::Media,
        help: "RMS level of the loudest channel over 100 ms, without DC; -120 is digital silence.",
    },
    Signal {
        name: "silent_secs",
        unit: "seconds",
        range: (0.0, RUN_MAX_SECS),
        basis: Basis::Media,
        help: "How long all channels have been silent.",
    },
    Signal {
        name: "channel_silent_secs",
        unit: "seconds",
        range: (0.0, RUN_MAX_SECS),
        basis: Basis::Media,
        help: "How long one channel has been silent, counting only time in which another was not.",
    },
];
static LEVEL: &Signal = &SIGNALS[0];
static SILENT: &Signal = &SIGNALS[1];
static CHANNEL_SILENT: &Signal = &SIGNALS[2];

/// Silence.
pub static DETECTOR: Descriptor = Descriptor {
    name: "silence",
    doc: "The sound is gone although the track is there: all channels are silent, or one channel is while others \
          are not. The LFE channel (the fourth of six or eight) may be silent, and so may any channel of a \
          surround track that was never heard.",
    needs: Needs {
        scope: Scope::AudioTrack,
        cost: Cost::Cheap,
        media: true,
    },
    signals: &SIGNALS,
    rules: &[
        RuleSpec {
            name: "silent",
            signal: "silent_secs",
            raise: Limit::AtLeast(3.0),
            clear: Limit::AtMost(1.0),
            hold: Duration::ZERO,
            release: Duration::from_secs(1),
            severity: Severity::Critical,
            cause: Cause::Silence,
            says: "Nothing can be heard.",
        },
        RuleSpec {
            name: "channel_silent",
            signal: "channel_silent_secs",
            raise: Limit::AtLeast(10.0),
            clear: Limit::AtMost(1.0),
            hold: Duration::ZERO,
            release: Duration::from_secs(2),
            severity: Severity::Warning,
            cause: Cause::ChannelSilent,
            says: "One channel of the sound is silent while others are not.",
        },
    ],
    // -60 dB is also the default of FFmpeg's silencedetect.
    options: &[OptionSpec {
        name: "silence_below_dbfs",
        default: -60.0,
        range: (-115.0, -20.0),
        help: "RMS level below which a channel counts as silent.",
    }],
    list: None,
    build: |options| {
        Box::new(Silence {
            limit: 10f64.powf(options.get("silence_below_dbfs") / 20.0),
            absent_after: ABSENT_AFTER,
            heard: None,
            track: None,
        })
    },
};

struct Silence {
    /// Limit as an amplitude of full scale 1.0.
    limit: f64,
    absent_after: Duration,
    /// When sound last came, or the first unit.
    heard: Option<Arrival>,
    track: Option<TrackState>,
}

/// One format's worth of state.
struct TrackState {
    channels: Vec<Channel>,
    rate_hz: u32,
    hop_frames: usize,
    /// Samples of the unfinished hop, interleaved; shorter than a hop.
    carry: Vec<f32>,
    /// Where the next sample is expected.
    next: Option<MediaTime>,
    /// Hops of the unfinished window.
    window_hops: u32,
    /// Of which hops that held no number at all.
    window_void: u32,
    /// Sums over one hop of each column of rows of samples, and of their squares.
    sums: Vec<f64>,
    squares: Vec<f64>,
}

#[derive(Default, Clone)]
struct Channel {
    /// Samples since the last loud one.
    run: u64,
    /// Samples of silence while another channel was not silent.
    alone: u64,
    alone_since: Option<MediaTime>,
    /// Whether it was ever loud.
    heard: bool,
    /// Mean square of this hop, without the mean.
    power: f64,
    /// Quiet samples at the end of this hop, when it is loud.
    tail: u64,
    /// Sum of hop powers over the unfinished window.
    window_power: f64,
}

impl Channel {
    fn loud(&self, limit: f64) -> bool {
        self.power >= limit * limit
    }
}

/// Full scale clips; not a number is nothing.
fn clean(x: f32) -> f64 {
    let x = if x.is_nan() { 0.0 } else { x };
    f64::from(x.clamp(-1.0, 1.0))
}

impl TrackState {
    fn new(channels: usize, rate_hz: u32) -> Self {
        // Rows wide enough to fill vector registers, and whole in channels.
        let width = channels * 32usize.div_ceil(channels);
        Self {
            channels: vec![Channel::default(); channels],
            rate_hz,
            hop_frames: (rate_hz / HOPS_PER_SEC).max(1) as usize,
            carry: Vec::new(),
            next: None,
            window_hops: 0,
            window_void: 0,
            sums: vec![0.0; width],
            squares: vec![0.0; width],
        }
    }

    fn span(&self, frames: u64) -> Duration {
        let nanos = u128::from(frames) * 1_000_000_000 / u128::from(self.rate_hz);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Seconds of a run; the quiet end of a loud hop is no run yet.
    fn secs(&self, frames: u64) -> f64 {
        if frames < self.hop_frames as u64 {
            return 0.0;
        }
        (frames as f64 / f64::from(self.rate_hz)).min(RUN_MAX_SECS)
    }

    fn push(&mut self, sound: &Sound<'_>, at: Option<MediaTime>, limit: f64, out: &mut Sink<'_>) {
        let jumped = match (self.next, at) {
            (Some(next), Some(at)) => at.secs_after(next).abs() > ANCHOR_SLACK_SECS,
            (next, at) => next.is_none() && at.is_some(),
        };
        if jumped {
            // What lies before a hole cannot be judged together with what follows.
            self.carry.clear();
        }
        // Follow the timestamps, so that rounding of either does not add up.
        self.next = at.or(self.next);
        let per_hop = self.hop_frames * self.channels.len();
        let mut carry = std::mem::take(&mut self.carry);
        // Media time of the end of the hop in hand.
        let first = self.hop_frames - carry.len() / self.channels.len();
        let mut end = self.next.map(|t| t.plus(self.span(first as u64)));
        let mut samples = sound.samples();
        if !carry.is_empty() {
            let (head, rest) = samples.split_at(samples.len().min(per_hop - carry.len()));
            carry.extend_from_slice(head);
            samples = rest;
            if carry.len() == per_hop {
                self.hop(&carry, end, limit, out);
                end = end.map(|t| t.plus(self.span(self.hop_frames as u64)));
                carry.clear();
            }
        }
        if carry.is_empty() {
            let hops = samples.chunks_exact(per_hop);
            carry.extend_from_slice(hops.remainder());
            for hop in hops {
                self.hop(hop, end, limit, out);
                end = end.map(|t| t.plus(self.span(self.hop_frames as u64)));
            }
        }
        self.carry = carry;
        let frames = sound.frames() as u64;
        self.next = self.next.map(|t| t.plus(self.span(frames)));
    }

    fn hop(&mut self, hop: &[f32], end: Option<MediaTime>, limit: f64, out: &mut Sink<'_>) {
        let void = self.measure(hop, limit);
        if void {
            self.window_void += 1;
        } else {
            self.judge(end, limit);
        }
        self.window_hops += 1;
        if self.window_hops == HOPS_PER_WINDOW {
            self.emit(end, out);
        }
    }

    /// Power and quiet tail of each channel; true when there was not one number.
    fn measure(&mut self, hop: &[f32], limit: f64) -> bool {
        let count = self.channels.len();
        self.sums.fill(0.0);
        self.squares.fill(0.0);
        for row in hop.chunks(self.sums.len()) {
            let columns = self.sums.iter_mut().zip(&mut self.squares);
            for ((sum, squares), x) in columns.zip(row) {
                let v = clean(*x);
                *sum += v;
                *squares += v * v;
            }
        }
        let frames = self.hop_frames as f64;
        for (c, channel) in self.channels.iter_mut().enumerate() {
            let total = |of: &[f64]| of.iter().skip(c).step_by(count).sum::<f64>();
            let mean = total(&self.sums) / frames;
            channel.power = (total(&self.squares) / frames - mean * mean).max(0.0);
            // Around the last sample, not the mean: that still holds the loud part.
            let last = hop.len().checked_sub(count - c).and_then(|i| hop.get(i));
            let last = last.map_or(0.0, |x| clean(*x));
            let column = hop.iter().skip(c).step_by(count).rev();
            let quiet = column.take_while(|x| (clean(**x) - last).abs() <= 2.0 * limit);
            channel.tail = if channel.loud(limit) {
                quiet.count() as u64
            } else {
                0
            };
            channel.window_power += channel.power;
        }
        hop.iter().all(|x| x.is_nan())
    }

    fn judge(&mut self, end: Option<MediaTime>, limit: f64) {
        let frames = self.hop_frames as u64;
        let surround = self.channels.len() > 2;
        let lfe = matches!(self.channels.len(), 6 | 8).then_some(3);
        let loud = |c: &Channel| c.loud(limit);
        let loud_count = self
            .channels
            .iter()
            .enumerate()
            .filter(|(i, c)| Some(*i) != lfe && loud(c))
            .count();
        let hop = self.span(frames);
        let rate_hz = u128::from(self.rate_hz);
        for (i, channel) in self.channels.iter_mut().enumerate() {
            let quiet = if loud(channel) {
                channel.run = channel.tail.min(frames - 1);
                channel.heard = true;
                channel.alone = 0;
                channel.alone_since = None;
                channel.run
            } else {
                channel.run += frames;
                frames
            };
            let others = loud_count > usize::from(loud(channel));
            let judged = Some(i) != lfe && (!surround || channel.heard);
            if judged && others && quiet > 0 {
                if channel.alone == 0 {
                    let nanos = u128::from(quiet) * 1_000_000_000 / rate_hz;
                    let quiet_span = u64::try_from(nanos).map_or(hop, Duration::from_nanos);
                    channel.alone_since = end.map(|t| t.minus(quiet_span));
                }
                channel.alone += quiet;
            }
        }
    }

    fn emit(&mut self, end: Option<MediaTime>, out: &mut Sink<'_>) {
        let hops = std::mem::take(&mut self.window_hops);
        let voids = std::mem::take(&mut self.window_void);
        let loudest = self
            .channels
            .iter_mut()
            .map(|c| std::mem::take(&mut c.window_power))
            .fold(0.0, f64::max);
        if voids == hops {
            for signal in &SIGNALS {
                out.put(signal, Reading::unmeasurable(Why::UnsupportedFormat));
            }
            return;
        }
        let power = loudest / f64::from(hops - voids);
        let level = 10.0 * power.max(1e-12).log10();
        out.put(LEVEL, Reading::measured(level.clamp(FLOOR_DBFS, 0.0)));

        let run = self.channels.iter().map(|c| c.run).min().unwrap_or(0);
        let since = end
            .filter(|_| self.secs(run) > 0.0)
            .map(|t| t.minus(self.span(run)));
        out.put(SILENT, Reading::measured(self.secs(run)).since(since));

        if self.channels.len() < 2 {
            let why = Why::NotApplicable;
            out.put(CHANNEL_SILENT, Reading::unmeasurable(why));
            return;
        }
        let longest = self.channels.iter().max_by_key(|c| c.alone);
        let (alone, since) = longest.map_or((0, None), |c| (c.alone, c.alone_since));
        let alone = self.secs(alone);
        let reading = Reading::measured(alone).since(since.filter(|_| alone > 0.0));
        out.put(CHANNEL_SILENT, reading);
    }
}

impl Silence {
    fn hear(&mut self, sound: &Sound<'_>, unit: &Unit<'_>, out: &mut Sink<'_>) {
        self.heard = Some(unit.at.arrival);
        let (channels, rate_hz) = (sound.channels(), sound.rate_hz());
        if channels > CHANNELS_MAX || rate_hz > RATE_MAX_HZ {
            self.track = None;
            for signal in &SIGNALS {
                out.put(signal, Reading::unmeasurable(Why::UnsupportedFormat));
            }
            return;
        }
        let same = |t: &TrackState| t.channels.len() == channels && t.rate_hz == rate_hz;
        self.track = self.track.take().filter(same);
        self.track
            .get_or_insert_with(|| TrackState::new(channels, rate_hz))
            .push(sound, unit.at.media, self.limit, out);
    }
}

impl Detector for Silence {
    fn observe(&mut self, unit: &Unit<'_>, out: &mut Sink<'_>) {
        let now = unit.at.arrival;
        let heard = *self.heard.get_or_insert(now);
        match unit.media {
            Media::Audio(sound) => self.hear(sound, unit, out),
            Media::Tick if now.since(heard) > self.absent_after => {
                for signal in &SIGNALS {
                    out.put(signal, Reading::unmeasurable(Why::NoTrack));
                }
            }
            Media::Fact(Fact::Input(InputEvent::Patience { visible_after, .. })) => {
                self.absent_after = *visible_after;
            }
            _ => {}
        }
    }

    fn reset(&mut self, _cause: Reset) {
        self.absent_after = ABSENT_AFTER;
        self.heard = None;
        self.track = None;
    }
}

#[cfg(test)]
#[path = "silence_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
