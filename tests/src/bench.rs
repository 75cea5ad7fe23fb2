//! Measurements over real processes; `make bench` runs them through the program `stoker-bench`.

pub mod claims;
pub mod cpu;
pub mod disk;
pub mod embedding;
pub mod end_to_end;
pub mod queued;
pub mod raw_publish;
pub mod recovery;
pub mod sample;
pub mod scaling;
pub mod submit;
pub mod switching;
