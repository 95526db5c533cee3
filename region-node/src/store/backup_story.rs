//! Stories of backup, restore and export: what every engine must do.

use std::sync::Arc;
use std::time::Duration;

use shared::{Networks, TenantId, TokenDigest, TokenId};
use tokio::sync::mpsc;

use super::story::{
    at, clients_key, group, is, named, new_token, receiver, resource_id, tenant, user, written,
};
use super::{
    Access, AuditKind, AuditNote, AuditRange, Author, BackupRow, Content, Counts, DeadLetter,
    Endpoint, ExportRow, FoundToken, MemberChange, Narrowing, NewAccessToken, PageStart, Report,
    RestoreError, RestoreHow, RestoreStep, Restored, Store, StoreError, TenantSettings,
    TenantState, TextIndex, UserNameRule,
};
use crate::provider::audit::Audit;
use crate::scim::{ResourceId, ResourceKind};

type Subject = Arc<dyn Store>;

const USER: ResourceKind = ResourceKind::User;
const GROUP: ResourceKind = ResourceKind::Group;
const JUMP: i64 = 1000;

const INTO_NOTHING: RestoreHow = RestoreHow {
    replace: false,
    revoke_tokens: false,
    version_jump: JUMP,
    now: at(500),
};
const IN_PLACE: RestoreHow = RestoreHow {
    replace: true,
    ..INTO_NOTHING
};

async fn backup(store: &Subject) -> Vec<BackupRow> {
    let (sender, mut rows) = mpsc::channel(3);
    let reading = Arc::clone(store);
    let task = tokio::spawn(async move { reading.backup(sender).await });
    let mut all = Vec::new();
    while let Some(row) = rows.recv().await {
        all.push(row);
    }
    task.await.unwrap().unwrap();
    all
}

fn counts(rows: &[BackupRow]) -> Counts {
    let mut counts = Counts::default();
    for row in rows {
        counts.note(row);
    }
    counts
}

async fn restore(
    store: &Subject,
    rows: &[BackupRow],
    how: RestoreHow,
) -> Result<Restored, RestoreError> {
    let end = RestoreStep::End(counts(rows));
    let steps = rows.iter().cloned().map(RestoreStep::Row).chain([end]);
    restore_steps(store, steps.collect(), how).await
}

async fn restore_steps(
    store: &Subject,
    steps: Vec<RestoreStep>,
    how: RestoreHow,
) -> Result<Restored, RestoreError> {
    let (sender, received) = mpsc::channel(3);
    let writing = Arc::clone(store);
    let task = tokio::spawn(async move { writing.restore(received, how).await });
    for step in steps {
        if sender.send(step).await.is_err() {
            break;
        }
    }
    drop(sender);
    task.await.unwrap()
}

/// Rows as text, without what a restore moves on: a tenant's credential version and number.
fn comparable(rows: &[BackupRow]) -> Vec<String> {
    let text = |row: &BackupRow| {
        let mut row = row.clone();
        if let BackupRow::Tenant(tenant) = &mut row {
            tenant.credential_version = 0;
            tenant.seq = 0;
        }
        serde_json::to_string(&row).unwrap()
    };
    // The audit goes on: a restore is recorded. Its own story tells of it.
    let is_audit = |row: &&BackupRow| matches!(row, BackupRow::AuditHead(_) | BackupRow::Audit(_));
    rows.iter().filter(|row| !is_audit(row)).map(text).collect()
}

async fn current(store: &Subject, tenant: &TenantId) -> Access {
    let tenant = store.get_tenant(tenant).await.unwrap().unwrap();
    Access {
        credential_version: tenant.credential_version,
        tenant: tenant.id,
    }
}

fn with_mail(name: &str) -> Content {
    let mut content = user(name);
    content.keys.external_id = Some(format!("X-{name}"));
    content.keys.attributes = vec![("emails.value".into(), format!("{name}@example.com"))];
    content
}

/// A tenant with three users, two groups of which one holds the other, and two tokens.
struct Acme {
    access: Access,
    live: (TokenId, TokenDigest),
    revoked: TokenId,
}

const ANN: u32 = 1;
const TEAM: u32 = 10;
const ALL: u32 = 11;

