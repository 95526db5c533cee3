//! What every engine must do, told once: each story runs against each engine.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use shared::link::TenantLimits;
use shared::{
    ApiToken, Dialect, Networks, RegionId, Scope, TenantId, Timestamp, TokenDigest, TokenId,
};

use super::{
    Access, AuditKind, AuditNote, Author, ChangeKind, Content, Erased, GroupsRule, KeyOrigin, Keys,
    MOST_ACCESS_TOKENS, MeantLife, MemberChange, Narrowing, NewAccessToken, NewToken, PageStart,
    RequestKey, Retention, Store, StoreError, Stored, StoredToken, TenantExtension, TenantSettings,
    TenantState, TextIndex, TextTest, UserNameRule, WriteContext,
};
use crate::scim::{ResourceId, ResourceKind, Version};

/// Declares a test for each story, on the store that the expression opens. The expression gives
/// the store and whatever must live as long as it.
macro_rules! on_every_story {
    ($open:expr) => {
        $crate::store::story::on_every_story!($open;
            tenants_live_and_die,
            a_tenant_is_erased_with_all_it_owns,
            tokens_live_and_end,
            tokens_change_under_an_access_that_holds,
            rotation_overlaps_and_never_prolongs,
            access_tokens_live_under_their_api_token,
            the_newest_access_tokens_stay,
            last_use_never_moves_back,
            resources_are_created_read_replaced_and_deleted,
            every_write_moves_the_head_by_one,
            a_stale_or_missing_resource_is_left_alone,
            unique_keys_are_unique_in_their_tenant_and_kind,
            an_access_ends_with_what_it_rests_on,
            one_tenant_never_sees_another,
            pages_walk_the_list,
            members_change_by_deltas,
            candidates_come_in_list_order,
            text_look_ups_find_what_they_say,
            indexed_values_follow_the_resource,
            one_of_fifty_creates_wins,
            counters_survive_parallel_writes,
            every_change_is_told_in_order,
            a_request_is_carried_out_once,
            old_changes_and_outcomes_are_forgotten,
            a_backup_is_one_snapshot_and_holds_up_no_write,
            what_is_restored_reads_as_before,
            a_restore_without_its_end_changes_nothing,
            contradictions_are_found_and_nothing_stays,
            credentials_do_not_go_back_in_time,
            a_restore_says_what_is_back_and_what_is_gone,
            restored_tokens_can_be_revoked_at_once,
            a_tenant_that_was_erased_can_come_back,
            an_export_is_one_tenant,
            requests_are_kept_and_found,
            cycles_and_hours_add_up,
            findings_are_counted_together,
            a_process_that_ended_suddenly_leaves_a_gap,
            old_activity_is_forgotten,
            activity_is_erased_with_its_tenant,
            every_write_has_its_record,
            what_is_done_to_tokens_and_tenants_is_recorded,
            many_writers_make_one_chain,
            a_chain_is_shortened_from_the_front_and_stays_whole,
            an_audit_never_goes_back_in_time,
            one_node_delivers_and_what_it_notes_stays,
            a_region_has_one_key_for_events,
            receivers_of_events_outlive_a_restore,
            the_store_says_that_it_works,
        );
    };
    ($open:expr; $($story:ident,)*) => {
        $(
            #[tokio::test]
            async fn $story() {
                let (store, _keep) = $open;
                $crate::store::story::$story(store).await;
            }
        )*
    };
}
pub(crate) use on_every_story;

pub(crate) use super::activity_story::*;
pub(crate) use super::audit_story::*;
pub(crate) use super::backup_story::*;
pub(crate) use super::events_story::*;

type Subject = Arc<dyn Store>;

const USER: ResourceKind = ResourceKind::User;
const GROUP: ResourceKind = ResourceKind::Group;

pub(crate) const fn at(seconds: i64) -> Timestamp {
    Timestamp(1_700_000_000_000 + seconds * 1000)
}

/// A write at a time, by a request without a name.
pub(crate) fn written(seconds: i64) -> WriteContext {
    WriteContext {
        now: at(seconds),
        request: None,
        by: author(),
    }
}

/// Who writes in the stories.
pub(crate) fn author() -> Author {
    Author {
        actor: "tok_of_the_story".to_owned(),
        request: "req-1".to_owned(),
    }
}

fn settings_note() -> AuditNote {
    AuditNote::new(AuditKind::SettingsChanged, author(), "")
}

pub(crate) fn resource_id(number: u32) -> ResourceId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    ResourceId::from_random(bytes)
}

