//! Generated programme: one function a class makes a painter from chance, and a painter makes the picture of a
//! moment. Noise that is new on every picture is the painter's own.

mod effects;
mod people;
mod screens;
mod shots;

pub(crate) use screens::words;

use crate::chance::Chance;
use crate::grain::Grain;
use crate::motion::{Wobble, bounce, ease};
use crate::raw::Raw;
use crate::sources::Class;
use crate::world::{Camera, Family, World};

/// Paints the picture of a moment, in seconds; called once a picture, in order.
type Painter = Box<dyn FnMut(f64) -> Raw + Send>;

/// What every scene is made from.
struct Stage {
    family: Family,
    chance: Chance,
    width: usize,
    height: usize,
    /// Pixels that one of 360 rows takes.
    unit: f64,
}

impl Stage {
    fn world(&mut self) -> World {
        World::new(self.family, &mut self.chance, self.width, self.height)
    }

    /// Noise of the camera, with a deviation from this range.
    fn noise(&mut self, low: f64, high: f64) -> Grain {
        let (seed, sigma) = (self.chance.bits(), self.chance.between(low, high));
        match self.family {
            Family::Noise => Grain::sensor(seed, sigma),
            Family::Cells => Grain::rows(seed, sigma),
        }
    }

    fn wobble(&mut self) -> Wobble {
        Wobble::new(self.chance.bits())
    }

    /// A camera that wanders: always on its way, `speed` picture heights a second at most.
    fn wander(&mut self, speed: f64) -> Box<dyn Fn(f64) -> Camera + Send> {
        let (h, speed) = (self.height as f64, speed * self.height as f64);
        let start = (self.chance.unit() * 9.0 * h, self.chance.unit() * 9.0 * h);
        match self.family {
            Family::Noise => {
                let (a, b) = (self.wobble(), self.wobble());
                let heading = self.chance.between(0.0, std::f64::consts::TAU);
                Box::new(move |t| {
                    // Slow enough turns that the way has no rests.
                    let turn = heading + 0.9 * a.at(t * 0.11);
                    let pace = speed * (t + 1.2 * b.at(t * 0.3));
                    let mut camera = Camera::at(
                        start.0 + pace * turn.cos(),
                        start.1 + 0.4 * pace * turn.sin(),
                    );
                    camera.scale = 0.9;
                    camera
                })
            }
            Family::Cells => {
                // Straight runs to and fro, with eased turns.
                let (span, slant) = (
                    h * self.chance.between(0.6, 1.8),
                    self.chance.between(-0.3, 0.3),
                );
                let sway = self.wobble();
                Box::new(move |t| {
                    let way = bounce(t * speed, span);
                    let eased = span * ease(way / span) * 0.6 + way * 0.4;
                    let mut camera = Camera::at(
                        start.0 + eased,
                        start.1 + slant * eased + 0.02 * h * sway.at(t * 1.3),
                    );
                    camera.scale = 0.85;
                    camera
                })
            }
        }
    }

    /// A camera held by hand: trembles by about `reach` pixels of 360 rows.
    fn hand(&mut self, reach: f64) -> Box<dyn Fn(f64) -> Camera + Send> {
        let (a, b) = (self.wobble(), self.wobble());
        let reach = reach * self.unit;
        let start = (
            self.chance.unit() * self.width as f64,
            self.chance.unit() * self.height as f64,
        );
        let pace = self.chance.between(1.5, 3.5);
        Box::new(move |t| {
            Camera::at(
                start.0 + reach * a.rough(t * pace),
                start.1 + reach * b.rough(t * pace),
            )
        })
    }
}

/// The pictures of a scene, without end.
pub fn pictures(
    class: Class,
    family: Family,
    seed: u64,
    width: usize,
    height: usize,
    rate_hz: f64,
) -> Box<dyn Iterator<Item = Raw> + Send> {
    let mut stage = Stage {
        family,
        chance: Chance::named(seed, class.name()),
        width: width & !1,
        height: height & !1,
        unit: height as f64 / 360.0,
    };
    let mut paint = painter(class, &mut stage);
    let mut n = 0u64;
    Box::new(std::iter::from_fn(move || {
        let at = n as f64 / rate_hz;
        n += 1;
        Some(paint(at))
    }))
}

fn painter(class: Class, stage: &mut Stage) -> Painter {
    match class {
        // A real clip is no scene; asked for one all the same, a pan is given.
        Class::Pan | Class::Natural => shots::pan(stage),
        Class::Handheld => shots::handheld(stage),
        Class::StaticShot => shots::static_shot(stage),
        Class::Dark => shots::dark(stage),
        Class::NearBlack => shots::near_black(stage),
        Class::SlowZoom => shots::slow_zoom(stage),
        Class::Dusk => shots::dusk(stage),
        Class::Film => shots::film(stage),
        Class::People => people::people(stage),
        Class::TalkingHead => people::talking_head(stage),
        Class::Tennis => people::tennis(stage),
        Class::Blinds => people::blinds(stage),
        Class::Animation => people::animation(stage),
        Class::Graphics => screens::graphics(stage),
        Class::Slides => screens::slides(stage),
        Class::Bars => screens::bars(stage),
        Class::Tiles => screens::tiles(stage),
        Class::LedWall => screens::led_wall(stage),
        Class::PixelArt => screens::pixel_art(stage),
        Class::Mosaic => screens::mosaic(stage),
        Class::Credits => screens::credits(stage),
        Class::Confetti => effects::confetti(stage),
        Class::Water => effects::water(stage),
        Class::Strobe => effects::strobe(stage),
        Class::Fades => effects::fades(stage),
        Class::Cuts => effects::cuts(stage),
    }
}
