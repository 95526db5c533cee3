//! What PostgreSQL itself can do: `pgbench` calls the same function for each create as the node does,
//! from as many clients, each in a transaction of its own. Also what the server used.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::cpu;

/// Seconds that pgbench runs.
const SECONDS: u32 = 10;

/// A number of creates a second by pgbench, in the tenant with the most users.
pub(crate) fn creates_per_s(url: &str, folder: &Path, clients: usize) -> f64 {
    let largest = ask(
        url,
        "SELECT tenant, id, credential_version FROM tenant JOIN head USING (tenant) ORDER BY users DESC LIMIT 1",
    );
    let [tenant, id, version] = largest.split('|').collect::<Vec<_>>()[..] else {
        panic!("no tenant: {largest}");
    };
    let document = ask(
        url,
        &format!("SELECT document FROM resource WHERE tenant = {tenant} LIMIT 1"),
    );
    // pgbench takes a word behind a colon for a variable, also within a text.
    let document = document.replace(':', "|").replace('\'', "''");
    let script = format!(
        "\\set n random(1, 1000000000000)\n\
         SELECT * FROM create_resource({tenant}, '{id}', {version}, 1700000000000, 0::smallint, \
         decode(md5(:n::text), 'hex'), NULL, 0::smallint, gen_random_uuid(), true, \
         'peer.' || :n::text || '@example.com', NULL, '00u' || :n::text, 'display name', \
         ARRAY['emails.value'], ARRAY['mail.' || :n::text || '@example.com'], \
         '[[\"emails.value\",\"mail@example.com\"]]', '{document}', NULL, NULL, NULL);\n"
    );
    let file = folder.join("create.sql");
    fs::write(&file, script).expect("a folder of our own");
    let ran = Command::new("pgbench")
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1"])
        .args([format!("--client={clients}"), format!("--time={SECONDS}")])
        .arg(format!("--file={}", file.display()))
        .arg(url)
        .env("PGOPTIONS", format!("-c meridian.tenant={tenant}"))
        .output()
        .expect("pgbench is installed: it comes with PostgreSQL");
    let said = String::from_utf8_lossy(&ran.stdout);
    let per_s = said.lines().find_map(|line| {
        let rest = line.strip_prefix("tps = ")?;
        rest.split(' ').next()?.parse().ok()
    });
    per_s.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&ran.stderr)))
}

/// Size of the database, in bytes.
pub(crate) fn stored_bytes(url: &str) -> u64 {
    let size = ask(url, "SELECT pg_database_size(current_database())");
    size.parse().expect("a size is a number")
}

/// The server's first process, whose children do the work.
pub(crate) fn server(url: &str) -> u32 {
    let serving = ask(
        url,
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'",
    );
    let serving = serving.parse().expect("a process has a number");
    cpu::parent(serving).expect("the server runs on this machine")
}

fn ask(url: &str, query: &str) -> String {
    let said = Command::new("psql")
        .args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--command",
            query,
            url,
        ])
        .output()
        .expect("psql is installed: it comes with PostgreSQL");
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}
