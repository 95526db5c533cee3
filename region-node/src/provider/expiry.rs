//! [`Expiring`]: API tokens that end soon and are in use, so that whoever depends on one hears of
//! it in time. A token that nobody uses may end in peace.

use std::time::Duration;

use shared::Timestamp;

use super::tokens::TokenState;
use crate::store::{Store, StoreError, StoredToken};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// From here on an end is told as a note.
const LATER: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// A token that was used in this time is in use.
const LATELY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Whole days that a live token has left; `None` for one that has ended or never ends.
#[must_use]
pub fn days_left(token: &StoredToken, now: Timestamp) -> Option<u64> {
    let left = token.expires?.since(now);
    (TokenState::of(token, now) == TokenState::Live).then_some(left.as_secs() / DAY.as_secs())
}

/// A token that is in use and ends within 90 days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiring {
    /// The token.
    pub token: StoredToken,
    /// Whole days that it has left.
    pub days_left: u64,
}

impl Expiring {
    /// Of a token at a moment; `None` where there is nothing to warn of.
    #[must_use]
    pub fn of(token: &StoredToken, now: Timestamp) -> Option<Self> {
        let ends_soon = token.expires?.since(now) <= LATER;
        let is_used = token.last_used?.after(LATELY) >= now;
        Some(Self {
            days_left: days_left(token, now).filter(|_| ends_soon && is_used)?,
            token: token.clone(),
        })
    }

    /// What to do, in a sentence for the operator.
    #[must_use]
    pub fn sentence(&self) -> String {
        let time = match self.days_left {
            0 => "less than a day".to_owned(),
            1 => "1 day".to_owned(),
            days => format!("{days} days"),
        };
        format!(
            "ends in {time} and is in use; unless its client has a successor already: meridian \
             token rotate {}",
            self.token.id
        )
    }
}

/// Looks for such tokens once a day.
#[derive(Debug, Default)]
pub struct ExpiryWatch {
    looked: Option<Timestamp>,
}

impl ExpiryWatch {
    /// The region's tokens that are in use and end soon, if nobody was told of them for a day.
    ///
    /// # Errors
    /// As the store; then nobody was told.
    pub async fn look(
        &mut self,
        store: &dyn Store,
        now: Timestamp,
    ) -> Result<Vec<Expiring>, StoreError> {
        if self.looked.is_some_and(|looked| now < looked.after(DAY)) {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for tenant in store.list_tenants().await? {
            let tokens = match store.list_tokens(&tenant.id).await {
                // Deleted a moment ago.
                Err(StoreError::NotFound) => continue,
                tokens => tokens?,
            };
            found.extend(tokens.iter().filter_map(|token| Expiring::of(token, now)));
        }
        self.looked = Some(now);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use shared::{Clock as _, TestClock};

    use super::*;
    use crate::store::Author;
    use crate::store::sqlite::{SqliteOptions, SqliteStore};
    use crate::store::story::{at, new_token, tenant};

    const DAY_S: i64 = 24 * 60 * 60;

    #[tokio::test]
    async fn whoever_uses_a_token_that_ends_soon_is_told_once_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meridian.db");
        let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
        let access = tenant(&store).await;
        let mut ids = Vec::new();
        for (ends, used, revoked) in [
            (Some(20 * DAY_S), true, false),
            (Some(80 * DAY_S), true, false),
            (Some(91 * DAY_S), true, false),
            (Some(20 * DAY_S), false, false),
            (Some(20 * DAY_S), true, true),
            (None, true, false),
        ] {
            let (token, _) = new_token(ends.map(at));
            store
                .create_token(&access.tenant, &token, None, at(0))
                .await
                .unwrap();
            if used {
                let use_of_it = [(token.id.clone(), at(0))];
                store.touch_tokens(&use_of_it).await.unwrap();
            }
            if revoked {
                store
                    .revoke_token(&token.id, &Author::operator(), None, at(0))
                    .await
                    .unwrap();
            }
            ids.push(token.id);
        }
        let clock = TestClock::at(at(0));
        let mut watch = ExpiryWatch::default();
        let mut look = async || {
            let found = watch.look(&store, clock.now()).await.unwrap();
            let told = found
                .into_iter()
                .map(|expiring| (expiring.token.id, expiring.days_left));
            told.collect::<Vec<_>>()
        };
        let first = [(ids[0].clone(), 20), (ids[1].clone(), 80)];
        assert_eq!(look().await, first);
        clock.advance(DAY - Duration::from_millis(1));
        assert_eq!(look().await, []);
        clock.advance(Duration::from_millis(1));
        let second = [
            (ids[0].clone(), 19),
            (ids[1].clone(), 79),
            (ids[2].clone(), 90),
        ];
        assert_eq!(look().await, second);
        // Nobody has used any for thirty days.
        clock.advance(DAY * 30);
        assert_eq!(look().await, []);
        // It is used again, and then it has ended.
        store
            .touch_tokens(&[(ids[1].clone(), clock.now())])
            .await
            .unwrap();
        clock.advance(DAY);
        assert_eq!(look().await, [(ids[1].clone(), 48)]);
        clock.advance(DAY * 49);
        assert_eq!(look().await, []);
    }

    #[test]
    fn days_are_whole_and_ended_tokens_have_none() {
        let (new, _) = new_token(None);
        let token = |expires: Option<i64>| StoredToken {
            id: new.id.clone(),
            tenant: shared::TenantId::generate().unwrap(),
            name: String::new(),
            scope: new.scope,
            dialect: new.dialect,
            created: at(0),
            created_by: String::new(),
            expires: expires.map(at),
            last_used: Some(at(0)),
            revoked: None,
            networks: shared::Networks::default(),
            meant_life: None,
        };
        for (expires, days) in [
            (None, None),
            (Some(0), None),
            (Some(1), Some(0)),
            (Some(DAY_S - 1), Some(0)),
            (Some(DAY_S), Some(1)),
            (Some(400 * DAY_S), Some(400)),
        ] {
            assert_eq!(days_left(&token(expires), at(0)), days, "{expires:?}");
        }
        let said = |expires| Expiring::of(&token(Some(expires)), at(0)).map(|e| e.sentence());
        assert!(said(1).unwrap().starts_with("ends in less than a day "));
        assert!(said(DAY_S).unwrap().starts_with("ends in 1 day "));
        assert!(said(30 * DAY_S).unwrap().starts_with("ends in 30 days "));
        assert!(said(90 * DAY_S).unwrap().ends_with(new.id.as_str()));
        assert_eq!(said(90 * DAY_S + 1), None);
    }
}
