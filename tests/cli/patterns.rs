//! Test patterns and blank pictures as an encoder at a low rate leaves them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::rig::*;

/// What `blank` and `bars` say of four seconds of a lavfi source behind x264: rules with their causes.
fn told(dir: &Path, source: &str) -> BTreeSet<(String, String)> {
    let path = dir.join("pattern.ts");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", source]);
    command.args(
        "-t 4 -pix_fmt yuv420p -c:v libx264 -preset veryfast -b:v 150k -g 50 -threads 1".split(' '),
    );
    let made = command.args(["-f", "mpegts"]).arg(&path).status().unwrap();
    assert!(made.success(), "{source}");
    let done = analyze(&path, &[]);
    assert_eq!(done.code, Some(0), "{source} {done:?}");
    let ours = |d: &serde_json::Value| d["detector"] == "blank" || d["detector"] == "bars";
    let word = |d: &serde_json::Value, key: &str| d[key].as_str().unwrap().to_owned();
    (done.defects().iter().filter(|d| ours(d)))
        .map(|d| (word(d, "rule"), word(d, "cause")))
        .collect()
}

#[test]
fn patterns_and_blank_pictures_are_known_behind_an_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let half_green = "testsrc2=s=320x180:r=25,geq=\
         lum='if(gte(T,1)*gte(Y,96),0,lum(X,Y))':\
         cb='if(gte(T,1)*gte(Y,48),0,cb(X,Y))':\
         cr='if(gte(T,1)*gte(Y,48),0,cr(X,Y))'";
    for (source, expected) in [
        ("smptebars=s=640x360:r=25", Some(("bars", "bars_smpte"))),
        ("smptehdbars=s=320x180:r=25", Some(("bars", "bars_hd"))),
        ("pal75bars=s=720x576:r=25", Some(("bars", "bars"))),
        ("pal100bars=s=320x180:r=25", Some(("bars", "bars"))),
        ("color=blue:s=320x180:r=25", Some(("blank", "blank_colour"))),
        (
            "color=black:s=320x180:r=25,lutyuv=y=128:u=128:v=128",
            Some(("blank", "blank_grey")),
        ),
        (
            "color=black:s=320x180:r=25,lutyuv=y=0:u=0:v=0",
            Some(("blank", "blank_green")),
        ),
        (half_green, Some(("part_blank", "blank_green"))),
        ("testsrc2=s=320x180:r=25", None),
        ("rgbtestsrc=s=320x180:r=25", None),
    ] {
        let expected: BTreeSet<_> = (expected.into_iter())
            .map(|(rule, cause)| (rule.to_owned(), cause.to_owned()))
            .collect();
        assert_eq!(told(dir.path(), source), expected, "{source}");
    }
}
