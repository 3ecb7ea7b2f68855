//! Which faults can be at a time.

use super::Trouble;

impl Trouble {
    /// Whether both can be at a time and no frame be lost. What takes one member away leaves the other to record alone, so the other
    /// may not lose what only it has; and two faults of one thing have one mending. So one of them is of the control plane alone, on which
    /// no frame waits; and what has to ask the API server or an operator needs one.
    pub fn goes_with(self, other: Self) -> bool {
        let both = [self, other];
        let frozen = both.contains(&Self::FreezeApi) && both.into_iter().any(Self::asks_api);
        let stopped = both.contains(&Self::StopOperator) && both.into_iter().any(Self::asks_operator);
        self.takes_none() != other.takes_none() && !frozen && !stopped
    }

    /// Whether it takes no member, camera, link or clock away.
    fn takes_none(self) -> bool {
        matches!(
            self,
            Self::FreezeApi
                | Self::StopOperator
                | Self::KillOperator
                | Self::DeleteLease
                | Self::WipeStatus
                | Self::Switchover
        )
    }

    /// Whether to begin or to end it needs the API server.
    fn asks_api(self) -> bool {
        matches!(
            self,
            Self::DeletePod(_)
                | Self::Drain(_)
                | Self::FillDisk(_)
                | Self::StopOperator
                | Self::PowerOff(_)
                | Self::DeleteLease
                | Self::WipeStatus
                | Self::CutOperator(_)
                | Self::CutOperatorOneWay(_)
                | Self::SetClock(..)
                | Self::SlowClock(_)
                | Self::UpdateImage
                | Self::Upgrade
                | Self::Switchover
                | Self::KillOperator
        ) || !self.disk_faults().is_empty()
    }

    /// Whether to begin it needs an operator. An update of the pair is asked for without one, and done when there is one again.
    fn asks_operator(self) -> bool {
        matches!(
            self,
            Self::CutOperator(_) | Self::CutOperatorOneWay(_) | Self::Upgrade | Self::KillOperator
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::Whom::{Primary, Standby};
    use super::*;

    fn every() -> impl Iterator<Item = Trouble> + Clone {
        let lists: [&[Trouble]; 3] = [&Trouble::ALL, &Trouble::OF_DISKS, &Trouble::OF_CAMERAS];
        lists.into_iter().flatten().copied()
    }

    #[test]
    fn no_fault_is_listed_twice() {
        for (n, trouble) in every().enumerate() {
            assert!(!every().skip(n + 1).any(|later| later == trouble), "{trouble:?}");
        }
    }

    #[test]
    fn of_two_faults_one_is_of_the_control_plane() {
        for one in every() {
            for other in every() {
                let goes = one.goes_with(other);
                assert_eq!(
                    goes,
                    other.goes_with(one),
                    "{one:?} and {other:?}, in whatever order"
                );
                assert!(
                    !goes || (one.takes_none() != other.takes_none()),
                    "{one:?} and {other:?}"
                );
            }
        }
    }

    #[test]
    fn nobody_is_asked_who_is_away() {
        let table = [
            (Trouble::KillPod(Primary), Trouble::FreezeApi, true),
            (Trouble::SilenceCamera, Trouble::FreezeApi, true),
            (Trouble::UpdateImage, Trouble::FreezeApi, false),
            (Trouble::SlowClock(Standby), Trouble::FreezeApi, false),
            (Trouble::CutOperator(Standby), Trouble::FreezeApi, false),
            (Trouble::CutOperator(Standby), Trouble::StopOperator, false),
            (Trouble::Upgrade, Trouble::StopOperator, false),
            (Trouble::UpdateImage, Trouble::StopOperator, true),
            (Trouble::UpdateImage, Trouble::KillOperator, true),
            (Trouble::PowerOff(Primary), Trouble::Switchover, true),
            (Trouble::UpdateImage, Trouble::PowerOff(Standby), false),
            (Trouble::Switchover, Trouble::FreezeApi, false),
        ];
        for (one, other, goes) in table {
            assert_eq!(one.goes_with(other), goes, "{one:?} and {other:?}");
        }
    }

    #[test]
    fn a_kind_is_of_both_members() {
        assert_eq!(Trouble::KillPod(Primary).kind(), "KillPod");
        assert_eq!(Trouble::FreezeApi.kind(), "FreezeApi");
    }
}
