//! What every engine must do, told once: each story runs against each engine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shared::link::TenantLimits;
use shared::{ApiToken, Dialect, RegionId, Scope, TenantId, Timestamp, TokenDigest, TokenId};

use super::{
    Access, Content, GroupsRule, Keys, MemberChange, Narrowing, NewToken, PageStart, Store,
    StoreError, Stored, TenantExtension, TenantSettings, TenantState, UserNameRule,
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
            rotation_overlaps_and_never_prolongs,
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
            indexed_values_follow_the_resource,
            one_of_fifty_creates_wins,
            counters_survive_parallel_writes,
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

type Subject = Arc<dyn Store>;

const USER: ResourceKind = ResourceKind::User;
const GROUP: ResourceKind = ResourceKind::Group;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp(1_700_000_000_000 + seconds * 1000)
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
    }
}

fn group(name: &str) -> Content {
    Content {
        keys: Keys {
            display_name: Some(name.to_owned()),
            active: true,
            ..Keys::default()
        },
        document: format!(r#"{{"displayName":"{name}"}}"#),
        members: Vec::new(),
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

fn new_token(expires: Option<Timestamp>) -> (NewToken, TokenDigest) {
    let secret = ApiToken::generate(&RegionId::parse("us").unwrap()).unwrap();
    let token = NewToken {
        id: TokenId::generate().unwrap(),
        digest: secret.digest(),
        name: "Okta".into(),
        scope: Scope::Scim,
        dialect: Dialect::Scim20,
        created_by: "operator".into(),
        expires,
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
        .set_tenant_state(&first, TenantState::Suspended)
        .await
        .unwrap();
    assert_eq!(suspended.state, TenantState::Suspended);
    assert!(suspended.credential_version > created.credential_version);
    let resumed = store
        .set_tenant_state(&first, TenantState::Active)
        .await
        .unwrap();
    assert!(resumed.credential_version > suspended.credential_version);
    let changed = store
        .set_tenant_settings(&first, &TenantSettings::default(), None)
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
            .set_tenant_state(&first, TenantState::Active)
            .await
            .err(),
        store
            .set_tenant_settings(&first, &TenantSettings::default(), None)
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
        .create_token(&gone.tenant, &token, at(0))
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
                .create(access, USER, id, content, at(0))
                .await
                .unwrap();
        }
    }
    store.delete_tenant(&gone.tenant).await.unwrap();
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
        &Narrowing::Attribute("emails.value".into(), "u7@x".into()),
    )
    .await;
    assert_eq!(found.len(), 1);
}

fn rand_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub(crate) async fn tokens_live_and_end(store: Subject) {
    let access = tenant(&*store).await;
    let (token, digest) = new_token(Some(at(100)));
    let created = store
        .create_token(&access.tenant, &token, at(1))
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

    let (found, its_tenant) = store.find_token(&digest).await.unwrap().unwrap();
    assert_eq!(found, created);
    assert_eq!(its_tenant.id, access.tenant);
    assert_eq!(
        store.get_token(&token.id).await.unwrap(),
        Some(created.clone())
    );
    let (unknown, unknown_digest) = new_token(None);
    assert!(store.find_token(&unknown_digest).await.unwrap().is_none());
    assert!(store.get_token(&unknown.id).await.unwrap().is_none());
    let nobody = TenantId::generate().unwrap();
    assert!(matches!(
        store.create_token(&nobody, &unknown, at(1)).await,
        Err(StoreError::NotFound)
    ));

    let before = store.head(&access).await.unwrap().credential_version;
    let revoked = store.revoke_token(&token.id, at(5)).await.unwrap();
    assert_eq!(revoked.revoked, Some(at(5)));
    let again = store.revoke_token(&token.id, at(9)).await.unwrap();
    assert_eq!(again.revoked, Some(at(5)));
    assert!(matches!(
        store.revoke_token(&unknown.id, at(5)).await,
        Err(StoreError::NotFound)
    ));
    let after = store.get_tenant(&access.tenant).await.unwrap().unwrap();
    assert_eq!(after.credential_version, before + 1);

    let (second, _) = new_token(None);
    store
        .create_token(&access.tenant, &second, at(10))
        .await
        .unwrap();
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
        .create_token(&access.tenant, &old, at(0))
        .await
        .unwrap();
    let (next, next_digest) = new_token(None);
    let hour = Duration::from_secs(3600);
    let created = store
        .rotate_token(&old.id, &next, hour, at(10))
        .await
        .unwrap();
    assert_eq!(created.id, next.id);
    assert_eq!(created.tenant, access.tenant);
    assert_eq!(created.expires, None);
    let (before, _) = store.find_token(&old_digest).await.unwrap().unwrap();
    assert_eq!(before.expires, Some(at(3610)));
    assert!(store.find_token(&next_digest).await.unwrap().is_some());
    assert!(matches!(
        store.head(&access).await,
        Err(StoreError::Refused)
    ));

    // Rotated again with a longer overlap, the first one still ends when it was going to.
    let (third, _) = new_token(None);
    store
        .rotate_token(&old.id, &third, hour * 10, at(20))
        .await
        .unwrap();
    let (before, _) = store.find_token(&old_digest).await.unwrap().unwrap();
    assert_eq!(before.expires, Some(at(3610)));

    // An ended token has no successor, and a failed rotation leaves nothing behind.
    let (late, late_digest) = new_token(None);
    store.revoke_token(&third.id, at(30)).await.unwrap();
    for ended in [&old.id, &third.id, &late.id] {
        assert!(matches!(
            store.rotate_token(ended, &late, hour, at(5000)).await,
            Err(StoreError::NotFound)
        ));
    }
    assert!(store.find_token(&late_digest).await.unwrap().is_none());
}

pub(crate) async fn last_use_never_moves_back(store: Subject) {
    let access = tenant(&*store).await;
    let (token, _) = new_token(None);
    store
        .create_token(&access.tenant, &token, at(0))
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
        .create(&access, USER, id, user("ann"), at(1))
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
        .replace(&access, USER, id, created.version, user("anna"), at(2))
        .await
        .unwrap();
    assert_eq!(replaced.version, Version(2));
    assert_eq!(replaced.position, created.position);
    assert_eq!((replaced.created, replaced.modified), (at(1), at(2)));
    assert_eq!(
        store.get(&access, USER, id).await.unwrap(),
        Some(replaced.clone())
    );
    // The name that was given up is free again.
    store
        .create(&access, USER, resource_id(2), user("ann"), at(3))
        .await
        .unwrap();

    store
        .delete(&access, USER, id, Some(replaced.version), at(99))
        .await
        .unwrap();
    assert_eq!(store.get(&access, USER, id).await.unwrap(), None);
    store
        .delete(&access, USER, resource_id(2), None, at(99))
        .await
        .unwrap();
    assert_eq!(store.head(&access).await.unwrap().users, 0);
}

pub(crate) async fn every_write_moves_the_head_by_one(store: Subject) {
    let access = tenant(&*store).await;
    let (ann, team) = (resource_id(1), resource_id(2));
    let created = store
        .create(&access, USER, ann, user("ann"), at(1))
        .await
        .unwrap();
    store
        .create(&access, GROUP, team, group("Team"), at(1))
        .await
        .unwrap();
    let head = store.head(&access).await.unwrap();
    assert_eq!((head.seq, head.users, head.groups), (2, 1, 1));

    // What fails moves nothing.
    let failures = [
        store
            .create(&access, USER, resource_id(3), user("ann"), at(2))
            .await
            .err(),
        store
            .replace(&access, USER, ann, Version(77), user("x"), at(2))
            .await
            .err(),
        store
            .delete(&access, USER, resource_id(9), None, at(99))
            .await
            .err(),
    ];
    assert!(failures.iter().all(Option::is_some));
    assert_eq!(store.head(&access).await.unwrap(), head);

    let replaced = store
        .replace(&access, USER, ann, created.version, user("ann"), at(3))
        .await
        .unwrap();
    assert_eq!(replaced.version, Version(3));
    store
        .delete(&access, GROUP, team, None, at(99))
        .await
        .unwrap();
    let head = store.head(&access).await.unwrap();
    assert_eq!((head.seq, head.users, head.groups), (4, 1, 0));
}

pub(crate) async fn a_stale_or_missing_resource_is_left_alone(store: Subject) {
    let access = tenant(&*store).await;
    let id = resource_id(1);
    let first = store
        .create(&access, USER, id, user("ann"), at(1))
        .await
        .unwrap();
    let second = store
        .replace(&access, USER, id, first.version, user("ann"), at(2))
        .await
        .unwrap();

    let stale = store
        .replace(&access, USER, id, first.version, user("lost"), at(3))
        .await;
    assert!(
        matches!(stale, Err(StoreError::Stale { current }) if current == second.version),
        "{stale:?}"
    );
    let stale = store
        .delete(&access, USER, id, Some(first.version), at(99))
        .await;
    assert!(matches!(stale, Err(StoreError::Stale { current }) if current == second.version));
    assert_eq!(store.get(&access, USER, id).await.unwrap(), Some(second));

    for (kind, id) in [(USER, resource_id(2)), (GROUP, id)] {
        let missing = store
            .replace(&access, kind, id, first.version, user("x"), at(3))
            .await;
        assert!(matches!(missing, Err(StoreError::NotFound)), "{missing:?}");
        let missing = store
            .delete(&access, kind, id, Some(first.version), at(99))
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
        .create(&acme, USER, resource_id(1), user("ann"), at(1))
        .await
        .unwrap();
    let bob = store
        .create(&acme, USER, resource_id(2), user("bob"), at(1))
        .await
        .unwrap();
    taken(
        store
            .create(&acme, USER, resource_id(3), user("ann"), at(1))
            .await,
        "userName",
    );
    taken(
        store
            .replace(&acme, USER, bob.id, bob.version, user("ann"), at(1))
            .await,
        "userName",
    );
    taken(
        store
            .create(&acme, USER, resource_id(1), user("eve"), at(1))
            .await,
        "id",
    );
    // Its own name is no obstacle, another tenant's neither.
    store
        .replace(&acme, USER, bob.id, bob.version, user("bob"), at(2))
        .await
        .unwrap();
    store
        .create(&umbrella, USER, resource_id(1), user("ann"), at(1))
        .await
        .unwrap();

    let team = store
        .create(&acme, GROUP, resource_id(10), group("Team"), at(1))
        .await
        .unwrap();
    taken(
        store
            .create(&acme, GROUP, resource_id(11), group("Team"), at(1))
            .await,
        "displayName",
    );
    let other = store
        .create(&acme, GROUP, resource_id(12), group("Other"), at(1))
        .await
        .unwrap();
    taken(
        store
            .replace(&acme, GROUP, other.id, other.version, group("Team"), at(1))
            .await,
        "displayName",
    );
    store
        .replace(&acme, GROUP, team.id, team.version, group("Team"), at(1))
        .await
        .unwrap();
    // Users may share a displayName with each other and with a group; externalId is theirs alone
    // to keep unique.
    for number in [20, 21] {
        let mut content = user(&format!("n{number}"));
        content.keys.display_name = Some("Team".into());
        content.keys.external_id = Some("e".into());
        store
            .create(&acme, USER, resource_id(number), content, at(1))
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
                .create(access, USER, resource_id(99), user("late"), at(9))
                .await
                .err(),
            store
                .replace(access, USER, present.id, present.version, user("x"), at(9))
                .await
                .err(),
            store
                .delete(access, USER, present.id, None, at(99))
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
        .create(&access, USER, resource_id(1), user("ann"), at(1))
        .await
        .unwrap();
    let (token, _) = new_token(None);
    store
        .create_token(&access.tenant, &token, at(1))
        .await
        .unwrap();
    // Another token that begins ends nothing.
    store.head(&access).await.unwrap();

    store.revoke_token(&token.id, at(2)).await.unwrap();
    is_refused(&*store, &access, &present).await;

    let access = refreshed(&*store, &access).await;
    store.head(&access).await.unwrap();
    store
        .set_tenant_settings(&access.tenant, &TenantSettings::default(), None)
        .await
        .unwrap();
    is_refused(&*store, &access, &present).await;

    store
        .set_tenant_state(&access.tenant, TenantState::Suspended)
        .await
        .unwrap();
    let suspended = refreshed(&*store, &access).await;
    is_refused(&*store, &suspended, &present).await;

    store
        .set_tenant_state(&access.tenant, TenantState::Active)
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
        .create(&acme, USER, resource_id(1), content, at(1))
        .await
        .unwrap();
    assert_eq!(store.get(&umbrella, USER, ann.id).await.unwrap(), None);
    let write = store
        .replace(&umbrella, USER, ann.id, ann.version, user("x"), at(2))
        .await;
    assert!(matches!(write, Err(StoreError::NotFound)));
    let write = store.delete(&umbrella, USER, ann.id, None, at(99)).await;
    assert!(matches!(write, Err(StoreError::NotFound)));
    for narrowing in [
        Narrowing::Everything,
        Narrowing::Id(ann.id),
        Narrowing::UserName("ann".into()),
        Narrowing::UserNamePrefix("a".into()),
        Narrowing::ExternalId("e1".into()),
        Narrowing::Attribute("emails.value".into(), "ann@x".into()),
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
                at(1),
            )
            .await
            .unwrap();
    }
    store
        .create(&access, GROUP, resource_id(100), group("Team"), at(1))
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
        .delete(&access, USER, resource_id(3), None, at(99))
        .await
        .unwrap();
    assert_eq!(page(10, 10).await, (24, ids(11..21)));
    // A create comes last and moves nothing.
    store
        .create(&access, USER, resource_id(25), user("u25"), at(2))
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
                .create(&access, USER, id, content, at(1))
                .await
                .unwrap(),
        );
    }
    let foreign = resource_id(50);
    store
        .create(&other, USER, foreign, user("foreign"), at(1))
        .await
        .unwrap();
    let mut content = group("Team");
    content.members = vec![MemberChange::Add(vec![users[0].id, users[1].id])];
    let team = store
        .create(&access, GROUP, resource_id(10), content, at(1))
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
            .change_members(&access, team.id, expected, changes, at(2))
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

    // Both ways, and by the index.
    let of = store
        .groups_of(&access, &[users[1].position, users[0].position])
        .await
        .unwrap();
    assert_eq!((of[0].len(), of[0][0].id, of[1].len()), (1, team.id, 0));
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
        .create(&access, GROUP, resource_id(11), content, at(3))
        .await
        .unwrap();
    let before = store
        .get(&access, GROUP, team.id)
        .await
        .unwrap()
        .unwrap()
        .version;
    store
        .delete(&access, USER, users[1].id, None, at(4))
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
        .delete(&access, GROUP, team.id, None, at(5))
        .await
        .unwrap();
    assert!(store.members(&access, &[all.position], None).await.unwrap()[0].is_empty());
    assert!(
        store
            .groups_of(&access, &[users[3].position])
            .await
            .unwrap()[0]
            .is_empty()
    );
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
            .create(&access, USER, id, content, at(1))
            .await
            .unwrap();
        ids.push(id);
    }
    let team = resource_id(50);
    let mut content = group("same");
    content.keys.external_id = Some("same".into());
    store
        .create(&access, GROUP, team, content, at(1))
        .await
        .unwrap();

    let user_name = |name: &str| Narrowing::UserName(name.to_owned());
    let prefix = |name: &str| Narrowing::UserNamePrefix(name.to_owned());
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
        (Narrowing::ExternalId("same".into()), ids.clone()),
        (
            Narrowing::Attribute("emails.value".into(), "shared@x".into()),
            ids.clone(),
        ),
        (
            Narrowing::Attribute("phoneNumbers.value".into(), "shared@x".into()),
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

        // The same run in steps of two, each behind the last one.
        let mut stepped = Vec::new();
        let mut after = None;
        loop {
            let step = store
                .candidates(&access, USER, &narrowing, after, 2)
                .await
                .unwrap();
            assert!(step.resources.len() <= 2);
            after = step.resources.last().map(|last| last.position).or(after);
            stepped.extend(step.resources.iter().map(|one| one.id));
            if step.complete {
                break;
            }
            assert_eq!(step.resources.len(), 2);
        }
        assert_eq!(stepped, expected, "{narrowing:?} in steps");
    }
    let none = store
        .candidates(&access, USER, &Narrowing::Everything, None, 0)
        .await
        .unwrap();
    assert!(none.resources.is_empty() && !none.complete);
    // A superset is allowed where an engine has no index, so only what must be in it is asked.
    let named = candidates(
        &*store,
        &access,
        USER,
        &Narrowing::DisplayName("same".into()),
    )
    .await;
    assert!(ids.iter().all(|id| named.contains(id)) && !named.contains(&team));
    let named = candidates(
        &*store,
        &access,
        GROUP,
        &Narrowing::DisplayName("same".into()),
    )
    .await;
    assert_eq!(named, [team]);
    let external = candidates(
        &*store,
        &access,
        GROUP,
        &Narrowing::ExternalId("same".into()),
    )
    .await;
    assert_eq!(external, [team]);
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
            let narrowing = Narrowing::Attribute("emails.value".into(), email);
            !candidates(&*store, &access, USER, &narrowing)
                .await
                .is_empty()
        }
    };
    let id = resource_id(1);
    let created = store
        .create(&access, USER, id, with(&["a@x", "b@x"]), at(1))
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
            at(2),
        )
        .await
        .unwrap();
    assert!(!has("a@x").await && has("b@x").await && has("c@x").await);
    let emptied = store
        .replace(&access, USER, id, replaced.version, with(&[]), at(3))
        .await
        .unwrap();
    assert!(!has("b@x").await && !has("c@x").await);
    store
        .replace(&access, USER, id, emptied.version, with(&["d@x"]), at(4))
        .await
        .unwrap();
    assert!(has("d@x").await);
    store.delete(&access, USER, id, None, at(99)).await.unwrap();
    assert!(!has("d@x").await);
}

pub(crate) async fn one_of_fifty_creates_wins(store: Subject) {
    let access = tenant(&*store).await;
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let (store, access) = (Arc::clone(&store), access.clone());
            tokio::spawn(async move {
                store
                    .create(&access, USER, resource_id(number), user("ann"), at(1))
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
                    .create(&access, USER, id, user(&format!("u{number}")), at(1))
                    .await
                    .unwrap();
                let replaced = store
                    .replace(
                        &access,
                        USER,
                        id,
                        created.version,
                        user(&format!("v{number}")),
                        at(2),
                    )
                    .await
                    .unwrap();
                if number % 2 == 0 {
                    store
                        .delete(&access, USER, id, Some(replaced.version), at(99))
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
}
