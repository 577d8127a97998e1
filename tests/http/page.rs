//! The page in a browser, with incidents that are going on. `GLASSWATCH_UPDATE=1` renews the pictures in `docs/`.

use std::path::Path;

use super::browser::Browser;
use super::*;
use image::{ImageFormat, Rgb, RgbImage};
use jiff::{SignedDuration, Timestamp};

/// What was made up is from so long before now, in milliseconds of the arrival clock.
const NOW_MS: u64 = 3_600_000;

fn at(ms_ago: u64) -> Moment {
    Moment {
        media: None,
        arrival: Arrival::from_millis(NOW_MS - ms_ago),
    }
}

/// Labels of a made-up stream.
fn labels(stream: &str) -> BTreeMap<String, String> {
    let (name, origin) = match stream {
        "arena-2" => ("Arena", "south"),
        "cooking-3" => ("Cooking", "south"),
        "feed-7" => ("Feed 7", "south"),
        "kids-4" => ("Kids", "north"),
        "music-5" => ("Music", "north"),
        "news-1" => ("News", "north"),
        other => (other, "north"),
    };
    [("name", name), ("origin", origin)]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
}

fn bad(stream: &str, detector: &'static str, rule: &'static str, says: &str) -> Defect {
    Defect {
        id: format!("{stream}-{rule}-1a2b3c"),
        detector,
        rule,
        says: says.into(),
        labels: Arc::new(labels(stream)),
        start: at(252_000),
        ..defect(stream)
    }
}

/// The made-up streams: state, open defect, when it broke, what the page is to make of it.
fn scene(evidence: &Path) -> Arc<Fake> {
    let mut fake = Arc::into_inner(fake(Some(evidence.to_owned()))).unwrap();
    let hour = SignedDuration::from_millis(NOW_MS as i64);
    fake.epoch = Epoch {
        arrival: Arrival::from_millis(0),
        unix: Timestamp::now() - hour,
    };
    let frozen = Defect {
        severity: Severity::Critical,
        cause: Cause::Frozen,
        track: Some(Track::video(0)),
        value: 248.4,
        limit: 10.0,
        ..bad(
            "arena-2",
            "freeze",
            "frozen_long",
            "The picture has stood still for long.",
        )
    };
    let early = Defect {
        track: Some(Track::audio(0)),
        value: 0.12,
        start: at(840_000),
        ..bad("news-1", "av_timing", "audio_early", "The sound is early.")
    };
    let silent = Defect {
        cause: Cause::Silence,
        track: Some(Track::audio(0)),
        value: -91.0,
        limit: -60.0,
        unit: "dBFS",
        start: at(1_500_000),
        ..bad(
            "cooking-3",
            "silence",
            "silent",
            "There is <b>no</b> sound.",
        )
    };
    let lost = Defect {
        severity: Severity::Critical,
        cause: Cause::NoInput,
        value: 95.0,
        limit: 30.0,
        start: at(95_000),
        ..bad("feed-7", "loss", "no_input", "Nothing arrives.")
    };
    let stream = |id: &str, state, defects: Vec<Defect>| {
        let (mut status, stats) = watched(id, Protocol::Hls, state);
        let mut stream = (*status.stream).clone();
        stream.labels = labels(id);
        status.stream = Arc::new(stream);
        let ago_ms = if state == State::Down { 95_000 } else { 400 };
        let last = Arrival::from_millis(NOW_MS - ago_ms);
        status.tracks[0].last = (state != State::Connecting).then_some(last);
        status.defects = defects;
        (status, stats)
    };
    let streams = vec![
        stream("kids-4", State::Running, vec![]),
        stream("news-1", State::Degraded, vec![early.clone()]),
        stream("arena-2", State::Degraded, vec![frozen.clone()]),
        stream("cooking-3", State::Degraded, vec![silent.clone()]),
        stream("music-5", State::Running, vec![]),
        stream("feed-7", State::Down, vec![lost.clone()]),
        stream("new-8", State::Connecting, vec![]),
    ];
    let lookup = |defect: &Defect| match defect.detector {
        "freeze" => vec!["evidence/arena-2/freeze_1".to_owned()],
        _ => vec![],
    };
    let desk = Desk::open(desk::Settings {
        composer: Arc::new(Composer::new(fake.epoch, "watch-1", Some(Arc::new(lookup)))),
        epoch: fake.epoch,
        data_dir: fresh_folder(),
        store: store::Settings {
            ballast_bytes: 4096,
            ..store::Settings::default()
        },
        incidents: Incidents::default(),
        receivers: Vec::new(),
        away: AWAY,
        links: None,
        addresses: public_addresses(),
    })
    .unwrap();
    desk.set_streams(
        &streams
            .iter()
            .map(|(s, _)| Arc::clone(&s.stream))
            .collect::<Vec<_>>(),
    );
    *fake.streams.lock().unwrap() = streams;
    let works = glasswatch::alert::incident::Mute {
        id: "mute-1".into(),
        matchers: [("stream".to_owned(), "cooking-3".to_owned())].into(),
        author: "sam".into(),
        reason: "sound desk is being replaced".into(),
        from: fake.epoch.utc(at(1_600_000).arrival),
        until: Timestamp::now() + SignedDuration::from_hours(2),
    };
    desk.mute(works, Timestamp::now()).unwrap();
    for defect in [frozen, early, silent, lost] {
        hear(&desk, fake.epoch, defect);
    }
    // What might have been one of many was alone.
    desk.tick(Timestamp::now());
    fake.desk.set(Arc::new(desk)).ok().unwrap();
    Arc::new(fake)
}

