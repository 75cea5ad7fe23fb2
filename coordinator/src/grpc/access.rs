//! Who may change the fleet: operators and autoscalers, by their tokens. Jobs are not its business, and workers have
//! their own gate.

use std::fmt;

use http::HeaderMap;
use stoker_proto::status;
use stoker_proto::token::token;
use stoker_runtime::secret::Secret;
use tonic::Status;

use super::digest::TokenDigest;

/// Services whose calls change the fleet, unless they are among [`READS`].
const GUARDED: [&str; 2] = ["AdminService/", "FleetService/"];

/// Calls of these services that change nothing: whoever reaches the port may look.
const READS: [&str; 9] = [
    "AdminService/FleetStatus",
    "AdminService/ListQueues",
    "AdminService/ListWorkers",
    "AdminService/ObserveDemand",
    "AdminService/ObserveUsage",
    "AdminService/ExplainJob",
    "AdminService/ListDeadLetters",
    "AdminService/GetDeadLetter",
    "FleetService/ReadLedger",
];

/// Whose token opens a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Operator,
    Autoscaler,
    /// What an operator orders and an autoscaler carries out, or does for who has nothing else at hand.
    Either,
}

/// What a call needs. A method that nobody has thought of here is an operator's.
fn needs(method: &str) -> Needs {
    if !GUARDED.iter().any(|service| method.starts_with(service)) || READS.contains(&method) {
        return Needs::Nothing;
    }
    match method {
        "FleetService/Lead" | "FleetService/WriteLedger" => Needs::Autoscaler,
        // `stoker-autoscaler panic` has the autoscaler's token only, which can end every machine anyway.
        "AdminService/DrainWorker" | "FleetService/SetSwitch" => Needs::Either,
        _ => Needs::Operator,
    }
}

/// The tokens of those who may change the fleet.
#[derive(Clone, Default)]
pub struct Access {
    operator: Option<TokenDigest>,
    autoscaler: Option<TokenDigest>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |digest: &Option<TokenDigest>| digest.is_some();
        f.debug_struct("Access")
            .field("operator", &known(&self.operator))
            .field("autoscaler", &known(&self.autoscaler))
            .finish()
    }
}

impl Access {
    /// With neither token everyone may do everything. With one of them, what needs the other is refused to everyone:
    /// a door that was locked on purpose has no other one that stands open.
    pub fn new(operator: Option<&Secret>, autoscaler: Option<&Secret>) -> Self {
        Self {
            operator: operator.map(TokenDigest::of),
            autoscaler: autoscaler.map(TokenDigest::of),
        }
    }

    /// Whether calls that change the fleet need a token.
    pub const fn is_guarded(&self) -> bool {
        self.operator.is_some() || self.autoscaler.is_some()
    }

