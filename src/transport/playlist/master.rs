//! Master playlists: variants, audio renditions, and the one variant that is watched.

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
            "AUDIO" => variant.audio_group = owned(),
            "VIDEO" => variant.video_group = owned(),
            _ => {}
        }
    }
    variant
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
    pub fn pick(&self, rule: &Rendition) -> Option<Pick<'_>> {
        let by_bandwidth = |v: &&Variant| (v.bandwidth, v.height);
        // A variant without pictures beside others with them is the audio-only fallback.
        let pictured = self.variants.iter().any(|v| v.height.is_some());
        let with_picture = || {
            self.variants
                .iter()
                .filter(move |v| !pictured || v.height.is_some())
        };
        let variant = match rule {
            Rendition::Highest => with_picture().max_by_key(by_bandwidth),
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
        }?;
        let group = variant.audio_group.as_deref();
        let mut audio: Vec<&AudioRendition> = Vec::new();
        for rendition in &self.audio {
            let separate = Some(rendition.group.as_str()) == group
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
        Some(Pick { variant, audio })
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

    #[test]
    fn a_master_without_variants_picks_nothing() {
        let text = "#EXTM3U\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8\"\n";
        let Playlist::Master(master) = parse(text.as_bytes()).unwrap() else {
            panic!("not a master")
        };
        assert_eq!(master.pick(&Rendition::Highest), None);
    }
}