async fn acme(store: &Subject) -> Acme {
    let id = TenantId::generate().unwrap();
    let settings = TenantSettings {
        user_name: UserNameRule::Email,
        ..TenantSettings::default()
    };
    store
        .create_tenant(&id, "Æcme", &settings, at(0))
        .await
        .unwrap();
    let ((mut live, digest), (dead, _)) = (new_token(None), new_token(Some(at(10_000))));
    live.networks = Networks::new(vec!["203.0.113.0/24".parse().unwrap()]).unwrap();
    for token in [&live, &dead] {
        store.create_token(&id, token, None, at(1)).await.unwrap();
    }
    store
        .revoke_token(&dead.id, &Author::operator(), None, at(2))
        .await
        .unwrap();
    store
        .touch_tokens(&[(live.id.clone(), at(3))])
        .await
        .unwrap();
    let access = current(store, &id).await;
    for (number, name) in [(ANN, "ann"), (2, "bob"), (3, "cem")] {
        let mut content = with_mail(name);
        content.keys.active = number != 3;
        if number == 2 {
            content.keys.user_name_look_alike = Some("bob-look-alike".into());
        }
        let write = named(10, clients_key(u8::try_from(number).unwrap(), 7));
        store
            .create(&access, USER, resource_id(number), content, write)
            .await
            .unwrap();
    }
    let add = |numbers: &[u32]| {
        vec![MemberChange::Add(
            numbers.iter().map(|number| resource_id(*number)).collect(),
        )]
    };
    for (number, name, members) in [
        (TEAM, "team", add(&[ANN, 2])),
        (ALL, "all", add(&[TEAM, 3])),
    ] {
        let content = Content {
            members,
            ..group(name)
        };
        store
            .create(&access, GROUP, resource_id(number), content, written(20))
            .await
            .unwrap();
    }
    store
        .change_members(&access, resource_id(TEAM), None, add(&[3]), written(30))
        .await
        .unwrap();
    Acme {
        access,
        live: (live.id, digest),
        revoked: dead.id,
    }
}

pub(crate) async fn a_backup_is_one_snapshot_and_holds_up_no_write(store: Subject) {
    let Acme { access, .. } = acme(&store).await;
    let before = comparable(&backup(&store).await);

    // The receiver takes one row and no more while others write.
    let (sender, mut rows) = mpsc::channel(1);
    let reading = Arc::clone(&store);
    let task = tokio::spawn(async move { reading.backup(sender).await });
    let mut seen = vec![rows.recv().await.unwrap()];
    store
        .create(
            &access,
            USER,
            resource_id(99),
            with_mail("new"),
            written(40),
        )
        .await
        .unwrap();
    store
        .delete(&access, USER, resource_id(ANN), None, written(41))
        .await
        .unwrap();
    let add = vec![MemberChange::Add(vec![resource_id(99)])];
    store
        .change_members(&access, resource_id(ALL), None, add, written(42))
        .await
        .unwrap();
    tenant(&*store).await;
    while let Some(row) = rows.recv().await {
        seen.push(row);
    }
    task.await.unwrap().unwrap();
    assert_eq!(comparable(&seen), before);
    assert_ne!(comparable(&backup(&store).await), before);

    // Nobody takes the rows: that ends it.
    let (sender, rows) = mpsc::channel(1);
    drop(rows);
    let ended = store.backup(sender).await;
    assert!(matches!(ended, Err(StoreError::Unavailable(_))));
}

