//! What was made is kept: clips by recipe, answers by recipe and by who answered. A run that was killed goes on where
//! it was, because files appear only when they are whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::peers::{self, Peer};
use crate::score::Span;
use crate::watch::{Ask, Product, Watched};

/// Changes whenever generators make other pictures from the same recipe: old clips are then not found any more.
const GENERATION: u32 = 1;

/// The folder of clips and answers, and the product under test.
#[derive(Debug, Clone)]
pub struct Bench {
    /// `clips/` and `answers/` lie here.
    pub folder: PathBuf,
    /// The product.
    pub product: Product,
    /// Whether clips are deleted as soon as all was asked about them.
    pub drop_clips: bool,
}

/// A clip with its truth.
#[derive(Debug, Clone)]
pub struct Made {
    /// File.
    pub path: PathBuf,
    /// True events, in seconds from the first picture.
    pub truth: Vec<Span>,
    /// Seconds in all.
    pub secs: f64,
}

/// What a generator tells of the clip that it made.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// True events.
    pub events: Vec<Span>,
    /// Seconds in all.
    pub secs: f64,
}

impl Bench {
    /// The clip of a recipe; `make` writes it to a path when it is not there yet.
    ///
    /// # Errors
    /// When the clip cannot be made or written.
    pub fn clip(
        &self,
        recipe: &str,
        extension: &str,
        make: impl FnOnce(&Path) -> io::Result<Truth>,
    ) -> io::Result<Made> {
        let clips = self.folder.join("clips");
        fs::create_dir_all(&clips)?;
        let key = key(recipe);
        let path = clips.join(format!("{key}.{extension}"));
        let about = clips.join(format!("{key}.json"));
        let known = fs::read(&about)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
            .and_then(|value| truth_of(&value));
        // Answers outlive clips, so the truth alone may be all that is needed.
        if let Some(truth) = known
            && (path.exists() || self.drop_clips)
        {
            return Ok(Made {
                path,
                truth: truth.events,
                secs: truth.secs,
            });
        }
        let truth = make(&path)?;
        let events: Vec<[f64; 2]> = truth.events.iter().map(|e| [e.start, e.end]).collect();
        let text = serde_json::json!({"recipe": recipe, "events": events, "secs": truth.secs});
        write(&about, &text)?;
        Ok(Made {
            path,
            truth: truth.events,
            secs: truth.secs,
        })
    }

    /// What the product says about a clip.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn watched(&self, clip: &Made, ask: &Ask) -> io::Result<Watched> {
        let place = self.answer(clip, &format!("{}{}", self.product.hash, ask.recipe()))?;
        if let Some(known) = read(&place).as_ref().and_then(Watched::from_json)
            && known.covers(clip.secs)
        {
            return Ok(known);
        }
        let watched = self.product.watch(&clip.path, clip.secs, ask)?;
        write(&place, &watched.to_json())?;
        Ok(watched)
    }

    /// What peers say about a clip, in their order.
    ///
    /// # Errors
    /// When they cannot be run.
    pub fn peers(&self, clip: &Made, asked: &[Peer]) -> io::Result<Vec<Vec<Span>>> {
        let place = self.answer(clip, &format!("peers, notes {asked:?}"))?;
        let known = read(&place).and_then(|value| {
            value
                .as_array()?
                .iter()
                .map(spans_of)
                .collect::<Option<Vec<_>>>()
        });
        if let Some(known) = known {
            return Ok(known);
        }
        let said = peers::ask(&clip.path, asked, clip.secs)?;
        let rows: Vec<Vec<[f64; 2]>> = said
            .iter()
            .map(|spans| spans.iter().map(|s| [s.start, s.end]).collect())
            .collect();
        write(&place, &serde_json::json!(rows))?;
        Ok(said)
    }

    /// To be called when all was asked about a clip.
    pub fn done(&self, clip: &Made) {
        if self.drop_clips {
            // A clip that stays only takes room.
            let _ = fs::remove_file(&clip.path);
        }
    }

    fn answer(&self, clip: &Made, by: &str) -> io::Result<PathBuf> {
        let answers = self.folder.join("answers");
        fs::create_dir_all(&answers)?;
        let stem = clip.path.file_stem().unwrap_or_default().to_string_lossy();
        let by: String = key(by).chars().take(12).collect();
        Ok(answers.join(format!("{stem}-{by}.json")))
    }
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Written aside and renamed, so that it is whole or not there.
fn write(path: &Path, value: &Value) -> io::Result<()> {
    let part = path.with_extension(format!("part{}", std::process::id()));
    fs::write(&part, value.to_string())?;
    fs::rename(&part, path)
}

fn truth_of(value: &Value) -> Option<Truth> {
    Some(Truth {
        events: spans_of(value.get("events")?)?,
        secs: value.get("secs")?.as_f64()?,
    })
}

fn spans_of(value: &Value) -> Option<Vec<Span>> {
    value
        .as_array()?
        .iter()
        .map(|pair| {
            Some(Span {
                start: pair.get(0)?.as_f64()?,
                end: pair.get(1)?.as_f64()?,
            })
        })
        .collect()
}

/// A short name for a text.
pub fn key(text: &str) -> String {
    let digest = Sha256::digest(format!("{GENERATION} {text}"));
    digest.iter().take(12).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_recipes_apart() {
        assert_eq!(key("a"), key("a"));
        assert_ne!(key("a"), key("b"));
        assert_eq!(key("a").len(), 24);
    }

    #[test]
    fn truth_is_read_back() {
        let value = serde_json::json!({"recipe": "x", "events": [[1.0, 2.5]], "secs": 9.0});
        let truth = truth_of(&value);
        assert!(truth.is_some_and(|t| t.secs == 9.0
            && t.events
                == [Span {
                    start: 1.0,
                    end: 2.5
                }]));
        assert!(truth_of(&serde_json::json!({"events": []})).is_none());
    }
}
