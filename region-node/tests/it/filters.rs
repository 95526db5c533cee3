//! Filters, proved by comparison: random schemas, resources and filters. For each filter four
//! answers must be one: that of a plain reading of the filter (written here, by recursion, in
//! the words of RFC 7644 section 3.4.2.2), that of the evaluator over all resources, and that of
//! the provider on each engine, with its indexes, pages, cursors and order.
//!
//! `MERIDIAN_TEST_FILTER_CASES` says how many filters are tried, `MERIDIAN_TEST_FILTER_SEED`
//! where the randomness begins. What fails is made as small as it can be and printed with the
//! seed of its tenant.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use region_node::provider::cursor::CursorSealer;
use region_node::provider::noted::{Facts, Noted};
use region_node::provider::resources::Resources;
use region_node::provider::settings::{Profile, Profiles};
use region_node::provider::{Caller, ProviderError, View};
use region_node::scim::filter::Filter;
use region_node::scim::list::ListRequest;
use region_node::scim::schema::{Attribute, AttributeType};
use region_node::scim::sort::Sort;
use region_node::scim::{ResourceId, ResourceKind, datetime, text};
use region_node::store::narrowing::own_index;
use region_node::store::postgres::{PostgresOptions, PostgresStore};
use region_node::store::sqlite::{SqliteOptions, SqliteStore};
use region_node::store::{Access, Author, Store, TenantExtension, TenantSettings};
use serde_json::{Map, Value, json};
use shared::{Secret, TenantId, TestClock, Timestamp, TokenId};

use server::Postgres;

#[expect(
    dead_code,
    clippy::print_stderr,
    reason = "the whole-system tests use more of it; it tells what the server said when a test fails"
)]
#[path = "../../../tests/it/support/postgres.rs"]
mod server;

const BASE: &str = "https://global-us.example.com/api/v1/scim";
/// Filters for each tenant: its resources are dearer than a filter.
const FILTERS_OF_TENANT: u32 = 250;

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn index_and_evaluator_find_the_same() {
    let cases = setting("MERIDIAN_TEST_FILTER_CASES", 2000);
    let first_seed = setting("MERIDIAN_TEST_FILTER_SEED", 1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (url, _server) = postgres();
    let engines = runtime.block_on(engines(&folder, url));
    let mut found = 0;
    for number in 0..cases.div_ceil(FILTERS_OF_TENANT) {
        let seed = first_seed + number;
        let worlds: Vec<World> = engines
            .iter()
            .map(|(name, store)| runtime.block_on(World::make(name, Arc::clone(store), seed)))
            .collect();
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&seed.to_be_bytes());
        let config = Config {
            cases: FILTERS_OF_TENANT.min(cases - number * FILTERS_OF_TENANT),
            failure_persistence: None,
            max_shrink_iters: 0,
            ..Config::default()
        };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let matches = std::cell::Cell::new(0);
        let outcome = runner.run(&question(), |question| {
            let counts = runtime.block_on(ask_everywhere(&worlds, &question))?;
            matches.set(matches.get() + counts);
            Ok(())
        });
        found += matches.get();
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(reason, question)) => {
                let fails = |question: &Question| {
                    let outcome = runtime.block_on(ask_everywhere(&worlds, question));
                    outcome.err().map(|error| error.to_string())
                };
                let reason = smallest(question, &fails).unwrap_or_else(|| reason.to_string());
                panic!("MERIDIAN_TEST_FILTER_SEED={seed}: {reason}");
            }
            Err(TestError::Abort(reason)) => panic!("{reason}"),
        }
    }
    // Filters that never find anything would prove nothing.
    assert!(
        found > cases as usize,
        "{found} resources found by {cases} filters"
    );
}

/// A server for the test: the one that `MERIDIAN_TEST_POSTGRES` names, or one of its own.
fn postgres() -> (Secret, Option<Postgres>) {
    let own = std::env::var("MERIDIAN_TEST_POSTGRES")
        .is_err()
        .then(Postgres::start);
    let url = own.as_ref().map_or_else(
        || std::env::var("MERIDIAN_TEST_POSTGRES").unwrap(),
        Postgres::url,
    );
    let (server, _) = url.rsplit_once('/').unwrap();
    let url = Secret::new(&format!("{server}/filters_{}", std::process::id()));
    (url, own)
}

/// Every engine that there is.
async fn engines(
    folder: &tempfile::TempDir,
    postgres: Secret,
) -> Vec<(&'static str, Arc<dyn Store>)> {
    let path = folder.path().join("us").join("meridian.db");
    let sqlite = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let options = PostgresOptions {
        ca_file: None,
        url: postgres,
        connections: 4,
        writers: 2,
        write_queue: 1000,
        statement: Duration::from_secs(30),
    };
    let postgres = PostgresStore::open(options).await.unwrap();
    vec![
        ("SQLite", Arc::new(sqlite)),
        ("PostgreSQL", Arc::new(postgres)),
    ]
}

// ---- a tenant ------------------------------------------------------------------------------

