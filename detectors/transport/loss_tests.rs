use super::*;
use crate::base::{Gap, Sound, Stamp, Value};

struct Rig {
    detector: Box<dyn Detector>,
    /// Newest reading of the input, and of each track.
    input: Option<Reading>,
    tracks: BTreeMap<Track, Reading>,
}

impl Rig {
    fn new(options: &[(&str, f64)]) -> Self {
        let mut set = Options::defaults(DETECTOR.options);
        for (name, value) in options {
            set.set(name, *value).unwrap();
        }
        let mut rig = Self {
            detector: (DETECTOR.build)(&set),
            input: None,
            tracks: BTreeMap::new(),
        };
        rig.fact(
            0,
            Fact::Input(InputEvent::Patience {
                visible_after: Duration::from_secs(2),
                page_after: Duration::from_secs(6),
            }),
        );
        rig
    }

    fn unit(&mut self, ms: u64, track: Option<Track>, media: Media<'_>) {
        let at = Stamp {
            media: track.map(|_| MediaTime::from_millis(ms as i64)),
            arrival: Arrival::from_millis(ms),
            gap: Gap::None,
        };
        let (input, tracks) = (&mut self.input, &mut self.tracks);
        let mut emit = |signal: &'static Signal, track: Option<Track>, reading: Reading| match (
            signal.name,
            track,
        ) {
            ("input_overdue_ratio", None) => *input = Some(reading),
            ("track_overdue_ratio", Some(track)) => {
                tracks.insert(track, reading);
            }
            other => panic!("unexpected {other:?}"),
        };
        self.detector
            .observe(&Unit { at, track, media }, &mut Sink::new(&mut emit));
    }

    fn fact(&mut self, ms: u64, fact: Fact) {
        self.unit(ms, None, Media::Fact(&fact));
    }

    fn receiving(&mut self, ms: u64) {
        self.fact(ms, Fact::Input(InputEvent::Receiving));
    }

    fn failed(&mut self, ms: u64, cause: Cause) {
        self.fact(ms, Fact::Input(InputEvent::Failed { cause }));
    }

    fn announce(&mut self, ms: u64, tracks: &[(Track, Option<Cause>)]) {
        let infos = tracks.iter().map(|(track, problem)| TrackInfo {
            track: *track,
            codec: "x".to_owned(),
            language: None,
            problem: *problem,
            member: None,
        });
        self.fact(ms, Fact::Tracks(infos.collect()));
    }

    /// A decoded unit; sound stands for pictures too, the detector looks at the track only.
    fn decoded(&mut self, ms: u64, track: Track) {
        let sound = Sound::new(&[0.0], 1, 48_000).unwrap();
        self.unit(ms, Some(track), Media::Audio(&sound));
    }

    fn tick(&mut self, ms: u64) {
        self.unit(ms, None, Media::Tick);
    }

    fn input(&self) -> (f64, Option<Cause>) {
        read(self.input.as_ref().unwrap())
    }

    fn track(&self, track: Track) -> (f64, Option<Cause>) {
        read(&self.tracks[&track])
    }
}

fn read(reading: &Reading) -> (f64, Option<Cause>) {
    match reading.value {
        Value::Measured(value) => (value, reading.cause),
        Value::Unmeasurable(why) => panic!("unmeasurable: {why:?}"),
    }
}

const V: Track = Track::video(0);
const A: Track = Track::audio(0);

#[test]
fn overdue_input_grows_from_the_visible_limit_to_one_at_the_page_limit() {
    let mut rig = Rig::new(&[]);
    for (ms, want) in [
        (0, 0.0),
        (2000, 0.0),
        (3000, 0.5),
        (6000, 1.0),
        (12_000, 2.0),
    ] {
        rig.tick(ms);
        assert_eq!(rig.input().0, want, "at {ms} ms");
    }
    assert_eq!(rig.input().1, Some(Cause::NoInput));
    rig.receiving(13_000);
    rig.tick(13_100);
    assert_eq!(rig.input(), (0.0, None));
}

#[test]
fn the_newest_failure_since_the_last_byte_names_the_cause() {
    let mut rig = Rig::new(&[]);
    rig.receiving(1000);
    rig.failed(1500, Cause::HttpServerError);
    rig.failed(1900, Cause::HttpNotFound);
    assert_eq!(rig.input().0, 0.0, "within patience");
    rig.failed(5000, Cause::HttpNotFound);
    assert_eq!(rig.input(), (4.0 / 6.0, Some(Cause::HttpNotFound)));
    rig.receiving(5100);
    rig.tick(12_000);
    assert_eq!(
        rig.input().1,
        Some(Cause::NoInput),
        "older failures are forgotten"
    );
}

