//! How each input of a stream stands: which rendition it is, and why nothing of it can be had.

use std::sync::atomic::{AtomicUsize, Ordering};

use detectors::base::{Cause, Kind};
use tokio::sync::watch;

use super::Feeder;

/// One input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Standing {
    /// The rendition, where several are watched as one stream.
    member: Option<String>,
    /// Why its list cannot be had.
    list: Option<Cause>,
    /// Why its newest segment cannot be had.
    segment: Option<Cause>,
    /// Counts failures: each is told anew, because what was decoded meanwhile speaks against the one before.
    failures: u32,
}

impl Standing {
    fn trouble(&self) -> Option<Cause> {
        self.list.or(self.segment)
    }
}

/// All inputs, by number. The only rendition of a stream has no trouble of its own: that is the stream's.
#[derive(Debug)]
pub(in crate::ingest::source) struct Standings {
    all: watch::Sender<Vec<Standing>>,
    /// Number of the rendition whose list speaks for the stream; [`NOBODY`] until one is loaded.
    lead: AtomicUsize,
}

const NOBODY: usize = usize::MAX;

impl Default for Standings {
    fn default() -> Self {
        Self {
            all: watch::Sender::default(),
            lead: AtomicUsize::new(NOBODY),
        }
    }
}

impl Standings {
    /// The inputs, each with its rendition's name where several are watched.
    pub fn begin(&self, members: impl Iterator<Item = Option<String>>) {
        let standing = |member| Standing {
            member,
            ..Standing::default()
        };
        self.all.send_replace(members.map(standing).collect());
    }

    /// Whether it is the only rendition.
    pub fn is_alone(&self, number: usize) -> bool {
        number == 0 && !self.is_member(number)
    }

    /// Whether it is separate sound.
    pub fn is_beside(&self, number: usize) -> bool {
        number > 0 && !self.is_member(number)
    }

    /// The first input's trouble.
    pub fn trouble(&self) -> Option<Cause> {
        self.all.borrow().iter().find_map(Standing::trouble)
    }

    /// Whether it is one of several renditions.
    pub fn is_member(&self, number: usize) -> bool {
        let all = self.all.borrow();
        all.get(number).is_some_and(|own| own.member.is_some())
    }

    /// Whether a loaded list speaks for the stream: the only rendition's, or the first that could be had.
    pub fn leads(&self, number: usize) -> bool {
        if !self.is_member(number) {
            return number == 0;
        }
        let taken =
            (self.lead).compare_exchange(NOBODY, number, Ordering::Relaxed, Ordering::Relaxed);
        taken.is_ok() || taken == Err(number)
    }

    /// Whether what an input tells of the programme is told: members tell the same, one after the other.
    pub fn speaks(&self, number: usize) -> bool {
        let several = self.all.borrow().iter().any(|own| own.member.is_some());
        !several || self.leads(number) && self.is_member(number)
    }

    /// The input's list cannot be had, or can again.
    pub fn list(&self, number: usize, cause: Option<Cause>) {
        self.change(number, cause, |own| &mut own.list);
    }

    /// The input's newest segment cannot be had, or can again.
    pub fn segment(&self, number: usize, cause: Option<Cause>) {
        self.change(number, cause, |own| &mut own.segment);
    }

    fn change(
        &self,
        number: usize,
        cause: Option<Cause>,
        which: impl Fn(&mut Standing) -> &mut Option<Cause>,
    ) {
        self.all.send_if_modified(|all| match all.get_mut(number) {
            Some(own) if number > 0 || own.member.is_some() => {
                let before = std::mem::replace(which(own), cause);
                own.failures = own.failures.wrapping_add(u32::from(cause.is_some()));
                before != cause || cause.is_some()
            }
            _ => false,
        });
    }

    /// Names of the renditions.
    pub fn names(&self) -> Vec<String> {
        let all = self.all.borrow();
        all.iter().filter_map(|own| own.member.clone()).collect()
    }

    /// The input is another rendition now.
    pub fn rename(&self, number: usize, name: &str) {
        self.all.send_if_modified(|all| match all.get_mut(number) {
            Some(own) if own.member.as_deref() != Some(name) => {
                own.member = Some(name.to_owned());
                true
            }
            _ => false,
        });
    }

    /// What changes from now on.
    pub(super) fn subscribe(&self) -> News {
        let receiver = self.all.subscribe();
        let told = receiver.borrow().clone();
        News { receiver, told }
    }
}

/// Tells a feeder what changed.
pub(super) struct News {
    receiver: watch::Receiver<Vec<Standing>>,
    told: Vec<Standing>,
}

impl News {
    /// Waits for a change.
    pub async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Tells what changed since it was last told. `inputs`: the feeder's number of each input, and what it brings.
    pub fn tell<F: Feeder>(&mut self, feeder: &mut F, inputs: &[(usize, Vec<Kind>)]) {
        let now = self.receiver.borrow_and_update();
        if *now == self.told {
            return;
        }
        let now = now.clone();
        for (number, (input, kinds)) in inputs.iter().enumerate() {
            let (before, now) = (self.told.get(number), now.get(number));
            let (Some(now), false) = (now, before == now) else {
                continue;
            };
            let renamed = before.is_none_or(|before| before.member != now.member);
            if let (Some(member), true) = (&now.member, renamed) {
                feeder.expect(*input, member, kinds);
            }
            let again = before.is_none_or(|before| before.failures != now.failures);
            if again || before.is_some_and(|before| before.trouble() != now.trouble()) {
                feeder.trouble(*input, now.trouble());
            }
        }
        self.told = now;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn ladder(names: &[Option<&str>]) -> Standings {
        let standings = Standings::default();
        standings.begin(names.iter().map(|name| name.map(str::to_owned)));
        standings
    }

    #[test]
    fn the_only_rendition_has_no_trouble_of_its_own() {
        let alone = ladder(&[None, None]);
        let mut news = alone.subscribe();
        alone.list(0, Some(Cause::HttpNotFound));
        assert!(!news.receiver.has_changed().unwrap());
        alone.segment(1, Some(Cause::HttpNotFound));
        assert!(news.receiver.has_changed().unwrap());
        assert!(alone.leads(0) && !alone.leads(1));
        assert!(alone.speaks(0) && alone.speaks(1));
        news.receiver.borrow_and_update();
        alone.segment(1, None);
        assert!(news.receiver.has_changed().unwrap());
        news.receiver.borrow_and_update();
        alone.segment(1, None);
        assert!(!news.receiver.has_changed().unwrap());
    }

    #[test]
    fn the_first_member_that_can_be_had_speaks_for_all() {
        let members = ladder(&[Some("a"), Some("b"), None]);
        assert!(!members.leads(2));
        assert!(members.leads(1) && !members.leads(0) && members.leads(1));
        assert!(members.speaks(1) && !members.speaks(0) && !members.speaks(2));
        members.rename(0, "c");
        assert_eq!(members.names(), ["c", "b"]);
    }
}