/// Numbers that follow from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let end = u64::try_from(end).unwrap();
        usize::try_from((z ^ (z >> 31)) % end).unwrap()
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// Mostly short texts of few letters, so that they meet; sometimes what folding, collations,
    /// quoting and patterns stumble over.
    fn text(&mut self) -> String {
        match self.below(10) {
            0..6 => (0..=self.below(3))
                .map(|_| self.one(&["a", "b", "A", "B"]))
                .collect(),
            6 => format!("{}@{}.com", self.text(), self.one(&["x", "X", "example"])),
            7 if self.percent(20) => {
                // As long as keys must be for an engine to keep them in another form.
                "a".repeat(950 + self.below(90)) + self.one(&["", "b", "B", "é"])
            }
            7 => self.text() + self.one(&[" ", ".", "-", "%"]) + &self.text(),
            _ => self.one(&ODD).to_owned(),
        }
    }

    fn value(&mut self, attribute: &Attribute) -> Value {
        match attribute.kind {
            AttributeType::String => self.text().into(),
            AttributeType::Reference => format!("https://x.com/{}", self.text()).into(),
            AttributeType::Boolean => self.percent(50).into(),
            AttributeType::Integer => [0, 1, -1, 10, i64::MAX][self.below(5)].into(),
            AttributeType::Decimal => [0.0, -0.0, 0.5, 1.0, 1e300][self.below(5)].into(),
            AttributeType::DateTime => self.one(&MOMENTS).into(),
            AttributeType::Binary => self.one(&["YQ==", "YWI=", "yq=="]).into(),
            AttributeType::Complex => {
                let mut object = Map::new();
                for sub_attribute in &attribute.sub_attributes {
                    if self.percent(60) {
                        object.insert(sub_attribute.name.clone(), self.value(sub_attribute));
                    }
                }
                object.into()
            }
        }
    }

    fn values(&mut self, attribute: &Attribute) -> Value {
        if !attribute.multi_valued {
            return self.value(attribute);
        }
        let length = self.below(4);
        (0..length).map(|_| self.value(attribute)).collect()
    }

    fn extension(&mut self, kind: ResourceKind, number: usize) -> TenantExtension {
        let types = [
            "string",
            "string",
            "string",
            "boolean",
            "integer",
            "decimal",
            "dateTime",
            "reference",
            "binary",
            "complex",
        ];
        let simple = types.len() - 1;
        let mut attributes = Vec::new();
        let mut indexed = Vec::new();
        let names: &[&str] = &[
            "badge",
            "floor",
            "tags",
            "since",
            "emails",
            "userName",
            "displayName",
            "title2",
            "x-1",
            "y_2",
        ];
        let length = 1 + self.below(names.len());
        for name in names.iter().take(length) {
            let kind = types[self.below(types.len())];
            let multi_valued = self.percent(40);
            let mut attribute = json!({
                "name": name, "type": kind, "multiValued": multi_valued, "caseExact": self.percent(40),
            });
            if kind == "complex" {
                let parts = ["value", "type", "n"].map(|part| {
                    json!({"name": part, "type": types[self.below(simple)], "caseExact": self.percent(40)})
                });
                attribute["subAttributes"] = parts.into_iter().collect();
            }
            if matches!(kind, "string" | "reference") && indexed.len() < 5 && self.percent(70) {
                indexed.push((*name).to_owned());
            }
            attributes.push(attribute);
        }
        TenantExtension {
            resource_type: kind,
            schema: json!({"id": format!("urn:acme:{}:{number}:1.0", kind.name()), "attributes": attributes}),
            indexed,
        }
    }
}

const MOMENTS: [&str; 5] = [
    "2020-01-01T00:00:00Z",
    "2020-01-01T01:00:00+01:00",
    "2020-01-01T00:00:00.001Z",
    "2023-11-14T22:13:20Z",
    "2030-06-01",
];

const ODD: [&str; 40] = [
    "é",
    "e\u{301}",
    "É",
    "ß",
    "SS",
    "ss",
    "ſ",
    "K",
    "\u{212A}",
    "ﬁ",
    "İ",
    "i\u{307}",
    "ς",
    "Σ",
    "ǅ",
    "\u{345}",
    "ᾳ",
    "αι",
    "가",
    "\u{1100}\u{1161}",
    "\u{1F600}",
    "\u{E000}",
    "\u{D7FF}",
    "\u{10FFFF}",
    "%",
    "_",
    "\\",
    "\"",
    "'",
    "a\"b",
    "]",
    ")",
    "(",
    "and",
    "null",
    "true",
    "1",
    "01",
    " a",
    "a\tb",
];

/// A tenant on one engine, and what of its resources a client sees.
struct World {
    engine: &'static str,
    resources: Resources,
    access: Access,
    noted: Noted,
    profile: Arc<Profile>,
    users: Listed,
    groups: Listed,
}

/// All resources of a kind.
struct Listed {
    kind: ResourceKind,
    trees: Vec<Map<String, Value>>,
    /// Where each stands in the list.
    places: HashMap<String, usize>,
    names: Names,
}

