//! Tenants of several regions whose identity providers work for as long as it is asked for, while
//! one part of the deployment after the other is taken away; and then the question whether all is as
//! it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;

use super::admin::Admin;
use super::consumer::Consumer;
use super::fleet::{Fleet, Plan, Program};
use super::history::{Load, Present};
use super::link::State;
use super::redis::Redis;
use super::shape::Shape;

const REGIONS: [&str; 4] = ["us", "de", "jp", "au"];
const SHAPES: [Shape; 3] = [Shape::Okta, Shape::Entra, Shape::PingOne];

/// How long.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// Until so many faults have been, with so many writes of the first tenants between them.
    Faults { count: usize, writes: usize },
    /// By the clock.
    Time { total: Duration, between: Duration },
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    pub tenants: usize,
    pub length: Length,
}

/// A second of it.
#[derive(Clone, Debug, Default)]
pub struct Second {
    /// Since the beginning.
    pub at_s: f64,
    /// Answers with success.
    pub answered: usize,
    /// 503 and 429.
    pub refused: usize,
    /// Of all answers, in microseconds.
    pub p50_us: u32,
    pub p99_us: u32,
    /// Of each program: resident memory in KiB, open files.
    pub programs: BTreeMap<String, (u64, usize)>,
}

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u32| f64::from(us) / 1000.0;
        write!(
            f,
            "{:.0} s: {} answers/s, {} refused/s, p50 {:.1} ms, p99 {:.1} ms",
            self.at_s,
            self.answered,
            self.refused,
            ms(self.p50_us),
            ms(self.p99_us)
        )?;
        for (name, (kib, files)) in &self.programs {
            write!(f, "; {name} {} MiB, {files} files", kib / 1024)?;
        }
        Ok(())
    }
}

/// How it went.
#[derive(Default)]
pub struct Outcome {
    pub seconds: Vec<Second>,
    /// What was done to it, and when.
    pub faults: Vec<(f64, &'static str)>,
    pub acknowledged: usize,
    pub refused: usize,
    /// Events that applications were sent, and those that administrators read.
    pub events: (usize, usize),
    /// What was looked at in the end, and how often: each of it was right, or is in `wrong`.
    pub checks: BTreeMap<&'static str, usize>,
    pub wrong: Vec<String>,
}

struct Party {
    load: Load,
    admin: Admin,
    region: &'static str,
    /// The application behind, for the first tenant of each region.
    application: Option<Consumer>,
}

/// Lets it run, and checks everything.
pub async fn soak(scope: Scope, say: impl Fn(&str)) -> Outcome {
    let mut redis = Redis::start();
    let of_gateways = format!(
        "[redis]\nurl = \"{}\"\n[timeouts]\nnode_look_ms = 300\nnode_hold_ms = 2000\n\
         request_ms = 5000\ndrain_ms = 500\n",
        redis.url()
    );
    let mut fleet = Fleet::start(Plan {
        regions: &REGIONS,
        gateways: 2,
        links: true,
        of_gateways: &of_gateways,
        of_nodes: "[events]\nallow_http = true\nallowed_networks = [\"127.0.0.0/8\"]\n",
        ..Plan::default()
    })
    .await;
    let parties = invite(&fleet, scope.tenants).await;
    let mut outcome = Outcome::default();
    let mut clients = Vec::new();
    for (number, party) in parties.iter().enumerate() {
        // Names that no other tenant's people have.
        clients.extend(party.load.start(number, 1));
    }
    let began = Instant::now();
    let mut watch = Watch::new(began);
    for number in 0.. {
        match scope.length {
            Length::Faults { count, .. } if number >= count => break,
            Length::Time { total, .. } if began.elapsed() >= total => break,
            Length::Faults { writes, .. } => {
                for party in parties.iter().take(REGIONS.len()) {
                    party.load.told.wait_for(writes).await;
                }
                watch.look(&mut fleet, &parties, &mut outcome);
            }
            Length::Time { total, between } => {
                let until = (began.elapsed() + between).min(total);
                while began.elapsed() < until {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    watch.look(&mut fleet, &parties, &mut outcome);
                }
                if until == total {
                    continue;
                }
            }
        }
        let at = began.elapsed().as_secs_f64();
        let what = break_something(number, &mut fleet, &mut redis, &parties).await;
        outcome.faults.push((at, what));
        say(&format!("{at:.0} s: {what}"));
        if let Some(second) = outcome.seconds.last() {
            say(&second.to_string());
        }
    }
    for party in &parties {
        party.load.told.is_enough();
    }
    for client in clients {
        client.await.unwrap();
    }
    watch.look(&mut fleet, &parties, &mut outcome);
    say("all clients have stopped; everything is checked");
    outcome.acknowledged = sum(&parties, |load| load.told.acknowledged());
    outcome.refused = sum(&parties, |load| load.told.refused());
    for party in &parties {
        outcome.check_service(party).await;
    }
    for program in fleet.programs() {
        program.stop().await;
    }
    for region in REGIONS {
        outcome.check_stored(&fleet, region, &parties);
    }
    outcome
}

fn sum(parties: &[Party], count: impl Fn(&Load) -> usize) -> usize {
    parties.iter().map(|party| count(&party.load)).sum()
}

/// Makes the tenants, in all regions in turn.
async fn invite(fleet: &Fleet, tenants: usize) -> Vec<Party> {
    let mut parties = Vec::new();
    for number in 0..tenants {
        let region = REGIONS[number % REGIONS.len()];
        let tenant = fleet.tenant(&format!("tenant {number}"), region).await;
        let admin = fleet.admin(&tenant).await;
        let mut application = None;
        if number < REGIONS.len() {
            let consumer = Consumer::start().await;
            let made = admin
                .post("/webhooks", &json!({ "url": consumer.url() }))
                .await;
            assert_eq!(made.status, 201, "{made:?}");
            application = Some(consumer);
        }
        let shape = SHAPES[number / REGIONS.len() % SHAPES.len()];
        let load = Load {
            shape,
            ..Load::on(tenant, None).await
        };
        parties.push(Party {
            load,
            admin,
            region,
            application,
        });
    }
    parties
}

/// Takes one part away and brings it back.
async fn break_something(
    number: usize,
    fleet: &mut Fleet,
    redis: &mut Redis,
    parties: &[Party],
) -> &'static str {
    let turn = number / 5;
    let region = REGIONS[turn % REGIONS.len()];
    let of_region = parties.iter().find(|party| party.region == region);
    let told = &of_region.unwrap().load.told;
    let fault = match number % 5 {
        0 => {
            let node = &mut fleet.nodes.get_mut(region).unwrap()[0].program;
            node.kill();
            node.start();
            node.ready().await;
            return "a node killed and started again";
        }
        1 => {
            let at = turn % fleet.gateways.len();
            let gateway = &mut fleet.gateways[at];
            gateway.stop().await;
            gateway.start();
            gateway.ready().await;
            return "a gateway stopped and started again";
        }
        2 => {
            redis.kill();
            for party in parties.iter().take(REGIONS.len()) {
                party.load.told.wait_for(3).await;
            }
            redis.start_again();
            return "Redis killed and started again";
        }
        3 => State::ResetAfter(100),
        _ => State::Hangs,
    };
    let link = &fleet.nodes[region][0].link;
    let refused = told.refused();
    link.is(fault);
    told.wait_until(|| told.refused() > refused).await;
    // What passes again is what is new: a part of an answer is missing on the others.
    link.breaks();
    link.works();
    match fault {
        State::Hangs => "a link that hangs",
        _ => "connections cut within answers",
    }
}

