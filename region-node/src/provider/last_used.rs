//! [`LastUsed`]: notes when tokens are used, and lets the store know of it seldom.
//!
//! At most one write in ten minutes a token (DESIGN section 4), many tokens in one write, and
//! bounded memory whatever comes: a note that finds no room is dropped, the next use makes
//! another.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shared::{Timestamp, TokenId};

use crate::store::{Store, StoreError};

/// How exact the time of last use is.
const EXACTNESS: Duration = Duration::from_secs(10 * 60);
/// Tokens whose last note is remembered.
const REMEMBERED: u64 = 100_000;
/// Notes that wait to be written.
const MOST_WAITING: usize = 100_000;
/// Notes that are written in one transaction.
const AT_ONCE: usize = 1_000;

/// When tokens were last used, as far as it is not written yet.
pub struct LastUsed {
    noted: moka::sync::Cache<TokenId, Timestamp>,
    waiting: Mutex<HashMap<TokenId, Timestamp>>,
}

impl LastUsed {
    /// Knows of no use yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            noted: moka::sync::Cache::new(REMEMBERED),
            waiting: Mutex::new(HashMap::new()),
        }
    }

    /// Notes a use. Costs a look-up, except once in ten minutes.
    pub fn note(&self, token: &TokenId, now: Timestamp) {
        let noted = self.noted.get(token);
        if noted.is_some_and(|before| now < before.after(EXACTNESS)) {
            return;
        }
        let mut waiting = self.lock();
        if waiting.len() < MOST_WAITING {
            self.noted.insert(token.clone(), now);
            waiting.insert(token.clone(), now);
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// As the store; what could not be written waits on.
    pub async fn flush(&self, store: &dyn Store) -> Result<(), StoreError> {
        let mut notes: Vec<(TokenId, Timestamp)> = self.lock().drain().collect();
        while !notes.is_empty() {
            let batch = notes.split_off(notes.len().saturating_sub(AT_ONCE));
            if let Err(error) = store.touch_tokens(&batch).await {
                notes.extend(batch);
                let mut waiting = self.lock();
                for (token, at) in notes {
                    // A later use that was noted meanwhile stands.
                    waiting.entry(token).or_insert(at);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// How many uses wait to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TokenId, Timestamp>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LastUsed {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(uses: &LastUsed) -> Vec<Timestamp> {
        uses.lock().drain().map(|(_, at)| at).collect()
    }

    #[test]
    fn a_token_is_noted_once_in_ten_minutes() {
        let uses = LastUsed::new();
        let token = TokenId::generate().unwrap();
        let at = |seconds: i64| Timestamp(seconds * 1000);
        uses.note(&token, at(0));
        uses.note(&token, at(1));
        assert_eq!(waiting(&uses), [at(0)]);
        uses.note(&token, at(599));
        assert!(waiting(&uses).is_empty());
        uses.note(&token, at(600));
        assert_eq!(waiting(&uses), [at(600)]);
        uses.note(&TokenId::generate().unwrap(), at(601));
        assert_eq!(waiting(&uses), [at(601)]);
    }
}