impl World {
    /// The same seed makes the same tenant on each engine, but for its ids.
    async fn make(engine: &'static str, store: Arc<dyn Store>, seed: u32) -> Self {
        let mut dice = Dice(seed.into());
        let clock = TestClock::at(Timestamp(1_700_000_000_000));
        let tenant = TenantId::generate().unwrap();
        let settings = TenantSettings::default();
        store
            .create_tenant(&tenant, "Acme", &settings, Timestamp(0))
            .await
            .unwrap();
        let resources = Resources::new(
            Arc::clone(&store),
            Arc::new(Profiles::new()),
            Arc::new(clock.clone()),
            CursorSealer::new([b"cursor".as_slice()]),
            region_node::events::Bell::new(),
        );
        let access = || async {
            let tenant = store.get_tenant(&tenant).await.unwrap().unwrap();
            Access {
                tenant: tenant.id,
                credential_version: tenant.credential_version,
            }
        };
        for (kind, most) in [(ResourceKind::User, 3), (ResourceKind::Group, 2)] {
            for number in 0..dice.below(most) {
                let extension = dice.extension(kind, number);
                // Names that are taken are refused.
                let _ = resources
                    .create_extension(&access().await, &Author::operator(), extension)
                    .await;
            }
        }
        let access = access().await;
        let mut world = Self {
            engine,
            profile: resources.held_profile(&access).await.unwrap(),
            resources,
            noted: Noted::begin(
                access.tenant.clone(),
                TokenId::generate().unwrap(),
                Facts::default(),
            ),
            access,
            users: Listed::new(ResourceKind::User),
            groups: Listed::new(ResourceKind::Group),
        };
        let mut ids = Vec::new();
        for _ in 0..20 + dice.below(20) {
            clock.advance(Duration::from_millis(1 + dice.below(2000) as u64));
            ids.extend(world.write(&mut dice, ResourceKind::User, None, &[]).await);
        }
        let mut groups = Vec::new();
        for _ in 0..3 + dice.below(6) {
            clock.advance(Duration::from_millis(1 + dice.below(2000) as u64));
            let members = ids.clone();
            let group = world
                .write(&mut dice, ResourceKind::Group, None, &members)
                .await;
            ids.extend(group);
            groups.extend(group);
        }
        // Some are others by now, and some are gone.
        for id in &ids {
            let kind = if groups.contains(id) {
                ResourceKind::Group
            } else {
                ResourceKind::User
            };
            if dice.percent(25) {
                clock.advance(Duration::from_millis(1));
                world.write(&mut dice, kind, Some(*id), &ids).await;
            }
            if dice.percent(8) {
                world
                    .resources
                    .delete(world.caller(), kind, *id, None)
                    .await
                    .unwrap();
            }
        }
        for kind in [ResourceKind::User, ResourceKind::Group] {
            let whole = ListRequest {
                count: 1000,
                ..ListRequest::default()
            };
            let (_, trees) = world.query(kind, &whole).await.unwrap();
            let listed = Listed::of(&world.profile, kind, trees);
            match kind {
                ResourceKind::User => world.users = listed,
                ResourceKind::Group => world.groups = listed,
            }
        }
        world
    }

    fn caller(&self) -> Caller<'_> {
        Caller {
            access: &self.access,
            request: None,
            noted: &self.noted,
            request_id: "",
        }
    }

    fn listed(&self, kind: ResourceKind) -> &Listed {
        match kind {
            ResourceKind::User => &self.users,
            ResourceKind::Group => &self.groups,
        }
    }

    /// Creates or replaces a resource. One that is refused (a name that is taken) is none.
    async fn write(
        &self,
        dice: &mut Dice,
        kind: ResourceKind,
        id: Option<ResourceId>,
        others: &[ResourceId],
    ) -> Option<ResourceId> {
        let schema = self.profile.schema(kind);
        let mut body = Map::new();
        for attribute in schema.common.iter().chain(&schema.core.attributes) {
            // Names are taken quickly, so they are longer.
            if attribute.required {
                body.insert(attribute.name.clone(), (dice.text() + &dice.text()).into());
            } else if dice.percent(35) {
                body.insert(attribute.name.clone(), dice.values(attribute));
            }
        }
        if dice.percent(60) && kind == ResourceKind::User {
            let emails = schema.core.attribute("emails").unwrap();
            body.insert("emails".into(), dice.values(emails));
        }
        for extension in &schema.extensions {
            let mut values = Map::new();
            for attribute in &extension.attributes {
                if dice.percent(60) {
                    values.insert(attribute.name.clone(), dice.values(attribute));
                }
            }
            body.insert(extension.urn.clone(), values.into());
        }
        body.shift_remove("members");
        if kind == ResourceKind::Group && !others.is_empty() {
            let members = (0..dice.below(8)).map(|_| others[dice.below(others.len())]);
            let members = members.filter(|member| Some(*member) != id);
            let members = members.map(|id| json!({"value": id.to_string()}));
            body.insert("members".into(), members.collect());
        }
        let view = View {
            base_url: BASE,
            ..View::default()
        };
        let caller = self.caller();
        let shown = match id {
            None => self.resources.create(caller, kind, body, view).await,
            Some(id) => {
                self.resources
                    .replace(caller, kind, id, None, body, view)
                    .await
            }
        };
        match shown {
            Ok(shown) => {
                let shown: Value = serde_json::from_str(&shown.body).unwrap();
                Some(ResourceId::parse(shown["id"].as_str().unwrap()).unwrap())
            }
            Err(ProviderError::Scim(error)) if error.status == 400 => None,
            Err(ProviderError::Store(region_node::store::StoreError::Taken { .. })) => None,
            Err(error) => panic!("{}: {error:?}", self.engine),
        }
    }

    /// `totalResults` and the page.
    async fn query(
        &self,
        kind: ResourceKind,
        request: &ListRequest,
    ) -> Result<(usize, Vec<Map<String, Value>>), ProviderError> {
        let answer = self.list(kind, request).await?;
        Ok(read_page(&answer))
    }

    async fn list(
        &self,
        kind: ResourceKind,
        request: &ListRequest,
    ) -> Result<Value, ProviderError> {
        let answer = self
            .resources
            .query(self.caller(), &[kind], BASE, request)
            .await?;
        Ok(serde_json::from_str(&answer).unwrap())
    }

    /// What the provider finds, by its places in the list.
    async fn find(
        &self,
        kind: ResourceKind,
        filter: &str,
        way: Way,
        sort: Option<(&str, bool)>,
    ) -> Result<Vec<usize>, ProviderError> {
        let mut request = ListRequest {
            filter: Some(filter.to_owned()),
            count: if way == Way::Whole { 1000 } else { 3 },
            attributes: Some("id".into()),
            cursor: (way == Way::Cursors).then(String::new),
            sort_by: sort.map(|(by, _)| by.to_owned()),
            sort_order: sort
                .map(|(_, down)| if down { "descending" } else { "ascending" }.to_owned()),
            ..ListRequest::default()
        };
        let mut found = Vec::new();
        loop {
            let answer = self.list(kind, &request).await?;
            let (total, page) = read_page(&answer);
            let of_page = page.len();
            let places = page
                .iter()
                .map(|tree| self.listed(kind).places[tree["id"].as_str().unwrap()]);
            found.extend(places);
            let goes_on = match way {
                Way::Whole => false,
                Way::Pages => of_page > 0 && found.len() < total,
                Way::Cursors => answer.get("nextCursor").is_some(),
            };
            if !goes_on {
                assert_eq!(total, found.len(), "totalResults of {filter}");
                return Ok(found);
            }
            request.start_index += of_page as u64;
            if way == Way::Cursors {
                request.cursor = Some(answer["nextCursor"].as_str().unwrap().to_owned());
            }
        }
    }
}

