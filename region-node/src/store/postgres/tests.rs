//! The stories on this engine, and what is this engine's own: row-level security, several nodes
//! on one database, a PostgreSQL that is away.

use std::sync::Arc;

use futures_util::future::join_all;

use super::*;
use crate::store::story::{at, on_every_story, receiver, resource_id, tenant, user, written};
use crate::store::{AuditKind, Author, Counts, TextIndex, TextTest};
use server::Postgres;

#[expect(
    dead_code,
    clippy::print_stderr,
    reason = "the whole-system tests use more of it; it tells what the server said when a test fails"
)]
#[path = "../../../../tests/it/support/postgres.rs"]
mod server;

const USER: ResourceKind = ResourceKind::User;

/// A server for the test: the one that `tests/run` has started for all, or one of its own.
struct Server {
    url: String,
    _own: Option<Postgres>,
}

impl Server {
    fn find() -> Self {
        if let Ok(url) = std::env::var("MERIDIAN_TEST_POSTGRES") {
            return Self { url, _own: None };
        }
        let own = Postgres::start();
        Self {
            url: own.url(),
            _own: Some(own),
        }
    }

    /// A database that nobody else uses; it is made by the first store that opens it.
    fn database(&self) -> Secret {
        let mut name = [0; 8];
        getrandom::fill(&mut name).unwrap();
        let (server, _) = self.url.rsplit_once('/').unwrap();
        Secret::new(&format!("{server}/t{}", hex::encode(name)))
    }
}

fn options(url: Secret) -> PostgresOptions {
    PostgresOptions {
        url,
        ca_file: None,
        connections: 4,
        writers: 2,
        write_queue: 1000,
        statement: Duration::from_secs(30),
    }
}

async fn open(url: &Secret) -> PostgresStore {
    PostgresStore::open(options(url.clone())).await.unwrap()
}

async fn subject() -> (Arc<dyn Store>, Server) {
    let server = Server::find();
    let store = open(&server.database()).await;
    (Arc::new(store), server)
}

on_every_story!(subject().await);

/// With the tenant taken out of every statement but the look at the head row, row-level security
/// alone has to keep tenants apart: every story must come out the same.
mod behind_the_second_wall {
    use super::*;

    async fn blind() -> (Arc<dyn Store>, Server) {
        let server = Server::find();
        let attempt = Attempt {
            steps: Box::leak(blinded().into_boxed_slice()),
            blind: true,
        };
        let store = PostgresStore::open_with(options(server.database()), attempt).await;
        (Arc::new(store.unwrap()), server)
    }

    /// The functions that write, without the tenant in their look-ups.
    fn blinded() -> Vec<Migration> {
        let step = |step: &Migration| {
            let mut sql = step.sql.to_owned();
            for alias in ["r", "a", "i"] {
                sql = sql.replace(&format!("{alias}.tenant = p_tenant"), "true");
            }
            Migration {
                sql: Box::leak(sql.into_boxed_str()),
                ..*step
            }
        };
        MIGRATIONS.iter().map(step).collect()
    }

    #[test]
    fn there_is_something_to_take_out() {
        let differ = blinded()
            .iter()
            .zip(MIGRATIONS)
            .any(|(blind, usual)| blind.sql.matches("true").count() > 10 && blind.sql != usual.sql);
        assert!(differ);
    }

    on_every_story!(blind().await);
}

#[tokio::test]
async fn without_a_tenant_nothing_is_there() {
    let server = Server::find();
    let url = server.database();
    let store = open(&url).await;
    let access = tenant(&store).await;
    store
        .create(&access, USER, resource_id(1), user("ann"), written(1))
        .await
        .unwrap();
    let made = AuditNote::new(AuditKind::EndpointCreated, Author::operator(), "");
    let endpoint = receiver(&access.tenant, "whk_1");
    store.create_endpoint(&endpoint, &made).await.unwrap();
    let mut lease = store.connections().unwrap().take().await.unwrap();
    let client = lease.client().unwrap();
    // Whatever the connection was after before.
    client.batch_execute("RESET meridian.tenant").await.unwrap();
    for table in [
        "resource",
        "attribute_index",
        "member",
        "change",
        "idempotency",
        "audit",
        "event_endpoint",
        "event_dead_letter",
    ] {
        let sql = format!("SELECT count(*) FROM {table}");
        let count: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(count, 0, "{table}");
    }
    // Nor can it be written for another tenant.
    client
        .batch_execute("SET meridian.tenant = '4000'")
        .await
        .unwrap();
    let foreign = client
        .batch_execute("INSERT INTO attribute_index VALUES (1, 1, 'a', 'b')")
        .await;
    assert_eq!(
        foreign.unwrap_err().code(),
        Some(&SqlState::INSUFFICIENT_PRIVILEGE)
    );
}

