use cbc::cipher::BlockModeEncrypt;
use proptest::prelude::*;

use super::*;
use crate::config::{ContentKeys, Secret};
use crate::ingest::keys::NamedKey;

const KEY: [u8; 16] = [7; 16];
const ID: KeyId = [0x1d; 16];
const OTHER: KeyId = [0x2d; 16];
const CONSTANT_IV: [u8; 16] = [9; 16];

fn keys(ids: &[KeyId]) -> SampleKeys {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let words: Vec<String> = ids
        .iter()
        .map(|id| format!("{}:{}", hex(id), hex(&KEY)))
        .collect();
    SampleKeys::from(&ContentKeys::parse(&Secret::new(words.join(" "))).unwrap())
}

fn boxed(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    [
        &(payload.len() as u32 + 8).to_be_bytes(),
        &name[..],
        &payload,
    ]
    .concat()
}

/// What a test encrypts with.
#[derive(Debug, Clone, Copy)]
struct Way {
    scheme: &'static [u8; 4],
    own_iv_bytes: u8,
    pattern: (u8, u8),
}

const WAYS: [Way; 5] = [
    Way {
        scheme: b"cenc",
        own_iv_bytes: 8,
        pattern: (0, 0),
    },
    Way {
        scheme: b"cenc",
        own_iv_bytes: 16,
        pattern: (0, 0),
    },
    Way {
        scheme: b"cens",
        own_iv_bytes: 8,
        pattern: (1, 9),
    },
    Way {
        scheme: b"cbc1",
        own_iv_bytes: 16,
        pattern: (0, 0),
    },
    Way {
        scheme: b"cbcs",
        own_iv_bytes: 0,
        pattern: (1, 9),
    },
];

fn protection(way: Way, id: &KeyId) -> Vec<u8> {
    let pattern = way.pattern.0 << 4 | way.pattern.1;
    let mut out = vec![pattern, 1, way.own_iv_bytes];
    out.extend(id);
    if way.own_iv_bytes == 0 {
        out.push(16);
        out.extend(CONSTANT_IV);
    }
    out
}

fn init(way: Way) -> Vec<u8> {
    let version = [u8::from(way.pattern != (0, 0)), 0, 0, 0, 0];
    let tenc = boxed(b"tenc", &[&version, &protection(way, &ID)]);
    let sinf = boxed(
        b"sinf",
        &[
            &boxed(b"frma", &[b"avc1"]),
            &boxed(b"schm", &[&[0; 4], way.scheme, &[0, 1, 0, 0]]),
            &boxed(b"schi", &[&tenc]),
        ],
    );
    let entry = boxed(b"encv", &[&[0; 78], &boxed(b"avcC", &[&[1; 20]]), &sinf]);
    let stsd = boxed(b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1], &entry]);
    let stbl = boxed(b"stbl", &[&stsd]);
    let mdia = boxed(b"mdia", &[&boxed(b"minf", &[&stbl])]);
    let tkhd = boxed(b"tkhd", &[&[0; 12], &5u32.to_be_bytes(), &[0; 64]]);
    boxed(b"moov", &[&boxed(b"trak", &[&tkhd, &mdia])])
}

/// By the letter of the standard: block by block.
fn encrypt(way: Way, iv: &[u8; 16], parts: &[(usize, usize)], sample: &mut [u8]) {
    let counter = matches!(way.scheme, b"cenc" | b"cens");
    let mut stream = Ctr64BE::<Aes128>::new((&KEY).into(), iv.into());
    let mut chain = cbc::Encryptor::<Aes128>::new((&KEY).into(), iv.into());
    let mut at = 0;
    for &(clear, protected) in parts {
        at += clear;
        if way.scheme == b"cbcs" {
            chain = cbc::Encryptor::<Aes128>::new((&KEY).into(), iv.into());
        }
        let (crypt, skip) = way.pattern;
        for (n, block) in sample[at..at + protected].chunks_mut(16).enumerate() {
            let chosen = skip == 0 || n % usize::from(crypt + skip) < usize::from(crypt);
            let whole = block.len() == 16;
            if counter && chosen && (whole || skip == 0) {
                stream.apply_keystream(block);
            } else if !counter && chosen && whole {
                chain.encrypt_block(<&mut Block<cbc::Encryptor<Aes128>>>::try_from(block).unwrap());
            }
        }
        at += protected;
    }
}

struct Made {
    clear: Vec<u8>,
    encrypted: Vec<u8>,
}

