//! The part of the stories that receivers of events have: one node at a time delivers, and what is
//! noted of it stays.

use std::sync::Arc;
use std::time::Duration;

use shared::{TenantId, Timestamp};

use super::events::{EndpointKind, EndpointSettings, Progress, SigningSecret};
use super::story::{at, author, resource_id, tenant, user, written};
use super::{
    Access, AuditKind, AuditNote, Endpoint, EndpointChange, Report, Retention, Store, StoreError,
};
use crate::scim::ResourceKind;

type Subject = Arc<dyn Store>;

/// A receiver, as it is before it is stored.
pub(crate) fn receiver(tenant: &TenantId, id: &str) -> Endpoint {
    Endpoint {
        id: id.to_owned(),
        tenant: tenant.clone(),
        settings: EndpointSettings {
            kind: EndpointKind::Webhook,
            url: "https://example.com/ä".to_owned(),
            events: vec!["user.created".to_owned()],
            ..EndpointSettings::default()
        },
        secrets: vec![SigningSecret {
            secret: "whsec_story".to_owned(),
            until: None,
        }],
        paused: None,
        progress: Progress {
            cursor: 0,
            done: 0,
            attempts: 0,
            next_attempt: Timestamp(0),
            failing_since: None,
            last_error: None,
            last_success: None,
        },
        head: 0,
        dead_letters: 0,
        has_replays: false,
        lease: (String::new(), Timestamp(0)),
        created: at(1),
        created_by: "tok_of_the_story".to_owned(),
    }
}

fn note(kind: AuditKind) -> AuditNote {
    AuditNote::new(kind, author(), "whk_1")
}

async fn create_users(store: &Subject, access: &Access, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let content = user(&format!("u{number}"));
        let id = resource_id(number);
        let created = store.create(access, ResourceKind::User, id, content, written(1));
        created.await.unwrap();
    }
}

/// Says that the endpoint has come as far as a write.
fn report(cursor: i64) -> Report {
    let progress = Progress {
        cursor,
        last_success: Some(at(9)),
        ..receiver(&TenantId::generate().unwrap(), "").progress
    };
    Report {
        progress,
        dead: Vec::new(),
        replayed: Vec::new(),
        pause: None,
        notes: Vec::new(),
    }
}