pub(crate) async fn what_is_restored_reads_as_before(store: Subject) {
    let Acme {
        access,
        live,
        revoked,
    } = acme(&store).await;
    let sleeping = tenant(&*store).await;
    store
        .set_tenant_state(
            &sleeping.tenant,
            TenantState::Suspended,
            &Author::operator(),
            at(0),
        )
        .await
        .unwrap();
    let rows = backup(&store).await;
    let head = store.get_tenant(&access.tenant).await.unwrap().unwrap();
    let users = store
        .page(&access, USER, PageStart::Offset(0), 10)
        .await
        .unwrap();
    let changes = store.changes(&access.tenant, 0, 100).await.unwrap();
    let outcome = store
        .outcome(&access, clients_key(2, 7))
        .await
        .unwrap()
        .unwrap();
    let tokens = store.list_tokens(&access.tenant).await.unwrap();
    store.delete_tenant(&access.tenant).await.unwrap();
    store.delete_tenant(&sleeping.tenant).await.unwrap();

    let restored = restore(&store, &rows, INTO_NOTHING).await.unwrap();
    assert_eq!(restored.counts, counts(&rows));
    assert_eq!(
        restored.counts,
        Counts {
            tenants: 2,
            tokens: 2,
            users: 3,
            groups: 2,
            members: 5,
            changes: 6,
            outcomes: 3,
            audit: 13,
            endpoints: 0
        }
    );
    assert_eq!(restored.live_tokens, 1);
    assert_eq!(comparable(&backup(&store).await), comparable(&rows));

    assert!(matches!(
        store.head(&access).await,
        Err(StoreError::Refused)
    ));
    let after = store.get_tenant(&access.tenant).await.unwrap().unwrap();
    assert_eq!((after.name, after.settings), (head.name, head.settings));
    assert_eq!(
        (after.users, after.groups, after.created),
        (3, 2, head.created)
    );
    assert_eq!(after.seq, head.seq + JUMP);
    let asleep = store.get_tenant(&sleeping.tenant).await.unwrap().unwrap();
    assert_eq!(asleep.state, TenantState::Suspended);
    assert_eq!(store.list_tokens(&access.tenant).await.unwrap(), tokens);
    let FoundToken {
        token: found,
        tenant: its_tenant,
        ..
    } = store.find_token(&live.1).await.unwrap().unwrap();
    assert_eq!((found.id, its_tenant.id), (live.0, access.tenant.clone()));
    let found = store.get_token(&revoked).await.unwrap().unwrap();
    assert_eq!(found.revoked, Some(at(2)));

    let access = current(&store, &access.tenant).await;
    let read = store
        .page(&access, USER, PageStart::Offset(0), 10)
        .await
        .unwrap();
    let told = |page: &super::Page| -> Vec<_> {
        let resources = page.resources.iter();
        let told = |r: &super::Stored| (r.id, r.version, r.created, r.modified, r.document.clone());
        resources.map(told).collect()
    };
    assert_eq!(told(&read), told(&users));
    assert_eq!(
        store.changes(&access.tenant, 0, 100).await.unwrap(),
        changes
    );
    let again = store
        .outcome(&access, clients_key(2, 7))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (again.id, again.version, again.at),
        (outcome.id, outcome.version, outcome.at)
    );
    assert_eq!(again.position, read.resources[1].position);

    let ids = |numbers: &[u32]| -> Vec<ResourceId> {
        numbers.iter().map(|number| resource_id(*number)).collect()
    };
    for (kind, narrowing, expected) in [
        (USER, is(TextIndex::UserName, "bob"), ids(&[2])),
        (USER, is(TextIndex::ExternalId, "X-cem"), ids(&[3])),
        (
            USER,
            is(
                TextIndex::Attribute("emails.value".into()),
                "ann@example.com",
            ),
            ids(&[ANN]),
        ),
        (GROUP, is(TextIndex::DisplayName, "all"), ids(&[ALL])),
        (
            USER,
            Narrowing::MemberOf(resource_id(TEAM)),
            ids(&[ANN, 2, 3]),
        ),
        (GROUP, Narrowing::HasMember(resource_id(TEAM)), ids(&[ALL])),
    ] {
        let found = store
            .candidates(&access, kind, &narrowing, None, 10)
            .await
            .unwrap();
        let found: Vec<ResourceId> = found.resources.iter().map(|found| found.id).collect();
        assert_eq!(found, expected, "{narrowing:?}");
    }
    for taken in ["ann", "bob-look-alike"] {
        let error = store
            .create(&access, USER, resource_id(50), user(taken), written(600))
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Taken { .. }),
            "{taken}: {error:?}"
        );
    }
    // What comes now is behind everything, in the list and in the numbers.
    let created = store
        .create(&access, USER, resource_id(51), user("dan"), written(600))
        .await
        .unwrap();
    assert_eq!(created.version.0, head.seq + JUMP + 1);
    assert!(created.position > read.resources[2].position);
    store
        .delete(&access, USER, resource_id(ANN), None, written(601))
        .await
        .unwrap();
    let team = store
        .get(&access, GROUP, resource_id(TEAM))
        .await
        .unwrap()
        .unwrap();
    let members = store
        .members(&access, &[team.position], None)
        .await
        .unwrap();
    let members: Vec<ResourceId> = members[0].iter().map(|member| member.id).collect();
    assert_eq!(members, ids(&[2, 3]));
}

