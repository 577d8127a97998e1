//! A scripted origin, a recording feeder, and a stream between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use detectors::base::{
    Arrival, BreakMark, Cause, Fact, Gap, InputEvent, Kind, Media, Options, Reading, SegmentReport,
    Signal, Sink, Stamp, Unit, Value,
};
use futures_util::StreamExt;
use glasswatch::config::{
    Decode, Expect, Input, Limits, Pace, Protocol, Rendition, Secret, Srt, SrtMode, Stream,
};
use glasswatch::ingest::convert::{Container, ConvertError, Feed};
use glasswatch::ingest::keys::SampleKeys;
use glasswatch::ingest::source::hls::Feeder;
use glasswatch::ingest::source::{Retry, SourceContext, SourceEnd, dash, hls};
use glasswatch::ingest::stats::{Counter, RequestResult, Stats};
use glasswatch::ingest::{Content, Intake, OwnedUnit, Pushed};
use tokio_util::sync::CancellationToken;

/// A request as a script sees it.
pub struct Asked {
    /// With query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// How often this path was asked before.
    pub before: usize,
    /// Since the origin started.
    pub since: Duration,
}

/// Kind and language of an input that was added.
pub type Added = (Option<Kind>, Option<String>);

/// An input, the rendition that it was said to be, and what it brings.
pub type Expected = (usize, String, Vec<Kind>);

/// An input, and the trouble that was told of it.
pub type Trouble = (usize, Option<Cause>);

type Script = Box<dyn Fn(&Asked) -> Response + Send + Sync>;
type Log = Arc<Mutex<Vec<(Instant, String)>>>;

pub struct Origin {
    pub url: String,
    log: Log,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    script: Script,
    began: Instant,
    log: Log,
}

impl Origin {
    pub async fn start(script: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Self {
        let log = Log::default();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            began: Instant::now(),
            log: Arc::clone(&log),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(answer).with_state(shared);
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, log, task }
    }

    /// When paths with this part were asked for.
    pub fn asked(&self, part: &str) -> Vec<Instant> {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter(|(_, path)| path.contains(part))
            .map(|(at, _)| *at)
            .collect()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path_and_query().unwrap().to_string();
    let headers = request.headers().clone();
    let body = axum::body::to_bytes(request.into_body(), 1 << 16).await;
    let before = {
        let mut log = shared.log.lock().unwrap();
        let before = log.iter().filter(|(_, asked)| *asked == path).count();
        log.push((Instant::now(), path.clone()));
        before
    };
    (shared.script)(&Asked {
        path,
        headers,
        body: body.unwrap().to_vec(),
        before,
        since: shared.began.elapsed(),
    })
}

pub fn ok(body: impl Into<Body>) -> Response {
    Response::new(body.into())
}

pub fn status(code: u16) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

pub fn with(mut response: Response, name: header::HeaderName, value: &str) -> Response {
    let value = HeaderValue::from_str(value).unwrap();
    response.headers_mut().insert(name, value);
    response
}

pub fn redirect(to: &str) -> Response {
    with(status(302), header::LOCATION, to)
}

/// A body that sends `first` and then nothing, for ever.
pub fn hang(first: &[u8]) -> Response {
    let first = Ok::<_, std::io::Error>(Bytes::copy_from_slice(first));
    let head = futures_util::stream::iter([first]);
    ok(Body::from_stream(
        head.chain(futures_util::stream::pending()),
    ))
}

/// A body without end.
pub fn endless(piece: Vec<u8>) -> Response {
    let piece = Bytes::from(piece);
    let pieces = futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()));
    ok(Body::from_stream(pieces))
}

/// Eight packets that carry a mark, so that what arrived can be told.
pub fn ts(mark: u8) -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..8 {
        let mut packet = [mark; 188];
        packet[0] = 0x47;
        packet[1] = n;
        out.extend_from_slice(&packet);
    }
    out
}

/// Pictures a second.
pub const RATE: u64 = 10;

