//! What is watched of a master playlist, and where it is when the master has changed.

use std::time::Duration;

use detectors::base::Kind;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::Plan;
use super::segments::{Session, invalid, join};
use crate::ingest::fetch::FetchError;
use crate::transport::playlist::{AUDIO_RENDITIONS_MAX, AudioRendition, Master, Playlist};

/// A master is loaded again at most this often, and only while a playlist that it lists fails.
const AGAIN: Duration = Duration::from_secs(10);

/// A playlist has failed for long when it did so this often in a row.
pub(super) const LONG: u32 = 3;

/// What a plan looks for in a master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sought {
    /// What the rule for one rendition picks.
    Only,
    /// The rendition of this name among several.
    Member(String),
    /// Separate audio.
    Audio { group: String, name: String },
}

/// Where something is by the newest master.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Here; the URL of the master comes with it.
    At(Url, Url),
    /// It is not listed.
    Nowhere,
}

/// The newest master, for all plans that were made of it.
pub(super) struct Ladder(Mutex<Newest>);

struct Newest {
    base: Url,
    master: Master,
    loaded_at: Instant,
    /// It is the one that the plans were made of.
    first: bool,
}

impl Ladder {
    pub fn new(base: Url, master: Master) -> Self {
        Self(Mutex::new(Newest {
            base,
            master,
            loaded_at: Instant::now(),
            first: true,
        }))
    }

    /// Where to find what is sought. `None` when there is nothing newer to be told than what the plan was made of.
    ///
    /// A member that is not listed any more takes the place of a rendition that nobody watches yet, and its name: a
    /// ladder whose bandwidths changed is followed.
    pub async fn find(
        &self,
        session: &Session<'_>,
        number: usize,
        sought: &mut Sought,
    ) -> Option<Found> {
        let mut newest = self.0.lock().await;
        if newest.loaded_at.elapsed() >= AGAIN {
            sleep_until(session.fetcher.pacer.slot(Instant::now())).await;
            newest.loaded_at = Instant::now();
            let loaded = session.fetcher.playlist(session.fetcher.home(), None).await;
            if let Ok((base, Playlist::Master(master))) = loaded {
                (newest.base, newest.master, newest.first) = (base, master, false);
            }
        }
        if newest.first {
            return None;
        }
        let rule = &session.cx.stream.input.rendition;
        let uri = match sought {
            Sought::Only => newest.master.pick(rule).map(|p| p.variant.uri.clone()),
            Sought::Audio { group, name } => {
                let audio = newest.master.audio_named(group, name);
                audio.and_then(|a| a.uri.clone())
            }
            Sought::Member(own) => {
                let listed = newest.master.members(rule);
                let watched = session.standings.names();
                let place = listed
                    .into_iter()
                    .filter(|member| member.pick.is_some())
                    .filter(|member| member.name == *own || !watched.contains(&member.name))
                    .min_by_key(|member| member.name != *own);
                place.and_then(|member| {
                    if member.name != *own {
                        session.standings.rename(number, &member.name);
                        own.clone_from(&member.name);
                    }
                    member.pick.map(|pick| pick.variant.uri.clone())
                })
            }
        };
        let Some(uri) = uri else {
            return Some(Found::Nowhere);
        };
        let url = join(&newest.base, &uri).ok()?;
        Some(Found::At(url, newest.base.clone()))
    }
}

/// What is to be read: the members, the highest first, or the one rendition; then separate audio, each once.
pub(super) fn plans(
    session: &Session<'_>,
    base: &Url,
    master: &Master,
) -> Result<Vec<Plan>, FetchError> {
    let rule = &session.cx.stream.input.rendition;
    let none = || invalid("the master playlist has no such rendition");
    let mut audio: Vec<&AudioRendition> = Vec::new();
    let mut plans = Vec::new();
    if rule.is_several() {
        let members = master.members(rule);
        if members.iter().all(|member| member.pick.is_none()) {
            return Err(none());
        }
        for member in members {
            let mut plan = Plan {
                url: base.clone(),
                referrer: Some(base.clone()),
                first: None,
                only: None,
                language: None,
                kinds: vec![Kind::Video, Kind::Audio],
                vanished: member.pick.is_none(),
                sought: Sought::Member(member.name),
            };
            if let Some(pick) = member.pick {
                plan.url = join(base, &pick.variant.uri)?;
                if pick.variant.sound_only {
                    plan.kinds = vec![Kind::Audio];
                } else if !pick.audio.is_empty() {
                    plan.kinds = vec![Kind::Video];
                }
                audio.extend(pick.audio);
            }
            plans.push(plan);
        }
    } else {
        let pick = master.pick(rule).ok_or_else(none)?;
        plans.push(Plan {
            url: join(base, &pick.variant.uri)?,
            referrer: Some(base.clone()),
            first: None,
            only: None,
            language: None,
            kinds: Vec::new(),
            sought: Sought::Only,
            vanished: false,
        });
        audio = pick.audio;
    }
    let mut once: Vec<&str> = Vec::new();
    for rendition in audio {
        let uri = rendition.uri.as_deref().unwrap_or_default();
        if once.contains(&uri) || once.len() >= AUDIO_RENDITIONS_MAX {
            continue;
        }
        once.push(uri);
        plans.push(Plan {
            url: join(base, uri)?,
            referrer: Some(base.clone()),
            first: None,
            only: Some(Kind::Audio),
            language: rendition.language.clone(),
            kinds: vec![Kind::Audio],
            sought: Sought::Audio {
                group: rendition.group.clone(),
                name: rendition.name.clone(),
            },
            vanished: false,
        });
    }
    Ok(plans)
}