/// Plans that know no values, of a table as large as it takes for the planner to care.
#[tokio::test]
async fn looking_through_keys_reads_their_index_alone() {
    let server = Server::find();
    let store = open(&server.database()).await;
    let mut lease = store.connections().unwrap().take().await.unwrap();
    let client = lease.client().unwrap();
    client.batch_execute("RESET ROLE").await.unwrap();
    let fill = "
        INSERT INTO resource (tenant, position, version, created, modified, kind, active, id,
                              user_name, external_id, display_name, document)
        SELECT t, (t << 41) | (k << 39) | n, n, 0, 0, k, true, gen_random_uuid(),
               CASE k WHEN 0 THEN n || '@x.com' END, n, CASE k WHEN 1 THEN n || ' team' END,
               repeat('x', 900)
          FROM generate_series(1::bigint, 3) t, generate_series(0::bigint, 1) k,
               generate_series(1::bigint, 1500) n;
        INSERT INTO attribute_index (tenant, position, attribute, value)
        SELECT tenant, position, a, user_name
          FROM resource, unnest(ARRAY['emails.value', 'urn:acme:x:badge']) a WHERE kind = 0;";
    client.batch_execute(fill).await.unwrap();
    for table in ["resource", "attribute_index"] {
        let sql = format!("VACUUM ANALYZE {table}");
        client.batch_execute(&sql).await.unwrap();
    }
    let tests = [
        TextTest::StartsWith("a".into()),
        TextTest::Contains("a".into()),
        TextTest::EndsWith("a".into()),
        TextTest::Range {
            from: std::ops::Bound::Excluded("a".into()),
            to: std::ops::Bound::Included("b".into()),
        },
    ];
    for (index, name) in [
        (TextIndex::UserName, "resource_user_name"),
        (TextIndex::ExternalId, "resource_external_id"),
        (TextIndex::DisplayName, "resource_display_name"),
        (
            TextIndex::Attribute("emails.value".into()),
            "attribute_index_pkey",
        ),
    ] {
        for test in &tests {
            let narrowing = Narrowing::Text(index.clone(), test.clone());
            let (sql, parameters) = candidates::one_look_up(&narrowing);
            let texts = ", text".repeat(parameters - 6);
            let nulls = vec!["NULL"; parameters].join(", ");
            let prepare = format!(
                "DEALLOCATE ALL; PREPARE p (bigint, text, bigint, bigint, bigint, bigint{texts}) AS {sql}"
            );
            client.batch_execute(&prepare).await.unwrap();
            let explain = format!("EXPLAIN EXECUTE p ({nulls})");
            let plan = client.simple_query(&explain).await.unwrap();
            let lines = plan.iter().filter_map(|line| match line {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            let plan = lines.collect::<Vec<_>>().join("\n");
            let expected = format!("Index Only Scan using {name}");
            assert!(plan.contains(&expected), "{narrowing:?}\n{plan}");
        }
    }
}

/// A plan is kept when its table has grown, so none may be made for small tables: PostgreSQL itself
/// counts how often it has read one from end to end.
#[tokio::test]
async fn no_table_is_read_from_end_to_end() {
    use crate::store::story;
    let server = Server::find();
    let url = server.database();
    drop(open(&url).await);
    // Making the indexes has read each table once for each.
    let made = scans(&url, |scans| scans.from_end_to_end > 0).await;

    let store: Arc<dyn Store> = Arc::new(open(&url).await);
    story::resources_are_created_read_replaced_and_deleted(store.clone()).await;
    story::one_tenant_never_sees_another(store.clone()).await;
    story::pages_walk_the_list(store.clone()).await;
    story::members_change_by_deltas(store.clone()).await;
    story::candidates_come_in_list_order(store.clone()).await;
    story::text_look_ups_find_what_they_say(store.clone()).await;
    story::every_change_is_told_in_order(store.clone()).await;
    story::a_request_is_carried_out_once(store.clone()).await;
    story::old_changes_and_outcomes_are_forgotten(store.clone()).await;
    story::a_tenant_is_erased_with_all_it_owns(store.clone()).await;
    drop(store);
    let used = scans(&url, |scans| scans.by_index > 0).await;
    for (made, used) in made.iter().zip(&used) {
        let more = used.from_end_to_end - made.from_end_to_end;
        assert_eq!((more, &used.table), (0, &made.table));
    }
}

/// Nor is a tenant's part of an index read through where one key is looked for: row-level security
/// keeps some comparisons out of the look-up.
#[tokio::test]
async fn a_write_reads_a_handful_of_index_rows_however_many_there_are() {
    const USERS: u32 = 1500;
    let server = Server::find();
    let url = server.database();
    let store = PostgresStore::open(PostgresOptions {
        write_queue: 10_000,
        ..options(url.clone())
    });
    let store = store.await.unwrap();
    let access = tenant(&store).await;
    let content = |number: u32, mail: &str| {
        let mut content = user(&format!("u{number}"));
        let email = ("emails.value".into(), format!("u{number}@{mail}"));
        content.keys.attributes.push(email);
        content.keys.user_name_look_alike = Some(format!("like u{number}"));
        content
    };
    let create = |number| {
        let content = content(number, "a");
        store.create(&access, USER, resource_id(number), content, written(1))
    };
    let created = join_all((0..USERS).map(create)).await;
    let change = |(number, created): (u32, &Result<Stored, StoreError>)| {
        let version = created.as_ref().unwrap().version;
        let (id, content) = (resource_id(number), content(number, "b"));
        store.replace(&access, USER, id, version, content, written(2))
    };
    for changed in join_all((0..).zip(&created).map(change)).await {
        changed.unwrap();
    }
    let delete = |number| store.delete(&access, USER, resource_id(number), None, written(3));
    for deleted in join_all((0..USERS).map(delete)).await {
        deleted.unwrap();
    }
    drop(store);
    let looked_up = ["resource", "attribute_index"];
    let told = |scans: &Scans| {
        !looked_up.contains(&scans.table.as_str()) || scans.by_index >= i64::from(USERS)
    };
    scans(&url, told).await;
    let store = open(&url).await;
    let mut lease = store.connections().unwrap().take().await.unwrap();
    let sql = "SELECT indexrelname, idx_scan, idx_tup_read FROM pg_stat_user_indexes
                WHERE relname IN ('resource', 'attribute_index')";
    for row in lease.client().unwrap().query(sql, &[]).await.unwrap() {
        let (index, scans, rows): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        // Versions that are not swept away yet are read too.
        assert!(
            rows <= 20 * scans.max(1),
            "{index}: {rows} rows in {scans} scans"
        );
    }
}

struct Scans {
    table: String,
    from_end_to_end: i64,
    by_index: i64,
}

/// How the tables were read, once all of them tell what is waited for: a connection tells what it
/// has counted when it ends.
async fn scans(url: &Secret, told: impl Fn(&Scans) -> bool) -> Vec<Scans> {
    let store = open(url).await;
    let mut lease = store.connections().unwrap().take().await.unwrap();
    let client = lease.client().unwrap();
    let sql = "SELECT relname, coalesce(seq_scan, 0), coalesce(idx_scan, 0)
                 FROM pg_stat_user_tables
                WHERE relname IN ('resource', 'attribute_index', 'member', 'change',
                                  'idempotency', 'head')
                ORDER BY relname";
    loop {
        let rows = client.query(sql, &[]).await.unwrap();
        let scans = rows.iter().map(|row| Scans {
            table: row.get(0),
            from_end_to_end: row.get(1),
            by_index: row.get(2),
        });
        let scans: Vec<Scans> = scans.collect();
        if scans.iter().all(&told) {
            return scans;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_nodes_share_a_database() {
    let server = Server::find();
    let url = server.database();
    // Both start at once on a database that is not there yet.
    let nodes = join_all([open(&url), open(&url)]).await;
    let nodes: Vec<Arc<PostgresStore>> = nodes.into_iter().map(Arc::new).collect();
    let mut tenants = Vec::new();
    for _ in 0..3 {
        tenants.push(tenant(&*nodes[0]).await);
    }
    // All tenants on both nodes at once, in different orders: nobody waits for ever.
    let mut writes = Vec::new();
    for number in 0..300_u32 {
        let node = Arc::clone(&nodes[number as usize % 2]);
        let access = tenants[number as usize * 7 % 3].clone();
        let name = format!("u{number}");
        writes.push(tokio::spawn(async move {
            let content = user(&name);
            let id = resource_id(number);
            node.create(&access, USER, id, content, written(1)).await
        }));
    }
    for write in writes {
        write.await.unwrap().unwrap();
    }
    for access in &tenants {
        for node in &nodes {
            let head = node.head(access).await.unwrap();
            assert_eq!((head.seq, head.users), (100, 100));
            let changes = node.changes(&access.tenant, 0, 1000).await.unwrap();
            let seqs: Vec<i64> = changes.iter().map(|change| change.seq).collect();
            assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
        }
    }
    // What one revokes, the other one refuses.
    nodes[0]
        .set_tenant_state(
            &tenants[0].tenant,
            TenantState::Suspended,
            &Author::operator(),
            at(0),
        )
        .await
        .unwrap();
    let refused = nodes[1]
        .create(
            &tenants[0],
            USER,
            resource_id(1000),
            user("late"),
            written(2),
        )
        .await;
    assert!(matches!(refused, Err(StoreError::Refused)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_away_is_waited_for() {
    let mut server = Postgres::start();
    let url = Secret::new(&server.url().replace("/postgres", "/late"));
    server.stop_orderly();
    let store = open(&url).await;
    let nobody = TenantId::generate().unwrap();
    assert!(matches!(
        store.get_tenant(&nobody).await,
        Err(StoreError::Unavailable(_))
    ));
    assert!(store.check().await.is_err());
    server.start_again();
    while store.check().await.is_err() {
        tokio::task::yield_now().await;
    }
    let access = tenant(&store).await;
    store
        .create(&access, USER, resource_id(1), user("ann"), written(1))
        .await
        .unwrap();

    // And again when it goes away later.
    server.stop_immediately();
    let lost = store
        .create(&access, USER, resource_id(2), user("bob"), written(1))
        .await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    assert!(matches!(
        store.get(&access, USER, resource_id(1)).await,
        Err(StoreError::Unavailable(_))
    ));
    server.start_again();
    while store.check().await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.head(&access).await.unwrap().users, 1);
    while store
        .create(&access, USER, resource_id(3), user("eve"), written(1))
        .await
        .is_err()
    {}
    assert_eq!(store.head(&access).await.unwrap().users, 2);
}

/// A write that PostgreSQL cannot do fails alone, and its neighbours in the transaction stand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_takes_back_only_itself() {
    let server = Server::find();
    let store = open(&server.database()).await;
    let access = tenant(&store).await;
    let number = store.held_number(&access).await.unwrap();
    let call = |id: u32, name: &str, document: &str| {
        let mut content = user(name);
        content.document = document.to_owned();
        let id = resource_id(id);
        resources::create(&access, number, USER, id, &content, &written(1)).unwrap()
    };
    // A NUL is no text for PostgreSQL, and Rust lets none through to here.
    let mut broken = call(2, "bob", "{}");
    broken.parameters[6] = Box::new(Some(b"12345678".to_vec()));
    broken.parameters[5] = Box::new(Some(b"key".to_vec()));
    broken.parameters[4] = Box::new(None::<i16>);
    let calls = [call(1, "ann", "{}"), broken, call(3, "eve", "{}")];
    let writer = &store.ready().unwrap().writer;
    let answers = join_all(calls.into_iter().map(|call| writer.write(call))).await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert!(
        matches!(answers[1], Err(StoreError::Corrupt(_))),
        "{answers:?}"
    );
    let head = store.head(&access).await.unwrap();
    assert_eq!((head.seq, head.users), (2, 2));
}

#[tokio::test]
async fn keys_may_be_longer_than_an_index_entry() {
    let server = Server::find();
    let store = open(&server.database()).await;
    let access = tenant(&store).await;
    // Random, because PostgreSQL would compress what repeats.
    let long = |seed: u8| -> String {
        let mut text = String::new();
        let mut state = u32::from(seed);
        while text.len() < 4000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push_str(&format!("{state:08x}"));
        }
        text
    };
    let shared = long(1);
    let names = [format!("{shared}a"), format!("{shared}b"), long(2)];
    for (number, name) in (0..).zip(&names) {
        let mut content = user(name);
        content
            .keys
            .attributes
            .push(("emails.value".into(), name.clone()));
        content.keys.external_id = Some(name.clone());
        store
            .create(&access, USER, resource_id(number), content, written(1))
            .await
            .unwrap();
    }
    let taken = store
        .create(&access, USER, resource_id(9), user(&names[0]), written(1))
        .await;
    assert!(matches!(
        taken,
        Err(StoreError::Taken {
            attribute: "userName"
        })
    ));
    let found = |test: TextTest| {
        let narrowing = Narrowing::Text(TextIndex::UserName, test);
        let (store, access) = (&store, &access);
        async move {
            let found = store
                .candidates(access, USER, &narrowing, None, 10)
                .await
                .unwrap();
            found.resources.len()
        }
    };
    assert_eq!(found(TextTest::Is(names[0].clone())).await, 1);
    assert_eq!(found(TextTest::StartsWith(shared.clone())).await, 2);
    assert_eq!(
        found(TextTest::StartsWith(shared.chars().take(500).collect())).await,
        2
    );
    // A superset: what was cut may hold anything.
    assert_eq!(
        found(TextTest::Contains(shared.chars().skip(2000).collect())).await,
        3
    );
    assert_eq!(found(TextTest::EndsWith("a".into())).await, 3);
}

#[tokio::test]
async fn an_older_program_serves_beside_an_expanded_schema_and_not_a_contracted_one() {
    let server = Server::find();
    let url = server.database();
    let older = open(&url).await;
    let access = tenant(&older).await;
    let expanded = Migration {
        version: 1000,
        name: "expanded",
        serves_since: 2,
        sql: "ALTER TABLE resource ADD COLUMN later text",
    };
    let contracted = Migration {
        version: 1001,
        name: "contracted",
        serves_since: 1001,
        sql: "ALTER TABLE resource DROP COLUMN later",
    };
    let steps = |more: Vec<Migration>| -> Attempt {
        let usual = MIGRATIONS.iter().map(|step| Migration { ..*step });
        Attempt {
            steps: Box::leak(usual.chain(more).collect::<Vec<_>>().into_boxed_slice()),
            blind: false,
        }
    };
    let again = |step: &Migration| Migration { ..*step };
    let newer = PostgresStore::open_with(options(url.clone()), steps(vec![again(&expanded)]));
    let newer = newer.await.unwrap();
    for (store, number) in [(&older, 1), (&newer, 2), (&open(&url).await, 3)] {
        let name = format!("u{number}");
        store
            .create(&access, USER, resource_id(number), user(&name), written(1))
            .await
            .unwrap();
        let page = store.page(&access, USER, PageStart::Offset(0), 10).await;
        assert_eq!(page.unwrap().total, i64::from(number));
    }
    PostgresStore::open_with(options(url.clone()), steps(vec![expanded, contracted]))
        .await
        .unwrap();
    let refused = PostgresStore::open(options(url)).await.err().unwrap();
    assert!(
        matches!(
            refused,
            OpenError::Migration(MigrationError::Newer { database: 1001, .. })
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_refused_in_a_sentence() {
    for (url, word) in [
        ("", "postgres://"),
        ("nonsense", "postgres://"),
        ("postgres://a@localhost", "database"),
    ] {
        let opened = PostgresStore::open(options(Secret::new(url))).await;
        let sentence = opened.err().unwrap().to_string();
        assert!(sentence.contains(word), "{url}: {sentence}");
    }
    let server = Postgres::start();
    let stranger = server.url().replace("meridian@", "stranger@");
    let refused = PostgresStore::open(options(Secret::new(&stranger))).await;
    assert!(matches!(refused.err(), Some(OpenError::Refused(_))));
}

#[tokio::test]
async fn tls_is_spoken_with_whom_the_certificate_names() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server = Postgres::start_with(
        &["ssl=on"],
        &[("server.crt", &certificate), ("server.key", &key)],
    );
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, &certificate).unwrap();
    let open = |host: &str, ca_file: Option<&PathBuf>| {
        let url = server.url().replace("127.0.0.1", host);
        PostgresStore::open(PostgresOptions {
            ca_file: ca_file.cloned(),
            ..options(Secret::new(&format!("{url}?sslmode=require")))
        })
    };
    let store = open("localhost", Some(&ca_file)).await.unwrap();
    store.check().await.unwrap();
    let mut lease = store.connections().unwrap().take().await.unwrap();
    let client = lease.client().unwrap();
    // The serving role may not see how anybody is connected.
    client.batch_execute("RESET ROLE").await.unwrap();
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let is_encrypted: bool = client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(is_encrypted);

    // A certificate for another name, and one that nobody known has signed, are no PostgreSQL of
    // ours: the node waits for the right one.
    for (host, ca_file) in [("127.0.0.1", Some(&ca_file)), ("localhost", None)] {
        match open(host, ca_file).await {
            Ok(store) => assert!(matches!(
                store.check().await,
                Err(StoreError::Unavailable(_))
            )),
            Err(error) => assert!(matches!(error, OpenError::Tls(TlsError::NoAuthorities))),
        }
    }
    let nonsense = folder.path().join("nonsense.pem");
    std::fs::write(&nonsense, "no certificate").unwrap();
    let refused = open("localhost", Some(&nonsense)).await.err().unwrap();
    assert!(matches!(refused, OpenError::Tls(TlsError::Authorities(_))));
}

/// A restore on one node is everybody's: the others learn the tenant's new number, and one that
/// starts meanwhile takes nothing of what is coming in for something that a dead node left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_on_one_node_is_everybodys() {
    let server = Server::find();
    let url = server.database();
    let (one, other) = (Arc::new(open(&url).await), open(&url).await);
    let before = tenant(&*one).await;
    let creates = (0..260).map(|number| {
        let content = user(&format!("u{number}"));
        one.create(&before, USER, resource_id(number), content, written(1))
    });
    for created in join_all(creates).await {
        created.unwrap();
    }
    let known = other.get(&before, USER, resource_id(7)).await.unwrap();
    assert!(known.is_some(), "under the number of before");

    let (sender, mut rows) = mpsc::channel(1000);
    one.backup(sender).await.unwrap();
    let (steps, received) = mpsc::channel(1);
    let how = RestoreHow {
        replace: true,
        revoke_tokens: false,
        version_jump: 10,
        now: Timestamp(9),
    };
    let node = Arc::clone(&one);
    let restoring = tokio::spawn(async move { node.restore(received, how).await });
    let mut counts = Counts::default();
    while let Some(row) = rows.recv().await {
        counts.note(&row);
        steps.send(RestoreStep::Row(row)).await.unwrap();
    }
    let staged = async || {
        let sql = "SELECT t.tenant FROM tenant t WHERE t.state = 'restoring'";
        one.connections()
            .unwrap()
            .query(sql, &[])
            .await
            .unwrap()
            .len()
    };
    while staged().await == 0 {
        tokio::task::yield_now().await;
    }
    let third = open(&url).await;
    assert_eq!(staged().await, 1);
    let second = third.restore(mpsc::channel(1).1, how).await;
    assert!(matches!(second, Err(RestoreError::Busy)), "{second:?}");
    steps.send(RestoreStep::End(counts)).await.unwrap();
    assert_eq!(restoring.await.unwrap().unwrap().counts.users, 260);

    let restored = one.get_tenant(&before.tenant).await.unwrap().unwrap();
    let access = Access {
        tenant: restored.id,
        credential_version: restored.credential_version,
    };
    for (number, node) in [(1000, &*one), (1001, &other), (1002, &third)] {
        let refused = node.get(&before, USER, resource_id(7)).await;
        assert!(matches!(refused, Err(StoreError::Refused)));
        assert!(
            node.get(&access, USER, resource_id(7))
                .await
                .unwrap()
                .is_some()
        );
        let content = user(&format!("after{number}"));
        let id = resource_id(number);
        node.create(&access, USER, id, content, written(2))
            .await
            .unwrap();
    }
    assert_eq!(third.head(&access).await.unwrap().users, 263);
}
