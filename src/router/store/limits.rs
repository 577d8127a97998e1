//! What every engine refuses before it asks anybody, so that what one stores the others store too.

use std::collections::HashSet;

use bytes::Bytes;

use super::{COMMIT_BYTES, COMMIT_ITEMS, Guard, KEY_BYTES, Result, StoreError, VALUE_BYTES, Write};

/// Parts of `[a-z0-9._~-]`, joined by `/`.
///
/// # Errors
/// [`StoreError::Invalid`] for anything else.
pub fn key(key: &str) -> Result<()> {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._~-".contains(&b);
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_allowed);
    match key.len() <= KEY_BYTES && key.split('/').all(is_part) {
        true => Ok(()),
        // It may be long, and hold anything.
        false => invalid("a key is no path of [a-z0-9._~-] parts, or too long"),
    }
}

/// A key, and a `/` at its end.
///
/// # Errors
/// [`StoreError::Invalid`] for anything else.
pub fn prefix(prefix: &str) -> Result<()> {
    match prefix.strip_suffix('/') {
        Some(path) => key(path),
        None => invalid("a path to scan does not end with `/`"),
    }
}

/// At most [`VALUE_BYTES`].
///
/// # Errors
/// [`StoreError::Invalid`] for more.
pub fn value(value: &Bytes) -> Result<()> {
    match value.len() <= VALUE_BYTES {
        true => Ok(()),
        false => invalid(&format!(
            "a value has {} bytes, the limit is {VALUE_BYTES}",
            value.len()
        )),
    }
}

/// Keys, values and sizes of a commit.
///
/// # Errors
/// [`StoreError::Invalid`] for what some engine could not do.
pub fn commit(guards: &[Guard], writes: &[Write]) -> Result<()> {
    if guards.len() + writes.len() > COMMIT_ITEMS {
        return invalid(&format!(
            "a commit has {} guards and writes, the limit is {COMMIT_ITEMS}",
            guards.len() + writes.len()
        ));
    }
    let (mut guarded, mut written, mut size) = (HashSet::new(), HashSet::new(), 0);
    for guard in guards {
        key(&guard.key)?;
        if !guarded.insert(&guard.key) {
            return invalid("a key is guarded twice in a commit");
        }
    }
    for write in writes {
        key(write.key())?;
        if !written.insert(write.key()) {
            return invalid("a key is written twice in a commit");
        }
        if let Write::Put(key, bytes) = write {
            value(bytes)?;
            size += key.len() + bytes.len();
        }
    }
    match size <= COMMIT_BYTES {
        true => Ok(()),
        false => invalid(&format!(
            "a commit writes {size} bytes, the limit is {COMMIT_BYTES}"
        )),
    }
}

fn invalid(why: &str) -> Result<()> {
    Err(StoreError::Invalid(why.to_owned()))
}
