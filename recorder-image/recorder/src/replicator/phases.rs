//! When each phase of the last takeovers was, for people: wall-clock milliseconds since the Unix epoch.

use crds::member::FailoverReport;
use failover::Note;

/// How many takeovers are remembered.
const REMEMBERED: usize = 5;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    done: Vec<FailoverReport>,
    last_heard: Option<u64>,
    suspected: Option<u64>,
    read: Option<u64>,
    taken: Option<u64>,
    /// What the Lease said of the one before.
    reason: Option<&'static str>,
}

fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

impl Phases {
    /// The peer was heard.
    pub fn heard(&mut self) {
        self.last_heard = Some(now_ms());
    }

    /// Takes a note of the member in. `why` is what the next takeover is for; it is used up.
    pub fn note(&mut self, note: &Note, why: &mut String) {
        match note {
            Note::Suspected => {
                (self.suspected, self.read, self.taken) = (Some(now_ms()), None, None);
            }
            Note::Read { held, released, .. } => {
                self.read = Some(now_ms());
                self.reason = Some(match (held, released) {
                    (false, _) => "NoHolder",
                    (true, true) => "HandedOver",
                    (true, false) => "PeerSuspected",
                });
            }
            Note::Swapped { .. } => self.taken = Some(now_ms()),
            Note::Serving { epoch } => self.serving(epoch.0, std::mem::take(why)),
            Note::StoodDown { .. } => (self.suspected, self.read, self.taken) = (None, None, None),
            Note::Lost { .. } | Note::LeaseMissing => {}
        }
    }

    fn serving(&mut self, epoch: u64, why: String) {
        // A Lease that nobody held is told so, whoever ordered what.
        let why = match self.reason.take() {
            Some(reason) if why.is_empty() || reason == "NoHolder" => reason.to_owned(),
            _ => why,
        };
        let done = FailoverReport {
            epoch,
            why,
            last_heard: self.last_heard.filter(|_| self.suspected.is_some()),
            suspected: self.suspected.take(),
            read: self.read.take(),
            taken: self.taken.take(),
            serving: Some(now_ms()),
        };
        self.done.push(done);
        let extra = self.done.len().saturating_sub(REMEMBERED);
        self.done.drain(..extra);
    }

    /// The last takeovers, oldest first.
    pub fn all(&self) -> Vec<FailoverReport> {
        self.done.clone()
    }
}
