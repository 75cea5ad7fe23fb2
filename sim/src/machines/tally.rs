//! What a run consisted of, so that one in which nothing happened is not taken for one that went well.

/// Counts of what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub launched: u64,
    pub ended: u64,
    pub call_faults: u64,
    pub unsure: u64,
    pub repeated: u64,
    pub crashes: u64,
    pub pauses: u64,
    pub reigns: u64,
    pub refused_writes: u64,
    pub lost_answers: u64,
    pub orphans: u64,
    pub adopted: u64,
    pub interruptions: u64,
    pub failed_boots: u64,
    pub bad_listings: u64,
    pub capped: u64,
    pub drained: u64,
    pub panics: u64,
    pub outages: u64,
}

impl Tally {
    /// Every count with what it counts.
    pub fn lines(&self) -> [(u64, &'static str); 19] {
        [
            (self.launched, "machines launched"),
            (self.ended, "machines ended"),
            (self.call_faults, "calls of the provider, the store or the coordinator that failed"),
            (self.unsure, "launches whose outcome was not known"),
            (self.repeated, "launches repeated with their token"),
            (self.crashes, "crashes of an autoscaler between two steps"),
            (self.pauses, "pauses of an autoscaler between two steps"),
            (self.reigns, "changes of the leader"),
            (self.refused_writes, "writes refused to a leader of the past or an old decision"),
            (self.lost_answers, "writes whose answer was lost"),
            (self.orphans, "machines with our tag that somebody else made"),
            (self.adopted, "machines taken into the ledger"),
            (self.interruptions, "machines that the provider took back"),
            (self.failed_boots, "machines that did not boot"),
            (self.bad_listings, "listings that lacked most machines"),
            (self.capped, "plans that a cap cut"),
            (self.drained, "workers drained"),
            (self.panics, "times that everything was ended"),
            (self.outages, "launches that a provider out of order did not take"),
        ]
    }

    pub fn merge(&mut self, other: &Self) {
        self.launched += other.launched;
        self.ended += other.ended;
        self.call_faults += other.call_faults;
        self.unsure += other.unsure;
        self.repeated += other.repeated;
        self.crashes += other.crashes;
        self.pauses += other.pauses;
        self.reigns += other.reigns;
        self.refused_writes += other.refused_writes;
        self.lost_answers += other.lost_answers;
        self.orphans += other.orphans;
        self.adopted += other.adopted;
        self.interruptions += other.interruptions;
        self.failed_boots += other.failed_boots;
        self.bad_listings += other.bad_listings;
        self.capped += other.capped;
        self.drained += other.drained;
        self.panics += other.panics;
        self.outages += other.outages;
    }

    /// What did not happen at all.
    pub fn missing(&self) -> Vec<&'static str> {
        self.lines().into_iter().filter(|(count, _)| *count == 0).map(|(_, what)| what).collect()
    }
}
