use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use detectors::base::{
    Arrival, Cause, Exhibit, Limit, MediaTime, Range, RuleSpec, Severity, Track,
};
use gstreamer_video::VideoFormat as F;

use super::*;
use crate::alert::{Defect, Moment};
use crate::lane::testing::{Journal, LUMA, bright, grey, picture, picture_of, stream};
use crate::lane::{Lane, Mode, Outlet, Pool};

const SOON: Duration = Duration::from_secs(60);

pub(super) fn defect(n: u64, track: Option<Track>) -> Defect {
    Defect {
        id: format!("0123456789abcdef-{:x}", 1_700_000_000_000 + n),
        fingerprint: "0123456789abcdef".to_owned(),
        stream: Arc::from("one"),
        labels: Arc::new(BTreeMap::new()),
        detector: "luma",
        rule: "bright",
        track,
        member: None,
        severity: Severity::Warning,
        cause: Cause::PictureDamage,
        place: None,
        av_offsets: Vec::new(),
        value: 250.0,
        limit: 200.0,
        unit: "codes",
        says: "The picture glares.".to_owned(),
        start: Moment {
            media: Some(MediaTime::from_millis(1500)),
            arrival: Arrival::from_millis(1500),
        },
        end: None,
    }
}

fn ms(n: u64) -> Arrival {
    Arrival::from_millis(n)
}

fn centre(path: &Path) -> [u8; 3] {
    let image = image::open(path).unwrap().to_rgb8();
    image.get_pixel(image.width() / 2, image.height() / 2).0
}

fn near(got: [u8; 3], want: [u8; 3], by: u8) -> bool {
    got.iter().zip(want).all(|(a, b)| a.abs_diff(b) <= by)
}

#[test]
fn colours_come_out_right_for_every_layout_depth_range_and_matrix() {
    // 75 % red, green and blue as ITU-R BT.601/709 code them, limited range, 8 bit.
    let sd = [
        ([65, 100, 212], [191, 0, 0]),
        ([112, 72, 58], [0, 191, 0]),
        ([35, 212, 114], [0, 0, 191]),
    ];
    let hd = [
        ([51, 109, 212], [191, 0, 0]),
        ([133, 63, 52], [0, 191, 0]),
        ([28, 212, 120], [0, 0, 191]),
    ];
    for (rows, table) in [(576, sd), (1080, hd)] {
        for (codes, rgb) in table {
            for format in [F::I420, F::Nv12, F::Y42b, F::Y444, F::Yuy2] {
                let picture = picture_of(format, 16, rows, codes, Range::Limited);
                let image = render(&picture, None).unwrap();
                let got = image.get_pixel(9, 20).0;
                assert!(near(got, rgb, 3), "{format:?} {rows}: {got:?}, not {rgb:?}");
            }
            for (format, shift) in [
                (F::I42010le, 2),
                (F::P01010le, 2),
                (F::I42212le, 4),
                (F::Y44410le, 2),
            ] {
                let codes = codes.map(|c: u16| c << shift);
                let picture = picture_of(format, 16, rows, codes, Range::Limited);
                let got = render(&picture, None).unwrap().get_pixel(9, 20).0;
                assert!(near(got, rgb, 3), "{format:?} {rows}: {got:?}, not {rgb:?}");
            }
        }
    }
    let table = [
        (F::I420, [16, 128, 128], Range::Limited, [0, 0, 0]),
        (F::I420, [235, 128, 128], Range::Limited, [255, 255, 255]),
        (F::I420, [255, 128, 128], Range::Full, [255, 255, 255]),
        (F::I420, [16, 128, 128], Range::Full, [16, 16, 16]),
        (F::Gray8, [235, 0, 0], Range::Limited, [255, 255, 255]),
        (F::Rgb, [10, 20, 30], Range::Full, [10, 20, 30]),
        (F::Bgrx, [10, 20, 30], Range::Full, [10, 20, 30]),
    ];
    for (format, codes, range, rgb) in table {
        let picture = picture_of(format, 64, 64, codes, range);
        let got = render(&picture, None).unwrap().get_pixel(63, 63).0;
        assert!(near(got, rgb, 1), "{format:?}: {got:?}, not {rgb:?}");
    }
}