pub(crate) fn user(name: &str) -> Content {
    Content {
        keys: Keys {
            user_name: Some(name.to_owned()),
            active: true,
            ..Keys::default()
        },
        document: format!(r#"{{"userName":"{name}"}}"#),
        members: Vec::new(),
        changed: Vec::new(),
    }
}

pub(crate) fn group(name: &str) -> Content {
    Content {
        keys: Keys {
            display_name: Some(name.to_owned()),
            active: true,
            ..Keys::default()
        },
        document: format!(r#"{{"displayName":"{name}"}}"#),
        members: Vec::new(),
        changed: Vec::new(),
    }
}

pub(crate) async fn tenant(store: &dyn Store) -> Access {
    let id = TenantId::generate().unwrap();
    let tenant = store
        .create_tenant(&id, "Acme", &TenantSettings::default(), at(0))
        .await
        .unwrap();
    Access {
        tenant: id,
        credential_version: tenant.credential_version,
    }
}

pub(crate) fn new_token(expires: Option<Timestamp>) -> (NewToken, TokenDigest) {
    let secret = ApiToken::generate(&RegionId::parse("us").unwrap()).unwrap();
    let token = NewToken {
        id: TokenId::generate().unwrap(),
        digest: secret.digest(),
        name: "Okta".into(),
        scope: Scope::Scim,
        dialect: Dialect::Scim20,
        created_by: "operator".into(),
        expires,
        networks: Networks::default(),
    };
    (token, secret.digest())
}

async fn refreshed(store: &dyn Store, access: &Access) -> Access {
    let tenant = store.get_tenant(&access.tenant).await.unwrap().unwrap();
    Access {
        credential_version: tenant.credential_version,
        ..access.clone()
    }
}

pub(crate) async fn tenants_live_and_die(store: Subject) {
    let (first, second) = (TenantId::generate().unwrap(), TenantId::generate().unwrap());
    let settings = TenantSettings {
        user_name: UserNameRule::Email,
        groups: GroupsRule::Off,
        extensions: vec![TenantExtension {
            resource_type: USER,
            schema: serde_json::json!({"id": "urn:acme:x"}),
            indexed: vec!["badge".into()],
        }],
        removed_extensions: vec!["urn:acme:y".into()],
        limits: TenantLimits {
            burst: 7,
            ..TenantLimits::default()
        },
        activity_days: Some(7),
    };
    let created = store
        .create_tenant(&first, "Æcme", &settings, at(1))
        .await
        .unwrap();
    assert_eq!(created.name, "Æcme");
    assert_eq!(created.state, TenantState::Active);
    assert_eq!(created.settings, settings);
    assert_eq!(created.created, at(1));
    assert_eq!((created.seq, created.users, created.groups), (0, 0, 0));
    assert_eq!(
        store.get_tenant(&first).await.unwrap(),
        Some(created.clone())
    );
    assert_eq!(store.get_tenant(&second).await.unwrap(), None);

    store
        .create_tenant(&second, "Umbrella", &TenantSettings::default(), at(2))
        .await
        .unwrap();
    let names: Vec<String> = store
        .list_tenants()
        .await
        .unwrap()
        .into_iter()
        .map(|tenant| tenant.name)
        .collect();
    assert_eq!(names, ["Æcme", "Umbrella"]);

    let suspended = store
        .set_tenant_state(&first, TenantState::Suspended, &Author::operator(), at(0))
        .await
        .unwrap();
    assert_eq!(suspended.state, TenantState::Suspended);
    assert!(suspended.credential_version > created.credential_version);
    let resumed = store
        .set_tenant_state(&first, TenantState::Active, &Author::operator(), at(0))
        .await
        .unwrap();
    assert!(resumed.credential_version > suspended.credential_version);
    let changed = store
        .set_tenant_settings(
            &first,
            &TenantSettings::default(),
            None,
            &settings_note(),
            at(0),
        )
        .await
        .unwrap();
    assert!(changed.credential_version > resumed.credential_version);
    assert_eq!(changed.settings, TenantSettings::default());

    store.delete_tenant(&first).await.unwrap();
    assert_eq!(store.get_tenant(&first).await.unwrap(), None);
    assert_eq!(store.list_tenants().await.unwrap().len(), 1);
    let missing = [
        store.delete_tenant(&first).await.err(),
        store
            .set_tenant_state(&first, TenantState::Active, &Author::operator(), at(0))
            .await
            .err(),
        store
            .set_tenant_settings(
                &first,
                &TenantSettings::default(),
                None,
                &settings_note(),
                at(0),
            )
            .await
            .err(),
    ];
    for error in missing {
        assert!(matches!(error, Some(StoreError::NotFound)), "{error:?}");
    }
}

pub(crate) async fn a_tenant_is_erased_with_all_it_owns(store: Subject) {
    let (gone, stays) = (tenant(&*store).await, tenant(&*store).await);
    let (token, digest) = new_token(None);
    store
        .create_token(&gone.tenant, &token, None, at(0))
        .await
        .unwrap();
    for access in [&gone, &stays] {
        for number in 0..20 {
            let mut content = user(&format!("u{number}"));
            content
                .keys
                .attributes
                .push(("emails.value".into(), format!("u{number}@x")));
            let id = ResourceId::from_random(rand_bytes());
            store
                .create(access, USER, id, content, written(0))
                .await
                .unwrap();
        }
    }
    let erased = store.delete_tenant(&gone.tenant).await.unwrap();
    let expected = Erased {
        tokens: 1,
        users: 20,
        index_rows: 20,
        changes: 20,
        audit: 22,
        ..Erased::default()
    };
    assert_eq!(erased, expected);
    assert!(matches!(store.head(&gone).await, Err(StoreError::Refused)));
    assert!(store.find_token(&digest).await.unwrap().is_none());
    assert!(store.get_token(&token.id).await.unwrap().is_none());
    assert!(matches!(
        store.list_tokens(&gone.tenant).await,
        Err(StoreError::NotFound)
    ));
    assert_eq!(
        store
            .page(&stays, USER, PageStart::Offset(0), 100)
            .await
            .unwrap()
            .total,
        20
    );
    let found = candidates(
        &*store,
        &stays,
        USER,
        &is(TextIndex::Attribute("emails.value".into()), "u7@x"),
    )
    .await;
    assert_eq!(found.len(), 1);
}

fn rand_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// What an administrator does to tokens is done while the access holds, or not at all.
pub(crate) async fn tokens_change_under_an_access_that_holds(store: Subject) {
    let (access, other) = (tenant(&*store).await, tenant(&*store).await);
    let (first, _) = new_token(None);
    let held = Some(&access);
    store
        .create_token(&access.tenant, &first, held, at(1))
        .await
        .unwrap();
    let hour = Duration::from_secs(3600);
    let (second, _) = new_token(None);
    let foreign = store.rotate_token(&first.id, &second, hour, Some(&other), at(2));
    assert!(matches!(foreign.await, Err(StoreError::Refused)));
    store
        .rotate_token(&first.id, &second, hour, held, at(2))
        .await
        .unwrap();
    // That has moved the credential version: the access is one of before.
    let before = store.list_tokens(&access.tenant).await.unwrap();
    let (third, _) = new_token(None);
    let refused = [
        store
            .create_token(&access.tenant, &third, held, at(3))
            .await,
        store
            .rotate_token(&second.id, &third, hour, held, at(3))
            .await,
        store
            .revoke_token(&second.id, &Author::operator(), held, at(3))
            .await,
    ];
    for refused in refused {
        assert!(matches!(refused, Err(StoreError::Refused)), "{refused:?}");
    }
    assert_eq!(store.list_tokens(&access.tenant).await.unwrap(), before);
    let access = Access {
        credential_version: access.credential_version + 1,
        ..access
    };
    store
        .revoke_token(&second.id, &Author::operator(), Some(&access), at(4))
        .await
        .unwrap();
    let access = Access {
        credential_version: access.credential_version + 1,
        ..access
    };
    store
        .set_tenant_state(
            &access.tenant,
            TenantState::Suspended,
            &Author::operator(),
            at(4),
        )
        .await
        .unwrap();
    let suspended = store.create_token(&access.tenant, &third, Some(&access), at(5));
    assert!(matches!(suspended.await, Err(StoreError::Refused)));
}

pub(crate) async fn tokens_live_and_end(store: Subject) {
    let access = tenant(&*store).await;
    let (token, digest) = new_token(Some(at(100)));
    let created = store
        .create_token(&access.tenant, &token, None, at(1))
        .await
        .unwrap();
    assert_eq!(created.id, token.id);
    assert_eq!(created.tenant, access.tenant);
    assert_eq!(created.name, "Okta");
    assert_eq!(created.scope, Scope::Scim);
    assert_eq!(created.created, at(1));
    assert_eq!(created.created_by, "operator");
    assert_eq!(created.expires, Some(at(100)));
    assert_eq!((created.last_used, created.revoked), (None, None));

    let found = store.find_token(&digest).await.unwrap().unwrap();
    assert_eq!(found.token, created);
    assert_eq!(found.tenant.id, access.tenant);
    assert!(!found.is_access_token);
    assert_eq!(
        store.get_token(&token.id).await.unwrap(),
        Some(created.clone())
    );
    let (unknown, unknown_digest) = new_token(None);
    assert!(store.find_token(&unknown_digest).await.unwrap().is_none());
    assert!(store.get_token(&unknown.id).await.unwrap().is_none());
    let nobody = TenantId::generate().unwrap();
    assert!(matches!(
        store.create_token(&nobody, &unknown, None, at(1)).await,
        Err(StoreError::NotFound)
    ));

    let before = store.head(&access).await.unwrap().credential_version;
    let revoked = store
        .revoke_token(&token.id, &Author::operator(), None, at(5))
        .await
        .unwrap();
    assert_eq!(revoked.revoked, Some(at(5)));
    let again = store
        .revoke_token(&token.id, &Author::operator(), None, at(9))
        .await
        .unwrap();
    assert_eq!(again.revoked, Some(at(5)));
    assert!(matches!(
        store
            .revoke_token(&unknown.id, &Author::operator(), None, at(5))
            .await,
        Err(StoreError::NotFound)
    ));
    let after = store.get_tenant(&access.tenant).await.unwrap().unwrap();
    assert_eq!(after.credential_version, before + 1);

    let (mut second, second_digest) = new_token(None);
    let network = "203.0.113.0/24".parse().unwrap();
    second.networks = Networks::new(vec![network]).unwrap();
    let created = store
        .create_token(&access.tenant, &second, None, at(10))
        .await
        .unwrap();
    assert_eq!(created.networks, second.networks);
    let found = store.find_token(&second_digest).await.unwrap().unwrap();
    assert_eq!(found.token, created);
    let listed: Vec<TokenId> = store
        .list_tokens(&access.tenant)
        .await
        .unwrap()
        .into_iter()
        .map(|token| token.id)
        .collect();
    assert_eq!(listed, [token.id, second.id]);
}

pub(crate) async fn rotation_overlaps_and_never_prolongs(store: Subject) {
    let access = tenant(&*store).await;
    let (old, old_digest) = new_token(None);
    store
        .create_token(&access.tenant, &old, None, at(0))
        .await
        .unwrap();
    let (mut next, next_digest) = new_token(None);
    next.networks = Networks::new(vec!["2001:db8::/32".parse().unwrap()]).unwrap();
    let hour = Duration::from_secs(3600);
    let created = store
        .rotate_token(&old.id, &next, hour, None, at(10))
        .await
        .unwrap();
    assert_eq!(created.id, next.id);
    assert_eq!(created.networks, next.networks);
    assert_eq!(created.tenant, access.tenant);
    assert_eq!(created.expires, None);
    let before = store.find_token(&old_digest).await.unwrap().unwrap();
    assert_eq!(before.token.expires, Some(at(3610)));
    assert!(store.find_token(&next_digest).await.unwrap().is_some());
    assert!(matches!(
        store.head(&access).await,
        Err(StoreError::Refused)
    ));

    // What it was meant to live is as it was.
    assert_eq!(before.token.meant_life, Some(MeantLife::of(at(0), None)));
    let (hourly, _) = new_token(Some(at(3600)));
    let made = store
        .create_token(&access.tenant, &hourly, None, at(0))
        .await;
    assert_eq!(made.unwrap().meant_life.unwrap().life(), Some(hour));
    let (half_as_long, _) = new_token(Some(at(1810)));
    let successor = store
        .rotate_token(&hourly.id, &half_as_long, hour / 4, None, at(10))
        .await
        .unwrap();
    assert_eq!(successor.meant_life.unwrap().life(), Some(hour / 2));
    let hourly = store.get_token(&hourly.id).await.unwrap().unwrap();
    assert_eq!(hourly.expires, Some(at(910)));
    assert_eq!(hourly.meant_life.unwrap().life(), Some(hour));

    // Rotated again with a longer overlap, the first one still ends when it was going to.
    let (third, _) = new_token(None);
    store
        .rotate_token(&old.id, &third, hour * 10, None, at(20))
        .await
        .unwrap();
    let before = store.find_token(&old_digest).await.unwrap().unwrap();
    assert_eq!(before.token.expires, Some(at(3610)));

    // An ended token has no successor, and a failed rotation leaves nothing behind.
    let (late, late_digest) = new_token(None);
    store
        .revoke_token(&third.id, &Author::operator(), None, at(30))
        .await
        .unwrap();
    for ended in [&old.id, &third.id, &late.id] {
        assert!(matches!(
            store.rotate_token(ended, &late, hour, None, at(5000)).await,
            Err(StoreError::NotFound)
        ));
    }
    assert!(store.find_token(&late_digest).await.unwrap().is_none());
}

fn new_access_token(expires: Timestamp) -> NewAccessToken {
    let secret = ApiToken::generate(&RegionId::parse("us").unwrap()).unwrap();
    NewAccessToken {
        digest: secret.digest(),
        expires,
    }
}

pub(crate) async fn access_tokens_live_under_their_api_token(store: Subject) {
    let access = tenant(&*store).await;
    let (token, digest) = new_token(Some(at(3000)));
    let api_token = store
        .create_token(&access.tenant, &token, None, at(0))
        .await
        .unwrap();
    let before = store.head(&access).await.unwrap();
    let new = new_access_token(at(1000));
    let create = async |id: &TokenId, new: NewAccessToken, seconds: i64| {
        store.create_access_token(id, &new, at(seconds)).await
    };
    assert_eq!(create(&token.id, new, 1).await.unwrap(), at(1000));
    // The same request a second time, and nothing that a grant rests on has changed.
    let again = NewAccessToken {
        expires: at(2000),
        ..new
    };
    assert_eq!(create(&token.id, again, 2).await.unwrap(), at(1000));
    assert_eq!(store.head(&access).await.unwrap(), before);
    // No longer than the API token.
    let late = new_access_token(at(9000));
    assert_eq!(create(&token.id, late, 3).await.unwrap(), at(3000));

    let found = store.find_token(&new.digest).await.unwrap().unwrap();
    assert!(found.is_access_token);
    assert_eq!(found.token.expires, Some(at(1000)));
    let whose = StoredToken {
        expires: api_token.expires,
        ..found.token
    };
    assert_eq!(whose, api_token, "all else is the API token's");
    assert!(
        !store
            .find_token(&digest)
            .await
            .unwrap()
            .unwrap()
            .is_access_token
    );
    assert_eq!(store.list_tokens(&access.tenant).await.unwrap().len(), 1);

    // One that its holder ends is gone at once, with every grant; the API token lives.
    let session = new_access_token(at(1000));
    create(&token.id, session, 4).await.unwrap();
    let elsewhere = tenant(&*store).await.tenant;
    for tenant in [&elsewhere, &access.tenant, &access.tenant] {
        store
            .end_access_token(tenant, &session.digest)
            .await
            .unwrap();
        let is_there = store.find_token(&session.digest).await.unwrap().is_some();
        assert_eq!(is_there, *tenant == elsewhere);
    }
    let result = store.head(&access).await;
    assert!(matches!(result, Err(StoreError::Refused)), "{result:?}");
    let moved = refreshed(&*store, &access).await.credential_version;
    assert_eq!(
        moved,
        access.credential_version + 1,
        "by the one that was there"
    );
    assert!(store.find_token(&new.digest).await.unwrap().is_some());

    // A digest stands for one token.
    let (other, other_digest) = new_token(None);
    store
        .create_token(&access.tenant, &other, None, at(0))
        .await
        .unwrap();
    for taken in [digest, other_digest, late.digest] {
        let new = NewAccessToken {
            digest: taken,
            expires: at(1000),
        };
        let result = create(&other.id, new, 4).await;
        assert!(matches!(result, Err(StoreError::KeyReused)), "{result:?}");
    }

    // A rotation that leaves the API token no time leaves them none.
    let (successor, _) = new_token(None);
    store
        .rotate_token(&token.id, &successor, Duration::from_secs(10), None, at(20))
        .await
        .unwrap();
    let found = store.find_token(&new.digest).await.unwrap().unwrap();
    assert_eq!(found.token.expires, Some(at(30)));
    // The end of the API token is theirs.
    let of_other = new_access_token(at(1000));
    create(&other.id, of_other, 5).await.unwrap();
    store
        .revoke_token(&other.id, &Author::operator(), None, at(6))
        .await
        .unwrap();
    let found = store.find_token(&of_other.digest).await.unwrap().unwrap();
    assert_eq!(found.token.revoked, Some(at(6)));

    // Nobody gets one under an API token that has ended, of a tenant that is suspended.
    let unknown = TokenId::generate().unwrap();
    for (id, seconds) in [(&other.id, 7), (&token.id, 30), (&unknown, 7)] {
        let result = create(id, new_access_token(at(1000)), seconds).await;
        assert!(matches!(result, Err(StoreError::NotFound)), "{result:?}");
    }
    let state = TenantState::Suspended;
    store
        .set_tenant_state(&access.tenant, state, &Author::operator(), at(0))
        .await
        .unwrap();
    let result = create(&successor.id, new_access_token(at(1000)), 40).await;
    assert!(matches!(result, Err(StoreError::NotFound)), "{result:?}");
    let found = store.find_token(&new.digest).await.unwrap().unwrap();
    assert_eq!(found.tenant.state, state);

    let erased = store.delete_tenant(&access.tenant).await.unwrap();
    assert_eq!((erased.tokens, erased.left), (3, 0));
    for digest in [new.digest, late.digest, of_other.digest] {
        assert!(store.find_token(&digest).await.unwrap().is_none());
    }
}

pub(crate) async fn the_newest_access_tokens_stay(store: Subject) {
    let access = tenant(&*store).await;
    let mut parents = Vec::new();
    for _ in 0..2 {
        let (token, _) = new_token(None);
        store
            .create_token(&access.tenant, &token, None, at(0))
            .await
            .unwrap();
        parents.push(token.id);
    }
    let count = async |all: &[NewAccessToken]| {
        let mut count = 0;
        for one in all {
            count += usize::from(store.find_token(&one.digest).await.unwrap().is_some());
        }
        count
    };
    let most = MOST_ACCESS_TOKENS as usize;
    let neighbour = new_access_token(at(100));
    store
        .create_access_token(&parents[1], &neighbour, at(1))
        .await
        .unwrap();
    let all: Vec<_> = (0..most + 5)
        .map(|_| new_access_token(at(2 * 3600)))
        .collect();
    for one in &all {
        store
            .create_access_token(&parents[0], one, at(1))
            .await
            .unwrap();
    }
    assert_eq!(count(&all[..5]).await, 0, "the oldest are gone");
    assert_eq!(count(&all[5..]).await, most);

    // At the same time, too.
    let rush: Vec<_> = (0..20).map(|_| new_access_token(at(2 * 3600))).collect();
    let asking = rush.iter().map(|one| {
        let (store, id) = (&store, &parents[0]);
        async move { store.create_access_token(id, one, at(2)).await }
    });
    futures_util::future::try_join_all(asking).await.unwrap();
    assert_eq!(count(&rush).await, rush.len());
    assert_eq!(count(&all).await + rush.len(), most);

    assert_eq!(count(&[neighbour]).await, 1, "another API token's stay");
    assert!(store.prune_access_tokens(at(99)).await.unwrap());
    assert_eq!(count(&[neighbour]).await, 1);
    while !store.prune_access_tokens(at(100)).await.unwrap() {}
    assert_eq!(count(&[neighbour]).await, 0, "its time is over");
    assert_eq!(count(&all).await + rush.len(), most);
    while !store.prune_access_tokens(at(9000)).await.unwrap() {}
    assert_eq!(count(&all).await + count(&rush).await, 0);
}

pub(crate) async fn last_use_never_moves_back(store: Subject) {
    let access = tenant(&*store).await;
    let (token, _) = new_token(None);
    store
        .create_token(&access.tenant, &token, None, at(0))
        .await
        .unwrap();
    let unknown = TokenId::generate().unwrap();
    store
        .touch_tokens(&[(unknown, at(3)), (token.id.clone(), at(7))])
        .await
        .unwrap();
    store
        .touch_tokens(&[(token.id.clone(), at(5))])
        .await
        .unwrap();
    let read = store.get_token(&token.id).await.unwrap().unwrap();
    assert_eq!(read.last_used, Some(at(7)));
    // Being used changes nothing that a grant rests on.
    store.head(&access).await.unwrap();
}

pub(crate) async fn resources_are_created_read_replaced_and_deleted(store: Subject) {
    let access = tenant(&*store).await;
    let id = resource_id(1);
    let created = store
        .create(&access, USER, id, user("ann"), written(1))
        .await
        .unwrap();
    assert_eq!(created.id, id);
    assert_eq!(created.version, Version(1));
    assert_eq!((created.created, created.modified), (at(1), at(1)));
    assert_eq!(created.document, r#"{"userName":"ann"}"#);
    assert_eq!(
        store.get(&access, USER, id).await.unwrap(),
        Some(created.clone())
    );
    // Another kind's id names nothing here.
    assert_eq!(store.get(&access, GROUP, id).await.unwrap(), None);

    let replaced = store
        .replace(&access, USER, id, created.version, user("anna"), written(2))
        .await
        .unwrap();
    assert_eq!(replaced.version, Version(2));
    assert_eq!(replaced.position, created.position);
    assert_eq!((replaced.created, replaced.modified), (at(1), at(2)));
    let read = store.get(&access, USER, id).await.unwrap();
    assert_eq!(read.map(alone), Some(alone(replaced.clone())));
    // The name that was given up is free again.
    store
        .create(&access, USER, resource_id(2), user("ann"), written(3))
        .await
        .unwrap();

    store
        .delete(&access, USER, id, Some(replaced.version), written(99))
        .await
        .unwrap();
    assert_eq!(store.get(&access, USER, id).await.unwrap(), None);
    store
        .delete(&access, USER, resource_id(2), None, written(99))
        .await
        .unwrap();
    assert_eq!(store.head(&access).await.unwrap().users, 0);
}

pub(crate) async fn every_write_moves_the_head_by_one(store: Subject) {
    let access = tenant(&*store).await;
    let (ann, team) = (resource_id(1), resource_id(2));
    let created = store
        .create(&access, USER, ann, user("ann"), written(1))
        .await
        .unwrap();
    store
        .create(&access, GROUP, team, group("Team"), written(1))
        .await
        .unwrap();
    let head = store.head(&access).await.unwrap();
    assert_eq!((head.seq, head.users, head.groups), (2, 1, 1));

    // What fails moves nothing.
    let failures = [
        store
            .create(&access, USER, resource_id(3), user("ann"), written(2))
            .await
            .err(),
        store
            .replace(&access, USER, ann, Version(77), user("x"), written(2))
            .await
            .err(),
        store
            .delete(&access, USER, resource_id(9), None, written(99))
            .await
            .err(),
    ];
    assert!(failures.iter().all(Option::is_some));
    assert_eq!(store.head(&access).await.unwrap(), head);

    let replaced = store
        .replace(&access, USER, ann, created.version, user("ann"), written(3))
        .await
        .unwrap();
    assert_eq!(replaced.version, Version(3));
    store
        .delete(&access, GROUP, team, None, written(99))
        .await
        .unwrap();
    let head = store.head(&access).await.unwrap();
    assert_eq!((head.seq, head.users, head.groups), (4, 1, 0));
}

pub(crate) async fn a_stale_or_missing_resource_is_left_alone(store: Subject) {
    let access = tenant(&*store).await;
    let id = resource_id(1);
    let first = store
        .create(&access, USER, id, user("ann"), written(1))
        .await
        .unwrap();
    let second = store
        .replace(&access, USER, id, first.version, user("ann"), written(2))
        .await
        .unwrap();

    let stale = store
        .replace(&access, USER, id, first.version, user("lost"), written(3))
        .await;
    assert!(
        matches!(stale, Err(StoreError::Stale { current }) if current == second.version),
        "{stale:?}"
    );
    let stale = store
        .delete(&access, USER, id, Some(first.version), written(99))
        .await;
    assert!(matches!(stale, Err(StoreError::Stale { current }) if current == second.version));
    let read = store.get(&access, USER, id).await.unwrap();
    assert_eq!(read.map(alone), Some(alone(second)));

    for (kind, id) in [(USER, resource_id(2)), (GROUP, id)] {
        let missing = store
            .replace(&access, kind, id, first.version, user("x"), written(3))
            .await;
        assert!(matches!(missing, Err(StoreError::NotFound)), "{missing:?}");
        let missing = store
            .delete(&access, kind, id, Some(first.version), written(99))
            .await;
        assert!(matches!(missing, Err(StoreError::NotFound)));
    }
}

pub(crate) async fn unique_keys_are_unique_in_their_tenant_and_kind(store: Subject) {
    let (acme, umbrella) = (tenant(&*store).await, tenant(&*store).await);
    let taken = |error: Result<Stored, StoreError>, name: &str| {
        assert!(
            matches!(&error, Err(StoreError::Taken { attribute }) if *attribute == name),
            "{error:?}"
        );
    };
    store
        .create(&acme, USER, resource_id(1), user("ann"), written(1))
        .await
        .unwrap();
    let bob = store
        .create(&acme, USER, resource_id(2), user("bob"), written(1))
        .await
        .unwrap();
    taken(
        store
            .create(&acme, USER, resource_id(3), user("ann"), written(1))
            .await,
        "userName",
    );
    taken(
        store
            .replace(&acme, USER, bob.id, bob.version, user("ann"), written(1))
            .await,
        "userName",
    );
    taken(
        store
            .create(&acme, USER, resource_id(1), user("eve"), written(1))
            .await,
        "id",
    );
    // Its own name is no obstacle, another tenant's neither.
    store
        .replace(&acme, USER, bob.id, bob.version, user("bob"), written(2))
        .await
        .unwrap();
    store
        .create(&umbrella, USER, resource_id(1), user("ann"), written(1))
        .await
        .unwrap();

    let team = store
        .create(&acme, GROUP, resource_id(10), group("Team"), written(1))
        .await
        .unwrap();
    taken(
        store
            .create(&acme, GROUP, resource_id(11), group("Team"), written(1))
            .await,
        "displayName",
    );
    let other = store
        .create(&acme, GROUP, resource_id(12), group("Other"), written(1))
        .await
        .unwrap();
    taken(
        store
            .replace(
                &acme,
                GROUP,
                other.id,
                other.version,
                group("Team"),
                written(1),
            )
            .await,
        "displayName",
    );
    store
        .replace(
            &acme,
            GROUP,
            team.id,
            team.version,
            group("Team"),
            written(1),
        )
        .await
        .unwrap();
    // Users may share a displayName with each other and with a group; externalId is theirs alone
    // to keep unique.
    for number in [20, 21] {
        let mut content = user(&format!("n{number}"));
        content.keys.display_name = Some("Team".into());
        content.keys.external_id = Some("e".into());
        store
            .create(&acme, USER, resource_id(number), content, written(1))
            .await
            .unwrap();
    }
}

pub(crate) async fn an_access_ends_with_what_it_rests_on(store: Subject) {
    async fn is_refused(store: &dyn Store, access: &Access, present: &Stored) {
        let refusals = [
            store.head(access).await.err(),
            store.get(access, USER, present.id).await.err(),
            store
                .create(access, USER, resource_id(99), user("late"), written(9))
                .await
                .err(),
            store
                .replace(
                    access,
                    USER,
                    present.id,
                    present.version,
                    user("x"),
                    written(9),
                )
                .await
                .err(),
            store
                .delete(access, USER, present.id, None, written(99))
                .await
                .err(),
            store
                .page(access, USER, PageStart::Offset(0), 10)
                .await
                .err(),
            store
                .candidates(access, USER, &Narrowing::Everything, None, 10)
                .await
                .err(),
            store
                .candidates(access, USER, &Narrowing::Nothing, None, 10)
                .await
                .err(),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, Some(StoreError::Refused)), "{refusal:?}");
        }
    }

    let access = tenant(&*store).await;
    let present = store
        .create(&access, USER, resource_id(1), user("ann"), written(1))
        .await
        .unwrap();
    let (token, _) = new_token(None);
    store
        .create_token(&access.tenant, &token, None, at(1))
        .await
        .unwrap();
    // Another token that begins ends nothing.
    store.head(&access).await.unwrap();

    store
        .revoke_token(&token.id, &Author::operator(), None, at(2))
        .await
        .unwrap();
    is_refused(&*store, &access, &present).await;

    let access = refreshed(&*store, &access).await;
    store.head(&access).await.unwrap();
    store
        .set_tenant_settings(
            &access.tenant,
            &TenantSettings::default(),
            None,
            &settings_note(),
            at(0),
        )
        .await
        .unwrap();
    is_refused(&*store, &access, &present).await;

    store
        .set_tenant_state(
            &access.tenant,
            TenantState::Suspended,
            &Author::operator(),
            at(0),
        )
        .await
        .unwrap();
    let suspended = refreshed(&*store, &access).await;
    is_refused(&*store, &suspended, &present).await;

    store
        .set_tenant_state(
            &access.tenant,
            TenantState::Active,
            &Author::operator(),
            at(0),
        )
        .await
        .unwrap();
    is_refused(&*store, &suspended, &present).await;
    let resumed = refreshed(&*store, &access).await;
    assert_eq!(
        store.get(&resumed, USER, present.id).await.unwrap(),
        Some(present.clone())
    );

    store.delete_tenant(&access.tenant).await.unwrap();
    is_refused(&*store, &resumed, &present).await;
    let stranger = Access {
        tenant: TenantId::generate().unwrap(),
        credential_version: 1,
    };
    is_refused(&*store, &stranger, &present).await;
}

pub(crate) async fn one_tenant_never_sees_another(store: Subject) {
    let (acme, umbrella) = (tenant(&*store).await, tenant(&*store).await);
    let mut content = user("ann");
    content.keys.external_id = Some("e1".into());
    content.keys.attributes = vec![("emails.value".into(), "ann@x".into())];
    let ann = store
        .create(&acme, USER, resource_id(1), content, written(1))
        .await
        .unwrap();
    assert_eq!(store.get(&umbrella, USER, ann.id).await.unwrap(), None);
    let write = store
        .replace(&umbrella, USER, ann.id, ann.version, user("x"), written(2))
        .await;
    assert!(matches!(write, Err(StoreError::NotFound)));
    let write = store
        .delete(&umbrella, USER, ann.id, None, written(99))
        .await;
    assert!(matches!(write, Err(StoreError::NotFound)));
    for narrowing in [
        Narrowing::Everything,
        Narrowing::Id(ann.id),
        is(TextIndex::UserName, "ann"),
        starts_with(TextIndex::UserName, "a"),
        is(TextIndex::ExternalId, "e1"),
        is(TextIndex::Attribute("emails.value".into()), "ann@x"),
    ] {
        let theirs = candidates(&*store, &umbrella, USER, &narrowing).await;
        assert!(theirs.is_empty(), "{narrowing:?}");
        let ours = candidates(&*store, &acme, USER, &narrowing).await;
        assert_eq!(ours.len(), 1, "{narrowing:?}");
    }
    assert_eq!(
        store
            .page(&umbrella, USER, PageStart::Offset(0), 10)
            .await
            .unwrap()
            .total,
        0
    );
}

pub(crate) fn is(index: TextIndex, key: &str) -> Narrowing {
    Narrowing::Text(index, TextTest::Is(key.to_owned()))
}

fn starts_with(index: TextIndex, prefix: &str) -> Narrowing {
    Narrowing::Text(index, TextTest::StartsWith(prefix.to_owned()))
}

async fn candidates(
    store: &dyn Store,
    access: &Access,
    kind: ResourceKind,
    narrowing: &Narrowing,
) -> Vec<ResourceId> {
    let found = store
        .candidates(access, kind, narrowing, None, 1000)
        .await
        .unwrap();
    assert!(found.complete);
    found
        .resources
        .into_iter()
        .map(|resource| resource.id)
        .collect()
}

pub(crate) async fn pages_walk_the_list(store: Subject) {
    let access = tenant(&*store).await;
    for number in 0..25 {
        store
            .create(
                &access,
                USER,
                resource_id(number),
                user(&format!("u{number}")),
                written(1),
            )
            .await
            .unwrap();
    }
    store
        .create(&access, GROUP, resource_id(100), group("Team"), written(1))
        .await
        .unwrap();
    let page = |offset, limit| {
        let (store, access) = (Arc::clone(&store), access.clone());
        async move {
            let page = store
                .page(&access, USER, PageStart::Offset(offset), limit)
                .await
                .unwrap();
            let ids: Vec<ResourceId> = page.resources.iter().map(|one| one.id).collect();
            (page.total, ids)
        }
    };
    let ids = |numbers: std::ops::Range<u32>| numbers.map(resource_id).collect::<Vec<_>>();
    assert_eq!(page(0, 10).await, (25, ids(0..10)));
    assert_eq!(page(10, 10).await, (25, ids(10..20)));
    assert_eq!(page(20, 10).await, (25, ids(20..25)));
    assert_eq!(page(7, 3).await, (25, ids(7..10)));
    for (offset, limit) in [(25, 10), (1000, 10), (u64::MAX, 10), (0, 0)] {
        assert_eq!(page(offset, limit).await, (25, vec![]));
    }
    assert_eq!(page(0, u32::MAX).await, (25, ids(0..25)));

    // A delete before the place moves what stands there, for the next page too.
    store
        .delete(&access, USER, resource_id(3), None, written(99))
        .await
        .unwrap();
    assert_eq!(page(10, 10).await, (24, ids(11..21)));
    // A create comes last and moves nothing.
    store
        .create(&access, USER, resource_id(25), user("u25"), written(2))
        .await
        .unwrap();
    assert_eq!(page(20, 10).await, (25, ids(21..26)));
    let groups = store
        .page(&access, GROUP, PageStart::Offset(0), 10)
        .await
        .unwrap();
    assert_eq!((groups.total, groups.resources.len()), (1, 1));
}

pub(crate) async fn members_change_by_deltas(store: Subject) {
    let access = tenant(&*store).await;
    let other = tenant(&*store).await;
    let mut users = Vec::new();
    for number in 0..4 {
        let id = resource_id(number);
        let content = user(&format!("m{number}"));
        users.push(
            store
                .create(&access, USER, id, content, written(1))
                .await
                .unwrap(),
        );
    }
    let foreign = resource_id(50);
    store
        .create(&other, USER, foreign, user("foreign"), written(1))
        .await
        .unwrap();
    let mut content = group("Team");
    content.members = vec![MemberChange::Add(vec![users[0].id, users[1].id])];
    let team = store
        .create(&access, GROUP, resource_id(10), content, written(1))
        .await
        .unwrap();
    let members = async || -> Vec<ResourceId> {
        let members = store
            .members(&access, &[team.position], None)
            .await
            .unwrap()
            .remove(0);
        members.into_iter().map(|member| member.id).collect()
    };
    let change = async |expected, changes| {
        store
            .change_members(&access, team.id, expected, changes, written(2))
            .await
    };
    assert_eq!(members().await, [users[0].id, users[1].id]);

    // Nobody new: nothing is written, and the version stays.
    let same = change(None, vec![MemberChange::Add(vec![users[0].id])])
        .await
        .unwrap();
    assert_eq!(same, team.version);
    let moved = change(
        Some(team.version),
        vec![
            MemberChange::Remove(vec![users[0].id, foreign]),
            MemberChange::Add(vec![users[2].id, users[2].id]),
        ],
    );
    let moved = moved.await.unwrap();
    assert!(moved > team.version);
    assert_eq!(members().await, [users[1].id, users[2].id]);
    let stale = change(Some(team.version), vec![MemberChange::Replace(vec![])]).await;
    assert!(matches!(stale, Err(StoreError::Stale { current }) if current == moved));

    // A member of another tenant is as unknown as one that does not exist: both are passed over.
    for unknown in [foreign, resource_id(77)] {
        let before = change(None, vec![MemberChange::Add(vec![])]).await.unwrap();
        let after = change(None, vec![MemberChange::Add(vec![unknown])]).await;
        assert_eq!(after.unwrap(), before);
    }
    assert_eq!(members().await, [users[1].id, users[2].id]);
    change(
        None,
        vec![MemberChange::Replace(vec![users[3].id, users[1].id])],
    )
    .await
    .unwrap();
    assert_eq!(members().await, [users[1].id, users[3].id]);

    // Whether a resource is in a group is known with it, however it is read.
    let indexed =
        |number: usize| Narrowing::Text(TextIndex::UserName, TextTest::Is(format!("m{number}")));
    let page = store.page(&access, USER, PageStart::Offset(0), 10).await;
    for listed in page.unwrap().resources {
        let is_member = [users[1].id, users[3].id].contains(&listed.id);
        assert_eq!(listed.may_be_member, is_member);
        let read = store.get(&access, USER, listed.id).await.unwrap().unwrap();
        assert_eq!(read.may_be_member, is_member);
        let number = users.iter().position(|user| user.id == listed.id).unwrap();
        let found = store
            .candidates(&access, USER, &indexed(number), None, 10)
            .await
            .unwrap();
        assert_eq!(found.resources[0].may_be_member, is_member);
    }

    // Both ways, and by the index.
    let of = store
        .groups_of(&access, &[users[1].position, users[0].position])
        .await
        .unwrap();
    assert_eq!((of.of, of.groups[0].id), (vec![vec![0], vec![]], team.id));
    for (kind, narrowing, found) in [
        (
            USER,
            Narrowing::MemberOf(team.id),
            vec![users[1].id, users[3].id],
        ),
        (GROUP, Narrowing::HasMember(users[1].id), vec![team.id]),
        (GROUP, Narrowing::HasMember(users[0].id), vec![]),
    ] {
        let candidates = store
            .candidates(&access, kind, &narrowing, None, 10)
            .await
            .unwrap();
        let ids: Vec<_> = candidates.resources.iter().map(|one| one.id).collect();
        assert_eq!(ids, found);
    }

    // Groups nest; deleting a member leaves the group at a new version, without it.
    let mut content = group("All");
    content.members = vec![MemberChange::Add(vec![team.id])];
    let all = store
        .create(&access, GROUP, resource_id(11), content, written(3))
        .await
        .unwrap();
    let before = store
        .get(&access, GROUP, team.id)
        .await
        .unwrap()
        .unwrap()
        .version;
    store
        .delete(&access, USER, users[1].id, None, written(4))
        .await
        .unwrap();
    assert_eq!(members().await, [users[3].id]);
    assert!(
        store
            .get(&access, GROUP, team.id)
            .await
            .unwrap()
            .unwrap()
            .version
            > before
    );
    store
        .delete(&access, GROUP, team.id, None, written(5))
        .await
        .unwrap();
    assert!(store.members(&access, &[all.position], None).await.unwrap()[0].is_empty());
    assert!(
        store
            .groups_of(&access, &[users[3].position])
            .await
            .unwrap()
            .groups
            .is_empty()
    );
}

/// A resource less what is said of its memberships: a write need not know of them.
fn alone(stored: Stored) -> Stored {
    Stored {
        may_be_member: true,
        ..stored
    }
}

/// The same in steps of two, each behind the last one.
async fn in_steps(
    store: &dyn Store,
    access: &Access,
    kind: ResourceKind,
    narrowing: &Narrowing,
) -> Vec<ResourceId> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let step = store
            .candidates(access, kind, narrowing, after, 2)
            .await
            .unwrap();
        assert!(step.resources.len() <= 2);
        after = step.resources.last().map(|last| last.position).or(after);
        found.extend(step.resources.iter().map(|one| one.id));
        if step.complete {
            return found;
        }
        assert_eq!(step.resources.len(), 2);
    }
}

