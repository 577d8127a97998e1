//! What is put onto the programme downstream of a fault: it goes on while the programme stands.

use crate::chance::Chance;
use crate::grain::Grain;
use crate::paint::{WHITE, ball, rect, text};
use crate::raw::Raw;

/// Puts something onto the picture of a moment, in seconds.
pub type Put = Box<dyn FnMut(&mut Raw, f64) + Send>;

/// Kinds of overlays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Overlay {
    /// None.
    Plain,
    /// A clock that runs, with seconds.
    Clock,
    /// Words that run through a band at the lower edge.
    Ticker,
    /// A half transparent sign that breathes.
    Logo,
    /// New noise on every picture, deviation 1 code.
    Noise1,
    /// Deviation 2 codes.
    Noise2,
    /// Deviation 4 codes.
    Noise4,
    /// Film grain, deviation 3 codes.
    Grain,
}

impl Overlay {
    /// All of them.
    pub const ALL: [Overlay; 8] = [
        Overlay::Plain,
        Overlay::Clock,
        Overlay::Ticker,
        Overlay::Logo,
        Overlay::Noise1,
        Overlay::Noise2,
        Overlay::Noise4,
        Overlay::Grain,
    ];

    /// As written in reports.
    pub fn name(self) -> &'static str {
        match self {
            Overlay::Plain => "plain",
            Overlay::Clock => "clock",
            Overlay::Ticker => "ticker",
            Overlay::Logo => "logo",
            Overlay::Noise1 => "noise 1",
            Overlay::Noise2 => "noise 2",
            Overlay::Noise4 => "noise 4",
            Overlay::Grain => "grain",
        }
    }

    /// Whether the whole picture is renewed with every picture.
    pub fn is_noise(self) -> bool {
        matches!(
            self,
            Overlay::Noise1 | Overlay::Noise2 | Overlay::Noise4 | Overlay::Grain
        )
    }

    /// Something that puts it onto the picture of a moment.
    pub fn painter(self, seed: u64, width: usize, height: usize) -> Put {
        let mut chance = Chance::named(seed, "overlay");
        let (w, h) = (width as f64, height as f64);
        let unit = h / 360.0;
        let noise = |sigma| {
            let mut grain = Grain::sensor(seed, sigma);
            // Added electronically: the same everywhere.
            grain.photon = 0.0;
            Box::new(move |raw: &mut Raw, _: f64| grain.add(raw)) as Put
        };
        match self {
            Overlay::Plain => Box::new(|_, _| {}),
            Overlay::Noise1 => noise(1.0),
            Overlay::Noise2 => noise(2.0),
            Overlay::Noise4 => noise(4.0),
            Overlay::Grain => {
                let mut grain = Grain::film(seed, 3.0);
                Box::new(move |raw, _| grain.add(raw))
            }
            Overlay::Clock => {
                let right = chance.hit(0.5);
                let high = unit * chance.between(11.0, 16.0);
                let from = chance.below(80_000);
                let boxed = chance.hit(0.5);
                Box::new(move |raw, t| {
                    let s = from + t as usize;
                    let says = format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
                    let wide = high * 0.724 * 8.0;
                    let x = if right {
                        w - wide - 24.0 * unit
                    } else {
                        24.0 * unit
                    };
                    let y = 18.0 * unit;
                    if boxed {
                        let rim = 3.0 * unit;
                        let colour = (40, 140, 120);
                        rect(raw, x - rim, y - rim, wide + rim, high + 2.0 * rim, colour);
                    }
                    text(raw, x, y, high, &says, WHITE);
                })
            }
            Overlay::Ticker => {
                let line = crate::scenes::words(&mut chance, 300);
                let pace = unit * chance.between(40.0, 120.0);
                let band = (chance.between(30.0, 90.0) as u8, 150, 110);
                let high = unit * chance.between(11.0, 14.0);
                Box::new(move |raw, t| {
                    let y = h - 16.0 * unit - high;
                    rect(raw, 0.0, y - 4.0 * unit, w, high + 8.0 * unit, band);
                    let all = high * 0.724 * line.len() as f64;
                    // Always full: a second copy follows the first.
                    let x = -(t * pace).rem_euclid(all);
                    text(raw, x, y, high, &line, WHITE);
                    text(raw, x + all, y, high, &line, WHITE);
                })
            }
            Overlay::Logo => {
                let (x, y) = (w - 44.0 * unit, 34.0 * unit);
                let (r, pace) = (14.0 * unit, chance.between(0.2, 0.6));
                Box::new(move |raw, t| {
                    let glow = 0.5 + 0.5 * (t * pace * std::f64::consts::TAU).sin();
                    let luma = (190.0 + 30.0 * glow) as u8;
                    ball(raw, x, y, r, r, (luma, 118, 134));
                    text(raw, x - r * 0.5, y - r * 0.4, r * 0.8, "GL", (60, 128, 128));
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlays_go_on_while_the_programme_stands() {
        for overlay in Overlay::ALL {
            let mut put = overlay.painter(7, 640, 360);
            let still = Raw::flat(640, 360, (100, 128, 128));
            let (mut a, mut b) = (still.clone(), still.clone());
            put(&mut a, 0.2);
            put(&mut b, 1.3);
            assert_eq!(a.y == b.y, overlay == Overlay::Plain, "{overlay:?}");
            if !overlay.is_noise() {
                // Small, as the detectors are told: at most a tenth of the picture.
                let touched = b.y.iter().filter(|v| **v != 100).count();
                assert!(touched * 10 < b.y.len(), "{overlay:?}: {touched}");
            }
        }
    }
}
