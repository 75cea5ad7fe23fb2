//! What a proxy is told to do, and what it remembers of calls.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::body::Bytes;

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The connection breaks before the server hears of it.
    CutBefore,
    /// The connection breaks after the server has answered.
    CutAfter,
    /// It is refused by an answer with this status and code.
    Error { status: u16, code: String },
    /// It is held up.
    Delay(Duration),
    /// It is answered so, as a success, whatever the server has. For what the server does not know.
    Answer(String),
    /// Of the machines of a launch only so many are there; the others are missing for this reason.
    Leave { count: u32, code: String },
}

/// A call as EC2's query protocol writes it, or one of a service that speaks JSON: of that, only the action is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    parameters: Vec<(String, String)>,
    pub(super) protocol: Protocol,
}

/// How calls and answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Query,
    Json,
}

/// Where a call in JSON says what it is, behind the service's name and a period.
const TARGET: &str = "x-amz-target";

/// What was answered to a launch under the same token.
#[derive(Debug)]
pub(super) enum Remembered {
    Same((u16, String)),
    /// That launch was another.
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Orders {
    waiting: BTreeMap<String, VecDeque<Order>>,
    calls: Vec<Call>,
    tokens: BTreeMap<String, (Call, (u16, String))>,
}

impl Call {
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        let target = headers.get(TARGET).and_then(|value| value.to_str().ok());
        let Some((_, action)) = target.and_then(|target| target.rsplit_once('.')) else {
            let parameters = form_urlencoded::parse(body).into_owned().collect();
            return Self { parameters, protocol: Protocol::Query };
        };
        let body = String::from_utf8_lossy(body).into_owned();
        let parameters = vec![("Action".to_owned(), action.to_owned()), ("Body".to_owned(), body)];
        Self { parameters, protocol: Protocol::Json }
    }

    fn value(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn action(&self) -> &str {
        self.value("Action").unwrap_or_default()
    }

    /// The same launch of fewer machines.
    pub(super) fn for_only(&self, count: u32) -> Bytes {
        const COUNT: &str = "TargetCapacitySpecification.TotalTargetCapacity";
        let mut text = form_urlencoded::Serializer::new(String::new());
        for (key, value) in &self.parameters {
            let fewer = count.to_string();
            text.append_pair(key, if key == COUNT { &fewer } else { value });
        }
        text.finish().into()
    }
}

impl Orders {
    pub(super) fn push(&mut self, action: &str, order: Order) {
        self.waiting.entry(action.to_owned()).or_default().push_back(order);
    }

    /// Notes a call and gives what happens to it.
    pub(super) fn received(&mut self, call: &Call) -> Option<Order> {
        self.calls.push(call.clone());
        self.waiting.get_mut(call.action()).and_then(VecDeque::pop_front)
    }

    pub(super) fn calls(&self, action: &str) -> usize {
        self.calls.iter().filter(|call| call.action() == action).count()
    }

    pub(super) fn last(&self, action: &str) -> Vec<(String, String)> {
        let last = self.calls.iter().rev().find(|call| call.action() == action);
        last.map(|call| call.parameters.clone()).unwrap_or_default()
    }

    pub(super) fn remembered(&self, call: &Call) -> Option<Remembered> {
        let (first, answer) = self.tokens.get(call.value("ClientToken")?)?;
        let same = first == call;
        Some(if same { Remembered::Same(answer.clone()) } else { Remembered::Other })
    }

    /// Refused calls are not remembered: their token is free.
    pub(super) fn remember(&mut self, call: &Call, answer: (u16, String)) {
        if let (Some(token), 200) = (call.value("ClientToken"), answer.0) {
            self.tokens.insert(token.to_owned(), (call.clone(), answer));
        }
    }
}
