//! Stories of activity, for every engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::{Dialect, TenantId, Timestamp, TokenId};

use super::activity::{
    ActivityBatch, ActivityQuery, ActivityRetention, Effects, Entry, EntryNumber, Finding, Gap,
    GapReason, Operation, QUIET, TenantActivity, hour_of,
};
use super::story::{at, resource_id, tenant};
use super::{Access, Store, StoreError};
use crate::scim::client::{Client, Clues};
use crate::scim::tolerance::Tolerance;
use crate::scim::{Notes, ResourceKind};

type Subject = Arc<dyn Store>;

const EVERYTHING: ActivityQuery = ActivityQuery {
    before: EntryNumber(i64::MAX),
    from: EntryNumber(0),
    count: 1000,
    client: None,
    has_failed: None,
    operation: None,
    resource: None,
    request_id: None,
};

fn okta() -> Clues {
    Clues::of_user_agent("Okta SCIM Client 1.0.0")
}

/// A create at a time.
fn entry(token: &TokenId, when: Timestamp) -> Entry {
    Entry {
        number: EntryNumber::least_at(when),
        token: token.clone(),
        clues: okta(),
        operation: Operation::Create,
        kind: Some(ResourceKind::User),
        resource: Some(resource_id(1)),
        display: Some("bjensen".into()),
        filter: None,
        filter_shape: None,
        status: 201,
        scim_type: None,
        detail: None,
        duration_us: 1000,
        request_id: format!("request-{}", when.as_millis()).into(),
        dialect: Dialect::Scim20,
        tolerated: Notes::default(),
        effects: Effects {
            created: 1,
            ..Effects::default()
        },
    }
}

/// One that failed.
fn refused(token: &TokenId, when: Timestamp) -> Entry {
    Entry {
        operation: Operation::Patch,
        kind: Some(ResourceKind::Group),
        resource: None,
        display: None,
        status: 400,
        scim_type: Some("invalidValue".into()),
        detail: Some("The value is odd.".into()),
        effects: Effects::default(),
        ..entry(token, when)
    }
}

fn of(tenant: &TenantId, news: TenantActivity) -> ActivityBatch {
    ActivityBatch {
        tenants: BTreeMap::from([(tenant.clone(), news)]),
        writer: "writer".into(),
        number: 1,
        at: at(0),
    }
}

async fn record(store: &dyn Store, access: &Access, entries: Vec<Entry>) {
    let news = TenantActivity {
        entries,
        ..TenantActivity::default()
    };
    let batch = Arc::new(of(&access.tenant, news));
    store.record_activity(batch, false).await.unwrap();
}

async fn numbers(store: &dyn Store, access: &Access, query: ActivityQuery) -> Vec<EntryNumber> {
    let page = store.activity(access, &query).await.unwrap();
    page.entries.iter().map(|(entry, _)| entry.number).collect()
}

