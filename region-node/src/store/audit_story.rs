//! The audit's part of the stories: what is recorded with what, and how a chain is shortened.

use std::sync::Arc;
use std::time::Duration;

use shared::{TestClock, Timestamp};

use super::story::{
    at, author, clients_key, group, named, new_token, resource_id, tenant, user, written,
};
use super::{
    AuditKind, AuditNote, AuditRange, AuditRecord, Author, MemberChange, Store, StoreError,
    TenantSettings, TenantState,
};
use crate::provider::audit::{Audit, Verified};
use crate::scim::{ResourceKind, Version};

type Subject = Arc<dyn Store>;

const USER: ResourceKind = ResourceKind::User;
const GROUP: ResourceKind = ResourceKind::Group;

async fn records(store: &Subject, tenant: &shared::TenantId) -> Vec<AuditRecord> {
    let (_, records) = store
        .audit(tenant, AuditRange::Behind(0), 10_000)
        .await
        .unwrap();
    records
}

async fn verify(store: &Subject, tenant: &shared::TenantId) -> Verified {
    let clock = TestClock::at(Timestamp(0));
    let audit = Audit::new(Arc::clone(store), Arc::new(clock));
    audit.verify(tenant).await.unwrap()
}

/// A record as the story tells of it: what, by whom, in which request, to what, what of it.
fn told(record: &AuditRecord) -> [&str; 5] {
    [
        &record.kind,
        &record.actor,
        &record.request,
        &record.subject,
        &record.names,
    ]
}

pub(crate) async fn every_write_has_its_record(store: Subject) {
    let access = tenant(&*store).await;
    let (ann, team) = (resource_id(1), resource_id(2));
    let by = author();
    store
        .create(&access, USER, ann, user("ann"), written(1))
        .await
        .unwrap();
    let mut crew = group("crew");
    crew.members = vec![MemberChange::Add(vec![ann])];
    store
        .create(&access, GROUP, team, crew, written(2))
        .await
        .unwrap();
    let mut content = user("ann");
    content.keys.active = false;
    content.changed = vec!["active".to_owned(), "nickName \"ä\"".to_owned()];
    let key = clients_key(1, 1);
    store
        .replace(
            &access,
            USER,
            ann,
            Version(1),
            content.clone(),
            named(3, key),
        )
        .await
        .unwrap();
    // What is refused, comes again or changes nothing is no write, and leaves no record.
    let taken = store
        .create(&access, USER, resource_id(3), user("ann"), written(4))
        .await;
    assert!(matches!(taken, Err(StoreError::Taken { .. })));
    let stale = store
        .replace(&access, USER, ann, Version(1), content.clone(), written(4))
        .await;
    assert!(matches!(stale, Err(StoreError::Stale { .. })));
    let again = store
        .replace(&access, USER, ann, Version(3), content, named(4, key))
        .await;
    assert!(matches!(again, Err(StoreError::Repeated(_))));
    let nothing = vec![MemberChange::Add(vec![ann])];
    store
        .change_members(&access, team, None, nothing, written(4))
        .await
        .unwrap();
    let leaves = vec![MemberChange::Remove(vec![ann])];
    store
        .change_members(&access, team, None, leaves, written(5))
        .await
        .unwrap();
    store
        .delete(&access, USER, ann, None, written(6))
        .await
        .unwrap();

    let (user_name, group_name) = (format!("User/{ann}"), format!("Group/{team}"));
    let (actor, request) = (by.actor.as_str(), by.request.as_str());
    let found = records(&store, &access.tenant).await;
    let expected = [
        ["tenant.created", "operator", "", "", "[]"],
        ["resource.created", actor, request, &user_name, "[]"],
        ["resource.created", actor, request, &group_name, "[]"],
        [
            "resource.changed",
            actor,
            request,
            &user_name,
            r#"["active","nickName \"ä\""]"#,
        ],
        [
            "resource.changed",
            actor,
            request,
            &group_name,
            r#"["members"]"#,
        ],
        ["resource.deleted", actor, request, &user_name, "[]"],
    ];
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), expected);
    let times: Vec<Timestamp> = found.iter().map(|record| record.at).collect();
    assert_eq!(times, [0, 1, 2, 3, 5, 6].map(at));
    let verified = verify(&store, &access.tenant).await;
    assert_eq!((verified.records, verified.damage), (6, None));
    assert_eq!(verified.head.number, 6);
    assert_eq!(verified.head.hash, found[5].hash);

    // The state of a user is told with the change, for whoever tells others of it.
    let active: Vec<Option<bool>> = store
        .changes(&access.tenant, 0, 100)
        .await
        .unwrap()
        .iter()
        .map(|change| change.active)
        .collect();
    assert_eq!(active, [Some(true), None, Some(false), None, None]);
}

