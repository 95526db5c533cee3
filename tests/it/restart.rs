//! A region-node is killed and started again behind a gateway that stays: no client notices. What
//! was sent and not answered is sent again, and the node knows what it has done already.

use crate::support::fleet::{Fleet, Plan};
use crate::support::history::{Load, Present};
use crate::support::scale;

const CLIENTS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_a_node_was_killed() {
    let kills = scale("MERIDIAN_TEST_KILLS", 6) / 2;
    let mut fleet = Fleet::start(Plan::default()).await;
    let load = Load::on(fleet.tenant("acme", "us").await, None).await;
    let told = load.told.clone();
    let clients = load.start(0, CLIENTS);
    for round in 0..kills {
        // Long enough that what was sent again has been answered: twice in a row is too much.
        told.wait_for(40 + 37 * round % 40).await;
        let [node] = fleet.nodes.get_mut("us").unwrap().as_mut_slice() else {
            panic!()
        };
        node.program.kill();
        node.program.start();
    }
    told.wait_for(40).await;
    told.enough(clients).await;
    assert_eq!(told.refused(), 0);
    told.history()
        .check_service(&load.tenant, &load.group)
        .await;
    fleet.nodes.get_mut("us").unwrap()[0].program.kill();
    let present = Present::of_file(&fleet.database("us"), &load.tenant.id);
    let wrong = told.history().check(&present);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
