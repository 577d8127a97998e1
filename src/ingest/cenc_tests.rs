use cbc::cipher::BlockModeEncrypt;
use proptest::prelude::*;

use super::*;
use crate::config::Secret;

const KEY: [u8; 16] = [7; 16];
const ID: KeyId = [0x1d; 16];
const OTHER: KeyId = [0x2d; 16];
const CONSTANT_IV: [u8; 16] = [9; 16];

fn keys(ids: &[KeyId]) -> ContentKeys {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let words: Vec<String> = ids
        .iter()
        .map(|id| format!("{}:{}", hex(id), hex(&KEY)))
        .collect();
    ContentKeys::parse(&Secret::new(words.join(" "))).unwrap()
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

#[test]
fn every_scheme_is_decrypted() {
    for way in WAYS {
        let mut bytes = init(way);
        let cenc = Cenc::open(&mut bytes, &keys(&[ID, OTHER])).unwrap();
        let text = bytes.escape_ascii().to_string();
        assert!(text.contains("avc1") && !text.contains("encv") && !text.contains("sinf"));
        for rotated in [0, 2] {
            let made = fragment(way, &[400, 33, 64, 1_000, 7], rotated);
            assert_ne!(made.clear, made.encrypted);
            let mut got = made.encrypted.clone();
            cenc.decrypt(&mut got, &keys(&[ID, OTHER])).unwrap();
            assert_eq!(got, made.clear, "{way:?} {rotated}");
            let missing = cenc.decrypt(&mut made.encrypted.clone(), &keys(&[OTHER]));
            assert_eq!(missing, Err(CencError::NoKey), "{way:?}");
        }
    }
}

#[test]
fn without_keys_nothing_is_touched() {
    let mut bytes = init(WAYS[0]);
    let refused = Cenc::open(&mut bytes, &ContentKeys::default());
    assert_eq!(refused.unwrap_err(), CencError::NoKey);
    assert_eq!(bytes, init(WAYS[0]));
    let strange = Way {
        scheme: b"piff",
        ..WAYS[0]
    };
    let refused = Cenc::open(&mut init(strange), &keys(&[ID]));
    assert_eq!(refused.unwrap_err(), CencError::UnknownScheme);
    let clear = Cenc::open(&mut boxed(b"moov", &[]), &keys(&[ID])).unwrap();
    assert!(clear.is_empty());
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
        let cenc = Cenc::open(&mut first, &keys).unwrap();
        let spot = at.index(second.len());
        second[spot] = value;
        second.truncate(cut.index(second.len()) + 1);
        let _ = cenc.decrypt(&mut second, &keys);
        let mut first = init(way);
        let spot = at.index(first.len());
        first[spot] = value;
        let _ = Cenc::open(&mut first, &keys);
    }
}
