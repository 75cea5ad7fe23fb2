//! The join token: who may call as a worker.

use stoker_coordinator::config::{BrokerChoice, Config};
use stoker_proto::status::Reason;
use stoker_proto::token::{TOKEN_KEY, token_value};
use stoker_proto::v1;
use stoker_runtime::ids;
use stoker_runtime::secret::Secret;
use tonic::{Code, Request};

use crate::fixture::{Coordinator, config, refused, registration};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(TOKEN_KEY, token_value(token).unwrap());
    request
}

#[tokio::test]
async fn a_fleet_with_a_join_token_takes_calls_of_workers_that_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let plain = config(&folder, "", BrokerChoice::Embedded);
    let join_token = Some(Secret::new(TOKEN));
    let coordinator = Coordinator::start_with(folder, Config { join_token, ..plain }).await;
    let mut workers = coordinator.workers().await;
    let id = ids::worker_id().to_string();
    let register = || registration(&id, 1);
    let beat = || v1::HeartbeatRequest { worker_id: id.clone(), ..Default::default() };
    for token in [None, Some("fedcba9876543210fedcba9876543210")] {
        let request = match token {
            None => Request::new(register()),
            Some(token) => with(token, register()),
        };
        let explained = refused(workers.register(request).await.map(drop));
        assert_eq!(explained.code, Code::Unauthenticated);
        assert_eq!(explained.reason, Some(Reason::JoinTokenWrong));
    }
    assert_eq!(refused(workers.heartbeat(beat()).await).code, Code::Unauthenticated);
    let nothing = tokio_stream::empty::<v1::ConsumeRequest>();
    let consumed = coordinator.queue().await.consume(nothing).await;
    assert_eq!(refused(consumed.map(drop)).code, Code::Unauthenticated);

    let mut commands = workers.register(with(TOKEN, register())).await.unwrap().into_inner();
    assert!(commands.message().await.unwrap().is_some());
    let answer = workers.heartbeat(with(TOKEN, beat())).await.unwrap().into_inner();
    assert!(!answer.register_again);
    // Clients and operators are none of its business.
    coordinator.submit(&["a"]).await;
    coordinator.admin().await.list_workers(v1::ListWorkersRequest {}).await.unwrap();
}