fn hear(desk: &Desk, epoch: Epoch, defect: Defect) {
    let raise = Transition {
        change: Change::Raise,
        at: defect.start,
        defect,
    };
    desk.hear(&raise, epoch.utc(raise.at.arrival));
}

/// A picture of a programme: a sky, hills and a ball.
fn still(path: &Path, ball: i64) {
    let picture = RgbImage::from_fn(640, 360, |x, y| {
        let (x, y) = (i64::from(x), i64::from(y));
        let hill = 230 + ((x * 7 % 640 - 320).abs() / 8) - x / 16;
        let inside = (x - ball).pow(2) + (y - 150).pow(2) < 45 * 45;
        match () {
            () if inside => Rgb([250, 214, 60]),
            () if y > hill => Rgb([40 + (x / 16) as u8, 120 - (y / 8) as u8, 50]),
            () => Rgb([70 + (y / 4) as u8, 140 + (y / 6) as u8, 225]),
        }
    });
    picture.save_with_format(path, ImageFormat::Jpeg).unwrap();
}

/// A folder of evidence with one set.
fn evidence() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("arena-2/freeze_1");
    std::fs::create_dir_all(&set).unwrap();
    still(&set.join("last_good.jpg"), 250);
    still(&set.join("first_bad.jpg"), 250);
    std::fs::write(set.join("defect.json"), "{}").unwrap();
    std::fs::write(set.join("plot.svg"), PLOT).unwrap();
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-loop", "1", "-framerate", "25", "-i"])
        .arg(set.join("last_good.jpg"))
        .args(["-t", "4", "-vf", "scroll=horizontal=0.002"])
        .args([
            "-c:v",
            "libx264",
            "-pix_fmt",
            "yuv420p",
            "-movflags",
            "+faststart",
        ])
        .arg(set.join("clip.mp4"))
        .status();
    assert!(made.unwrap().success(), "ffmpeg made no clip");
    dir
}

