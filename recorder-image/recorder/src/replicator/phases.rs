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
            Note::Read { .. } => self.read = Some(now_ms()),
            Note::Swapped { .. } => self.taken = Some(now_ms()),
            Note::Serving { epoch } => self.serving(epoch.0, std::mem::take(why)),
            Note::StoodDown { .. } => (self.suspected, self.read, self.taken) = (None, None, None),
            Note::Lost { .. } | Note::LeaseMissing => {}
        }
    }

    fn serving(&mut self, epoch: u64, why: String) {
        let default = if self.suspected.is_some() {
            "PeerSuspected"
        } else {
            "NoHolder"
        };
        let why = if why.is_empty() { default.to_owned() } else { why };
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