/// A fragment of samples of these sizes, each with a clear head; the last ones under `OTHER` when asked for.
fn fragment(way: Way, sizes: &[usize], rotated: usize) -> Made {
    let parts = |size: usize| match way.scheme {
        // Whole blocks, as the standard wants it of this scheme.
        b"cbc1" => vec![(size - size / 32 * 16, size / 32 * 16)],
        _ => vec![
            (5.min(size), size / 2 - 5.min(size / 2)),
            (3.min(size / 4), size / 4),
        ],
    };
    let mut senc = vec![0, 0, 0, 2];
    senc.extend((sizes.len() as u32).to_be_bytes());
    let mut trun = vec![0, 0, 2, 1];
    trun.extend((sizes.len() as u32).to_be_bytes());
    let offset_at = trun.len();
    trun.extend([0; 4]);
    let (mut clear, mut encrypted) = (Vec::new(), Vec::new());
    for (n, &size) in sizes.iter().enumerate() {
        trun.extend((size as u32).to_be_bytes());
        let mut iv = CONSTANT_IV;
        if way.own_iv_bytes > 0 {
            iv = [0; 16];
            iv[..usize::from(way.own_iv_bytes)].fill(n as u8 + 1);
            senc.extend(&iv[..usize::from(way.own_iv_bytes)]);
        }
        senc.extend((parts(size).len() as u16).to_be_bytes());
        for (clear, protected) in parts(size) {
            senc.extend((clear as u16).to_be_bytes());
            senc.extend((protected as u32).to_be_bytes());
        }
        let mut sample: Vec<u8> = (0..size).map(|i| (i * 31 + n) as u8).collect();
        clear.extend(&sample);
        encrypt(way, &iv, &parts(size), &mut sample);
        encrypted.extend(sample);
    }
    let groups = match rotated {
        0 => Vec::new(),
        _ => {
            let entry = [&[0][..], &protection(way, &OTHER)].concat();
            let size = (entry.len() as u32).to_be_bytes();
            let sgpd = boxed(
                b"sgpd",
                &[&[1, 0, 0, 0], b"seig", &size, &[0, 0, 0, 1], &entry],
            );
            let run = |samples: usize, index: u32| {
                [(samples as u32).to_be_bytes(), index.to_be_bytes()].concat()
            };
            let (first, last) = (run(sizes.len() - rotated, 0), run(rotated, 0x1_0001));
            let sbgp = boxed(b"sbgp", &[&[0; 4], b"seig", &[0, 0, 0, 2], &first, &last]);
            [sgpd, sbgp].concat()
        }
    };
    let build = |trun: &[u8]| {
        let tfhd = boxed(b"tfhd", &[&[2, 0, 0], &[0], &5u32.to_be_bytes()]);
        let traf = boxed(
            b"traf",
            &[
                &tfhd,
                &boxed(b"trun", &[trun]),
                &groups,
                &boxed(b"senc", &[&senc]),
            ],
        );
        boxed(b"moof", &[&traf])
    };
    let offset = build(&trun).len() as u32 + 8;
    trun[offset_at..offset_at + 4].copy_from_slice(&offset.to_be_bytes());
    let whole = |data: &[u8]| [build(&trun), boxed(b"mdat", &[data])].concat();
    Made {
        clear: whole(&clear),
        encrypted: whole(&encrypted),
    }
}

fn only(opened: Result<Vec<Opened>, CencError>) -> Opened {
    let mut opened = opened.unwrap();
    assert_eq!(opened.len(), 1);
    opened.remove(0)
}

#[test]
fn every_scheme_is_decrypted() {
    for way in WAYS {
        let mut bytes = init(way);
        assert_eq!(key_ids(&bytes), [ID]);
        let cenc = Cenc::open(&mut bytes);
        let text = bytes.escape_ascii().to_string();
        assert!(text.contains("avc1") && !text.contains("encv") && !text.contains("sinf"));
        for rotated in [0, 2] {
            let made = fragment(way, &[400, 33, 64, 1_000, 7], rotated);
            assert_ne!(made.clear, made.encrypted);
            let others: &[KeyId] = if rotated > 0 { &[OTHER] } else { &[] };
            assert_eq!(key_ids(&made.encrypted), others);
            let mut got = made.encrypted.clone();
            let opened = only(cenc.decrypt(&mut got, &keys(&[ID, OTHER])));
            assert_eq!(got, made.clear, "{way:?} {rotated}");
            assert_eq!(opened.result.unwrap().unwrap().bytes(), &KEY);
            assert!(
                opened.sync && opened.decrypted >= 500,
                "{}",
                opened.decrypted
            );
            let mut hidden = made.encrypted.clone();
            let missing = only(cenc.decrypt(&mut hidden, &keys(&[OTHER])));
            assert_eq!(missing.result, Err(CencError::NoKey), "{way:?}");
            let moof = hidden.escape_ascii().to_string();
            assert!(!moof.contains("traf") && moof.contains("free"));
        }
    }
}