fn read_page(answer: &Value) -> (usize, Vec<Map<String, Value>>) {
    let total = answer["totalResults"].as_u64().unwrap();
    let page = answer["Resources"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let page = page.iter().map(|tree| tree.as_object().unwrap().clone());
    (usize::try_from(total).unwrap(), page.collect())
}

/// How the list is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Whole,
    Pages,
    Cursors,
}

/// Something that a filter can name.
#[derive(Clone, Debug)]
struct Path {
    /// As a filter writes it.
    name: String,
    extension: Option<String>,
    attribute: Attribute,
    sub_attribute: Option<Attribute>,
    /// `workEmail`.
    work_only: bool,
    /// Whether an index may serve it.
    is_indexed: bool,
    /// Texts of the values that resources have.
    values: Vec<String>,
}

impl Listed {
    fn new(kind: ResourceKind) -> Self {
        Self {
            kind,
            trees: Vec::new(),
            places: HashMap::new(),
            names: Names::default(),
        }
    }

    fn of(profile: &Profile, kind: ResourceKind, trees: Vec<Map<String, Value>>) -> Self {
        let schema = profile.schema(kind);
        let mut paths = Vec::new();
        let mut add = |prefix: String, extension: Option<&str>, attribute: &Attribute| {
            let mut path = Path {
                name: format!("{prefix}{}", attribute.name),
                extension: extension.map(str::to_owned),
                attribute: attribute.clone(),
                sub_attribute: None,
                work_only: false,
                is_indexed: false,
                values: Vec::new(),
            };
            paths.push(path.clone());
            for sub_attribute in &attribute.sub_attributes {
                path.name = format!("{prefix}{}.{}", attribute.name, sub_attribute.name);
                path.sub_attribute = Some(sub_attribute.clone());
                paths.push(path.clone());
            }
        };
        for attribute in schema.core.attributes.iter().chain(&schema.common) {
            add(String::new(), None, attribute);
        }
        for extension in &schema.extensions {
            for attribute in &extension.attributes {
                add(
                    format!("{}:", extension.urn),
                    Some(&extension.urn),
                    attribute,
                );
                // The bare name, where it names this one.
                let located = schema.locate(&attribute.name).unwrap();
                if located.extension.is_some_and(|it| it.urn == extension.urn) {
                    add(String::new(), Some(&extension.urn), attribute);
                }
            }
        }
        if let Some(emails) = schema.core.attribute("emails") {
            for (name, work_only) in [("email", false), ("workEmail", true)] {
                paths.push(Path {
                    name: name.into(),
                    extension: None,
                    attribute: emails.clone(),
                    sub_attribute: emails.value().cloned(),
                    work_only,
                    is_indexed: true,
                    values: Vec::new(),
                });
            }
        }
        for path in &mut paths {
            let own = path.extension.as_ref().is_some_and(|urn| {
                let name = own_index(urn, &path.attribute.name);
                profile.indexes(kind).own.iter().any(|own| own.name == name)
            });
            let core = INDEXED.iter().chain(&INDEXED_WHOLE);
            path.is_indexed = own || core.into_iter().any(|name| *name == path.name);
            let mut values = Vec::new();
            for value in trees.iter().flat_map(|tree| path.values_in(tree, true)) {
                let value = match value {
                    Value::String(text) => text.clone(),
                    Value::Object(object) => object
                        .get("value")
                        .and_then(Value::as_str)
                        .unwrap_or("a")
                        .to_owned(),
                    other => other.to_string(),
                };
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            path.values = values;
        }
        let place = |(place, tree): (usize, &Map<String, Value>)| {
            (tree["id"].as_str().unwrap().to_owned(), place)
        };
        Self {
            kind,
            places: trees.iter().enumerate().map(place).collect(),
            trees,
            names: Names::of(paths),
        }
    }
}

/// What a filter can name: of a resource, or of an element.
#[derive(Clone, Debug, Default)]
struct Names {
    paths: Vec<Path>,
    /// Which of the paths an index may serve.
    indexed: Vec<usize>,
    /// Multi-valued complex attributes, and what of their elements can be named.
    lists: Vec<(Path, Names)>,
    /// Which of the lists a look-up may serve.
    looked_up: Vec<usize>,
}

impl Names {
    fn of(paths: Vec<Path>) -> Self {
        let is_list = |path: &&Path| {
            let attribute = &path.attribute;
            attribute.multi_valued
                && !attribute.sub_attributes.is_empty()
                && path.sub_attribute.is_none()
        };
        let parts = |list: &Path| {
            let parts = list.attribute.sub_attributes.iter().map(|part| {
                let name = format!("{}.{}", list.name, part.name);
                let whole = paths.iter().find(|path| path.name == name);
                Path {
                    name: part.name.clone(),
                    extension: None,
                    attribute: part.clone(),
                    sub_attribute: None,
                    work_only: false,
                    is_indexed: part.name == "value",
                    values: whole.map(|whole| whole.values.clone()).unwrap_or_default(),
                }
            });
            Self::of(parts.collect())
        };
        let lists = paths.iter().filter(is_list);
        let lists: Vec<_> = lists.map(|list| (list.clone(), parts(list))).collect();
        let which =
            |fits: &dyn Fn(usize) -> bool, end: usize| (0..end).filter(|at| fits(*at)).collect();
        let looked_up = ["emails", "groups", "members"];
        Self {
            indexed: which(&|at| paths[at].is_indexed, paths.len()),
            looked_up: which(
                &|at| looked_up.contains(&lists[at].0.name.as_str()),
                lists.len(),
            ),
            lists,
            paths,
        }
    }

