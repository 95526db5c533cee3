//! [`TopTenants`]: figures of the tenants that ask for most, and of all others together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use shared::TenantId;

use crate::label::Label;
use crate::requests::OTHER;

/// Figures of a bounded number of tenants. Whoever has a place keeps it, with all that was counted
/// since, until one that asks for more than twice as much needs it; what others do is counted
/// together. So no figure ever falls, and their number never grows with that of the tenants.
#[derive(Debug)]
pub struct TopTenants<const FIGURES: usize> {
    places: usize,
    state: Mutex<State<FIGURES>>,
}

#[derive(Debug)]
struct State<const FIGURES: usize> {
    kept: HashMap<TenantId, Kept<FIGURES>>,
    others: [u64; FIGURES],
}

#[derive(Debug)]
struct Kept<const FIGURES: usize> {
    figures: [u64; FIGURES],
    /// How much it asked for of late.
    recent: u64,
}

impl<const FIGURES: usize> TopTenants<FIGURES> {
    /// With so many places.
    #[must_use]
    pub fn new(places: usize) -> Self {
        let state = State {
            kept: HashMap::new(),
            others: [0; FIGURES],
        };
        Self {
            places,
            state: Mutex::new(state),
        }
    }

    /// Adds what was counted since the last time, of tenants by name and of some that are gone, and
    /// answers all there is.
    pub fn add(
        &self,
        news: Vec<(TenantId, [u64; FIGURES])>,
        gone: [u64; FIGURES],
    ) -> Vec<(Label, [u64; FIGURES])> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for kept in state.kept.values_mut() {
            kept.recent /= 2;
        }
        let mut strangers = Vec::new();
        for (tenant, figures) in news {
            match state.kept.get_mut(&tenant) {
                Some(kept) => {
                    sum(&mut kept.figures, &figures);
                    kept.recent += total(&figures);
                }
                None => strangers.push((tenant, figures)),
            }
        }
        strangers.sort_by_key(|(_, figures)| std::cmp::Reverse(total(figures)));
        for (tenant, figures) in strangers {
            match state.has_place(self.places, total(&figures)) {
                true => {
                    let recent = total(&figures);
                    state.kept.insert(tenant, Kept { figures, recent });
                }
                false => sum(&mut state.others, &figures),
            }
        }
        sum(&mut state.others, &gone);
        let mut kept: Vec<_> = state.kept.iter().collect();
        kept.sort_by_key(|(tenant, _)| *tenant);
        let kept = kept.into_iter();
        let mut all: Vec<_> = kept
            .map(|(tenant, kept)| (Label::from(tenant), kept.figures))
            .collect();
        all.push((Label::word(OTHER), state.others));
        all
    }
}

impl<const FIGURES: usize> State<FIGURES> {
    /// Whether there is a place for a tenant that asked for so much; makes one at the cost of the
    /// quietest, if that is far quieter.
    fn has_place(&mut self, places: usize, asked: u64) -> bool {
        if asked == 0 {
            return false;
        }
        if self.kept.len() < places {
            return true;
        }
        let quietest = self.kept.iter().min_by_key(|(_, kept)| kept.recent);
        let Some(tenant) = quietest
            .filter(|(_, kept)| kept.recent.saturating_mul(2) < asked)
            .map(|(tenant, _)| tenant.clone())
        else {
            return false;
        };
        self.kept.remove(&tenant);
        true
    }
}

fn sum(to: &mut [u64], more: &[u64]) {
    for (to, more) in to.iter_mut().zip(more) {
        *to += more;
    }
}

fn total(figures: &[u64]) -> u64 {
    figures.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_have_a_place_and_no_figure_falls() {
        let top = TopTenants::<1>::new(2);
        let [busy, quiet, third] = [0; 3].map(|_| TenantId::generate().unwrap());
        let figures = |all: Vec<(Label, [u64; 1])>| -> HashMap<String, u64> {
            let all = all.into_iter();
            all.map(|(label, [count])| (label.text().into_owned(), count))
                .collect()
        };
        let news = |of: &[(&TenantId, u64)]| {
            let of = of.iter();
            of.map(|(tenant, count)| ((*tenant).clone(), [*count]))
                .collect()
        };
        let first = figures(top.add(news(&[(&quiet, 1), (&busy, 100), (&third, 0)]), [0]));
        assert_eq!(first[busy.as_str()], 100);
        assert_eq!(first[quiet.as_str()], 1);
        assert_eq!(first[OTHER], 0);
        // Not enough more to take the place of another.
        let second = figures(top.add(news(&[(&quiet, 3), (&third, 6)]), [5]));
        assert_eq!((second[quiet.as_str()], second[OTHER]), (4, 11));
        let third_time = figures(top.add(news(&[(&third, 60)]), [0]));
        assert_eq!(third_time[third.as_str()], 60);
        assert_eq!(third_time.len(), 3);
        assert_eq!(third_time[OTHER], 11);
    }
}