#[test]
fn the_playlists_key_serves_where_samples_name_none_at_hand() {
    let way = WAYS[4];
    let named = NamedKey {
        key: ContentKey::new(KEY),
        iv: CONSTANT_IV,
    };
    let keys = SampleKeys::default().naming(Some(named));
    let made = fragment(way, &[400, 33, 64, 1_000, 7], 0);
    for tells_vector in [true, false] {
        let mut bytes = init(way);
        if !tells_vector {
            // No vector in the boxes: that of the playlist holds.
            let at = bytes
                .windows(17)
                .position(|w| w[0] == 16 && w[1..] == CONSTANT_IV);
            bytes[at.unwrap()] = 0;
        }
        let cenc = Cenc::open(&mut bytes);
        let mut got = made.encrypted.clone();
        only(cenc.decrypt(&mut got, &keys)).result.unwrap();
        assert_eq!(got, made.clear);
        let bare = only(cenc.decrypt(&mut made.encrypted.clone(), &self::keys(&[ID])));
        assert_eq!(bare.result.is_ok(), tells_vector);
    }
}

#[test]
fn schemes_that_nobody_knows_are_left_alone() {
    let strange = Way {
        scheme: b"piff",
        ..WAYS[0]
    };
    let mut bytes = init(strange);
    let cenc = Cenc::open(&mut bytes);
    assert_eq!(bytes, init(strange));
    assert!(cenc.is_unknown(5) && cenc.is_empty());
    let clear = Cenc::open(&mut boxed(b"moov", &[]));
    assert!(clear.is_empty() && !clear.is_unknown(5));
}

/// A packager that leaves its beginning in the clear has a second sample entry for it.
#[test]
fn fragments_of_a_clear_sample_entry_pass_without_a_key() {
    let mut bytes = init(WAYS[0]);
    let second = boxed(b"avc1", &[&[0; 78]]);
    for name in [b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"] {
        let at = bytes.windows(4).position(|w| w == name).unwrap() - 4;
        let size = u32_at(&bytes, at).unwrap() + second.len() as u32;
        bytes[at..at + 4].copy_from_slice(&size.to_be_bytes());
    }
    let end = bytes.len();
    bytes.splice(end..end, second);
    let cenc = Cenc::open(&mut bytes);
    let made = fragment(WAYS[0], &[400, 33], 0);
    let mut clear = made.clear.clone();
    // `sample-description-index-present` in place of nothing: the field follows the track id.
    let tfhd = clear.windows(4).position(|w| w == b"tfhd").unwrap();
    clear[tfhd + 7] = 2;
    clear.splice(tfhd + 12..tfhd + 12, 2_u32.to_be_bytes());
    for name in [b"tfhd", b"traf", b"moof"] {
        let at = clear.windows(4).position(|w| w == name).unwrap() - 4;
        let size = u32_at(&clear, at).unwrap() + 4;
        clear[at..at + 4].copy_from_slice(&size.to_be_bytes());
    }
    let before = clear.clone();
    let opened = only(cenc.decrypt(&mut clear, &SampleKeys::default()));
    assert_eq!((opened.result, opened.decrypted), (Ok(None), 0));
    assert_eq!(clear, before);
}

proptest! {
    #[test]
    fn damaged_boxes_are_errors_at_worst(
        way in 0usize..5, at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>()
    ) {
        let way = WAYS[way];
        let mut first = init(way);
        let mut second = fragment(way, &[400, 33, 64], 1).encrypted;
        let keys = keys(&[ID, OTHER]);
        let cenc = Cenc::open(&mut first);
        let spot = at.index(second.len());
        second[spot] = value;
        second.truncate(cut.index(second.len()) + 1);
        let _ = cenc.decrypt(&mut second, &keys);
        let mut first = init(way);
        let spot = at.index(first.len());
        first[spot] = value;
        let _ = Cenc::open(&mut first);
        let _ = key_ids(&first);
    }
}