pub(crate) async fn one_node_delivers_and_what_it_notes_stays(store: Subject) {
    let (access, other) = (tenant(&*store).await, tenant(&*store).await);
    let id = &access.tenant;
    create_users(&store, &access, 0..3).await;
    let made = store
        .create_endpoint(&receiver(id, "whk_1"), &note(AuditKind::EndpointCreated))
        .await
        .unwrap();
    assert_eq!(
        (made.progress.cursor, made.head),
        (3, 3),
        "events begin with the next write"
    );
    assert_eq!(
        store.list_endpoints(Some(id)).await.unwrap(),
        std::slice::from_ref(&made)
    );
    assert_eq!(
        store.list_endpoints(None).await.unwrap(),
        std::slice::from_ref(&made)
    );
    // Nobody else's.
    assert_eq!(store.list_endpoints(Some(&other.tenant)).await.unwrap(), []);
    assert_eq!(
        store.get_endpoint(&other.tenant, "whk_1").await.unwrap(),
        None
    );
    let change = EndpointChange::of(&made);
    let changed = note(AuditKind::EndpointChanged);
    let theirs = store
        .change_endpoint(&other.tenant, "whk_1", &change, &changed, at(2))
        .await;
    assert!(matches!(theirs, Err(StoreError::NotFound)));
    let theirs = store
        .delete_endpoint(&other.tenant, "whk_1", &changed, at(2))
        .await;
    assert!(matches!(theirs, Err(StoreError::NotFound)));
    let theirs = store.replay_dead_letters(&other.tenant, "whk_1").await;
    assert!(matches!(theirs, Err(StoreError::NotFound)));

    create_users(&store, &access, 3..6).await;
    let lease = async |node: &str, now: i64| {
        let until = at(now).after(Duration::from_secs(10));
        store
            .lease_endpoint("whk_1", node, at(now), until)
            .await
            .unwrap()
    };
    assert!(lease("one", 0).await);
    assert!(!lease("two", 9).await);
    assert!(lease("one", 9).await);
    assert!(
        !store
            .report_endpoint("whk_1", "two", &report(6), at(9))
            .await
            .unwrap()
    );
    assert!(
        store
            .report_endpoint("whk_1", "one", &report(4), at(9))
            .await
            .unwrap()
    );
    assert!(lease("two", 19).await, "one that is over is anybody's");
    assert!(
        !store
            .report_endpoint("whk_1", "one", &report(6), at(19))
            .await
            .unwrap()
    );

    let change = store.changes(id, 4, 1).await.unwrap().remove(0);
    let mut given_up = report(5);
    given_up.dead = vec![(change.clone(), "no answer".to_owned(), 12)];
    given_up.pause = Some("gone".to_owned());
    given_up.notes = vec![note(AuditKind::EndpointPaused)];
    assert!(
        store
            .report_endpoint("whk_1", "two", &given_up, at(20))
            .await
            .unwrap()
    );
    let now = store.get_endpoint(id, "whk_1").await.unwrap().unwrap();
    assert_eq!(now.progress, given_up.progress);
    assert_eq!(
        (now.paused.as_deref(), now.dead_letters, now.head),
        (Some("gone"), 1, 6)
    );
    assert_eq!(now.secrets, made.secrets);
    let letters = store.dead_letters(id, "whk_1", false, 0, 10).await.unwrap();
    assert_eq!(
        (&letters[0].change, letters[0].attempts, letters[0].at),
        (&change, 12, at(20))
    );
    assert!(
        store
            .dead_letters(id, "whk_1", true, 0, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.replay_dead_letters(id, "whk_1").await.unwrap(), 1);
    assert!(
        store
            .get_endpoint(id, "whk_1")
            .await
            .unwrap()
            .unwrap()
            .has_replays
    );
    for (failed, left) in [(Some("no answer".to_owned()), 1), (None, 0)] {
        let mut replayed = report(5);
        replayed.replayed = vec![(letters[0].number, failed)];
        assert!(
            store
                .report_endpoint("whk_1", "two", &replayed, at(21))
                .await
                .unwrap()
        );
        let now = store.get_endpoint(id, "whk_1").await.unwrap().unwrap();
        assert_eq!((now.dead_letters, now.has_replays), (left, false));
    }
    let resumed = EndpointChange {
        paused: None,
        ..EndpointChange::of(&now)
    };
    let resumed = store
        .change_endpoint(
            id,
            "whk_1",
            &resumed,
            &note(AuditKind::EndpointResumed),
            at(22),
        )
        .await
        .unwrap();
    assert_eq!(resumed.paused, None);

    // What somebody still has to be told of is kept.
    let keep = Retention {
        changes_behind: 5,
        ..Retention::at(
            at(1_000_000),
            Duration::from_secs(1),
            Duration::from_secs(1),
        )
    };
    while !store.prune(id, keep).await.unwrap() {}
    let left: Vec<i64> = store
        .changes(id, 0, 10)
        .await
        .unwrap()
        .iter()
        .map(|it| it.seq)
        .collect();
    assert_eq!(left, [6]);
    store
        .delete_endpoint(id, "whk_1", &note(AuditKind::EndpointDeleted), at(23))
        .await
        .unwrap();
    assert_eq!(store.list_endpoints(None).await.unwrap(), []);

    // And with the tenant all of it goes.
    let second = receiver(id, "whk_2");
    store
        .create_endpoint(&second, &note(AuditKind::EndpointCreated))
        .await
        .unwrap();
    let erased = store.delete_tenant(id).await.unwrap();
    assert_eq!((erased.endpoints, erased.left), (1, 0));
}

pub(crate) async fn a_region_has_one_key_for_events(store: Subject) {
    let key = |byte: u8| (format!("key{byte}"), vec![byte; 32]);
    assert_eq!(store.event_key(&key(1), at(1)).await.unwrap(), key(1));
    assert_eq!(store.event_key(&key(2), at(0)).await.unwrap(), key(1));
}
