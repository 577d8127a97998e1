//! Where pictures come from: generated scenes and clips of the media set, split by source into three sets.

use std::path::PathBuf;

use crate::chance::Chance;
use crate::media;
use crate::raw::Raw;
use crate::scenes;
use crate::world::Family;

/// What a source is for. No source is in two sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Set {
    /// Thresholds are chosen here.
    Tune,
    /// Looked at while developing; nothing is chosen here.
    Validate,
    /// Made by other generators and other real clips; run only to report.
    Sealed,
}

impl Set {
    /// As written on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Set::Tune => "tune",
            Set::Validate => "validate",
            Set::Sealed => "sealed",
        }
    }

    /// Which generators make its scenes.
    pub fn family(self) -> Family {
        match self {
            Set::Tune | Set::Validate => Family::Noise,
            Set::Sealed => Family::Cells,
        }
    }

    fn seed(self) -> u64 {
        match self {
            Set::Tune => 0x7e5e,
            Set::Validate => 0x0a11_d8e5,
            Set::Sealed => 0x005e_a1ed,
        }
    }
}

/// Kinds of programme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A camera that pans over a scene.
    Pan,
    /// A camera held by hand.
    Handheld,
    /// People walking before a fixed camera.
    People,
    /// A head that talks, before a fixed camera.
    TalkingHead,
    /// Two far players and a ball on a court, fixed camera.
    Tennis,
    /// Nothing moves but the noise of the camera.
    StaticShot,
    /// Programme under a scoreboard and a ticker.
    Graphics,
    /// Drawings held for two or more pictures, before a fixed background.
    Animation,
    /// Presentation slides: stand still by nature.
    Slides,
    /// Test pictures: stand still by nature.
    Bars,
    /// Night scenes.
    Dark,
    /// Hardly above black, and moving.
    NearBlack,
    /// Many small things that fall and turn.
    Confetti,
    /// Waves.
    Water,
    /// Tiles of moving pictures, edge to edge.
    Tiles,
    /// A wall of coarse lamps.
    LedWall,
    /// Pixel art.
    PixelArt,
    /// A part of the picture hidden behind a coarse mosaic.
    Mosaic,
    /// Blinds, bricks and meshes before which something moves.
    Blinds,
    /// Flashing light.
    Strobe,
    /// Fades through black and dissolves.
    Fades,
    /// A cut every few seconds.
    Cuts,
    /// A zoom of a per cent or two a second.
    SlowZoom,
    /// Light that goes slowly.
    Dusk,
    /// White words that roll over black.
    Credits,
    /// Heavy film grain at 24 pictures a second.
    Film,
    /// Filmed or drawn by people: a clip of the media set.
    Natural,
}

impl Class {
    /// All generated ones.
    pub const GENERATED: [Class; 26] = [
        Class::Pan,
        Class::Handheld,
        Class::People,
        Class::TalkingHead,
        Class::Tennis,
        Class::StaticShot,
        Class::Graphics,
        Class::Animation,
        Class::Slides,
        Class::Bars,
        Class::Dark,
        Class::NearBlack,
        Class::Confetti,
        Class::Water,
        Class::Tiles,
        Class::LedWall,
        Class::PixelArt,
        Class::Mosaic,
        Class::Blinds,
        Class::Strobe,
        Class::Fades,
        Class::Cuts,
        Class::SlowZoom,
        Class::Dusk,
        Class::Credits,
        Class::Film,
    ];

    /// As written in reports.
    pub fn name(self) -> &'static str {
        match self {
            Class::Pan => "pan",
            Class::Handheld => "handheld",
            Class::People => "people",
            Class::TalkingHead => "talking_head",
            Class::Tennis => "tennis",
            Class::StaticShot => "static_shot",
            Class::Graphics => "graphics",
            Class::Animation => "animation",
            Class::Slides => "slides",
            Class::Bars => "bars",
            Class::Dark => "dark",
            Class::NearBlack => "near_black",
            Class::Confetti => "confetti",
            Class::Water => "water",
            Class::Tiles => "tiles",
            Class::LedWall => "led_wall",
            Class::PixelArt => "pixel_art",
            Class::Mosaic => "mosaic",
            Class::Blinds => "blinds",
            Class::Strobe => "strobe",
            Class::Fades => "fades",
            Class::Cuts => "cuts",
            Class::SlowZoom => "slow_zoom",
            Class::Dusk => "dusk",
            Class::Credits => "credits",
            Class::Film => "film",
            Class::Natural => "natural",
        }
    }

    /// Whether the picture of such a programme stands still although nothing is wrong: a freeze cannot be told from
    /// it, and one that is told is counted apart.
    pub fn is_still(self) -> bool {
        matches!(self, Class::Slides | Class::Bars)
    }

    /// Whether pictures are held for longer than one by the makers' will, so that the moment of a freeze is not sharp.
    pub fn is_held(self) -> bool {
        matches!(self, Class::Animation | Class::PixelArt | Class::Film)
    }
}

