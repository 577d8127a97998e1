//! What is remembered of the newest pictures.

use std::collections::VecDeque;

use crate::base::MediaTime;

/// Adds what was seen of a picture, and forgets what is more than `secs` older and what is more than `pictures` ago.
pub(super) fn remember<T>(
    past: &mut VecDeque<T>,
    new: T,
    at: fn(&T) -> MediaTime,
    secs: f64,
    pictures: usize,
) {
    let now = at(&new);
    past.push_back(new);
    while past.len() > pictures
        || past
            .front()
            .is_some_and(|old| now.secs_after(at(old)) > secs)
    {
        past.pop_front();
    }
}
