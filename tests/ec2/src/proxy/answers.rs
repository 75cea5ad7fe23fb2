//! Answers in EC2's XML, and in the JSON of other services.

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::HeaderValue;

use super::orders::Protocol;

/// A refusal as AWS writes it.
pub(super) fn error(protocol: Protocol, status: u16, code: &str) -> Response<Full<Bytes>> {
    let text = match protocol {
        Protocol::Query => format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
             <Message>on purpose</Message></Error></Errors><RequestID>0</RequestID></Response>"
        ),
        Protocol::Json => format!(r#"{{"__type":"{code}","message":"on purpose"}}"#),
    };
    answer(protocol, status, text)
}

pub(super) fn answer(protocol: Protocol, status: u16, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    let written = match protocol {
        Protocol::Query => "text/xml;charset=UTF-8",
        Protocol::Json => "application/x-amz-json-1.1",
    };
    answer.headers_mut().insert("content-type", HeaderValue::from_static(written));
    answer
}

/// The answer of a fleet with a reason why there are not more machines. It is about no offering in particular.
pub(super) fn with_fleet_error(answer: &str, code: &str) -> String {
    let errors = format!(
        "<errorSet><item><errorCode>{code}</errorCode><errorMessage>on purpose</errorMessage>\
         <lifecycle>spot</lifecycle></item></errorSet></CreateFleetResponse>"
    );
    answer.replace("</CreateFleetResponse>", &errors)
}