    fn list(&self, index: Index) -> &(Path, Self) {
        // The second half of the numbers is for those that a look-up may serve.
        let number = index.index(2 * self.lists.len());
        let looked_up = || &self.lists[self.looked_up[number % self.looked_up.len()]];
        self.lists.get(number).unwrap_or_else(looked_up)
    }
}

impl Path {
    fn elements_in<'t>(&self, tree: &'t Map<String, Value>) -> &'t [Value] {
        let home = match &self.extension {
            None => Some(tree),
            Some(urn) => tree.get(urn).and_then(Value::as_object),
        };
        match home.and_then(|home| home.get(&self.attribute.name)) {
            None => &[],
            Some(Value::Array(elements)) => elements,
            Some(one) => std::slice::from_ref(one),
        }
    }

    /// The values, or the `value`s of objects.
    fn values_in<'t>(&self, tree: &'t Map<String, Value>, as_value: bool) -> Vec<&'t Value> {
        let elements = self.elements_in(tree).iter();
        let elements = elements.filter(|element| {
            let kind = element.get("type").and_then(Value::as_str);
            !self.work_only || kind.is_some_and(|kind| kind.eq_ignore_ascii_case("work"))
        });
        let value = || self.attribute.value().filter(|_| as_value);
        match self.sub_attribute.as_ref().or_else(value) {
            None => elements.collect(),
            Some(part) => elements
                .filter_map(|element| element.get(&part.name))
                .collect(),
        }
    }

    /// What decides how it is compared. An object stands for its `value`.
    fn compared(&self) -> &Attribute {
        let whole = &self.attribute;
        let part = self.sub_attribute.as_ref().or_else(|| whole.value());
        part.unwrap_or(whole)
    }
}

// ---- a question ----------------------------------------------------------------------------

/// A filter over one kind, and how its list is read. Numbers stand for what the tenant has.
#[derive(Clone, Debug)]
struct Question {
    of_groups: bool,
    filter: Node,
    way: Way,
    sort: Option<(Index, bool)>,
}

impl Question {
    fn kind(&self) -> ResourceKind {
        if self.of_groups {
            ResourceKind::Group
        } else {
            ResourceKind::User
        }
    }
}

#[derive(Clone, Debug)]
enum Node {
    Test(Comparison),
    /// Attribute, filter over its elements, and `.value eq "x"` behind it.
    Elements(Index, Box<Node>, Option<Comparison>),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    /// In parentheses that say nothing.
    Group(Box<Node>),
}

#[derive(Clone, Debug)]
struct Comparison {
    path: Index,
    /// Prefer what is found by an index.
    indexed: bool,
    operator: usize,
    value: Index,
    change: Change,
    quoted: bool,
    shout: bool,
    /// Whether what the attribute's type does not take may come up: then all must refuse it.
    odd: bool,
}

/// What is done to a value of the tenant before it is compared with.
#[derive(Clone, Copy, Debug)]
enum Change {
    None,
    Upper,
    Lower,
    Prefix(Index),
    Suffix(Index),
    Middle(Index, Index),
    Longer(usize),
    Other(usize),
    Empty,
    Null,
}

const OPERATORS: [&str; 10] = ["eq", "sw", "co", "ew", "gt", "ge", "lt", "le", "pr", "ne"];

const INDEXED_WHOLE: [&str; 3] = ["id", "groups.value", "members.value"];
const INDEXED: [&str; 8] = [
    "userName",
    "externalId",
    "displayName",
    "emails.value",
    "email",
    "workEmail",
    "emails",
    "value",
];

fn question() -> impl Strategy<Value = Question> {
    let way = prop_oneof![6 => Just(Way::Whole), 1 => Just(Way::Pages), 1 => Just(Way::Cursors)];
    let sort = prop_oneof![9 => Just(None), 1 => (any::<Index>(), any::<bool>()).prop_map(Some)];
    (prop::bool::weighted(0.25), node(), way, sort).prop_map(|(of_groups, filter, way, sort)| {
        Question {
            of_groups,
            filter,
            way,
            sort,
        }
    })
}

