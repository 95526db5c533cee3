//! Each setting of the two programs stands in its file of defaults, each one there is a setting, and
//! no document speaks of one that does not exist.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use shared::settings::Layers;

/// A name that no setting has.
const NOBODY: &str = "zzz";
/// What stands for a region's name, here as in the files of defaults.
const REGION: &str = "us";

/// Settings by table: `limits` has `connections`; those in no table are in ``.
type Tables = BTreeMap<String, BTreeSet<String>>;

fn gateway_settings() -> Tables {
    tables::<gateway::config::Settings>(gateway::config::DEFAULTS, "")
}

fn node_settings() -> Tables {
    let defaults = region_node::config::DEFAULTS;
    tables::<region_node::config::Settings>(defaults, "region = \"us\"\n")
}

/// All settings that a program reads. A table says what it has when it is given something that it
/// has not.
fn tables<T: DeserializeOwned>(defaults: &'static str, needed: &str) -> Tables {
    let fields = |table: &str| -> Option<BTreeSet<String>> {
        let forms = match table {
            "" => vec![String::new()],
            name => vec![format!("[{name}]"), format!("[[{name}]]")],
        };
        forms.into_iter().find_map(|form| {
            let text = format!("{form}\n{NOBODY} = 1\n");
            let layers = Layers::of(defaults).unwrap().with_text(needed).unwrap();
            let layers = layers.with_text(&text).unwrap();
            let error = layers.extract::<T>().err()?.to_string();
            let (_, expected) = error.split_once("unknown field: found `zzz`, expected `")?;
            let words = expected.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let place = expected.rfind(", in ").unwrap();
            let names = words.take_while(|word| {
                let at = word.as_ptr() as usize - expected.as_ptr() as usize;
                at < place
            });
            let is_name = |word: &&str| !["", "one", "of", "or"].contains(word);
            Some(names.filter(is_name).map(str::to_owned).collect())
        })
    };
    let mut found = Tables::new();
    let mut waiting = vec![String::new()];
    while let Some(table) = waiting.pop() {
        let Some(names) = fields(&table) else {
            // A map of tables, or no table at all.
            if !table.ends_with(&format!(".{REGION}")) {
                let inner = format!("{table}.{REGION}");
                if fields(&inner).is_some() {
                    waiting.push(inner);
                }
            }
            continue;
        };
        for name in &names {
            waiting.push(match table.as_str() {
                "" => name.clone(),
                table => format!("{table}.{name}"),
            });
        }
        found.insert(table, names);
    }
    found
}

/// What a file of defaults names, in comments too.
fn documented(defaults: &str) -> Tables {
    let mut found = Tables::new();
    let (mut table, mut last) = (String::new(), String::new());
    for line in defaults.lines() {
        let line = line.strip_prefix('#').unwrap_or(line).trim();
        let heading = line.strip_prefix('[').and_then(|line| line.split_once(']'));
        let heading = heading.map(|(name, _)| name.trim_start_matches('['));
        if let Some(name) = heading.filter(|name| !name.contains('"')) {
            table = name.to_owned();
            continue;
        }
        let in_list = line.starts_with('{');
        let parts: Vec<_> = line.split(" = ").collect();
        for before in &parts[..parts.len() - 1] {
            let name = before.rsplit([' ', '{']).next().unwrap();
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(is_name), "{line}");
            let place = match in_list {
                true => format!("{table}.{last}"),
                false => table.clone(),
            };
            found.entry(place).or_default().insert(name.to_owned());
            if !in_list {
                last = name.to_owned();
            }
        }
    }
    found
}

fn names(tables: &Tables) -> BTreeSet<String> {
    let each = tables.iter().flat_map(|(table, names)| {
        names.iter().map(move |name| match table.as_str() {
            "" => name.clone(),
            table => format!("{table}.{name}"),
        })
    });
    each.collect()
}

#[test]
fn settings_and_their_documentation_are_the_same() {
    for (defaults, known) in [
        (gateway::config::DEFAULTS, gateway_settings()),
        (region_node::config::DEFAULTS, node_settings()),
    ] {
        let documented = names(&documented(defaults));
        let all = names(&known);
        assert!(all.len() > 30, "{all:?}");
        let unknown: Vec<_> = documented.difference(&all).collect();
        assert!(
            unknown.is_empty(),
            "documented, and no setting: {unknown:?}"
        );
        let silent = all.difference(&documented).filter(|name| {
            // A table is named by its heading; one of a region's has the settings of that for all.
            let is_table = known
                .keys()
                .any(|table| table == *name || table == &format!("{name}.{REGION}"));
            let of_region = name.strip_prefix("regions.us.link_tls.");
            let is_told =
                of_region.is_some_and(|name| documented.contains(&format!("link_tls.{name}")));
            !is_table && !is_told
        });
        let silent: Vec<_> = silent.collect();
        assert!(
            silent.is_empty(),
            "settings without documentation: {silent:?}"
        );
        for table in known.keys().filter(|table| !table.is_empty()) {
            let heading = format!("[{table}]");
            let is_list = table.ends_with("certificates");
            assert!(is_list || defaults.contains(&heading), "{heading}");
        }
    }
}

#[test]
fn documents_speak_of_settings_that_exist() {
    let known: BTreeSet<_> = [gateway_settings(), node_settings()]
        .iter()
        .flat_map(names)
        .collect();
    let tables: BTreeSet<_> = known
        .iter()
        .filter_map(|name| name.split_once('.').map(|(table, _)| table.to_owned()))
        .collect();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seen = 0;
    let folders = ["", "docs", "docs/operations", "docs/guides"];
    let files = folders
        .iter()
        .flat_map(|folder| root.join(folder).read_dir().unwrap());
    let files = files.map(|file| file.unwrap().path());
    for file in files.filter(|file| file.extension().is_some_and(|end| end == "md")) {
        let document = file.display();
        let text = std::fs::read_to_string(&file).unwrap();
        for code in text.split('`').skip(1).step_by(2) {
            let Some((table, name)) = code.split_once('.') else {
                continue;
            };
            let is_word = |text: &str| {
                !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            };
            // Files and a kind of event are named alike.
            let is_other = name == "rs" || code == "events.gap";
            if !(tables.contains(table) && is_word(name)) || is_other {
                continue;
            }
            seen += 1;
            assert!(known.contains(code), "{document} speaks of `{code}`");
        }
    }
    assert!(seen > 10, "{seen}");
}