pub(crate) async fn candidates_come_in_list_order(store: Subject) {
    let access = tenant(&*store).await;
    // Names against the order of creation, so that no index gives list order by chance.
    let names = ["zoe", "yan", "ab", "aa", "b", "a", "ab\u{10FFFF}x"];
    let mut ids = Vec::new();
    for (number, name) in (0..).zip(names) {
        let mut content = user(name);
        content.keys.external_id = Some("same".into());
        content.keys.display_name = Some("same".into());
        content.keys.attributes = vec![("emails.value".into(), "shared@x".into())];
        let id = resource_id(number);
        store
            .create(&access, USER, id, content, written(1))
            .await
            .unwrap();
        ids.push(id);
    }
    let team = resource_id(50);
    let mut content = group("same");
    content.keys.external_id = Some("same".into());
    store
        .create(&access, GROUP, team, content, written(1))
        .await
        .unwrap();

    let user_name = |name: &str| is(TextIndex::UserName, name);
    let prefix = |name: &str| starts_with(TextIndex::UserName, name);
    let cases = [
        (Narrowing::Everything, ids.clone()),
        (Narrowing::Nothing, vec![]),
        (Narrowing::AnyOf(vec![]), vec![]),
        (Narrowing::Id(ids[2]), vec![ids[2]]),
        (Narrowing::Id(team), vec![]),
        (user_name("aa"), vec![ids[3]]),
        (user_name("AA"), vec![]),
        (prefix("a"), vec![ids[2], ids[3], ids[5], ids[6]]),
        (prefix("ab"), vec![ids[2], ids[6]]),
        (prefix(""), ids.clone()),
        (prefix("\u{10FFFF}"), vec![]),
        (is(TextIndex::ExternalId, "same"), ids.clone()),
        (
            is(TextIndex::Attribute("emails.value".into()), "shared@x"),
            ids.clone(),
        ),
        (
            is(
                TextIndex::Attribute("phoneNumbers.value".into()),
                "shared@x",
            ),
            vec![],
        ),
        (
            Narrowing::AnyOf(vec![
                user_name("b"),
                Narrowing::Nothing,
                Narrowing::AnyOf(vec![prefix("a"), user_name("ab")]),
                user_name("zoe"),
            ]),
            vec![ids[0], ids[2], ids[3], ids[4], ids[5], ids[6]],
        ),
        (
            Narrowing::AnyOf(vec![user_name("b"), Narrowing::Everything]),
            ids.clone(),
        ),
    ];
    for (narrowing, expected) in cases {
        let found = candidates(&*store, &access, USER, &narrowing).await;
        assert_eq!(found, expected, "{narrowing:?}");
        let stepped = in_steps(&*store, &access, USER, &narrowing).await;
        assert_eq!(stepped, expected, "{narrowing:?} in steps");
    }
    let none = store
        .candidates(&access, USER, &Narrowing::Everything, None, 0)
        .await
        .unwrap();
    assert!(none.resources.is_empty() && !none.complete);
    // A superset is allowed where an engine has no index, so only what must be in it is asked.
    let named = candidates(&*store, &access, USER, &is(TextIndex::DisplayName, "same")).await;
    assert!(ids.iter().all(|id| named.contains(id)) && !named.contains(&team));
    let named = candidates(&*store, &access, GROUP, &is(TextIndex::DisplayName, "same")).await;
    assert_eq!(named, [team]);
    let external = candidates(&*store, &access, GROUP, &is(TextIndex::ExternalId, "same")).await;
    assert_eq!(external, [team]);
}

