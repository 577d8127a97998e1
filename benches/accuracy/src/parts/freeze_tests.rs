use super::*;

fn counting() -> Box<dyn Iterator<Item = Raw> + Send> {
    Box::new(
        (0..=255u8)
            .cycle()
            .map(|n| Raw::flat(16, 16, (n | 64, n, 128))),
    )
}

#[test]
fn what_is_held_is_what_truth_says() {
    let holds = [
        Hold {
            live_secs: 1.0,
            secs: 2.0,
            lost: false,
        },
        Hold {
            live_secs: 1.0,
            secs: 0.4,
            lost: true,
        },
    ];
    let mut frozen = Frozen::new(counting(), holds.to_vec(), 1.0, 10.0, false);
    let mut shown: Vec<u8> = Vec::new();
    for raw in frozen.by_ref() {
        shown.push(raw.u[0]);
    }
    // The tenth picture stands for two seconds, itself included.
    assert_eq!(shown[8..12], [8, 9, 9, 9]);
    assert_eq!(shown[27..31], [9, 9, 10, 11]);
    assert_eq!(frozen.truth.len(), 2);
    for event in &frozen.truth {
        let (from, to) = (
            (event.start * 10.0).round() as usize,
            (event.end * 10.0).round() as usize,
        );
        assert!(shown[from..to].iter().all(|v| *v == shown[from]));
        assert_ne!(shown[from - 1], shown[from]);
        assert_ne!(shown[to], shown[from]);
    }
    assert!((frozen.truth[0].len() - 2.0).abs() < 1e-9);
    // A piece is missing behind the second.
    let to = (frozen.truth[1].end * 10.0).round() as usize;
    assert_eq!(shown[to], shown[to - 1] + 5);
}

#[test]
fn a_night_that_does_not_end_is_never_held() {
    let night = std::iter::repeat_with(|| Raw::flat(16, 16, (16, 128, 128)));
    let hold = Hold {
        live_secs: 1.0,
        secs: 1.0,
        lost: false,
    };
    let mut frozen = Frozen::new(Box::new(night), vec![hold], 1.0, 10.0, false);
    let shown = frozen.by_ref().take(1000).count();
    // A second, twenty of waiting, one more at the end; the bounds count one each.
    assert!((215..225).contains(&shown), "{shown}");
    assert_eq!(frozen.truth, []);
}

#[test]
fn every_cell_of_the_whole_plan_has_two_hundred_freezes() {
    let cases = plan(Set::Tune, 1);
    let mut cells: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for case in &cases {
        let scored = case.holds.iter().filter(|h| h.secs >= 1.0).count();
        for cell in case.cells() {
            if !matches!(cell.0, "class" | "size") {
                *cells.entry(cell).or_default() += scored;
            }
        }
    }
    let least = cells.iter().min_by_key(|(_, n)| **n);
    assert!(least.is_some_and(|(_, n)| *n >= 200), "{least:?}");
}