fn node() -> impl Strategy<Value = Node> {
    let boxed = |node: Node| Box::new(node);
    let joined = |leaf: BoxedStrategy<Node>| {
        leaf.prop_recursive(3, 6, 2, move |inner| {
            prop_oneof![
                8 => (inner.clone(), inner.clone()).prop_map(move |(a, b)| Node::And(boxed(a), boxed(b))),
                4 => (inner.clone(), inner.clone()).prop_map(move |(a, b)| Node::Or(boxed(a), boxed(b))),
                1 => inner.clone().prop_map(move |a| Node::Not(boxed(a))),
                1 => inner.prop_map(move |a| Node::Group(boxed(a))),
            ]
        })
    };
    let test = || comparison().prop_map(Node::Test).boxed();
    let behind = prop_oneof![3 => Just(None), 1 => comparison().prop_map(Some)];
    let elements = (any::<Index>(), joined(test()), behind)
        .prop_map(move |(path, inner, behind)| Node::Elements(path, boxed(inner), behind));
    joined(prop_oneof![5 => test(), 1 => elements].boxed())
}

fn comparison() -> impl Strategy<Value = Comparison> {
    let change = prop_oneof![
        4 => Just(Change::None),
        2 => Just(Change::Upper),
        2 => Just(Change::Lower),
        2 => any::<Index>().prop_map(Change::Prefix),
        2 => any::<Index>().prop_map(Change::Suffix),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Change::Middle(a, b)),
        1 => (0..ODD.len()).prop_map(Change::Longer),
        1 => (0..ODD.len()).prop_map(Change::Other),
        1 => Just(Change::Empty),
        1 => Just(Change::Null),
    ];
    (
        any::<Index>(),
        prop::bool::weighted(0.75),
        0..OPERATORS.len(),
        any::<Index>(),
        change,
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.03),
    )
        .prop_map(
            |(path, indexed, operator, value, change, quoted, shout, odd)| Comparison {
                path,
                indexed,
                operator,
                value,
                change,
                quoted,
                shout,
                odd,
            },
        )
}

impl Comparison {
    fn operator(&self, path: &Path) -> &'static str {
        let operators: &[&str] = match path.compared().kind {
            _ if self.odd => &OPERATORS,
            AttributeType::Complex => &["pr"],
            AttributeType::Boolean => &["eq", "ne", "pr"],
            AttributeType::Binary => &["eq", "sw", "co", "ew", "pr", "ne"],
            AttributeType::Integer | AttributeType::Decimal | AttributeType::DateTime => {
                &["eq", "gt", "ge", "lt", "le", "pr", "ne"]
            }
            // One that is looked up by its whole value.
            _ if INDEXED_WHOLE.contains(&path.name.as_str()) && self.operator < 7 => &["eq"],
            _ => &OPERATORS,
        };
        operators[self.operator % operators.len()]
    }

    /// What is compared, among these.
    fn path<'n>(&self, names: &'n Names) -> &'n Path {
        let Names { paths, indexed, .. } = names;
        if self.indexed && !indexed.is_empty() {
            &paths[indexed[self.path.index(indexed.len())]]
        } else {
            &paths[self.path.index(paths.len())]
        }
    }

    /// The literal: its text, and whether it stands in quotes.
    fn literal(&self, path: &Path) -> (String, bool) {
        let is_text = matches!(
            path.compared().kind,
            AttributeType::String | AttributeType::Reference
        );
        let change = match self.change {
            Change::Null if self.odd || matches!(self.operator(path), "eq" | "ne") => Change::Null,
            _ if !self.odd && !is_text => Change::None,
            Change::Null => Change::None,
            change => change,
        };
        let default = match path.compared().kind {
            AttributeType::Integer | AttributeType::Decimal => "1",
            AttributeType::DateTime => "2023-11-14T22:13:20Z",
            AttributeType::Boolean => "true",
            _ => "a",
        };
        let value = path.values.get(self.value.index(path.values.len().max(1)));
        let value = value.map_or(default, String::as_str);
        let characters: Vec<char> = value.chars().collect();
        let cut = |index: Index| index.index(characters.len() + 1);
        let part = |from: usize, to: usize| -> String {
            let taken = characters.iter().skip(from).take(to.saturating_sub(from));
            taken.collect()
        };
        let text = match change {
            Change::None => value.to_owned(),
            Change::Upper => value.to_uppercase(),
            Change::Lower => value.to_lowercase(),
            Change::Prefix(to) => part(0, cut(to)),
            Change::Suffix(from) => part(cut(from), characters.len()),
            Change::Middle(a, b) => part(cut(a).min(cut(b)), cut(a).max(cut(b))),
            Change::Longer(odd) => format!("{value}{}", ODD[odd]),
            Change::Other(odd) => ODD[odd].to_owned(),
            Change::Empty => String::new(),
            Change::Null => return ("null".to_owned(), false),
        };
        let bare = !text.is_empty()
            && !text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | ')' | ']'));
        (text, self.quoted || !bare)
    }

    fn write(&self, name: &str, path: &Path, to: &mut String) {
        let operator = self.operator(path);
        if self.shout {
            let _ = write!(
                to,
                "{} {}",
                name.to_ascii_uppercase(),
                operator.to_ascii_uppercase()
            );
        } else {
            let _ = write!(to, "{name} {operator}");
        }
        if operator != "pr" {
            let (text, quoted) = self.literal(path);
            let text = if quoted {
                Value::from(text).to_string()
            } else {
                text
            };
            let _ = write!(to, " {text}");
        }
    }

    /// Whether one of the values fits.
    fn fits(&self, path: &Path, values: &[&Value]) -> bool {
        let is_present = |value: &&Value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(object) => !object.is_empty(),
            Value::Bool(_) | Value::Number(_) => true,
        };
        let operator = self.operator(path);
        let (literal, quoted) = self.literal(path);
        let is_null = !quoted && literal == "null";
        match operator {
            "pr" => return values.iter().any(is_present),
            "eq" if is_null => return !values.iter().any(is_present),
            "ne" if is_null => return values.iter().any(is_present),
            "ne" => {
                return !values
                    .iter()
                    .any(|value| compares(path.compared(), value, "eq", &literal));
            }
            _ => {}
        }
        values
            .iter()
            .any(|value| compares(path.compared(), value, operator, &literal))
    }
}

