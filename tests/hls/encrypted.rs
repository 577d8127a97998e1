//! Keys of encrypted samples, as the origin, the operator and licence servers give them. What they open is tested where
//! it is decoded.

use detectors::base::Cause;
use glasswatch::config::{ContentKeys, Licence, Protocol, Secret};
use glasswatch::ingest::source::Retry;

use crate::rig::*;

const ID: &str = "9eb4050de44b4802932e27d75083e266";
const OTHER: &str = "00112233445566778899aabbccddeeff";

fn id(text: &str) -> [u8; 16] {
    u128::from_str_radix(text, 16).unwrap().to_be_bytes()
}

fn list(words: &[(&str, u8)]) -> ContentKeys {
    let word = |(id, key): &(&str, u8)| format!("{id}:{}", format!("{key:02x}").repeat(16));
    let words: Vec<String> = words.iter().map(word).collect();
    ContentKeys::parse(&Secret::new(words.join(" "))).unwrap()
}

/// First byte of the named key, and last byte of its vector, of all keys that were fed.
fn named(rig: &Rig) -> Vec<Option<(u8, u8)>> {
    let keys = rig.recorder.keys(0);
    let named = keys.iter().map(|keys| keys.named.as_ref());
    named
        .map(|n| n.map(|n| (n.key.bytes()[0], n.iv[15])))
        .collect()
}

#[tokio::test]
async fn keys_of_samples_are_fed_before_what_they_open() {
    const LIST: &str = "#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:1,\ns0.ts\n\
        #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k1\"\n#EXTINF:1,\ns1.ts\n\
        #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k2\",IV=0x09\n#EXTINF:1,\ns2.ts\n#EXTINF:1,\ns3.ts\n\
        #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k1\",IV=0x09\n#EXTINF:1,\ns4.ts\n\
        #EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\ns5.ts";
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod(LIST)),
        "/k1" => ok(vec![1; 16]),
        "/k2" => ok(vec![2; 16]),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    assert_eq!(rig.recorder.marks(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(
        named(&rig),
        [Some((1, 8)), Some((2, 9)), Some((1, 9)), None]
    );
    assert_eq!(origin.asked("k1").len(), 1);
    assert_eq!(rig.facts.causes(), []);
}

#[tokio::test]
async fn samples_without_their_key_are_not_loaded_and_the_others_are() {
    const LIST: &str = "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"gone\"\n#EXTINF:1,\ns1.ts\n\
        #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"short\"\n#EXTINF:1,\ns2.ts\n\
        #EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\ns3.ts";
    let origin = Origin::start(|asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod(LIST)),
        "/gone" => status(404),
        "/short" => ok(vec![1; 15]),
        path => segment(path),
    })
    .await;
    let rig = rig(&format!("{}/a.m3u8", origin.url));
    rig.to_end().await;
    assert_eq!(rig.recorder.marks(), [3]);
    let causes = rig.facts.causes();
    assert!(causes.len() >= 2, "{causes:?}");
    assert!(causes.iter().all(|cause| *cause == Cause::EncryptedNoKey));
    assert_eq!(origin.asked("s1.ts").len() + origin.asked("s2.ts").len(), 0);
}

#[tokio::test]
async fn methods_that_nobody_knows_and_keys_of_key_systems_have_causes_of_their_own() {
    let fairplay = "KEYFORMAT=\"com.apple.streamingkeydelivery\"";
    for (key, cause) in [
        (
            "METHOD=AES-256,URI=\"k\"".to_owned(),
            Cause::EncryptionUnsupported,
        ),
        (
            "METHOD=AES-256-GCM,URI=\"k\"".to_owned(),
            Cause::EncryptionUnsupported,
        ),
        (
            format!("METHOD=SAMPLE-AES,URI=\"skd://a\",{fairplay}"),
            Cause::EncryptedNoKey,
        ),
        (
            format!("METHOD=AES-128,URI=\"skd://a\",{fairplay}"),
            Cause::EncryptedNoKey,
        ),
    ] {
        let segments = "#EXTINF:1,\ns1.ts\n".repeat(3);
        let list = format!("#EXT-X-KEY:{key}\n{segments}");
        let origin = Origin::start(move |asked| match asked.path.as_str() {
            "/a.m3u8" => ok(vod(&list)),
            path => segment(path),
        })
        .await;
        let rig = rig(&format!("{}/a.m3u8", origin.url));
        let end = rig.to_end().await;
        assert_eq!(
            (end.cause, end.retry),
            (Some(cause), Retry::Backoff),
            "{key}"
        );
        assert_eq!(origin.asked("s1.ts").len(), 0, "{key}");
    }
}

