use cbc::cipher::BlockModeEncrypt;
use proptest::prelude::*;

use super::*;
use crate::ingest::keys::ContentKey;

fn hex(text: &str) -> [u8; 16] {
    u128::from_str_radix(text, 16).unwrap().to_be_bytes()
}

fn key() -> NamedKey {
    NamedKey {
        key: ContentKey::new([7; 16]),
        iv: [9; 16],
    }
}

/// By the letter of the specification: `encrypted` of every `of` blocks.
fn encrypt(bytes: &mut [u8], key: &NamedKey, of: usize, least: usize) {
    let mut cipher = cbc::Encryptor::<Aes128>::new(key.key.bytes().into(), (&key.iv).into());
    let mut at = 0;
    while bytes.len() - at >= least {
        let block = &mut bytes[at..at + 16];
        cipher.encrypt_block(<&mut Block<cbc::Encryptor<Aes128>>>::try_from(block).unwrap());
        at = (at + 16 * of).min(bytes.len());
    }
}

fn with_prevention(unit: &[u8]) -> Vec<u8> {
    let (mut out, mut zeros) = (Vec::new(), 0);
    for byte in unit {
        if zeros >= 2 && *byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
    if out.last() == Some(&0) {
        out.push(3);
    }
    out
}

/// A slice of this payload as an encoder writes it, and as a packager encrypts it.
fn unit(head: u8, payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut clear = with_prevention(payload);
    clear.insert(0, head);
    let mut sealed = clear.clone();
    if matches!(head & 31, 1 | 5) && clear.len() > 48 {
        encrypt(&mut sealed[32..], &key(), 10, 17);
        sealed = with_prevention(&sealed);
    }
    (clear, sealed)
}

#[test]
fn one_block_in_ten_of_slices_is_decrypted() {
    let start: &[u8] = &[0, 0, 0, 1];
    let (mut clear, mut sealed) = (Vec::new(), Vec::new());
    let payload = |n: usize| (0..n).map(|i| (i * 7) as u8 & 0x83).collect::<Vec<_>>();
    let units = [
        (0x67, 60),
        (0x65, 47),
        (0x65, 48),
        (0x41, 64),
        (0x65, 3_000),
        (0x06, 500),
        (0x41, 191),
        (0x41, 192),
        (0x61, 207),
        (0x61, 208),
    ];
    for (head, n) in units {
        let (a, b) = unit(head, &payload(n));
        clear.extend([start, &a].concat());
        sealed.extend([start, &b].concat());
    }
    clear.extend([0, 0]);
    sealed.extend([0, 0]);
    assert_ne!(clear, sealed);
    let (opened, decrypted) = pictures(&sealed, &key());
    assert_eq!(opened, clear);
    assert!(decrypted >= 19 * 16, "{decrypted}");
    // Without start codes nothing is a unit.
    assert_eq!(pictures(&sealed[5..60], &key()).1, 0);
}

#[test]
fn prevention_that_only_the_encrypted_bytes_need_is_taken_out() {
    // Encrypted bytes full of zeros: found by decrypting them.
    let (mut clear, mut sealed) = (vec![0x65; 32], vec![0x65; 32]);
    let mut zeros = [0; 16];
    sealed.extend(zeros);
    decrypt_block(&mut cipher(&key()), &mut zeros);
    clear.extend(zeros);
    for bytes in [&mut clear, &mut sealed] {
        bytes.extend([1; 20]);
    }
    let written = [&[0, 0, 1][..], &with_prevention(&sealed)].concat();
    assert!(written.len() > sealed.len() + 3);
    let (opened, decrypted) = pictures(&written, &key());
    assert_eq!((&opened[3..], decrypted), (&clear[..], 16));
}

/// An ADTS frame of this payload.
fn adts(payload: &[u8], crc: bool) -> Vec<u8> {
    let header = if crc { 9 } else { 7 };
    let length = payload.len() + header;
    let mut frame = vec![0xff, if crc { 0xf0 } else { 0xf1 }, 0x50, 0x80];
    frame[3] |= (length >> 11) as u8;
    frame.extend([(length >> 3) as u8, (length << 5) as u8 | 0x1f, 0xfc]);
    frame.resize(header, 0);
    frame.extend(payload);
    frame
}

fn adts_pair(sizes: &[usize]) -> (Vec<u8>, Vec<u8>) {
    let (mut clear, mut sealed) = (Vec::new(), Vec::new());
    for (n, size) in sizes.iter().enumerate() {
        let payload: Vec<u8> = (0..*size).map(|i| (i * 31 + n) as u8).collect();
        let mut frame = adts(&payload, n % 2 == 1);
        clear.extend(&frame);
        let from = frame.len().min(frame.len() - size + 16);
        encrypt(&mut frame[from..], &key(), 1, 16);
        sealed.extend(frame);
    }
    (clear, sealed)
}

#[test]
fn frames_of_aac_are_decrypted_however_they_are_cut() {
    let (clear, sealed) = adts_pair(&[3, 16, 31, 32, 33, 300, 0, 47, 48, 700]);
    assert_ne!(clear, sealed);
    for cut in [1, 5, 16, 17, 100, 5_000] {
        let mut sound = Sound::new(Codec::AacAdts);
        let mut opened = Vec::new();
        for piece in sealed.chunks(cut) {
            let now = sound.push(piece, &key());
            assert_eq!((now.intact, now.broken), (0, 0));
            opened.extend(now.bytes);
        }
        assert_eq!(opened, clear, "{cut}");
    }
    // Joined in the middle: the next frame is found.
    let mut sound = Sound::new(Codec::AacAdts);
    let opened = sound.push(&sealed[3..], &key()).bytes;
    assert!(clear.ends_with(&opened[opened.len() - 700..]));
    // A loss: what is open is given up.
    let mut sound = Sound::new(Codec::AacAdts);
    sound.push(&sealed[..40], &key());
    sound.reset();
    assert_eq!(sound.push(&sealed, &key()).bytes, clear);
}

/// NIST SP 800-38A, F.2.1, as the encrypted blocks of an ADTS frame.
#[test]
fn agrees_with_the_standards_vectors() {
    let key = NamedKey {
        key: ContentKey::new(hex("2b7e151628aed2a6abf7158809cf4f3c")),
        iv: hex("000102030405060708090a0b0c0d0e0f"),
    };
    let cipher = [
        hex("7649abac8119b246cee98e9b12e9197d"),
        hex("5086cb9b507219ee95db113a917678b2"),
    ];
    let plain = [
        hex("6bc1bee22e409f96e93d7e117393172a"),
        hex("ae2d8a571e03ac9c9eb76fac45af8e51"),
    ];
    let frame = adts(&[&[5; 16], &cipher.concat()[..], &[1]].concat(), false);
    let opened = Sound::new(Codec::AacAdts).push(&frame, &key);
    assert_eq!(opened.bytes[23..55], plain.concat());
    assert_eq!((opened.bytes[55], opened.decrypted), (1, 32));
}

/// An AC-3 frame (48 kHz, 128 kb/s) with right check sum.
fn ac3(seed: u8) -> Vec<u8> {
    let mut frame = vec![0x0b, 0x77, 0, 0, 16, 0x40];
    frame.extend((6..510).map(|i: usize| (i as u8).wrapping_mul(13).wrapping_add(seed)));
    let crc = crc_16(0, &frame[2..]);
    frame.extend(crc.to_be_bytes());
    frame
}

#[test]
fn check_sums_of_ac3_tell_a_wrong_key() {
    assert_eq!(intact(&ac3(1)), Some(true));
    assert_eq!(intact(&ac3(1)[..400]), None);
    let mut sealed: Vec<u8> = [ac3(1), ac3(2), ac3(3)].concat();
    let clear = sealed.clone();
    for frame in sealed.chunks_mut(512) {
        encrypt(&mut frame[16..], &key(), 1, 16);
    }
    let opened = Sound::new(Codec::Ac3).push(&sealed, &key());
    assert_eq!(opened.bytes, clear);
    assert_eq!((opened.intact, opened.broken), (3, 0));
    let wrong = NamedKey {
        key: ContentKey::new([8; 16]),
        ..key()
    };
    let opened = Sound::new(Codec::Ac3).push(&sealed, &wrong);
    assert_eq!((opened.intact, opened.broken), (0, 3));
}

#[test]
fn lengths_of_frames() {
    // 48 kHz, 44.1 kHz with both paddings, 32 kHz; then E-AC-3.
    for (byte, size) in [(0x1e, 1_792), (0x5c, 1_670), (0x5d, 1_672), (0x94, 1_152)] {
        let head = [0x0b, 0x77, 0, 0, byte, 0x40, 0];
        assert_eq!(ac3_size(&head), Some(size), "{byte:#x}");
    }
    assert_eq!(ac3_size(&[0x0b, 0x77, 0x01, 0xff, 0, 0x80, 0]), Some(1_024));
    assert_eq!(ac3_size(&[0x0b, 0x77, 0, 0, 0xc0, 0x40, 0]), None);
    assert_eq!(ac3_size(&[0x0b, 0x77, 0, 0, 0x3f, 0x40, 0]), None);
    assert_eq!(adts_size(&[0xff, 0xf1, 0, 0, 0, 0xc0, 0]), None);
}

proptest! {
    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(prop_oneof![
        Just(0_u8), Just(1), Just(3), Just(0xff), Just(0xf1), Just(0x0b), Just(0x77), any::<u8>()
    ], 0..300), cut in 1usize..200) {
        let (opened, _) = pictures(&bytes, &key());
        prop_assert!(opened.len() <= bytes.len());
        for codec in [Codec::AacAdts, Codec::Ac3, Codec::Eac3, Codec::Opus] {
            let mut sound = Sound::new(codec);
            let mut all = 0;
            for piece in bytes.chunks(cut) {
                all += sound.push(piece, &key()).bytes.len();
            }
            prop_assert!(all <= bytes.len() && all + 16 > bytes.len());
        }
    }
}