/// Every test on every index, against the same test on the keys themselves.
pub(crate) async fn text_look_ups_find_what_they_say(store: Subject) {
    // In no order; characters beyond U+FFFF come last as bytes and not as UTF-16; "%" and "_"
    // are nothing special.
    let keys = [
        "zoe@x.com",
        "\u{10FFFF}",
        "ab",
        "a",
        "b%",
        "aB",
        "\u{1F600}a",
        "\u{E000}",
        "a\u{D7FF}b",
        "a_b",
        "é",
        "e\u{301}",
        "b\\",
        "abc",
        "B",
        "'",
        "a b",
        "b%%a",
    ];
    let emails = || TextIndex::Attribute("emails.value".into());
    let own = || TextIndex::Attribute("urn:acme:x:badge".into());
    let (acme, other) = (tenant(&*store).await, tenant(&*store).await);
    // What is found, by index and kind: the keys of each resource, in list order.
    let mut users: Vec<(ResourceId, Vec<&str>)> = Vec::new();
    let mut groups = Vec::new();
    for (number, key) in (0..).zip(keys) {
        // Every other user has no externalId, and the addresses of several neighbours.
        let mut content = user(key);
        content.keys.external_id = (number % 2 == 0).then(|| key.to_owned());
        let addresses: Vec<&str> = keys.iter().copied().skip(number).step_by(5).collect();
        content.keys.attributes = addresses
            .iter()
            .map(|key| ("emails.value".to_owned(), (*key).to_owned()))
            .collect();
        let badge = ("urn:acme:x:badge".to_owned(), key.to_owned());
        content
            .keys
            .attributes
            .extend((number < 3).then_some(badge));
        let number = u32::try_from(number).unwrap();
        let id = resource_id(number);
        for access in [&acme, &other] {
            let id = if access == &acme {
                id
            } else {
                resource_id(1000 + number)
            };
            store
                .create(access, USER, id, content.clone(), written(1))
                .await
                .unwrap();
        }
        users.push((id, addresses));
        let mut content = group(key);
        content.keys.external_id = Some(key.to_owned());
        let id = resource_id(500 + number);
        store
            .create(&acme, GROUP, id, content, written(1))
            .await
            .unwrap();
        groups.push(id);
    }
    let of_user = |index: &TextIndex, number: usize| -> Vec<&str> {
        match index {
            TextIndex::ExternalId if number % 2 == 1 => Vec::new(),
            TextIndex::Attribute(name) if name == "emails.value" => users[number].1.clone(),
            TextIndex::Attribute(_) if number >= 3 => Vec::new(),
            _ => vec![keys[number]],
        }
    };
    let mut tests = vec![TextTest::Present];
    for one in keys.iter().copied().chain(["", "A", "a\u{10FFFF}", "ć"]) {
        let range = |from, to| TextTest::Range { from, to };
        let text = one.to_owned();
        tests.extend([
            TextTest::Is(text.clone()),
            TextTest::StartsWith(text.clone()),
            TextTest::Contains(text.clone()),
            TextTest::EndsWith(text.clone()),
            range(Bound::Excluded(text.clone()), Bound::Unbounded),
            range(Bound::Included(text.clone()), Bound::Unbounded),
            range(Bound::Unbounded, Bound::Excluded(text.clone())),
            range(Bound::Unbounded, Bound::Included(text.clone())),
            range(Bound::Included("a".into()), Bound::Included(text.clone())),
            range(Bound::Excluded("a".into()), Bound::Excluded(text.clone())),
            range(Bound::Excluded(text.clone()), Bound::Included("b%".into())),
            range(Bound::Included(text.clone()), Bound::Included(text)),
        ]);
    }
    for test in &tests {
        for index in [TextIndex::UserName, TextIndex::ExternalId, emails(), own()] {
            let narrowing = Narrowing::Text(index.clone(), test.clone());
            let fits =
                |number: &usize| of_user(&index, *number).iter().any(|key| passes(test, key));
            let expected: Vec<_> = (0..keys.len()).filter(fits).map(|n| users[n].0).collect();
            let found = in_steps(&*store, &acme, USER, &narrowing).await;
            assert_eq!(found, expected, "{narrowing:?}");
            let found = candidates(&*store, &acme, USER, &narrowing).await;
            assert_eq!(found, expected, "{narrowing:?}");
        }
        for index in [TextIndex::DisplayName, TextIndex::ExternalId] {
            let narrowing = Narrowing::Text(index, test.clone());
            let fits = |number: &usize| passes(test, keys[*number]);
            let expected: Vec<_> = (0..keys.len()).filter(fits).map(|n| groups[n]).collect();
            let found = in_steps(&*store, &acme, GROUP, &narrowing).await;
            assert_eq!(found, expected, "{narrowing:?}");
        }
    }
    // Several look-ups together, each of which names some resources twice.
    let narrowing = Narrowing::AnyOf(vec![
        Narrowing::Text(emails(), TextTest::Contains("a".into())),
        Narrowing::Text(emails(), TextTest::EndsWith("b".into())),
        is(TextIndex::UserName, "B"),
    ]);
    let fits = |number: &usize| {
        let mut addresses = users[*number].1.iter();
        addresses.any(|key| key.contains('a') || key.ends_with('b')) || keys[*number] == "B"
    };
    let expected: Vec<_> = (0..keys.len()).filter(fits).map(|n| users[n].0).collect();
    assert!(expected.len() < keys.len());
    assert_eq!(in_steps(&*store, &acme, USER, &narrowing).await, expected);
}

