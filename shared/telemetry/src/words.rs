//! [`Words`]: counts by region and by one of a few words.

use shared::RegionId;

use crate::label::Label;
use crate::metrics::{Counter, Metric, Snapshot};
use crate::requests::OTHER;

/// Counts of what has a name: a reason, an outcome.
#[derive(Debug)]
pub struct Words {
    regions: Box<[RegionId]>,
    words: &'static [&'static str],
    counts: Box<[Counter]>,
}

impl Words {
    /// Of these regions and words; nothing was counted yet.
    #[must_use]
    pub fn new(
        regions: impl IntoIterator<Item = RegionId>,
        words: &'static [&'static str],
    ) -> Self {
        let regions: Box<[RegionId]> = regions.into_iter().collect();
        let counts = (regions.len() + 1) * (words.len() + 1);
        Self {
            regions,
            words,
            counts: (0..counts).map(|_| Counter::default()).collect(),
        }
    }

    /// Counts one.
    pub fn count(&self, region: Option<&RegionId>, word: &str) {
        let region = region
            .and_then(|region| self.regions.iter().position(|known| known == region))
            .unwrap_or(self.regions.len());
        let word = self.words.iter().position(|known| *known == word);
        let word = word.unwrap_or(self.words.len());
        if let Some(count) = self.counts.get(region * (self.words.len() + 1) + word) {
            count.increment();
        }
    }

    /// Adds what was counted, under a metric whose labels are the region and the word.
    pub fn observe(&self, snapshot: &mut Snapshot, metric: &'static Metric) {
        for (place, count) in self.counts.iter().enumerate() {
            if count.get() == 0 {
                continue;
            }
            let words = self.words.len() + 1;
            let (region, word) = (place / words, place % words);
            let region = self.regions.get(region);
            let word = self.words.get(word).copied().unwrap_or(OTHER);
            let labels = [
                region.map_or(Label::word(OTHER), Label::from),
                Label::word(word),
            ];
            snapshot.add(metric, labels, count);
        }
    }
}
