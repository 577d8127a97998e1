//! Master playlists: variants, audio renditions, and the variants that are watched.

use super::attributes::{get, pairs};
use super::{ENTRIES_MAX, PlaylistError};
use crate::config::Rendition;

/// Most separate audio renditions that are watched beside a variant.
pub const AUDIO_RENDITIONS_MAX: usize = 8;

/// A variant stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variant {
    /// As written.
    pub uri: String,
    /// Peak bits a second; 0 when not told.
    pub bandwidth: u64,
    /// Picture rows.
    pub height: Option<u32>,
    /// `NAME`, which some packagers write.
    pub name: Option<String>,
    /// `AUDIO` group.
    pub audio_group: Option<String>,
    /// `VIDEO` group.
    pub video_group: Option<String>,
    /// `CODECS` names sound and nothing else.
    pub sound_only: bool,
}

impl Variant {
    /// What tells it from others of its ladder, short enough for an alert: `720p@3000k`.
    pub fn label(&self) -> String {
        let rate = match self.bandwidth {
            0 => None,
            bps => Some(format!("{}k", bps.div_ceil(1000))),
        };
        let rows = self.height.map(|rows| format!("{rows}p"));
        match (rows, rate) {
            (Some(rows), Some(rate)) => format!("{rows}@{rate}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => self.name.clone().unwrap_or_else(|| "unnamed".to_owned()),
        }
    }
}

/// A rendition of an audio group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioRendition {
    /// Its group.
    pub group: String,
    /// Its name.
    pub name: String,
    /// RFC 5646 language.
    pub language: Option<String>,
    /// Its playlist; without one it lies inside the variant.
    pub uri: Option<String>,
}

/// A master playlist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Master {
    /// In the order written; I-frame variants are left out.
    pub variants: Vec<Variant>,
    /// Audio renditions of all groups.
    pub audio: Vec<AudioRendition>,
}

/// What is watched of a master playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick<'a> {
    /// The pinned variant.
    pub variant: &'a Variant,
    /// Audio renditions of its group that have playlists of their own, at most eight.
    pub audio: Vec<&'a AudioRendition>,
}

/// One of several renditions that are watched as one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// Unique among its fellows: [`Variant::label`], or the name that was asked for.
    pub name: String,
    /// `None`: there is no such rendition (now).
    pub pick: Option<Pick<'a>>,
}

pub(super) fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Master, PlaylistError> {
    let mut master = Master::default();
    let mut pending: Option<Variant> = None;
    for line in lines {
        if master.variants.len() + master.audio.len() >= ENTRIES_MAX {
            return Err(PlaylistError::TooLong);
        }
        if let Some(list) = line.strip_prefix("#EXT-X-STREAM-INF:") {
            pending = Some(variant(list));
        } else if let Some(list) = line.strip_prefix("#EXT-X-MEDIA:") {
            master.audio.extend(audio_rendition(list));
        } else if !line.starts_with('#')
            && let Some(mut variant) = pending.take()
        {
            variant.uri = line.to_owned();
            master.variants.push(variant);
        }
    }
    Ok(master)
}

fn variant(list: &str) -> Variant {
    let mut variant = Variant::default();
    for (name, value) in pairs(list) {
        let owned = || (!value.is_empty()).then(|| value.to_owned());
        match name {
            "BANDWIDTH" => variant.bandwidth = value.parse().unwrap_or(0),
            "RESOLUTION" => {
                variant.height = value
                    .split_once(['x', 'X'])
                    .and_then(|(_, rows)| rows.parse().ok());
            }
            "NAME" => variant.name = owned(),
            "CODECS" => variant.sound_only = sound_only(value),
            "AUDIO" => variant.audio_group = owned(),
            "VIDEO" => variant.video_group = owned(),
            _ => {}
        }
    }
    variant
}

/// Whether these codecs (RFC 6381) are all of sound.
fn sound_only(codecs: &str) -> bool {
    const SOUND: [&str; 8] = [
        "mp4a", "ac-3", "ec-3", "ac-4", "opus", "flac", "alac", "mp3",
    ];
    let mut codecs = codecs.split(',').map(|c| c.trim().to_ascii_lowercase());
    codecs.all(|codec| SOUND.iter().any(|sound| codec.starts_with(sound)))
}

