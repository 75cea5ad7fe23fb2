//! Answers in EC2's XML.

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;

/// A refusal as EC2 writes it.
pub(super) fn error(status: u16, code: &str) -> Response<Full<Bytes>> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
         <Message>on purpose</Message></Error></Errors><RequestID>0</RequestID></Response>"
    );
    xml(status, text)
}

pub(super) fn xml(status: u16, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    answer
        .headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static("text/xml;charset=UTF-8"));
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