#[test]
fn a_track_that_stops_is_told_while_the_other_goes_on() {
    let mut rig = Rig::new(&[]);
    rig.announce(0, &[(V, None), (A, None)]);
    for ms in (0..=1000).step_by(100) {
        rig.decoded(ms, V);
        rig.decoded(ms, A);
    }
    for ms in (1100..=7000).step_by(100) {
        rig.decoded(ms, A);
    }
    rig.tick(7000);
    assert_eq!(rig.input().0, 0.0);
    assert_eq!(rig.track(V), (1.0, Some(Cause::NoVideo)));
    assert_eq!(rig.track(A), (0.0, None));
    assert_eq!(rig.tracks[&V].since, Some(MediaTime::from_millis(1000)));
}

#[test]
fn a_lost_input_is_told_once_and_not_on_its_tracks() {
    let mut rig = Rig::new(&[]);
    rig.announce(0, &[(V, None), (A, None)]);
    rig.decoded(1000, V);
    rig.decoded(1000, A);
    rig.tick(9000);
    assert_eq!(rig.input().0, 8.0 / 6.0);
    assert_eq!(rig.tracks[&V].value, Value::Unmeasurable(Why::NoInput));
    // Bytes are back: the tracks get their time to deliver again, and no more than that.
    rig.receiving(60_000);
    rig.tick(60_000);
    assert_eq!((rig.input().0, rig.track(V).0), (0.0, 0.0));
    for ms in (61_000..=66_000).step_by(1000) {
        rig.receiving(ms);
    }
    rig.tick(66_000);
    assert_eq!(rig.track(V), (1.0, Some(Cause::Undecodable)));
}

#[test]
fn reconnecting_all_the_time_does_not_hide_that_nothing_decodes() {
    let mut rig = Rig::new(&[]);
    rig.announce(0, &[(V, None)]);
    for ms in (0..8000).step_by(500) {
        rig.failed(ms, Cause::PeerClosed);
        rig.fact(ms, Fact::Input(InputEvent::Reopened));
        rig.announce(ms, &[(V, None)]);
        rig.receiving(ms);
    }
    rig.tick(8000);
    assert_eq!(rig.input().0, 0.0);
    assert_eq!(rig.track(V), (8.0 / 6.0, Some(Cause::Undecodable)));
}

#[test]
fn tracks_that_stop_together_are_not_blamed_on_each_other() {
    // Sound ends a little before the picture, as it does in segments; then the input stops.
    let mut silent = Rig::new(&[]);
    silent.decoded(0, A);
    silent.decoded(300, V);
    silent.tick(2_100);
    assert_eq!((silent.input().0, silent.track(A).0), (0.0, 0.0));
    silent.tick(2_400);
    assert_eq!(silent.input().1, Some(Cause::NoInput));
    // The same, but useless bytes go on.
    let mut useless = Rig::new(&[]);
    useless.decoded(0, A);
    useless.decoded(300, V);
    for ms in (400..=2_200).step_by(200) {
        useless.receiving(ms);
    }
    useless.tick(2_200);
    assert_eq!(useless.track(A).1, Some(Cause::Undecodable));
    assert_eq!(useless.track(V).0, 0.0);
}

#[test]
fn a_decoder_that_is_emptied_after_a_failure_is_no_arrival() {
    let mut rig = Rig::new(&[]);
    rig.decoded(0, A);
    rig.decoded(0, V);
    rig.failed(1_500, Cause::Timeout);
    rig.decoded(1_600, V);
    rig.tick(2_100);
    assert_eq!(rig.input().1, Some(Cause::Timeout));
    rig.fact(2_200, Fact::Input(InputEvent::Reopened));
    rig.decoded(2_300, V);
    rig.decoded(2_300, A);
    rig.tick(2_400);
    assert_eq!(rig.input(), (0.0, None));
}