pub(crate) async fn a_restore_without_its_end_changes_nothing(store: Subject) {
    let Acme { access, live, .. } = acme(&store).await;
    let rows = backup(&store).await;
    let before = comparable(&rows);

    // The region has tenants.
    for steps in [Vec::new(), vec![RestoreStep::End(Counts::default())]] {
        let refused = restore_steps(&store, steps, INTO_NOTHING).await;
        assert!(
            matches!(refused, Err(RestoreError::NotEmpty)),
            "{refused:?}"
        );
    }
    for length in [0, 1, rows.len() / 2, rows.len()] {
        let steps = rows[..length].iter().cloned().map(RestoreStep::Row);
        let ended = restore_steps(&store, steps.collect(), IN_PLACE).await;
        assert!(matches!(ended, Err(RestoreError::Incomplete)), "{ended:?}");
        assert_eq!(comparable(&backup(&store).await), before);
    }
    assert!(
        store.head(&access).await.is_ok(),
        "the grants of before hold"
    );
    assert!(store.find_token(&live.1).await.unwrap().is_some());

    // While one is under way, nobody sees it, and there is no other.
    let (sender, received) = mpsc::channel(1);
    let writing = Arc::clone(&store);
    let first = tokio::spawn(async move { writing.restore(received, IN_PLACE).await });
    // Taken by the store: with room for one, the second one went in because the first was taken.
    for row in rows.iter().take(3).cloned() {
        sender.send(RestoreStep::Row(row)).await.unwrap();
    }
    let second = restore(&store, &rows, IN_PLACE).await;
    assert!(matches!(second, Err(RestoreError::Busy)), "{second:?}");
    assert_eq!(store.list_tenants().await.unwrap().len(), 1);
    drop(sender);
    assert!(first.await.unwrap().is_err());
    assert_eq!(comparable(&backup(&store).await), before);
}

pub(crate) async fn contradictions_are_found_and_nothing_stays(store: Subject) {
    acme(&store).await;
    let rows = backup(&store).await;
    let before = comparable(&rows);
    type Damage = fn(&mut Vec<BackupRow>);
    let damages: [(&str, Damage); 8] = [
        ("a row before its tenant", |rows| {
            rows.remove(0);
        }),
        ("a user is missing", |rows| {
            let at = rows
                .iter()
                .position(|row| matches!(row, BackupRow::Resource(_)));
            rows.remove(at.unwrap());
        }),
        ("a user is there twice", |rows| {
            let at = rows
                .iter()
                .position(|row| matches!(row, BackupRow::Resource(_)));
            let twice = rows[at.unwrap()].clone();
            rows.insert(at.unwrap(), twice);
        }),
        ("a token is there twice", |rows| {
            let at = rows
                .iter()
                .position(|row| matches!(row, BackupRow::Token(_)));
            let twice = rows[at.unwrap()].clone();
            rows.insert(at.unwrap(), twice);
        }),
        ("a member is there twice", |rows| {
            let at = rows
                .iter()
                .position(|row| matches!(row, BackupRow::Members(_)));
            let twice = rows[at.unwrap()].clone();
            rows.insert(at.unwrap(), twice);
        }),
        ("a tenant is there twice", |rows| {
            let twice = rows.clone();
            rows.extend(twice);
        }),
        ("a version from the future", |rows| {
            for row in rows {
                if let BackupRow::Resource(resource) = row {
                    resource.version = 1_000_000;
                }
            }
        }),
        ("a token of somebody else", |rows| {
            for row in rows {
                if let BackupRow::Token(token) = row {
                    token.token.tenant = TenantId::generate().unwrap();
                }
            }
        }),
    ];
    for (what, damage) in damages {
        let mut damaged = rows.clone();
        damage(&mut damaged);
        let refused = restore(&store, &damaged, IN_PLACE).await;
        assert!(
            matches!(refused, Err(RestoreError::Inconsistent(_))),
            "{what}: {refused:?}"
        );
        assert_eq!(comparable(&backup(&store).await), before, "{what}");
    }
    let mut steps: Vec<RestoreStep> = rows.iter().cloned().map(RestoreStep::Row).collect();
    steps.push(RestoreStep::End(Counts::default()));
    let refused = restore_steps(&store, steps, IN_PLACE).await;
    assert!(matches!(refused, Err(RestoreError::Inconsistent(_))));
    assert_eq!(comparable(&backup(&store).await), before);
    restore(&store, &rows, IN_PLACE).await.unwrap();
    assert_eq!(comparable(&backup(&store).await), before);
}

