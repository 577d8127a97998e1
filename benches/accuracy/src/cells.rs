//! Which combinations of factors to try: every pair of values of every two factors at least once.

use std::collections::BTreeSet;

use crate::chance::Chance;

/// Candidates drawn for every row; the one that covers most is taken.
const CANDIDATES: usize = 40;
/// Draws after which a pair is taken for impossible.
const TRIES: usize = 300;

/// Rows of one value a factor that cover all pairs which `allowed` rows can have.
pub fn cover(
    levels: &[usize],
    chance: &mut Chance,
    allowed: impl Fn(&[usize]) -> bool,
) -> Vec<Vec<usize>> {
    let mut open: BTreeSet<(usize, usize, usize, usize)> = BTreeSet::new();
    for a in 0..levels.len() {
        for b in a + 1..levels.len() {
            for x in 0..levels[a] {
                open.extend((0..levels[b]).map(|y| (a, x, b, y)));
            }
        }
    }
    let mut rows = Vec::new();
    while let Some(&(a, x, b, y)) = open.first() {
        let mut best: Option<(usize, Vec<usize>)> = None;
        let mut found = 0;
        for _ in 0..TRIES {
            let mut row: Vec<usize> = levels.iter().map(|n| chance.below(*n)).collect();
            row[a] = x;
            row[b] = y;
            if !allowed(&row) {
                continue;
            }
            let fresh = pairs(&row).filter(|p| open.contains(p)).count();
            if best.as_ref().is_none_or(|(most, _)| fresh > *most) {
                best = Some((fresh, row));
            }
            found += 1;
            if found == CANDIDATES {
                break;
            }
        }
        match best {
            Some((_, row)) => {
                for pair in pairs(&row) {
                    open.remove(&pair);
                }
                rows.push(row);
            }
            None => {
                open.remove(&(a, x, b, y));
            }
        }
    }
    rows
}

fn pairs(row: &[usize]) -> impl Iterator<Item = (usize, usize, usize, usize)> + '_ {
    (0..row.len()).flat_map(move |a| (a + 1..row.len()).map(move |b| (a, row[a], b, row[b])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_allowed_pair_appears_and_no_forbidden_row() {
        let levels = [8, 4, 2, 5, 5, 3];
        let allowed = |row: &[usize]| !(row[5] == 1 && row[1] > 1);
        let rows = cover(&levels, &mut Chance::new(1), allowed);
        assert!(rows.iter().all(|r| allowed(r)));
        let seen: BTreeSet<_> = rows
            .iter()
            .flat_map(|r| pairs(r).collect::<Vec<_>>())
            .collect();
        for a in 0..levels.len() {
            for b in a + 1..levels.len() {
                for x in 0..levels[a] {
                    for y in 0..levels[b] {
                        let forbidden = (a, b) == (1, 5) && x > 1 && y == 1;
                        assert_eq!(seen.contains(&(a, x, b, y)), !forbidden, "{a} {x} {b} {y}");
                    }
                }
            }
        }
        // Forty is the least possible (8 x 5).
        assert!(rows.len() < 75, "{} rows", rows.len());
    }
}
