//! What a transaction of the database sees, as a value.

use std::collections::BTreeSet;

/// The transactions that had ended when something was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Snapshot {
    /// All below had ended.
    xmin: u64,
    /// None from here on had begun.
    xmax: u64,
    /// Those in between that had not ended.
    under_way: BTreeSet<u64>,
    text: String,
}

impl Snapshot {
    /// Reads what the database writes: `xmin:xmax:xid,xid`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let xmin = parts.next()?.parse().ok()?;
        let xmax = parts.next()?.parse().ok()?;
        let list = parts.next()?;
        let under_way = list
            .split(',')
            .filter(|xid| !xid.is_empty())
            .map(|xid| xid.parse().ok())
            .collect::<Option<_>>()?;
        Some(Self { xmin, xmax, under_way, text: text.to_owned() })
    }

    /// Whether the transaction had ended.
    pub(super) fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && !self.under_way.contains(&xid))
    }

    /// As the database writes it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_had_ended() {
        let snapshot = Snapshot::parse("10:20:10,14").unwrap();
        let seen: Vec<u64> = (8..22).filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 15, 16, 17, 18, 19]);
        assert!(Snapshot::parse("10:10:").unwrap().sees(9));
        assert_eq!(Snapshot::parse("10:x:"), None);
    }
}