#[test]
fn what_is_wrong_with_the_bytes_that_arrive_is_named() {
    let mut rig = Rig::new(&[]);
    rig.announce(0, &[(V, None)]);
    rig.decoded(0, V);
    for ms in (0..=6000).step_by(500) {
        rig.failed(ms, Cause::EncryptedNoKey);
        rig.receiving(ms + 100);
    }
    rig.tick(6000);
    assert_eq!(rig.track(V), (1.0, Some(Cause::EncryptedNoKey)));
    rig.decoded(6100, V);
    for ms in (6200..=12_200).step_by(500) {
        rig.receiving(ms);
    }
    rig.tick(12_100);
    assert_eq!(rig.track(V), (1.0, Some(Cause::Undecodable)));
}

#[test]
fn bytes_without_any_track_are_undecodable() {
    let mut rig = Rig::new(&[]);
    for ms in (0..=6000).step_by(500) {
        rig.receiving(ms);
    }
    rig.tick(6000);
    assert_eq!(rig.input(), (1.0, Some(Cause::Undecodable)));
}

#[test]
fn known_problems_and_missing_tracks_name_their_cause() {
    let mut rig = Rig::new(&[("expect_video", 1.0), ("expect_audio", 2.0)]);
    let vvc = Some(Cause::UnsupportedCodec);
    rig.announce(0, &[(V, vvc), (A, None)]);
    for ms in (0..=6000).step_by(500) {
        rig.decoded(ms, A);
    }
    rig.tick(6000);
    assert_eq!(rig.track(V), (1.0, vvc));
    assert_eq!(rig.track(A), (0.0, None));
    assert_eq!(rig.track(Track::audio(1)), (1.0, Some(Cause::MissingTrack)));
}

#[test]
fn tracks_beyond_an_expected_count_are_free() {
    let mut rig = Rig::new(&[("expect_audio", 1.0)]);
    rig.announce(0, &[(A, None), (Track::audio(1), None)]);
    for ms in (0..=9000).step_by(500) {
        rig.decoded(ms, A);
    }
    rig.tick(9000);
    assert_eq!(rig.track(Track::audio(1)).0, 0.0);
}

#[test]
fn a_track_that_is_withdrawn_is_no_longer_missed() {
    let mut rig = Rig::new(&[]);
    rig.announce(0, &[(V, None), (A, None)]);
    for ms in (0..=6000).step_by(500) {
        rig.decoded(ms, V);
    }
    rig.tick(6000);
    assert_eq!(rig.track(A), (1.0, Some(Cause::NoAudio)));
    rig.announce(6100, &[(V, None)]);
    assert_eq!(rig.track(A), (0.0, None));
}

#[test]
fn the_end_excuses_what_delivered_and_nothing_else() {
    let mut rig = Rig::new(&[]);
    rig.announce(0, &[(V, Some(Cause::EncryptedNoKey)), (A, None)]);
    rig.decoded(100, A);
    rig.fact(200, Fact::Input(InputEvent::Ended));
    assert_eq!(rig.input().0, 0.0);
    assert_eq!(rig.track(V), (1.0, Some(Cause::EncryptedNoKey)));
    assert_eq!(rig.track(A).0, 0.0);
    rig.tick(100_000);
    assert_eq!(rig.input().0, 0.0);
    assert_eq!(rig.track(A).0, 0.0);
}

#[test]
fn an_end_without_anything_decoded_is_undecodable() {
    let mut rig = Rig::new(&[]);
    rig.receiving(10);
    rig.fact(20, Fact::Input(InputEvent::Ended));
    assert_eq!(rig.input(), (1.0, Some(Cause::Undecodable)));
}

#[test]
fn an_announced_gap_extends_patience_by_its_span() {
    let mut rig = Rig::new(&[]);
    rig.announce(0, &[(V, None)]);
    rig.decoded(0, V);
    let span = Duration::from_secs(4);
    rig.fact(0, Fact::AnnouncedGap { span });
    rig.tick(6000);
    assert_eq!(rig.input().0, 0.0);
    rig.tick(8000);
    assert_eq!(rig.input().0, 4.0 / 6.0);
}

#[test]
fn nothing_is_missed_of_a_sound_only_stream() {
    let mut rig = Rig::new(&[]);
    for ms in (0..=9000).step_by(500) {
        rig.decoded(ms, A);
    }
    rig.tick(9000);
    assert_eq!(rig.input().0, 0.0);
    assert_eq!(rig.track(A).0, 0.0);
    assert_eq!(rig.tracks.len(), 1);
}
