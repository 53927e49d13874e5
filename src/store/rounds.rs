//! Changing several keys where others may interfere: optimistically, round after round.

/// The changes still to be made, and the answers of those that were.
pub(super) struct Rounds<'a, R> {
    left: Vec<Place<'a>>,
    answers: Vec<Option<R>>,
    /// In how many rounds in a row somebody interfered, since a change was last made.
    conflicts: usize,
}

/// A key, and its place among all.
pub(super) type Place<'a> = (usize, &'a str);

/// Others changed the same keys each time.
#[derive(Debug)]
pub(super) struct Contended;

impl<'a, R> Rounds<'a, R> {
    /// In how many rounds in a row others may interfere before another change is made.
    pub(super) const MOST: usize = 64;

    pub(super) fn of(keys: &[&'a str]) -> Rounds<'a, R> {
        Rounds {
            left: keys.iter().copied().enumerate().collect(),
            answers: keys.iter().map(|_| None).collect(),
            conflicts: 0,
        }
    }

    /// The next changes to make, at most `most` and no key twice; none when all are made. In the
    /// order of their keys, so that of two callers that lock several of them, one waits for the
    /// other.
    pub(super) fn next(&mut self, most: usize) -> Result<Vec<Place<'a>>, Contended> {
        if self.conflicts > Self::MOST {
            return Err(Contended);
        }
        let mut now = std::mem::take(&mut self.left);
        let mut later = now.split_off(most.min(now.len()));
        now.sort_unstable_by_key(|&(n, key)| (key, n));
        let mut last = None;
        now.retain(|&place| {
            let is_first = last.replace(place.1) != Some(place.1);
            if !is_first {
                later.push(place);
            }
            is_first
        });
        self.left = later;
        Ok(now)
    }

    /// Notes the answers of a round; `None` where somebody interfered.
    pub(super) fn made(&mut self, places: Vec<Place<'a>>, answers: Vec<Option<R>>) {
        let mut missed = places.len() > answers.len();
        // As long as changes are made, it goes on, however often: there is an end to them.
        if answers.iter().any(Option::is_some) {
            self.conflicts = 0;
        }
        let mut answers = answers.into_iter();
        for place in places {
            let slot = self.answers.get_mut(place.0);
            if let (Some(answer), Some(slot)) = (answers.next().flatten(), slot) {
                *slot = Some(answer);
            } else {
                missed = true;
                self.left.push(place);
            }
        }
        self.left.sort_unstable();
        self.conflicts += usize::from(missed);
    }

    /// The answers, where all changes were made.
    pub(super) fn answers(self) -> Result<Vec<R>, Contended> {
        let answers = self.so_far().into_iter();
        answers.collect::<Option<_>>().ok_or(Contended)
    }

    /// The answers of those changes that were made.
    pub(super) fn so_far(self) -> Vec<Option<R>> {
        self.answers
    }
}

#[cfg(test)]
mod tests {
    use super::Rounds;

    const KEYS: [&str; 6] = ["b", "a", "b", "c", "b", "a"];

    #[test]
    fn no_round_has_a_key_twice_and_each_has_them_in_order() {
        let mut rounds = Rounds::of(&KEYS);
        let mut seen = vec![];
        loop {
            let round = rounds.next(2).unwrap();
            if round.is_empty() {
                break;
            }
            let answers = round.iter().map(|&(n, _)| Some(n * 10)).collect();
            seen.push(round.clone());
            rounds.made(round, answers);
        }
        let expected: [&[_]; 4] = [
            &[(1, "a"), (0, "b")],
            &[(2, "b"), (3, "c")],
            &[(5, "a"), (4, "b")],
            &[],
        ];
        assert_eq!(seen, expected[..3]);
        assert_eq!(rounds.answers().unwrap(), [0, 10, 20, 30, 40, 50]);
    }

    #[test]
    fn what_others_came_in_the_way_of_comes_again() {
        let mut rounds = Rounds::of(&["a", "b", "c"]);
        let round = rounds.next(9).unwrap();
        rounds.made(round, vec![None, Some("made")]);
        assert_eq!(rounds.next(9).unwrap(), [(0, "a"), (2, "c")]);
        assert!(rounds.answers().is_err(), "not all are made");
    }

    /// As many rounds as it takes, as long as each makes something; else so many, and no more.
    #[test]
    fn it_gives_up_where_others_are_always_in_the_way() {
        const MOST: usize = Rounds::<()>::MOST;
        let keys = ["a"; 5];
        let mut rounds = Rounds::of(&keys);
        for _ in 0..4 {
            for _ in 0..MOST {
                let round = rounds.next(1).unwrap();
                rounds.made(round, vec![]);
            }
            let round = rounds.next(1).unwrap();
            rounds.made(round, vec![Some(())]);
        }
        for _ in 0..=MOST {
            let round = rounds.next(1).unwrap();
            rounds.made(round, vec![None]);
        }
        rounds.next(1).unwrap_err();
    }
}