    /// Whether this call may be made. `method` is `Service/Method`.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, which says whose token is missing or wrong, and what to do.
    pub(super) fn check(&self, method: &str, headers: &HeaderMap) -> Result<(), Status> {
        if !self.is_guarded() {
            return Ok(());
        }
        let (operator, autoscaler) = (self.operator.as_ref(), self.autoscaler.as_ref());
        let (able, refuse): (_, fn(&str) -> Status) = match needs(method) {
            Needs::Nothing => return Ok(()),
            Needs::Operator => ([operator, None], status::operator_token_wrong),
            Needs::Autoscaler => ([autoscaler, None], status::autoscaler_token_wrong),
            Needs::Either => ([operator, autoscaler], status::operator_token_wrong),
        };
        let mut able = able.into_iter().flatten().peekable();
        if able.peek().is_none() {
            return Err(refuse("the coordinator itself was started without this token"));
        }
        let Some(token) = token(headers) else {
            return Err(refuse("this call changes the fleet and shows no token"));
        };
        if able.any(|digest| digest.is(token)) {
            return Ok(());
        }
        Err(refuse("the token is not the one for this call"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use stoker_proto::status::{Reason, explain};
    use stoker_proto::token::TOKEN_KEY;
    use tonic::Code;

    use super::*;

    const OPERATOR: &str = "0123456789abcdef-operator";
    const AUTOSCALER: &str = "0123456789abcdef-autoscaler";

    fn access(operator: Option<&str>, autoscaler: Option<&str>) -> Access {
        let secret = |token: Option<&str>| token.map(Secret::new);
        Access::new(secret(operator).as_ref(), secret(autoscaler).as_ref())
    }

    /// The reason of the refusal, if there is one.
    fn ask(access: &Access, method: &str, token: Option<&str>) -> Option<Reason> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert(TOKEN_KEY, format!("Bearer {token}").parse().unwrap());
        }
        let explained = explain(&access.check(method, &headers).err()?);
        assert_eq!(explained.code, Code::Unauthenticated);
        assert!(!explained.message.contains("0123456789abcdef"), "{explained}");
        assert!(explained.message.contains("-token-file"), "{explained}");
        explained.reason
    }

    #[test]
    fn calls_that_need_a_token_are_these_and_no_others() {
        let methods = stoker_proto::methods().unwrap();
        let guarded: BTreeSet<&str> = methods
            .iter()
            .map(String::as_str)
            .filter(|method| needs(method) != Needs::Nothing)
            .collect();
        let expected = [
            "AdminService/CordonWorker",
            "AdminService/DiscardDeadLetters",
            "AdminService/DrainWorker",
            "AdminService/RedriveDeadLetters",
            "FleetService/EndMachine",
            "FleetService/Lead",
            "FleetService/SetSwitch",
            "FleetService/WriteLedger",
        ];
        assert_eq!(guarded, expected.into());
        for read in READS {
            assert!(methods.iter().any(|method| method == read), "{read} is no method");
        }
        assert_eq!(needs("AdminService/SomethingNew"), Needs::Operator);
    }

    #[test]
    fn each_party_does_what_is_its_own() {
        let access = access(Some(OPERATOR), Some(AUTOSCALER));
        let wrong = (Some(Reason::OperatorTokenWrong), Some(Reason::AutoscalerTokenWrong));
        for (method, operator, autoscaler, nobody) in [
            ("FleetService/EndMachine", None, wrong.0, wrong.0),
            ("AdminService/DiscardDeadLetters", None, wrong.0, wrong.0),
            ("FleetService/WriteLedger", wrong.1, None, wrong.1),
            ("FleetService/Lead", wrong.1, None, wrong.1),
            ("FleetService/SetSwitch", None, None, wrong.0),
            ("AdminService/DrainWorker", None, None, wrong.0),
            ("AdminService/ListWorkers", None, None, None),
            ("JobService/Submit", None, None, None),
        ] {
            assert_eq!(ask(&access, method, Some(OPERATOR)), operator, "{method}");
            assert_eq!(ask(&access, method, Some(AUTOSCALER)), autoscaler, "{method}");
            for stranger in [None, Some(""), Some("0123456789abcdef")] {
                assert_eq!(ask(&access, method, stranger), nobody, "{method} {stranger:?}");
            }
        }
        assert!(!format!("{access:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn without_tokens_everyone_may_do_everything_and_with_one_nobody_has_the_others() {
        let open = access(None, None);
        assert_eq!(ask(&open, "FleetService/EndMachine", None), None);
        let half = access(Some(OPERATOR), None);
        let refused = ask(&half, "FleetService/WriteLedger", Some(OPERATOR));
        assert_eq!(refused, Some(Reason::AutoscalerTokenWrong));
        assert_eq!(ask(&half, "FleetService/EndMachine", Some(OPERATOR)), None);
        let half = access(None, Some(AUTOSCALER));
        let refused = ask(&half, "FleetService/EndMachine", Some(AUTOSCALER));
        assert_eq!(refused, Some(Reason::OperatorTokenWrong));
    }
}