fn passes(test: &TextTest, key: &str) -> bool {
    match test {
        TextTest::Is(other) => key == other,
        TextTest::StartsWith(prefix) => key.starts_with(prefix.as_str()),
        TextTest::Range { from, to } => {
            let above = match from {
                Bound::Unbounded => true,
                Bound::Included(from) => key >= from.as_str(),
                Bound::Excluded(from) => key > from.as_str(),
            };
            above
                && match to {
                    Bound::Unbounded => true,
                    Bound::Included(to) => key <= to.as_str(),
                    Bound::Excluded(to) => key < to.as_str(),
                }
        }
        TextTest::Present => true,
        TextTest::Contains(part) => key.contains(part.as_str()),
        TextTest::EndsWith(end) => key.ends_with(end.as_str()),
    }
}

pub(crate) async fn indexed_values_follow_the_resource(store: Subject) {
    let access = tenant(&*store).await;
    let with = |emails: &[&str]| {
        let mut content = user("ann");
        content.keys.attributes = emails
            .iter()
            .map(|email| ("emails.value".into(), (*email).to_owned()))
            .collect();
        content
    };
    let has = |email: &str| {
        let (store, access, email) = (Arc::clone(&store), access.clone(), email.to_owned());
        async move {
            let narrowing = is(TextIndex::Attribute("emails.value".into()), &email);
            !candidates(&*store, &access, USER, &narrowing)
                .await
                .is_empty()
        }
    };
    let id = resource_id(1);
    let created = store
        .create(&access, USER, id, with(&["a@x", "b@x"]), written(1))
        .await
        .unwrap();
    assert!(has("a@x").await && has("b@x").await);
    let replaced = store
        .replace(
            &access,
            USER,
            id,
            created.version,
            with(&["b@x", "c@x"]),
            written(2),
        )
        .await
        .unwrap();
    assert!(!has("a@x").await && has("b@x").await && has("c@x").await);
    let emptied = store
        .replace(&access, USER, id, replaced.version, with(&[]), written(3))
        .await
        .unwrap();
    assert!(!has("b@x").await && !has("c@x").await);
    store
        .replace(
            &access,
            USER,
            id,
            emptied.version,
            with(&["d@x"]),
            written(4),
        )
        .await
        .unwrap();
    assert!(has("d@x").await);
    store
        .delete(&access, USER, id, None, written(99))
        .await
        .unwrap();
    assert!(!has("d@x").await);
}