pub(crate) async fn what_is_done_to_tokens_and_tenants_is_recorded(store: Subject) {
    let access = tenant(&*store).await;
    let id = &access.tenant;
    let (first, _) = new_token(None);
    let (second, _) = new_token(None);
    store.create_token(id, &first, None, at(1)).await.unwrap();
    store
        .touch_tokens(&[(first.id.clone(), at(2))])
        .await
        .unwrap();
    store
        .touch_tokens(&[(first.id.clone(), at(700))])
        .await
        .unwrap();
    store
        .rotate_token(&first.id, &second, Duration::from_secs(9), None, at(701))
        .await
        .unwrap();
    for _ in 0..2 {
        store
            .revoke_token(&second.id, &author(), None, at(702))
            .await
            .unwrap();
    }
    for state in [TenantState::Suspended, TenantState::Active] {
        store
            .set_tenant_state(id, state, &Author::operator(), at(703))
            .await
            .unwrap();
    }
    let mut note = AuditNote::new(AuditKind::SettingsChanged, author(), "");
    note.names = vec!["groups".to_owned()];
    store
        .set_tenant_settings(id, &TenantSettings::default(), None, &note, at(704))
        .await
        .unwrap();
    // One that is refused is not.
    let refused = store
        .set_tenant_settings(id, &TenantSettings::default(), Some(1), &note, at(705))
        .await;
    assert!(matches!(refused, Err(StoreError::Refused)));
    let signed_in = AuditNote::new(AuditKind::SignedIn, author(), "");
    store
        .note_audit(id, vec![signed_in.clone(), signed_in], at(706))
        .await
        .unwrap();

    let found = records(&store, id).await;
    let kinds: Vec<(&str, &str)> = found
        .iter()
        .map(|record| (record.kind.as_str(), record.subject.as_str()))
        .collect();
    let (one, two) = (first.id.as_str(), second.id.as_str());
    assert_eq!(
        kinds,
        [
            ("tenant.created", ""),
            ("token.created", one),
            ("token.first_used", one),
            ("token.rotated", one),
            ("token.revoked", two),
            ("tenant.suspended", ""),
            ("tenant.resumed", ""),
            ("settings.changed", ""),
            ("admin.signed_in", ""),
            ("admin.signed_in", ""),
        ]
    );
    assert_eq!(found[3].names, format!("[\"{two}\"]"));
    assert_eq!(verify(&store, id).await.damage, None);
}

pub(crate) async fn many_writers_make_one_chain(store: Subject) {
    let access = tenant(&*store).await;
    let writers = (0..40).map(|number| {
        let (store, access) = (Arc::clone(&store), access.clone());
        tokio::spawn(async move {
            let (token, _) = new_token(None);
            let content = user(&format!("u{number}"));
            let created = store.create(&access, USER, resource_id(number), content, written(1));
            let (created, issued) = tokio::join!(
                created,
                store.create_token(&access.tenant, &token, None, at(1))
            );
            created.unwrap();
            issued.unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let verified = verify(&store, &access.tenant).await;
    assert_eq!((verified.records, verified.damage), (81, None));
}

pub(crate) async fn a_chain_is_shortened_from_the_front_and_stays_whole(store: Subject) {
    let access = tenant(&*store).await;
    let id = &access.tenant;
    // More than one step of a pruning takes.
    let day = 24 * 60 * 60;
    let write = async |count: u32, seconds: i64| {
        let note = AuditNote::new(AuditKind::SignedIn, author(), "");
        let notes = (0..count).map(|_| note.clone()).collect();
        store.note_audit(id, notes, at(seconds)).await.unwrap();
    };
    write(700, day).await;
    write(5, 3 * day).await;
    let prune = async |seconds: i64| {
        while !store
            .prune_audit(id, at(seconds), at(4 * day))
            .await
            .unwrap()
        {}
    };
    prune(2 * day).await;
    let verified = verify(&store, id).await;
    assert_eq!(verified.damage, None);
    assert_eq!(verified.head.base_number, 701);
    let left = records(&store, id).await;
    assert_eq!(left[0].number, 702);
    assert!(left.iter().all(|record| record.at >= at(3 * day)));
    let checkpoint = left.last().unwrap();
    assert_eq!(checkpoint.kind, "audit.pruned");
    // Nothing is old: nothing is done, and nothing is recorded.
    prune(2 * day).await;
    assert_eq!(verify(&store, id).await, verified);
    // Everything is: the newest stays, and what it says.
    prune(9 * day).await;
    let verified = verify(&store, id).await;
    assert_eq!(verified.damage, None);
    assert!(verified.records >= 1);
    write(1, 5 * day).await;
    assert_eq!(verify(&store, id).await.damage, None);
}
