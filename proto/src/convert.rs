//! Between wire types and domain types.
//!
//! What comes in is checked here, once, and every error names the field by its path in the request
//! (`jobs[2].input.text_embedding.texts[3]`) and says what to do. What goes out cannot fail. Rules
//! that need the fleet (is the model known, does it do this task?) are the coordinator's.

mod attempt;
mod begun;
mod demand;
mod enums;
mod faces;
mod fleet;
mod generation;
mod id;
mod images;
mod input;
mod job;
mod part;
mod request;
mod seen;
mod speech;
mod time;
mod violations;

pub use attempt::{Claim, Fence, MAX_CLAIMS, attempt_error, claims, fence, wire_fence};
pub use begun::{MAX_BEGUN_BYTES, decode_begun, encode_begun};
pub use demand::{mean_slots, past_slots, queues};
pub use enums::{
    claim_refusal, drain_cause, failure_kind, failure_reason, known_task, release_reason, state,
    state_filter, state_kind, task, wire_drain_cause, wire_failure_reason,
};
pub use fleet::{
    fleet_budget, fleet_mode, fleet_switch, wire_fleet_budget, wire_fleet_mode, wire_fleet_switch,
};
pub use generation::generation_options;
pub use id::{claim_id, job_id, job_ids, worker_id};
pub use input::{
    InputParts, Items, input_field, input_items, input_of, input_of_files, input_prompt,
    into_parts, items_field,
};
pub use job::{attempt_record, job};
pub use part::{
    DecodePartError, check_parts, decode_part, encode_part, next_item, numbers, output_problem,
    parts_are_contiguous, row_bytes, skip_to,
};
pub use request::{DecodeInputError, MAX_JOBS_PER_BATCH, decode_input, job_request};
pub use seen::{Seen, workers_seen};
pub use time::{duration, timestamp, told_duration, wire_duration, wire_timestamp};
pub use violations::required;