pub(crate) async fn requests_are_kept_and_found(store: Subject) {
    let (acme, other) = (tenant(&*store).await, tenant(&*store).await);
    let (token, second) = (TokenId::generate().unwrap(), TokenId::generate().unwrap());
    let mut tolerated = Notes::default();
    tolerated.note_of(Tolerance::TextFalse, "active");
    let full = Entry {
        filter: Some("userName eq \"b\"".into()),
        filter_shape: Some("userName eq ?".into()),
        tolerated,
        dialect: Dialect::Scim11,
        ..entry(&token, at(1))
    };
    let failed = refused(&token, at(2));
    let by_hand = Entry {
        clues: Clues::of_user_agent("curl/8.0"),
        operation: Operation::Query,
        status: 0,
        ..entry(&token, at(3))
    };
    let stranger = Entry {
        clues: Clues::default(),
        resource: Some(resource_id(2)),
        ..entry(&second, at(4))
    };
    let all = [&full, &failed, &by_hand, &stranger].map(Entry::clone);
    record(&*store, &acme, all.to_vec()).await;

    let page = store.activity(&acme, &EVERYTHING).await.unwrap();
    let expected = [
        (stranger.clone(), Client::Other),
        (by_hand.clone(), Client::Tool),
        (failed.clone(), Client::Okta),
        (full.clone(), Client::Okta),
    ];
    assert_eq!(page.entries, expected);
    assert_eq!((page.next, page.gaps), (None, Vec::new()));

    let found = async |query| numbers(&*store, &acme, query).await;
    let by = |change: &dyn Fn(&mut ActivityQuery)| {
        let mut query = EVERYTHING;
        change(&mut query);
        query
    };
    for (query, expected) in [
        (by(&|q| q.client = Some(Client::Okta)), vec![&failed, &full]),
        (by(&|q| q.client = Some(Client::Tool)), vec![&by_hand]),
        (by(&|q| q.client = Some(Client::Other)), vec![&stranger]),
        (by(&|q| q.client = Some(Client::Entra)), vec![]),
        (by(&|q| q.has_failed = Some(true)), vec![&by_hand, &failed]),
        (by(&|q| q.has_failed = Some(false)), vec![&stranger, &full]),
        (by(&|q| q.operation = Some(Operation::Patch)), vec![&failed]),
        (by(&|q| q.resource = Some(resource_id(2))), vec![&stranger]),
        (
            by(&|q| q.request_id = Some(failed.request_id.to_string())),
            vec![&failed],
        ),
        (
            by(&|q| {
                q.from = EntryNumber::least_at(at(2));
                q.before = EntryNumber::least_at(at(4));
            }),
            vec![&by_hand, &failed],
        ),
    ] {
        let expected: Vec<EntryNumber> = expected.iter().map(|entry| entry.number).collect();
        assert_eq!(found(query.clone()).await, expected, "{query:?}");
    }

    // Page after page.
    let mut query = by(&|q| q.count = 3);
    let page = store.activity(&acme, &query).await.unwrap();
    assert_eq!(page.entries.len(), 3);
    assert_eq!(page.next, Some(failed.number));
    query.before = page.next.unwrap();
    let page = store.activity(&acme, &query).await.unwrap();
    assert_eq!(page.entries, [(full.clone(), Client::Okta)]);
    assert_eq!(page.next, None);

    let one = store.activity_entry(&acme, full.number).await.unwrap();
    assert_eq!(one, Some((full.clone(), Client::Okta)));
    // Another tenant has nothing of it, and an access that is over sees nothing.
    assert_eq!(
        store.activity_entry(&other, full.number).await.unwrap(),
        None
    );
    assert!(numbers(&*store, &other, EVERYTHING).await.is_empty());
    assert!(store.cycles(&other, at(100), 10).await.unwrap().is_empty());
    let over = Access {
        credential_version: acme.credential_version + 1,
        ..acme.clone()
    };
    let refused = store.activity(&over, &EVERYTHING).await.err();
    assert!(matches!(refused, Some(StoreError::Refused)));
    let refused = store.findings(&over).await.err();
    assert!(matches!(refused, Some(StoreError::Refused)));
    // What comes for a tenant that is gone is passed over.
    store.delete_tenant(&other.tenant).await.unwrap();
    record(&*store, &other, vec![full]).await;
}

