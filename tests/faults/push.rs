//! UDP, SRT, RTMP, RTSP and progressive HTTP: peers that fall silent, die, refuse or send noise, beside healthy ones.

use std::net::{TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use detectors::base::Cause;
use glasswatch::demo::impair::PACKET;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use tokio::task::JoinHandle;

use crate::media::pace;
use crate::origin::Origin;
use crate::watch::{Case, Watch, run};

/// Inputs that push continuously are shown within this.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);
/// `page_after` of the streams here, and a tick.
const PAGED_WITHIN: Duration = Duration::from_millis(4250);

#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum Mood {
    Fine,
    Silent,
    Noisy,
}

/// A UDP sender with moods.
struct Udp {
    mood: Arc<AtomicU8>,
    port: u16,
}

impl Udp {
    fn start(began: Instant) -> Self {
        let port = free_port();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mood = Arc::new(AtomicU8::new(Mood::Fine as u8));
        let now = Arc::clone(&mood);
        let mut random = fastrand::Rng::with_seed(3);
        pace(began, move |packets| {
            let now = now.load(Ordering::SeqCst);
            if now == Mood::Silent as u8 {
                return;
            }
            for datagram in packets.chunks(7 * PACKET) {
                let mut datagram = datagram.to_vec();
                if now == Mood::Noisy as u8 {
                    random.fill(&mut datagram);
                }
                // Nobody listening yet is no error.
                let _ = socket.send_to(&datagram, ("127.0.0.1", port));
            }
        });
        Self { mood, port }
    }

    fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    fn line(&self, id: &str) -> String {
        let port = self.port;
        format!("  - {{id: {id}, url: \"udp://127.0.0.1:{port}\", page_after: 4s}}\n")
    }
}

/// An SRT sender that callers come to. Dropping it kills it.
struct Srt {
    pipeline: gst::Pipeline,
    task: JoinHandle<()>,
}

