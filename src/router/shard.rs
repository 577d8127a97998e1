//! Pure assignment of streams to a fixed number of instances that know nothing of each other (`shard:`).
//!
//! Rendezvous (highest random weight) hashing: every instance gets a weight for every stream, and the stream goes
//! to the heaviest. No instance needs to know the others' streams, and when one is added it takes its share from
//! all the others while nothing else moves.
//!
//! The weight is FNV-1a (64 bit) over the stream id's bytes and then the instance's index as four bytes, least
//! significant first, finished with the mixer of SplitMix64 (FNV alone spreads its last bytes too little). It is a
//! promise between versions: instances of different builds must agree, so it never changes.
//!
//! A stream goes where the stream goes that it is compared with, so that both are decoded in one process.

use std::sync::Arc;

use crate::config::checked::{Against, Shard, Stream};

const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;

/// Whether the instance with this shard runs the stream. Exactly one index below `count` does.
pub fn owns(shard: Shard, stream_id: &str) -> bool {
    owner(shard.count, stream_id) == shard.index
}

/// Index of the instance that runs the stream.
pub fn owner(count: u32, stream_id: &str) -> u32 {
    // On equal weights, which are as good as impossible, the lower index wins.
    let seed = Seed::of(stream_id);
    let heaviest = (0..count.max(1)).max_by_key(|&i| (seed.weight(&i.to_le_bytes()), !i));
    heaviest.unwrap_or(0)
}

/// The id by which a stream is assigned: its own, or that of the last in the row of references that it begins. Of
/// streams that are each other's references, the first id.
pub fn placed_by<'a>(stream: &'a Stream, all: &'a [Arc<Stream>]) -> &'a str {
    let mut row: Vec<&str> = vec![&stream.id];
    let mut at = stream;
    while let Some(Against::Stream(id)) = &at.reference
        && let Some(next) = all.iter().find(|s| s.id == *id)
    {
        if let Some(ring) = row.iter().position(|id| **id == *next.id) {
            return row[ring..].iter().copied().min().unwrap_or(&next.id);
        }
        row.push(&next.id);
        at = next;
    }
    &at.id
}

/// The stream's part of its weights, hashed once for all instances.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed(u64);

impl Seed {
    /// Of a stream's id.
    pub(super) fn of(stream_id: &str) -> Self {
        Self(fnv(FNV_OFFSET, stream_id.as_bytes()))
    }

    /// With an instance: its index as above, or the bytes of its id where instances have ids.
    pub(super) fn weight(self, instance: &[u8]) -> u64 {
        let hash = fnv(self.0, instance);
        let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

fn fnv(from: u64, bytes: &[u8]) -> u64 {
    (bytes.iter()).fold(from, |h, &b| (h ^ u64::from(b)).wrapping_mul(FNV_PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(count: u32, stream_id: &str) -> Vec<u32> {
        let mine = |&index: &u32| owns(Shard { index, count }, stream_id);
        (0..count).filter(mine).collect()
    }

    #[test]
    fn weights_never_change() {
        let all = ["news-1", "sport", "a", ""].map(|id| owners(16, id));
        assert_eq!(all, [[14], [15], [1], [2]]);
        let third = 3u32.to_le_bytes();
        assert_eq!(Seed::of("news-1").weight(&third), 0x1FDD_1F04_A38A_37C6);
    }

    #[test]
    fn streams_that_are_compared_stay_together() {
        let stream = |id: &str, reference: Option<&str>| {
            Arc::new(Stream {
                id: id.into(),
                reference: reference.map(|id| Against::Stream(id.into())),
                ..crate::lane::testing::stream(&[])
            })
        };
        let all = [
            stream("a", None),
            stream("b", Some("a")),
            stream("c", Some("b")),
            stream("d", Some("e")),
            stream("e", Some("d")),
            stream("f", Some("gone")),
        ];
        let by: Vec<&str> = all.iter().map(|s| placed_by(s, &all)).collect();
        assert_eq!(by, ["a", "a", "a", "d", "d", "f"]);
    }

    #[test]
    fn load_is_even() {
        for count in [1u32, 2, 3, 7, 20] {
            let mut load = vec![0u32; count as usize];
            let streams = 500 * count;
            for n in 0..streams {
                for owner in owners(count, &format!("channel-{n}")) {
                    load[owner as usize] += 1;
                }
            }
            assert_eq!(load.iter().sum::<u32>(), streams);
            // Four standard deviations of a fair draw are 18 percent of 500.
            assert!(load.iter().all(|l| (410..=590).contains(l)), "{load:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_new_instance_only_takes(id in "[a-z0-9][a-z0-9_-]{0,63}", count in 1u32..40) {
            let (before, after) = (owners(count, &id), owners(count + 1, &id));
            proptest::prop_assert_eq!(before.len(), 1);
            proptest::prop_assert_eq!(after.len(), 1);
            proptest::prop_assert!(after == before || after == [count]);
        }
    }
}