/// Looks at programs and clients from time to time.
struct Watch {
    began: Instant,
    last: Instant,
}

impl Watch {
    fn new(began: Instant) -> Self {
        Self { began, last: began }
    }

    fn look(&mut self, fleet: &mut Fleet, parties: &[Party], outcome: &mut Outcome) {
        let mut answers: Vec<_> = parties
            .iter()
            .flat_map(|party| party.load.told.take_answered())
            .collect();
        answers.sort_unstable();
        let at = |percent: usize| {
            let at = (answers.len() * percent).div_ceil(100).max(1) - 1;
            let took = answers.get(at).map_or(0, |(took, _)| took.as_micros());
            u32::try_from(took).unwrap_or(u32::MAX)
        };
        let took = self.last.elapsed().as_secs_f64().max(1e-3);
        self.last = Instant::now();
        let good = answers.iter().filter(|(_, status)| *status < 300).count();
        let per_s = |count: usize| (count as f64 / took) as usize;
        let names = REGIONS.iter().map(|region| format!("node {region}"));
        let names = names.chain(["gateway 1", "gateway 2"].map(str::to_owned));
        let programs = names.zip(fleet.programs());
        let programs = programs.filter_map(|(name, program)| Some((name, room_of(program)?)));
        outcome.seconds.push(Second {
            at_s: self.began.elapsed().as_secs_f64(),
            answered: per_s(good),
            refused: per_s(answers.len() - good),
            p50_us: at(50),
            p99_us: at(99),
            programs: programs.collect(),
        });
    }
}

