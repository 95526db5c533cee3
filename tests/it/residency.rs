//! No personal byte leaves its region: `support/residency` says how that is shown, and
//! `tests/bench/run residency` shows it of what ships.

use crate::support::postgres_of_this_run;
use crate::support::residency::{Scope, prove};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_personal_is_outside_its_region() {
    let server = postgres_of_this_run();
    let scope = Scope {
        writes: 5,
        gateway: None,
        postgres: server.as_deref(),
    };
    let findings = prove(scope).await;
    eprintln!("{}", findings.markdown());
    assert_eq!(findings.wrong(), Vec::<String>::new());
    assert_eq!(findings.json()["hits"], 0);
}
