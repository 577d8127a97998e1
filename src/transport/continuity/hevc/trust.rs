//! Whether the walks of a stream's slices are to be believed.

/// Sound walks before any failed one is told.
const PROVED: u32 = 8;
/// Walks before most of them having failed ends it.
const ENOUGH: u32 = 32;
/// Counts are halved here, so that what is newer counts more.
const MANY: u32 = 256;

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    sound: u32,
    broken: u32,
}

impl Count {
    fn add(&mut self, sound: bool) {
        if self.sound + self.broken >= MANY {
            self.sound /= 2;
            self.broken /= 2;
        }
        *(if sound {
            &mut self.sound
        } else {
            &mut self.broken
        }) += 1;
    }
}

/// Counts walks, so that what an encoder writes and the walk misreads is not taken for damage.
///
/// A failed walk is told only when eight of the stream were sound, one of them at least of its kind (slice type,
/// dependent or not), and of neither the stream nor the kind have more failed than were sound. When more than half of 32 walks or more have
/// failed, nothing is walked any more. Both start over with another sequence parameter set.
#[derive(Debug, Default)]
pub struct Trust {
    all: Count,
    kinds: [Count; 6],
    lost: bool,
}

impl Trust {
    fn add(&mut self, kind: u32, sound: bool) -> bool {
        let Some(of_kind) = self.kinds.get_mut(kind as usize) else {
            return false;
        };
        of_kind.add(sound);
        self.all.add(sound);
        let Count { sound, broken } = self.all;
        self.lost |= sound + broken >= ENOUGH && broken > sound;
        let proved = sound >= PROVED && of_kind.sound > 0;
        proved && broken <= sound && of_kind.broken <= of_kind.sound
    }

    /// Takes a sound walk of a slice of this kind: `slice_type`, and 3 more for dependent segments. Whether walks are believed.
    pub fn sound(&mut self, kind: u32) -> bool {
        self.add(kind, true)
    }

    /// Takes a failed one. Whether that is to be told.
    pub fn broken(&mut self, kind: u32) -> bool {
        self.add(kind, false)
    }

    /// Sound and failed walks so far.
    #[cfg(test)]
    pub fn counts(&self) -> (u32, u32) {
        (self.all.sound, self.all.broken)
    }

    /// Nothing is to be walked any more.
    pub fn is_lost(&self) -> bool {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_from_the_beginning_is_never_told() {
        let mut trust = Trust::default();
        for walk in 0..ENOUGH {
            assert!(!trust.is_lost(), "{walk}");
            assert!(!trust.broken(2), "{walk}");
        }
        assert!(trust.is_lost());
    }

    #[test]
    fn a_kind_that_always_fails_is_never_told_among_others() {
        let mut trust = Trust::default();
        for _ in 0..1000 {
            trust.sound(1);
            trust.sound(2);
            assert!(!trust.broken(0));
        }
        assert!(!trust.is_lost());
    }

    #[test]
    fn damage_is_told_up_to_every_other_slice() {
        let mut trust = Trust::default();
        for _ in 0..PROVED {
            trust.sound(0);
        }
        let mut told = 0;
        for _ in 0..1000 {
            trust.sound(0);
            told += u32::from(trust.broken(0));
        }
        assert_eq!(told, 1000);
        assert!(!trust.is_lost());
        // Now everything fails: told until most have.
        while !trust.is_lost() {
            told += u32::from(trust.broken(0));
        }
        assert!(told < 1000 + MANY, "{told}");
    }
}
