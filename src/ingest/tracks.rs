//! Stable numbers for the tracks of all inputs of a converter.

use std::collections::BTreeMap;

use detectors::base::{Cause, Kind, Track, TrackInfo};

/// Tracks of one converter at most; further ones are ignored.
const MAX_TRACKS: usize = 32;
/// Stands for the number in the container of a track that has not come yet.
const AWAITED: u32 = u32::MAX;

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
    inputs: BTreeMap<usize, About>,
}

/// What is known of an input besides what its container announces.
#[derive(Debug, Default)]
struct About {
    /// The rendition it is, where several are watched as one stream.
    member: Option<String>,
    /// Why nothing of it can be had.
    trouble: Option<Cause>,
    /// What it is missed by, as long as nothing is announced.
    main: Option<Kind>,
}

impl Tracks {
    /// Keeps numbers for tracks of these kinds until the input's container announces its own. The first kind is told
    /// meanwhile, so that it is missed when it stays away.
    pub(super) fn expect(&mut self, input: usize, member: &str, kinds: &[Kind]) {
        let about = self.inputs.entry(input).or_default();
        about.member = Some(member.to_owned());
        about.main = kinds.first().copied();
        self.await_all(input, kinds);
    }

    /// Nothing of the input can be had, and why; or it can again. Tells whether there is something to tell: the cause
    /// of what is missing is told again with every failure.
    pub(super) fn trouble(&mut self, input: usize, cause: Option<Cause>, kind: Kind) -> bool {
        let about = self.inputs.entry(input).or_default();
        let before = std::mem::replace(&mut about.trouble, cause);
        about.main.get_or_insert(kind);
        if cause.is_some() {
            self.await_all(input, &[kind]);
        }
        cause.is_some() || before.is_some()
    }

    /// Keeps a number for each kind, unless the input has tracks.
    fn await_all(&mut self, input: usize, kinds: &[Kind]) {
        if self.held.iter().any(|(of, ..)| *of == input) {
            return;
        }
        for kind in kinds {
            if let Some(track) = self.vacant(*kind, &mut Vec::new()) {
                let entry = Entry {
                    id: AWAITED,
                    kind: *kind,
                    codec: String::new(),
                    language: None,
                    problem: None,
                };
                self.held.push((input, track, entry));
            }
        }
        self.held.sort_by_key(|(_, track, _)| *track);
    }

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
            .filter(|(of, _, entry)| *of == input && entry.id != AWAITED)
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
        let none = About::default();
        let about = |(input, track, entry): &(usize, Track, Entry)| {
            let about = self.inputs.get(input).unwrap_or(&none);
            let missed = about.member.is_some() || about.trouble.is_some();
            let told = entry.id != AWAITED || (missed && about.main == Some(entry.kind));
            told.then(|| TrackInfo {
                track: *track,
                codec: entry.codec.clone(),
                language: entry.language.clone(),
                problem: entry.problem.or(about.trouble),
                member: about.member.clone(),
            })
        };
        self.held.iter().filter_map(about).collect()
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
    fn members_keep_their_numbers_whoever_comes_first() {
        let mut tracks = Tracks::default();
        let both = [Kind::Video, Kind::Audio];
        for (input, member) in ["high", "mid", "low"].into_iter().enumerate() {
            tracks.expect(input, member, &both);
        }
        let told = |tracks: &Tracks| {
            let infos = tracks.infos().into_iter();
            infos
                .map(|i| (i.track, i.member.unwrap_or_default(), i.problem))
                .collect::<Vec<_>>()
        };
        let (high, mid, low) = (Track::video(0), Track::video(1), Track::video(2));
        assert_eq!(
            told(&tracks),
            [
                (high, "high".to_owned(), None),
                (mid, "mid".to_owned(), None),
                (low, "low".to_owned(), None)
            ],
            "sound is not missed before it is announced"
        );
        tracks.replace(2, &[entry(256, Kind::Video), entry(257, Kind::Audio)]);
        tracks.replace(0, &[entry(256, Kind::Video), entry(257, Kind::Audio)]);
        assert_eq!(tracks.find(2, 256, Kind::Video), Some(low));
        assert_eq!(tracks.find(2, 257, Kind::Audio), Some(Track::audio(2)));
        assert_eq!(tracks.find(0, 257, Kind::Audio), Some(Track::audio(0)));
        let gone = Some(Cause::HttpNotFound);
        assert!(tracks.trouble(1, gone, Kind::Video));
        assert!(tracks.trouble(1, gone, Kind::Video), "told again");
        assert_eq!(told(&tracks)[1], (mid, "mid".to_owned(), gone));
        assert!(tracks.trouble(1, None, Kind::Video));
        assert!(!tracks.trouble(1, None, Kind::Video));
        tracks.replace(1, &[entry(300, Kind::Video)]);
        assert_eq!(tracks.find(1, 300, Kind::Video), Some(mid));
        tracks.expect(1, "other", &both);
        assert_eq!(told(&tracks)[1], (mid, "other".to_owned(), None));
    }

    #[test]
    fn separate_sound_is_missed_once_it_fails() {
        let mut tracks = Tracks::default();
        tracks.replace(0, &[entry(256, Kind::Video)]);
        assert!(tracks.trouble(1, Some(Cause::HttpServerError), Kind::Audio));
        let missed = &tracks.infos()[1];
        assert_eq!(missed.track, Track::audio(0));
        assert_eq!(missed.problem, Some(Cause::HttpServerError));
        let number = tracks.add(1, entry(0, Kind::Audio));
        assert_eq!(number, Some(Track::audio(0)));
        assert_eq!(tracks.infos().len(), 2);
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