#[test]
fn formats_that_cannot_be_drawn_are_refused() {
    for format in [F::V210, F::I42010be, F::Nv1232l32] {
        let picture = picture_of_any(format);
        assert_eq!(
            render(&picture, None).err(),
            Some(RenderError::UnsupportedFormat),
            "{format:?}"
        );
    }
}

fn picture_of_any(format: F) -> crate::ingest::PictureBuffer {
    gstreamer::init().unwrap();
    let info = gstreamer_video::VideoInfo::builder(format, 64, 64)
        .build()
        .unwrap();
    let buffer = gstreamer::Buffer::with_size(info.size()).unwrap();
    let frame = gstreamer_video::VideoFrame::from_buffer_readable(buffer, &info).unwrap();
    crate::ingest::PictureBuffer {
        frame,
        bits: 8,
        range: Range::Limited,
    }
}

#[test]
fn wide_pictures_are_scaled_and_odd_sizes_survive() {
    let size = |w, h| {
        let picture = picture_of(F::I420, w, h, [90, 128, 128], Range::Limited);
        let image = render(&picture, None).unwrap();
        (image.width(), image.height())
    };
    assert_eq!(size(1920, 1080), (960, 540));
    assert_eq!(size(961, 1), (960, 1));
    assert_eq!(size(720, 576), (720, 576));
    assert_eq!(size(35, 17), (35, 17));
    assert_eq!(size(1, 1), (1, 1));
}

#[test]
fn damaged_tiles_are_tinted_and_outlined_at_their_place() {
    // 1920 x 1080 in tiles of 16: one strong tile region, one faint tile.
    let picture = picture_of(F::I420, 1920, 1080, [126, 128, 128], Range::Limited);
    let columns = 120;
    let mut values = vec![0; columns * 68];
    for row in 10..14 {
        for column in 20..24 {
            values[row * columns + column] = 255;
        }
    }
    values[50 * columns + 100] = 30;
    let exhibit = Exhibit::TileMap {
        columns,
        values,
        tile_px: 16,
    };
    let image = render(&picture, Some(&exhibit)).unwrap();
    let at = |x: u32, y: u32| image.get_pixel(x, y).0;
    assert_eq!(at(20 * 8, 10 * 8), [255, 0, 0], "outline");
    assert_eq!(at(24 * 8 - 1, 14 * 8 - 1), [255, 0, 0], "outline");
    let [r, g, b] = at(22 * 8, 12 * 8);
    assert!(r > 160 && g < 90 && g == b, "tint: {r} {g} {b}");
    assert_eq!(at(19 * 8, 10 * 8), [128; 3], "outside");
    let [r, g, _] = at(100 * 8 + 4, 50 * 8 + 4);
    assert!(r > 130 && r < 140 && g < 128, "faint tint, no outline");
    // A map that does not fit draws what it can.
    let torn = Exhibit::TileMap {
        columns: 7,
        values: vec![255; 3],
        tile_px: 0,
    };
    render(&picture, Some(&torn)).unwrap();
}

#[test]
fn a_set_is_written_whole_under_its_published_path() {
    let dir = tempfile::tempdir().unwrap();
    let stills = Stills::open(dir.path(), 10 << 20);
    let mut keeper = Keeper::new(Arc::clone(&stills));
    let video = Some(Track::video(0));
    keeper.picture(Track::video(0), grey(60), Suspicion::None, None, ms(0));
    keeper.picture(
        Track::video(0),
        grey(235),
        Suspicion::Troubled,
        None,
        ms(40),
    );
    keeper.raised(defect(0, video), None, None, ms(0));
    keeper.raised(defect(1, Some(Track::audio(0))), None, None, ms(0));
    assert!(stills.flush(SOON));
    let sets = stills.list("one");
    assert_eq!(sets.len(), 2);
    assert_eq!(sets[0].dir, relative_dir(&defect(0, video)));
    assert_eq!(
        sets[0].dir,
        Path::new("evidence/one/20231114T221320000Z_luma_0123456789abcdef-18bcfe56800")
    );
    assert_eq!(
        sets[0].files,
        ["defect.json", "first_bad.jpg", "last_good.jpg"]
    );
    assert_eq!(
        sets[1].files,
        ["defect.json", "last_good.jpg"],
        "sound has no bad picture"
    );
    let at = dir.path().join(&sets[0].dir);
    assert!(near(centre(&at.join("last_good.jpg")), [51; 3], 2));
    assert!(near(centre(&at.join("first_bad.jpg")), [255; 3], 2));
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(at.join("defect.json")).unwrap()).unwrap();
    assert_eq!(json["track"], "video:0");
    assert_eq!(json["start"]["media_secs"], 1.5);
    let counts = stills.counts();
    assert_eq!((counts.written, counts.dropped, counts.failed), (2, 0, 0));
}