#[tokio::test]
async fn the_operators_key_is_found_by_the_id_in_the_name() {
    let list = format!(
        "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://x/{OTHER}\",KEYFORMAT=\"com.apple.streamingkeydelivery\",IV=0x3\n\
         #EXTINF:1,\ns1.ts"
    );
    let origin = Origin::start(move |asked| match asked.path.as_str() {
        "/a.m3u8" => ok(vod(&list)),
        path => segment(path),
    })
    .await;
    let url = format!("{}/a.m3u8", origin.url);
    for (keys, found) in [
        (self::list(&[(ID, 1), (OTHER, 2)]), vec![Some((2, 3))]),
        // The only key there is needs no id.
        (self::list(&[(ID, 1)]), vec![Some((1, 3))]),
    ] {
        let rig = rig_with(&url, |input| input.content_keys = keys);
        rig.to_end().await;
        assert_eq!(rig.recorder.marks(), [1]);
        assert_eq!(named(&rig), found);
        assert_eq!(rig.facts.causes(), []);
    }
}

fn mp4_box(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    let size = 8 + payload.len() as u32;
    [&size.to_be_bytes()[..], kind, &payload].concat()
}

/// An initialisation section with an encrypted sample entry.
fn init(key_id: [u8; 16]) -> Vec<u8> {
    let tenc = mp4_box(b"tenc", &[&[0; 6], &[1, 8], &key_id]);
    let sinf = mp4_box(
        b"sinf",
        &[
            &mp4_box(b"frma", &[b"avc1"]),
            &mp4_box(b"schm", &[&[0; 4], b"cenc", &[0, 1, 0, 0]]),
            &mp4_box(b"schi", &[&tenc]),
        ],
    );
    let entry = mp4_box(b"encv", &[&[0; 78], &sinf]);
    let stsd = mp4_box(b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1], &entry]);
    let stbl = mp4_box(b"stbl", &[&stsd]);
    let mdia = mp4_box(b"mdia", &[&mp4_box(b"minf", &[&stbl])]);
    let tkhd = mp4_box(b"tkhd", &[&[0; 12], &1_u32.to_be_bytes(), &[0; 64]]);
    let trak = mp4_box(b"trak", &[&tkhd, &mdia]);
    [mp4_box(b"ftyp", &[b"iso6"]), mp4_box(b"moov", &[&trak])].concat()
}

fn fragment() -> Vec<u8> {
    [
        mp4_box(b"moof", &[&[0; 20]]),
        mp4_box(b"mdat", &[&[0; 700]]),
    ]
    .concat()
}

/// A complete manifest of four segments, which says where licences are.
fn manifest(laurl: &str) -> String {
    format!(
        "<MPD type='static' mediaPresentationDuration='PT4S' xmlns:dashif='https://dashif.org/CPS'><Period>\
         <AdaptationSet mimeType='video/mp4'><ContentProtection schemeIdUri='urn:mpeg:dash:mp4protection:2011'/>\
         <ContentProtection schemeIdUri='urn:uuid:e2719d58-a985-b3c9-781a-b030af78d30e'>\
         <dashif:Laurl>{laurl}</dashif:Laurl></ContentProtection>\
         <SegmentTemplate initialization='i.mp4' media='$Number$.m4s' duration='1'/>\
         <Representation id='v' bandwidth='1'/></AdaptationSet></Period></MPD>"
    )
}