pub(crate) async fn one_of_fifty_creates_wins(store: Subject) {
    let access = tenant(&*store).await;
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let (store, access) = (Arc::clone(&store), access.clone());
            tokio::spawn(async move {
                store
                    .create(&access, USER, resource_id(number), user("ann"), written(1))
                    .await
            })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => won += 1,
            Err(StoreError::Taken {
                attribute: "userName",
            }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(won, 1);
    let head = store.head(&access).await.unwrap();
    assert_eq!((head.seq, head.users), (1, 1));
}

pub(crate) async fn counters_survive_parallel_writes(store: Subject) {
    let access = tenant(&*store).await;
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let (store, access) = (Arc::clone(&store), access.clone());
            tokio::spawn(async move {
                let id = resource_id(number);
                let created = store
                    .create(&access, USER, id, user(&format!("u{number}")), written(1))
                    .await
                    .unwrap();
                let replaced = store
                    .replace(
                        &access,
                        USER,
                        id,
                        created.version,
                        user(&format!("v{number}")),
                        written(2),
                    )
                    .await
                    .unwrap();
                if number % 2 == 0 {
                    store
                        .delete(&access, USER, id, Some(replaced.version), written(99))
                        .await
                        .unwrap();
                }
                [created.version, replaced.version]
            })
        })
        .collect();
    let mut versions = BTreeSet::new();
    for task in tasks {
        for version in task.await.unwrap() {
            assert!(versions.insert(version), "a version was given twice");
        }
    }
    let head = store.head(&access).await.unwrap();
    assert_eq!((head.seq, head.users), (100, 20));
    assert_eq!(
        store
            .page(&access, USER, PageStart::Offset(0), 100)
            .await
            .unwrap()
            .total,
        20
    );
}