/// A plot as evidence has them: a style of its own, and nothing else.
const PLOT: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 360">
<style>text{font:20px sans-serif} path{fill:none;stroke:#1b5e8c;stroke-width:3}</style>
<rect width="640" height="360" fill="#fff"/><text x="20" y="40">still_secs</text>
<path d="M20 330H300L620 60"/><path d="M20 310H620" style="stroke:#b00020;stroke-dasharray:8 6"/></svg>"##;

/// Every visible text whose contrast with what lies behind it is below 4.5 to 1.
const FAINT: &str = r#"(() => {
  const numbers = (text) => text.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const ground = numbers(getComputedStyle(node).backgroundColor);
      if (ground.length === 3 || ground[3] === 1) return ground;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  for (let text = walk.nextNode(); text; text = walk.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility() || node.closest("noscript")) continue;
    seen += 1;
    const [a, b] = [light(numbers(getComputedStyle(node).color)), light(behind(node))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(2)}: ${text.data}`);
  }
  return seen < 30 ? ["too little text"] : faint;
})()"#;

/// Pictures go into the documents when they are to be renewed, else where nobody minds.
fn keep(name: &str, picture: &[u8]) {
    let folder = match std::env::var_os("GLASSWATCH_UPDATE") {
        Some(_) => Path::new(env!("CARGO_MANIFEST_DIR")).join("docs"),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).join("page"),
    };
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), picture).unwrap();
}

fn url(server: &Server) -> String {
    format!("http://{}/", server.address())
}

const CARD: &str = "document.querySelector('#incidents > .cards > .card')";
const PICTURES_LOADED: &str = "[...document.querySelectorAll('#incidents figure img')].filter((i) => i.naturalWidth > 0).length === 3";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_is_wrong_with_its_evidence_in_place() {
    let dir = evidence();
    let source = scene(dir.path());
    let server = serve(&source, None).await;
    let mut browser = Browser::start();
    browser.look(1200, 1500, "light");
    browser.open(&url(&server));
    browser.until("document.querySelectorAll('#incidents > .cards > .card').length === 3");
    browser.until(PICTURES_LOADED);
    browser.until("document.querySelector('#connection').dataset.how === 'live'");
    browser.until("document.querySelector('#streams .thumb')?.naturalWidth > 0");
    browser.until("document.querySelector('#incidents video').readyState >= 2");
    // The clip plays where it stands, from any place.
    browser.eval("document.querySelector('#incidents video').play()");
    browser.until("document.querySelector('#incidents video').currentTime > 0.3");
    browser.eval("document.querySelector('#incidents video').currentTime = 3");
    browser.until("document.querySelector('#incidents video').ended");
    browser.eval("document.querySelector('#incidents video').currentTime = 1");
    browser.until("!document.querySelector('#incidents video').seeking");
    let text = |browser: &mut Browser, of: &str| {
        let text = browser.eval(&format!("document.querySelector('{of}').innerText"));
        text.as_str().unwrap().to_owned()
    };
    let worst = text(&mut browser, "#incidents > .cards > .card");
    for said in [
        "critical",
        "since",
        "(4 min)",
        "Arena: the picture has stood still",
        "limit 10",
        "Last good picture",
        "Acknowledge",
        "Mute…",
    ] {
        assert!(worst.contains(said), "{said}: {worst}");
    }
    let alts =
        browser.eval("[...document.querySelectorAll('#incidents img')].map((i) => i.alt).join()");
    assert!(
        alts.as_str()
            .unwrap()
            .contains("First bad picture: The picture has stood still")
    );
    assert!(text(&mut browser, "header").contains("Europe/Berlin (UTC+"));
    assert!(
        text(&mut browser, "#quiet summary").contains("(1)"),
        "muted"
    );
    assert!(text(&mut browser, "#mutes").contains("sound desk is being replaced (sam)"));
    let order = browser.eval("[...document.querySelectorAll('#streams tbody th')].map((t) => t.innerText.split(' ')[0].trim()).join()");
    assert_eq!(
        order,
        "feed-7,arena-2,cooking-3,news-1,new-8,kids-4,music-5"
    );
    let markup = "document.querySelectorAll('main b, main script').length";
    assert_eq!(browser.eval(markup), 0, "text from outside stays text");
    let quiet = browser.eval("document.querySelector('#quiet').textContent");
    assert!(quiet.as_str().unwrap().contains("<b>no</b> sound"));
    // Every sign has a word beside its shape.
    let bare = "[...document.querySelectorAll('.icon')].filter((i) => !i.parentElement.textContent.trim()).length";
    assert_eq!(browser.eval(bare), 0);
    for (scheme, width, height) in [
        ("light", 1200, 1500),
        ("dark", 1200, 1500),
        ("light", 360, 1400),
    ] {
        browser.look(width, height, scheme);
        browser.eval("new Promise((done) => setTimeout(done, 300))");
        assert_eq!(
            browser.eval(FAINT),
            serde_json::json!([]),
            "{scheme} {width}"
        );
        let wide = browser.eval("document.documentElement.scrollWidth - window.innerWidth");
        assert!(
            wide.as_i64().unwrap() <= 0,
            "{width} px wide is too narrow: {wide}"
        );
        let name = if width < 600 { "narrow" } else { scheme };
        keep(&format!("page-{name}.png"), &browser.picture());
    }
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
    // What is not told any more says so.
    server.stop(Duration::ZERO).await;
    browser.eval("{ const now = Date.now; Date.now = () => now() + 60000; }");
    browser.until("document.querySelector('#connection').innerText.includes('may be old')");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_is_taken_on_and_muted_by_keyboard() {
    let dir = evidence();
    let source = scene(dir.path());
    let server = serve(&source, None).await;
    let mut browser = Browser::start();
    browser.look(1000, 900, "dark");
    browser.open(&url(&server));
    browser.until(CARD);
    browser.until(PICTURES_LOADED);
    let tab_to = |browser: &mut Browser, label: &str| {
        for _ in 0..40 {
            let focus = browser.eval("document.activeElement?.textContent");
            if focus == label {
                let seen = "getComputedStyle(document.activeElement).outlineStyle";
                assert_eq!(browser.eval(seen), "solid", "the focus is seen");
                return;
            }
            browser.press("Tab");
        }
        panic!("{label} is not reached");
    };
    tab_to(&mut browser, "Acknowledge");
    browser.press("Enter");
    browser.until("document.querySelector('#take').open && document.activeElement.name === 'by'");
    browser.press("Enter");
    browser.until("document.querySelector('#take').open");
    browser.write("kim");
    browser.press("Enter");
    browser.until(&format!("{CARD}.innerText.includes('taken on by kim')"));
    let now = Timestamp::now();
    let worst = source.desk().incidents(now).remove(0);
    assert_eq!(worst.acknowledged_by.as_deref(), Some("kim"));

    // Told while it happens, not when somebody asks next.
    browser.eval("document.querySelector('#announcer').textContent = ''");
    let black = bad("kids-4", "black", "black_long", "The picture is black.");
    hear(&source.desk(), source.epoch, black);
    browser.until("document.querySelector('#announcer').textContent.startsWith('New warning incident: Kids: the picture is black')");
    browser.until("document.querySelectorAll('#incidents > .cards > .card').length === 4");

    browser.eval(&format!(
        "{CARD}.querySelector('[data-focus=mute]').focus()"
    ));
    browser.press("Enter");
    browser.until("document.querySelector('#mute .preview').innerText === 'It hides 1 of 7 streams: arena-2.'");
    browser.eval("document.querySelectorAll('#mute [name=what]')[2].click()");
    browser.until("document.querySelector('#mute .preview').innerText === 'It hides 3 of 7 streams: arena-2, cooking-3, feed-7.'");
    browser.eval("document.querySelector('#mute [name=reason]').focus()");
    browser.write("works at the origin");
    keep("page-mute.png", &browser.picture());
    let name = browser.eval("document.querySelector('#mute [name=author]').value");
    assert_eq!(name, "kim", "the name is remembered");
    browser.press("Enter");
    browser.until("document.querySelector('#mutes').innerText.includes('origin=south')");
    browser.until("document.querySelectorAll('#incidents > .cards > .card').length === 2");
    assert_eq!(source.desk().mutes().len(), 2);
    let end = "[...document.querySelectorAll('#mutes button')].find((b) => b.ariaLabel.includes('origin=south'))";
    browser.eval(&format!("{end}.focus()"));
    browser.press("Enter");
    browser.until(&format!("!{end}"));
    assert_eq!(source.desk().mutes().len(), 1);
    browser.eval("document.querySelector('#past summary').focus()");
    browser.press("Enter");
    browser.until("document.querySelector('#past').innerText.includes('There are none.')");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_asks_for_the_token_and_shows_everything_with_it() {
    let dir = evidence();
    let source = scene(dir.path());
    let server = serve(&source, Some("letmein")).await;
    let mut browser = Browser::start();
    browser.look(1000, 900, "light");
    browser.open(&url(&server));
    for (token, then) in [
        (
            "letmeout",
            "document.querySelector('#ask .problem')?.innerText.includes('not taken')",
        ),
        ("letmein", CARD),
    ] {
        browser.until(
            "document.querySelector('#ask')?.open && document.activeElement.name === 'token'",
        );
        browser.write(token);
        browser.press("Enter");
        browser.until(then);
    }
    browser.until(PICTURES_LOADED);
    browser.until("document.querySelector('#connection').dataset.how === 'live'");
    let from = browser.eval("document.querySelector('#incidents img').src");
    assert!(
        from.as_str().unwrap().starts_with("blob:"),
        "a picture cannot send a token"
    );
    let shown = "location.href + document.documentElement.outerHTML";
    assert!(!browser.eval(shown).as_str().unwrap().contains("letmein"));
    let others: Vec<_> = browser
        .complaints
        .iter()
        .filter(|c| !c.contains("401"))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}
