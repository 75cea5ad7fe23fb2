//! What the SDK says of a call that failed, sorted.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use stoker_runtime::error::chain;

use super::codes::class_of;
use crate::cloud::error::{CloudError, ErrorClass, Verb};

/// The error of a call that failed.
pub(super) fn sort<E>(verb: Verb, error: &SdkError<E>) -> CloudError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(refused) => {
            let meta = refused.err();
            let (code, status) = (meta.code().unwrap_or_default(), refused.raw().status().as_u16());
            let message = match meta.message() {
                Some(message) if !message.is_empty() => message.to_owned(),
                _ => format!("an answer of status {status}"),
            };
            let sorted = CloudError::new(class_of(code, status, verb), verb, message);
            if code.is_empty() { sorted } else { sorted.with_code(code) }
        }
        SdkError::ConstructionFailure(_) => {
            CloudError::new(ErrorClass::Invalid, verb, chain(error))
        }
        SdkError::DispatchFailure(_) => CloudError::new(not_sent(verb, error), verb, chain(error)),
        // A time limit, an answer that makes no sense, or something that this version of the SDK does not know.
        _ => CloudError::new(verb.unanswered(), verb, chain(error)),
    }
}

/// The error of a try that took longer than it may.
pub(super) fn too_slow(verb: Verb, limit: std::time::Duration) -> CloudError {
    let message = format!("no answer within {limit:?}");
    CloudError::new(verb.unanswered(), verb, message)
}

/// The class of a call that brought no answer: it never left if there were no credentials or no connection.
fn not_sent<E>(verb: Verb, error: &SdkError<E>) -> ErrorClass
where
    E: Error + 'static,
{
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = source {
        if cause.is::<CredentialsError>() {
            return ErrorClass::Auth;
        }
        let client = cause.downcast_ref::<hyper_util::client::legacy::Error>();
        if client.is_some_and(hyper_util::client::legacy::Error::is_connect) {
            return ErrorClass::Transient;
        }
        source = cause.source();
    }
    verb.unanswered()
}
