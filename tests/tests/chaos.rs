//! A short chaos run on each broker and store; `make chaos` runs longer ones.

use stoker_tests::chaos::{Broker, Settings, Store, run};

async fn holds(broker: Broker, store: Store, coordinators: u32) -> anyhow::Result<()> {
    let settings = Settings {
        jobs: 400,
        kills: 20,
        seconds: 25,
        seed: 7,
        broker,
        store,
        coordinators,
        ..Settings::default()
    };
    let report = run(settings).await?;
    assert!(report.findings.is_empty(), "{}{report:#?}", report.findings.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_promise_holds_under_fire_on_the_embedded_broker() -> anyhow::Result<()> {
    holds(Broker::Embedded, Store::Sqlite, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_promise_holds_under_fire_on_rabbitmq() -> anyhow::Result<()> {
    holds(Broker::RabbitMq, Store::Sqlite, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_promise_holds_under_fire_on_postgres_and_rabbitmq() -> anyhow::Result<()> {
    holds(Broker::RabbitMq, Store::Postgres, 2).await
}
