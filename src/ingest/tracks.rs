//! Stable numbers for the tracks of all inputs of a converter.

use detectors::base::{Cause, Kind, Track, TrackInfo};

/// Tracks of one converter at most; further ones are ignored.
const MAX_TRACKS: usize = 32;

/// A track as its container announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Number in the container: PID, track id.
    pub(super) id: u32,
    /// Pictures or sound.
    pub(super) kind: Kind,
    /// Codec word, or what the container called it.
    pub(super) codec: String,
    /// ISO 639 language.
    pub(super) language: Option<String>,
    /// Why it cannot be decoded.
    pub(super) problem: Option<Cause>,
}

/// All tracks now announced. A track keeps its number while it is announced; a new one takes the number of one
/// of its kind that just vanished from its input, or else the lowest free one.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    held: Vec<(usize, Track, Entry)>,
}

impl Tracks {
    /// Replaces what `input` announces; tells whether anything changed.
    pub(super) fn replace(&mut self, input: usize, entries: &[Entry]) -> bool {
        let before = std::mem::take(&mut self.held);
        let (mut gone, mut kept): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
        for (of, track, old) in before.iter().cloned() {
            let stays = of != input
                || entries
                    .iter()
                    .any(|new| new.id == old.id && new.kind == old.kind);
            if stays {
                kept.push((of, track, old));
            } else {
                gone.push(track);
            }
        }
        self.held = kept;
        gone.sort();
        for new in entries {
            let known = self
                .held
                .iter_mut()
                .find(|(of, _, old)| *of == input && old.id == new.id && old.kind == new.kind);
            if let Some((_, _, old)) = known {
                *old = new.clone();
            } else if let Some(track) = self.vacant(new.kind, &mut gone) {
                self.held.push((input, track, new.clone()));
            }
        }
        self.held.sort_by_key(|(_, track, _)| *track);
        self.held != before
    }

    /// Adds one track, or renews it.
    pub(super) fn add(&mut self, input: usize, entry: Entry) -> Option<Track> {
        let mut entries = self.of(input);
        let (id, kind) = (entry.id, entry.kind);
        entries.retain(|e| (e.id, e.kind) != (id, kind));
        entries.push(entry);
        self.replace(input, &entries);
        self.find(input, id, kind)
    }

    fn of(&self, input: usize) -> Vec<Entry> {
        self.held
            .iter()
            .filter(|(of, ..)| *of == input)
            .map(|(.., entry)| entry.clone())
            .collect()
    }

    fn vacant(&self, kind: Kind, gone: &mut Vec<Track>) -> Option<Track> {
        if self.held.len() >= MAX_TRACKS {
            return None;
        }
        if let Some(at) = gone.iter().position(|t| t.kind == kind) {
            return Some(gone.remove(at));
        }
        (0..=u8::MAX)
            .map(|index| Track { kind, index })
            .find(|t| !self.held.iter().any(|(_, held, _)| held == t))
    }

    /// The number of an announced track.
    pub(super) fn find(&self, input: usize, id: u32, kind: Kind) -> Option<Track> {
        self.held
            .iter()
            .find(|(of, _, e)| *of == input && e.id == id && e.kind == kind)
            .map(|(_, track, _)| *track)
    }

    /// Sets or clears a track's problem; tells whether that changed anything.
    pub(super) fn set_problem(&mut self, track: Track, problem: Option<Cause>) -> bool {
        match self.held.iter_mut().find(|(_, held, _)| *held == track) {
            Some((.., entry)) if entry.problem != problem => {
                entry.problem = problem;
                true
            }
            _ => false,
        }
    }

    /// Corrects a track's codec word; tells whether that changed anything.
    pub(super) fn set_codec(&mut self, track: Track, codec: &str) -> bool {
        match self.held.iter_mut().find(|(_, held, _)| *held == track) {
            Some((.., entry)) if entry.codec != codec => {
                entry.codec = codec.to_owned();
                true
            }
            _ => false,
        }
    }

    /// A track's codec word; empty when it is not announced.
    pub(super) fn codec(&self, track: Track) -> String {
        let found = self.held.iter().find(|(_, held, _)| *held == track);
        found.map_or_else(String::new, |(.., entry)| entry.codec.clone())
    }

    /// What is told of the tracks, in order.
    pub(super) fn infos(&self) -> Vec<TrackInfo> {
        self.held
            .iter()
            .map(|(_, track, entry)| TrackInfo {
                track: *track,
                codec: entry.codec.clone(),
                language: entry.language.clone(),
                problem: entry.problem,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u32, kind: Kind) -> Entry {
        Entry {
            id,
            kind,
            codec: "x".to_owned(),
            language: None,
            problem: None,
        }
    }

    #[test]
    fn a_track_keeps_its_number_while_others_come_and_go() {
        let mut tracks = Tracks::default();
        let (v, a, b, c) = (
            entry(256, Kind::Video),
            entry(257, Kind::Audio),
            entry(258, Kind::Audio),
            entry(300, Kind::Audio),
        );
        assert!(tracks.replace(0, &[v.clone(), a.clone(), b.clone()]));
        assert!(!tracks.replace(0, &[v.clone(), a, b.clone()]));
        assert!(tracks.replace(0, &[v.clone(), b.clone()]));
        assert_eq!(tracks.find(0, 258, Kind::Audio), Some(Track::audio(1)));
        tracks.replace(0, &[v, b, c]);
        assert_eq!(tracks.find(0, 300, Kind::Audio), Some(Track::audio(0)));
    }

    #[test]
    fn a_remapped_pid_takes_over_the_number() {
        let mut tracks = Tracks::default();
        tracks.replace(0, &[entry(256, Kind::Video), entry(257, Kind::Audio)]);
        tracks.replace(1, &[entry(256, Kind::Audio)]);
        assert_eq!(tracks.find(1, 256, Kind::Audio), Some(Track::audio(1)));
        tracks.replace(0, &[entry(512, Kind::Video), entry(513, Kind::Audio)]);
        assert_eq!(tracks.find(0, 512, Kind::Video), Some(Track::video(0)));
        assert_eq!(tracks.find(0, 513, Kind::Audio), Some(Track::audio(0)));
        assert_eq!(tracks.find(1, 256, Kind::Audio), Some(Track::audio(1)));
    }

    #[test]
    fn a_flood_of_tracks_is_bounded() {
        let mut tracks = Tracks::default();
        let many = (0..8192)
            .map(|id| entry(id, Kind::Audio))
            .collect::<Vec<_>>();
        tracks.replace(0, &many);
        assert_eq!(tracks.infos().len(), MAX_TRACKS);
    }
}
