//! Attribute lists (RFC 8216, 4.2).

/// Iterates over `NAME=value` pairs; quotes are taken off. Ends at the first thing that is no pair.
pub(super) fn pairs(list: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let (name, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, tail) = quoted.split_once('"')?;
                (value, tail.split_once(',').map_or("", |(_, next)| next))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        rest = next;
        Some((name.trim(), value.trim()))
    })
}

/// The value of one attribute.
pub(super) fn get<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    pairs(list)
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_commas_and_empty_values() {
        let list = r#"BANDWIDTH=1, CODECS="avc1.4d,mp4a.40.2",NAME="",URI="a=b,c",LAST=x"#;
        assert_eq!(get(list, "BANDWIDTH"), Some("1"));
        assert_eq!(get(list, "CODECS"), Some("avc1.4d,mp4a.40.2"));
        assert_eq!(get(list, "NAME"), Some(""));
        assert_eq!(get(list, "URI"), Some("a=b,c"));
        assert_eq!(get(list, "LAST"), Some("x"));
        assert_eq!(get(list, "NONE"), None);
        assert_eq!(get(r#"URI="never closed"#, "URI"), None);
    }
}
