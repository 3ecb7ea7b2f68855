//! Which faults can be at a time.

use super::Trouble;

impl Trouble {
    /// Whether both can be at a time and no frame be lost. What takes one member away leaves the other to record alone, so the other
    /// may not lose what only it has; and two faults of one thing have one mending.
    pub fn goes_with(self, other: Self) -> bool {
        let takes_none = |one| {
            matches!(
                one,
                Self::FreezeApi | Self::StopOperator | Self::DeleteLease | Self::WipeStatus
            )
        };
        let asks_api = |one: Self| {
            matches!(
                one,
                Self::DeletePod(_)
                    | Self::Drain(_)
                    | Self::FillDisk(_)
                    | Self::StopOperator
                    | Self::PowerOff(_)
                    | Self::DeleteLease
                    | Self::WipeStatus
            ) || !one.disk_faults().is_empty()
        };
        let frozen = self == Self::FreezeApi || other == Self::FreezeApi;
        self != other
            && (takes_none(self) != takes_none(other))
            && !(frozen && (asks_api(self) || asks_api(other)))
    }
}
