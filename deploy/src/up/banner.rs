//! What `meridian up` says when it is ready.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use shared::RegionId;
use shared::link::{CONSOLE_PATH, PUBLIC_SCIM_PATH};

use super::demo::Demo;
use crate::local_state::LocalState;

/// For machines: what `local.json` says, and the tenants that were made now.
pub(super) fn value(state: &LocalState, demos: &BTreeMap<RegionId, Demo>) -> Value {
    json!({
        "pid": state.pid,
        "gateway": state.gateway,
        "management": state.management,
        "regions": state.regions,
        "demo": demos,
    })
}

/// For people: what to paste, and what to try.
pub(super) fn text(
    state: &LocalState,
    regions: &[RegionId],
    demos: &BTreeMap<RegionId, Demo>,
    data_dir: &Path,
) -> String {
    let mut text = format!(
        "\nMeridian is ready. Its data is in {}. Stop it with Ctrl-C.\n\nBase URLs:\n",
        data_dir.display()
    );
    for (region, local) in in_order(regions, &state.regions) {
        let _ = writeln!(text, "  {:<5}{}", region.as_str(), local.base_url);
    }
    text.push_str("\nConsoles, for a browser and an admin token:\n");
    for (region, local) in in_order(regions, &state.regions) {
        let origin = local.base_url.strip_suffix(PUBLIC_SCIM_PATH);
        let origin = origin.unwrap_or(&local.base_url);
        let _ = writeln!(text, "  {:<5}{origin}{CONSOLE_PATH}", region.as_str());
    }
    text.push_str(&if demos.is_empty() {
        returning(data_dir)
    } else {
        first(state, regions, demos)
    });
    text
}

fn first(state: &LocalState, regions: &[RegionId], demos: &BTreeMap<RegionId, Demo>) -> String {
    let mut text = String::from(
        "\nEach region has a tenant `demo`. Its tokens are shown this once:\n\
         the first is what an identity provider needs, the second is for the console and the \
         admin API.\n",
    );
    for (region, demo) in in_order(regions, demos) {
        let _ = writeln!(
            text,
            "  {:<5}scim   {}\n       admin  {}",
            region.as_str(),
            demo.scim_token,
            demo.admin_token
        );
    }
    let example = in_order(regions, demos).next();
    if let Some((region, demo)) = example
        && let Some(local) = state.regions.get(region)
    {
        let _ = writeln!(
            text,
            "\nTry it:\n  curl -H \"Authorization: Bearer {}\" {}/Users",
            demo.scim_token, local.base_url
        );
    }
    text
}

fn returning(data_dir: &Path) -> String {
    let option = format!("--data-dir {}", data_dir.display());
    format!(
        "\nTokens are shown only when they are made. For a new one:\n  \
         meridian tenant list {option}\n  \
         meridian token create {option} --tenant ID\n  \
         meridian token create {option} --tenant ID --scope admin     for the console\n"
    )
}

fn in_order<'a, T>(
    regions: &'a [RegionId],
    values: &'a BTreeMap<RegionId, T>,
) -> impl Iterator<Item = (&'a RegionId, &'a T)> {
    regions
        .iter()
        .filter_map(|region| Some((region, values.get(region)?)))
}