impl Drop for Srt {
    fn drop(&mut self) {
        self.task.abort();
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl Srt {
    fn start(began: Instant, port: u16, passphrase: &str) -> Self {
        let pipeline = gst::parse::launch(&format!(
            "appsrc name=in format=time is-live=true do-timestamp=true \
             ! srtsink uri=\"srt://127.0.0.1:{port}?mode=listener&latency=80\" {passphrase} \
               wait-for-connection=false sync=false"
        ));
        let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
        let input = pipeline.by_name("in").unwrap();
        let input = input.downcast::<gst_app::AppSrc>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let task = pace(began, move |packets| {
            for message in packets.chunks(7 * PACKET) {
                // Without a caller they are thrown away.
                let _ = input.push_buffer(gst::Buffer::from_mut_slice(message.to_vec()));
            }
        });
        Self { pipeline, task }
    }

    fn line(id: &str, port: u16) -> String {
        format!(
            "  - {{id: {id}, url: \"srt://127.0.0.1:{port}\", page_after: 4s, srt: {{passphrase: correct horse}}}}\n"
        )
    }
}

/// An RTSP server. Dropping it kills it.
struct Rtsp(Child);

impl Drop for Rtsp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Rtsp {
    fn start(port: u16) -> Self {
        let launch = "( videotestsrc is-live=true horizontal-speed=2 \
             ! video/x-raw,format=I420,width=320,height=180,framerate=25/1 \
             ! x264enc tune=zerolatency key-int-max=25 threads=1 speed-preset=ultrafast \
             ! rtph264pay config-interval=-1 name=pay0 pt=96 \
             audiotestsrc is-live=true samplesperbuffer=160 \
             ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay1 )";
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", include_str!("../ingest/rtsp_server.py")]);
        command.arg(port.to_string()).arg(launch);
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    fn line(id: &str, port: u16) -> String {
        format!("  - {{id: {id}, url: \"rtsp://127.0.0.1:{port}/live\", page_after: 4s}}\n")
    }
}

/// An RTMP server and who publishes on it. Dropping it kills both.
struct Rtmp {
    server: Child,
    publisher: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Rtmp {
    fn drop(&mut self) {
        for process in [&mut self.server, &mut self.publisher] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Rtmp {
    fn start(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nginx.conf");
        let text = format!(
            "daemon off; master_process off; pid nginx.pid; error_log error.log;\n\
             load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
             events {{}}\n\
             rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut server = Command::new("/usr/sbin/nginx");
        server.arg("-p").arg(folder.path()).arg("-c").arg(&config);
        server.arg("-e").arg(folder.path().join("start.log"));
        let server = server.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let server = server.unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut publisher = Command::new("ffmpeg");
        publisher.args(
            "-v error -nostdin -re -f lavfi -i testsrc2=size=320x180:rate=25 \
             -re -f lavfi -i sine=frequency=440:sample_rate=44100 \
             -c:v libx264 -preset ultrafast -tune zerolatency -g 25 -pix_fmt yuv420p -threads 1 \
             -c:a aac -f flv"
                .split_whitespace(),
        );
        publisher.arg(format!("rtmp://127.0.0.1:{port}/live/one"));
        let publisher = publisher.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self {
            server,
            publisher: publisher.unwrap(),
            _folder: folder,
        }
    }

    fn line(id: &str, port: u16) -> String {
        format!("  - {{id: {id}, url: \"rtmp://127.0.0.1:{port}/live/one\", page_after: 4s}}\n")
    }
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

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
fn failing_peers_are_named_paged_and_outlived() {
    const KEY: &str = "passphrase=\"correct horse\"";
    run(async {
        let cases = [
            case("udp-silent", &[Cause::NoInput]),
            case("http-silent", &[Cause::Timeout]),
            case("udp-noise", &[Cause::Undecodable]),
            case(
                "srt-gone",
                &[Cause::PeerClosed, Cause::Timeout, Cause::ConnectFailed],
            ),
            case(
                "rtsp-gone",
                &[Cause::PeerClosed, Cause::Timeout, Cause::ConnectFailed],
            ),
            case(
                "rtmp-gone",
                &[Cause::PeerClosed, Cause::Timeout, Cause::ConnectFailed],
            ),
            Case {
                never_worked: true,
                ..case("srt-wrong-passphrase", &[Cause::AuthRefused])
            },
        ];
        let began = Instant::now();
        let [silent, noise, udp] = [(); 3].map(|()| Udp::start(began));
        let [gone_port, wrong_port, srt_port, camera_port, rtmp_port] =
            [(); 5].map(|()| free_port());
        let camera = Rtsp::start(camera_port);
        let rtmp = Rtmp::start(rtmp_port);
        let gone = Srt::start(began, gone_port, KEY);
        let wrong = Srt::start(began, wrong_port, "passphrase=\"another horse\"");
        let _srt = Srt::start(began, srt_port, KEY);
        let origin = Origin::new();
        let (address, _serving) = origin.serve(0).await;
        let streams = [
            format!(
                "  - {{id: http-silent, url: \"http://{address}/http-silent/live.ts\", \
                 visible_after: 2500ms, page_after: 4s}}\n"
            ),
            silent.line("udp-silent"),
            noise.line("udp-noise"),
            Srt::line("srt-gone", gone_port),
            Srt::line("srt-wrong-passphrase", wrong_port),
            Rtsp::line("rtsp-gone", camera_port),
            Rtmp::line("rtmp-gone", rtmp_port),
            udp.line("udp-healthy"),
            Srt::line("srt-healthy", srt_port),
        ];
        let watch = Watch::start(&streams.concat()).await;
        let break_them = async || {
            origin.set_broken(true);
            silent.set(Mood::Silent);
            noise.set(Mood::Noisy);
            drop(gone);
            drop(camera);
            drop(rtmp);
        };
        let mut back = Vec::new();
        let (mut camera_back, mut rtmp_back) = (None, None);
        let mend_them = async || {
            origin.set_broken(false);
            silent.set(Mood::Fine);
            noise.set(Mood::Fine);
            drop(wrong);
            camera_back = Some(Rtsp::start(camera_port));
            rtmp_back = Some(Rtmp::start(rtmp_port));
            back.extend([gone_port, wrong_port].map(|port| Srt::start(began, port, KEY)));
        };
        let neighbours = ["udp-healthy", "srt-healthy"];
        watch
            .prove(&cases, &neighbours, break_them, mend_them)
            .await;
    });
}
