//! [`Layers`]: the settings of a program, from its defaults, a file and the environment, and why they
//! cannot be read: in a sentence that never shows what a setting was set to. A settings file holds
//! keys and passwords, and errors go to logs and terminals.
//!
//! What never lives here: the settings themselves, or what they mean.

use std::collections::BTreeSet;
use std::path::Path;

use figment::error::{Actual, Kind};
use figment::providers::{Env, Format as _, Toml};
use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

/// Why settings cannot be read: where, which setting, and what is wrong; never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

/// Settings in layers; later ones override earlier ones.
#[derive(Debug)]
pub struct Layers {
    defaults: &'static str,
    figment: Figment,
}

impl Layers {
    /// The defaults (TOML), which name every setting that there is.
    ///
    /// # Errors
    /// When they were broken at build time.
    pub fn of(defaults: &'static str) -> Result<Self, SettingsError> {
        let figment = Figment::new();
        Self { defaults, figment }.with(Metadata::named("the defaults"), "the defaults", defaults)
    }

    /// A text (TOML) above them.
    ///
    /// # Errors
    /// When it is no TOML.
    pub fn with_text(self, text: &str) -> Result<Self, SettingsError> {
        self.with(Metadata::named("a text"), "a text", text)
    }

    /// A file (TOML) above them.
    ///
    /// # Errors
    /// When it cannot be read, or is no TOML.
    pub fn with_file(self, path: &Path) -> Result<Self, SettingsError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| SettingsError(format!("{name} cannot be read: {error}")))?;
        self.with(Metadata::named(name.clone()), &name, &text)
    }

    /// Environment variables above them: `PREFIX_A__B` sets `a.b`.
    #[must_use]
    pub fn with_environment(self, prefix: &str) -> Self {
        let figment = self.figment.merge(Env::prefixed(prefix).split("__"));
        Self { figment, ..self }
    }

    /// The settings.
    ///
    /// # Errors
    /// When one is missing, unknown, or of the wrong type.
    pub fn extract<T: DeserializeOwned>(&self) -> Result<T, SettingsError> {
        self.figment.extract().map_err(|error: figment::Error| {
            let sentences: Vec<String> = error.into_iter().map(|error| sentence(&error)).collect();
            SettingsError(sentences.join("; "))
        })
    }

    fn with(self, metadata: Metadata, name: &str, text: &str) -> Result<Self, SettingsError> {
        // The library's own sentence would show the whole line.
        let values = Toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let (line, column, setting) = self.place(text, at);
            let setting = setting.map_or_else(String::new, |name| format!(", setting `{name}`"));
            let message = error.message().replace('\n', ", ");
            SettingsError(format!(
                "{name}: line {line}, column {column}{setting}: {message}"
            ))
        })?;
        let figment = self.figment.merge(Layer { metadata, values });
        Ok(Self { figment, ..self })
    }

    /// Line and column, counted from 1, and the setting of that line. What stands before the first
    /// `=` can be a piece of a key, so it counts only if it is a word of the defaults.
    fn place<'t>(&self, text: &'t str, at: usize) -> (usize, usize, Option<&'t str>) {
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let named = text.lines().nth(line - 1).and_then(|line| {
            let (name, _value) = line.split_once('=')?;
            let name = name.trim();
            Some(name.rsplit_once('.').map_or(name, |(_table, last)| last))
        });
        let is_known = |name: &&str| {
            let mut words = self.defaults.split(|c: char| !is_of_a_name(c));
            words.any(|word| word == *name)
        };
        (line, column, named.filter(is_known))
    }
}

/// The names at the top of a text (TOML), tables and settings alike; those that stand there as
/// comments are none of them. None at all where the text is no TOML.
#[must_use]
pub fn top_level_names(text: &str) -> BTreeSet<String> {
    let values: Result<Dict, _> = Toml::from_str(text);
    values.unwrap_or_default().into_keys().collect()
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// One parsed layer.
struct Layer {
    metadata: Metadata,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn sentence(error: &figment::Error) -> String {
    let problem = match &error.kind {
        Kind::InvalidType(found, expected) => {
            format!("invalid type: found {}, expected {expected}", kind(found))
        }
        Kind::InvalidValue(found, expected) => {
            format!("invalid value: found {}, expected {expected}", kind(found))
        }
        Kind::UnknownVariant(_, expected) => {
            format!("invalid value: expected one of {}", expected.join(", "))
        }
        other => other.to_string(),
    };
    let setting = match error.path.as_slice() {
        [] => String::new(),
        path => format!("setting `{}`: ", path.join(".")),
    };
    let place = error.metadata.as_ref().map(|metadata| &metadata.name);
    let place = place.map_or_else(String::new, |place| format!(", in {place}"));
    format!("{setting}{problem}{place}")
}

/// What a value is, without the value.
fn kind(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number",
        Actual::Char(_) | Actual::Str(_) | Actual::Bytes(_) => "a text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Secret;

    const DEFAULTS: &str = "name = \"x\"\nport = 1\n# key = \"a secret\"\n";
    const CANARY: &str = "canary0123456789";

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        name: Name,
        port: u16,
        key: Option<Secret>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Name {
        X,
        Y,
    }

    fn read(text: &str) -> Result<Settings, SettingsError> {
        Layers::of(DEFAULTS)?.with_text(text)?.extract()
    }

    #[test]
    fn later_layers_override_earlier_ones() {
        let settings = read("name = \"y\"\nkey = \"k\"").unwrap();
        assert!(matches!(settings.name, Name::Y));
        assert_eq!(settings.port, 1);
        assert_eq!(settings.key.unwrap().reveal(), "k");
        assert!(matches!(read("").unwrap().name, Name::X));
    }

    #[test]
    fn errors_say_where_and_what_and_never_the_value() {
        for (text, said) in [
            (
                format!("port = 2\nkey = \"{CANARY}"),
                "line 2, column 24, setting `key`",
            ),
            (format!("port = 2\nkey = {CANARY}"), "setting `key`"),
            (format!("a.key = '{CANARY}"), "setting `key`"),
            (format!("key = \"{CANARY}\" \"{CANARY}\""), "setting `key`"),
            (format!("port = 2\n{CANARY}"), "line 2"),
            (format!("{CANARY}==\nport = 2"), "line 1"),
            (format!("key = [\"{CANARY}\""), "line 1"),
            (
                format!("port = \"{CANARY}\""),
                "setting `port`: invalid type: found a text, expected u16",
            ),
            (format!("name = \"{CANARY}\""), "one of x, y"),
            ("key = 123456789".to_owned(), "found a number"),
            ("port = 123456789".to_owned(), "setting `port`"),
        ] {
            let error = read(&text).unwrap_err();
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains(CANARY), "{shown}");
                assert!(!shown.contains("123456789"), "{shown}");
            }
            let shown = error.to_string();
            assert!(shown.contains(said), "{shown}");
            assert!(!shown.contains('\n'), "{shown}");
        }
    }

    #[test]
    fn a_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.toml");
        let read = || Layers::of(DEFAULTS).and_then(|layers| layers.with_file(&file));
        let error = read().unwrap_err().to_string();
        assert!(error.contains("settings.toml cannot be read"), "{error}");
        std::fs::write(&file, "prot = 2").unwrap();
        let error = read().unwrap().extract::<Settings>().unwrap_err();
        let error = error.to_string();
        assert!(error.contains("`prot`"), "{error}");
        assert!(error.contains("settings.toml"), "{error}");
    }
}
