//! The Postgres store keeps the contract of stores, on a real server.

use std::sync::Arc;

use stoker_coordinator::store::contract::{START, World, recording_listener};
use stoker_coordinator::store::postgres::{
    Company, PostgresOptions, PostgresStore, PostgresUrl, StoreClock,
};
use stoker_coordinator::store::{JobStore as _, Role};
use stoker_coordinator::store_contract;
use stoker_core::policy::JobPolicy;
use stoker_runtime::clock::ManualClock;
use stoker_tests::postgres::PostgresServer;

async fn world() -> (World, ()) {
    let url = PostgresServer::shared().and_then(PostgresServer::database).expect("a server");
    let clock = ManualClock::new(START);
    let (listener, changes) = recording_listener();
    let options = PostgresOptions {
        policy: JobPolicy::default(),
        clock: StoreClock::Set(Arc::new(clock.clone())),
        company: Company::Others,
        listener,
        missed: Arc::new(|| {}),
    };
    let url = PostgresUrl::parse(&url).expect("the server's own address");
    let store = PostgresStore::open(url, options).await.expect("an empty database");
    for role in Role::ALL {
        store.lead(role).await;
    }
    (World { store: Arc::new(store), clock, changes }, ())
}

store_contract!(world);