#[test]
fn the_good_picture_is_from_before_the_trouble_and_the_bad_one_its_first() {
    let dir = tempfile::tempdir().unwrap();
    let stills = Stills::open(dir.path(), 10 << 20);
    let mut keeper = Keeper::new(Arc::clone(&stills));
    let track = Track::video(0);
    let mut show = |at: u64, code: u8, suspicion| {
        keeper.picture(track, grey(code), suspicion, None, ms(at));
    };
    show(0, 40, Suspicion::None);
    show(500, 50, Suspicion::None); // too soon to renew
    show(1000, 60, Suspicion::None);
    show(1040, 70, Suspicion::Hinted);
    show(1080, 80, Suspicion::None); // it was nothing
    show(1120, 90, Suspicion::Hinted); // the first bad one
    show(3000, 100, Suspicion::Troubled);
    show(60_000, 110, Suspicion::Troubled);
    keeper.picture(
        Track::video(3),
        grey(200),
        Suspicion::None,
        None,
        ms(60_001),
    );
    keeper.raised(defect(0, Some(track)), None, None, ms(0));
    assert!(stills.flush(SOON));
    let at = dir.path().join(&stills.list("one")[0].dir);
    let shown = |code: f32| [((code - 16.0) * 255.0 / 219.0).round() as u8; 3];
    assert!(near(centre(&at.join("last_good.jpg")), shown(60.0), 2));
    assert!(near(centre(&at.join("first_bad.jpg")), shown(90.0), 2));
}

#[test]
fn the_worst_picture_is_kept_soon_after_the_raise_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let stills = Stills::open(dir.path(), 10 << 20);
    let mut keeper = Keeper::new(Arc::clone(&stills));
    let track = Track::video(0);
    let percent = Measure {
        signal: "damage_percent",
        limit: Limit::AtLeast(3.0),
    };
    let lowest = Measure {
        signal: "level",
        limit: Limit::AtMost(3.0),
    };
    let mut show = |at: u64, code: u8, value: f64| {
        let picture = Arc::new(grey(code));
        keeper.picture(
            track,
            Arc::clone(&picture),
            Suspicion::Troubled,
            None,
            ms(at),
        );
        if at == 0 {
            keeper.raised(defect(0, Some(track)), None, Some(percent), ms(at));
            keeper.raised(defect(1, Some(track)), None, Some(lowest), ms(at));
            keeper.raised(defect(2, Some(track)), None, Some(lowest), ms(at));
        }
        keeper.look(track, &picture, |_, _| Some((value, None)), ms(at));
    };
    let centre_of = |n: u64| {
        assert!(stills.flush(SOON));
        let worst = dir
            .path()
            .join(relative_dir(&defect(n, Some(track))))
            .join("worst.jpg");
        worst.exists().then(|| centre(&worst))
    };
    let shown = |code: f32| Some([((code - 16.0) * 255.0 / 219.0).round() as u8; 3]);
    show(0, 50, 5.0);
    show(500, 60, 9.0);
    show(1000, 70, 2.0);
    assert_eq!(centre_of(0), None);
    show(2000, 80, 8.0);
    assert_eq!((centre_of(0), centre_of(1)), (shown(60.0), shown(70.0)));
    show(2500, 90, 1.0);
    show(3000, 100, 10.0);
    assert_eq!(centre_of(0), shown(60.0), "not with every picture");
    keeper.cleared(&defect(0, Some(track)));
    keeper.finish();
    assert_eq!((centre_of(0), centre_of(1)), (shown(100.0), shown(90.0)));
    assert_eq!(centre_of(2), None, "two at once");
}