pub(crate) async fn credentials_do_not_go_back_in_time(store: Subject) {
    let Acme {
        access,
        live,
        revoked,
    } = acme(&store).await;
    let id = &access.tenant;
    let (rotated, _) = new_token(None);
    store.create_token(id, &rotated, None, at(5)).await.unwrap();
    let other = tenant(&*store).await;
    let rows = backup(&store).await;

    store
        .revoke_token(&live.0, &Author::operator(), None, at(100))
        .await
        .unwrap();
    let (successor, successors_digest) = new_token(None);
    store
        .rotate_token(
            &rotated.id,
            &successor,
            Duration::from_secs(60),
            None,
            at(101),
        )
        .await
        .unwrap();
    let access_token = NewAccessToken {
        digest: new_token(None).1,
        expires: at(3700),
    };
    store
        .create_access_token(&successor.id, &access_token, at(102))
        .await
        .unwrap();
    store
        .set_tenant_state(
            &other.tenant,
            TenantState::Suspended,
            &Author::operator(),
            at(0),
        )
        .await
        .unwrap();
    let tokens = store.list_tokens(id).await.unwrap();
    let head = store.get_tenant(id).await.unwrap().unwrap();
    let before = current(&store, id).await;

    let restored = restore(&store, &rows, IN_PLACE).await.unwrap();
    // The rotated one has ended by the time of the restore, too.
    assert_eq!((restored.tokens_kept_ended, restored.live_tokens), (2, 1));
    assert_eq!(store.list_tokens(id).await.unwrap(), tokens);
    assert_eq!(
        store.get_token(&live.0).await.unwrap().unwrap().revoked,
        Some(at(100))
    );
    assert!(
        store
            .get_token(&revoked)
            .await
            .unwrap()
            .unwrap()
            .revoked
            .is_some()
    );
    let FoundToken {
        token: found,
        tenant: its_tenant,
        ..
    } = store.find_token(&successors_digest).await.unwrap().unwrap();
    assert_eq!((found.id, &its_tenant.id), (successor.id, id));
    let its_access_token = store.find_token(&access_token.digest).await.unwrap();
    assert!(its_access_token.is_some_and(|found| found.tenant == its_tenant));
    assert!(its_tenant.seq > head.seq);
    assert!(its_tenant.credential_version > head.credential_version);
    assert!(matches!(
        store.head(&before).await,
        Err(StoreError::Refused)
    ));
    let asleep = store.get_tenant(&other.tenant).await.unwrap().unwrap();
    assert_eq!(asleep.state, TenantState::Suspended);

    // Again, from the same backup.
    restore(&store, &rows, IN_PLACE).await.unwrap();
    assert_eq!(store.list_tokens(id).await.unwrap(), tokens);
    let again = store.get_tenant(id).await.unwrap().unwrap();
    assert!(again.credential_version > its_tenant.credential_version);
    assert!(again.seq > its_tenant.seq);
}