/// One source.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Unique among all sets.
    pub name: String,
    /// Its set.
    pub set: Set,
    /// What it shows.
    pub class: Class,
    /// Decides everything about a generated scene.
    pub seed: u64,
    /// The clip, of a [`Class::Natural`] one.
    pub media: Option<Clip>,
}

/// A clip of the media set.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// File.
    pub path: PathBuf,
    /// Seconds of it that are used, from its start.
    pub secs: f64,
}

/// Generated sources of a class in a set.
const SCENES_A_CLASS: usize = 4;

impl Source {
    /// All sources of a set, generated ones first; real clips only where the media set is at hand.
    pub fn all(set: Set) -> Vec<Source> {
        let mut all: Vec<Source> = Class::GENERATED
            .iter()
            .flat_map(|class| (0..SCENES_A_CLASS).map(|n| Self::generated(set, *class, n as u64)))
            .collect();
        all.extend(media::clips(set).into_iter().map(|(name, clip)| Source {
            name: format!("{}-natural-{name}", set.name()),
            set,
            class: Class::Natural,
            seed: 0,
            media: Some(clip),
        }));
        all
    }

    /// The `n`th scene of a class; there are as many as one asks for.
    pub fn generated(set: Set, class: Class, n: u64) -> Source {
        let name = format!("{}-{}-{n}", set.name(), class.name());
        Source {
            seed: Chance::named(set.seed(), &name).bits(),
            name,
            set,
            class,
            media: None,
        }
    }

    /// Its pictures at a size and a rate: endless when generated; a real clip runs to its end, back, and so on. A
    /// real clip that cannot be read gives none.
    pub fn open(
        &self,
        width: usize,
        height: usize,
        rate_hz: f64,
    ) -> Box<dyn Iterator<Item = Raw> + Send> {
        match &self.media {
            Some(clip) => media::pictures(clip, width, height),
            None => scenes::pictures(
                self.class,
                self.set.family(),
                self.seed,
                width,
                height,
                rate_hz,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_source_is_in_two_sets() {
        let mut names = BTreeSet::new();
        let mut seeds = BTreeSet::new();
        let mut files = BTreeSet::new();
        for set in [Set::Tune, Set::Validate, Set::Sealed] {
            for source in Source::all(set) {
                assert!(names.insert(source.name.clone()), "{}", source.name);
                match source.media {
                    Some(clip) => assert!(files.insert(clip.path.clone()), "{:?}", clip.path),
                    None => assert!(seeds.insert(source.seed), "{}", source.name),
                }
            }
        }
        assert!(names.len() >= 3 * 26 * SCENES_A_CLASS);
    }

    #[test]
    fn every_scene_repeats_exactly_and_has_its_size() {
        for class in Class::GENERATED {
            for set in [Set::Tune, Set::Sealed] {
                let source = Source::generated(set, class, 0);
                let take = || source.open(96, 64, 25.0).take(4).collect::<Vec<_>>();
                let pictures = take();
                assert_eq!(pictures, take(), "{}", source.name);
                assert!(
                    pictures.iter().all(|p| {
                        (p.y.len(), p.u.len(), p.v.len()) == (96 * 64, 48 * 32, 48 * 32)
                    })
                );
            }
        }
    }

    #[test]
    fn live_scenes_move_within_a_second() {
        for class in Class::GENERATED.into_iter().filter(|c| !c.is_still()) {
            for set in [Set::Tune, Set::Sealed] {
                let source = Source::generated(set, class, 1);
                let pictures: Vec<Raw> = source.open(192, 108, 25.0).take(60).collect();
                // No picture stays for a second.
                let longest = pictures
                    .chunk_by(|a, b| a == b)
                    .map(<[Raw]>::len)
                    .max()
                    .unwrap_or(0);
                assert!(longest < 25, "{}: {longest} equal pictures", source.name);
            }
        }
    }
}