const ASKED: &[u8] = br#"{"kids":["nrQFDeRLSAKTLifXUIPiZg"],"type":"temporary"}"#;
const LICENCE: &str =
    r#"{"keys":[{"kty":"oct","kid":"nrQFDeRLSAKTLifXUIPiZg","k":"FmY0xnWCPCNaSpRG-tUuTQ"}]}"#;

/// An origin with a licence server that answers so.
async fn licensing(
    laurl: &'static str,
    answer: impl Fn(&Asked) -> axum::response::Response + Send + Sync + 'static,
) -> Origin {
    Origin::start(move |asked| match asked.path.as_str() {
        "/a.mpd" => ok(manifest(laurl)),
        "/i.mp4" => ok(init(id(ID))),
        path if path.ends_with(".m4s") => ok(fragment()),
        _ => answer(asked),
    })
    .await
}

fn dash(origin: &Origin, licence: Licence) -> Rig {
    rig_with(&format!("{}/a.mpd", origin.url), |input| {
        input.protocol = Protocol::Dash;
        input.licence = licence;
    })
}

#[tokio::test]
async fn keys_are_asked_for_once_where_the_operator_or_the_manifest_says() {
    for by_operator in [true, false] {
        let origin = licensing("keys/clear?token=s3cret", |asked| {
            assert_eq!(asked.body, ASKED);
            assert_eq!(asked.headers["content-type"], "application/json");
            ok(LICENCE)
        })
        .await;
        let licence = match by_operator {
            true => Licence::At(Secret::new(format!("{}/own", origin.url))),
            false => Licence::FromManifest,
        };
        let rig = dash(&origin, licence);
        rig.to_end().await;
        let keys = rig.recorder.keys(0);
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].by_id(&id(ID)).unwrap().bytes()[..2], [0x16, 0x66]);
        assert_eq!(rig.recorder.pieces(0).len(), 4);
        let asked = (
            origin.asked("/own").len(),
            origin.asked("/keys/clear").len(),
        );
        assert_eq!(asked, if by_operator { (1, 0) } else { (0, 1) });
        assert_eq!(rig.facts.causes(), []);
    }
}

#[tokio::test]
async fn a_manifest_sends_nobody_anywhere_unless_the_operator_agreed() {
    let origin = licensing("keys", |_| ok(LICENCE)).await;
    let rig = dash(&origin, Licence::None);
    rig.to_end().await;
    assert_eq!(origin.asked("keys").len(), 0);
    // What is loaded tells that it is encrypted; that is the converter's.
    assert_eq!(rig.recorder.pieces(0).len(), 4);
    assert!(rig.recorder.keys(0).is_empty());
    // Nor to forbidden places.
    for place in ["http://169.254.169.254/keys", "file:///etc/hostname"] {
        let origin = licensing(place, |_| ok(LICENCE)).await;
        let rig = dash(&origin, Licence::FromManifest);
        rig.to_end().await;
        assert!(rig.recorder.keys(0).is_empty(), "{place}");
        assert_eq!(rig.recorder.pieces(0).len(), 4, "{place}");
    }
}

#[tokio::test]
async fn a_licence_server_in_trouble_is_asked_gently_and_holds_nothing_up() {
    for bad in [401, 503, 302, 200] {
        let origin = licensing("keys", move |asked| match (bad, asked.path.as_str()) {
            (200, _) => ok("<html>".repeat(100)),
            (302, "/keys") => redirect("/elsewhere"),
            _ => status(bad),
        })
        .await;
        let rig = dash(&origin, Licence::FromManifest);
        rig.to_end().await;
        assert_eq!(rig.recorder.pieces(0).len(), 4);
        assert!(rig.recorder.keys(0).is_empty());
        let asked = origin.asked("/keys");
        assert!((1..=4).contains(&asked.len()), "{}", asked.len());
        assert_paced(&asked);
        assert_eq!(origin.asked("/elsewhere").len(), 0);
    }
}
