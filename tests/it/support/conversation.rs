//! Conversations of provisioning clients, as text files: `tests/data/README.md` explains them.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::Value;

use super::expect::{self, Known};
use super::{Answer, Tenant};

/// One file.
pub struct Conversation {
    name: String,
    /// Headers of every request that does not bring its own.
    headers: Vec<(String, String)>,
    steps: Vec<Step>,
}

#[derive(Default)]
struct Step {
    name: String,
    /// Line of the step's heading, for whoever has to look it up.
    line: usize,
    repeat: usize,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
    status: Vec<u16>,
    expected_headers: Vec<(String, String)>,
    expected: String,
}

/// How much a conversation asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub requests: usize,
    pub failed: usize,
    /// Resources that are new.
    pub created: usize,
    /// Writes to resources that are there.
    pub written: usize,
    pub deleted: usize,
}

/// Where in a step a line stands.
enum Part {
    Directives,
    Headers,
    Body,
    ExpectedHeaders,
    Expected,
}

impl Conversation {
    /// Reads a file. A malformed one is a mistake of ours, so it panics and says where.
    pub fn read(path: &Path) -> Self {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).unwrap();
        let mut conversation = Self {
            name,
            headers: Vec::new(),
            steps: Vec::new(),
        };
        let mut part = Part::Directives;
        for (n, line) in text.lines().enumerate() {
            let place = || format!("{}:{}: {line:?}", path.display(), n + 1);
            if line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix("=== ") {
                let (name, line) = (name.to_owned(), n + 1);
                conversation.steps.push(Step {
                    name,
                    line,
                    repeat: 1,
                    ..Step::default()
                });
                part = Part::Directives;
                continue;
            }
            let Some(step) = conversation.steps.last_mut() else {
                match line.strip_prefix("@header ") {
                    Some(line) => conversation.headers.push(header(line, &place)),
                    None => assert!(line.is_empty(), "{} is not understood", place()),
                }
                continue;
            };
            if let Some(status) = line.strip_prefix("=> ") {
                let codes = status.split('|').map(|code| number(code, &place));
                step.status = codes.map(|code| u16::try_from(code).unwrap()).collect();
                part = Part::ExpectedHeaders;
                continue;
            }
            match part {
                Part::Directives => {
                    if let Some(times) = line.strip_prefix("@repeat ") {
                        step.repeat = number(times, &place);
                    } else if let Some((method, target)) = line.split_once(' ') {
                        step.method = method.to_owned();
                        step.target = target.trim().to_owned();
                        part = Part::Headers;
                    }
                }
                Part::Headers | Part::ExpectedHeaders => {
                    let expected = matches!(part, Part::ExpectedHeaders);
                    if line.is_empty() {
                        part = if expected { Part::Expected } else { Part::Body };
                    } else if line.starts_with(['{', '[']) {
                        let text = if expected {
                            &mut step.expected
                        } else {
                            &mut step.body
                        };
                        text.push_str(line);
                        text.push('\n');
                        part = if expected { Part::Expected } else { Part::Body };
                    } else {
                        let all = if expected {
                            &mut step.expected_headers
                        } else {
                            &mut step.headers
                        };
                        all.push(header(line, &place));
                    }
                }
                Part::Body | Part::Expected => {
                    let expected = matches!(part, Part::Expected);
                    let text = if expected {
                        &mut step.expected
                    } else {
                        &mut step.body
                    };
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        for step in &conversation.steps {
            let complete = !step.method.is_empty() && !step.status.is_empty();
            assert!(
                complete,
                "{}:{}: the step is incomplete",
                path.display(),
                step.line
            );
        }
        conversation
    }

    /// What the region-node has to do in the course of it.
    pub fn work(&self) -> Work {
        let mut work = Work::default();
        for step in &self.steps {
            let status = step.status[0];
            let override_of = |(name, _): &&(String, String)| name == "X-HTTP-Method-Override";
            let meant = step.headers.iter().find(override_of);
            let method = meant.map_or(step.method.as_str(), |(_, method)| method);
            // Without a good credential, or at an endpoint without the method, nothing reaches it.
            if status == 401 || status == 405 {
                continue;
            }
            work.requests += step.repeat;
            match (method, status) {
                (_, 400..) => work.failed += step.repeat,
                ("POST", 201) => work.created += step.repeat,
                ("PUT" | "PATCH", _) => work.written += step.repeat,
                ("DELETE", _) => work.deleted += step.repeat,
                _ => {}
            }
        }
        work
    }

    /// Says every step to a tenant, and compares every answer.
    ///
    /// # Errors
    /// `file:line: step: what differs` of the first step that went wrong.
    pub async fn replay(&self, tenant: &Tenant) -> Result<(), String> {
        let mut known = Known::new();
        known.insert("base".to_owned(), tenant.region.base_url.clone());
        known.insert("token".to_owned(), tenant.token.secret.clone());
        known.insert("guid".to_owned(), guid(&tenant.id));
        for step in &self.steps {
            for n in 1..=step.repeat {
                known.insert("n".to_owned(), n.to_string());
                let outcome = self.say(step, tenant, &mut known).await;
                outcome.map_err(|why| {
                    let Step {
                        name,
                        line,
                        method,
                        target,
                        ..
                    } = step;
                    format!("{}:{line}: {name} ({method} {target}): {why}", self.name)
                })?;
            }
        }
        Ok(())
    }

    async fn say(&self, step: &Step, tenant: &Tenant, known: &mut Known) -> Result<(), String> {
        let method = Method::from_str(&step.method).unwrap();
        let mut request = tenant.region.request(method, &fill(&step.target, known)?);
        let given = |name: &str| {
            step.headers
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        let common = self.headers.iter().filter(|(name, _)| !given(name));
        for (name, value) in common.chain(&step.headers) {
            // An empty value takes a header away.
            if !value.is_empty() {
                request = request.header(name, fill(value, known)?);
            }
        }
        if !given(AUTHORIZATION.as_str()) {
            request = request.header(AUTHORIZATION, format!("Bearer {}", tenant.token.secret));
        }
        if !step.body.is_empty() {
            if !given(CONTENT_TYPE.as_str()) && !self.names(CONTENT_TYPE.as_str()) {
                request = request.header(CONTENT_TYPE, "application/scim+json");
            }
            request = request.body(fill(&step.body, known)?);
        }
        let answer = Answer::of(request).await;
        if !step.status.contains(&answer.status) {
            return Err(format!(
                "expected {:?}, the answer is {answer:?}",
                step.status
            ));
        }
        for (name, expected) in &step.expected_headers {
            let found = answer.header(name).map_or(Value::Null, Value::from);
            let expected = Value::from(fill(expected, known)?);
            expect::check(&expected, &found, known).map_err(|why| format!("header {name}{why}"))?;
        }
        if step.expected.trim().is_empty() {
            return Ok(());
        }
        let expected: Value = serde_json::from_str(&fill(&step.expected, known)?)
            .map_err(|error| format!("the expectation is no JSON: {error}"))?;
        let found: Value = serde_json::from_slice(&answer.body)
            .map_err(|error| format!("the answer is no JSON ({error}): {answer:?}"))?;
        expect::check(&expected, &found, known).map_err(|why| format!("{why}; answer: {answer:?}"))
    }

    fn names(&self, header: &str) -> bool {
        self.headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(header))
    }
}

fn header(line: &str, place: &dyn Fn() -> String) -> (String, String) {
    let halves = line.split_once(':');
    let (name, value) = halves.unwrap_or_else(|| panic!("{} is no header", place()));
    (name.trim().to_owned(), value.trim().to_owned())
}

fn number(text: &str, place: &dyn Fn() -> String) -> usize {
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{} holds no number", place()))
}

/// Puts known values in the place of `{{name}}`.
fn fill(text: &str, known: &Known) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("`{{` without `}}`")?;
        filled.push_str(before);
        filled.push_str(
            known
                .get(name)
                .ok_or(format!("nothing is known as {name}"))?,
        );
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// A GUID that nobody has: made from the tenant's id, which is random.
fn guid(tenant: &str) -> String {
    let digits = hex::encode(tenant.as_bytes());
    let d = &digits[8..40];
    format!(
        "{}-{}-4{}-a{}-{}",
        &d[..8],
        &d[8..12],
        &d[13..16],
        &d[17..20],
        &d[20..]
    )
}