#[test]
fn a_lasting_hint_alone_does_not_keep_an_old_picture_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let stills = Stills::open(dir.path(), 10 << 20);
    let mut keeper = Keeper::new(Arc::clone(&stills));
    for n in 0..40 {
        keeper.picture(
            Track::video(0),
            grey(40 + n),
            Suspicion::Hinted,
            None,
            ms(u64::from(n) * 1000),
        );
    }
    keeper.raised(defect(0, None), None, None, ms(0));
    assert!(stills.flush(SOON));
    assert!(
        stills.list("one")[0].files.len() == 1,
        "nothing was ever good"
    );
    keeper.picture(Track::video(0), grey(40), Suspicion::None, None, ms(50_000));
    for n in 0..60 {
        let code = if n < 29 { 60 } else { 100 };
        keeper.picture(
            Track::video(0),
            grey(code),
            Suspicion::Hinted,
            None,
            ms(51_000 + n * 1000),
        );
    }
    keeper.raised(defect(1, None), None, None, ms(0));
    assert!(stills.flush(SOON));
    let at = dir.path().join(&stills.list("one")[1].dir);
    assert!(near(centre(&at.join("last_good.jpg")), [98; 3], 2));
}

#[test]
fn the_quota_holds_and_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let one_set = {
        let trial = tempfile::tempdir().unwrap();
        let stills = Stills::open(trial.path(), 10 << 20);
        write(&stills, 0..1);
        stills.counts().bytes
    };
    assert!(one_set > 500);
    let stills = Stills::open(dir.path(), one_set * 5 + 20);
    write(&stills, 0..12);
    let counts = stills.counts();
    assert_eq!((counts.written, counts.evicted), (12, 7));
    assert_eq!(counts.bytes, on_disk(dir.path()));
    let left: Vec<_> = stills.list("one").into_iter().map(|s| s.dir).collect();
    let newest: Vec<_> = (7..12).map(|n| relative_dir(&defect(n, None))).collect();
    assert_eq!(left, newest);
    // The same defect again replaces its set.
    write(&stills, 11..12);
    assert_eq!(stills.list("one").len(), 5);
    assert_eq!(stills.counts().bytes, on_disk(dir.path()));
    drop(stills);
    // A later run counts what is there, clears what was left half written, and shrinks to a smaller quota.
    let aside = dir.path().join("evidence/one/.half.tmp");
    std::fs::create_dir_all(&aside).unwrap();
    let stills = Stills::open(dir.path(), one_set * 2 + 20);
    assert!(stills.flush(SOON));
    assert!(!aside.exists());
    assert_eq!(stills.list("one").len(), 2);
    assert!(on_disk(dir.path()) <= one_set * 2 + 20);
    drop(stills);
    // A set larger than the quota is not written at all.
    let stills = Stills::open(dir.path(), 100);
    write(&stills, 20..21);
    assert_eq!(on_disk(dir.path()), 0);
    assert_eq!((stills.counts().written, stills.counts().failed), (0, 1));
}

#[test]
fn a_stream_takes_no_more_than_its_share_while_others_have_sets() {
    let dir = tempfile::tempdir().unwrap();
    let one_set = {
        let trial = tempfile::tempdir().unwrap();
        let stills = Stills::open(trial.path(), 10 << 20);
        write(&stills, 0..1);
        stills.counts().bytes
    };
    let stills = Stills::open(dir.path(), one_set * 12 + 60);
    write(&stills, 0..10);
    assert_eq!(stills.list("one").len(), 10, "nobody else needs the room");
    let mut keeper = Keeper::new(Arc::clone(&stills));
    keeper.picture(Track::video(0), grey(60), Suspicion::None, None, ms(0));
    let other = Defect {
        stream: Arc::from("two"),
        ..defect(20, None)
    };
    keeper.raised(other, None, None, ms(0));
    write(&stills, 30..31);
    assert_eq!((stills.list("one").len(), stills.list("two").len()), (3, 1));
    assert_eq!(stills.list("one")[2].dir, relative_dir(&defect(30, None)));
    assert_eq!(stills.counts().bytes, on_disk(dir.path()));
}