fn compares(attribute: &Attribute, value: &Value, operator: &str, literal: &str) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let fold = |text: &str| {
        if attribute.case_exact {
            text.to_owned()
        } else {
            text::key(text).into_owned()
        }
    };
    let order = match attribute.kind {
        AttributeType::String | AttributeType::Reference | AttributeType::Binary => {
            let Some(value) = value.as_str() else {
                return false;
            };
            let (value, literal) = (fold(value), fold(literal));
            match operator {
                "sw" => return value.starts_with(&literal),
                "co" => return value.contains(&literal),
                "ew" => return value.ends_with(&literal),
                // Code points, not bytes: for UTF-8 it must be the same.
                _ => Some(value.chars().cmp(literal.chars())),
            }
        }
        AttributeType::Boolean => {
            let literal = literal.trim().eq_ignore_ascii_case("true");
            value.as_bool().map(|value| value.cmp(&literal))
        }
        AttributeType::Integer | AttributeType::Decimal => {
            let literal: f64 = literal.parse().unwrap();
            value.as_f64().and_then(|value| value.partial_cmp(&literal))
        }
        AttributeType::DateTime => {
            let value = value.as_str().and_then(datetime::parse);
            value.map(|value| value.cmp(&datetime::parse(literal).unwrap()))
        }
        AttributeType::Complex => None,
    };
    match operator {
        "eq" => order == Some(Equal),
        "gt" => order == Some(Greater),
        "ge" => matches!(order, Some(Greater | Equal)),
        "lt" => order == Some(Less),
        "le" => matches!(order, Some(Less | Equal)),
        other => panic!("{other}"),
    }
}

impl Node {
    fn write(&self, names: &Names, to: &mut String) {
        match self {
            Self::Test(test) => {
                let path = test.path(names);
                test.write(&path.name, path, to);
            }
            Self::Elements(index, inner, behind) => {
                let (path, parts) = names.list(*index);
                let _ = write!(to, "{}[", path.name);
                inner.write(parts, to);
                to.push(']');
                if let Some(behind) = behind {
                    let part = behind.path(parts);
                    to.push('.');
                    behind.write(&part.name, part, to);
                }
            }
            Self::Not(inner) => {
                to.push_str("not (");
                inner.write(names, to);
                to.push(')');
            }
            Self::And(a, b) => {
                for (side, node) in [a, b].into_iter().enumerate() {
                    to.push_str(if side == 1 { " and " } else { "" });
                    // `or` binds less tightly.
                    let wrap = matches!(**node, Self::Or(..));
                    to.push_str(if wrap { "(" } else { "" });
                    node.write(names, to);
                    to.push_str(if wrap { ")" } else { "" });
                }
            }
            Self::Or(a, b) => {
                a.write(names, to);
                to.push_str(" or ");
                b.write(names, to);
            }
            Self::Group(inner) => {
                to.push_str("( ");
                inner.write(names, to);
                to.push_str(" )");
            }
        }
    }

    /// Whether it compares anything that holds the id of a resource.
    fn compares_ids(&self, names: &Names) -> bool {
        let holds_ids = |path: &Path| {
            let names = ["id", "groups", "members", "meta"];
            path.extension.is_none() && names.contains(&path.attribute.name.as_str())
        };
        match self {
            Self::Test(test) => holds_ids(test.path(names)),
            Self::Elements(index, ..) => holds_ids(&names.list(*index).0),
            Self::Not(inner) | Self::Group(inner) => inner.compares_ids(names),
            Self::And(a, b) | Self::Or(a, b) => a.compares_ids(names) || b.compares_ids(names),
        }
    }

    /// The plain reading.
    fn fits(&self, names: &Names, tree: &Map<String, Value>) -> bool {
        match self {
            Self::Test(test) => {
                let path = test.path(names);
                // An object that is compared stands for its value.
                let as_value = test.operator(path) != "pr";
                test.fits(path, &path.values_in(tree, as_value))
            }
            Self::Elements(index, inner, behind) => {
                let (path, parts) = names.list(*index);
                path.elements_in(tree)
                    .iter()
                    .filter_map(Value::as_object)
                    .any(|element| {
                        inner.fits(parts, element)
                            && behind.as_ref().is_none_or(|test| {
                                let part = test.path(parts);
                                test.fits(part, &part.values_in(element, false))
                            })
                    })
            }
            Self::Not(inner) => !inner.fits(names, tree),
            Self::And(a, b) => a.fits(names, tree) && b.fits(names, tree),
            Self::Or(a, b) => a.fits(names, tree) || b.fits(names, tree),
            Self::Group(inner) => inner.fits(names, tree),
        }
    }
}

/// What is wrong with the smallest question that still fails, reached from one that does.
fn smallest(mut question: Question, fails: &dyn Fn(&Question) -> Option<String>) -> Option<String> {
    let mut reason = None;
    loop {
        let mut smaller: Vec<Question> = Vec::new();
        let with = |filter| Question {
            filter,
            ..question.clone()
        };
        smaller.extend(question.filter.smaller().into_iter().map(with));
        if question.way != Way::Whole || question.sort.is_some() {
            smaller.push(Question {
                way: Way::Whole,
                sort: None,
                ..question.clone()
            });
        }
        let found = smaller
            .into_iter()
            .find_map(|question| fails(&question).map(|reason| (question, reason)));
        let Some((failing, why)) = found else {
            return reason;
        };
        (question, reason) = (failing, Some(why));
    }
}