pub(crate) async fn the_store_says_that_it_works(store: Subject) {
    store.check().await.unwrap();
    store.check().await.unwrap();
    let condition = store.condition().await.unwrap();
    assert!(condition.newest_schema > 0);
    assert_eq!(condition.schema, condition.newest_schema);
    assert_eq!(condition.engine == "sqlite", condition.free_bytes.is_some());
}

/// A key as a gateway makes it at a time.
fn gateways_key(seconds: i64, number: u8) -> RequestKey {
    let mut key = RequestKey::least_since(at(seconds));
    key[15] = number;
    RequestKey {
        origin: KeyOrigin::Gateway,
        key,
        fingerprint: None,
        may_be_repeated: false,
    }
}

pub(crate) fn clients_key(number: u8, fingerprint: u8) -> RequestKey {
    RequestKey {
        origin: KeyOrigin::Client,
        key: [number; 16],
        fingerprint: Some([fingerprint; 8]),
        may_be_repeated: true,
    }
}

pub(crate) fn named(seconds: i64, key: RequestKey) -> WriteContext {
    WriteContext {
        request: Some(key),
        ..written(seconds)
    }
}

pub(crate) async fn every_change_is_told_in_order(store: Subject) {
    let access = tenant(&*store).await;
    let (ann, bob, team) = (resource_id(1), resource_id(2), resource_id(3));
    let create = async |kind, id, content, seconds| {
        store
            .create(&access, kind, id, content, written(seconds))
            .await
            .unwrap()
    };
    let first = create(USER, ann, user("ann"), 1).await;
    create(USER, bob, user("bob"), 2).await;
    create(GROUP, team, group("Team"), 3).await;
    let changed = Content {
        changed: vec!["title".into(), "urn:x:badge".into()],
        ..user("ann")
    };
    store
        .replace(&access, USER, ann, first.version, changed, written(4))
        .await
        .unwrap();
    for seconds in [5, 6] {
        // The second time nothing changes, and there is nothing to tell.
        let add = vec![MemberChange::Add(vec![ann, bob])];
        store
            .change_members(&access, team, None, add, written(seconds))
            .await
            .unwrap();
    }
    // One write, two resources: the user is gone, and the group has lost a member.
    store
        .delete(&access, USER, ann, None, written(7))
        .await
        .unwrap();
    // A write that fails leaves nothing.
    let taken = store
        .create(&access, USER, resource_id(4), user("bob"), written(8))
        .await;
    assert!(matches!(taken, Err(StoreError::Taken { .. })));

    let feed = store.changes(&access.tenant, 0, 100).await.unwrap();
    let told: Vec<_> = feed
        .iter()
        .map(|change| (change.seq, change.at, change.what, change.kind, change.id))
        .collect();
    use ChangeKind::{Changed, Created, Deleted};
    let expected = [
        (1, at(1), Created, USER, ann),
        (2, at(2), Created, USER, bob),
        (3, at(3), Created, GROUP, team),
        (4, at(4), Changed, USER, ann),
        (5, at(5), Changed, GROUP, team),
        (6, at(7), Deleted, USER, ann),
        (6, at(7), Changed, GROUP, team),
    ];
    assert_eq!(told, expected);
    let names: Vec<_> = feed
        .iter()
        .map(|change| change.attributes.join(" "))
        .collect();
    assert_eq!(
        names,
        ["", "", "", "title urn:x:badge", "members", "", "members"]
    );
    let group = store.get(&access, GROUP, team).await.unwrap().unwrap();
    assert_eq!(group.version, Version(6));

    // A run is cut between two writes only.
    let seqs = async |after, limit| -> Vec<i64> {
        let run = store.changes(&access.tenant, after, limit).await.unwrap();
        run.iter().map(|change| change.seq).collect()
    };
    assert_eq!(seqs(0, 2).await, [1, 2]);
    assert_eq!(seqs(4, 2).await, [5, 6, 6]);
    assert_eq!(seqs(5, 1).await, [6, 6]);
    assert!(seqs(6, 10).await.is_empty());

    // One resource's, newest first, also when it is gone; and nobody else's.
    let history = async |access: &Access, id, before, limit| -> Vec<i64> {
        let run = store.history(access, id, before, limit).await.unwrap();
        assert!(run.iter().all(|change| change.id == id));
        run.iter().map(|change| change.seq).collect()
    };
    assert_eq!(history(&access, ann, None, 10).await, [6, 4, 1]);
    assert_eq!(history(&access, ann, None, 2).await, [6, 4]);
    assert_eq!(history(&access, ann, Some(4), 2).await, [1]);
    assert_eq!(history(&access, team, None, 10).await, [6, 5, 3]);
    assert!(history(&access, resource_id(9), None, 10).await.is_empty());

    let other = tenant(&*store).await;
    assert!(history(&other, ann, None, 10).await.is_empty());
    assert!(
        store
            .changes(&other.tenant, 0, 10)
            .await
            .unwrap()
            .is_empty()
    );
    let nobody = TenantId::generate().unwrap();
    let unknown = store.changes(&nobody, 0, 10).await;
    assert!(matches!(unknown, Err(StoreError::NotFound)));
}