pub(crate) async fn cycles_and_hours_add_up(store: Subject) {
    let acme = tenant(&*store).await;
    let (token, second) = (TokenId::generate().unwrap(), TokenId::generate().unwrap());
    let quiet = i64::try_from(QUIET.as_secs()).unwrap();
    // Two batches make one cycle; a pause begins another one; another token has its own.
    record(
        &*store,
        &acme,
        vec![entry(&token, at(0)), refused(&token, at(1))],
    )
    .await;
    let nobody = Entry {
        clues: Clues::default(),
        ..entry(&token, at(quiet))
    };
    let by_hand = Entry {
        clues: Clues::of_user_agent("curl/8.0"),
        ..entry(&token, at(quiet + 5))
    };
    let other = Entry {
        clues: Clues::of_query("aadOptscim062020"),
        ..entry(&second, at(10))
    };
    record(&*store, &acme, vec![nobody.clone(), by_hand, other]).await;
    let again = entry(&token, at(2 * quiet));
    record(&*store, &acme, vec![again]).await;

    let cycles = store.cycles(&acme, at(1_000_000), 10).await.unwrap();
    let shown: Vec<_> = cycles
        .iter()
        .map(|cycle| {
            let (started, ended) = (cycle.started, cycle.ended);
            let created = cycle.effects.created;
            let counts = (cycle.requests, cycle.failed, created);
            (cycle.client(), started, ended, counts)
        })
        .collect();
    assert_eq!(
        shown,
        [
            (Client::Okta, at(2 * quiet), at(2 * quiet), (1, 0, 1)),
            (Client::Entra, at(10), at(10), (1, 0, 1)),
            (Client::Okta, at(0), at(quiet), (3, 1, 2)),
        ]
    );
    let former = store.cycles(&acme, at(10), 10).await.unwrap();
    assert_eq!(former, cycles[2..]);

    let hours = store.activity_hours(&acme, 0).await.unwrap();
    let counts: (u64, u64) = hours.iter().fold((0, 0), |sum, hour| {
        (sum.0 + hour.requests, sum.1 + hour.failed)
    });
    assert_eq!(counts, (6, 1));
    assert_eq!(hours[0].hour, hour_of(at(0)));
    assert!(hours[0].latencies.percentile(95).unwrap() >= 1000);

    // What perhaps was written before is written once.
    let news = TenantActivity {
        entries: vec![entry(&token, at(2 * quiet + 1))],
        ..TenantActivity::default()
    };
    let batch = Arc::new(ActivityBatch {
        number: 2,
        ..of(&acme.tenant, news)
    });
    for is_repeated in [true, true] {
        let batch = Arc::clone(&batch);
        store.record_activity(batch, is_repeated).await.unwrap();
    }
    let cycles = store.cycles(&acme, at(1_000_000), 1).await.unwrap();
    assert_eq!(cycles[0].requests, 2);
    let page = store.activity(&acme, &EVERYTHING).await.unwrap();
    assert_eq!((page.entries.len(), page.gaps.len()), (7, 0));
    // A number that another node has given is a loss that is told.
    record(&*store, &acme, vec![nobody.clone()]).await;
    let page = store.activity(&acme, &EVERYTHING).await.unwrap();
    assert_eq!(page.gaps, [Gap::of_twin(&nobody)]);
}

pub(crate) async fn findings_are_counted_together(store: Subject) {
    let acme = tenant(&*store).await;
    let token = TokenId::generate().unwrap();
    let finding = |kind: &'static str, subject: &str, seconds: i64| Finding {
        kind: kind.into(),
        token: token.clone(),
        subject: subject.into(),
        first: at(seconds),
        last: at(seconds),
        times: 2,
        request_id: format!("request-{seconds}").into(),
        route: "GET Users".into(),
    };
    for findings in [
        vec![
            finding("wrongRegion", "", 5),
            finding("uniqueness", "userName", 6),
        ],
        vec![
            finding("wrongRegion", "", 9),
            finding("uniqueness", "userName", 2),
        ],
    ] {
        let news = TenantActivity {
            findings,
            ..TenantActivity::default()
        };
        let batch = Arc::new(of(&acme.tenant, news));
        store.record_activity(batch, false).await.unwrap();
    }
    let found = store.findings(&acme).await.unwrap();
    let counted = |newest: Finding, first| Finding {
        times: 4,
        first,
        ..newest
    };
    assert_eq!(
        found,
        [
            counted(finding("wrongRegion", "", 9), at(5)),
            counted(finding("uniqueness", "userName", 6), at(2)),
        ]
    );
}