pub(crate) async fn a_restore_says_what_is_back_and_what_is_gone(store: Subject) {
    let Acme { access, .. } = acme(&store).await;
    let (erased, new) = (tenant(&*store).await, TenantId::generate().unwrap());
    let rows = backup(&store).await;
    for (kind, number) in [(USER, ANN), (GROUP, TEAM)] {
        store
            .delete(&access, kind, resource_id(number), None, written(100))
            .await
            .unwrap();
    }
    for number in 60..63 {
        let content = with_mail(&format!("u{number}"));
        store
            .create(&access, USER, resource_id(number), content, written(101))
            .await
            .unwrap();
    }
    store.delete_tenant(&erased.tenant).await.unwrap();
    store
        .create_tenant(&new, "New", &TenantSettings::default(), at(102))
        .await
        .unwrap();

    let restored = restore(&store, &rows, IN_PLACE).await.unwrap();
    assert_eq!((restored.resources_back, restored.resources_gone), (2, 3));
    let back: Vec<_> = restored
        .back
        .iter()
        .map(|back| (back.kind, back.id))
        .collect();
    assert_eq!(back, [(USER, resource_id(ANN)), (GROUP, resource_id(TEAM))]);
    assert!(
        restored
            .back
            .iter()
            .all(|back| back.tenant == access.tenant)
    );
    assert_eq!(restored.tenants_back, [erased.tenant]);
    assert_eq!(restored.tenants_gone, std::slice::from_ref(&new));
    assert_eq!(store.get_tenant(&new).await.unwrap(), None);
    assert_eq!(comparable(&backup(&store).await), comparable(&rows));
}

pub(crate) async fn restored_tokens_can_be_revoked_at_once(store: Subject) {
    let Acme {
        access,
        live,
        revoked,
    } = acme(&store).await;
    let rows = backup(&store).await;
    let how = RestoreHow {
        revoke_tokens: true,
        ..IN_PLACE
    };
    let restored = restore(&store, &rows, how).await.unwrap();
    assert_eq!((restored.live_tokens, restored.tokens_revoked), (0, 1));
    let read = |id| {
        let store = Arc::clone(&store);
        async move { store.get_token(&id).await.unwrap().unwrap().revoked }
    };
    assert_eq!(read(live.0).await, Some(how.now));
    assert_eq!(read(revoked).await, Some(at(2)));
    assert_eq!(store.list_tokens(&access.tenant).await.unwrap().len(), 2);
}

pub(crate) async fn a_tenant_that_was_erased_can_come_back(store: Subject) {
    let Acme { access, .. } = acme(&store).await;
    let rows = backup(&store).await;
    for _ in 0..3 {
        store.delete_tenant(&access.tenant).await.unwrap();
        assert!(store.list_tenants().await.unwrap().is_empty());
        let restored = restore(&store, &rows, INTO_NOTHING).await.unwrap();
        assert_eq!(restored.counts, counts(&rows));
        assert!(
            restored.tenants_back.is_empty(),
            "there was nothing to come back to"
        );
        assert_eq!(comparable(&backup(&store).await), comparable(&rows));
    }
}

pub(crate) async fn an_export_is_one_tenant(store: Subject) {
    let other = acme(&store).await;
    let Acme { access, .. } = acme(&store).await;
    store
        .delete(&other.access, USER, resource_id(ANN), None, written(90))
        .await
        .unwrap();
    let (sender, mut rows) = mpsc::channel(1);
    let (reading, id) = (Arc::clone(&store), access.tenant.clone());
    let task = tokio::spawn(async move { reading.export(&id, sender).await });
    let mut seen = Vec::new();
    while let Some(row) = rows.recv().await {
        seen.push(match row {
            ExportRow::Tenant(tenant) => {
                assert_eq!(tenant.id, access.tenant);
                (None, Vec::new())
            }
            ExportRow::User(stored, groups) => (
                Some(stored.id),
                groups.iter().map(|group| group.id).collect(),
            ),
            ExportRow::Group(stored, members) => (
                Some(stored.id),
                members.iter().map(|member| member.id).collect(),
            ),
        });
    }
    task.await.unwrap().unwrap();
    let id = resource_id;
    let expected = [
        (None, vec![]),
        (Some(id(ANN)), vec![id(TEAM)]),
        (Some(id(2)), vec![id(TEAM)]),
        (Some(id(3)), vec![id(TEAM), id(ALL)]),
        (Some(id(TEAM)), vec![id(ANN), id(2), id(3)]),
        (Some(id(ALL)), vec![id(3), id(TEAM)]),
    ];
    assert_eq!(seen, expected);
    let (sender, _rows) = mpsc::channel(1);
    let nobody = TenantId::generate().unwrap();
    let missing = store.export(&nobody, sender).await;
    assert!(matches!(missing, Err(StoreError::NotFound)));
}