pub(crate) async fn a_request_is_carried_out_once(store: Subject) {
    let access = tenant(&*store).await;
    let other = tenant(&*store).await;
    let (ann, team) = (resource_id(1), resource_id(2));
    let key = gateways_key(1, 1);
    assert_eq!(store.outcome(&access, key).await.unwrap(), None);
    let created = store
        .create(&access, USER, ann, user("ann"), named(1, key))
        .await
        .unwrap();
    let outcome = store.outcome(&access, key).await.unwrap().unwrap();
    assert_eq!(outcome.what, ChangeKind::Created);
    assert_eq!((outcome.kind, outcome.id), (USER, ann));
    assert_eq!((outcome.version, outcome.at), (created.version, at(1)));
    assert_eq!(outcome.position, created.position);

    // It comes again, under another id and even with another name: nothing happens.
    let again = store
        .create(&access, USER, resource_id(9), user("other"), named(2, key))
        .await;
    assert!(matches!(again, Err(StoreError::Repeated(first)) if first == outcome));
    let head = store.head(&access).await.unwrap();
    assert_eq!((head.seq, head.users), (1, 1));
    // Another tenant's request of that name is another request.
    store
        .create(&other, USER, resource_id(5), user("ann"), named(2, key))
        .await
        .unwrap();

    let write = named(3, gateways_key(3, 2));
    let replaced = store
        .replace(
            &access,
            USER,
            ann,
            created.version,
            user("anna"),
            write.clone(),
        )
        .await
        .unwrap();
    let again = store
        .replace(&access, USER, ann, replaced.version, user("annika"), write)
        .await;
    assert!(
        matches!(again, Err(StoreError::Repeated(o)) if o.what == ChangeKind::Changed && o.version == replaced.version)
    );

    store
        .create(&access, GROUP, team, group("Team"), written(4))
        .await
        .unwrap();
    let add = || vec![MemberChange::Add(vec![ann])];
    let write = named(5, gateways_key(5, 3));
    store
        .change_members(&access, team, None, add(), write.clone())
        .await
        .unwrap();
    let remove = vec![MemberChange::Remove(vec![ann])];
    let again = store
        .change_members(&access, team, None, remove, write)
        .await;
    assert!(matches!(again, Err(StoreError::Repeated(_))));

    // A client's key stands for one request.
    let write = named(6, clients_key(7, 1));
    store.delete(&access, USER, ann, None, write).await.unwrap();
    let outcome = store.outcome(&access, clients_key(7, 1)).await.unwrap();
    assert_eq!(outcome.unwrap().what, ChangeKind::Deleted);
    let reused = store.outcome(&access, clients_key(7, 2)).await;
    assert!(matches!(reused, Err(StoreError::KeyReused)));
    let reused = store
        .create(
            &access,
            USER,
            resource_id(6),
            user("x"),
            named(7, clients_key(7, 2)),
        )
        .await;
    assert!(matches!(reused, Err(StoreError::KeyReused)));

    // What fails is not kept.
    let key = gateways_key(8, 4);
    let taken = store
        .create(&access, GROUP, resource_id(7), group("Team"), named(8, key))
        .await;
    assert!(matches!(taken, Err(StoreError::Taken { .. })));
    assert_eq!(store.outcome(&access, key).await.unwrap(), None);

    store
        .set_tenant_state(
            &access.tenant,
            TenantState::Suspended,
            &Author::operator(),
            at(0),
        )
        .await
        .unwrap();
    let refused = store.outcome(&access, key).await;
    assert!(matches!(refused, Err(StoreError::Refused)));
}

pub(crate) async fn old_changes_and_outcomes_are_forgotten(store: Subject) {
    let access = tenant(&*store).await;
    for number in 1..=6_u8 {
        let seconds = i64::from(number) * 100;
        let key = if number % 2 == 0 {
            clients_key(number, 0)
        } else {
            gateways_key(seconds, number)
        };
        let name = format!("u{number}");
        store
            .create(
                &access,
                USER,
                resource_id(number.into()),
                user(&name),
                named(seconds, key),
            )
            .await
            .unwrap();
    }
    let keep = Retention {
        changes_behind: i64::MAX,
        changes_since: at(300),
        client_keys_since: at(400),
        gateway_keys_since: at(500),
    };
    while !store.prune(&access.tenant, keep).await.unwrap() {}
    let feed = store.changes(&access.tenant, 0, 100).await.unwrap();
    let seqs: Vec<i64> = feed.iter().map(|change| change.seq).collect();
    assert_eq!(seqs, [3, 4, 5, 6]);
    let kept = async |key| store.outcome(&access, key).await.unwrap().is_some();
    for (number, is_kept) in [(2, false), (4, true), (6, true)] {
        assert_eq!(kept(clients_key(number, 0)).await, is_kept, "{number}");
    }
    for (number, is_kept) in [(1, false), (3, false), (5, true)] {
        let key = gateways_key(i64::from(number) * 100, number);
        assert_eq!(kept(key).await, is_kept, "{number}");
    }
    let nobody = TenantId::generate().unwrap();
    assert!(store.prune(&nobody, keep).await.unwrap());
}