/// A transport stream of `pictures` pictures, the first at this time.
pub fn timed(start: Duration, pictures: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..pictures {
        let pts = (start.as_millis() as u64 * 90 + n * 90_000 / RATE) & ((1 << 33) - 1);
        let mut packet = [0xFF_u8; 188];
        packet[..14].copy_from_slice(&[
            0x47, 0x41, 0, 0x10, 0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5, 0x21,
        ]);
        packet[13] |= (pts >> 29) as u8 & 0x0E;
        packet[14..16].copy_from_slice(&(((pts >> 14) as u16) | 1).to_be_bytes());
        packet[16..18].copy_from_slice(&(((pts << 1) as u16) | 1).to_be_bytes());
        out.extend_from_slice(&packet);
    }
    out
}

/// The segment that a path `/…sN.ts` names.
pub fn segment(path: &str) -> Response {
    let name = path.rsplit("/s").next().unwrap();
    ok(ts(name.strip_suffix(".ts").unwrap().parse().unwrap()))
}

/// A live playlist of one-second segments `sN.ts` that grows by one each second.
pub fn live(since: Duration, window: u64) -> String {
    let first = since.as_secs();
    let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
    for n in first..first + window {
        text += &format!("#EXTINF:1,\ns{n}.ts\n");
    }
    text
}

/// A complete playlist with a target duration of one second.
pub fn vod(lines: &str) -> String {
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n{lines}\n#EXT-X-ENDLIST\n")
}

/// Facts with the moment they came.
#[derive(Default)]
pub struct Facts(Mutex<Vec<(Arrival, Fact)>>);

impl Intake for Facts {
    fn push(&self, unit: OwnedUnit) -> Pushed {
        if let Content::Fact(fact) = unit.content {
            self.0.lock().unwrap().push((unit.arrival, fact));
        }
        Pushed::Queued
    }
}

impl Facts {
    pub fn causes(&self) -> Vec<Cause> {
        let facts = self.0.lock().unwrap();
        facts
            .iter()
            .filter_map(|(_, fact)| match fact {
                Fact::Input(InputEvent::Failed { cause }) => Some(*cause),
                _ => None,
            })
            .collect()
    }

    pub fn has(&self, wanted: &Fact) -> bool {
        let facts = self.0.lock().unwrap();
        facts.iter().any(|(_, fact)| fact == wanted)
    }

    /// What the `manifest` detector makes of the facts: names of the rules whose limit was met at any time, with the
    /// causes that were told.
    pub fn manifest(&self) -> BTreeMap<&'static str, BTreeSet<Cause>> {
        let row = &detectors::transport::manifest::DETECTOR;
        let mut detector = (row.build)(&Options::defaults(row.options));
        let mut met: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let facts = self.0.lock().unwrap();
        for (arrival, fact) in facts.iter() {
            let at = Stamp {
                media: None,
                arrival: *arrival,
                gap: Gap::None,
            };
            let mut emit = |signal: &'static Signal, _, reading: Reading| {
                let Value::Measured(value) = reading.value else {
                    return;
                };
                for rule in row.rules.iter().filter(|rule| rule.signal == signal.name) {
                    if rule.raise.met(value) {
                        let cause = reading.cause.unwrap_or(rule.cause);
                        met.entry(rule.name).or_default().insert(cause);
                    }
                }
            };
            let unit = Unit {
                at,
                track: None,
                media: Media::Fact(fact),
            };
            detector.observe(&unit, &mut Sink::new(&mut emit));
        }
        met
    }

    /// What all facts say to a question.
    pub fn flat<T>(&self, told: impl Fn(&Fact) -> Vec<T>) -> Vec<T> {
        let facts = self.0.lock().unwrap();
        facts.iter().flat_map(|(_, fact)| told(fact)).collect()
    }

    /// Segments that were dealt with.
    pub fn segments(&self) -> Vec<SegmentReport> {
        self.flat(|fact| match fact {
            Fact::Segment(report) => vec![*report],
            _ => Vec::new(),
        })
    }
}

#[derive(Default, Clone)]
pub struct Recorder {
    pub fed: Arc<Mutex<Vec<(usize, Feed)>>>,
    pub inputs: Arc<Mutex<Vec<Added>>>,
    pub expected: Arc<Mutex<Vec<Expected>>>,
    pub troubles: Arc<Mutex<Vec<Trouble>>>,
}

