//! Which provisioning client speaks: [`Clues`] in its requests, and what they say together.
//!
//! No client names itself reliably, and most requests could be anybody's. So each request gives
//! the clues that its shape holds, and those of one API token are looked at together. Sources of
//! the shapes: the conversations under `tests/data`.

use std::fmt;

use super::tolerance::{Notes, Tolerance};
use crate::coded::told;

told! {
    /// A provisioning client.
    Client {
        /// Okta.
        Okta = "okta", "Okta";
        /// Microsoft Entra ID.
        Entra = "entra", "Microsoft Entra ID";
        /// PingOne and PingFederate.
        PingOne = "pingone", "PingOne";
        /// OneLogin.
        OneLogin = "onelogin", "OneLogin";
        /// JumpCloud.
        JumpCloud = "jumpcloud", "JumpCloud";
        /// Google Workspace.
        Google = "google", "Google Workspace";
        /// authentik.
        Authentik = "authentik", "authentik";
        /// curl and its like: somebody who tries something.
        Tool = "tool", "curl or another tool";
        /// Nothing speaks for any of them.
        Other = "other", "another client";
    }
}

impl Client {
    /// For a person.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.template()
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What requests show of who sends them; a set. Stored as a number, so a bit keeps its meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clues(u32);

/// For whom a clue speaks, and how loudly: 1 could be chance, 3 is a habit, 6 is a name.
const WITNESSES: &[(Clues, Client, u32)] = &[
    (Clues::NAMED_OKTA, Client::Okta, 6),
    (Clues::NAMED_ENTRA, Client::Entra, 6),
    (Clues::NAMED_PINGONE, Client::PingOne, 6),
    (Clues::NAMED_ONELOGIN, Client::OneLogin, 6),
    (Clues::NAMED_JUMPCLOUD, Client::JumpCloud, 6),
    (Clues::NAMED_GOOGLE, Client::Google, 6),
    (Clues::NAMED_AUTHENTIK, Client::Authentik, 6),
    (Clues::OKTA_URN, Client::Okta, 6),
    (Clues::PROBE_OF_TWO, Client::Okta, 3),
    (Clues::PASSWORD_AND_GROUPS, Client::Okta, 3),
    (Clues::OKTA_ID, Client::Okta, 3),
    (Clues::PAGES_OF_100, Client::Okta, 2),
    (Clues::ID_IN_RENAME, Client::Okta, 2),
    (Clues::AAD_FLAG, Client::Entra, 6),
    (Clues::CAPITAL_OPERATION, Client::Entra, 4),
    (Clues::TEXT_BOOLEAN, Client::Entra, 3),
    (Clues::PLUS_FOR_BLANK, Client::Entra, 2),
    (Clues::WITHOUT_MEMBERS, Client::Entra, 3),
    (Clues::META_IN_CREATE, Client::Entra, 2),
    (Clues::CAPITAL_COMPARISON, Client::PingOne, 4),
    (Clues::EMAIL_ALIAS, Client::PingOne, 4),
    (Clues::TIME_ZONE_LABEL, Client::PingOne, 3),
    (Clues::PROBE_OF_ONE, Client::PingOne, 1),
    (Clues::DANGLING_AMPERSAND, Client::OneLogin, 4),
    (Clues::ONELOGIN_URN, Client::OneLogin, 6),
    (Clues::TEST_NAMES_OF_JUMPCLOUD, Client::JumpCloud, 4),
    (Clues::NO_SCHEMAS, Client::Authentik, 2),
    (Clues::BARE_LITERAL, Client::Authentik, 1),
];

impl Clues {
    const NAMED_OKTA: Self = Self(1);
    const NAMED_ENTRA: Self = Self(1 << 1);
    const NAMED_PINGONE: Self = Self(1 << 2);
    const NAMED_ONELOGIN: Self = Self(1 << 3);
    const NAMED_JUMPCLOUD: Self = Self(1 << 4);
    const NAMED_GOOGLE: Self = Self(1 << 5);
    const NAMED_AUTHENTIK: Self = Self(1 << 6);
    /// A tool by its `User-Agent`. Never a clue to others: who tries something by hand is not the
    /// client, though the token is.
    pub const TOOL: Self = Self(1 << 7);
    /// `urn:okta:…` among the schemas.
    const OKTA_URN: Self = Self(1 << 8);
    /// `startIndex=1&count=2`: the constant probe of "Test API Credentials".
    const PROBE_OF_TWO: Self = Self(1 << 9);
    /// A new user with a password and an empty list of groups.
    const PASSWORD_AND_GROUPS: Self = Self(1 << 10);
    /// An `externalId` such as `00ujl29u0le5T6Aj10h7`.
    const OKTA_ID: Self = Self(1 << 11);
    /// `startIndex=…&count=100`, whatever else is asked.
    const PAGES_OF_100: Self = Self(1 << 12);
    /// A path-less replacement that names the resource's `id` beside the new name.
    const ID_IN_RENAME: Self = Self(1 << 13);
    /// `aadOptscim062020`.
    const AAD_FLAG: Self = Self(1 << 14);
    /// `Add`, `Replace`, `Remove`.
    const CAPITAL_OPERATION: Self = Self(1 << 15);
    /// `"True"`, `"False"`.
    const TEXT_BOOLEAN: Self = Self(1 << 16);
    /// `filter=userName+eq+…`.
    const PLUS_FOR_BLANK: Self = Self(1 << 17);
    /// `excludedAttributes=members`.
    const WITHOUT_MEMBERS: Self = Self(1 << 18);
    /// `"meta": {"resourceType": …}` and nothing else of `meta`, in a new resource.
    const META_IN_CREATE: Self = Self(1 << 19);
    /// `Eq`, `Co` in a filter.
    const CAPITAL_COMPARISON: Self = Self(1 << 20);
    /// `email`, `workEmail` in a filter.
    const EMAIL_ALIAS: Self = Self(1 << 21);
    /// `timeZone`, as the label of its mapping is spelled.
    const TIME_ZONE_LABEL: Self = Self(1 << 22);
    /// `startIndex=1&count=1`.
    const PROBE_OF_ONE: Self = Self(1 << 23);
    /// A query that ends in `&`.
    const DANGLING_AMPERSAND: Self = Self(1 << 24);
    /// `urn:scim:schemas:core:2.0`.
    const ONELOGIN_URN: Self = Self(1 << 25);
    /// The throw-away names of an activation.
    const TEST_NAMES_OF_JUMPCLOUD: Self = Self(1 << 26);
    /// A body without `schemas`.
    const NO_SCHEMAS: Self = Self(1 << 27);
    /// A literal without quotes.
    const BARE_LITERAL: Self = Self(1 << 28);