fn audio_rendition(list: &str) -> Option<AudioRendition> {
    if get(list, "TYPE") != Some("AUDIO") {
        return None;
    }
    let text = |name| get(list, name).filter(|v| !v.is_empty()).map(str::to_owned);
    Some(AudioRendition {
        group: text("GROUP-ID")?,
        name: text("NAME").unwrap_or_default(),
        language: text("LANGUAGE"),
        uri: text("URI"),
    })
}

impl Master {
    /// Pins a variant by the rule; `None` when nothing fits (no variants, or no such name).
    ///
    /// A rule for several pins the first of them.
    pub fn pick(&self, rule: &Rendition) -> Option<Pick<'_>> {
        let variant = self.choose(rule)?;
        let group = variant.audio_group.as_deref();
        Some(self.with_audio(variant, |other| Some(other) == group))
    }

    /// Variants with pictures, unless there are none: one without beside others with them is the audio-only fallback.
    fn pictured(&self) -> impl Iterator<Item = &Variant> {
        let sized = self.variants.iter().any(|v| v.height.is_some());
        let mute = self.variants.iter().any(|v| !v.sound_only);
        self.variants
            .iter()
            .filter(move |v| (!sized || v.height.is_some()) && (!mute || !v.sound_only))
    }

    fn choose(&self, rule: &Rendition) -> Option<&Variant> {
        let by_bandwidth = |v: &&Variant| (v.bandwidth, v.height);
        let with_picture = || self.pictured();
        match rule {
            Rendition::Highest | Rendition::All | Rendition::Ends => {
                with_picture().max_by_key(by_bandwidth)
            }
            Rendition::Several(rules) => rules.iter().find_map(|rule| self.choose(rule)),
            Rendition::Lowest => with_picture().min_by_key(by_bandwidth),
            Rendition::Height(rows) => with_picture().min_by_key(|v| {
                let distance = v.height.map_or(u32::MAX, |height| height.abs_diff(*rows));
                (distance, std::cmp::Reverse(v.bandwidth))
            }),
            Rendition::Bandwidth(limit) => with_picture()
                .filter(|v| v.bandwidth <= *limit)
                .max_by_key(by_bandwidth)
                .or_else(|| with_picture().min_by_key(by_bandwidth)),
            Rendition::Name(name) => self.variants.iter().find(|v| {
                let named = |own: &Option<String>| own.as_deref() == Some(name);
                named(&v.name) || named(&v.video_group)
            }),
        }
    }

    /// The variant with the separate audio of these groups.
    fn with_audio<'a>(&'a self, variant: &'a Variant, in_group: impl Fn(&str) -> bool) -> Pick<'a> {
        let mut audio: Vec<&AudioRendition> = Vec::new();
        for rendition in &self.audio {
            let separate = in_group(&rendition.group)
                && rendition
                    .uri
                    .as_ref()
                    .is_some_and(|uri| *uri != variant.uri);
            if separate
                && audio.len() < AUDIO_RENDITIONS_MAX
                && audio.iter().all(|other| other.uri != rendition.uri)
            {
                audio.push(rendition);
            }
        }
        Pick { variant, audio }
    }

    /// What is watched by a rule for several, the highest first and what is missing last; at most
    /// [`Rendition::MEMBERS_MAX`]. The same playlist is never taken twice; its separate audio is that of all groups
    /// with which it is listed.
    pub fn members(&self, rule: &Rendition) -> Vec<Member<'_>> {
        let mut found: Vec<&Variant> = Vec::new();
        let mut missing = Vec::new();
        match rule {
            Rendition::All => found.extend(self.pictured()),
            Rendition::Ends => {
                let ends = [Rendition::Highest, Rendition::Lowest];
                found.extend(ends.iter().filter_map(|end| self.choose(end)));
            }
            Rendition::Several(rules) => {
                for rule in rules {
                    match (self.choose(rule), rule) {
                        (Some(variant), _) => found.push(variant),
                        (None, Rendition::Name(name)) => missing.push(name.clone()),
                        // Every other rule finds something where there is anything.
                        (None, _) => {}
                    }
                }
            }
            one => found.extend(self.choose(one)),
        }
        let mut once: Vec<&Variant> = Vec::new();
        for variant in found {
            if once.iter().all(|other| other.uri != variant.uri) {
                once.push(variant);
            }
        }
        once.sort_by_key(|v| std::cmp::Reverse((v.bandwidth, v.height)));
        let most = Rendition::MEMBERS_MAX;
        if once.len() > most {
            let last = once.len() - 1;
            once = (0..most)
                .filter_map(|n| once.get(n * last / (most - 1)).copied())
                .collect();
        }
        let mut members: Vec<Member<'_>> = Vec::new();
        for variant in once {
            let groups: Vec<&str> = (self.variants.iter())
                .filter(|other| other.uri == variant.uri)
                .filter_map(|other| other.audio_group.as_deref())
                .collect();
            let label = variant.label();
            let mut names =
                std::iter::once(label.clone()).chain((2..).map(|n: u32| format!("{label}#{n}")));
            let name = names.find(|name| members.iter().all(|m| m.name != *name));
            members.push(Member {
                name: name.unwrap_or_default(),
                pick: Some(self.with_audio(variant, |group| groups.contains(&group))),
            });
        }
        let missing = missing.into_iter().map(|name| Member { name, pick: None });
        members.extend(missing.take(most.saturating_sub(members.len())));
        members
    }

    /// The separate audio rendition of that group and name.
    pub fn audio_named(&self, group: &str, name: &str) -> Option<&AudioRendition> {
        self.audio
            .iter()
            .find(|a| a.group == group && a.name == name && a.uri.is_some())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::super::{Playlist, parse};
    use super::*;

    const MASTER: &str = "#EXTM3U\r\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"English\",LANGUAGE=\"en\",URI=\"en.m3u8\"\r\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"\",LANGUAGE=\"de\",URI=\"de.m3u8\"\r\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"Again\",URI=\"de.m3u8\"\r\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"Inside\"\r\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"ac3\",NAME=\"Other\",URI=\"ac3.m3u8\"\r\n\
        #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"S\",URI=\"s.m3u8\"\r\n\
        #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=99999999,URI=\"iframes.m3u8\"\r\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2000000,RESOLUTION=1280x720,AUDIO=\"aac\",NAME=\"mid\"\r\n\
        mid.m3u8\r\n\
        #EXT-X-STREAM-INF:BANDWIDTH=6000000,RESOLUTION=1920x1080,AUDIO=\"aac\"\r\n\
        # a comment\r\n\
        high.m3u8?token=1\r\n\
        #EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS=\"mp4a.40.2\"\r\n\
        sound.m3u8\r\n\
        #EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=640x360,VIDEO=\"small\"\r\n\
        low.m3u8";

    fn picked(rule: Rendition) -> Option<String> {
        let Playlist::Master(master) = parse(MASTER.as_bytes()).unwrap() else {
            panic!("not a master")
        };
        master.pick(&rule).map(|pick| pick.variant.uri.clone())
    }

    #[test]
    fn rules_pin_a_variant() {
        let is = |rule, uri: &str| assert_eq!(picked(rule).as_deref(), Some(uri));
        is(Rendition::Highest, "high.m3u8?token=1");
        is(Rendition::Lowest, "low.m3u8");
        is(Rendition::Height(720), "mid.m3u8");
        is(Rendition::Height(700), "mid.m3u8");
        is(Rendition::Height(2160), "high.m3u8?token=1");
        is(Rendition::Bandwidth(5_999_999), "mid.m3u8");
        is(Rendition::Bandwidth(1), "low.m3u8");
        is(Rendition::Name("mid".into()), "mid.m3u8");
        is(Rendition::Name("small".into()), "low.m3u8");
        assert_eq!(picked(Rendition::Name("none".into())), None);
    }

    #[test]
    fn separate_audio_of_the_variants_group_comes_along_once() {
        let Playlist::Master(master) = parse(MASTER.as_bytes()).unwrap() else {
            panic!("not a master")
        };
        let pick = master.pick(&Rendition::Highest).unwrap();
        let audio: Vec<_> = pick
            .audio
            .iter()
            .map(|a| (a.uri.as_deref(), a.language.as_deref()))
            .collect();
        assert_eq!(
            audio,
            [(Some("en.m3u8"), Some("en")), (Some("de.m3u8"), Some("de"))]
        );
    }

    fn named(rule: &Rendition) -> Vec<(String, Option<String>)> {
        let Playlist::Master(master) = parse(MASTER.as_bytes()).unwrap() else {
            panic!("not a master")
        };
        let uri = |pick: Option<Pick<'_>>| pick.map(|pick| pick.variant.uri.clone());
        (master.members(rule).into_iter())
            .map(|member| (member.name, uri(member.pick)))
            .collect()
    }

    fn is(name: &str, uri: &str) -> (String, Option<String>) {
        (name.to_owned(), Some(uri.to_owned()))
    }

    #[test]
    fn members_are_the_ladder_its_ends_or_a_list_highest_first() {
        let high = is("1080p@6000k", "high.m3u8?token=1");
        let (mid, low) = (is("720p@2000k", "mid.m3u8"), is("360p@500k", "low.m3u8"));
        assert_eq!(
            named(&Rendition::All),
            [high.clone(), mid.clone(), low.clone()]
        );
        assert_eq!(named(&Rendition::Ends), [high.clone(), low.clone()]);
        let list = Rendition::Several(vec![
            Rendition::Height(360),
            Rendition::Lowest,
            Rendition::Name("none".into()),
            Rendition::Height(700),
        ]);
        assert_eq!(named(&list), [mid, low, ("none".to_owned(), None)]);
        assert_eq!(named(&Rendition::Highest), [high]);
        assert_eq!(picked(Rendition::All), picked(Rendition::Highest));
        assert_eq!(picked(list).as_deref(), Some("low.m3u8"));
    }

    #[test]
    fn of_a_long_ladder_the_ends_are_kept_and_names_stay_unique() {
        let variants = (0..30).map(|n| Variant {
            uri: format!("{n}"),
            bandwidth: 1_000 + n / 2,
            ..Variant::default()
        });
        let master = Master {
            variants: variants.collect(),
            audio: Vec::new(),
        };
        let members = master.members(&Rendition::All);
        assert_eq!(members.len(), Rendition::MEMBERS_MAX);
        let rate = |m: &Member<'_>| m.pick.as_ref().unwrap().variant.bandwidth;
        assert_eq!((rate(&members[0]), rate(&members[7])), (1_014, 1_000));
        let mut names: Vec<_> = members.iter().map(|m| &m.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), members.len());
    }

    #[test]
    fn a_playlist_listed_with_two_audio_groups_is_one_member_with_both() {
        let text = "#EXTM3U\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",URI=\"a.m3u8\"\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"b\",NAME=\"x\",URI=\"b.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=9,RESOLUTION=1x1,AUDIO=\"a\"\nv.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=8,RESOLUTION=1x1,AUDIO=\"b\"\nv.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=5,CODECS=\"mp4a.40.2\"\nsound.m3u8\n";
        let Playlist::Master(master) = parse(text.as_bytes()).unwrap() else {
            panic!("not a master")
        };
        assert!(master.variants[2].sound_only);
        let members = master.members(&Rendition::All);
        assert_eq!(members.len(), 1);
        let audio = &members[0].pick.as_ref().unwrap().audio;
        let uris: Vec<_> = audio.iter().map(|a| a.uri.as_deref().unwrap()).collect();
        assert_eq!(uris, ["a.m3u8", "b.m3u8"]);
        assert_eq!(master.audio_named("b", "x"), Some(audio[1]));
    }

    #[test]
    fn without_sizes_a_variant_of_sound_alone_is_no_picture() {
        let text = "#EXTM3U\n\
            #EXT-X-STREAM-INF:BANDWIDTH=9,CODECS=\"mp4a.40.2, avc1.4d4015\"\nv.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=5,CODECS=\"mp4a.40.2\"\nsound.m3u8\n";
        let Playlist::Master(master) = parse(text.as_bytes()).unwrap() else {
            panic!("not a master")
        };
        let lowest = master.pick(&Rendition::Lowest).unwrap();
        assert_eq!(lowest.variant.uri, "v.m3u8");
        assert_eq!(master.members(&Rendition::All).len(), 1);
    }

    #[test]
    fn a_master_without_variants_picks_nothing() {
        let text = "#EXTM3U\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8\"\n";
        let Playlist::Master(master) = parse(text.as_bytes()).unwrap() else {
            panic!("not a master")
        };
        assert_eq!(master.pick(&Rendition::Highest), None);
    }
}