impl Feeder for Recorder {
    fn add_input(&mut self, only: Option<Kind>, language: Option<String>) -> usize {
        let mut inputs = self.inputs.lock().unwrap();
        inputs.push((only, language));
        inputs.len() - 1
    }

    fn feed(&mut self, input: usize, feed: Feed) -> Result<(), ConvertError> {
        self.fed.lock().unwrap().push((input, feed));
        Ok(())
    }

    fn expect(&mut self, input: usize, member: &str, kinds: &[Kind]) {
        let mut expected = self.expected.lock().unwrap();
        expected.push((input, member.to_owned(), kinds.to_vec()));
    }

    fn trouble(&mut self, input: usize, cause: Option<Cause>) {
        self.troubles.lock().unwrap().push((input, cause));
    }

    async fn room(&self, _bytes: usize) -> Result<(), ConvertError> {
        Ok(())
    }

    async fn finish(self, _deadline: Duration) -> Result<(), ConvertError> {
        Ok(())
    }
}

/// One segment as it was fed.
#[derive(Debug, Clone, PartialEq)]
pub struct Fed {
    pub container: Container,
    pub init: Option<Bytes>,
    pub discontinuity: bool,
    pub data: Vec<u8>,
    pub truncated: Option<bool>,
}

impl Recorder {
    pub fn pieces(&self, of: usize) -> Vec<Fed> {
        let mut pieces: Vec<Fed> = Vec::new();
        for (input, feed) in self.fed.lock().unwrap().iter() {
            match feed.clone() {
                _ if *input != of => {}
                Feed::Keys(_) => {}
                Feed::Begin {
                    container,
                    init,
                    discontinuity,
                } => pieces.push(Fed {
                    container,
                    init,
                    discontinuity,
                    data: Vec::new(),
                    truncated: None,
                }),
                Feed::Data(data) => pieces.last_mut().unwrap().data.extend_from_slice(&data),
                Feed::Break(..) => {}
                Feed::End { truncated } => pieces.last_mut().unwrap().truncated = Some(truncated),
            }
        }
        pieces
    }

    /// Break markers, each with the number of pieces that were fed to the main input before it.
    pub fn breaks(&self) -> Vec<(usize, BreakMark)> {
        let mut pieces = 0;
        let mut found = Vec::new();
        for (input, feed) in self.fed.lock().unwrap().iter() {
            match feed {
                Feed::Begin { .. } if *input == 0 => pieces += 1,
                Feed::Break(mark, _) => found.push((pieces, mark.clone())),
                _ => {}
            }
        }
        found
    }

    /// Keys that were fed to an input, in order.
    pub fn keys(&self, of: usize) -> Vec<SampleKeys> {
        let fed = self.fed.lock().unwrap();
        let keys = fed.iter().filter_map(|(input, feed)| match feed {
            Feed::Keys(keys) if *input == of => Some(keys.clone()),
            _ => None,
        });
        keys.collect()
    }

    /// Marks of the whole pieces fed to the main input.
    pub fn marks(&self) -> Vec<u8> {
        self.marks_of(0)
    }

    /// Marks of the whole pieces fed to an input.
    pub fn marks_of(&self, input: usize) -> Vec<u8> {
        self.pieces(input)
            .iter()
            .filter(|piece| piece.truncated == Some(false))
            .map(|piece| {
                assert_eq!(piece.data, ts(piece.data[2]));
                piece.data[2]
            })
            .collect()
    }
}

pub struct Rig {
    pub facts: Arc<Facts>,
    pub stats: Arc<Stats>,
    pub recorder: Recorder,
    pub cx: SourceContext,
}

pub fn rig(url: &str) -> Rig {
    rig_with(url, |_| {})
}

