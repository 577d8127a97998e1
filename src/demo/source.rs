//! One live demo stream: generated pictures and sound, encoded, multiplexed, impaired and delivered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use detectors::base::Arrival;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::impair::Impair;
use super::origin::{Origin, Segmenter};
use super::scene::{Scene, sound};
use super::schedule::{Delivery, Fault, Plan};
use crate::ingest::clock;

const RATE_HZ: u32 = 48_000;
const PICTURES_A_SEC: u64 = 25;
const LARGE: (usize, usize) = (640, 360);
const SMALL: (usize, usize) = (320, 180);
/// Stamps begin here, so that sound may be stamped early without going below zero.
const FIRST_STAMP_SECS: u64 = 10;
/// The first segments take some 7 s; a machine that needs this long cannot run the demo.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Why the demo cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A GStreamer element is missing or refuses its settings.
    #[error("cannot build the demo source: {0}")]
    Pipeline(#[from] gst::glib::Error),
    /// An element is not where it should be, or does not start.
    #[error("cannot start the demo source: {0}")]
    Start(String),
    /// No socket.
    #[error("cannot open a loopback socket: {0}")]
    Socket(#[from] std::io::Error),
}

/// A running demo stream. Dropping it stops it.
pub struct Source {
    /// URL at which it is delivered.
    pub url: String,
    /// Arrival time of source time 0.
    pub began: Arrival,
    tasks: Vec<JoinHandle<()>>,
    /// When it has something to give: `None` = from the start.
    playable: Option<watch::Receiver<bool>>,
}

impl Drop for Source {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Where packets go.
enum Output {
    Hls(Segmenter, Origin),
    Srt(gst_app::AppSrc),
    Udp(tokio::net::UdpSocket, SocketAddr),
}

/// Pipelines of a source; stopped when dropped.
struct Pipelines(Vec<gst::Pipeline>);

impl Drop for Pipelines {
    fn drop(&mut self) {
        for pipeline in &self.0 {
            // Failing to stop at exit harms nobody.
            let _ = pipeline.set_state(gst::State::Null);
        }
    }
}

impl Source {
    /// Starts the stream of `plan` on a loopback port (`None`: a free one); its content depends on `seed`.
    pub async fn start(plan: Arc<Plan>, seed: u64, port: Option<u16>) -> Result<Self, DemoError> {
        let encoder = parse(
            "appsrc name=video format=time is-live=true max-bytes=0 \
               ! x264enc tune=zerolatency speed-preset=ultrafast trellis=false key-int-max=25 bitrate=900 threads=1 ! h264parse ! mux.sink_65 \
             appsrc name=audio format=time is-live=true max-bytes=0 \
               ! audioconvert ! avenc_aac aac-coder=fast bitrate=96000 ! aacparse ! mux.sink_66 \
             mpegtsmux name=mux alignment=7 ! appsink name=out sync=false async=false",
        )?;
        let video: gst_app::AppSrc = element(&encoder, "video")?;
        let audio: gst_app::AppSrc = element(&encoder, "audio")?;
        let out: gst_app::AppSink = element(&encoder, "out")?;
        audio.set_caps(Some(
            &gst::Caps::builder("audio/x-raw")
                .field("format", "F32LE")
                .field("layout", "interleaved")
                .field("rate", RATE_HZ as i32)
                .field("channels", 2)
                .build(),
        ));
        let (packets_in, packets) = mpsc::channel(1024);
        out.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    if let Some(map) = sample.buffer().and_then(|b| b.map_readable().ok()) {
                        // A full channel means that the process hangs; the loss is then the least evil.
                        let _ = packets_in.try_send(map.as_slice().to_vec());
                    }
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        let mut pipelines = Pipelines(vec![encoder]);
        let mut tasks = Vec::new();
        let mut playable = None;
        let (url, output) = match plan.delivery {
            Delivery::Hls => {
                let origin = Origin::default();
                playable = Some(origin.playable());
                let (address, task) = origin.serve(port.unwrap_or(0)).await?;
                tasks.push(task);
                (
                    format!("http://{address}/live.m3u8"),
                    Output::Hls(Segmenter::new(origin.clone()), origin),
                )
            }
            Delivery::Srt => {
                let port = port.map_or_else(free_udp_port, Ok)?;
                let sender = parse(&format!(
                    "appsrc name=in format=time is-live=true do-timestamp=true max-bytes=2000000 \
                       ! srtsink uri=\"srt://127.0.0.1:{port}?mode=listener&latency=80\" \
                         wait-for-connection=false sync=false"
                ))?;
                let input = element(&sender, "in")?;
                pipelines.0.push(sender);
                (format!("srt://127.0.0.1:{port}"), Output::Srt(input))
            }
            Delivery::Udp => {
                let port = port.map_or_else(free_udp_port, Ok)?;
                let socket = tokio::net::UdpSocket::bind(("127.0.0.1", 0)).await?;
                let to = SocketAddr::from(([127, 0, 0, 1], port));
                (format!("udp://127.0.0.1:{port}"), Output::Udp(socket, to))
            }
        };
        for pipeline in &pipelines.0 {
            pipeline
                .set_state(gst::State::Playing)
                .map_err(|e| DemoError::Start(e.to_string()))?;
        }
        let began = clock::now();
        let work = Work {
            plan,
            scene: Scene::new(seed),
            video,
            audio,
            packets,
            output,
            _pipelines: pipelines,
        };
        tasks.push(tokio::spawn(work.run()));
        Ok(Self {
            url,
            began,
            tasks,
            playable,
        })
    }

    /// Waits until a player that comes now is served: an HLS origin has no playlist at first.
    pub async fn playable(&mut self) -> Result<(), DemoError> {
        let Some(playable) = &mut self.playable else {
            return Ok(());
        };
        match tokio::time::timeout(START_LIMIT, playable.wait_for(|yes| *yes)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(DemoError::Start("no HLS segments come".to_owned())),
        }
    }
}

struct Work {
    plan: Arc<Plan>,
    scene: Scene,
    video: gst_app::AppSrc,
    audio: gst_app::AppSrc,
    packets: mpsc::Receiver<Vec<u8>>,
    output: Output,
    _pipelines: Pipelines,
}

impl Work {
    /// Makes one picture and its sound every 40 ms, for ever; the plan repeats.
    async fn run(mut self) {
        let mut pace = tokio::time::interval(Duration::from_millis(1000 / PICTURES_A_SEC));
        // Late pictures are made up for: the source keeps its rate on a busy machine.
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let began = Instant::now();
        let mut number = 0u64;
        let mut frozen_at = None;
        let mut size = (0, 0);
        let mut impair: Option<(u64, Impair)> = None;
        loop {
            tokio::select! {
                _ = pace.tick() => {
                    let at_secs = number as f64 / PICTURES_A_SEC as f64;
                    let fault = self.fault(at_secs).map(|(fault, _)| fault);
                    if fault != Some(Fault::Freeze) {
                        frozen_at = None;
                    }
                    let wanted = if fault == Some(Fault::SizeChange) { SMALL } else { LARGE };
                    if wanted != size {
                        size = wanted;
                        self.video.set_caps(Some(&video_caps(size)));
                    }
                    let picture = match fault {
                        Some(Fault::Black) => Scene::black(size.0, size.1),
                        Some(Fault::Freeze) => {
                            let still = *frozen_at.get_or_insert(at_secs);
                            self.scene.picture(size.0, size.1, still)
                        }
                        _ => self.scene.picture(size.0, size.1, at_secs),
                    };
                    let frames = u64::from(RATE_HZ) / PICTURES_A_SEC;
                    let samples = match fault {
                        Some(Fault::Silence) => vec![0.0; frames as usize * 2],
                        _ => sound(number * frames, frames as usize, RATE_HZ),
                    };
                    let bytes = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
                    if !push(&self.video, picture, number) || !push(&self.audio, bytes, number) {
                        return;
                    }
                    number += 1;
                }
                packets = self.packets.recv() => {
                    let Some(mut packets) = packets else { return };
                    let at_secs = began.elapsed().as_secs_f64();
                    let fault = self.fault(at_secs);
                    if let Some((kind, seed)) = fault {
                        if impair.as_ref().is_none_or(|(of, _)| *of != seed) {
                            impair = Some((seed, Impair::new(seed)));
                        }
                        if let Some((_, impair)) = &mut impair {
                            impair.apply(Some(kind), &mut packets);
                        }
                    }
                    self.deliver(packets, fault.map(|(fault, _)| fault)).await;
                }
            }
        }
    }

    /// Fault at this source time, with the seed of its randomness.
    fn fault(&self, at_secs: f64) -> Option<(Fault, u64)> {
        self.plan
            .active(at_secs % self.plan.loop_secs)
            .map(|p| (p.fault, p.seed))
    }

    async fn deliver(&mut self, packets: Vec<u8>, fault: Option<Fault>) {
        match &mut self.output {
            Output::Hls(segmenter, origin) => {
                origin.set_fault(fault);
                segmenter.push(&packets);
            }
            Output::Srt(input) => {
                // Without a caller srtsink throws packets away; that is no error of the demo.
                let _ = input.push_buffer(gst::Buffer::from_mut_slice(packets));
            }
            Output::Udp(socket, to) => {
                for datagram in packets.chunks(7 * super::impair::PACKET) {
                    // Nobody listening yet is no error either.
                    let _ = socket.send_to(datagram, *to).await;
                }
            }
        }
    }
}

fn push(source: &gst_app::AppSrc, bytes: Vec<u8>, number: u64) -> bool {
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    if let Some(buffer) = buffer.get_mut() {
        let step = gst::ClockTime::SECOND / PICTURES_A_SEC;
        buffer.set_pts(gst::ClockTime::from_seconds(FIRST_STAMP_SECS) + step * number);
        buffer.set_duration(step);
    }
    source.push_buffer(buffer).is_ok()
}

fn video_caps((width, height): (usize, usize)) -> gst::Caps {
    gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", width as i32)
        .field("height", height as i32)
        .field("framerate", gst::Fraction::new(PICTURES_A_SEC as i32, 1))
        .build()
}

fn parse(text: &str) -> Result<gst::Pipeline, DemoError> {
    gst::parse::launch(text)?
        .downcast::<gst::Pipeline>()
        .map_err(|_| DemoError::Start("not a pipeline".into()))
}

fn element<T: IsA<gst::Element>>(pipeline: &gst::Pipeline, name: &str) -> Result<T, DemoError> {
    pipeline
        .by_name(name)
        .and_then(|e| e.downcast::<T>().ok())
        .ok_or_else(|| DemoError::Start(format!("element `{name}` is missing")))
}

fn free_udp_port() -> std::io::Result<u16> {
    Ok(std::net::UdpSocket::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test that fails may panic")]
mod tests {
    use super::super::impair::{AUDIO_PID, PACKET, VIDEO_PID, is_random_access, pid};
    use super::*;

    #[tokio::test]
    async fn a_udp_source_sends_pictures_with_entry_points_and_sound() {
        gst::init().expect("GStreamer starts");
        let plan = Arc::new(Plan {
            faults: vec![],
            ..Plan::draw(Delivery::Udp, 1)
        });
        let source = Source::start(plan, 1, None)
            .await
            .expect("the source starts");
        let address = source.url.strip_prefix("udp://").expect("a UDP URL");
        let socket = tokio::net::UdpSocket::bind(address)
            .await
            .expect("the port is free");
        let (mut entries, mut sound) = (0, 0);
        let mut datagram = [0; 2048];
        let enough = async {
            while entries < 2 || sound < 20 {
                let n = socket.recv(&mut datagram).await.expect("datagrams come");
                assert_eq!(n % PACKET, 0);
                for packet in datagram[..n].chunks_exact(PACKET) {
                    entries += usize::from(pid(packet) == VIDEO_PID && is_random_access(packet));
                    sound += usize::from(pid(packet) == AUDIO_PID);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), enough)
            .await
            .expect("within 20 s");
    }
}