/// Resident memory in KiB and open files of a program that runs.
fn room_of(program: &Program) -> Option<(u64, usize)> {
    let folder = format!("/proc/{}", program.pid()?);
    let status = fs::read_to_string(format!("{folder}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((kib, fs::read_dir(format!("{folder}/fd")).ok()?.count()))
}

impl Outcome {
    fn checked(&mut self, what: &'static str, wrong: impl IntoIterator<Item = String>) {
        *self.checks.entry(what).or_default() += 1;
        self.wrong
            .extend(wrong.into_iter().map(|wrong| format!("{what}: {wrong}")));
    }

    /// What clients, administrators and applications see.
    async fn check_service(&mut self, party: &Party) {
        let Party {
            load,
            admin,
            application,
            ..
        } = party;
        let told = &load.told;
        let silence = (told.silence() > 0).then(|| format!("{} calls", told.silence()));
        self.checked("clients that were answered nothing", silence);
        self.checked("answers that nobody should get", told.wrong());
        let there = Present::of_service(&load.tenant, &load.group).await;
        self.checked(
            "acknowledged changes are what clients see",
            told.history().check(&there),
        );
        let verified = admin.get("/audit/verify").await;
        let is_broken = (verified["whole"] != json!(true)).then(|| verified.to_string());
        self.checked("audit chains are whole", is_broken);

        let (mut read, mut count) = (BTreeSet::new(), 0);
        let sequence = |event: &serde_json::Value| event["data"]["sequence"].as_i64().unwrap();
        admin
            .each_event(500, |event| {
                read.insert(sequence(event));
                count += 1;
            })
            .await;
        self.events.1 += count;
        let last = read.last().copied().unwrap_or(0);
        let has_gap = read.len() as i64 != last || (last as usize) < told.acknowledged();
        let gap = has_gap.then(|| {
            format!(
                "{} numbers up to {last}, of {} writes",
                read.len(),
                told.acknowledged()
            )
        });
        self.checked("every write is in the events that are read", gap);
        if let Some(application) = application {
            // Delivery may be waiting for its next attempt.
            let whole = async {
                let heard = |came: &[super::consumer::Delivery]| {
                    let heard: BTreeSet<i64> = came.iter().map(|one| one.sequence()).collect();
                    // The webhook was made before anything was written.
                    heard == read
                };
                application.once(heard).await.len()
            };
            let whole = tokio::time::timeout(Duration::from_secs(120), whole).await;
            self.events.0 += *whole.as_ref().unwrap_or(&0);
            let missing = whole
                .is_err()
                .then(|| "an application did not hear of every write".to_owned());
            self.checked("applications have heard of every write", missing);
        }
    }

    /// What the tables of a region say, when its node has stopped.
    fn check_stored(&mut self, fleet: &Fleet, region: &str, parties: &[Party]) {
        let file = fleet.database(region);
        let here = parties.iter().filter(|party| party.region == region);
        let mut ids = BTreeSet::new();
        for party in here {
            let tenant = &party.load.tenant.id;
            let history = party.load.told.history();
            self.checked(
                "tables hold the acknowledged changes, each with its event and its audit record",
                history.check(&Present::of_file(&file, tenant)),
            );
            ids.insert(tenant.clone());
        }
        let connection = Connection::open(&file).unwrap();
        let mut statement = connection.prepare("SELECT id FROM tenant").unwrap();
        let found = statement
            .query_map([], |row| row.get::<_, String>(0))
            .unwrap();
        let found: BTreeSet<String> = found.map(Result::unwrap).collect();
        let others = (found != ids).then(|| format!("{region} has {found:?}, not {ids:?}"));
        self.checked("no region has another's tenants", others);
        let tables = [
            "resource",
            "attribute_index",
            "change",
            "audit",
            "idempotency",
            "api_token",
            "activity",
        ];
        let of_nobody = tables.map(|table| {
            format!("SELECT count(*) FROM {table} WHERE tenant NOT IN (SELECT tenant FROM tenant)")
        });
        let across = "SELECT count(*) FROM member
              JOIN resource g ON g.position = group_position
              JOIN resource u ON u.position = member_position
             WHERE g.tenant <> u.tenant";
        for sql in of_nobody.iter().map(String::as_str).chain([across]) {
            let strays: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
            let strays = (strays > 0).then(|| format!("{strays} in {region}: {sql}"));
            self.checked(
                "no row is nobody's, and no group has another tenant's user",
                strays,
            );
        }
    }

    /// Memory and open files, in the middle third and in the last: the median of each program.
    pub fn thirds(&self) -> Vec<(String, [u64; 2], [usize; 2])> {
        let third = self.seconds.len() / 3;
        let parts = [&self.seconds[third..2 * third], &self.seconds[2 * third..]];
        let names: BTreeSet<&String> = self
            .seconds
            .iter()
            .flat_map(|one| one.programs.keys())
            .collect();
        let of = |name: &String| {
            let median = |part: &[Second]| {
                let of_program = part.iter().filter_map(|one| one.programs.get(name));
                let (mut kib, mut files): (Vec<u64>, Vec<usize>) = of_program.copied().unzip();
                kib.sort_unstable();
                files.sort_unstable();
                let middle = kib.len() / 2;
                (
                    kib.get(middle).copied().unwrap_or(0),
                    files.get(middle).copied().unwrap_or(0),
                )
            };
            let [(kib, files), (kib_then, files_then)] = parts.map(median);
            (name.clone(), [kib, kib_then], [files, files_then])
        };
        names.into_iter().map(of).collect()
    }

    /// Checks that no program takes more and more: only a run that is long enough to be warm shows it.
    pub fn check_growth(&mut self) {
        for (name, kib, files) in self.thirds() {
            let grows = kib[1] * 10 > kib[0] * 12;
            let grown = grows.then(|| format!("{name}: {} KiB, then {} KiB", kib[0], kib[1]));
            self.checked(
                "memory of the last third is at most 1.2 of the middle one",
                grown,
            );
            let grows = files[1] * 10 > files[0] * 12 + 80;
            let grown = grows.then(|| format!("{name}: {} files, then {}", files[0], files[1]));
            self.checked("no more files are open", grown);
        }
    }
}