pub fn rig_with(url: &str, adjust: impl FnOnce(&mut Input)) -> Rig {
    let mut input = Input {
        url: Secret::new(url),
        protocol: Protocol::Hls,
        headers: Vec::new(),
        rendition: Rendition::Highest,
        program: None,
        rtsp: Default::default(),
        srt: Srt {
            mode: SrtMode::Caller,
            passphrase: None,
            stream_id: None,
            latency: Duration::ZERO,
        },
        jitter: Duration::ZERO,
        interface: None,
        content_keys: Default::default(),
        licence: Default::default(),
        allow_private: true,
        visible_after: None,
        page_after: None,
        limits: Limits {
            connect: Duration::from_millis(500),
            idle: Duration::from_millis(500),
            ..Limits::default()
        },
        decode: Decode::default(),
        pace: Pace::Fast,
    };
    adjust(&mut input);
    let facts = Arc::new(Facts::default());
    let stats = Arc::new(Stats::default());
    let cx = SourceContext {
        stream: Arc::new(Stream {
            id: "test".into(),
            labels: Default::default(),
            input,
            reference: None,
            reference_token: None,
            expect: Expect {
                video: None,
                audio: None,
            },
            detectors: Vec::new(),
            blind_after: Duration::from_secs(60),
            expected: Vec::new(),
            quiet_tracks: Vec::new(),
            evidence: false,
        }),
        intake: facts.clone(),
        stats: stats.clone(),
        cancel: CancellationToken::new(),
    };
    Rig {
        facts,
        stats,
        recorder: Recorder::default(),
        cx,
    }
}

/// By the protocol that the stream names.
async fn play(cx: &SourceContext, recorder: Recorder) -> SourceEnd {
    match cx.stream.input.protocol {
        Protocol::Dash => dash::play(cx, recorder).await,
        _ => hls::play(cx, recorder).await,
    }
}

impl Rig {
    /// What is told of an input now.
    pub fn trouble(&self, input: usize) -> Option<Cause> {
        let troubles = self.recorder.troubles.lock().unwrap();
        let newest = troubles.iter().rev().find(|(of, _)| *of == input);
        newest.and_then(|(_, cause)| *cause)
    }

    /// Plays to the end.
    pub async fn to_end(&self) -> SourceEnd {
        let play = play(&self.cx, self.recorder.clone());
        tokio::time::timeout(Duration::from_secs(30), play)
            .await
            .expect("the source did not end")
    }

    /// Plays until it is cancelled elsewhere.
    pub async fn to_the_cancellation(&self) {
        let end = play(&self.cx, self.recorder.clone()).await;
        assert_eq!((end.cause, end.retry), (None, Retry::Never));
    }

    /// Plays until the condition holds, then cancels. A source that ends before that is at fault.
    pub async fn until(&self, what: &str, condition: impl Fn(&Rig) -> bool) {
        let (cx, recorder) = (self.cx.clone(), self.recorder.clone());
        let task = tokio::spawn(async move { play(&cx, recorder).await });
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition(self) {
            if task.is_finished() {
                panic!("the source ended: {:?}", task.await);
            }
            let causes = self.facts.causes();
            assert!(Instant::now() < deadline, "no {what}; told: {causes:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.cx.cancel.cancel();
        let end = task.await.unwrap();
        assert_eq!((end.cause, end.retry), (None, Retry::Never));
    }
}

/// At most two requests in any second (with a little room for a busy machine).
pub fn assert_paced(at: &[Instant]) {
    for three in at.windows(3) {
        let span = three[2] - three[0];
        assert!(
            span >= Duration::from_millis(900),
            "three requests within {span:?}"
        );
    }
}

pub fn count(counters: &[Counter; 6], result: RequestResult) -> u64 {
    counters[result as usize].get()
}

/// Rules and causes that were met, without those of time: on a busy machine the tests themselves are late.
pub fn met(rig: &Rig) -> BTreeMap<&'static str, BTreeSet<Cause>> {
    let mut met = rig.facts.manifest();
    met.retain(|rule, _| !["slow_playlist", "starving", "overdue_playlist"].contains(rule));
    met
}

pub fn only(rule: &'static str, cause: Cause) -> BTreeMap<&'static str, BTreeSet<Cause>> {
    BTreeMap::from([(rule, BTreeSet::from([cause]))])
}