/// What happened since the backup happened: the region's records stay, and go on.
pub(crate) async fn an_audit_never_goes_back_in_time(store: Subject) {
    let access = tenant(&*store).await;
    let create = async |number: u32| {
        let content = user(&format!("u{number}"));
        let created = store.create(&access, USER, resource_id(number), content, written(1));
        created.await.unwrap();
    };
    create(1).await;
    let rows = backup(&store).await;
    create(2).await;
    let before = store
        .audit(&access.tenant, AuditRange::Behind(0), 100)
        .await
        .unwrap()
        .1;
    restore(&store, &rows, IN_PLACE).await.unwrap();
    let (_, after) = store
        .audit(&access.tenant, AuditRange::Behind(0), 100)
        .await
        .unwrap();
    assert_eq!(after[..before.len()], before);
    let more: Vec<&str> = after[before.len()..]
        .iter()
        .map(|it| it.kind.as_str())
        .collect();
    assert_eq!(more, ["tenant.restored"]);
    let clock = Arc::new(shared::TestClock::at(at(0)));
    let audit = Audit::new(Arc::clone(&store), clock);
    assert_eq!(audit.verify(&access.tenant).await.unwrap().damage, None);
    // Where nobody knows of the tenant, its records come from the backup.
    let rows = backup(&store).await;
    store.delete_tenant(&access.tenant).await.unwrap();
    restore(&store, &rows, INTO_NOTHING).await.unwrap();
    let verified = audit.verify(&access.tenant).await.unwrap();
    assert_eq!(
        (verified.records, verified.damage),
        (after.len() as u64 + 1, None)
    );
}

/// Whoever is told of events is told of them after a restore, too.
pub(crate) async fn receivers_of_events_outlive_a_restore(store: Subject) {
    let access = tenant(&*store).await;
    let id = &access.tenant;
    let note = AuditNote::new(AuditKind::EndpointCreated, Author::operator(), "");
    let made = store
        .create_endpoint(&receiver(id, "whk_1"), &note)
        .await
        .unwrap();
    // One event of it was given up.
    store
        .create(&access, USER, resource_id(1), user("ann"), written(1))
        .await
        .unwrap();
    let change = store.changes(id, 0, 1).await.unwrap().remove(0);
    let until = at(1).after(Duration::from_secs(10));
    store
        .lease_endpoint("whk_1", "one", at(1), until)
        .await
        .unwrap();
    let mut progress = made.progress.clone();
    progress.cursor = change.seq;
    let report = Report {
        progress,
        dead: vec![(change, "500".to_owned(), 12)],
        replayed: Vec::new(),
        pause: None,
        notes: Vec::new(),
    };
    store
        .report_endpoint("whk_1", "one", &report, at(2))
        .await
        .unwrap();
    let letters = async || {
        let letters = store.dead_letters(id, "whk_1", false, 0, 9).await.unwrap();
        let told = letters.into_iter().map(|letter| {
            let DeadLetter {
                change,
                at,
                reason,
                attempts,
                replay,
                ..
            } = letter;
            (change, at, reason, attempts, replay)
        });
        told.collect::<Vec<_>>()
    };
    let given_up = letters().await;
    assert_eq!(given_up.len(), 1);
    let rows = backup(&store).await;
    let later = receiver(id, "whk_2");
    store.create_endpoint(&later, &note).await.unwrap();
    let same = |endpoint: &Endpoint| {
        let Endpoint {
            id,
            settings,
            secrets,
            created,
            ..
        } = endpoint.clone();
        (id, settings, secrets, created)
    };
    restore(&store, &rows, IN_PLACE).await.unwrap();
    let both: Vec<_> = store
        .list_endpoints(Some(id))
        .await
        .unwrap()
        .iter()
        .map(same)
        .collect();
    assert_eq!(both, [same(&made), same(&later)]);
    assert_eq!(letters().await, given_up, "once, and not twice");
    store.delete_tenant(id).await.unwrap();
    restore(&store, &rows, INTO_NOTHING).await.unwrap();
    let one = store.list_endpoints(Some(id)).await.unwrap();
    assert_eq!(one.iter().map(same).collect::<Vec<_>>(), [same(&made)]);
    assert_eq!((one[0].progress.cursor, one[0].dead_letters), (1, 1));
    assert_eq!(letters().await, given_up);
}
