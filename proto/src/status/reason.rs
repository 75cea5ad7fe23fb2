//! The stable names of what can go wrong with a call.

/// Why a call was refused. The names are a promise to clients: add, never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Fields are wrong; the details list them.
    InvalidRequest,
    /// There is no such job, worker, machine or dead letter.
    NotFound,
    /// The key was used before by a different request.
    IdempotencyKeyReused,
    /// The job has ended otherwise than the call wants, as for a cancel of one that succeeded.
    JobEnded,
    /// Results were asked of a job that has none, or none yet.
    JobNotSucceeded,
    /// The job has not ended, or it succeeded: there is nothing to retry.
    JobNotRetryable,
    /// Retention has removed the input or the results.
    DataRemoved,
    /// The worker has to register (again) first.
    WorkerNotRegistered,
    /// Less space is free where the store is than the fleet wants to keep.
    DiskFull,
    FleetQueueFull,
    TenantQueueFull,
    /// Too many watches, registrations or consumers are open.
    TooManyStreams,
    /// More calls or commits are under way than the coordinator takes at once.
    Overloaded,
    /// The fleet has no such tenant.
    UnknownTenant,
    /// The call of a worker has not the fleet's join token.
    JoinTokenWrong,
    /// The call changes the fleet and has not the operators' token.
    OperatorTokenWrong,
    /// The call is one of autoscalers and has not their token.
    AutoscalerTokenWrong,
    /// The worker does not prove that it runs on the machine that it names.
    InstanceNotProven,
    /// The worker runs on a machine that may not work for the fleet, or on none.
    InstanceNotAllowed,
    /// Work was asked of the coordinator's own queue, but the fleet's broker is another.
    BrokerNotEmbedded,
    BrokerUnavailable,
    StoreUnavailable,
    /// Another autoscaler has led since.
    NotFleetLeader,
    /// An operator has set the fleet's switch since it was read.
    SwitchChanged,
    /// The ledger holds something else than the caller thinks.
    LedgerConflict,
    /// More machines are open than the ledger takes.
    LedgerFull,
    /// The machine is gone, or it is not known whether it was made: there is nothing to end.
    MachineNotThere,
    ShuttingDown,
    /// The coordinator did not come to an answer in time.
    TimedOut,
    /// A fault of ours.
    Internal,
}

impl Reason {
    pub const ALL: [Self; 30] = [
        Self::InvalidRequest,
        Self::NotFound,
        Self::IdempotencyKeyReused,
        Self::JobEnded,
        Self::JobNotSucceeded,
        Self::JobNotRetryable,
        Self::DataRemoved,
        Self::WorkerNotRegistered,
        Self::DiskFull,
        Self::FleetQueueFull,
        Self::TenantQueueFull,
        Self::TooManyStreams,
        Self::Overloaded,
        Self::UnknownTenant,
        Self::JoinTokenWrong,
        Self::OperatorTokenWrong,
        Self::AutoscalerTokenWrong,
        Self::InstanceNotProven,
        Self::InstanceNotAllowed,
        Self::BrokerNotEmbedded,
        Self::BrokerUnavailable,
        Self::StoreUnavailable,
        Self::NotFleetLeader,
        Self::SwitchChanged,
        Self::LedgerConflict,
        Self::LedgerFull,
        Self::MachineNotThere,
        Self::ShuttingDown,
        Self::TimedOut,
        Self::Internal,
    ];

    /// As it stands in `google.rpc.ErrorInfo`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::NotFound => "NOT_FOUND",
            Self::IdempotencyKeyReused => "IDEMPOTENCY_KEY_REUSED",
            Self::JobEnded => "JOB_ENDED",
            Self::JobNotSucceeded => "JOB_NOT_SUCCEEDED",
            Self::JobNotRetryable => "JOB_NOT_RETRYABLE",
            Self::DataRemoved => "DATA_REMOVED",
            Self::WorkerNotRegistered => "WORKER_NOT_REGISTERED",
            Self::DiskFull => "DISK_FULL",
            Self::FleetQueueFull => "FLEET_QUEUE_FULL",
            Self::TenantQueueFull => "TENANT_QUEUE_FULL",
            Self::TooManyStreams => "TOO_MANY_STREAMS",
            Self::Overloaded => "OVERLOADED",
            Self::UnknownTenant => "UNKNOWN_TENANT",
            Self::JoinTokenWrong => "JOIN_TOKEN_WRONG",
            Self::OperatorTokenWrong => "OPERATOR_TOKEN_WRONG",
            Self::AutoscalerTokenWrong => "AUTOSCALER_TOKEN_WRONG",
            Self::InstanceNotProven => "INSTANCE_NOT_PROVEN",
            Self::InstanceNotAllowed => "INSTANCE_NOT_ALLOWED",
            Self::BrokerNotEmbedded => "BROKER_NOT_EMBEDDED",
            Self::BrokerUnavailable => "BROKER_UNAVAILABLE",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::NotFleetLeader => "NOT_FLEET_LEADER",
            Self::SwitchChanged => "SWITCH_CHANGED",
            Self::LedgerConflict => "LEDGER_CONFLICT",
            Self::LedgerFull => "LEDGER_FULL",
            Self::MachineNotThere => "MACHINE_NOT_THERE",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::TimedOut => "TIMED_OUT",
            Self::Internal => "INTERNAL",
        }
    }

    /// The reason of this name; `None` for one that a newer server knows.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}
