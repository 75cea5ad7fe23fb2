//! What the answers to one window of publishes mean, message by message.
//!
//! lapin attaches a returned message to whichever confirm it completes next, so that the confirm
//! of an unroutable message may look clean while a routable one carries the return. The broker
//! sends a return before the confirm of the same message, and each completed confirm takes at
//! most one waiting return. So when *every* confirm of a channel's window is complete, every
//! return of that window has been handed out to one of them, and the message id on it says whose
//! it is. Before that, a clean confirm proves nothing.

use std::collections::BTreeSet;

use lapin::Confirmation;

use crate::error::PublishError;
use crate::message::Queue;

/// What became of one publish, as lapin tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Ack {
        returned: Option<String>,
    },
    Nack {
        returned: Option<String>,
    },
    /// The channel is not in confirm mode, so nobody knows.
    Unasked,
    Failed(String),
    /// No confirm in time.
    Late,
}

impl Answer {
    pub(super) fn from_lapin(answer: Result<Confirmation, lapin::Error>) -> Self {
        // A return without an id was not published by us; it must not pass for "none".
        let id = |message: lapin::message::BasicReturnMessage| {
            message.delivery.properties.message_id().clone().map(String::from).unwrap_or_default()
        };
        match answer {
            Ok(Confirmation::Ack(returned)) => Self::Ack { returned: returned.map(id) },
            Ok(Confirmation::Nack(returned)) => Self::Nack { returned: returned.map(id) },
            Ok(Confirmation::NotRequested) => Self::Unasked,
            Err(error) => Self::Failed(error.to_string()),
        }
    }

    fn returned(&self) -> Option<&str> {
        match self {
            Self::Ack { returned } | Self::Nack { returned } => returned.as_deref(),
            Self::Unasked | Self::Failed(_) | Self::Late => None,
        }
    }
}

/// Outcomes of a complete window; `sent` are the message ids and queues in order of `answers`.
pub(super) fn settle(
    sent: &[(String, Queue)],
    answers: &[Answer],
) -> Vec<Result<(), PublishError>> {
    let returned: BTreeSet<&str> = answers.iter().filter_map(Answer::returned).collect();
    // One unanswered publish leaves the window incomplete: its confirm might have carried a return.
    let incomplete = answers.iter().find_map(|answer| match answer {
        Answer::Failed(why) => Some(why.clone()),
        Answer::Unasked => Some("the channel was not in confirm mode".to_owned()),
        Answer::Late => Some("the broker did not confirm all messages in time".to_owned()),
        Answer::Ack { .. } | Answer::Nack { .. } => None,
    });
    sent.iter()
        .zip(answers)
        .map(|((id, queue), answer)| match (answer, &incomplete) {
            _ if returned.contains(id.as_str()) => {
                Err(PublishError::Unroutable { queue: queue.clone() })
            }
            (Answer::Nack { .. }, _) => {
                Err(PublishError::Refused { reason: "it could not store the message".to_owned() })
            }
            (_, Some(why)) => Err(PublishError::Unconfirmed { why: why.clone() }),
            (_, None) => Ok(()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stoker_core::ids::{ModelName, PoolName};

    use super::*;

    fn queue() -> Queue {
        Queue { pool: PoolName::new("cpu").unwrap(), model: ModelName::new("m").unwrap() }
    }

    fn sent(count: usize) -> Vec<(String, Queue)> {
        (0..count).map(|n| (format!("id-{n}"), queue())).collect()
    }

    fn ack(returned: Option<&str>) -> Answer {
        Answer::Ack { returned: returned.map(str::to_owned) }
    }

    fn unroutable() -> Result<(), PublishError> {
        Err(PublishError::Unroutable { queue: queue() })
    }

    #[test]
    fn a_return_belongs_to_its_message_id_not_to_the_confirm_it_came_with() {
        let answers = [ack(Some("id-2")), ack(None), ack(None), ack(Some("id-1"))];
        let outcomes = settle(&sent(4), &answers);
        assert_eq!(outcomes, [Ok(()), unroutable(), unroutable(), Ok(())]);
    }

    #[test]
    fn a_clean_confirm_proves_nothing_while_another_is_missing() {
        let late = settle(&sent(2), &[ack(None), Answer::Late]);
        assert!(late.iter().all(|o| matches!(o, Err(PublishError::Unconfirmed { .. }))));
        let answers = [ack(None), Answer::Failed("connection lost".to_owned()), ack(Some("id-0"))];
        let outcomes = settle(&sent(3), &answers);
        let unconfirmed = Err(PublishError::Unconfirmed { why: "connection lost".to_owned() });
        assert_eq!(outcomes, [unroutable(), unconfirmed.clone(), unconfirmed]);
    }

    #[test]
    fn a_nack_and_a_forgotten_confirm_mode_are_no_success() {
        let outcomes = settle(&sent(2), &[Answer::Nack { returned: None }, ack(None)]);
        assert!(matches!(outcomes[0], Err(PublishError::Refused { .. })));
        assert_eq!(outcomes[1], Ok(()));
        let outcomes = settle(&sent(2), &[Answer::Unasked, ack(None)]);
        assert!(outcomes.iter().all(|o| matches!(o, Err(PublishError::Unconfirmed { .. }))));
    }

    proptest! {
        /// lapin's behavior as read in its source: returns wait in line, and every completed
        /// confirm takes the first one. Whatever the order of completion, `settle` is exact.
        #[test]
        fn no_order_of_completion_confirms_an_unroutable_message(
            unroutable in prop::collection::vec(any::<bool>(), 1..40),
            seed in any::<u64>(),
        ) {
            let count = unroutable.len();
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by_key(|n| (*n as u64).wrapping_mul(seed | 1).rotate_left(17));
            // A return is sent no later than its own confirm, in order of publishing.
            let mut answers = vec![ack(None); count];
            let mut waiting = std::collections::VecDeque::new();
            let mut next_return = 0;
            for completed in order {
                while next_return <= completed {
                    if unroutable[next_return] {
                        waiting.push_back(format!("id-{next_return}"));
                    }
                    next_return += 1;
                }
                answers[completed] = Answer::Ack { returned: waiting.pop_front() };
            }
            let outcomes = settle(&sent(count), &answers);
            for (outcome, unroutable) in outcomes.iter().zip(unroutable) {
                prop_assert_eq!(outcome.is_err(), unroutable);
            }
        }
    }
}
