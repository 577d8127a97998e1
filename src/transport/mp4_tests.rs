use proptest::prelude::*;

use super::*;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

/// Two tracks in turn: four samples of 10, 20, 30, 40 bytes in chunks of two, and three of 5 bytes in one chunk, with
/// two bytes of auxiliary data each at 900.
fn moov() -> Vec<u8> {
    let trak = |id: u32, tables: &[Vec<u8>]| {
        let stbl = boxed(b"stbl", &[&tables.concat()]);
        let mdia = boxed(b"mdia", &[&boxed(b"minf", &[&stbl])]);
        let tkhd = boxed(b"tkhd", &[&[0; 12], &id.to_be_bytes(), &[0; 64]]);
        boxed(b"trak", &[&tkhd, &mdia])
    };
    let first = trak(
        1,
        &[
            boxed(b"stts", &[&words(&[0, 2, 1, 100, 3, 50])]),
            boxed(b"ctts", &[&words(&[0, 1, 4, 7])]),
            boxed(b"stss", &[&words(&[0, 2, 1, 3])]),
            boxed(b"stsz", &[&words(&[0, 0, 4, 10, 20, 30, 40])]),
            boxed(b"stsc", &[&words(&[0, 1, 1, 2, 1])]),
            boxed(b"stco", &[&words(&[0, 2, 100, 300])]),
            boxed(b"sbgp", &[&words(&[0]), b"seig", &words(&[1, 2, 1])]),
        ],
    );
    let second = trak(
        2,
        &[
            boxed(b"stts", &[&words(&[0, 1, 3, 10])]),
            boxed(b"stsz", &[&words(&[0, 5, 3])]),
            boxed(b"stsc", &[&words(&[0, 1, 1, 3, 1])]),
            boxed(b"co64", &[&words(&[0, 1, 0, 200])]),
            boxed(b"saiz", &[&[0, 0, 0, 0, 2], &words(&[3])]),
            boxed(b"saio", &[&words(&[0, 1, 900])]),
        ],
    );
    boxed(b"moov", &[&boxed(b"mvhd", &[&[0; 100]]), &first, &second])
}

#[test]
fn samples_are_found_in_the_order_of_the_file() {
    let index = Index::read(&moov()).unwrap().unwrap();
    let found: Vec<_> = index
        .samples
        .iter()
        .map(|s| (s.track, s.offset, s.size, s.at, s.clean, s.group, s.aux))
        .collect();
    assert_eq!(
        found,
        [
            (0, 100, 10, 0, true, 1, (0, 0)),
            (0, 110, 20, 100, false, 1, (0, 0)),
            (1, 200, 5, 0, true, 0, (900, 2)),
            (1, 205, 5, 10, true, 0, (902, 2)),
            (1, 210, 5, 20, true, 0, (904, 2)),
            (0, 300, 30, 150, true, 0, (0, 0)),
            (0, 330, 40, 200, false, 0, (0, 0)),
        ]
    );
    assert_eq!(index.samples[0].ahead, 7);
    assert!(index.pieces().eq(std::iter::once(0..7)));
    let text = index.init().escape_ascii().to_string();
    assert!(text.contains("trex") && !text.contains("saiz") && !text.contains("sbgp"));
    // What is left has no samples.
    assert!(Index::read(index.init()).unwrap().is_none());
}

#[test]
fn fragments_hold_what_the_file_holds() {
    let index = Index::read(&moov()).unwrap().unwrap();
    let read = |at: u64, len: usize| Ok::<_, ()>((at..).take(len).map(|n| n as u8).collect());
    let fragment = index.fragment(0..7, read).unwrap();
    let all = 0..fragment.len();
    let moof = one(&fragment, all.clone(), &[b"moof"]).unwrap();
    let trafs = super::all(&fragment, moof, &[b"traf"]);
    assert_eq!(trafs.len(), 2);
    for (traf, starts, sizes) in [
        (&trafs[0], [100_u8, 110, 44, 74], vec![10, 20, 30, 40]),
        (&trafs[1], [200, 205, 210, 0], vec![5, 5, 5]),
    ] {
        let trun = one(&fragment, traf.clone(), &[b"trun"]).unwrap();
        let mut at = u32_at(&fragment, trun.start + 8).unwrap() as usize;
        for (n, (start, size)) in starts.iter().zip(sizes).enumerate() {
            assert_eq!(u32_at(&fragment, trun.start + 16 + n * 16), Some(size));
            assert_eq!(fragment[at], *start);
            at += size as usize;
        }
    }
    let saio = one(&fragment, trafs[1].clone(), &[b"saio"]).unwrap();
    let aux = u32_at(&fragment, saio.start + 8).unwrap() as usize;
    let wanted: Vec<u8> = (900..906_u64).map(|n| n as u8).collect();
    assert_eq!(fragment[aux..aux + 6], wanted);
    assert!(one(&fragment, trafs[0].clone(), &[b"sbgp"]).is_some());
}

proptest! {
    #[test]
    fn damaged_indexes_are_errors_at_worst(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = moov();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(Some(index)) = Index::read(&bytes) {
            for piece in index.pieces().take(3) {
                let small = |_, len: usize| if len < 1 << 16 { Ok(vec![0; len]) } else { Err(()) };
                let _ = index.fragment(piece, small);
            }
        }
    }
}