impl Comparison {
    fn smaller(&self) -> Vec<Self> {
        let mut smaller = Vec::new();
        if !matches!(self.change, Change::None) {
            let change = Change::None;
            smaller.push(Self {
                change,
                ..self.clone()
            });
        }
        if self.shout || !self.quoted {
            smaller.push(Self {
                shout: false,
                quoted: true,
                ..self.clone()
            });
        }
        smaller
    }
}

impl Node {
    /// The same with one part less.
    fn smaller(&self) -> Vec<Self> {
        let each = |node: &Self| node.smaller().into_iter().map(Box::new);
        match self {
            Self::Test(test) => test.smaller().into_iter().map(Self::Test).collect(),
            Self::Elements(path, inner, behind) => {
                let mut smaller = Vec::new();
                if behind.is_some() {
                    smaller.push(Self::Elements(*path, inner.clone(), None));
                }
                let with = |inner| Self::Elements(*path, inner, behind.clone());
                smaller.extend(each(inner).map(with));
                smaller
            }
            Self::Not(inner) => {
                let mut smaller = vec![(**inner).clone()];
                smaller.extend(each(inner).map(Self::Not));
                smaller
            }
            Self::Group(inner) => {
                let mut smaller = vec![(**inner).clone()];
                smaller.extend(each(inner).map(Self::Group));
                smaller
            }
            Self::And(a, b) => {
                let mut smaller = vec![(**a).clone(), (**b).clone()];
                smaller.extend(each(a).map(|a| Self::And(a, b.clone())));
                smaller.extend(each(b).map(|b| Self::And(a.clone(), b)));
                smaller
            }
            Self::Or(a, b) => {
                let mut smaller = vec![(**a).clone(), (**b).clone()];
                smaller.extend(each(a).map(|a| Self::Or(a, b.clone())));
                smaller.extend(each(b).map(|b| Self::Or(a.clone(), b)));
                smaller
            }
        }
    }
}

/// Asks on every engine. Answers how many were found, or what is wrong.
async fn ask_everywhere(worlds: &[World], question: &Question) -> Result<usize, TestCaseError> {
    let mut first: Option<Vec<usize>> = None;
    for world in worlds {
        let kind = question.kind();
        let mut found = ask(world, question).await?;
        if question.filter.compares_ids(&world.listed(kind).names) {
            // They are others on each engine.
            continue;
        }
        if question.sort.is_some() {
            found.sort_unstable();
        }
        let first = first.get_or_insert_with(|| found.clone());
        if *first != found {
            let engines = (worlds[0].engine, world.engine);
            let reason = format!("{question:?}: {first:?} and {found:?} on {engines:?}");
            return Err(TestCaseError::fail(reason));
        }
    }
    Ok(first.map_or(0, |found| found.len()))
}

async fn ask(world: &World, question: &Question) -> Result<Vec<usize>, TestCaseError> {
    let kind = question.kind();
    let Listed {
        kind, trees, names, ..
    } = world.listed(kind);
    let mut text = String::new();
    question.filter.write(names, &mut text);
    let schema = world.profile.schema(*kind);
    let sort = question.sort.as_ref().and_then(|(index, down)| {
        let paths = &names.paths;
        let name = paths[index.index(paths.len())].name.as_str();
        let order = if *down { "descending" } else { "ascending" };
        let sort = Sort::parse(schema, name, Some(order)).ok()?;
        Some((name, *down, sort))
    });
    let by = sort.as_ref().map(|(name, down, _)| (*name, *down));
    let found = world.find(*kind, &text, question.way, by).await;
    let parsed = match (Filter::parse(schema, &text), found) {
        (Ok(parsed), Ok(found)) => (parsed, found),
        (Err(_), Err(ProviderError::Scim(error))) if error.status == 400 => {
            return Ok(Vec::new());
        }
        (parsed, found) => {
            let reason = format!("{text}: parsed {parsed:?}, answered {found:?}");
            return Err(TestCaseError::fail(reason));
        }
    };
    let (parsed, found) = parsed;
    let in_order = |mut places: Vec<usize>| {
        if let Some((_, _, sort)) = &sort {
            places.sort_by(|a, b| sort.key(&trees[*a]).compare(&sort.key(&trees[*b])));
        }
        places
    };
    let all = 0..trees.len();
    let evaluated = in_order(
        all.clone()
            .filter(|place| parsed.matches(&trees[*place]))
            .collect(),
    );
    let read = in_order(
        all.filter(|place| question.filter.fits(names, &trees[*place]))
            .collect(),
    );
    if evaluated == read && evaluated == found {
        return Ok(found);
    }
    let differs = |place: &usize| {
        let answers = [&evaluated, &read, &found];
        let told = answers.map(|answer| answer.contains(place));
        told.contains(&true) && told.contains(&false)
    };
    let differing: Vec<_> = (0..trees.len())
        .filter(differs)
        .take(2)
        .map(|place| (place, Value::from(trees[place].clone())))
        .collect();
    Err(TestCaseError::fail(format!(
        "{} of {} ({:?}, sorted by {by:?}) answers {found:?}, the evaluator {evaluated:?}, a plain reading {read:?}; \
         they differ in {differing:#?}",
        text, world.engine, question.way,
    )))
}