pub(crate) async fn a_process_that_ended_suddenly_leaves_a_gap(store: Subject) {
    let acme = tenant(&*store).await;
    store.begin_activity("first", at(0)).await.unwrap();
    let mut batch = of(&acme.tenant, TenantActivity::default());
    batch.writer = "first".into();
    batch.at = at(7);
    store.record_activity(Arc::new(batch), false).await.unwrap();
    store.begin_activity("second", at(1000)).await.unwrap();
    store.end_activity("second").await.unwrap();
    // One that ended in good order leaves none, and a gap is told once.
    store.begin_activity("third", at(2000)).await.unwrap();
    let gaps = store.activity(&acme, &EVERYTHING).await.unwrap().gaps;
    let expected = Gap {
        from: at(7),
        to: at(1000),
        lost: None,
        reason: GapReason::Ended,
    };
    assert_eq!(gaps, [expected]);
    let later = ActivityQuery {
        from: EntryNumber::least_at(at(1001)),
        ..EVERYTHING
    };
    assert!(store.activity(&acme, &later).await.unwrap().gaps.is_empty());
}

pub(crate) async fn old_activity_is_forgotten(store: Subject) {
    let acme = tenant(&*store).await;
    let token = TokenId::generate().unwrap();
    let hour = 60 * 60;
    let entries = (0..2000).map(|n| entry(&token, at(n * 10))).collect();
    record(&*store, &acme, entries).await;
    let kept = async || numbers(&*store, &acme, EVERYTHING_AT_ONCE).await.len();
    assert_eq!(kept().await, 2000);
    let keep = |since, most| ActivityRetention { since, most };
    store
        .prune_activity(&acme.tenant, keep(at(-hour), 1_000_000))
        .await
        .unwrap();
    assert_eq!(kept().await, 2000);
    store
        .prune_activity(&acme.tenant, keep(at(7 * 10), 1_000_000))
        .await
        .unwrap();
    assert_eq!(kept().await, 1993);
    store
        .prune_activity(&acme.tenant, keep(at(-hour), 800))
        .await
        .unwrap();
    assert_eq!(kept().await, 800);
    assert_eq!(
        store.cycles(&acme, at(1_000_000), 10).await.unwrap().len(),
        1
    );
    store
        .prune_activity(&acme.tenant, keep(at(100 * hour), 800))
        .await
        .unwrap();
    assert_eq!(kept().await, 0);
    assert!(
        store
            .cycles(&acme, at(1_000_000), 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.activity_hours(&acme, 0).await.unwrap().is_empty());
    let nobody = TenantId::generate().unwrap();
    let nothing = keep(at(0), Duration::from_secs(1).as_secs());
    store.prune_activity(&nobody, nothing).await.unwrap();
}

const EVERYTHING_AT_ONCE: ActivityQuery = ActivityQuery {
    count: 10_000,
    ..EVERYTHING
};

pub(crate) async fn activity_is_erased_with_its_tenant(store: Subject) {
    let (gone, stays) = (tenant(&*store).await, tenant(&*store).await);
    let token = TokenId::generate().unwrap();
    for access in [&gone, &stays] {
        let entries = (0..1200).map(|n| entry(&token, at(n))).collect();
        let finding = Finding {
            kind: "wrongRegion".into(),
            token: token.clone(),
            subject: "".into(),
            first: at(0),
            last: at(0),
            times: 1,
            request_id: "r".into(),
            route: "GET Users".into(),
        };
        let gap = Gap {
            from: at(0),
            to: at(1),
            lost: Some(3),
            reason: GapReason::Overflow,
        };
        let news = TenantActivity {
            entries,
            findings: vec![finding],
            gaps: vec![gap],
        };
        let batch = Arc::new(of(&access.tenant, news));
        store.record_activity(batch, false).await.unwrap();
    }
    let erased = store.delete_tenant(&gone.tenant).await.unwrap();
    // The requests; a cycle, an hour, a gap and a finding.
    assert_eq!((erased.activity, erased.left), (1204, 0));
    assert_eq!(
        numbers(&*store, &stays, EVERYTHING_AT_ONCE).await.len(),
        1200
    );
    assert_eq!(store.findings(&stays).await.unwrap().len(), 1);
}