    /// The clues that a `User-Agent` gives.
    #[must_use]
    pub fn of_user_agent(agent: &str) -> Self {
        const NAMES: &[(&str, Clues)] = &[
            ("okta", Clues::NAMED_OKTA),
            ("pingone", Clues::NAMED_PINGONE),
            ("pingfederate", Clues::NAMED_PINGONE),
            ("onelogin", Clues::NAMED_ONELOGIN),
            ("jumpcloud", Clues::NAMED_JUMPCLOUD),
            ("authentik", Clues::NAMED_AUTHENTIK),
            ("google", Clues::NAMED_GOOGLE),
            // What its provisioning service calls itself, of all things.
            ("msie 9.0; windows nt 6.1; trident/5.0", Clues::NAMED_ENTRA),
            ("curl/", Clues::TOOL),
            ("wget/", Clues::TOOL),
            ("httpie/", Clues::TOOL),
            ("postmanruntime/", Clues::TOOL),
            ("insomnia/", Clues::TOOL),
        ];
        let agent = agent.to_ascii_lowercase();
        let named = NAMES.iter().find(|(name, _)| agent.contains(name));
        named.map_or(Self::default(), |(_, clue)| *clue)
    }

    /// The clues that a query string gives, as it was sent.
    #[must_use]
    pub fn of_query(query: &str) -> Self {
        let mut clues = Self::default();
        if query.is_empty() {
            return clues;
        }
        if query.ends_with('&') {
            clues.add(Self::DANGLING_AMPERSAND);
        }
        let (mut from_one, mut count) = (false, "");
        let mut is_filtered = false;
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "aadOptscim062020" => clues.add(Self::AAD_FLAG),
                "filter" => {
                    is_filtered = true;
                    clues.add(Self::of_filter(value));
                }
                "excludedAttributes" if value == "members" => clues.add(Self::WITHOUT_MEMBERS),
                "startIndex" => from_one = value == "1",
                "count" => count = value,
                _ => {}
            }
        }
        match count {
            "2" if from_one && !is_filtered => clues.add(Self::PROBE_OF_TWO),
            "1" if from_one && !is_filtered => clues.add(Self::PROBE_OF_ONE),
            "100" => clues.add(Self::PAGES_OF_100),
            _ => {}
        }
        clues
    }

    /// The clues of a filter as it stands in the query string.
    fn of_filter(filter: &str) -> Self {
        let mut clues = Self::default();
        if filter.contains("+eq+") {
            clues.add(Self::PLUS_FOR_BLANK);
        }
        let capital = ["%20Eq%20", "+Eq+", "%20Co%20", "+Co+", "%20Sw%20"];
        if capital.iter().any(|word| filter.contains(word)) {
            clues.add(Self::CAPITAL_COMPARISON);
        }
        if filter.contains("%22jctest") {
            clues.add(Self::TEST_NAMES_OF_JUMPCLOUD);
        }
        clues
    }

    /// The clues that a member of a body gives: the name as it was sent, and its value.
    pub fn see_member(&mut self, name: &str, value: &serde_json::Value) {
        let text = || value.as_str().unwrap_or_default();
        match name {
            "schemas" => {
                let urns = value.as_array().map_or(&[][..], Vec::as_slice);
                for urn in urns.iter().filter_map(serde_json::Value::as_str) {
                    if urn.starts_with("urn:okta:") {
                        self.add(Self::OKTA_URN);
                    } else if urn == "urn:scim:schemas:core:2.0" {
                        self.add(Self::ONELOGIN_URN);
                    }
                }
            }
            "timeZone" => self.add(Self::TIME_ZONE_LABEL),
            "externalId" if is_okta_id(text()) => self.add(Self::OKTA_ID),
            "userName" if text().starts_with("jctest") => self.add(Self::TEST_NAMES_OF_JUMPCLOUD),
            "displayName" if text().starts_with("JumpCloud Test") => {
                self.add(Self::TEST_NAMES_OF_JUMPCLOUD);
            }
            "meta" if is_only_resource_type(value) => self.add(Self::META_IN_CREATE),
            _ => {}
        }
    }

    /// The clues of a body as a whole.
    #[must_use]
    pub fn of_body(body: &serde_json::Map<String, serde_json::Value>) -> Self {
        let mut clues = Self::default();
        for (name, value) in body {
            clues.see_member(name, value);
        }
        let is_empty = |name: &str| {
            let list = body.get(name).and_then(serde_json::Value::as_array);
            list.is_some_and(Vec::is_empty)
        };
        if body.contains_key("password") && is_empty("groups") {
            clues.add(Self::PASSWORD_AND_GROUPS);
        }
        let operations = body.get("Operations").and_then(serde_json::Value::as_array);
        for operation in operations.into_iter().flatten().take(8) {
            let renames = operation.get("value").is_some_and(|value| {
                value.get("id").is_some() && value.get("displayName").is_some()
            });
            if renames && operation.get("path").is_none() {
                clues.add(Self::ID_IN_RENAME);
            }
        }
        clues
    }

    /// The clues in what was tolerated.
    #[must_use]
    pub fn of_notes(notes: &Notes) -> Self {
        let mut clues = Self::default();
        for note in notes.as_slice() {
            clues.add(match note.what {
                Tolerance::OperationCase => Self::CAPITAL_OPERATION,
                Tolerance::TextTrue | Tolerance::TextFalse => Self::TEXT_BOOLEAN,
                Tolerance::Alias => Self::EMAIL_ALIAS,
                Tolerance::BareLiteral => Self::BARE_LITERAL,
                Tolerance::NoSchemas => Self::NO_SCHEMAS,
                _ => Self::default(),
            });
        }
        clues
    }

    /// Adds clues.
    pub fn add(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// Whether all of these are among them.
    #[must_use]
    pub fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// The number under which they are stored.
    #[must_use]
    pub fn to_stored(self) -> i64 {
        i64::from(self.0)
    }

    /// From the store.
    #[must_use]
    pub fn from_stored(stored: i64) -> Self {
        Self(u32::try_from(stored).unwrap_or(0))
    }
}