pub(super) fn write(stills: &Arc<Stills>, which: std::ops::Range<u64>) {
    let mut keeper = Keeper::new(Arc::clone(stills));
    keeper.picture(Track::video(0), grey(60), Suspicion::None, None, ms(0));
    for n in which {
        keeper.raised(defect(n, None), None, None, ms(0));
    }
    assert!(stills.flush(SOON));
}

fn on_disk(dir: &Path) -> u64 {
    let mut total = 0;
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    for entry in entries.flatten() {
        let meta = entry.metadata().unwrap();
        total += if meta.is_dir() {
            on_disk(&entry.path())
        } else {
            meta.len()
        };
    }
    total
}

#[test]
fn a_full_queue_drops_and_counts() {
    let (stills, _inbox) = Stills::unattended();
    let mut keeper = Keeper::new(Arc::clone(&stills));
    keeper.picture(Track::video(0), grey(60), Suspicion::None, None, ms(0));
    for n in 0..100 {
        keeper.raised(defect(n, None), None, None, ms(0));
    }
    assert_eq!(stills.counts().dropped, 100 - store::QUEUE as u64);
}

#[test]
fn a_disk_that_refuses_is_counted_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("no-directory");
    std::fs::write(&file, b"x").unwrap();
    let stills = Stills::open(&file, 10 << 20);
    write(&stills, 0..3);
    assert_eq!((stills.counts().written, stills.counts().failed), (0, 3));
    assert!(stills.list("one").is_empty());
}

#[test]
fn names_on_disk_hold_no_way_out() {
    let mut odd = defect(0, None);
    odd.stream = Arc::from("../../etc");
    odd.id = "../x/\0y".to_owned();
    let path = relative_dir(&odd);
    assert_eq!(path.components().count(), 3);
    assert!(!path.to_string_lossy().contains(".."));
}

#[test]
fn a_lane_hands_its_pictures_over() {
    let dir = tempfile::tempdir().unwrap();
    let stills = Stills::open(dir.path(), 10 << 20);
    let pool = Pool::new(1).unwrap();
    let rules: [RuleSpec; 2] = [
        bright("luma_codes", 100, Severity::Critical),
        RuleSpec {
            name: "dim",
            raise: Limit::AtMost(20.0),
            clear: Limit::AtLeast(21.0),
            ..bright("luma_codes", 0, Severity::Info)
        },
    ];
    let outlet = Arc::new(Journal::default());
    let lane = Lane::open(
        &pool,
        Arc::new(stream(&[(&LUMA, &rules)])),
        Mode::Offline,
        Arc::clone(&outlet) as Arc<dyn Outlet>,
        Some(Arc::clone(&stills)),
    );
    let intake = lane.intake();
    for (n, code) in [60, 60, 10, 60, 60, 230, 240, 240, 240]
        .into_iter()
        .enumerate()
    {
        intake.push(picture(0, n as i64 * 40, code));
    }
    assert!(lane.close_and_wait(SOON));
    assert!(stills.flush(SOON));
    let sets = stills.list("one");
    assert_eq!(sets.len(), 1, "info leaves no stills");
    let transitions = outlet.transitions.lock().unwrap();
    let critical = transitions
        .iter()
        .find(|t| t.defect.rule == "bright")
        .unwrap();
    assert_eq!(relative_dir(&critical.defect), sets[0].dir);
    let at = dir.path().join(&sets[0].dir);
    assert!(near(centre(&at.join("last_good.jpg")), [51; 3], 2));
    assert!(near(centre(&at.join("first_bad.jpg")), [249; 3], 2));
}
