//! The times of authority.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lease::{LONGEST_LEASH, SHORTEST_LEASH};

/// The times of authority. They may change while a member runs: a changed leash is swapped in by the rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Between two requests. Default 50 ms.
    pub heartbeat_interval: Duration,
    /// Without a message for so long, the peer is suspected at the earliest; later, up to a leash, where it is heard irregularly.
    /// Default 150 ms.
    pub suspect_after: Duration,
    /// A, the short leash. Default 600 ms.
    pub leash: Duration,
    /// The leash that is written when the follower stays silent; at most [`LONGEST_LEASH`]. Default 10 s.
    pub long_leash: Duration,
    /// After so much silence of the follower the long leash is written. Default 5 s.
    pub silence_before_long: Duration,
    /// Between two swaps while the follower answers. Default 1 s.
    pub renew_interval: Duration,
    /// Between two swaps while it does not. Default 200 ms.
    pub alone_interval: Duration,
    /// Between two tries at the API where it failed or is not to be hurried. Default 200 ms.
    pub retry_interval: Duration,
    /// The driver gives up on a call to the API after so long and reports it as in doubt: a third of the leash, and at least what a near API
    /// server needs. Default 250 ms.
    pub api_timeout: Duration,
    /// Without a progress ticket for so long, the recorder is unfit. Default 500 ms.
    pub ticket_timeout: Duration,
    /// A handover that did not get to its release within so long is given up. Default 2 s.
    pub handover_timeout: Duration,
    /// Whether a standby that suspects the primary takes without being told to. Otherwise it waits for the operator, which finds the
    /// Lease expired. Default true.
    pub takes_unasked: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(50),
            suspect_after: Duration::from_millis(150),
            leash: Duration::from_millis(600),
            long_leash: LONGEST_LEASH,
            silence_before_long: Duration::from_secs(5),
            renew_interval: Duration::from_secs(1),
            alone_interval: Duration::from_millis(200),
            retry_interval: Duration::from_millis(200),
            api_timeout: Duration::from_millis(250),
            ticket_timeout: Duration::from_millis(500),
            handover_timeout: Duration::from_secs(2),
            takes_unasked: true,
        }
    }
}

/// Settings that would not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {value:?} is not within {least:?} and {most:?}")]
pub struct SettingsError {
    /// Which setting.
    pub what: &'static str,
    /// What it was.
    pub value: Duration,
    /// The least it may be, given the others.
    pub least: Duration,
    /// The most it may be, given the others.
    pub most: Duration,
}

impl Settings {
    /// The settings for a leash and a time of suspicion: what fits the usual leash is made to fit a shorter one.
    pub fn with(leash: Duration, suspect_after: Duration) -> Self {
        let usual = Self::default();
        Self {
            leash,
            suspect_after,
            heartbeat_interval: usual.heartbeat_interval.min(leash / 4).min(suspect_after / 3),
            long_leash: usual.long_leash.max(leash),
            silence_before_long: usual.silence_before_long.max(suspect_after),
            alone_interval: usual.alone_interval.min(leash / 2),
            api_timeout: usual.api_timeout.max(leash / 3).min(leash),
            ..usual
        }
    }

    /// Checks that the times fit each other: safety does not depend on it, but without it authority would be
    /// lost and taken without need.
    ///
    /// # Errors
    /// [`SettingsError`] with the first setting that is out of its range.
    pub fn check(&self) -> Result<(), SettingsError> {
        let ms = Duration::from_millis;
        within("leash", self.leash, SHORTEST_LEASH, LONGEST_LEASH)?;
        within("longLeash", self.long_leash, self.leash, LONGEST_LEASH)?;
        within(
            "heartbeatInterval",
            self.heartbeat_interval,
            ms(5),
            self.leash / 4,
        )?;
        within(
            "suspectAfter",
            self.suspect_after,
            self.heartbeat_interval * 2,
            self.leash,
        )?;
        within(
            "renewInterval",
            self.renew_interval,
            ms(100),
            Duration::from_mins(1),
        )?;
        within("aloneInterval", self.alone_interval, ms(20), self.leash / 2)?;
        within(
            "retryInterval",
            self.retry_interval,
            ms(20),
            Duration::from_mins(1),
        )?;
        within("apiTimeout", self.api_timeout, ms(20), self.leash)?;
        within(
            "ticketTimeout",
            self.ticket_timeout,
            ms(50),
            Duration::from_mins(1),
        )?;
        within(
            "handoverTimeout",
            self.handover_timeout,
            ms(50),
            Duration::from_mins(1),
        )?;
        within(
            "silenceBeforeLong",
            self.silence_before_long,
            self.suspect_after,
            Duration::from_hours(1),
        )
    }
}

fn within(what: &'static str, value: Duration, least: Duration, most: Duration) -> Result<(), SettingsError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(SettingsError {
        what,
        value,
        least,
        most,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_bears_a_worse_network_waits_longer_for_the_api_server() {
        let ms = Duration::from_millis;
        for (leash, patience) in [(200, 200), (600, 250), (750, 250), (3_000, 1_000), (9_000, 3_000)] {
            let settings = Settings::with(ms(leash), ms(100));
            assert_eq!(settings.api_timeout, ms(patience), "{leash}");
            assert_eq!(settings.check(), Ok(()), "{leash}");
        }
    }
}