/// Who sends requests that gave these clues: whoever the clues speak for most. [`Client::Other`]
/// where they speak for nobody, or for two as loudly.
#[must_use]
pub fn recognise(clues: Clues) -> Client {
    if clues.has(Clues::TOOL) {
        return Client::Tool;
    }
    let voices = |client: Client| -> u32 {
        let heard = WITNESSES.iter();
        heard
            .filter(|(clue, of, _)| *of == client && clues.has(*clue))
            .map(|(_, _, voice)| voice)
            .sum()
    };
    let (mut loudest, mut most) = (Client::Other, 0);
    for client in Client::ALL.iter().copied() {
        let voice = voices(client);
        if voice > most {
            (loudest, most) = (client, voice);
        } else if voice == most {
            loudest = Client::Other;
        }
    }
    loudest
}

fn is_okta_id(text: &str) -> bool {
    text.len() == 20 && text.starts_with("00u") && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn is_only_resource_type(meta: &serde_json::Value) -> bool {
    meta.as_object()
        .is_some_and(|meta| meta.len() == 1 && meta.contains_key("resourceType"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use serde_json::json;

    use super::*;

    fn conversations() -> Vec<PathBuf> {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
        let folders = fs::read_dir(data)
            .unwrap()
            .map(|folder| folder.unwrap().path());
        let files = folders.filter(|folder| folder.is_dir()).flat_map(|folder| {
            let files = fs::read_dir(folder).unwrap();
            files.map(|file| file.unwrap().path()).collect::<Vec<_>>()
        });
        files.collect()
    }

    /// The clues of a recorded conversation, as far as they are to be seen without the schema.
    fn clues_of(conversation: &str, with_agent: bool) -> Clues {
        let mut clues = Clues::default();
        let mut body = String::new();
        let mut is_request = false;
        for line in conversation.lines() {
            if let Some(agent) = line.strip_prefix("@header User-Agent: ")
                && with_agent
            {
                clues.add(Clues::of_user_agent(agent));
            }
            if line.starts_with("=== ") || line.starts_with("=> ") {
                if let Ok(serde_json::Value::Object(body)) = serde_json::from_str(&body) {
                    clues.add(Clues::of_body(&body));
                    let is_whole = body.contains_key("userName") && !body.contains_key("schemas");
                    clues.add(if is_whole {
                        Clues::NO_SCHEMAS
                    } else {
                        Clues::default()
                    });
                }
                body.clear();
                is_request = line.starts_with("=== ");
                continue;
            }
            if line.contains("\"op\": \"Add\"") || line.contains("\"op\": \"Replace\"") {
                clues.add(Clues::CAPITAL_OPERATION);
            }
            if line.contains("\"primary\": \"True\"") {
                clues.add(Clues::TEXT_BOOLEAN);
            }
            if let Some((_, query)) = line.split_once('?')
                && is_request
                && body.is_empty()
            {
                let query = query.replace(' ', "%20").replace('"', "%22");
                clues.add(Clues::of_query(&query));
            }
            if is_request && (!body.is_empty() || line.starts_with('{')) {
                body.push_str(line);
                body.push('\n');
            }
        }
        clues
    }

    #[test]
    fn every_recorded_conversation_is_its_clients() {
        let files = conversations();
        assert!(files.len() > 25, "{files:?}");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let name = file.to_string_lossy();
            let expected = Client::ALL
                .iter()
                .copied()
                .find(|client| name.contains(&format!("/{}/", client.code())))
                .or_else(|| {
                    let (_, name) = name.split_once("/scim11/")?;
                    let known = |client: &Client| name.contains(client.code());
                    Client::ALL.iter().copied().find(known)
                })
                .unwrap_or(Client::Other);
            assert_eq!(recognise(clues_of(&text, true)), expected, "{name}");
            // Most are without the name that they call themselves, too.
            let nameless = recognise(clues_of(&text, false));
            let speaks_by_name_alone = name.ends_with("okta/05-published-suite.http");
            if !speaks_by_name_alone {
                assert_eq!(nameless, expected, "{name}");
            }
        }
    }

    #[test]
    fn a_client_that_calls_itself_another_is_known_by_its_shape() {
        let mut clues = Clues::of_user_agent("okta");
        clues.add(Clues::of_query(
            "aadOptscim062020&filter=userName+eq+%22a%22",
        ));
        assert_eq!(recognise(clues), Client::Entra);
        assert_eq!(recognise(Clues::of_user_agent("curl/8.5.0")), Client::Tool);
        assert_eq!(recognise(Clues::default()), Client::Other);
        let google = Clues::of_user_agent("Google-Cloud-Provisioning");
        assert_eq!(recognise(google), Client::Google);
    }

    #[test]
    fn clues_are_stored_as_a_number() {
        let body = json!({"schemas": ["urn:okta:custom:group:1.0"], "timeZone": "x"});
        let clues = Clues::of_body(body.as_object().unwrap());
        assert_eq!(Clues::from_stored(clues.to_stored()), clues);
        assert!(clues.has(Clues::OKTA_URN) && !clues.has(Clues::AAD_FLAG));
    }
}
