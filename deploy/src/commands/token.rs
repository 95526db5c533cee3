//! `meridian token …`

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::arguments::{TokenArguments, TokenCommand};
use crate::commands::Regions;
use crate::error::CommandError;
use crate::operator_api::NewToken;
use crate::output::{Output, cell, table};

/// The member with the networks of a token.
const NETWORKS: &str = "networks";

const COLUMNS: [(&str, &str); 9] = [
    ("ID", "id"),
    ("STATE", "state"),
    ("SCOPE", "scope"),
    ("CREATED", "created"),
    ("EXPIRES", "expires"),
    ("DAYS LEFT", "expires_in_days"),
    ("LAST USED", "last_used"),
    ("NETWORKS", NETWORKS),
    ("NAME", "name"),
];

/// Runs one of the token commands.
///
/// # Errors
/// [`CommandError`] when the region-node cannot be found, reached, or refuses.
pub async fn run(
    arguments: TokenArguments,
    data_dir: &Path,
    output: Output,
) -> Result<(), CommandError> {
    let regions = Regions::find(&arguments.remote, data_dir, arguments.region.as_ref()).await?;
    match &arguments.command {
        TokenCommand::Create {
            tenant,
            name,
            scope,
            scim_version,
            expires,
            networks,
        } => {
            let token = regions
                .that_knows("tenant", |region| {
                    let new = NewToken {
                        name: name.as_deref(),
                        scope: *scope,
                        dialect: *scim_version,
                        expires: *expires,
                        networks,
                    };
                    region.create_token(tenant, new)
                })
                .await?;
            output.result(&token, &show_secret(&token))
        }
        TokenCommand::List { tenant } => {
            let tokens = regions
                .that_knows("tenant", |region| region.list_tokens(tenant))
                .await?;
            let text = list(&tokens);
            output.result(&json!({ "tokens": tokens }), &text)
        }
        TokenCommand::Rotate {
            id,
            overlap,
            expires,
            networks,
        } => {
            let token = regions
                .that_knows("token", |region| {
                    region.rotate_token(id, *overlap, *expires, networks)
                })
                .await?;
            output.result(&token, &show_secret(&token))
        }
        TokenCommand::Revoke { id } => {
            let token = regions
                .that_knows("token", |region| region.revoke_token(id))
                .await?;
            output.result(
                &token,
                &format!("Token {id} is revoked: no request can use it."),
            )
        }
    }
}

fn list(tokens: &[Value]) -> String {
    let rows: Vec<Vec<String>> = tokens
        .iter()
        .map(|token| {
            COLUMNS
                .iter()
                .map(|(_, member)| match *member {
                    NETWORKS => networks(token),
                    member => cell(token, member),
                })
                .collect()
        })
        .collect();
    let mut text = table(&COLUMNS.map(|(heading, _)| heading), &rows);
    for token in tokens {
        if let Some(warning) = token.get("warning").and_then(Value::as_str) {
            let (id, name) = (cell(token, "id"), cell(token, "name"));
            let _written = writeln!(text, "warning: {id} ({name}) {warning}");
        }
    }
    text
}

/// The networks of a token, in one cell.
fn networks(token: &Value) -> String {
    let networks = token.get(NETWORKS).and_then(Value::as_array);
    let texts = networks.into_iter().flatten().filter_map(Value::as_str);
    let texts: Vec<&str> = texts.collect();
    match texts.is_empty() {
        true => "any".to_owned(),
        false => texts.join(","),
    }
}

fn show_secret(token: &Value) -> String {
    format!(
        "{}\n\nThis is the only time that the token is shown. Its id is {}, its scope {}, its end {}.\n",
        cell(token, "token"),
        cell(token, "id"),
        cell(token, "scope"),
        match cell(token, "expires").as_str() {
            "-" => "never",
            expires => expires,
        }
    )
}
